//! One call: sent once, its reply handed back with lease and permit.
//!
//! Invariant: the permit travels with the attempt and is dropped only after its settlement is
//! committed.

use crate::claude::{Client, Parts, Sight};
use crate::clock::Clock;
use crate::domain::attempt::{Failure, FailureKind, Outcome, Reply};
use crate::domain::job::JobId;
use crate::domain::time::Timestamp;
use crate::store::Lease;
use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

/// A call to make.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) lease: Lease,
    pub(super) body: Bytes,
    pub(super) stream: bool,
    pub(super) max_attempts: Option<u32>,
    /// The turn that it goes on with.
    pub(super) parts: Option<Arc<Parts>>,
    pub(super) permit: OwnedSemaphorePermit,
}

/// A call that is over.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) lease: Lease,
    pub(super) reply: Reply,
    /// `None`: never.
    pub(super) sent_at: Option<Timestamp>,
    pub(super) body_bytes: i64,
    /// Bytes of text that its stream showed, if it was streamed.
    pub(super) streamed_bytes: Option<i64>,
    pub(super) max_attempts: Option<u32>,
    /// The turn that it went on with.
    pub(super) parts: Option<Arc<Parts>>,
    pub(super) _permit: OwnedSemaphorePermit,
}

impl Finished {
    /// The end of a call; lease and permit travel on.
    pub(super) fn of(
        call: Call,
        reply: Reply,
        sent_at: Option<Timestamp>,
        streamed_bytes: Option<i64>,
    ) -> Finished {
        Finished {
            body_bytes: i64::try_from(call.body.len()).unwrap_or(i64::MAX),
            lease: call.lease,
            reply,
            sent_at,
            streamed_bytes,
            max_attempts: call.max_attempts,
            parts: call.parts,
            _permit: call.permit,
        }
    }
}

/// A call under way.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) job: JobId,
    /// What its stream shows.
    pub(super) sight: Sight,
    break_off: Option<oneshot::Sender<()>>,
}

impl Flight {
    /// One that nobody has made yet.
    pub(super) fn of(call: &Call) -> Flight {
        Flight { job: call.lease.job, sight: Sight::default(), break_off: None }
    }

    /// Whether there is nothing to break off any more.
    #[cfg(test)]
    pub(super) fn is_over(&self) -> bool {
        self.break_off.is_none()
    }

    /// Breaks it off, unless that was done before.
    pub(super) fn break_off(&mut self) {
        self.break_off.take().map(|break_off| break_off.send(()));
    }
}

/// Makes the call in a task of its own.
pub(super) fn start(
    client: Client,
    clock: Clock,
    call: Call,
    done: mpsc::UnboundedSender<Finished>,
) -> Flight {
    let (break_off, broken_off) = oneshot::channel();
    let flight = Flight { break_off: Some(break_off), ..Flight::of(&call) };
    let sight = flight.sight.clone();
    tokio::spawn(async move {
        let sent_at = clock.now();
        let (body, stream, seen) = (call.body.clone(), call.stream, sight.clone());
        // A task of its own: should it panic, lease and permit still come back.
        let mut sending =
            tokio::spawn(async move { client.send_in_sight(body, stream, &seen).await });
        let reply = tokio::select! {
            reply = &mut sending => reply.unwrap_or_else(|_| unknown("panic", clock.now())),
            // A sender that is dropped breaks nothing off.
            Ok(()) = broken_off => {
                sending.abort();
                unknown("interrupted", clock.now())
            }
        };
        // The scheduler outlives every call; if it is gone, so is the process.
        let streamed_bytes = sight.get().map(|seen| seen.bytes);
        let _ = done.send(Finished::of(call, reply, Some(sent_at), streamed_bytes));
    });
    flight
}

/// Gives a call back that was leased and will not be made.
pub(super) fn not_sent(call: Call, now: Timestamp) -> Finished {
    let failure = Failure {
        kind: FailureKind::Interrupted,
        class: "interrupted".into(),
        message: "the daemon was stopped before the call was sent".into(),
    };
    Finished::of(call, headless(Outcome::Failed(failure), now), None, None)
}

/// The reply of a call that ended without one: it may have been billed.
fn unknown(class: &'static str, now: Timestamp) -> Reply {
    let kind = match class {
        "interrupted" => FailureKind::Interrupted,
        _ => FailureKind::Transient { retry_after: None },
    };
    let failure = Failure {
        kind,
        class: class.into(),
        message: "the call was broken off; it may have been billed".into(),
    };
    headless(Outcome::Unknown(failure), now)
}

fn headless(outcome: Outcome, now: Timestamp) -> Reply {
    Reply {
        outcome,
        http_status: None,
        request_id: None,
        limits: Vec::new(),
        headers: None,
        first_byte_at: None,
        done_at: now,
    }
}
