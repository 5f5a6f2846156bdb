//! What becomes of a job whose attempt gave no answer.
//!
//! Invariant: limits, pauses, overload, spend limits, rejected keys, shutdowns and calls that did
//! not reach the API never use up an attempt, nor do the probes of a provider that ails.

use super::attempt::{Failure, FailureKind, Outcome};
use super::gate::{RETRY_AFTER_MAX, spread};
use super::time::{Millis, Timestamp, Unit};

/// A refused job keeps its place in the queue after so many calls.
const REFUSALS_IN_PLACE: u32 = 3;

/// Exponential backoff.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Before the second attempt.
    pub base: Millis,
    /// Never longer.
    pub max: Millis,
}

impl Backoff {
    /// The delay after `failures` counted failures (from 1), drawn between half and whole.
    pub fn delay(&self, failures: u32, jitter: Unit) -> Millis {
        let doubled = self.base.0.saturating_mul(1_i64 << failures.saturating_sub(1).min(30));
        let whole = Millis(doubled.min(self.max.0));
        Millis(whole.0 - spread(Millis(whole.0 / 2), jitter).0)
    }
}

/// What to do with a job whose call may or may not have been billed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnUnknown {
    /// Call again.
    Retry,
    /// Let a person decide.
    Hold,
}

/// The rules of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Counted attempts before it fails.
    pub max_attempts: u32,
    /// Delays between them.
    pub backoff: Backoff,
    /// See [`OnUnknown`].
    pub on_unknown: OnUnknown,
    /// Calls that go on with a paused turn, at the most (see
    /// [`goes_on`](super::continuation::goes_on)).
    pub max_continuations: u32,
}

/// What follows for the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Back to its place in the queue; the gate of its pool decides when.
    Requeue,
    /// Not before this time.
    RetryAt(Timestamp),
    /// It has failed.
    GiveUp,
    /// A person must decide.
    Hold,
}

/// A verdict, and whether the attempt counts against `max_attempts`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ruling {
    /// What follows.
    pub verdict: Verdict,
    /// Whether an attempt was used up.
    pub counts: bool,
}

/// Attempts of a job before the one that is ruled on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Before {
    /// Calls made.
    pub calls: u32,
    /// Those that count against `max_attempts`.
    pub counted: u32,
    /// Whether this one was the probe of a provider that ails: that it failed says nothing of the
    /// job (see [`Gate::spares`](super::gate::Gate::spares)).
    pub spared: bool,
}

/// Rules on an attempt that gave no answer.
///
/// `None` for an answer: there is nothing to retry.
pub fn rule(
    outcome: &Outcome,
    before: Before,
    policy: &RetryPolicy,
    now: Timestamp,
    jitter: Unit,
) -> Option<Ruling> {
    match outcome {
        Outcome::Completed(_) => None,
        Outcome::Unknown(failure) => Some(unknown(failure, before.counted, policy, now, jitter)),
        Outcome::Failed(failure) => Some(failed(failure, before, policy, now, jitter)),
    }
}

fn unknown(
    failure: &Failure,
    counted: u32,
    policy: &RetryPolicy,
    now: Timestamp,
    jitter: Unit,
) -> Ruling {
    let interrupted = failure.kind == FailureKind::Interrupted;
    if failure.kind == FailureKind::Permanent {
        // Charged, perhaps, and surely the same again: an answer above the size limit.
        return Ruling { verdict: Verdict::GiveUp, counts: true };
    }
    match policy.on_unknown {
        OnUnknown::Hold => Ruling { verdict: Verdict::Hold, counts: !interrupted },
        OnUnknown::Retry if interrupted => Ruling { verdict: Verdict::Requeue, counts: false },
        OnUnknown::Retry => counted_retry(wish(&failure.kind), counted, policy, now, jitter),
    }
}

