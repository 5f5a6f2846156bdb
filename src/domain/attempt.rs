//! An attempt: one call for a job, and how it ended.

use super::limit::Dimension;
use super::time::{Millis, Timestamp};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::sync::Arc;

/// What the provider says a call used, in tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Input after the last cache breakpoint.
    pub input_tokens: i64,
    /// Output, thinking included.
    pub output_tokens: i64,
    /// Input written to the cache, for five minutes and for an hour together.
    pub cache_write_tokens: i64,
    /// The part of `cache_write_tokens` kept for an hour, which costs more.
    pub cache_write_1h_tokens: i64,
    /// Input read from the cache; free of the input limit.
    pub cache_read_tokens: i64,
    /// Web searches the server made; billed each.
    pub web_searches: i64,
}

impl Usage {
    /// What counts towards the input limit: cache reads do not.
    pub fn limited_input(&self) -> i64 {
        self.input_tokens.saturating_add(self.cache_write_tokens)
    }

    /// The whole prompt, cached or not.
    pub fn prompt_tokens(&self) -> i64 {
        self.limited_input().saturating_add(self.cache_read_tokens)
    }

    /// Prompt and output together: what a token budget counts.
    pub fn all_tokens(&self) -> i64 {
        self.prompt_tokens().saturating_add(self.output_tokens)
    }
}

/// A complete answer (HTTP 200, whole JSON or a stream up to `message_stop`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The message as JSON text: the raw body, or assembled from a stream.
    pub body: String,
    /// The text blocks joined.
    pub text: String,
    /// Why the model stopped, as the provider says it.
    pub stop_reason: Option<String>,
    /// The model that answered.
    pub model: Option<String>,
    /// `None` when the body carried no usable usage: the reservation then stays.
    pub usage: Option<Usage>,
    /// `us` makes the call dearer.
    pub inference_geo: Option<String>,
}

impl Answer {
    /// A refusal is an answer (it may be billed) that is no success.
    pub fn is_refusal(&self) -> bool {
        self.stop_reason.as_deref() == Some("refusal")
    }

    /// The provider paused its turn: there is more to come when it is asked to go on.
    pub fn is_paused(&self) -> bool {
        self.stop_reason.as_deref() == Some("pause_turn")
    }
}

/// Why a call gave no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What to do about it.
    pub kind: FailureKind,
    /// A stable word for `error_class`.
    pub class: Cow<'static, str>,
    /// What the provider or the transport said, for people.
    pub message: String,
}

/// What a failure asks of the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// 429 of a rate limit.
    RateLimited {
        /// The provider's wish.
        retry_after: Option<Millis>,
        /// The limit it named, when it did.
        limit: Option<Dimension>,
        /// Usage rose too fast, though below the limit.
        ramp: bool,
    },
    /// 529: the provider is busy; nobody's fault.
    Overloaded {
        /// The provider's wish.
        retry_after: Option<Millis>,
    },
    /// Worth another try, and counted against `max_attempts`.
    Transient {
        /// The provider's wish.
        retry_after: Option<Millis>,
    },
    /// The same request would fail again.
    Permanent,
    /// A spend limit: no call of this account goes through.
    AccountParked {
        /// When the provider says access comes back.
        until: Option<Timestamp>,
    },
    /// 401, 403: no call with this key goes through.
    KeyRejected,
    /// Not billed and no fault of the job: there was no connection (a refusal, DNS, TLS, no free
    /// descriptor), or something else than the API answered (a redirect, a login page, a
    /// firewall, a wrong base URL).
    NotReached,
    /// We broke it off ourselves: shutdown or `cancel --now`.
    Interrupted,
}

/// What a stream shows of an answer that is not finished yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// When its first token came.
    pub first_token_at: Timestamp,
    /// Bytes of text, thinking and tool input so far.
    pub bytes: i64,
    /// What the headers before it say.
    pub limits: Arc<[ObservedLimit]>,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A whole answer, billed.
    Completed(Box<Answer>),
    /// It surely did not happen, or was refused: not billed.
    Failed(Failure),
    /// Sent, and nobody can say whether it was billed.
    Unknown(Failure),
}

impl Outcome {
    /// The word in `attempts.outcome`.
    pub fn word(&self) -> &'static str {
        match self {
            Outcome::Completed(answer) if answer.is_refusal() => "refused",
            Outcome::Completed(_) => "succeeded",
            Outcome::Unknown(_) => "unknown",
            Outcome::Failed(failure) => match failure.kind {
                FailureKind::RateLimited { .. } => "rate_limited",
                FailureKind::Overloaded { .. } => "overloaded",
                FailureKind::Transient { .. } => "transient",
                FailureKind::Permanent => "failed",
                FailureKind::AccountParked { .. } => "parked",
                FailureKind::KeyRejected => "key_rejected",
                FailureKind::NotReached => "not_reached",
                FailureKind::Interrupted => "interrupted",
            },
        }
    }
}

/// What the response's headers say of one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObservedLimit {
    /// Which limit.
    pub dimension: Dimension,
    /// Its size a minute.
    pub limit: i64,
    /// What was left when the headers were written; tokens are rounded to thousands.
    pub remaining: Option<i64>,
    /// How long until nothing would be missing, in whole seconds.
    pub until_full: Option<Millis>,
}

/// Everything learned from one call.
#[derive(Clone, Debug)]
pub struct Reply {
    /// How it ended.
    pub outcome: Outcome,
    /// `None` when no response head arrived.
    pub http_status: Option<u16>,
    /// The provider's id of the call.
    pub request_id: Option<String>,
    /// The limits its headers name.
    pub limits: Vec<ObservedLimit>,
    /// The rate-limit headers as they came, as a JSON object, for the record.
    pub headers: Option<String>,
    /// When the response head arrived, by the local clock.
    pub first_byte_at: Option<Timestamp>,
    /// When the last byte arrived, or the call was given up.
    pub done_at: Timestamp,
}

impl Reply {
    /// Bytes of the answer that are to be kept.
    pub fn answer_bytes(&self) -> usize {
        match &self.outcome {
            Outcome::Completed(answer) => answer.body.len() + answer.text.len(),
            Outcome::Failed(_) | Outcome::Unknown(_) => 0,
        }
    }
}
