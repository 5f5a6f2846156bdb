//! From replies to rows: what each ended call means for its job and for the ledger.

use super::executor::Finished;
use crate::claude::request::BODY_BYTES_MAX;
use crate::domain::attempt::{Failure, Outcome};
use crate::domain::continuation::{Bounds, SoFar, goes_on};
use crate::domain::gate::Gate;
use crate::domain::job::JobEvent;
use crate::domain::reservation::Settlement;
use crate::domain::retry::{Before, RetryPolicy, Verdict, rule};
use crate::domain::time::{Timestamp, Unit};
use crate::store::{Ending, Lease, Next};

/// The row of a call that is over; `spared`: see [`Before`].
pub(super) fn ending(
    finished: &Finished,
    spared: bool,
    policy: &RetryPolicy,
    now: Timestamp,
    jitter: Unit,
) -> Ending {
    let reply = &finished.reply;
    let policy = own_policy(policy, finished.max_attempts);
    let mut settlement = Settlement::of(reply, &finished.lease.reservation);
    // The reply was stamped by the machine's clock, which may have jumped; the ledger's did not.
    if !(finished.lease.reservation.reserved_at..=now).contains(&settlement.counted_at) {
        settlement.counted_at = now;
    }
    settlement.taken_in_at = settlement.taken_in_at.min(settlement.counted_at);
    if settlement.taken_in_at < finished.lease.reservation.reserved_at {
        settlement.taken_in_at = settlement.counted_at;
    }
    let mut ending = Ending {
        lease: finished.lease.clone(),
        settlement,
        outcome: reply.outcome.word().into(),
        http_status: reply.http_status,
        request_id: reply.request_id.clone(),
        error_class: None,
        error: None,
        usage: None,
        stop_reason: None,
        sent_at: finished.sent_at,
        first_byte_at: reply.first_byte_at,
        done_at: reply.done_at,
        headers: reply.headers.clone(),
        response: None,
        next: next(&reply.outcome, before(&finished.lease, spared), &policy, now, jitter),
    };
    match &reply.outcome {
        Outcome::Completed(answer) => {
            ending.usage = answer.usage;
            ending.stop_reason.clone_from(&answer.stop_reason);
            // Each part is kept with all before it: whatever becomes of the job, that is its answer.
            ending.response = Some(match &finished.parts {
                Some(parts) => parts.and(answer),
                None => (answer.body.clone(), answer.text.clone()),
            });
            if goes_on(answer, so_far(finished), bounds(&policy)) {
                ending.next = Next { event: JobEvent::Continue, counts: false, ..ending.next };
            }
        }
        Outcome::Failed(failure) | Outcome::Unknown(failure) => {
            ending.error_class = Some(failure.class.to_string());
            ending.error = Some(failure.message.clone());
        }
    }
    ending
}

/// A failed probe lets another job be the next one, lest one that always fails keeps a gate shut
/// before all the others: its retry comes after the gate's, however short its own delay is.
pub(super) fn give_way(ending: &mut Ending, gate: &Gate, now: Timestamp) {
    if let (Some((Some(until), _)), Some(at)) = (gate.closed(), ending.next.at) {
        ending.next.at = Some(at.max(until + at.since(now)));
    }
}

/// The row of an attempt that an earlier daemon left in flight: nobody knows its fate.
pub(super) fn abandoned(
    lease: &Lease,
    max_attempts: Option<u32>,
    policy: &RetryPolicy,
    now: Timestamp,
    jitter: Unit,
) -> Ending {
    let failure = Failure {
        kind: crate::domain::attempt::FailureKind::Transient { retry_after: None },
        class: "unknown".into(),
        message: "the daemon ended while the call was in flight; it may have been billed".into(),
    };
    let outcome = Outcome::Unknown(failure.clone());
    let policy = own_policy(policy, max_attempts);
    Ending {
        lease: lease.clone(),
        settlement: Settlement::assumed_spent(&lease.reservation, now),
        outcome: outcome.word().into(),
        http_status: None,
        request_id: None,
        error_class: Some(failure.class.to_string()),
        error: Some(failure.message.clone()),
        usage: None,
        stop_reason: None,
        sent_at: None,
        first_byte_at: None,
        done_at: now,
        headers: None,
        response: None,
        next: next(&outcome, before(lease, false), &policy, now, jitter),
    }
}

fn so_far(finished: &Finished) -> SoFar {
    let calls = finished.parts.as_ref().map_or(0, |parts| parts.calls());
    SoFar { calls, body_bytes: finished.body_bytes }
}

#[expect(clippy::cast_possible_wrap, reason = "32 MiB")]
fn bounds(policy: &RetryPolicy) -> Bounds {
    Bounds { calls: policy.max_continuations, body_bytes: BODY_BYTES_MAX as i64 }
}

fn before(lease: &Lease, spared: bool) -> Before {
    Before { calls: lease.attempts, counted: lease.counted_attempts, spared }
}

fn own_policy(policy: &RetryPolicy, max_attempts: Option<u32>) -> RetryPolicy {
    RetryPolicy { max_attempts: max_attempts.unwrap_or(policy.max_attempts), ..*policy }
}

fn next(
    outcome: &Outcome,
    before: Before,
    policy: &RetryPolicy,
    now: Timestamp,
    jitter: Unit,
) -> Next {
    let failure = match outcome {
        Outcome::Completed(answer) if answer.is_refusal() => {
            return Next {
                event: JobEvent::Fail,
                at: None,
                counts: true,
                error_class: Some("refusal".into()),
                error: Some("the model refused to answer; the response says more".into()),
            };
        }
        Outcome::Completed(_) => {
            return Next {
                event: JobEvent::Succeed,
                at: None,
                counts: true,
                error_class: None,
                error: None,
            };
        }
        Outcome::Failed(failure) | Outcome::Unknown(failure) => failure,
    };
    let ruling = rule(outcome, before, policy, now, jitter);
    let (event, at) = match ruling.map(|ruling| ruling.verdict) {
        Some(Verdict::RetryAt(at)) => (JobEvent::Requeue, Some(at)),
        Some(Verdict::GiveUp) => (JobEvent::Fail, None),
        Some(Verdict::Hold) => (JobEvent::Hold, None),
        Some(Verdict::Requeue) | None => (JobEvent::Requeue, None),
    };
    Next {
        event,
        at,
        counts: ruling.is_some_and(|ruling| ruling.counts),
        error_class: Some(failure.class.to_string()),
        error: Some(failure.message.clone()),
    }
}
