//! From a job to the body that is sent: pure, once per job, when it is read.
//!
//! Invariant: what a producer put into `request` is sent with its values untouched and in its
//! order; only `model`, `max_tokens` and `system` are added where they lack, and `stream` is
//! taken out, which is the daemon's to decide. Where a person asked again with another `max_tokens`,
//! that takes its place; where a turn was paused, it is the last of the messages.

use super::bounds;
use super::fields::{Fields, as_text, raw, raw_text};
use super::parts::Parts;
use bytes::Bytes;
use serde_json::value::RawValue;
use std::sync::Arc;

/// The provider takes no larger body.
pub(crate) const BODY_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Nor more messages in one.
const MESSAGES_MAX: usize = 100_000;
/// As for the column: far above any model, and far below what sums could not hold.
const MAX_TOKENS_MAX: i64 = 10_000_000;
/// As for the column: the name becomes that of a pool.
const MODEL_MAX: usize = 200;

/// What a job's row says of its call.
#[derive(Clone, Copy, Debug, Default)]
pub struct JobBody<'a> {
    /// The user turn; exactly one of it and `request`.
    pub prompt: Option<&'a str>,
    /// A Messages API body as JSON.
    pub request: Option<&'a str>,
    /// With `request`, used only where that has none; so are the next two.
    pub system: Option<&'a str>,
    /// The model.
    pub model: Option<&'a str>,
    /// The most tokens of output.
    pub max_tokens: Option<i64>,
    /// What a person asked for instead, whatever the job says.
    pub asked_max_tokens: Option<i64>,
    /// A turn to go on with.
    pub parts: Option<&'a Parts>,
}

/// What the job leaves open: the queue's values, then the global ones, already merged.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fallbacks<'a> {
    /// The model.
    pub model: Option<&'a str>,
    /// The most tokens of output.
    pub max_tokens: Option<i64>,
    /// The system prompt.
    pub system: Option<&'a str>,
}

/// A body ready to be sent.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// A complete JSON object without `stream`.
    pub body: Bytes,
    /// Its model.
    pub model: Arc<str>,
    /// Its `max_tokens`.
    pub max_tokens: i64,
    /// Why the cost of its input does not lie in its bytes; `None` when it does.
    pub unbounded: Option<&'static str>,
}

/// Why a job cannot be sent; a sentence for its `error`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRequest {
    /// Neither a prompt nor a request.
    #[error("the job has neither a prompt nor a request")]
    Nothing,
    /// Both of them.
    #[error("the job has both a prompt and a request; it may have only one")]
    Both,
    /// The provider refuses empty text.
    #[error("the prompt is empty")]
    EmptyPrompt,
    /// The parser's words, with line and column.
    #[error("the request is not JSON: {0}")]
    NotJson(String),
    /// An array, a string …
    #[error("the request is not a JSON object")]
    NotAnObject,
    /// Nobody can say which of the two would hold.
    #[error("the request has `{0}` more than once")]
    DuplicateKey(String),
    /// The model is no text, or empty.
    #[error("model must be a string of 1 to 200 characters without *")]
    BadModel,
    /// A float, a negative number, a string …
    #[error("max_tokens must be a whole number from 0 to 10000000")]
    BadMaxTokens,
    /// Missing, no array, or empty.
    #[error("messages must be a non-empty array")]
    BadMessages,
    /// Too many of them.
    #[error("the request has {0} messages; at most 100000 are allowed")]
    TooManyMessages(usize),
    /// Nobody names a model.
    #[error("no model: set jobs.model, [queue.NAME] model or [defaults] model")]
    NoModel,
    /// Nobody names `max_tokens`.
    #[error("no max_tokens: set jobs.max_tokens, [queue.NAME] max_tokens or [defaults] max_tokens")]
    NoMaxTokens,
    /// Above the provider's limit for a body.
    #[error("the body has {0} bytes; at most 32 MiB are allowed")]
    TooLarge(usize),
}

/// Makes the body, or says why there can be none.
pub fn prepare(job: &JobBody, fallbacks: &Fallbacks) -> Result<Prepared, InvalidRequest> {
    let prepared = match (job.prompt, job.request) {
        (None, None) => Err(InvalidRequest::Nothing),
        (Some(_), Some(_)) => Err(InvalidRequest::Both),
        (Some(prompt), None) => from_prompt(prompt, job, fallbacks),
        (None, Some(request)) => from_request(request, job, fallbacks),
    }?;
    match prepared.body.len() {
        0..=BODY_BYTES_MAX => Ok(prepared),
        bytes => Err(InvalidRequest::TooLarge(bytes)),
    }
}

