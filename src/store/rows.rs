//! What crosses the store's door: plain values, no sqlx type.

use crate::domain::attempt::Usage;
use crate::domain::job::{AttemptId, Epoch, JobEvent, JobId, JobState};
use crate::domain::limit::OutputMode;
use crate::domain::reason::Reason;
use crate::domain::reservation::{Reservation, Settlement};
use crate::domain::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A ready job with its body, as the producer wrote it.
#[derive(Clone, Debug)]
pub struct JobRow {
    /// Which.
    pub id: JobId,
    /// Whose.
    pub queue: Arc<str>,
    /// Higher first.
    pub priority: i64,
    /// Bytes as stored: perhaps not UTF-8.
    pub prompt: Option<Vec<u8>>,
    /// As `prompt`.
    pub request: Option<Vec<u8>>,
    /// As `prompt`.
    pub system: Option<Vec<u8>>,
    /// As `prompt`.
    pub model: Option<Vec<u8>>,
    /// Its own, or none.
    pub max_tokens: Option<i64>,
    /// Its own, or none.
    pub max_attempts: Option<u32>,
    /// What has come about since it was inserted.
    pub terms: Terms,
}

/// What became of a job's call since its producer wrote it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// The `max_tokens` that a person asked for.
    pub max_tokens: Option<i64>,
    /// The first attempt of a turn that was paused.
    pub turn_from: Option<AttemptId>,
}

/// What there is of a paused turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TurnSoFar {
    /// Its message, JSON.
    pub body: String,
    /// Calls that it came from.
    pub calls: u32,
}

/// A ready job's place in the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Which.
    pub id: JobId,
    /// Higher first.
    pub priority: i64,
    /// Bytes of its body.
    pub bytes: i64,
}

/// A candidate that the write transaction found still ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fresh {
    /// Which.
    pub id: JobId,
    /// Attempts so far.
    pub attempts: u32,
    /// Those of them that count against `max_attempts`.
    pub counted_attempts: u32,
    /// As in [`JobRow`]: what was read before may be of another life of the job.
    pub terms: Terms,
}

/// What a committed start gives the right to do: one call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The fencing token.
    pub attempt: AttemptId,
    /// Whose right it is.
    pub epoch: Epoch,
    /// For which job.
    pub job: JobId,
    /// Attempts before this one.
    pub attempts: u32,
    /// Those of them that count.
    pub counted_attempts: u32,
    /// What was set aside.
    pub reservation: Reservation,
}

/// A start to be written.
#[derive(Clone, Debug)]
pub struct NewAttempt {
    /// Which job.
    pub job: JobId,
    /// What is set aside.
    pub reservation: Reservation,
    /// Bytes of the body.
    pub body_bytes: i64,
    /// What held it back before.
    pub wait_reason: Option<Reason>,
}

/// A job that ends without a call: bad JSON, or a cost without bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// Which.
    pub job: JobId,
    /// `Fail` or `Hold`.
    pub event: JobEvent,
    /// For `error_class`.
    pub class: String,
    /// For people.
    pub error: String,
}

/// What becomes of a job after an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Next {
    /// What happened.
    pub event: JobEvent,
    /// For a requeued job: not before.
    pub at: Option<Timestamp>,
    /// Whether the attempt counts against `max_attempts`.
    pub counts: bool,
    /// Why, when it is no success.
    pub error_class: Option<String>,
    /// Why, for people.
    pub error: Option<String>,
}

/// An attempt's end, to be written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// The lease it ends.
    pub lease: Lease,
    /// What it cost.
    pub settlement: Settlement,
    /// The word for `attempts.outcome`.
    pub outcome: String,
    /// Of the response.
    pub http_status: Option<u16>,
    /// The provider's id.
    pub request_id: Option<String>,
    /// Why the attempt gave no answer.
    pub error_class: Option<String>,
    /// The same for people.
    pub error: Option<String>,
    /// As the provider says.
    pub usage: Option<Usage>,
    /// Why the model stopped.
    pub stop_reason: Option<String>,
    /// When the call was begun.
    pub sent_at: Option<Timestamp>,
    /// When the response head came.
    pub first_byte_at: Option<Timestamp>,
    /// When it was over.
    pub done_at: Timestamp,
    /// Rate-limit headers, JSON.
    pub headers: Option<String>,
    /// The answer: body and joined text.
    pub response: Option<(String, String)>,
    /// What becomes of the job.
    pub next: Next,
}

