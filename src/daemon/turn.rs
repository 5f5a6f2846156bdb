//! One turn: settle what has ended, look at the queue, admit what may start, say how it is.
//!
//! A turn is a task that runs to its end: nothing cancels a write.
//!
//! Invariant: the ledger in the books changes only after the commit of what changed it.

use super::books::{Books, Context, budgets, period};
use super::executor::{Call, Finished};
use super::report::Report;
use super::snapshot::{estimates, snapshots};
use super::window::Ready;
use super::writer::{ending, give_way};
use crate::config::{Config, StreamMode};
use crate::domain::admission::{Plan, Situation, plan};
use crate::domain::attempt::{FailureKind, Outcome, Progress};
use crate::domain::estimate::Lesson;
use crate::domain::job::{AttemptId, JobEvent, JobId, JobState};
use crate::domain::limit::{Algorithm, OutputMode, Per, PoolSpec};
use crate::domain::reason::Reason;
use crate::domain::time::{Millis, Timestamp};
use crate::store::{Admission, Ending, Lease, NewAttempt, Outlook, StoreError, Unfit};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// Due, expired and cancelled jobs handled in one sweep, so that a write stays short.
const SWEEP_MAX: i64 = 1_000;
/// `stream = "auto"` streams above this: a plain call of more output may take over ten minutes.
const PLAIN_OUTPUT_MAX: i64 = 21_333;
/// … and where a bucket holds less than this, since production shows in a stream.
const SHORT_BURST: Millis = Millis::from_secs(30);

/// What a turn is to do.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// Calls that ended.
    pub(super) finished: Vec<Finished>,
    /// What streams show of answers that are not finished.
    pub(super) progress: Vec<(JobId, Progress)>,
    /// Whether calls may start.
    pub(super) admit: bool,
    /// The daemon's view of itself, to be completed and written.
    pub(super) report: Option<Report>,
    /// Whether jobs are to be counted, for the forecast or to see whether all is done.
    pub(super) count: bool,
    /// A new configuration to take over.
    pub(super) config: Option<Arc<Config>>,
}

/// What a turn did.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// Calls to make; their leases are committed.
    pub(super) calls: Vec<Call>,
    /// Calls whose settlement is committed.
    pub(super) settled: Vec<AttemptId>,
    /// Jobs that ended, by state.
    pub(super) ended: Vec<JobState>,
    /// Calls that could not be settled, with their rows for the spool.
    pub(super) unsettled: Vec<Finished>,
    /// Their rows.
    pub(super) rows: Vec<Ending>,
    /// Running jobs whose call is to be broken off.
    pub(super) break_off: Vec<JobId>,
    /// What waits, and for what.
    pub(super) held_back: BTreeMap<Reason, usize>,
    /// What the first that waits waits for.
    pub(super) first_held: Option<Reason>,
    /// When to look again.
    pub(super) wake_at: Option<Timestamp>,
    /// What is left to do.
    pub(super) left: Option<Outlook>,
    /// Whether every queue was looked at since a job last started.
    pub(super) all_looked_at: bool,
    /// A newer daemon has taken over.
    pub(super) fenced: bool,
    /// A configuration that could not be taken over.
    pub(super) config: Option<Arc<Config>>,
    /// The database could not do it.
    pub(super) trouble: Option<StoreError>,
}

/// Runs a turn; the books come back whatever happened.
pub(super) async fn turn(
    context: Arc<Context>,
    mut books: Box<Books>,
    mut work: Work,
) -> (Box<Books>, Done) {
    let mut done = Done::default();
    books.ledger.see(&work.progress, context.now());
    let finished = std::mem::take(&mut work.finished);
    if let Err(error) = settle(&context, &mut books, finished, &mut done).await {
        done.config = work.config;
        done.trouble = Some(error);
    } else if let Err(error) = go_on(&context, &mut books, work, &mut done).await {
        done.trouble = Some(error);
    }
    if done.trouble.is_some() {
        // The connection may be another one afterwards, and count from elsewhere.
        books.data_version = None;
    }
    (books, done)
}

