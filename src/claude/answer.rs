//! From a message's JSON to an [`Answer`].
//!
//! Invariant: usage that looks wrong is no usage; the reservation then stays.

use super::error::ApiError;
use super::fields::{Fields, as_text};
use crate::domain::attempt::{Answer, Usage};
use serde::Deserialize;
use serde_json::value::RawValue;

/// A call with more tokens than this was not counted right.
const TOKENS_MAX: i64 = 10_000_000_000;

/// Why a body is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// It is the API's error object, though the status said 200.
    Error(ApiError),
    /// It is a page for people, shortened: whatever sent it, the API did not.
    Page(String),
    /// It is something else; the words say what.
    Odd(String),
}

/// Reads a complete message.
pub(crate) fn read(body: String) -> Result<Answer, NoAnswer> {
    let message = Fields::parse(&body).map_err(|err| odd(format!("not a JSON object: {err}")))?;
    if message.text("type").as_deref() == Some("error")
        && let Some(error) = ApiError::read(&message)
    {
        return Err(NoAnswer::Error(error));
    }
    if message.text("type").as_deref() != Some("message") {
        return Err(odd("a JSON object that is no message"));
    }
    let text = message
        .get("content")
        .and_then(joined_text)
        .ok_or_else(|| odd("a message without content"))?;
    let usage = message.object("usage");
    Ok(Answer {
        text,
        stop_reason: message.text("stop_reason"),
        model: message.text("model"),
        usage: usage.as_ref().and_then(read_usage),
        inference_geo: usage.and_then(|usage| usage.text("inference_geo")),
        body,
    })
}

fn odd(what: impl Into<String>) -> NoAnswer {
    NoAnswer::Odd(what.into())
}

/// The text blocks, joined without a separator: citations cut one sentence into several.
pub(super) fn joined_text(content: &RawValue) -> Option<String> {
    let blocks: Vec<&RawValue> = serde_json::from_str(content.get()).ok()?;
    let mut joined = String::new();
    for block in blocks {
        #[derive(Deserialize)]
        struct Block<'a> {
            #[serde(borrow, default)]
            r#type: Option<&'a RawValue>,
            #[serde(borrow, default)]
            text: Option<&'a RawValue>,
        }
        let Ok(block) = serde_json::from_str::<Block>(block.get()) else {
            continue;
        };
        if block.r#type.and_then(as_text).as_deref() == Some("text")
            && let Some(text) = block.text.and_then(as_text)
        {
            joined.push_str(&text);
        }
    }
    Some(joined)
}

fn read_usage(usage: &Fields) -> Option<Usage> {
    let total = one_usage(usage)?;
    // With fallbacks on the server's side the top level tells only of the attempt whose answer
    // came back, while each of them is billed.
    let iterations: Vec<Fields> = match usage.get("iterations") {
        None => return Some(total),
        Some(list) if list.get() == "null" => return Some(total),
        Some(list) => serde_json::from_str(list.get()).ok()?,
    };
    let mut sum = Usage::default();
    for iteration in &iterations {
        let one = one_usage(iteration)?;
        sum.input_tokens += one.input_tokens;
        sum.output_tokens += one.output_tokens;
        sum.cache_write_tokens += one.cache_write_tokens;
        sum.cache_write_1h_tokens += one.cache_write_1h_tokens;
        sum.cache_read_tokens += one.cache_read_tokens;
        sum.web_searches += one.web_searches;
        if sum.all_tokens() > TOKENS_MAX {
            return None;
        }
    }
    Some(Usage {
        input_tokens: total.input_tokens.max(sum.input_tokens),
        output_tokens: total.output_tokens.max(sum.output_tokens),
        cache_write_tokens: total.cache_write_tokens.max(sum.cache_write_tokens),
        cache_write_1h_tokens: total.cache_write_1h_tokens.max(sum.cache_write_1h_tokens),
        cache_read_tokens: total.cache_read_tokens.max(sum.cache_read_tokens),
        web_searches: total.web_searches.max(sum.web_searches),
    })
}

fn one_usage(usage: &Fields) -> Option<Usage> {
    let kept = usage.object("cache_creation").unwrap_or_default();
    let hour = optional(&kept, "ephemeral_1h_input_tokens")?;
    let minutes = optional(&kept, "ephemeral_5m_input_tokens")?;
    let written = optional(usage, "cache_creation_input_tokens")?;
    let tools = usage.object("server_tool_use").unwrap_or_default();
    Some(Usage {
        input_tokens: count(usage.get("input_tokens")?)?,
        output_tokens: count(usage.get("output_tokens")?)?,
        cache_write_tokens: written.max(hour + minutes),
        cache_write_1h_tokens: hour,
        cache_read_tokens: optional(usage, "cache_read_input_tokens")?,
        web_searches: optional(&tools, "web_search_requests")?,
    })
}