/// An attempt that an earlier daemon left open.
#[derive(Clone, Debug)]
pub struct OpenAttempt {
    /// Which.
    pub lease: Lease,
    /// The job's own `max_attempts`.
    pub max_attempts: Option<u32>,
}

/// What was found when a group of endings was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Jobs that finished, with their new state.
    pub finished: Vec<(JobId, JobState)>,
    /// Attempts that another epoch had settled before: the answer was kept all the same.
    pub lost: Vec<AttemptId>,
    /// A newer daemon has taken over: levels, budgets and gates were left as they are.
    pub fenced: bool,
}

/// The snapshot of one limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitSnapshot {
    /// The pool's name.
    pub pool: String,
    /// [`crate::domain::limit::Dimension`] as a word.
    pub dimension: String,
    /// [`crate::domain::limit::Per`] as a word.
    pub per: String,
    /// In one period.
    pub amount: i64,
    /// Who says so.
    pub source: String,
    /// `bucket` or `window`.
    pub algorithm: String,
    /// Of a bucket.
    pub burst_ms: Option<i64>,
    /// Whether the burst was learned.
    pub burst_learned: bool,
    /// What fits at all.
    pub capacity: i64,
    /// Of a bucket: tokens × period in milliseconds.
    pub level_shares: Option<i64>,
    /// Free at `as_of`; negative in debt.
    pub available: i64,
    /// Set aside for calls in flight.
    pub held: i64,
    /// What other users of the key take in one period.
    pub others: i64,
    /// When.
    pub as_of: Timestamp,
}

/// What was learned of the calls of a queue and model; an empty queue is the model's over all.
#[derive(Clone, Debug, PartialEq)]
pub struct EstimateRow {
    /// Whose.
    pub queue: String,
    /// What is asked.
    pub model: String,
    /// Answers whose length it stands on.
    pub answers: i64,
    /// Mean output as a part of `max_tokens`.
    pub output_part: Option<f64>,
    /// Bytes of body a token of input is.
    pub bytes_per_token: Option<f64>,
    /// Of one answer.
    pub tokens_per_second: Option<f64>,
    /// Until its first token.
    pub first_token_ms: Option<i64>,
    /// All of it, as JSON.
    pub learned: String,
    /// When.
    pub as_of: Timestamp,
}

/// The snapshot of one budget period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetSnapshot {
    /// The budget's key.
    pub budget: String,
    /// First moment of the period.
    pub period_start: Timestamp,
    /// First moment after it.
    pub period_end: Timestamp,
    /// In the budget's unit.
    pub cap: i64,
    /// Settled.
    pub spent: i64,
    /// Worst case of what is in flight.
    pub reserved: i64,
}

/// A shut gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateRow {
    /// A pool's name, or `*` for the account.
    pub name: String,
    /// Why.
    pub reason: String,
    /// Until when; `None`: until somebody acts.
    pub until: Option<Timestamp>,
}

/// What a group of changes leaves the ledger at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshots {
    /// Of the pools that changed.
    pub limits: Vec<LimitSnapshot>,
    /// All budgets.
    pub budgets: Vec<BudgetSnapshot>,
    /// All that are shut; `None`: leave what is there.
    pub gates: Option<Vec<GateRow>>,
    /// Of the queues and models something was learned of.
    pub estimates: Vec<EstimateRow>,
}

/// A settled call that a window may still count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastCall {
    /// What was asked.
    pub model: String,
    /// Sum of calls.
    pub requests: i64,
    /// Sum of limited input.
    pub input_tokens: i64,
    /// Sum of output.
    pub output_tokens: i64,
    /// The latest of the slot.
    pub counted_at: Timestamp,
}

/// An output mode from its word in the database.
pub(crate) fn output_mode(word: &str) -> OutputMode {
    if word == "reserve" { OutputMode::Reserve } else { OutputMode::Realtime }
}
