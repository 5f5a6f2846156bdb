//! A Messages API body, checked as the API checks it, and the markers in its prompt.

use super::errors::ApiError;
use serde_json::Value;

/// The versions of the API that exist.
const VERSIONS: [&str; 3] = ["2023-01-01", "2023-06-01", "2026-10-21"];
/// From here on sampling parameters are refused, and some blocks in some roles.
const VERSION_WITHOUT_SAMPLING: &str = "2026-10-21";
const MESSAGES_MAX: usize = 100_000;
/// Tokens an image or a document is counted as, whatever it holds.
const ATTACHMENT_TOKENS: u64 = 1_600;

/// The most the API writes with the largest output beta.
const MAX_TOKENS_MAX: u64 = 300_000;
/// Numbers in markers end here, so that sums of them cannot overflow.
const NUMBER_MAX: u64 = 1_000_000_000_000;

const FIELDS: [&str; 28] = [
    "model",
    "max_tokens",
    "messages",
    "system",
    "stop_sequences",
    "stream",
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
    "speed",
    "container",
    "context_management",
    "cache_control",
    "inference_geo",
    "diagnostics",
    "mcp_servers",
    "fallbacks",
    "store",
    "previous_thread_event_id",
    "cache_hint",
    "context_hint",
];

/// A request that passed all checks.
#[derive(Clone, Debug, Default)]
pub(super) struct Ask {
    pub(super) model: String,
    pub(super) max_tokens: u64,
    pub(super) stream: bool,
    /// All texts of system and messages, in order.
    pub(super) prompt: String,
    /// The text of the last user turn.
    pub(super) last_user: String,
    pub(super) stop_sequence: Option<String>,
    /// Texts of the assistant at the end: the parts of a turn that is to go on.
    pub(super) parts: u64,
    /// Names of the tools offered.
    pub(super) tool: Option<String>,
    /// Input tokens as the simulator counts them.
    pub(super) counted_tokens: u64,
    pub(super) body_hash: u64,
}

/// Whether the version header names a version of the API.
pub(super) fn check_version(version: Option<&str>) -> Result<&str, ApiError> {
    let Some(version) = version else {
        return Err(ApiError::invalid("anthropic-version: header is required"));
    };
    if VERSIONS.contains(&version) {
        return Ok(version);
    }
    Err(ApiError::invalid(format!("anthropic-version: \"{version}\" is not a valid version")))
}

/// Reads and checks a body; `counting` is for `count_tokens`, which has no `max_tokens`.
pub(super) fn parse(body: &[u8], version: &str, counting: bool) -> Result<Ask, ApiError> {
    let value: Value = serde_json::from_slice(body)
        .map_err(|e| ApiError::invalid(format!("The request body is not valid JSON: {e}")))?;
    let Value::Object(fields) = &value else {
        return Err(ApiError::invalid("Input should be a valid dictionary"));
    };
    if let Some(unknown) = fields.keys().find(|name| !FIELDS.contains(&name.as_str())) {
        return Err(ApiError::invalid(format!("{unknown}: Extra inputs are not permitted")));
    }
    let model = match value.get("model") {
        Some(Value::String(model)) if !model.is_empty() => model.clone(),
        Some(_) => return Err(ApiError::invalid("model: Input should be a valid string")),
        None => return Err(ApiError::invalid("model: Field required")),
    };
    check_sampling(&value, version)?;
    if version >= VERSION_WITHOUT_SAMPLING {
        check_roles(&value)?;
    }
    let stream = match value.get("stream") {
        None => false,
        Some(Value::Bool(stream)) => *stream,
        Some(_) => return Err(ApiError::invalid("stream: Input should be a valid boolean")),
    };
    let max_tokens = if counting { 0 } else { max_tokens(&value)? };
    let mut ask = Ask {
        model,
        max_tokens,
        stream,
        body_hash: hash(body),
        stop_sequence: value.pointer("/stop_sequences/0").and_then(Value::as_str).map(Into::into),
        tool: value.pointer("/tools/0/name").and_then(Value::as_str).map(Into::into),
        ..Ask::default()
    };
    read_texts(&value, &mut ask)?;
    if ask.model.starts_with("no-such") {
        return Err(ApiError::not_found(format!("model: {}", ask.model)));
    }
    Ok(ask)
}

impl Ask {
    /// What stands in the last `[[name=…]]` of the prompt.
    pub(super) fn marker(&self, name: &str) -> Option<&str> {
        let (_, rest) = self.prompt.rsplit_once(&format!("[[{name}="))?;
        rest.split_once("]]").map(|(value, _)| value.trim())
    }

    /// A marker that is a number.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        let number: u64 = self.marker(name)?.parse().ok()?;
        Some(number.min(NUMBER_MAX))
    }
}

