//! What the calls that ended mean for the books, worked out on copies before it is written.

use crate::daemon::books::{Books, Context};
use crate::daemon::executor::Finished;
use crate::daemon::gates::{self, Change};
use crate::daemon::snapshot::{estimates, snapshots};
use crate::daemon::turn::Done;
use crate::daemon::writer::{ending, give_way};
use crate::domain::attempt::{FailureKind, Outcome};
use crate::domain::estimate::Lesson;
use crate::domain::fairness::Shares;
use crate::domain::job::JobEvent;
use crate::domain::ledger::Ledger;
use crate::domain::time::Timestamp;
use crate::store::{Ending, Settled, Snapshots, StoreError};
use std::collections::BTreeSet;

/// A group of calls that are over: their rows, and ledger and shares as they will be.
pub(super) struct Closing {
    pub(super) finished: Vec<Finished>,
    pub(super) endings: Vec<Ending>,
    pub(super) ledger: Ledger,
    pub(super) shares: Shares,
    pub(super) now: Timestamp,
    gates: Vec<Change>,
}

impl Closing {
    pub(super) fn of(
        context: &Context,
        books: &Books,
        finished: Vec<Finished>,
        now: Timestamp,
    ) -> Closing {
        let (mut ledger, mut shares) = (books.ledger.clone(), books.shares.clone());
        ledger.foresee(now);
        let mut endings = Vec::with_capacity(finished.len());
        for one in &finished {
            let jitter = context.entropy.unit();
            let call = &one.lease.reservation;
            let job = one.lease.job;
            let gate = ledger.gate(&call.pool);
            let probed = gate.is_some_and(|gate| gate.is_probe(call.reserved_at));
            let spared = gate.is_some_and(|gate| gate.spares(call.reserved_at, now));
            let mut ending = ending(one, spared, &books.config.retry, now, jitter);
            ledger.end(job, call, &one.reply, &ending.settlement, jitter, now);
            ledger.learn_size(job, call, lesson(one, &ending).as_ref(), now);
            if let Some(gate) = ledger.gate(&call.pool).filter(|_| probed) {
                give_way(&mut ending, gate, now);
            }
            let expected = call.expected.input_tokens.saturating_add(call.expected.output_tokens);
            let amounts = ending.settlement.amounts;
            let actual = amounts.input_tokens.saturating_add(amounts.output_tokens);
            shares.end(&call.queue, &call.pool, expected, actual);
            endings.push(ending);
        }
        // Plans are made on copies: each would look anew.
        ledger.foresee(now);
        let gates = gates::changes(&books.ledger, &ledger);
        Closing { finished, endings, ledger, shares, now, gates }
    }

    /// The rows of a ledger in which these calls have ended, and calls of these pools begun.
    pub(super) fn snapshots(
        &self,
        ledger: &Ledger,
        started: impl Iterator<Item = String>,
    ) -> Snapshots {
        let started: Vec<String> = started.collect();
        let calls = || self.finished.iter().map(|one| &one.lease.reservation);
        let ended = calls().map(|call| &*call.pool.0);
        let pools: BTreeSet<&str> = ended.chain(started.iter().map(String::as_str)).collect();
        let mut snapshots = snapshots(ledger, &pools, self.now);
        snapshots.estimates = estimates(&ledger.sizes, calls(), self.now);
        snapshots
    }

    /// They are committed: the permits go back, and everybody is told.
    pub(super) fn committed(self, books: &mut Books, settled: &Settled, done: &mut Done) {
        for attempt in &settled.lost {
            tracing::warn!(attempt = attempt.0, "settled before; the answer was kept");
        }
        done.fenced |= settled.fenced;
        done.ended.extend(settled.finished.iter().map(|(_, state)| *state));
        warn_of_pages(&self.finished);
        gates::tell(&self.gates, &self.finished, self.now);
        for (one, ending) in self.finished.iter().zip(&self.endings) {
            books.open.remove(&one.lease.attempt);
            let requeued = ending.next.event == JobEvent::Requeue;
            if ending.next.event == JobEvent::Continue {
                // It is ready, and nobody but us knows.
                done.wake_at = Some(done.wake_at.map_or(self.now, |at| at.min(self.now)));
                books.stale = true;
            }
            books.stale |= requeued;
            done.requeued |= requeued;
            tell(one, ending);
            done.settled.push(one.lease.attempt);
        }
    }

    /// They could not be written.
    pub(super) fn failed(self, done: &mut Done) {
        done.rows = self.endings;
        done.unsettled = self.finished;
    }
}

/// Settles a group, and admits nothing.
pub(super) async fn settle(
    context: &Context,
    books: &mut Books,
    finished: Vec<Finished>,
    done: &mut Done,
) -> Result<(), StoreError> {
    if finished.is_empty() {
        return Ok(());
    }
    let now = context.now();
    let mut closing = Closing::of(context, books, finished, now);
    let snapshots = closing.snapshots(&closing.ledger, std::iter::empty());
    match context.store.settle(context.epoch, &closing.endings, &snapshots, now).await {
        Ok(settled) => {
            books.ledger = std::mem::take(&mut closing.ledger);
            books.shares = std::mem::take(&mut closing.shares);
            closing.committed(books, &settled, done);
            Ok(())
        }
        Err(error) => {
            closing.failed(done);
            Err(error)
        }
    }
}

/// What an answer teaches about sizes.
fn lesson(finished: &Finished, ending: &Ending) -> Option<Lesson> {
    Some(Lesson {
        body_bytes: finished.body_bytes,
        usage: ending.usage?,
        took: finished.reply.done_at.since(finished.sent_at?),
        streamed_bytes: finished.streamed_bytes,
    })
}

/// Whatever answers there, it is not the API: a person has to look, and is told once a turn.
fn warn_of_pages(finished: &[Finished]) {
    let page = finished.iter().find_map(|one| match &one.reply.outcome {
        Outcome::Failed(failure)
            if failure.kind == FailureKind::NotReached && one.reply.http_status.is_some() =>
        {
            Some(&failure.message)
        }
        _ => None,
    });
    if let Some(message) = page {
        tracing::warn!("what answers is not the Claude API, jobs stay queued: {message}");
    }
}

/// What follows for its job, as people say it.
fn fate(event: JobEvent) -> &'static str {
    match event {
        JobEvent::Requeue => "the job is queued again",
        JobEvent::Hold => "the job is held",
        _ => "the job has failed",
    }
}

/// What became of a call, for the log.
fn tell(finished: &Finished, ending: &Ending) {
    let job = finished.lease.job.0;
    match &finished.reply.outcome {
        Outcome::Completed(_) => tracing::debug!(job, "answered"),
        Outcome::Failed(failure) | Outcome::Unknown(failure) => tracing::info!(
            job,
            attempt = finished.lease.attempt.0,
            class = %failure.class,
            status = finished.reply.http_status,
            "no answer, {}: {}",
            fate(ending.next.event),
            failure.message
        ),
    }
}
