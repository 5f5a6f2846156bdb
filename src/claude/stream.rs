//! A streamed answer: events cut from bytes, and the message put together from events.
//!
//! [`Stream`] takes the bytes as they come, cut anywhere, and gives the message's JSON once
//! `message_stop` has arrived, as a call without streaming would have given it.
//!
//! Invariant: memory is bounded by the limit given at the start.
//! Invariant: without `message_stop` there is no message.

use super::error::ApiError;
use super::fields::{Fields, as_text, raw};
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// A block costs more memory than the bytes that start it, so their number is bounded too.
const BLOCKS_MAX: usize = 100_000;

/// Why a stream gave no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StreamError {
    /// More bytes than allowed.
    #[error("the stream is longer than {0} bytes")]
    TooLarge(u64),
    /// An `error` event: the provider gave up.
    #[error("{}: {}", error.kind, error.message)]
    Provider {
        /// Why.
        error: ApiError,
        /// A part of the message had come before it.
        begun: bool,
    },
    /// It breaks the protocol; a message put together from it could lack a part.
    #[error("the stream is damaged: {0}")]
    Malformed(String),
}

/// Cuts bytes into events (the `text/event-stream` format).
#[derive(Debug, Default)]
struct Events {
    line: Vec<u8>,
    /// The last byte was a CR: an LF now belongs to it.
    after_cr: bool,
    /// The first line may begin with a byte order mark.
    begun: bool,
    name: String,
    data: Vec<u8>,
    has_data: bool,
}

/// One event.
#[derive(Debug, PartialEq, Eq)]
struct Event {
    name: String,
    data: Vec<u8>,
}

impl Events {
    /// Takes one byte; gives an event when it ends one.
    fn take(&mut self, byte: u8) -> Option<Event> {
        let after_cr = std::mem::replace(&mut self.after_cr, byte == b'\r');
        match byte {
            b'\n' if after_cr => None,
            b'\n' | b'\r' => self.end_line(),
            _ => {
                self.line.push(byte);
                None
            }
        }
    }

    fn end_line(&mut self) -> Option<Event> {
        let line = std::mem::take(&mut self.line);
        let mut line = line.as_slice();
        if !std::mem::replace(&mut self.begun, true) {
            line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        }
        if line.is_empty() {
            return self.end_event();
        }
        let (field, value) = match line.iter().position(|byte| *byte == b':') {
            Some(at) => (&line[..at], &line[at + 1..]),
            None => (line, &line[line.len()..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"event" => self.name = String::from_utf8_lossy(value).into_owned(),
            b"data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.data.push(b'\n');
                }
                self.data.extend_from_slice(value);
            }
            // Comments, `id`, `retry` and what is unknown.
            _ => {}
        }
        None
    }

    fn end_event(&mut self) -> Option<Event> {
        let name = std::mem::take(&mut self.name);
        let data = std::mem::take(&mut self.data);
        std::mem::replace(&mut self.has_data, false).then_some(Event { name, data })
    }
}

/// A content block under construction.
#[derive(Debug, Default)]
struct Block {
    /// As it was started.
    start: Fields,
    /// What deltas added to its text members.
    text: BTreeMap<&'static str, String>,
    /// The pieces of a tool's input.
    input: String,
    citations: Vec<Box<RawValue>>,
}

/// A streamed message under construction.
#[derive(Debug)]
pub(crate) struct Stream {
    events: Events,
    bytes_left: u64,
    bytes_max: u64,
    message: Option<Fields>,
    usage: Fields,
    /// A `message_delta` has said how much output there was.
    output_told: bool,
    blocks: BTreeMap<u64, Block>,
    written: i64,
    complete: bool,
}

impl Stream {
    /// Starts a stream that may have at most `bytes_max` bytes.
    pub(crate) fn new(bytes_max: u64) -> Stream {
        Stream {
            events: Events::default(),
            bytes_left: bytes_max,
            bytes_max,
            message: None,
            usage: Fields::default(),
            output_told: false,
            blocks: BTreeMap::new(),
            written: 0,
            complete: false,
        }
    }