fn check_sampling(value: &Value, version: &str) -> Result<(), ApiError> {
    for (name, high) in [("temperature", 1.0), ("top_p", 1.0), ("top_k", f64::INFINITY)] {
        let Some(given) = value.get(name) else {
            continue;
        };
        if version >= VERSION_WITHOUT_SAMPLING {
            return Err(ApiError::invalid(format!("{name}: Extra inputs are not permitted")));
        }
        if !given.as_f64().is_some_and(|number| (0.0..=high).contains(&number)) {
            return Err(ApiError::invalid(format!("{name}: range: 0..{high}")));
        }
    }
    Ok(())
}

/// Which blocks the newest version refuses in whose mouth.
fn check_roles(value: &Value) -> Result<(), ApiError> {
    let list = |value: &Value, name: &str| {
        value.get(name).and_then(Value::as_array).cloned().unwrap_or_default()
    };
    for (i, message) in list(value, "messages").iter().enumerate() {
        for block in list(message, "content") {
            let words = match (message["role"].as_str(), block["type"].as_str()) {
                (Some("assistant"), Some("document")) => "document blocks are not permitted",
                (Some("user"), Some("text")) if !list(&block, "citations").is_empty() => {
                    "citations are not permitted"
                }
                _ => continue,
            };
            return Err(ApiError::invalid(format!("messages.{i}.content: {words}")));
        }
    }
    Ok(())
}

fn max_tokens(value: &Value) -> Result<u64, ApiError> {
    let Some(given) = value.get("max_tokens") else {
        return Err(ApiError::invalid("max_tokens: Field required"));
    };
    match given.as_u64() {
        Some(tokens) if tokens <= MAX_TOKENS_MAX => Ok(tokens),
        Some(tokens) => Err(ApiError::invalid(format!(
            "max_tokens: {tokens} > {MAX_TOKENS_MAX}, which is the maximum allowed number of \
             output tokens"
        ))),
        None => Err(ApiError::invalid("max_tokens: Input should be a valid integer, at least 0")),
    }
}

fn read_texts(value: &Value, ask: &mut Ask) -> Result<(), ApiError> {
    let mut attachments = 0;
    if let Some(system) = value.get("system") {
        attachments += content(system, &mut ask.prompt)
            .ok_or_else(|| ApiError::invalid("system: Input should be a valid string or list"))?;
    }
    let Some(messages) = value.get("messages") else {
        return Err(ApiError::invalid("messages: Field required"));
    };
    let messages = messages
        .as_array()
        .ok_or_else(|| ApiError::invalid("messages: Input should be a valid list"))?;
    if messages.is_empty() {
        return Err(ApiError::invalid("messages: at least one message is required"));
    }
    if messages.len() > MESSAGES_MAX {
        return Err(ApiError::invalid("messages: at most 100000 messages are allowed"));
    }
    for (i, message) in messages.iter().enumerate() {
        let role = message.get("role").and_then(Value::as_str).unwrap_or_default();
        if !["user", "assistant", "system"].contains(&role) {
            return Err(ApiError::invalid(format!(
                "messages.{i}.role: Input should be 'user', 'assistant' or 'system'"
            )));
        }
        let start = ask.prompt.len();
        let found = message.get("content").and_then(|content_| content(content_, &mut ask.prompt));
        let Some(found) = found else {
            return Err(ApiError::invalid(format!(
                "messages.{i}.content: Input should be a valid string or list of blocks"
            )));
        };
        if role == "user" && found == 0 && ask.prompt.len() == start {
            return Err(ApiError::invalid(format!(
                "messages.{i}: user messages must have non-empty content"
            )));
        }
        if role == "user" {
            ask.last_user = ask.prompt[start..].to_owned();
        }
        attachments += found;
    }
    let own = messages.iter().rev().take_while(|message| message["role"] == "assistant");
    ask.parts = own.map(texts).sum();
    let tools = value.get("tools").map_or(0, |tools| text_tokens(&tools.to_string()));
    let turns = u64::try_from(messages.len()).unwrap_or(u64::MAX);
    ask.counted_tokens =
        8 + 4 * turns + text_tokens(&ask.prompt) + tools + attachments * ATTACHMENT_TOKENS;
    Ok(())
}

/// How many texts a message has.
fn texts(message: &Value) -> u64 {
    match &message["content"] {
        Value::Array(blocks) => {
            let texts = blocks.iter().filter(|block| block["type"] == "text").count();
            u64::try_from(texts).unwrap_or(u64::MAX)
        }
        _ => 1,
    }
}

/// Appends the text of a string or of content blocks; the number of blocks that are no text.
fn content(content: &Value, texts: &mut String) -> Option<u64> {
    if let Value::String(text) = content {
        texts.push_str(text);
        return Some(0);
    }
    let mut others = 0;
    for block in content.as_array()? {
        let kind = block.get("type")?.as_str()?;
        match block.get("text") {
            Some(text) if kind == "text" => texts.push_str(text.as_str()?),
            _ if kind == "text" => return None,
            // Tool results and the like: their JSON is what costs.
            _ if kind == "image" || kind == "document" => others += 1,
            _ => texts.push_str(&block.to_string()),
        }
    }
    Some(others)
}