/// Settles a group: rows and ledger in one transaction, then the permits go.
async fn settle(
    context: &Context,
    books: &mut Books,
    finished: Vec<Finished>,
    done: &mut Done,
) -> Result<(), StoreError> {
    if finished.is_empty() {
        return Ok(());
    }
    let now = context.now();
    let mut ledger = books.ledger.clone();
    ledger.foresee(now);
    let mut endings = Vec::with_capacity(finished.len());
    for one in &finished {
        let jitter = context.entropy.unit();
        let mut ending = ending(one, &books.config.retry, now, jitter);
        let call = &one.lease.reservation;
        let job = one.lease.job;
        let probed = ledger.gate(&call.pool).is_some_and(|gate| gate.is_probe(call.reserved_at));
        ledger.end(job, call, &one.reply, &ending.settlement, jitter, now);
        ledger.learn_size(job, call, lesson(one, &ending).as_ref(), now);
        if let Some(gate) = ledger.gate(&call.pool).filter(|_| probed) {
            give_way(&mut ending, gate, now);
        }
        endings.push(ending);
    }
    let pools: BTreeSet<&str> = finished.iter().map(|f| &*f.lease.reservation.pool.0).collect();
    let mut snapshots = snapshots(&ledger, &pools, now);
    let calls = finished.iter().map(|one| &one.lease.reservation);
    snapshots.estimates = estimates(&ledger.sizes, calls, now);
    match context.store.settle(context.epoch, &endings, &snapshots, now).await {
        Ok(settled) => {
            for attempt in &settled.lost {
                tracing::warn!(attempt = attempt.0, "settled before; the answer was kept");
            }
            done.fenced = settled.fenced;
            done.ended.extend(settled.finished.iter().map(|(_, state)| *state));
        }
        Err(error) => {
            done.rows = endings;
            done.unsettled = finished;
            return Err(error);
        }
    }
    books.ledger = ledger;
    warn_of_pages(&finished);
    for (one, ending) in finished.iter().zip(&endings) {
        close(books, one, ending);
        done.settled.push(one.lease.attempt);
    }
    Ok(())
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
            Some(failure.message.escape_debug())
        }
        _ => None,
    });
    if let Some(message) = page {
        tracing::warn!("what answers is not the Claude API, jobs stay queued: {message}");
    }
}

/// What else is known after a settlement: shares, estimates, what became ready again.
fn close(books: &mut Books, finished: &Finished, ending: &Ending) {
    let call = &finished.lease.reservation;
    books.open.remove(&finished.lease.attempt);
    let expected = call.expected.input_tokens.saturating_add(call.expected.output_tokens);
    let amounts = ending.settlement.amounts;
    let actual = amounts.input_tokens.saturating_add(amounts.output_tokens);
    books.shares.end(&call.queue, &call.pool, expected, actual);
    books.stale |= ending.next.event == JobEvent::Requeue;
    let job = finished.lease.job.0;
    match &finished.reply.outcome {
        Outcome::Completed(_) => tracing::debug!(job, "answered"),
        Outcome::Failed(failure) | Outcome::Unknown(failure) => tracing::info!(
            job,
            attempt = finished.lease.attempt.0,
            class = %failure.class,
            status = finished.reply.http_status,
            then = ?ending.next.event,
            "no answer: {}",
            failure.message.escape_debug()
        ),
    }
}

async fn go_on(
    context: &Context,
    books: &mut Books,
    mut work: Work,
    done: &mut Done,
) -> Result<(), StoreError> {
    if let Some(config) = work.config.take()
        && let Err(error) = reconfigure(context, books, Arc::clone(&config)).await
    {
        done.config = Some(config);
        return Err(error);
    }
    let now = context.now();
    look(context, books, now, done).await?;
    if work.admit {
        admit(context, books, now, done).await?;
    }
    done.all_looked_at = books.window.all_looked_at();
    if books.window.paused() > 0 {
        done.held_back.insert(Reason::Paused, books.window.paused());
        done.first_held.get_or_insert(Reason::Paused);
    }
    let due = context.store.next_due().await?;
    done.wake_at = [done.wake_at, due].into_iter().flatten().min();
    if work.count {
        done.left = Some(context.store.outlook().await?);
    }
    if let Some(mut report) = work.report {
        report.as_of = now;
        report.held_back_by = done.first_held;
        report.held_back.clone_from(&done.held_back);
        let json = serde_json::to_string(&report).unwrap_or_else(|_| "{}".into());
        done.fenced |= !context.store.heartbeat(context.epoch, &json, now).await?;
    }
    Ok(())
}

/// Takes over new limits, budgets and defaults.
async fn reconfigure(
    context: &Context,
    books: &mut Books,
    config: Arc<Config>,
) -> Result<(), StoreError> {
    let now = context.now();
    let budgets = budgets(&context.store, &config.budgets, now).await?;
    let open: Vec<_> = books.open.values().map(|(job, call)| (*job, call)).collect();
    books.ledger.reconfigure(config.pools.clone(), budgets, &open, now);
    // The key may be another one, the account may be in order again: the next call will tell.
    books.ledger.account.open(now);
    books.ledger.pools.iter_mut().for_each(|pool| pool.gate.ask_again(now));
    books.config = config;
    books.apply_policies();
    books.window.clear();
    books.stale = true;
    // The gates that were opened must not look shut until the next call.
    let opened = snapshots(&books.ledger, &BTreeSet::new(), now);
    context.store.settle(context.epoch, &[], &opened, now).await?;
    Ok(())
}

