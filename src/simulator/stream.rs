//! Answers as server-sent events, spread over the time they take to write.
//!
//! Invariant: one state machine per stream and no task; a delta every `chunk_ms`.

use super::answer::Answer;
use super::app::{App, Run};
use super::conn::Peer;
use super::errors::ApiError;
use super::fault_kind::Kind;
use super::faults::FaultRule;
use super::generation::Generation;
use super::spoil;
use bytes::Bytes;
use futures_util::stream::{self, Stream};
use serde_json::{Value, json};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// A stream on its way.
pub(super) struct Live {
    app: Arc<App>,
    peer: Peer,
    generation: Generation,
    script: Script,
    first_token: Duration,
    end: Duration,
    fault: Option<FaultRule>,
    /// 0 is the opening, then come the deltas, then the ending.
    step: usize,
}

/// The events of one answer, each made when its time comes.
struct Script {
    answer: Answer,
    text: String,
    chunks: usize,
    fault: Option<FaultRule>,
}

/// The body of a streamed answer.
pub(super) fn events(
    app: Arc<App>,
    peer: Peer,
    generation: Generation,
    run: Run,
    fault: Option<FaultRule>,
) -> impl Stream<Item = Result<Bytes, io::Error>> + Send + 'static {
    let Run { answer, first_token, end } = run;
    let real = app.real(end.saturating_sub(first_token));
    let chunks = real.as_millis() / u128::from(app.latency.chunk_ms.max(1));
    let script = Script::new(answer, usize::try_from(chunks).unwrap_or(1), fault.clone());
    let live = Live { app, peer, generation, script, first_token, end, fault, step: 0 };
    stream::unfold(live, Live::next)
}

impl Live {
    async fn next(mut self) -> Option<(Result<Bytes, io::Error>, Live)> {
        let (step, chunks) = (self.step, self.script.chunks);
        self.step = step.saturating_add(1);
        if step == 0 {
            return Some((Ok(self.script.opening()), self));
        }
        if step <= chunks {
            self.app.sleep_until(self.moment(step - 1)).await;
            // In the middle, with something sent and something still to come.
            if step == chunks / 2 + 1
                && let Some(fault) = self.fault.clone()
                && let Some(end) = self.spoil(&fault).await
            {
                self.step = usize::MAX;
                return end.map(|end| (end, self));
            }
            return Some((Ok(self.script.delta(step - 1)), self));
        }
        if step == chunks.saturating_add(1) {
            self.app.sleep_until(self.end).await;
            self.generation.finish().await;
            return Some((Ok(self.script.ending()), self));
        }
        None
    }

    /// When a delta is due.
    fn moment(&self, delta: usize) -> Duration {
        let span = self.end.saturating_sub(self.first_token);
        let (delta, chunks) = (to_u32(delta), to_u32(self.script.chunks).max(1));
        self.first_token + span / chunks * delta
    }

    /// Plays a fault in the middle: `Some` is how the stream ends.
    async fn spoil(&mut self, fault: &FaultRule) -> Option<Option<Result<Bytes, io::Error>>> {
        if fault.kind == Kind::StallBody {
            tokio::time::sleep(fault.stall()).await;
            return None;
        }
        if !spoil::ends_in_the_middle(fault.kind) {
            return None;
        }
        // The provider has no way to bill half of an answer that nobody saw the end of.
        self.generation.finish().await;
        match fault.kind {
            Kind::SseError => {
                let error = ApiError::new(fault.status.unwrap_or(529), "Overloaded");
                Some(Some(Ok(event("error", &error.json(None)))))
            }
            Kind::SseCut | Kind::CutClose => Some(None),
            Kind::ResetBody => {
                spoil::let_it_leave().await;
                self.peer.reset();
                std::future::pending().await
            }
            _ => {
                spoil::let_it_leave().await;
                Some(Some(Err(io::ErrorKind::ConnectionAborted.into())))
            }
        }
    }
}

impl Script {
    fn new(answer: Answer, chunks: usize, fault: Option<FaultRule>) -> Script {
        let text = answer.text();
        let chunks = if text.is_empty() { 0 } else { chunks.clamp(1, text.len()) };
        Script { answer, text, chunks, fault }
    }

