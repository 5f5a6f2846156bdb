//! Whether the cost of a request's input lies in its bytes.
//!
//! A budget is a wall only when the worst case of a call is known before it is made. For text
//! it is: a token has at least one byte. An image, a file kept at the provider or a tool that
//! the server runs costs what nobody can read off the body.
//!
//! Invariant: lists of what is harmless, never of what is dangerous: the unknown is unbounded.

use super::fields::Fields;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// Members of a request that cost nothing beyond their bytes and `max_tokens`.
const HARMLESS_MEMBERS: &[&str] = &[
    "model",
    "max_tokens",
    "messages",
    "system",
    "stream",
    "stop_sequences",
    "temperature",
    "top_p",
    "top_k",
    "tools",
    "tool_choice",
    "thinking",
    "output_config",
    "output_format",
    "metadata",
    "service_tier",
    "cache_control",
    "inference_geo",
    "diagnostics",
];

/// Members with a reason of their own.
const COSTLY_MEMBERS: &[(&str, &str)] = &[
    ("mcp_servers", "MCP servers"),
    ("container", "a container"),
    ("fallbacks", "fallbacks to other models"),
    ("speed", "a speed of its own"),
];

/// Blocks that cost their bytes.
const HARMLESS_BLOCKS: &[&str] =
    &["text", "thinking", "redacted_thinking", "tool_use", "tool_result", "search_result"];

/// Blocks lie in tool results, and those in messages; nothing sensible goes deeper.
const DEPTH_MAX: usize = 4;

const UNKNOWN_BLOCK: &str = "an unknown content block";

/// The first reason found; `None` when the input costs at most its bytes.
pub(crate) fn unbounded(request: &Fields) -> Option<&'static str> {
    request.iter().find_map(|(name, value)| match name {
        "messages" => messages(value),
        "system" => content(value, 0),
        "tools" => tools(value),
        _ => member(name),
    })
}

fn member(name: &str) -> Option<&'static str> {
    if HARMLESS_MEMBERS.contains(&name) {
        return None;
    }
    COSTLY_MEMBERS
        .iter()
        .find(|(costly, _)| *costly == name)
        .map(|(_, reason)| *reason)
        .or(Some("an unknown field"))
}

/// The parts of a message or block that matter here. A key given twice is an error, so that
/// nothing hides behind its namesake.
#[derive(Deserialize)]
struct Probe<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
}

fn messages(value: &RawValue) -> Option<&'static str> {
    let Ok(messages) = serde_json::from_str::<Vec<Probe>>(value.get()) else {
        return Some(UNKNOWN_BLOCK);
    };
    messages.iter().filter_map(|message| message.content).find_map(|value| content(value, 0))
}

/// Text, or a list of blocks.
fn content(value: &RawValue, depth: usize) -> Option<&'static str> {
    let json = value.get();
    if json.starts_with('"') || json == "null" {
        return None;
    }
    if depth >= DEPTH_MAX {
        return Some(UNKNOWN_BLOCK);
    }
    let Ok(blocks) = serde_json::from_str::<Vec<Probe>>(json) else {
        return Some(UNKNOWN_BLOCK);
    };
    blocks.iter().find_map(|found| block(found, depth))
}

fn block(block: &Probe, depth: usize) -> Option<&'static str> {
    let kind = block.kind.as_deref().unwrap_or_default();
    match kind {
        "image" => Some("an image"),
        "document" => Some("a document"),
        "container_upload" => Some("a file kept at the provider"),
        _ if HARMLESS_BLOCKS.contains(&kind) => {
            block.content.and_then(|inner| content(inner, depth + 1))
        }
        _ => Some(UNKNOWN_BLOCK),
    }
}

fn tools(value: &RawValue) -> Option<&'static str> {
    if value.get() == "null" {
        return None;
    }
    let Ok(tools) = serde_json::from_str::<Vec<Probe>>(value.get()) else {
        return Some("an unknown tool");
    };
    let ours = |tool: &Probe| matches!(tool.kind.as_deref(), None | Some("custom"));
    (!tools.iter().all(ours)).then_some("a tool of the provider")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(json: &str) -> Option<&'static str> {
        unbounded(&Fields::parse(json).unwrap())
    }

    fn user(content: &str) -> Option<&'static str> {
        reason(&format!(r#"{{"messages":[{{"role":"user","content":{content}}}]}}"#))
    }

    #[test]
    fn text_costs_its_bytes() {
        for content in [
            r#""an image of type \"document\"""#,
            r#"[{"type":"text","text":"{\"type\":\"image\"}"}]"#,
            r#"[{"type":"text","text":"x","cache_control":{"type":"ephemeral","ttl":"1h"}}]"#,
            r#"[{"type":"tool_use","id":"1","name":"n","input":{"type":"image","content":[{"type":"image"}]}}]"#,
            r#"[{"type":"tool_result","tool_use_id":"1","content":"x"}]"#,
            r#"[{"type":"tool_result","content":[{"type":"text","text":"x"}]}]"#,
            r#"[{"type":"thinking","thinking":"x","signature":"y"}]"#,
            "[]",
        ] {
            assert_eq!(user(content), None, "{content}");
        }
        assert_eq!(
            reason(
                r#"{"model":"m","max_tokens":1,"messages":[],"system":[{"type":"text","text":"x"}],
                "stop_sequences":["image"],"metadata":{"mcp_servers":1},"thinking":{"type":"enabled"},
                "tools":[{"name":"a","input_schema":{"type":"web_search"}},{"type":"custom","name":"b"}]}"#
            ),
            None
        );
    }

    #[test]
    fn what_does_not() {
        for (content, why) in [
            (r#"[{"type":"image","source":{"type":"url","url":"u"}}]"#, "an image"),
            (r#"[{"type":"im\u0061ge"}]"#, "an image"),
            (r#"[{"type":"text"},{"type":"document"}]"#, "a document"),
            (r#"[{"type":"container_upload"}]"#, "a file kept at the provider"),
            (r#"[{"type":"tool_result","content":[{"type":"image"}]}]"#, "an image"),
            (r#"[{"type":"hologram"}]"#, UNKNOWN_BLOCK),
            (r#"[{"type":"text","type":"image"}]"#, UNKNOWN_BLOCK),
            (r#"[{"type":["image"]}]"#, UNKNOWN_BLOCK),
            (r#"[{}]"#, UNKNOWN_BLOCK),
            ("7", UNKNOWN_BLOCK),
        ] {
            assert_eq!(user(content), Some(why), "{content}");
        }
        for (request, why) in [
            (r#"{"system":[{"type":"document"}]}"#, "a document"),
            (r#"{"mcp_servers":[]}"#, "MCP servers"),
            (r#"{"container":"c"}"#, "a container"),
            (r#"{"fallbacks":[]}"#, "fallbacks to other models"),
            (r#"{"speed":"fast"}"#, "a speed of its own"),
            (r#"{"novelty":1}"#, "an unknown field"),
            (
                r#"{"tools":[{"name":"a"},{"type":"web_search_20250305"}]}"#,
                "a tool of the provider",
            ),
            (r#"{"tools":7}"#, "an unknown tool"),
            (r#"{"messages":[{"content":"x","content":[{"type":"image"}]}]}"#, UNKNOWN_BLOCK),
        ] {
            assert_eq!(reason(request), Some(why), "{request}");
        }
    }
}
