//! What people look at, as plain rows.

use crate::domain::time::Timestamp;
use serde::Serialize;

/// How many jobs are in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Ready, delayed or retrying.
    pub queued: i64,
    /// In flight.
    pub running: i64,
    /// With an answer.
    pub succeeded: i64,
    /// Without.
    pub failed: i64,
    /// By request.
    pub cancelled: i64,
    /// For a person.
    pub held: i64,
}

impl Counts {
    /// Every job.
    pub fn total(&self) -> i64 {
        self.queued + self.running + self.finished() + self.held
    }

    /// Succeeded, failed or cancelled.
    pub fn finished(&self) -> i64 {
        self.succeeded + self.failed + self.cancelled
    }

    pub(crate) fn set(&mut self, state: &str, jobs: i64) {
        match state {
            "queued" => self.queued = jobs,
            "running" => self.running = jobs,
            "succeeded" => self.succeeded = jobs,
            "failed" => self.failed = jobs,
            "cancelled" => self.cancelled = jobs,
            "held" => self.held = jobs,
            _ => {}
        }
    }
}

/// What is left to do. What has finished is not counted: that would take longer and longer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outlook {
    /// Ready, delayed or retrying.
    pub queued: i64,
    /// In flight.
    pub running: i64,
    /// Whether some of the queued wait for a time.
    pub timed: bool,
    /// Whether a job waits for a person.
    pub held: bool,
}

/// Queued jobs that wait for a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Timed {
    /// All of them.
    pub timed: i64,
    /// Those that were tried before.
    pub retrying: i64,
    /// When the first is due.
    pub next_at: Option<Timestamp>,
}

/// Jobs of one error class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FailureCount {
    /// Its word.
    pub error_class: String,
    /// How many.
    pub jobs: i64,
}

/// A queue with work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QueueCount {
    /// Its name.
    pub queue: String,
    /// Queued and running.
    pub jobs: i64,
    /// In flight.
    pub running: i64,
}

/// The latest daemon's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaemonRow {
    /// Its number.
    pub epoch: i64,
    /// Its process.
    pub pid: i64,
    /// Its machine.
    pub host: String,
    /// Its version.
    pub version: String,
    /// When it began.
    pub started_at: Timestamp,
    /// When it last spoke.
    pub heartbeat_at: Timestamp,
    /// When it ended in order.
    pub stopped_at: Option<Timestamp>,
    /// What it says of itself, JSON.
    pub report: Option<String>,
}

/// What a pool used in a stretch of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsedRow {
    /// The pool's name.
    pub pool: String,
    /// Calls.
    pub requests: i64,
    /// Limited input.
    pub input_tokens: i64,
    /// Output.
    pub output_tokens: i64,
}

/// Queued jobs of one queue and priority, and some of them by way of example.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BacklogGroup {
    /// Their queue.
    pub queue: String,
    /// Their priority.
    pub priority: i64,
    /// When the first and the last of them may start; `None`: at once.
    pub due: Option<(Timestamp, Timestamp)>,
    /// How many.
    pub jobs: i64,
    /// Some of them, spread over all; none when there are very many groups.
    pub samples: Vec<JobSample>,
}

/// What one job is like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobSample {
    /// Bytes of prompt, request and system prompt.
    pub bytes: i64,
    /// The model it names.
    pub model: Option<String>,
    /// The `max_tokens` it names.
    pub max_tokens: Option<i64>,
    /// Whether it is a whole body.
    pub is_request: bool,
    /// Whether it has a system prompt of its own.
    pub has_system: bool,
}

/// Calls in flight of one queue and model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenGroup {
    /// Their queue.
    pub queue: String,
    /// Their model.
    pub model: String,
    /// How many.
    pub calls: i64,
    /// Bytes of their bodies, on average.
    pub body_bytes: i64,
    /// Their `max_tokens`, on average.
    pub max_tokens: i64,
}

/// What is left to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Queued, the largest group first.
    pub groups: Vec<BacklogGroup>,
    /// In flight, or left so by a daemon that was killed.
    pub open: Vec<OpenGroup>,
}