fn failed(
    failure: &Failure,
    before: Before,
    policy: &RetryPolicy,
    now: Timestamp,
    jitter: Unit,
) -> Ruling {
    match &failure.kind {
        // What is refused again and again may be too large for its limit: others go first.
        FailureKind::RateLimited { retry_after, .. } if before.calls >= REFUSALS_IN_PLACE => {
            let pause = retry_after.unwrap_or(Millis::ZERO).min(RETRY_AFTER_MAX);
            let later = policy.backoff.delay(before.calls - REFUSALS_IN_PLACE + 1, jitter);
            Ruling { verdict: Verdict::RetryAt(now + pause + later), counts: false }
        }
        FailureKind::RateLimited { .. }
        | FailureKind::AccountParked { .. }
        | FailureKind::KeyRejected
        | FailureKind::Interrupted => Ruling { verdict: Verdict::Requeue, counts: false },
        FailureKind::Overloaded { retry_after } => {
            let wait = at_least(policy.backoff.delay(1, jitter), *retry_after);
            Ruling { verdict: Verdict::RetryAt(now + wait), counts: false }
        }
        FailureKind::Transient { retry_after } if before.spared => {
            let wait = policy.backoff.delay(before.calls.saturating_add(1), jitter);
            let wait = at_least(wait, *retry_after);
            Ruling { verdict: Verdict::RetryAt(now + wait), counts: false }
        }
        FailureKind::Transient { retry_after } => {
            counted_retry(*retry_after, before.counted, policy, now, jitter)
        }
        FailureKind::NotReached => {
            // Some firewall may refuse this job alone: it asks less and less often.
            let wait = policy.backoff.delay(before.calls.saturating_add(1), jitter);
            Ruling { verdict: Verdict::RetryAt(now + wait), counts: false }
        }
        FailureKind::Permanent => Ruling { verdict: Verdict::GiveUp, counts: true },
    }
}

fn counted_retry(
    retry_after: Option<Millis>,
    counted: u32,
    policy: &RetryPolicy,
    now: Timestamp,
    jitter: Unit,
) -> Ruling {
    let failures = counted.saturating_add(1);
    if failures >= policy.max_attempts {
        return Ruling { verdict: Verdict::GiveUp, counts: true };
    }
    let wait = at_least(policy.backoff.delay(failures, jitter), retry_after);
    Ruling { verdict: Verdict::RetryAt(now + wait), counts: true }
}

/// A gateway that gave up on a call says when to come back.
fn wish(kind: &FailureKind) -> Option<Millis> {
    match kind {
        FailureKind::Transient { retry_after } => *retry_after,
        _ => None,
    }
}