    /// Bytes of text, thinking and tool input so far.
    pub(crate) fn written(&self) -> i64 {
        self.written
    }

    /// Takes the next bytes. What comes after `message_stop` is ignored.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), StreamError> {
        for byte in bytes {
            if self.complete {
                return Ok(());
            }
            self.bytes_left =
                self.bytes_left.checked_sub(1).ok_or(StreamError::TooLarge(self.bytes_max))?;
            if let Some(event) = self.events.take(*byte) {
                self.event(&event)?;
            }
        }
        Ok(())
    }

    /// Whether `message_stop` has arrived.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    /// The message as JSON; `None` when the stream ended before `message_stop`.
    pub(crate) fn finish(mut self) -> Option<String> {
        // The blank line behind the last event may be missing; the event is whole all the same.
        let _ = self.push(b"\n\n");
        let mut message = self.message.filter(|_| self.complete)?;
        let blocks: Vec<String> =
            self.blocks.into_values().map(|block| block.finish().to_json()).collect();
        message.set_list("content", blocks.iter().map(String::as_str));
        if !self.output_told {
            // `message_start` counts the first tokens; as the count of all it would be wrong.
            self.usage.remove("output_tokens");
        }
        if message.get("usage").is_some() || self.usage.iter().next().is_some() {
            message.set("usage", raw(self.usage.to_json()));
        }
        Some(message.to_json())
    }

    fn event(&mut self, event: &Event) -> Result<(), StreamError> {
        let parsed: Result<Fields, _> = serde_json::from_slice(&event.data);
        let fields = match parsed {
            Ok(fields) => fields,
            // Other people's events need not be JSON objects.
            Err(_) if event.data == b"[DONE]" || !is_ours(&event.name) => return Ok(()),
            Err(err) => return Err(damaged(format!("{}: {err}", event.name))),
        };
        let kind = fields.text("type").unwrap_or_else(|| event.name.clone());
        match kind.as_str() {
            "message_start" => self.message_start(&fields),
            "content_block_start" => self.block_start(&fields),
            "content_block_delta" => self.block_delta(&fields),
            "message_delta" => self.message_delta(&fields),
            "message_stop" if self.message.is_none() => {
                Err(damaged("message_stop before message_start"))
            }
            "message_stop" => {
                self.complete = true;
                Ok(())
            }
            "error" => {
                let error = ApiError::read(&fields).unwrap_or_default();
                Err(StreamError::Provider { error, begun: self.message.is_some() })
            }
            // `ping`, `content_block_stop`, and what is new.
            _ => Ok(()),
        }
    }

    fn message_start(&mut self, fields: &Fields) -> Result<(), StreamError> {
        if self.message.is_some() {
            return Err(damaged("a second message_start"));
        }
        let message =
            fields.object("message").ok_or_else(|| damaged("message_start without a message"))?;
        self.usage = message.object("usage").unwrap_or_default();
        self.message = Some(message);
        Ok(())
    }

    fn block_start(&mut self, fields: &Fields) -> Result<(), StreamError> {
        let index = index(fields)?;
        let start = fields
            .object("content_block")
            .ok_or_else(|| damaged("content_block_start without a block"))?;
        let block = Block { start, ..Block::default() };
        match self.blocks.insert(index, block) {
            None if self.blocks.len() > BLOCKS_MAX => Err(damaged("too many blocks")),
            None => Ok(()),
            Some(_) => Err(damaged(format!("block {index} started twice"))),
        }
    }

    fn block_delta(&mut self, fields: &Fields) -> Result<(), StreamError> {
        let index = index(fields)?;
        let block = self
            .blocks
            .get_mut(&index)
            .ok_or_else(|| damaged(format!("a delta for block {index}, which never started")))?;
        let delta =
            fields.object("delta").ok_or_else(|| damaged("content_block_delta without a delta"))?;
        self.written = self.written.saturating_add(block.add(&delta)?);
        Ok(())
    }

    /// Its `delta` and whatever else it carries go to the message; its usage is cumulative.
    fn message_delta(&mut self, fields: &Fields) -> Result<(), StreamError> {
        let message =
            self.message.as_mut().ok_or_else(|| damaged("message_delta before message_start"))?;
        let delta = fields.object("delta").unwrap_or_default();
        let others = fields.iter().filter(|(name, _)| *name != "delta");
        for (name, value) in delta.iter().chain(others) {
            if !matches!(name, "type" | "content" | "usage") {
                message.set(name, value.to_owned());
            }
        }
        for (name, value) in fields.object("usage").unwrap_or_default().iter() {
            self.output_told |= name == "output_tokens" && value.get() != "null";
            if value.get() != "null" || self.usage.get(name).is_none() {
                self.usage.set(name, value.to_owned());
            }
        }
        Ok(())
    }
}

