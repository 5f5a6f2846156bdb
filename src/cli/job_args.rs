//! What a job may be given on the command line, one by one or as the default of many.

use super::when::{When, parse_future};
use crate::domain::time::Timestamp;
use crate::store::Defaults;
use clap::Args;

/// Columns of `jobs` as options.
#[derive(Args, Clone, Debug)]
pub(crate) struct JobArgs {
    /// Model [default: the queue's, then the configuration's]
    #[arg(long)]
    model: Option<String>,
    /// Most tokens of the answer
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    max_tokens: Option<i64>,
    /// System prompt
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Queue
    #[arg(long, value_name = "NAME", default_value = "default")]
    queue: String,
    /// A label to wait for, list and export by
    #[arg(long, value_name = "NAME")]
    batch: Option<String>,
    /// From -100 to 100, higher goes first
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    priority: i64,
    /// Not before: a duration from now, such as 2h, or a time, such as 2026-09-01T06:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = parse_future)]
    run_at: Option<When>,
    /// No new attempt after: as --run-at
    #[arg(long, value_name = "WHEN", value_parser = parse_future)]
    expires_at: Option<When>,
    /// Attempts before it fails [default: the configuration's]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    max_attempts: Option<i64>,
}

impl JobArgs {
    /// As values.
    pub(crate) fn values(&self, now: Timestamp) -> Defaults {
        Defaults {
            system: self.system.clone(),
            model: self.model.clone(),
            max_tokens: self.max_tokens,
            queue: self.queue.clone(),
            priority: self.priority,
            batch: self.batch.clone(),
            run_at: self.run_at.map(|when| when.at(now)),
            expires_at: self.expires_at.map(|when| when.at(now)),
            max_attempts: self.max_attempts,
        }
    }
}