fn at_least(delay: Millis, wish: Option<Millis>) -> Millis {
    wish.map_or(delay, |wish| delay.max(wish.min(RETRY_AFTER_MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);
    const POLICY: RetryPolicy = RetryPolicy {
        max_attempts: 3,
        backoff: Backoff { base: Millis::SECOND, max: Millis::MINUTE },
        on_unknown: OnUnknown::Retry,
        max_continuations: 8,
    };

    fn fail(kind: FailureKind) -> Outcome {
        Outcome::Failed(Failure { kind, class: "x".into(), message: String::new() })
    }

    fn rule_on(outcome: &Outcome, counted: u32) -> Ruling {
        let before = Before { calls: counted, counted, spared: false };
        rule(outcome, before, &POLICY, NOW, Unit::ZERO).unwrap()
    }

    #[test]
    fn what_is_nobodys_fault_never_counts() {
        for kind in [
            FailureKind::RateLimited { retry_after: None, limit: None, ramp: false },
            FailureKind::Overloaded { retry_after: None },
            FailureKind::AccountParked { until: None },
            FailureKind::KeyRejected,
            FailureKind::NotReached,
            FailureKind::Interrupted,
        ] {
            let ruling = rule_on(&fail(kind.clone()), 1_000);
            assert!(!ruling.counts, "{kind:?}");
            assert_ne!(ruling.verdict, Verdict::GiveUp, "{kind:?}");
        }
    }

    #[test]
    fn a_failed_probe_says_nothing_of_its_job_while_the_provider_ails() {
        let transient = fail(FailureKind::Transient { retry_after: None });
        let before = Before { calls: 40, counted: 2, spared: true };
        let ruling = rule(&transient, before, &POLICY, NOW, Unit::ZERO).unwrap();
        assert_eq!(ruling.verdict, Verdict::RetryAt(NOW + Millis::MINUTE));
        assert!(!ruling.counts);
        // It may have been billed: that must end.
        let Outcome::Failed(failure) = transient else { panic!() };
        let ruling = rule(&Outcome::Unknown(failure), before, &POLICY, NOW, Unit::ZERO).unwrap();
        assert_eq!(ruling, Ruling { verdict: Verdict::GiveUp, counts: true });
        let permanent = fail(FailureKind::Permanent);
        let ruling = rule(&permanent, before, &POLICY, NOW, Unit::ZERO).unwrap();
        assert_eq!(ruling, Ruling { verdict: Verdict::GiveUp, counts: true });
    }

    #[test]
    fn what_is_refused_again_and_again_lets_others_go_first() {
        let retry_after = Some(Millis::from_secs(5));
        let refused = fail(FailureKind::RateLimited { retry_after, limit: None, ramp: false });
        for calls in 0..3 {
            assert_eq!(rule_on(&refused, calls).verdict, Verdict::Requeue, "{calls}");
        }
        for (calls, secs) in [(3, 6), (4, 7), (5, 9), (90, 65)] {
            let at = NOW + Millis::from_secs(secs);
            assert_eq!(rule_on(&refused, calls).verdict, Verdict::RetryAt(at), "{calls}");
        }
    }

    #[test]
    fn transient_failures_back_off_and_end() {
        let transient = fail(FailureKind::Transient { retry_after: None });
        let second = rule_on(&transient, 0);
        assert_eq!(second.verdict, Verdict::RetryAt(NOW + Millis::SECOND));
        let third = rule_on(&transient, 1);
        assert_eq!(third.verdict, Verdict::RetryAt(NOW + Millis::from_secs(2)));
        assert_eq!(rule_on(&transient, 2).verdict, Verdict::GiveUp);
    }

    #[test]
    fn a_job_that_kills_the_daemon_ends() {
        let killed = Failure {
            kind: FailureKind::Transient { retry_after: None },
            class: "unknown".into(),
            message: String::new(),
        };
        assert_eq!(rule_on(&Outcome::Unknown(killed.clone()), 2).verdict, Verdict::GiveUp);
        let hold = RetryPolicy { on_unknown: OnUnknown::Hold, ..POLICY };
        let before = Before::default();
        let ruling = rule(&Outcome::Unknown(killed), before, &hold, NOW, Unit::ZERO).unwrap();
        assert_eq!(ruling.verdict, Verdict::Hold);
    }

    #[test]
    fn what_did_not_reach_the_api_is_asked_less_and_less_often() {
        let lost = fail(FailureKind::NotReached);
        for (calls, secs) in [(0, 1), (1, 2), (3, 8), (40, 60)] {
            let before = Before { calls, ..Before::default() };
            let ruling = rule(&lost, before, &POLICY, NOW, Unit::ZERO).unwrap();
            assert_eq!(ruling.verdict, Verdict::RetryAt(NOW + Millis::from_secs(secs)), "{calls}");
        }
    }

    #[test]
    fn the_providers_wish_is_kept_but_clamped() {
        let wish =
            |secs| fail(FailureKind::Overloaded { retry_after: Some(Millis::from_secs(secs)) });
        assert_eq!(rule_on(&wish(30), 0).verdict, Verdict::RetryAt(NOW + Millis::from_secs(30)));
        assert_eq!(rule_on(&wish(9_999_999), 0).verdict, Verdict::RetryAt(NOW + RETRY_AFTER_MAX));
    }

    /// A gateway that gave up says when to come back, though not what became of the call.
    #[test]
    fn the_wish_is_kept_when_the_fate_is_unknown() {
        let wish = |secs| {
            Outcome::Unknown(Failure {
                kind: FailureKind::Transient { retry_after: Some(Millis::from_secs(secs)) },
                class: "timeout".into(),
                message: String::new(),
            })
        };
        assert_eq!(rule_on(&wish(30), 0).verdict, Verdict::RetryAt(NOW + Millis::from_secs(30)));
        assert_eq!(rule_on(&wish(9_999_999), 0).verdict, Verdict::RetryAt(NOW + RETRY_AFTER_MAX));
        assert_eq!(rule_on(&wish(0), 0).verdict, Verdict::RetryAt(NOW + Millis::SECOND));
    }

    #[test]
    fn backoff_lies_between_half_and_whole_and_is_capped() {
        let backoff = POLICY.backoff;
        for failures in 1..80 {
            let whole = backoff.delay(failures, Unit::ZERO);
            let half = backoff.delay(failures, Unit::new(1.0));
            assert!(whole <= backoff.max && half.0 >= whole.0 / 2, "{failures}");
        }
    }
}
