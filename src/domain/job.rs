//! A job: what a producer inserts, and the states it goes through.
//!
//! Invariant: [`JobState::next`] is the only place that says which state follows which;
//! the schema repeats the states as CHECKs.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A job's row id, 1 … 2^53−1, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(pub i64);

/// An attempt's row id: the fencing token of its lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AttemptId(pub i64);

/// The number of a daemon's life; grows with each start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub i64);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What queues and pools may be called: 1 to 200 printable ASCII characters, and not `*`, which stands for
/// every queue. The schema says the same.
pub fn is_plain_name(name: &str) -> bool {
    (1..=200).contains(&name.len())
        && name.bytes().all(|byte| (b' '..=b'~').contains(&byte))
        && name != "*"
}

/// Where a job is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// Waits: ready, delayed, or between two attempts.
    Queued,
    /// An attempt is in flight.
    Running,
    /// Ended with an answer.
    Succeeded,
    /// Ended without a usable answer.
    Failed,
    /// Ended because somebody asked for it.
    Cancelled,
    /// Waits for a person.
    Held,
}

/// What happens to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobEvent {
    /// An attempt begins.
    Lease,
    /// The answer is there.
    Succeed,
    /// No further attempt will be made.
    Fail,
    /// Back to its place: another attempt follows.
    Requeue,
    /// Back to its place with a part of its answer: another call goes on with that.
    Continue,
    /// A person must look at it.
    Hold,
    /// A person let it go on.
    Release,
    /// Somebody does not want it any more.
    Cancel,
    /// A person wants a finished job run again.
    Retry,
}

/// An event that makes no sense in a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a job that is {state} cannot {event:?}")]
pub struct Refused {
    /// Where the job was.
    pub state: JobState,
    /// What was asked.
    pub event: JobEvent,
}

impl JobState {
    /// Every state, in the order in which people read them.
    pub const ALL: [JobState; 6] = [
        JobState::Queued,
        JobState::Running,
        JobState::Succeeded,
        JobState::Failed,
        JobState::Cancelled,
        JobState::Held,
    ];

    /// The state after `event`.
    ///
    /// # Errors
    /// [`Refused`] when the event makes no sense in this state.
    pub fn next(self, event: JobEvent) -> Result<JobState, Refused> {
        use JobEvent as E;
        use JobState as S;
        match (self, event) {
            (S::Queued, E::Lease) => Ok(S::Running),
            (S::Running, E::Succeed) => Ok(S::Succeeded),
            (S::Running | S::Queued, E::Fail) => Ok(S::Failed),
            (S::Running, E::Requeue | E::Continue) => Ok(S::Queued),
            (S::Running | S::Queued, E::Hold) => Ok(S::Held),
            (S::Held, E::Release) => Ok(S::Queued),
            (S::Queued | S::Held | S::Running, E::Cancel) => Ok(S::Cancelled),
            (S::Succeeded | S::Failed | S::Cancelled, E::Retry) => Ok(S::Queued),
            (state, event) => Err(Refused { state, event }),
        }
    }

    /// Succeeded, failed or cancelled.
    pub fn is_finished(self) -> bool {
        matches!(self, JobState::Succeeded | JobState::Failed | JobState::Cancelled)
    }

    /// Whether nobody would notice if the job were another one: it waits, and no call was made
    /// for it. One that a person holds back, or that has ended, is looked at.
    pub fn is_untouched(self, attempts: i64) -> bool {
        self == JobState::Queued && attempts == 0
    }

    /// The word in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            JobState::Queued => "queued",
            JobState::Running => "running",
            JobState::Succeeded => "succeeded",
            JobState::Failed => "failed",
            JobState::Cancelled => "cancelled",
            JobState::Held => "held",
        }
    }

    /// Reads the word in the database.
    pub fn parse(word: &str) -> Option<JobState> {
        JobState::ALL.into_iter().find(|state| state.as_str() == word)
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_round_trip() {
        for state in JobState::ALL {
            assert_eq!(JobState::parse(state.as_str()), Some(state));
        }
        assert_eq!(JobState::parse("done"), None);
    }

    #[test]
    fn finished_jobs_only_come_back_by_retry() {
        let events = [
            JobEvent::Lease,
            JobEvent::Succeed,
            JobEvent::Fail,
            JobEvent::Requeue,
            JobEvent::Continue,
            JobEvent::Hold,
            JobEvent::Release,
            JobEvent::Cancel,
        ];
        for state in JobState::ALL.into_iter().filter(|state| state.is_finished()) {
            assert_eq!(state.next(JobEvent::Retry), Ok(JobState::Queued));
            for event in events {
                assert_eq!(state.next(event), Err(Refused { state, event }));
            }
        }
    }

    #[test]
    fn only_a_job_that_waits_for_its_first_call_is_untouched() {
        let untouched = |state: &JobState| state.is_untouched(0);
        let those: Vec<JobState> = JobState::ALL.into_iter().filter(untouched).collect();
        assert_eq!(those, [JobState::Queued]);
        assert!(!JobState::Queued.is_untouched(1));
    }

    #[test]
    fn a_held_job_never_runs_unreleased() {
        assert!(JobState::Held.next(JobEvent::Lease).is_err());
        assert_eq!(JobState::Held.next(JobEvent::Release), Ok(JobState::Queued));
    }
}