    fn opening(&self) -> Bytes {
        let mut message = self.answer.opening();
        self.spoil_usage(&mut message);
        let mut bytes =
            event("message_start", &json!({ "type": "message_start", "message": message }))
                .to_vec();
        if !self.text.is_empty() {
            let block = json!({ "type": "text", "text": "" });
            bytes.extend(event(
                "content_block_start",
                &json!({ "type": "content_block_start", "index": 0, "content_block": block }),
            ));
        }
        bytes.extend(event("ping", &json!({ "type": "ping" })));
        bytes.into()
    }

    fn delta(&self, delta: usize) -> Bytes {
        // Multiplied first, so that the pieces together are the whole text.
        let cut = |part: usize| self.text.floor_char_boundary(self.text.len() * part / self.chunks);
        let text = &self.text[cut(delta)..cut(delta + 1)];
        event(
            "content_block_delta",
            &json!({
                "type": "content_block_delta",
                "index": 0,
                "delta": { "type": "text_delta", "text": text },
            }),
        )
    }

    fn ending(&self) -> Bytes {
        let stop = |index: u32| {
            event("content_block_stop", &json!({ "type": "content_block_stop", "index": index }))
        };
        let mut bytes = Vec::new();
        let mut index = 0;
        if !self.text.is_empty() {
            bytes.extend(stop(index));
            index += 1;
        }
        if let Some(tool) = self.answer.tool_use() {
            let start = json!({
                "type": "content_block_start", "index": index, "content_block": tool
            });
            bytes.extend(event("content_block_start", &start));
            let delta = json!({
                "type": "content_block_delta",
                "index": index,
                "delta": { "type": "input_json_delta", "partial_json": "{}" },
            });
            bytes.extend(event("content_block_delta", &delta));
            bytes.extend(stop(index));
        }
        let mut delta = json!({
            "type": "message_delta",
            "delta": self.answer.ending(),
            "usage": self.answer.usage(self.answer.output_tokens),
        });
        self.spoil_usage(&mut delta);
        bytes.extend(event("message_delta", &delta));
        bytes.extend(event("message_stop", &json!({ "type": "message_stop" })));
        bytes.into()
    }

    fn spoil_usage(&self, holder: &mut Value) {
        spoil::usage(holder, self.fault.as_ref(), &self.answer.id);
    }
}

fn event(name: &str, data: &Value) -> Bytes {
    format!("event: {name}\ndata: {data}\n\n").into()
}

fn to_u32(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::request::Ask;

    fn script(prompt: &str, chunks: usize) -> Script {
        let ask = Ask {
            prompt: prompt.into(),
            last_user: prompt.into(),
            max_tokens: 1_000,
            ..Ask::default()
        };
        Script::new(Answer::plan(&ask, 0, "msg_1".into()), chunks, None)
    }

    fn data(bytes: &[u8]) -> Vec<Value> {
        let text = std::str::from_utf8(bytes).unwrap();
        let lines = text.lines().filter_map(|line| line.strip_prefix("data: "));
        lines.map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn the_deltas_are_the_text() {
        for (prompt, chunks) in [("Grüße, 日本 [[out=50]]", 7), ("x [[out=1]]", 1_000)] {
            let script = script(prompt, chunks);
            let mut text = String::new();
            for delta in 0..script.chunks {
                let event = &data(&script.delta(delta))[0];
                text.push_str(event["delta"]["text"].as_str().unwrap());
            }
            assert_eq!(text, script.answer.text());
        }
    }

    #[test]
    fn events_come_in_order_with_cumulative_usage() {
        let script = script("x [[out=50]] [[stop=tool_use]]", 3);
        let mut bytes = script.opening().to_vec();
        (0..3).for_each(|delta| bytes.extend(script.delta(delta)));
        bytes.extend(script.ending());
        let events = data(&bytes);
        let types: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
        assert_eq!(
            types,
            [
                "message_start",
                "content_block_start",
                "ping",
                "content_block_delta",
                "content_block_delta",
                "content_block_delta",
                "content_block_stop",
                "content_block_start",
                "content_block_delta",
                "content_block_stop",
                "message_delta",
                "message_stop",
            ]
        );
        assert_eq!(events[0]["message"]["usage"]["output_tokens"], 1);
        assert_eq!(events[10]["usage"]["output_tokens"], 50);
        assert_eq!(events[10]["delta"]["stop_reason"], "tool_use");
    }

    #[test]
    fn an_empty_answer_has_no_block() {
        let script = script("x [[out=0]]", 5);
        assert_eq!(script.chunks, 0);
        assert_eq!(data(&script.opening()).len() + data(&script.ending()).len(), 4);
    }
}