/// What calls cost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SpentRow {
    /// Whose; empty for the sum.
    pub model: String,
    /// Calls made.
    pub calls: i64,
    /// Money: settled, and worst case for what is in flight or unknown.
    pub nanousd: i64,
    /// Limited input.
    pub input_tokens: i64,
    /// Output.
    pub output_tokens: i64,
    /// Calls of models without a price.
    pub unpriced: i64,
}

impl SpentRow {
    /// All of them together.
    pub fn sum(rows: &[SpentRow]) -> SpentRow {
        let mut sum = SpentRow::default();
        for row in rows {
            sum.calls += row.calls;
            sum.nanousd = sum.nanousd.saturating_add(row.nanousd);
            sum.input_tokens = sum.input_tokens.saturating_add(row.input_tokens);
            sum.output_tokens = sum.output_tokens.saturating_add(row.output_tokens);
            sum.unpriced += row.unpriced;
        }
        sum
    }
}

/// A row of the view `results`.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the columns of the view, documented there")]
pub struct ResultRow {
    pub seq: i64,
    pub id: i64,
    pub key: Option<String>,
    pub queue: String,
    pub batch: Option<String>,
    pub state: String,
    pub text: Option<String>,
    pub response: Option<Box<serde_json::value::RawValue>>,
    pub stop_reason: Option<String>,
    pub error_class: Option<String>,
    pub error: Option<String>,
    pub attempts: i64,
    pub model: Option<String>,
    pub input_tokens: Option<i64>,
    pub output_tokens: Option<i64>,
    pub cache_read_tokens: Option<i64>,
    pub cache_write_tokens: Option<i64>,
    pub cost_usd: Option<f64>,
    pub created_at: i64,
    pub finished_at: i64,
    pub metadata: Option<String>,
    /// The provider's id of the last call; the view has none.
    #[serde(skip)]
    pub request_id: Option<String>,
}

/// A line of `claudeq list`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the columns of the view job_list")]
pub struct JobListRow {
    pub id: i64,
    pub key: Option<String>,
    pub queue: String,
    pub batch: Option<String>,
    pub priority: i64,
    pub state: String,
    pub attempts: i64,
    pub next_attempt_at: Option<i64>,
    pub error_class: Option<String>,
    pub error: Option<String>,
    pub cancel_requested: i64,
    pub created_at: i64,
    pub finished_at: Option<i64>,
    pub seq: Option<i64>,
}

/// Everything about one job.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the columns of jobs and job_state")]
pub struct JobDetail {
    pub id: i64,
    pub state: String,
    pub queue: String,
    pub batch: Option<String>,
    pub key: Option<String>,
    pub priority: i64,
    pub model: Option<String>,
    pub max_tokens: Option<i64>,
    pub retry_max_tokens: Option<i64>,
    pub system: Option<String>,
    pub prompt: Option<String>,
    pub request: Option<String>,
    pub metadata: Option<String>,
    pub run_at: Option<i64>,
    pub expires_at: Option<i64>,
    pub max_attempts: Option<i64>,
    pub cancel_requested: i64,
    pub created_at: i64,
    pub attempts: i64,
    pub next_attempt_at: Option<i64>,
    pub error_class: Option<String>,
    pub error: Option<String>,
    pub finished_at: Option<i64>,
    pub seq: Option<i64>,
    pub stop_reason: Option<String>,
    pub text: Option<String>,
    pub response: Option<Box<serde_json::value::RawValue>>,
    pub cost_usd: Option<f64>,
}

/// A line of `claudeq attempts`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the columns of the table attempts")]
pub struct AttemptRow {
    pub id: i64,
    pub job_id: i64,
    pub number: i64,
    pub epoch: i64,
    pub pool: String,
    pub model: String,
    pub outcome: Option<String>,
    pub settlement: Option<String>,
    pub http_status: Option<i64>,
    pub request_id: Option<String>,
    pub error_class: Option<String>,
    pub error: Option<String>,
    pub stop_reason: Option<String>,
    pub input_tokens: Option<i64>,
    pub output_tokens: Option<i64>,
    pub cache_read_tokens: Option<i64>,
    pub cache_write_tokens: Option<i64>,
    pub cost_usd: Option<f64>,
    pub reserved_at: i64,
    pub sent_at: Option<i64>,
    pub first_byte_at: Option<i64>,
    pub done_at: Option<i64>,
    pub wait_reason: Option<String>,
}
