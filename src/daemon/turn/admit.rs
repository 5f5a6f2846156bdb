//! Which jobs start: planned over what is in sight, and planned again inside the transaction that
//! writes it together with what has ended.

use super::Done;
use super::closing::{Closing, settle};
use crate::config::{Config, StreamMode};
use crate::daemon::books::{Books, Context};
use crate::daemon::executor::{Call, Finished};
use crate::daemon::window::Ready;
use crate::domain::admission::{Candidate, Plan, Situation, plan};
use crate::domain::fairness::Shares;
use crate::domain::job::{JobEvent, JobId};
use crate::domain::ledger::Ledger;
use crate::domain::limit::{Algorithm, OutputMode, Per, PoolSpec};
use crate::domain::reason::Reason;
use crate::domain::time::Millis;
use crate::store::{Admission, Fresh, Lease, NewAttempt, StoreError, Unfit};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// Jobs that start in one turn, so that a write stays short.
const STARTS_MAX: usize = 256;
/// `stream = "auto"` streams above this: a plain call of more output may take over ten minutes.
const PLAIN_OUTPUT_MAX: i64 = 21_333;
/// … and where a bucket holds less than this, since production shows in a stream.
const SHORT_BURST: Millis = Millis::from_secs(30);

/// Settles what has ended and starts what may start, in one transaction.
pub(super) async fn exchange(
    context: &Context,
    books: &mut Books,
    finished: Vec<Finished>,
    free_permits: usize,
    done: &mut Done,
) -> Result<(), StoreError> {
    let now = context.now();
    books.shares.set_active(&books.window.queues());
    if free_permits == 0 {
        let waiting = books.window.len();
        if waiting > 0 {
            done.held_back = BTreeMap::from([(Reason::Concurrency, waiting)]);
            done.first_held = Some(Reason::Concurrency);
        }
        return settle(context, books, finished, done).await;
    }
    let closing = Closing::of(context, books, finished, now);
    let Choice { jobs: chosen, planned } = choose(books, &closing, free_permits, done);
    if chosen.is_empty() && closing.finished.is_empty() {
        return Ok(());
    }
    let written = context
        .store
        .settle_and_admit(now, context.epoch, &closing.endings, &chosen, |fresh| {
            // What was read of another life of a job is no candidate.
            let read = |one: &&Fresh| {
                books.window.get(one.id).is_some_and(|ready| ready.terms == one.terms)
            };
            let fresh: HashSet<JobId> = fresh.iter().filter(read).map(|one| one.id).collect();
            let planned = planned.filter(|_| fresh.len() == chosen.len());
            let planned = planned
                .unwrap_or_else(|| plan_anew(books, &closing, &fresh, &chosen, free_permits));
            decide(books, &closing, planned)
        })
        .await;
    match written {
        Err(error) => {
            closing.failed(done);
            Err(error)
        }
        Ok((settled, leases, (ledger, shares))) => {
            books.ledger = ledger;
            books.shares = shares;
            closing.committed(books, &settled, done);
            started(context, books, chosen, leases, done);
            Ok(())
        }
    }
}

/// What is to start, and the plan that says so, while nothing is in the way of all of it.
struct Choice {
    jobs: Vec<JobId>,
    planned: Option<Planned>,
}

/// A plan, and ledger and shares as it leaves them.
struct Planned {
    plan: Plan,
    ledger: Ledger,
    shares: Shares,
}

/// What is to start, by a plan over everything in sight.
fn choose(books: &mut Books, closing: &Closing, free_permits: usize, done: &mut Done) -> Choice {
    let now = closing.now;
    let candidates = books.window.candidates();
    let planned = planned(closing, &candidates, free_permits, books.window.is_whole());
    let outline = &planned.plan;
    books.window.note(&outline.waits, now);
    done.held_back.clone_from(&outline.held_back);
    done.first_held = outline.first_held;
    if !outline.held_back.keys().all(|reason| reason.needs_a_person()) {
        // These go on by themselves: what was seen of other queues may be old by then.
        books.window.started();
    }
    done.wake_at = [done.wake_at, outline.wake_at].into_iter().flatten().min();
    if outline.starts.len() < free_permits {
        let shares = &closing.shares;
        let has_room = |queue: &str| {
            let most = shares.policy(queue).max_in_flight;
            most.is_none_or(|most| shares.in_flight(queue) < most)
        };
        let (more, at) = books.window.look_further(outline, has_room, now);
        books.stale |= more;
        done.wake_at = [done.wake_at, at].into_iter().flatten().min();
    }
    let starts = outline.starts.iter().map(|start| start.job);
    let mut jobs: Vec<JobId> = starts.chain(outline.unbounded.iter().copied()).collect();
    if jobs.is_empty() {
        // Nothing in sight can start: look at what lies beyond, the next time.
        books.stale |= books.window.has_more();
    }
    if jobs.len() > STARTS_MAX {
        jobs.truncate(STARTS_MAX);
        done.wake_at = Some(now);
        return Choice { jobs, planned: None };
    }
    Choice { jobs, planned: Some(planned) }
}

