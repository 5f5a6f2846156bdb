//! What holds a job back, for status, metrics and the record.

use super::gate::Closed;
use super::limit::Dimension;
use serde::{Deserialize, Serialize};

/// What holds a job back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The limit on calls.
    Requests,
    /// The limit on input.
    InputTokens,
    /// The limit on output.
    OutputTokens,
    /// A limit on input and output together.
    Tokens,
    /// No permit is free, or the queue has all it may have.
    Concurrency,
    /// A budget is used up.
    Budget,
    /// A 429's pause.
    Pause,
    /// Somebody paused the queue.
    Paused,
    /// The provider ails.
    Provider,
    /// The account reached a spend limit.
    Account,
    /// The key was rejected.
    Key,
    /// Its time has not come.
    Schedule,
}

impl Reason {
    /// Whether only a person, or the calendar, can end the wait.
    pub fn needs_a_person(self) -> bool {
        matches!(self, Reason::Paused | Reason::Budget | Reason::Account | Reason::Key)
    }

    /// The word in the database and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Requests => "requests",
            Reason::InputTokens => "input_tokens",
            Reason::OutputTokens => "output_tokens",
            Reason::Tokens => "tokens",
            Reason::Concurrency => "concurrency",
            Reason::Budget => "budget",
            Reason::Pause => "pause",
            Reason::Paused => "paused",
            Reason::Provider => "provider",
            Reason::Account => "account",
            Reason::Key => "key",
            Reason::Schedule => "schedule",
        }
    }
}

impl From<Dimension> for Reason {
    fn from(dimension: Dimension) -> Reason {
        match dimension {
            Dimension::Requests => Reason::Requests,
            Dimension::InputTokens => Reason::InputTokens,
            Dimension::OutputTokens => Reason::OutputTokens,
            Dimension::Tokens => Reason::Tokens,
        }
    }
}

impl From<Closed> for Reason {
    fn from(closed: Closed) -> Reason {
        match closed {
            Closed::Pause => Reason::Pause,
            Closed::Provider => Reason::Provider,
            Closed::Account => Reason::Account,
            Closed::Key => Reason::Key,
        }
    }
}