/// Zero when absent or null; `None` when odd.
fn optional(fields: &Fields, key: &str) -> Option<i64> {
    match fields.get(key) {
        None => Some(0),
        Some(value) if value.get() == "null" => Some(0),
        Some(value) => count(value),
    }
}

/// A whole number that can be true; no floats, no strings.
fn count(value: &RawValue) -> Option<i64> {
    serde_json::from_str(value.get()).ok().filter(|count| (0..=TOKENS_MAX).contains(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(json: &str) -> Option<Usage> {
        let body = format!(r#"{{"type":"message","content":[],"usage":{json}}}"#);
        read(body).unwrap().usage
    }

    #[test]
    fn a_whole_message() {
        let body = r#" {"id":"msg_1","type":"message","role":"assistant","model":"claude-x",
            "content":[{"type":"text","text":"a\u00e4"},{"type":"tool_use","text":"no"},
                {"type":"text","text":"b"},7,{"type":"text","text":8},{"type":"new"}],
            "stop_reason":"end_turn","usage":{"input_tokens":3,"output_tokens":5,
            "cache_creation_input_tokens":7,"cache_read_input_tokens":null,
            "cache_creation":{"ephemeral_1h_input_tokens":4,"ephemeral_5m_input_tokens":3},
            "server_tool_use":{"web_search_requests":2},"inference_geo":"us"}}"#;
        let answer = read(body.to_owned()).unwrap();
        assert_eq!(answer.text, "aäb");
        assert_eq!(answer.stop_reason.as_deref(), Some("end_turn"));
        assert_eq!(answer.model.as_deref(), Some("claude-x"));
        assert_eq!(answer.inference_geo.as_deref(), Some("us"));
        assert_eq!(answer.body, body);
        assert_eq!(
            answer.usage,
            Some(Usage {
                input_tokens: 3,
                output_tokens: 5,
                cache_write_tokens: 7,
                cache_write_1h_tokens: 4,
                cache_read_tokens: 0,
                web_searches: 2,
            })
        );
    }

    #[test]
    fn odd_usage_is_no_usage() {
        for json in [
            "null",
            "{}",
            "7",
            r#"{"input_tokens":1}"#,
            r#"{"input_tokens":-1,"output_tokens":1}"#,
            r#"{"input_tokens":1.5,"output_tokens":1}"#,
            r#"{"input_tokens":1.0,"output_tokens":1}"#,
            r#"{"input_tokens":"1","output_tokens":1}"#,
            r#"{"input_tokens":99999999999999999999,"output_tokens":1}"#,
            r#"{"input_tokens":9223372036854775807,"output_tokens":1}"#,
            r#"{"input_tokens":1,"output_tokens":1,"cache_read_input_tokens":-5}"#,
            r#"{"input_tokens":1,"output_tokens":1,"iterations":[{}]}"#,
            r#"{"input_tokens":1,"output_tokens":1,"iterations":7}"#,
            r#"{"input_tokens":1,"output_tokens":1,"server_tool_use":{"web_search_requests":0.5}}"#,
        ] {
            assert_eq!(usage(json), None, "{json}");
        }
    }

    #[test]
    fn iterations_are_summed_when_the_top_level_is_smaller() {
        let sum = usage(
            r#"{"input_tokens":10,"output_tokens":20,"iterations":[
                {"input_tokens":10,"output_tokens":1},{"input_tokens":10,"output_tokens":20}]}"#,
        )
        .unwrap();
        assert_eq!((sum.input_tokens, sum.output_tokens), (20, 21));
        let top = usage(
            r#"{"input_tokens":10,"output_tokens":20,"iterations":[
                {"input_tokens":10,"output_tokens":1}]}"#,
        )
        .unwrap();
        assert_eq!((top.input_tokens, top.output_tokens), (10, 20));
        for absent in ["iterations", "cache_creation", "server_tool_use"] {
            let json = format!(r#"{{"input_tokens":1,"output_tokens":1,"{absent}":null}}"#);
            assert!(usage(&json).is_some(), "{absent}");
        }
    }

    #[test]
    fn what_is_no_message() {
        for body in [
            "",
            "<html>",
            "[]",
            r#"{"type":"message"}"#,
            r#"{"type":"message","content":"x"}"#,
            r#"{"type":"message","content":[]"#,
            r#"{"type":"completion","content":[]}"#,
            r#"{"content":[]}"#,
        ] {
            assert!(matches!(read(body.to_owned()), Err(NoAnswer::Odd(_))), "{body}");
        }
        let body = r#"{"type":"error","error":{"type":"overloaded_error","message":"x"}}"#;
        assert!(matches!(
            read(body.to_owned()),
            Err(NoAnswer::Error(error)) if error.kind == "overloaded_error"
        ));
    }

    #[test]
    fn depth_does_not_matter() {
        let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
        let body = format!(
            r#"{{"type":"message","content":[{{"type":"tool_use","input":{{"a":{deep}}}}}],"x":{deep}}}"#
        );
        assert!(read(body).is_ok());
    }
}