/// A plan for when these calls have ended, and ledger and shares as it leaves them.
fn planned(
    closing: &Closing,
    candidates: &[Candidate],
    free_permits: usize,
    whole: bool,
) -> Planned {
    let (mut ledger, mut shares) = (closing.ledger.clone(), closing.shares.clone());
    let situation = Situation {
        now: closing.now,
        ledger: &mut ledger,
        shares: &mut shares,
        free_permits,
        whole,
    };
    let plan = plan(situation, candidates);
    Planned { plan, ledger, shares }
}

/// The leases are committed.
fn started(
    context: &Context,
    books: &mut Books,
    chosen: Vec<JobId>,
    leases: Vec<Lease>,
    done: &mut Done,
) {
    if chosen.is_empty() {
        return;
    }
    let mut leases: HashMap<JobId, Lease> =
        leases.into_iter().map(|lease| (lease.job, lease)).collect();
    books.taken += chosen.len();
    books.window.started();
    for job in chosen {
        let Some(ready) = books.window.remove(job) else { continue };
        match leases.remove(&job) {
            Some(lease) => begin(context, books, ready, lease, done),
            // Taken, cancelled, held, or planned otherwise the second time: the queue will tell.
            None => books.stale = true,
        }
    }
}

/// The same plan over those alone that are still ready.
fn plan_anew(
    books: &Books,
    closing: &Closing,
    fresh: &HashSet<JobId>,
    chosen: &[JobId],
    free_permits: usize,
) -> Planned {
    let still = chosen.iter().filter(|job| fresh.contains(job));
    let ready: Vec<&Ready> = still.filter_map(|job| books.window.get(*job)).collect();
    let candidates: Vec<_> = ready.iter().map(|ready| ready.candidate.clone()).collect();
    // They are few now, and not all that is ready: their order was decided before.
    planned(closing, &candidates, free_permits, false)
}

/// The decision inside the transaction, as rows.
fn decide(books: &Books, closing: &Closing, planned: Planned) -> (Admission, (Ledger, Shares)) {
    let Planned { plan, ledger, shares } = planned;
    let starts = plan.starts.iter().map(|start| {
        let ready = books.window.get(start.job);
        NewAttempt {
            job: start.job,
            reservation: start.reservation.clone(),
            body_bytes: ready.map_or(0, |ready| ready.candidate.body_bytes),
            wait_reason: ready.and_then(|ready| ready.wait_reason),
        }
    });
    let starts: Vec<NewAttempt> = starts.collect();
    let unfit = plan.unbounded.iter().map(|job| Unfit {
        job: *job,
        event: JobEvent::Hold,
        class: "cost_unbounded".into(),
        error: "a budget stands before it, and what it may cost cannot be told beforehand: its \
                model has no price, or it has images, documents, server tools or the like; set \
                allow_unbounded = true in the [[budget]], then release it"
            .into(),
    });
    let unfit = unfit.collect();
    let pools = starts.iter().map(|start| start.reservation.pool.0.to_string());
    let snapshots = closing.snapshots(&ledger, pools);
    (Admission { starts, unfit, snapshots }, (ledger, shares))
}

/// A committed lease becomes a call.
fn begin(context: &Context, books: &mut Books, ready: Ready, lease: Lease, done: &mut Done) {
    // Only turns take permits, one turn at a time: what was free is free.
    let Ok(permit) = Arc::clone(&context.permits).try_acquire_owned() else {
        tracing::error!(job = lease.job.0, "no permit for a lease; it is recovered at a restart");
        return;
    };
    let pool = books.ledger.pool_of(&ready.candidate.model, lease.reservation.reserved_at);
    books.open.insert(lease.attempt, (lease.job, lease.reservation.clone()));
    done.calls.push(Call {
        stream: streams(&books.config, &pool, ready.candidate.max_tokens),
        lease,
        body: ready.body,
        max_attempts: ready.max_attempts,
        parts: ready.parts,
        permit,
    });
}

/// Whether a call is streamed.
fn streams(config: &Config, pool: &PoolSpec, max_tokens: i64) -> bool {
    let short = pool.output_mode == OutputMode::Realtime
        && pool.limits.iter().filter(|limit| limit.per == Per::Minute).any(|limit| {
            match limit.algorithm {
                Algorithm::Bucket { burst } => burst.is_none_or(|burst| burst < SHORT_BURST),
                // The headers tell early that a call was counted, so it leaves earlier.
                Algorithm::Window => true,
            }
        });
    match config.provider.stream {
        StreamMode::Always => true,
        StreamMode::Never => false,
        StreamMode::Auto => max_tokens > PLAIN_OUTPUT_MAX || short || pool.limits.is_empty(),
    }
}
