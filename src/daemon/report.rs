//! What the daemon says of itself, written with its heartbeat and read by `claudeq status`.

use crate::domain::forecast::Forecast;
use crate::domain::reason::Reason;
use crate::domain::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The daemon's view of things at `as_of`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// When it was written.
    pub as_of: Timestamp,
    /// `running`, `draining`.
    pub phase: Phase,
    /// Where it calls.
    pub base_url: String,
    /// Calls out now.
    pub in_flight: u32,
    /// Calls that may be out.
    pub max_in_flight: u32,
    /// What holds back the first job that waits; `None`: nothing waits, or it starts at once.
    pub held_back_by: Option<Reason>,
    /// How many of the jobs in sight wait for what.
    pub held_back: BTreeMap<Reason, usize>,
    /// When the queue will be empty and what it will have cost; `None`: not looked at yet.
    pub forecast: Option<Forecast>,
    /// Jobs finished a minute, lately.
    pub jobs_per_minute: i64,
    /// What is wrong, in a sentence: the database is locked, the key was rejected …
    pub trouble: Option<String>,
}

/// Where the daemon is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Starts calls.
    #[default]
    Running,
    /// Lets calls end, starts none.
    Draining,
    /// Has ended in order.
    Stopped,
}