/// About 3.2 bytes a token in prose and 2.2 in JSON, as newer tokenizers have it.
pub(super) fn text_tokens(text: &str) -> u64 {
    let hundredths: u64 = text
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b' ' => 30,
            128..=255 => 33,
            _ => 55,
        })
        .sum();
    hundredths.div_ceil(100)
}

/// FNV-1a, which is the same on every machine and in every release.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(body: &str, version: &str) -> u16 {
        parse(body.as_bytes(), version, false).unwrap_err().status
    }

    #[test]
    fn what_the_api_refuses_is_refused() {
        let old = "2023-06-01";
        let with = |field: &str| {
            format!(
                r#"{{"model":"m","max_tokens":1,"messages":[{{"role":"user","content":"x"}}],{field}}}"#
            )
        };
        for body in [
            "",
            "[]",
            "{}",
            r#"{"model":"m","max_tokens":1,"messages":[]}"#,
            r#"{"model":"m","max_tokens":1,"messages":"hi"}"#,
            r#"{"model":"m","max_tokens":-1,"messages":[{"role":"user","content":"x"}]}"#,
            r#"{"model":"m","max_tokens":1.5,"messages":[{"role":"user","content":"x"}]}"#,
            r#"{"model":7,"max_tokens":1,"messages":[{"role":"user","content":"x"}]}"#,
            r#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#,
            r#"{"model":"m","max_tokens":1,"messages":[{"role":"robot","content":"x"}]}"#,
            r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":""}]}"#,
            r#"{"model":"m","max_tokens":1,"messages":[{"role":"user"}]}"#,
            &with(r#""stream":"yes""#),
            &with(r#""temprature":0"#),
            &with(r#""temperature":3"#),
        ] {
            assert_eq!(refusal(body, old), 400, "{body}");
        }
        let warm = with(r#""temperature":1.0"#);
        assert!(parse(warm.as_bytes(), old, false).is_ok());
        assert_eq!(refusal(&warm, "2026-10-21"), 400);
        assert_eq!(refusal(&warm.replace("\"m\"", "\"no-such-1\""), old), 404);
        assert!(check_version(None).is_err());
        assert!(check_version(Some("2022-01-01")).is_err());
    }

    #[test]
    fn the_newest_version_refuses_blocks_the_older_takes() {
        let turn = |role: &str, block: &str| {
            let content = format!(r#"{{"role":"{role}","content":[{block}]}}"#);
            format!(r#"{{"model":"m","max_tokens":1,"messages":[{content}]}}"#)
        };
        let document = r#"{"type":"document","source":{}}"#;
        let cited = r#"{"type":"text","text":"x","citations":[{"n":1}]}"#;
        let uncited = r#"{"type":"text","text":"x","citations":[]}"#;
        let passes = |body: &str, version: &str| parse(body.as_bytes(), version, false).is_ok();
        for (role, block, new) in [
            ("assistant", document, false),
            ("user", document, true),
            ("user", cited, false),
            ("assistant", cited, true),
            ("user", uncited, true),
        ] {
            let body = turn(role, block);
            assert!(passes(&body, "2023-06-01"), "{body}");
            assert_eq!(passes(&body, "2026-10-21"), new, "{body}");
        }
    }

    #[test]
    fn markers_are_read_from_the_whole_prompt() {
        let body = r#"{"model":"m","max_tokens":1,"system":"[[in=7]] [[out=1]]","messages":[
            {"role":"user","content":[{"type":"text","text":"a [[out=20]]"}]}]}"#;
        let ask = parse(body.as_bytes(), "2023-06-01", false).unwrap();
        assert_eq!((ask.number("in"), ask.number("out")), (Some(7), Some(20)));
        assert_eq!(ask.last_user, "a [[out=20]]");
        assert_eq!(ask.marker("id"), None);
    }

    #[test]
    fn the_parts_of_a_turn_are_counted() {
        let parts = |messages: &str| {
            let body = format!(r#"{{"model":"m","max_tokens":1,"messages":[{messages}]}}"#);
            parse(body.as_bytes(), "2023-06-01", false).unwrap().parts
        };
        let user = r#"{"role":"user","content":"x"}"#;
        let text = r#"{"type":"text","text":"a"}"#;
        let call = r#"{"type":"server_tool_use","id":"1","name":"web_search","input":{}}"#;
        let own = |blocks: &str| format!(r#"{{"role":"assistant","content":[{blocks}]}}"#);
        assert_eq!(parts(user), 0);
        assert_eq!(parts(&format!("{user},{}", own(&format!("{text},{call},{text}")))), 2);
        assert_eq!(parts(&format!("{user},{},{}", own(text), own(text))), 2);
        assert_eq!(parts(&format!("{user},{},{user}", own(text))), 0);
    }

    #[test]
    fn json_costs_more_than_prose() {
        let prose = "the quick brown fox jumps over the lazy dog and does it again and again";
        let json = r#"{"id":17,"ok":true,"values":[1,2,3,4,5,6,7,8,9],"x":{"y":"z"},"n":12345}"#;
        assert!(text_tokens(prose) * 5 < text_tokens(json) * 4);
    }
}
