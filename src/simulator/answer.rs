//! What the model answers: how long, why it stops, which words, what it costs.
//!
//! Invariant: the answer follows from the request (and the seed) alone.

use super::request::Ask;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::ops::RangeInclusive;

/// A quoted prompt is cut here.
const ECHO_CHARS: usize = 60;
/// How long an answer is when nobody says: short enough to be read, and to come soon.
const USUAL_TOKENS: RangeInclusive<u64> = 20..=60;
const BYTES_PER_TOKEN: usize = 4;
const FILLER: &str = "and so the queue moved on, one answer after another, none of them lost. ";

/// An answer, planned before its first token.
#[derive(Clone, Debug, Default)]
pub(super) struct Answer {
    pub(super) id: String,
    pub(super) model: String,
    /// Uncached input, as usage reports it.
    pub(super) input_tokens: u64,
    pub(super) cache_read_tokens: u64,
    pub(super) cache_write_tokens: u64,
    pub(super) output_tokens: u64,
    pub(super) stop_reason: String,
    stop_sequence: Option<String>,
    tool: Option<String>,
    echo: String,
}

impl Answer {
    /// Decides the answer to `ask`, markers first.
    pub(super) fn plan(ask: &Ask, seed: u64, id: String) -> Answer {
        let asked_stop = ask.marker("stop");
        let refused = asked_stop == Some("refusal");
        let wanted = match ask.number("out") {
            Some(tokens) => tokens,
            None if refused => 0,
            None => usual_length(ask, seed),
        };
        let output_tokens = wanted.min(ask.max_tokens);
        let stop_reason = match asked_stop {
            Some(reason) => reason,
            None if ask.number("pauses").is_some_and(|pauses| ask.parts < pauses) => "pause_turn",
            None if output_tokens >= ask.max_tokens => "max_tokens",
            None => "end_turn",
        };
        Answer {
            id,
            model: ask.model.clone(),
            input_tokens: ask.number("in").unwrap_or(ask.counted_tokens),
            cache_read_tokens: ask.number("cache_read").unwrap_or(0),
            cache_write_tokens: ask.number("cache_write").unwrap_or(0),
            output_tokens,
            stop_reason: stop_reason.to_owned(),
            stop_sequence: ask.stop_sequence.clone().filter(|_| stop_reason == "stop_sequence"),
            tool: ask.tool.clone(),
            echo: ask.last_user.chars().take(ECHO_CHARS).collect(),
        }
    }

    /// A refusal before any output is not billed, though it counts against the limits.
    pub(super) fn is_billed(&self) -> bool {
        !(self.stop_reason == "refusal" && self.output_tokens == 0)
    }

    /// Input that counts against the limits: cache reads do not.
    pub(super) fn limited_input(&self) -> u64 {
        self.input_tokens.saturating_add(self.cache_write_tokens)
    }

    /// Words of about the right length; empty when there are no tokens for them.
    pub(super) fn text(&self) -> String {
        let bytes = usize::try_from(self.output_tokens)
            .unwrap_or(usize::MAX)
            .saturating_mul(BYTES_PER_TOKEN);
        if bytes == 0 {
            return String::new();
        }
        let mut text = format!("echo {} ", self.echo);
        while text.len() < bytes {
            text.push_str(FILLER);
        }
        // A short answer still says which prompt it answers.
        let shortest = "echo ".len() + self.echo.len();
        text.truncate(text.floor_char_boundary(bytes.max(shortest)));
        text
    }

    /// The tool's call, when the answer ends with one.
    pub(super) fn tool_use(&self) -> Option<Value> {
        // A paused turn is in the middle of a tool of the server's own, if it has one.
        let (kind, prefix, name) = match (self.stop_reason.as_str(), self.tool.as_deref()) {
            ("tool_use", name) => ("tool_use", "toolu_", name.unwrap_or("lookup")),
            ("pause_turn", Some(name)) => ("server_tool_use", "srvtoolu_", name),
            _ => return None,
        };
        let id = self.id.replacen("msg_", prefix, 1);
        Some(json!({ "type": kind, "id": id, "name": name, "input": {} }))
    }

    /// The usage object when `output_tokens` have been produced.
    pub(super) fn usage(&self, output_tokens: u64) -> Value {
        json!({
            "input_tokens": self.input_tokens,
            "cache_creation_input_tokens": self.cache_write_tokens,
            "cache_read_input_tokens": self.cache_read_tokens,
            "cache_creation": {
                "ephemeral_5m_input_tokens": self.cache_write_tokens,
                "ephemeral_1h_input_tokens": 0,
            },
            "output_tokens": output_tokens,
            "output_tokens_details": { "thinking_tokens": 0 },
            "service_tier": "standard",
        })
    }

    /// The message's shell: no content, no reason to stop yet.
    pub(super) fn opening(&self) -> Value {
        json!({
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": [],
            "stop_reason": null,
            "stop_sequence": null,
            "usage": self.usage(self.output_tokens.min(1)),
        })
    }