impl Block {
    /// Gives the bytes of what the model wrote.
    fn add(&mut self, delta: &Fields) -> Result<i64, StreamError> {
        let kind = delta.text("type").unwrap_or_default();
        let piece = |name: &str| {
            delta
                .get(name)
                .and_then(as_text)
                .ok_or_else(|| damaged(format!("{kind} without {name}")))
        };
        match kind.as_str() {
            "text_delta" => return Ok(self.append("text", &piece("text")?)),
            "thinking_delta" => return Ok(self.append("thinking", &piece("thinking")?)),
            "compaction_delta" => {
                return Ok(self.append("content", &piece("content").unwrap_or_default()));
            }
            "input_json_delta" => {
                let piece = piece("partial_json")?;
                self.input.push_str(&piece);
                return Ok(length(&piece));
            }
            "signature_delta" => self.start.set_text("signature", &piece("signature")?),
            "citations_delta" => {
                let citation = delta.get("citation");
                let citation = citation.ok_or_else(|| damaged("citations_delta without one"))?;
                self.citations.push(citation.to_owned());
            }
            // New kinds of deltas must not break old clients.
            _ => {}
        }
        Ok(0)
    }

    fn append(&mut self, member: &'static str, piece: &str) -> i64 {
        self.text
            .entry(member)
            .or_insert_with(|| self.start.text(member).unwrap_or_default())
            .push_str(piece);
        length(piece)
    }

    fn finish(mut self) -> Fields {
        for (member, text) in &self.text {
            self.start.set_text(member, text);
        }
        if !self.input.is_empty() {
            self.start.set("input", tool_input(&self.input));
        }
        if !self.citations.is_empty() {
            let begun: Vec<Box<RawValue>> = self
                .start
                .get("citations")
                .and_then(|begun| serde_json::from_str(begun.get()).ok())
                .unwrap_or_default();
            let all = begun.iter().chain(&self.citations);
            let all: Vec<&str> = all.map(|citation| citation.get()).collect();
            self.start.set_list("citations", all.into_iter());
        }
        self.start
    }
}

fn length(piece: &str) -> i64 {
    i64::try_from(piece.len()).unwrap_or(i64::MAX)
}

/// The joined pieces of a tool's input. `max_tokens` may have cut them short; what came is kept
/// under a name of its own, since it was paid for and is no JSON.
fn tool_input(json: &str) -> Box<RawValue> {
    serde_json::from_str(json).unwrap_or_else(|_| {
        let mut cut = Fields::default();
        cut.set_text("_partial_json", json);
        raw(cut.to_json())
    })
}

fn index(fields: &Fields) -> Result<u64, StreamError> {
    fields
        .get("index")
        .and_then(|index| serde_json::from_str(index.get()).ok())
        .ok_or_else(|| damaged("a block without an index"))
}

/// Whether a damaged event of that name could have carried a part of the message.
fn is_ours(name: &str) -> bool {
    matches!(
        name,
        "" | "message_start"
            | "content_block_start"
            | "content_block_delta"
            | "content_block_stop"
            | "message_delta"
            | "message_stop"
            | "error"
    )
}

fn damaged(what: impl Into<String>) -> StreamError {
    StreamError::Malformed(what.into())
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