/// Looks at the queue: what is due, expired, cancelled, paused, new.
async fn look(
    context: &Context,
    books: &mut Books,
    now: Timestamp,
    done: &mut Done,
) -> Result<(), StoreError> {
    let store = &context.store;
    for budget in &mut books.ledger.budgets {
        let (start, end) = period(&budget.spec, now);
        budget.roll(start, end);
    }
    books.ledger.tick(now);
    let swept = store.sweep(now, SWEEP_MAX).await?;
    if swept.due > 0 || swept.ended > 0 {
        books.stale = true;
        let most = swept.due.max(swept.ended);
        done.wake_at = (most >= SWEEP_MAX.unsigned_abs()).then_some(now);
    }
    let version = store.data_version().await?;
    if books.data_version != Some(version) {
        books.data_version = Some(version);
        books.stale = true;
        books.paused = store.paused().await?;
        books.apply_policies();
        done.break_off = store.to_break_off().await?;
    }
    let low = books.taken > 0 && books.window.is_low(context.permits.available_permits());
    if books.stale || low {
        let shares = &books.shares;
        let paused = |queue: &str| shares.policy(queue).paused;
        let unfit = books.window.fill(store, &books.config, paused).await?;
        books.stale = !unfit.is_empty();
        books.taken = 0;
        store.reject(&unfit, now).await?;
    }
    Ok(())
}

/// Plans, and when something starts, plans again inside the transaction that writes it.
async fn admit(
    context: &Context,
    books: &mut Books,
    now: Timestamp,
    done: &mut Done,
) -> Result<(), StoreError> {
    let candidates = books.window.candidates();
    books.shares.set_active(&books.window.queues());
    let free_permits = context.permits.available_permits();
    if free_permits == 0 {
        if !candidates.is_empty() {
            done.held_back = BTreeMap::from([(Reason::Concurrency, candidates.len())]);
            done.first_held = Some(Reason::Concurrency);
        }
        return Ok(());
    }
    let mut ledger = books.ledger.clone();
    let mut shares = books.shares.clone();
    let situation = Situation {
        now,
        ledger: &mut ledger,
        shares: &mut shares,
        free_permits,
        whole: books.window.is_whole(),
    };
    let outline = plan(situation, &candidates);
    books.window.note(&outline.waits, now);
    done.held_back.clone_from(&outline.held_back);
    done.first_held = outline.first_held;
    if !outline.held_back.keys().all(|reason| reason.needs_a_person()) {
        // These go on by themselves: what was seen of other queues may be old by then.
        books.window.started();
    }
    done.wake_at = [done.wake_at, outline.wake_at].into_iter().flatten().min();
    if outline.starts.len() < free_permits {
        let shares = &books.shares;
        let has_room = |queue: &str| {
            let most = shares.policy(queue).max_in_flight;
            most.is_none_or(|most| shares.in_flight(queue) < most)
        };
        let (more, at) = books.window.look_further(&outline, has_room, now);
        books.stale |= more;
        done.wake_at = [done.wake_at, at].into_iter().flatten().min();
    }
    let chosen = chosen(&outline);
    if chosen.is_empty() {
        // Nothing in sight can start: look at what lies beyond, the next time.
        books.stale |= books.window.has_more();
        return Ok(());
    }
    let (leases, (ledger, shares)) = context
        .store
        .admit(now, context.epoch, &chosen, |fresh| {
            let fresh: HashSet<JobId> = fresh.iter().map(|one| one.id).collect();
            decide(books, &fresh, &chosen, free_permits, now)
        })
        .await?;
    books.ledger = ledger;
    books.shares = shares;
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
    Ok(())
}

fn chosen(outline: &Plan) -> Vec<JobId> {
    let starts = outline.starts.iter().map(|start| start.job);
    starts.chain(outline.unbounded.iter().copied()).collect()
}

/// The decision inside the transaction: the same plan over those that are still ready.
fn decide(
    books: &Books,
    fresh: &HashSet<JobId>,
    chosen: &[JobId],
    free_permits: usize,
    now: Timestamp,
) -> (Admission, (crate::domain::ledger::Ledger, crate::domain::fairness::Shares)) {
    let still = chosen.iter().filter(|job| fresh.contains(job));
    let ready: Vec<&Ready> = still.filter_map(|job| books.window.get(*job)).collect();
    let candidates: Vec<_> = ready.iter().map(|ready| ready.candidate.clone()).collect();
    let mut ledger = books.ledger.clone();
    let mut shares = books.shares.clone();
    let situation = Situation {
        now,
        ledger: &mut ledger,
        shares: &mut shares,
        free_permits,
        // They are few now, and not all that is ready: their order was decided before.
        whole: false,
    };
    let plan = plan(situation, &candidates);
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
    let pools: BTreeSet<&str> = starts.iter().map(|start| &*start.reservation.pool.0).collect();
    let snapshots = snapshots(&ledger, &pools, now);
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
