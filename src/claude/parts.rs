//! A turn that the provider paused: what there is of it, the body that goes on with it, and the
//! whole of it as one message.
//!
//! Invariant: blocks are handed back as they came, byte for byte: some of them are signed.

use super::answer::joined_text;
use super::fields::{Fields, raw};
use crate::domain::attempt::Answer;

/// What there is of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// Calls that it came from.
    calls: u32,
    /// The blocks, as the members of a JSON array.
    blocks: String,
    text: String,
    /// Where the provider keeps the work of its tools.
    container: Option<String>,
}

impl Parts {
    /// Reads the message so far, which came from that many calls.
    pub fn of(message: &str, calls: u32) -> Parts {
        // Only whole messages are stored; of anything else nothing could be handed back.
        let message = Fields::parse(message).unwrap_or_default();
        let content = message.get("content");
        Parts {
            calls,
            blocks: content.map(|content| members(content.get()).to_owned()).unwrap_or_default(),
            text: content.and_then(joined_text).unwrap_or_default(),
            container: message.object("container").and_then(|container| container.text("id")),
        }
    }

    /// How many calls it came from.
    pub fn calls(&self) -> u32 {
        self.calls
    }

    /// Makes a request go on with it: the provider takes its own words as the last turn.
    pub(super) fn resume(&self, fields: &mut Fields) {
        if let Some(messages) = fields.get("messages").filter(|_| !self.blocks.is_empty()) {
            let turns = members(messages.get());
            let turn = format!(r#"{{"role":"assistant","content":[{}]}}"#, self.blocks);
            let messages = format!("[{turns},{turn}]");
            fields.set("messages", raw(messages));
        }
        let Some(id) = &self.container else { return };
        match fields.object("container") {
            // It says which skills the container has, and is told which container that is.
            Some(mut container) => {
                container.set_text("id", id);
                fields.set("container", raw(container.to_json()));
            }
            None if fields.text("container").is_none() => fields.set_text("container", id),
            None => {}
        }
    }

    /// The answer with all that came before it: message and text. All but the content is that of
    /// the last call, `usage` too.
    pub fn and(&self, answer: &Answer) -> (String, String) {
        let mut message = Fields::parse(&answer.body).unwrap_or_default();
        let last = message.get("content").map(|content| members(content.get())).unwrap_or_default();
        let blocks = [self.blocks.as_str(), last];
        let blocks = blocks.into_iter().filter(|blocks| !blocks.is_empty()).collect::<Vec<_>>();
        let content = raw(format!("[{}]", blocks.join(",")));
        message.set("content", content);
        (message.to_json(), format!("{}{}", self.text, answer.text))
    }
}

/// What stands between the brackets of an array.
fn members(array: &str) -> &str {
    let inner = array.trim().strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    inner.unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(body: &str, text: &str) -> Answer {
        Answer {
            body: body.into(),
            text: text.into(),
            stop_reason: None,
            model: None,
            usage: None,
            inference_geo: None,
        }
    }

    fn resumed(parts: &Parts, request: &str) -> String {
        let mut fields = Fields::parse(request).unwrap();
        parts.resume(&mut fields);
        fields.to_json()
    }

    const PAUSED: &str = r#"{"id":"1","content":[ {"type":"text","text":"a\u0062"},
        {"type":"server_tool_use","input":{"n":1e0}} ],"stop_reason":"pause_turn"}"#;
    const BLOCKS: &str = r#"{"type":"text","text":"a\u0062"},
        {"type":"server_tool_use","input":{"n":1e0}}"#;

    #[test]
    fn the_request_goes_on_with_the_blocks_as_they_came() {
        let parts = Parts::of(PAUSED, 1);
        assert_eq!((parts.calls(), parts.text.as_str()), (1, "ab"));
        let request = r#"{"messages":[ {"role":"user","content":"x"} ],"max_tokens":9}"#;
        assert_eq!(
            resumed(&parts, request),
            format!(
                r#"{{"messages":[{{"role":"user","content":"x"}},{{"role":"assistant","content":[{BLOCKS}]}}],"max_tokens":9}}"#
            )
        );
        // There was nothing yet: a turn without content would be refused.
        let empty = Parts::of(r#"{"content":[]}"#, 1);
        assert_eq!(resumed(&empty, r#"{"messages":[1]}"#), r#"{"messages":[1]}"#);
    }

    #[test]
    fn the_container_is_named_again() {
        let parts = Parts::of(r#"{"content":[7],"container":{"id":"c-1","expires_at":"x"}}"#, 1);
        for (given, named) in [
            ("", r#","container":"c-1""#),
            (r#","container":null"#, r#","container":"c-1""#),
            (r#","container":"mine""#, r#","container":"mine""#),
            (r#","container":{"skills":[1]}"#, r#","container":{"skills":[1],"id":"c-1"}"#),
        ] {
            let made = resumed(&parts, &format!(r#"{{"messages":[1]{given}}}"#));
            assert!(made.ends_with(&format!("{named}}}")), "{given}: {made}");
        }
    }

    #[test]
    fn the_whole_is_one_message() {
        let parts = Parts::of(PAUSED, 1);
        let last =
            r#"{"id":"2","content":[{"type":"text","text":"c"}],"usage":{"input_tokens":7}}"#;
        let (body, text) = parts.and(&answer(last, "c"));
        assert_eq!(
            body,
            format!(
                r#"{{"id":"2","content":[{BLOCKS},{{"type":"text","text":"c"}}],"usage":{{"input_tokens":7}}}}"#
            )
        );
        assert_eq!(text, "abc");
        let (body, text) = parts.and(&answer(r#"{"content":[]}"#, ""));
        assert_eq!((body, text), (format!(r#"{{"content":[{BLOCKS}]}}"#), "ab".to_owned()));
    }
}