    /// Why the answer ends.
    pub(super) fn ending(&self) -> Value {
        let mut ending =
            json!({ "stop_reason": self.stop_reason, "stop_sequence": self.stop_sequence });
        if self.stop_reason == "refusal" {
            ending["stop_details"] =
                json!({ "type": "refusal", "category": null, "explanation": null });
        }
        ending
    }

    /// The whole message.
    pub(super) fn message(&self) -> Value {
        let mut message = self.opening();
        let text = self.text();
        let mut content = Vec::new();
        if !text.is_empty() {
            content.push(json!({ "type": "text", "text": text }));
        }
        content.extend(self.tool_use());
        message["content"] = Value::Array(content);
        message["usage"] = self.usage(self.output_tokens);
        if let (Value::Object(message), Value::Object(ending)) = (&mut message, self.ending()) {
            message.extend(ending);
        }
        message
    }
}

/// A sentence or two, at most half of `max_tokens`; the same for the same body.
fn usual_length(ask: &Ask, seed: u64) -> u64 {
    let (shortest, longest) = (*USUAL_TOKENS.start(), *USUAL_TOKENS.end());
    let dice = mix(ask.body_hash ^ seed);
    let tokens = shortest + dice % (longest - shortest + 1);
    tokens.min(ask.max_tokens / 2).max(1)
}

/// Spreads a hash over all bits (the finisher of `SplitMix64`).
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// An id such as the API's: a prefix and 24 signs.
pub(super) fn make_id(prefix: &str, random: u64, number: u64) -> String {
    let mut id = format!("{prefix}_01");
    // Writing to a String cannot fail.
    let _ = write!(id, "{random:016x}{:06x}", number & 0x00ff_ffff);
    id
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn ask(prompt: &str, max_tokens: u64) -> Ask {
        Ask {
            model: "claude-sonnet-5".into(),
            prompt: prompt.into(),
            last_user: prompt.into(),
            max_tokens,
            counted_tokens: 30,
            body_hash: 99,
            ..Ask::default()
        }
    }

    fn plan(prompt: &str, max_tokens: u64) -> Answer {
        Answer::plan(&ask(prompt, max_tokens), 1, "msg_1".into())
    }

    #[test]
    fn length_and_reason_follow_the_markers() {
        let answer = plan("hi [[out=40]] [[in=500]] [[cache_read=7]] [[cache_write=3]]", 100);
        assert_eq!((answer.output_tokens, answer.stop_reason.as_str()), (40, "end_turn"));
        assert_eq!((answer.input_tokens, answer.limited_input()), (500, 503));
        assert_eq!(answer.text().len(), 160);
        let answer = plan("hi [[out=4000]]", 100);
        assert_eq!((answer.output_tokens, answer.stop_reason.as_str()), (100, "max_tokens"));
        assert_eq!(plan("hi [[stop=pause_turn]]", 100).stop_reason, "pause_turn");
        let second = Ask { parts: 1, ..ask("hi [[pauses=1]]", 100) };
        assert_eq!(plan("hi [[pauses=1]]", 100).stop_reason, "pause_turn");
        assert_eq!(Answer::plan(&second, 1, "msg_2".into()).stop_reason, "end_turn");
    }

    #[test]
    fn the_usual_length_is_a_sentence_or_two_and_never_fills_max_tokens() {
        let lengths = |max_tokens, seed| -> BTreeSet<u64> {
            let asks = (0..200).map(|hash| Ask { body_hash: hash, ..ask("hi", max_tokens) });
            asks.map(|ask| usual_length(&ask, seed)).collect()
        };
        for max_tokens in [120, 4_096, 1_000_000] {
            let lengths = lengths(max_tokens, 0);
            assert!(lengths.iter().all(|tokens| (20..=60).contains(tokens)), "{lengths:?}");
            assert!(lengths.len() > 30, "they vary: {lengths:?}");
        }
        assert!(lengths(4, 0).iter().all(|tokens| (1..=2).contains(tokens)));
        let one = ask("hi", 4_096);
        let by_seed: BTreeSet<u64> = (0..50).map(|seed| usual_length(&one, seed)).collect();
        assert!(by_seed.len() > 10, "{by_seed:?}");
    }

    #[test]
    fn warming_a_cache_and_refusing_give_no_content() {
        let warm = plan("hi", 0).message();
        assert_eq!(warm["content"], json!([]));
        assert_eq!(warm["stop_reason"], "max_tokens");
        let refusal = plan("hi [[stop=refusal]]", 100);
        assert!(!refusal.is_billed());
        assert_eq!(refusal.message()["stop_details"]["type"], "refusal");
    }

    #[test]
    fn the_answer_echoes_without_cutting_a_letter() {
        let text = plan("日本語のテキスト [[out=1]]", 10).text();
        assert!(text.starts_with("echo 日本語のテキスト"));
    }
}