/// The same body, asking for a stream. A body that already does is returned as it is.
pub fn with_stream(body: &Bytes) -> Bytes {
    const OPENING: &[u8] = b"{\"stream\":true";
    if body.starts_with(OPENING) {
        return body.clone();
    }
    let members = body.strip_prefix(b"{").unwrap_or_default();
    let mut streaming = Vec::with_capacity(OPENING.len() + 1 + members.len());
    streaming.extend_from_slice(OPENING);
    if !members.trim_ascii_start().starts_with(b"}") {
        streaming.push(b',');
    }
    streaming.extend_from_slice(members);
    streaming.into()
}

fn from_prompt(
    prompt: &str,
    job: &JobBody,
    fallbacks: &Fallbacks,
) -> Result<Prepared, InvalidRequest> {
    if prompt.is_empty() {
        return Err(InvalidRequest::EmptyPrompt);
    }
    if prompt.len() > BODY_BYTES_MAX {
        return Err(InvalidRequest::TooLarge(prompt.len()));
    }
    let model = filled_model(job, fallbacks)?;
    let max_tokens = filled_max_tokens(job, fallbacks)?;
    let mut fields = Fields::default();
    fields.set_text("model", model);
    fields.set("max_tokens", raw(max_tokens.to_string()));
    if let Some(system) = job.system.or(fallbacks.system) {
        fields.set_text("system", system);
    }
    let content = raw_text(prompt);
    fields.set("messages", raw(format!(r#"[{{"role":"user","content":{content}}}]"#)));
    let mut unbounded = None;
    if let Some(parts) = job.parts {
        parts.resume(&mut fields);
        unbounded = bounds::unbounded(&fields);
    }
    Ok(Prepared { body: fields.to_json().into(), model: model.into(), max_tokens, unbounded })
}

fn from_request(
    request: &str,
    job: &JobBody,
    fallbacks: &Fallbacks,
) -> Result<Prepared, InvalidRequest> {
    let request = request.trim_matches([' ', '\t', '\r', '\n']);
    if request.len() > BODY_BYTES_MAX {
        return Err(InvalidRequest::TooLarge(request.len()));
    }
    let mut fields = read(request)?;
    check_messages(&fields)?;
    let given = GivenFields::read(&fields)?;
    let untouched = given.model.is_some()
        && given.max_tokens.is_some()
        && fields.get("stream").is_none()
        && job.asked_max_tokens.is_none()
        && job.parts.is_none()
        && (fields.get("system").is_some() || job.system.or(fallbacks.system).is_none());

    let model = match given.model {
        Some(model) => model,
        None => filled_model(job, fallbacks)?.to_owned(),
    };
    let max_tokens = match given.max_tokens.filter(|_| job.asked_max_tokens.is_none()) {
        Some(max_tokens) => max_tokens,
        None => filled_max_tokens(job, fallbacks)?,
    };
    if job.asked_max_tokens.is_some() {
        fields.set("max_tokens", raw(max_tokens.to_string()));
    }
    if let Some(parts) = job.parts {
        parts.resume(&mut fields);
    }
    let body = if untouched {
        Bytes::copy_from_slice(request.as_bytes())
    } else {
        fill(&mut fields, &model, max_tokens, job.system.or(fallbacks.system));
        fields.to_json().into()
    };
    Ok(Prepared { body, model: model.into(), max_tokens, unbounded: bounds::unbounded(&fields) })
}

/// Adds what lacks at the end, so that the order of what is there stays.
fn fill(fields: &mut Fields, model: &str, max_tokens: i64, system: Option<&str>) {
    fields.remove("stream");
    if fields.get("model").is_none() {
        fields.set_text("model", model);
    }
    if fields.get("max_tokens").is_none() {
        fields.set("max_tokens", raw(max_tokens.to_string()));
    }
    if let Some(system) = system
        && fields.get("system").is_none()
    {
        fields.set_text("system", system);
    }
}

fn read(request: &str) -> Result<Fields, InvalidRequest> {
    let whole: &RawValue =
        serde_json::from_str(request).map_err(|err| InvalidRequest::NotJson(err.to_string()))?;
    if !whole.get().starts_with('{') {
        return Err(InvalidRequest::NotAnObject);
    }
    let fields = Fields::parse(request).map_err(|err| InvalidRequest::NotJson(err.to_string()))?;
    match fields.duplicate() {
        Some(key) => Err(InvalidRequest::DuplicateKey(shortened(key))),
        None => Ok(fields),
    }
}

/// What the request itself says, checked.
struct GivenFields {
    model: Option<String>,
    max_tokens: Option<i64>,
}

impl GivenFields {
    fn read(fields: &Fields) -> Result<GivenFields, InvalidRequest> {
        let model = match fields.get("model") {
            None => None,
            Some(value) => Some(
                as_text(value).filter(|model| is_model(model)).ok_or(InvalidRequest::BadModel)?,
            ),
        };
        let max_tokens = match fields.get("max_tokens") {
            None => None,
            Some(value) => Some(
                serde_json::from_str(value.get())
                    .ok()
                    .filter(|max_tokens| (0..=MAX_TOKENS_MAX).contains(max_tokens))
                    .ok_or(InvalidRequest::BadMaxTokens)?,
            ),
        };
        Ok(GivenFields { model, max_tokens })
    }
}

fn check_messages(fields: &Fields) -> Result<(), InvalidRequest> {
    let messages: Vec<&RawValue> = fields
        .get("messages")
        .and_then(|messages| serde_json::from_str(messages.get()).ok())
        .ok_or(InvalidRequest::BadMessages)?;
    match messages.len() {
        0 => Err(InvalidRequest::BadMessages),
        1..=MESSAGES_MAX => Ok(()),
        count => Err(InvalidRequest::TooManyMessages(count)),
    }
}

fn filled_model<'a>(
    job: &JobBody<'a>,
    fallbacks: &Fallbacks<'a>,
) -> Result<&'a str, InvalidRequest> {
    let model = job.model.or(fallbacks.model);
    let model = model.ok_or(InvalidRequest::NoModel)?;
    if !is_model(model) {
        return Err(InvalidRequest::BadModel);
    }
    Ok(model)
}

/// A name, and no pattern: it may become the name of a pool.
fn is_model(name: &str) -> bool {
    !name.trim().is_empty() && name.chars().count() <= MODEL_MAX && !name.contains('*')
}

fn filled_max_tokens(job: &JobBody, fallbacks: &Fallbacks) -> Result<i64, InvalidRequest> {
    let max_tokens = job.asked_max_tokens.or(job.max_tokens).or(fallbacks.max_tokens);
    let max_tokens = max_tokens.ok_or(InvalidRequest::NoMaxTokens)?;
    if !(0..=MAX_TOKENS_MAX).contains(&max_tokens) {
        return Err(InvalidRequest::BadMaxTokens);
    }
    Ok(max_tokens)
}

fn shortened(key: &str) -> String {
    key.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const FALLBACKS: Fallbacks =
        Fallbacks { model: Some("claude-default"), max_tokens: Some(100), system: None };

    fn request(request: &str) -> Result<Prepared, InvalidRequest> {
        let job = JobBody { request: Some(request), ..JobBody::default() };
        prepare(&job, &FALLBACKS)
    }

    fn text(prepared: &Prepared) -> &str {
        std::str::from_utf8(&prepared.body).unwrap()
    }

    #[test]
    fn a_prompt_becomes_a_user_turn() {
        let job = JobBody {
            prompt: Some("Say \"hi\"\n\u{1}ä"),
            system: Some("Be brief."),
            model: Some("claude-x"),
            max_tokens: Some(7),
            ..JobBody::default()
        };
        let prepared = prepare(&job, &FALLBACKS).unwrap();
        let body: Value = serde_json::from_slice(&prepared.body).unwrap();
        assert_eq!(
            body,
            json!({"model": "claude-x", "max_tokens": 7, "system": "Be brief.",
                "messages": [{"role": "user", "content": "Say \"hi\"\n\u{1}ä"}]})
        );
        assert_eq!(&*prepared.model, "claude-x");
        assert_eq!((prepared.max_tokens, prepared.unbounded), (7, None));
    }

    #[test]
    fn what_the_job_leaves_open_is_filled() {
        let job = JobBody { prompt: Some("x"), ..JobBody::default() };
        let fallbacks = Fallbacks { system: Some("s"), ..FALLBACKS };
        let prepared = prepare(&job, &fallbacks).unwrap();
        assert_eq!(
            text(&prepared),
            r#"{"model":"claude-default","max_tokens":100,"system":"s","messages":[{"role":"user","content":"x"}]}"#
        );
    }

    #[test]
    fn a_complete_request_is_sent_byte_for_byte() {
        let written = r#"{ "messages" : [{"role":"user","content":"\u0061 1"}],
            "temperature": 1.50e-1, "max_tokens": 9, "model":"m" }"#;
        let prepared = request(&format!("\n {written}\r\n")).unwrap();
        assert_eq!(text(&prepared), written);
        assert_eq!((&*prepared.model, prepared.max_tokens), ("m", 9));
    }

    #[test]
    fn what_was_asked_by_hand_takes_the_place_of_what_is_written() {
        let asked = |job: JobBody| {
            let prepared = prepare(&JobBody { asked_max_tokens: Some(77), ..job }, &FALLBACKS);
            let prepared = prepared.unwrap();
            assert_eq!(prepared.max_tokens, 77);
            text(&prepared).to_owned()
        };
        let request = Some(r#"{"max_tokens":9,"model":"m", "messages":[ 1 ]}"#);
        assert_eq!(
            asked(JobBody { request, max_tokens: Some(5), ..JobBody::default() }),
            r#"{"max_tokens":77,"model":"m","messages":[ 1 ]}"#
        );
        let lacks = JobBody { request: Some(r#"{"messages":[1]}"#), ..JobBody::default() };
        assert!(asked(lacks).contains(r#""max_tokens":77,"#));
        let prompt = JobBody { prompt: Some("x"), max_tokens: Some(5), ..JobBody::default() };
        assert!(asked(prompt).contains(r#""max_tokens":77,"#));
    }

    #[test]
    fn a_paused_turn_is_the_last_of_the_messages() {
        let parts = Parts::of(r#"{"content":[{"type":"text","text":"so far"}]}"#, 1);
        let turn = r#"{"role":"assistant","content":[{"type":"text","text":"so far"}]}"#;
        let job = JobBody { parts: Some(&parts), ..JobBody::default() };
        let complete = r#"{"model":"m","max_tokens":9,"messages":[1]}"#;
        let prepared = prepare(&JobBody { request: Some(complete), ..job }, &FALLBACKS).unwrap();
        assert_eq!(
            text(&prepared),
            format!(r#"{{"model":"m","max_tokens":9,"messages":[1,{turn}]}}"#)
        );
        let prepared = prepare(&JobBody { prompt: Some("x"), ..job }, &FALLBACKS).unwrap();
        assert!(text(&prepared).ends_with(&format!(r#""content":"x"}},{turn}]}}"#)));
        assert_eq!(prepared.unbounded, None);
        let odd = Parts::of(r#"{"content":[{"type":"web_search_tool_result"}]}"#, 1);
        let job = JobBody { prompt: Some("x"), parts: Some(&odd), ..JobBody::default() };
        assert!(prepare(&job, &FALLBACKS).unwrap().unbounded.is_some());
    }

    #[test]
    fn only_what_lacks_is_added_and_stream_is_taken_out() {
        let job = JobBody {
            request: Some(
                r#"{"stream": false, "top_p": 0.90, "messages":[ 1 ],"model":"mine","metadata":{ "a" : 1e2 }}"#,
            ),
            model: Some("column"),
            max_tokens: Some(5),
            system: Some("sys"),
            ..JobBody::default()
        };
        let prepared = prepare(&job, &FALLBACKS).unwrap();
        assert_eq!(
            text(&prepared),
            r#"{"top_p":0.90,"messages":[ 1 ],"model":"mine","metadata":{ "a" : 1e2 },"max_tokens":5,"system":"sys"}"#
        );
    }

    /// Numbers beyond any type, keys given twice, escapes, halves of a pair: all as written.
    #[test]
    fn values_are_sent_as_they_are_spelled() {
        let values = r#""messages":[{"role":"user","content":"\u0061\/\ud83c\udf89 \ud800 é","content":"x"}],"metadata":{"n":123456789012345678901234567890,"f":1.0,"g":-0.0,"h":1E+02,"i":0.1000000000000000055511151231257827,"j":1e999,"k":{"a":1,"a":2}},"tools":[ ]"#;
        let complete = format!(r#"{{"model":"m","max_tokens":1,{values}}}"#);
        assert_eq!(text(&request(&complete).unwrap()), complete);
        let streamed = with_stream(&request(&complete).unwrap().body);
        assert_eq!(streamed, format!(r#"{{"stream":true,{}"#, &complete[1..]).as_bytes());
        let filled = request(&format!(r#"{{"stre\u0061m":true, {values} }}"#)).unwrap();
        let expected = format!(r#"{{{values},"model":"claude-default","max_tokens":100}}"#);
        assert_eq!(text(&filled), expected);
    }

    #[test]
    fn refusals_say_what_is_wrong() {
        let ok = r#""messages":[{"role":"user","content":"x"}]"#;
        for (written, says) in [
            ("", "the request is not JSON: EOF while parsing a value at line 1 column 0"),
            ("{\n \"a\": nope}", "line 2 column 8"),
            ("[1]", "not a JSON object"),
            ("\"x\"", "not a JSON object"),
            (r#"{"messages":[1],"mess\u0061ges":[2]}"#, "`messages` more than once"),
            (r#"{"model":"m"}"#, "messages must be"),
            (r#"{"messages":[]}"#, "messages must be"),
            (r#"{"messages":"x"}"#, "messages must be"),
            (&format!(r#"{{"model":7,{ok}}}"#), "model must be"),
            (&format!(r#"{{"model":null,{ok}}}"#), "model must be"),
            (&format!(r#"{{"model":" ",{ok}}}"#), "model must be"),
            (&format!(r#"{{"max_tokens":1.0,{ok}}}"#), "max_tokens must be"),
            (&format!(r#"{{"max_tokens":1e2,{ok}}}"#), "max_tokens must be"),
            (&format!(r#"{{"max_tokens":-1,{ok}}}"#), "max_tokens must be"),
            (&format!(r#"{{"max_tokens":"1",{ok}}}"#), "max_tokens must be"),
            (&format!(r#"{{"max_tokens":1{{,{ok}}}"#), "not JSON"),
        ] {
            let error = request(written).unwrap_err().to_string();
            assert!(error.contains(says), "{written}: {error}");
        }
        let zero = request(&format!(r#"{{"max_tokens":0,{ok}}}"#)).unwrap();
        assert_eq!(zero.max_tokens, 0);
    }

    #[test]
    fn nobody_names_a_model_or_max_tokens() {
        let job = JobBody { prompt: Some("x"), ..JobBody::default() };
        let none = Fallbacks::default();
        assert_eq!(prepare(&job, &none).unwrap_err(), InvalidRequest::NoModel);
        let job = JobBody { model: Some("m"), ..job };
        assert_eq!(prepare(&job, &none).unwrap_err(), InvalidRequest::NoMaxTokens);
        let job = JobBody { max_tokens: Some(-1), ..job };
        assert_eq!(prepare(&job, &none).unwrap_err(), InvalidRequest::BadMaxTokens);
        let both = JobBody { request: Some("{}"), ..job };
        assert_eq!(prepare(&both, &none).unwrap_err(), InvalidRequest::Both);
        assert_eq!(prepare(&JobBody::default(), &none).unwrap_err(), InvalidRequest::Nothing);
    }

    #[test]
    fn size_count_and_depth_are_bounded() {
        let long = "x".repeat(BODY_BYTES_MAX);
        let job = JobBody { prompt: Some(&long), ..JobBody::default() };
        assert!(matches!(prepare(&job, &FALLBACKS).unwrap_err(), InvalidRequest::TooLarge(_)));
        // Escapes make it six times as long.
        let control = "\u{1}".repeat(BODY_BYTES_MAX / 5);
        let job = JobBody { prompt: Some(&control), ..JobBody::default() };
        assert!(matches!(prepare(&job, &FALLBACKS).unwrap_err(), InvalidRequest::TooLarge(_)));
        let many = format!(r#"{{"messages":[{}1]}}"#, "1,".repeat(MESSAGES_MAX));
        assert_eq!(request(&many).unwrap_err(), InvalidRequest::TooManyMessages(MESSAGES_MAX + 1));
        let deep = "[".repeat(1_000_000);
        assert!(request(&format!(r#"{{"messages":{deep}"#)).is_err());
        let closed = "]".repeat(1_000_000);
        let deep =
            format!(r#"{{"messages":[{{"content":{deep}{closed}}}],"metadata":{deep}{closed}}}"#);
        assert!(request(&deep).unwrap().unbounded.is_some());
    }

    #[test]
    fn asking_for_a_stream() {
        for (body, streaming) in [
            (r#"{"a":1}"#, r#"{"stream":true,"a":1}"#),
            ("{ \n\"a\":1}", "{\"stream\":true, \n\"a\":1}"),
            ("{ }", r#"{"stream":true }"#),
            (r#"{"stream":true,"a":1}"#, r#"{"stream":true,"a":1}"#),
        ] {
            let made = with_stream(&Bytes::from_static(body.as_bytes()));
            assert_eq!(made, streaming.as_bytes());
            assert!(serde_json::from_slice::<Value>(&made).is_ok());
        }
    }
}
