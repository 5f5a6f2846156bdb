//! One turn: settle what has ended, look at the queue, admit what may start, say how it is.
//!
//! A turn is a task that runs to its end: nothing cancels a write.
//!
//! Invariant: the ledger in the books changes only after the commit of what changed it.

mod admit;
mod closing;

use super::books::{Books, Context, budgets, period};
use super::executor::{Call, Finished};
use super::report::Report;
use super::snapshot::snapshots;
use crate::config::Config;
use crate::domain::attempt::Progress;
use crate::domain::job::{AttemptId, JobId, JobState};
use crate::domain::reason::Reason;
use crate::domain::time::{Millis, Timestamp};
use crate::store::{Ending, Outlook, StoreError, Wal};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Finished jobs are entered into the counts so often.
const TALLY_EVERY: Millis = Millis::SECOND;
/// Due, expired and cancelled jobs handled in one sweep, so that a write stays short.
const SWEEP_MAX: i64 = 1_000;

/// What a turn is to do.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// Calls that ended.
    pub(super) finished: Vec<Finished>,
    /// What streams show of answers that are not finished.
    pub(super) progress: Vec<(JobId, Progress)>,
    /// Whether calls may start.
    pub(super) admit: bool,
    /// Permits that are to be taken away as they come back.
    pub(super) surplus: usize,
    /// Whether what is left in the WAL is to be moved into the database.
    pub(super) checkpoint: bool,
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
    /// A job waits for its next attempt that ran before.
    pub(super) requeued: bool,
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
    /// The WAL as it was before the turn.
    pub(super) wal: Wal,
    /// Somebody else has committed since the turn before.
    pub(super) others_write: bool,
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
    work: Work,
) -> (Box<Books>, Done) {
    let mut done = Done::default();
    books.ledger.see(&work.progress, context.now());
    if let Err(error) = go_on(&context, &mut books, work, &mut done).await {
        done.trouble = Some(error);
        // The connection may be another one afterwards, and count from elsewhere.
        books.data_version = None;
    }
    (books, done)
}

async fn go_on(
    context: &Context,
    books: &mut Books,
    mut work: Work,
    done: &mut Done,
) -> Result<(), StoreError> {
    if work.config.is_some() || !work.admit {
        let finished = std::mem::take(&mut work.finished);
        if let Err(error) = closing::settle(context, books, finished, done).await {
            done.config = work.config;
            return Err(error);
        }
    }
    if let Some(config) = work.config.take()
        && let Err(error) = reconfigure(context, books, Arc::clone(&config)).await
    {
        done.config = Some(config);
        return Err(error);
    }
    let now = context.now();
    // Those of the calls that have ended come back with the same commit.
    let free_permits = context.permits.available_permits() + work.finished.len();
    let free_permits = free_permits.saturating_sub(work.surplus);
    if work.checkpoint
        && let Err(error) = context.store.checkpoint(false).await
    {
        tracing::debug!(%error, "no checkpoint this time");
    }
    let mut due = match look(context, books, free_permits, now, done).await {
        Ok(due) => due,
        Err(error) => {
            closing::settle(context, books, work.finished, done).await?;
            return Err(error);
        }
    };
    if work.admit {
        admit::exchange(context, books, work.finished, free_permits, done).await?;
    }
    done.all_looked_at = books.window.all_looked_at();
    if books.window.paused() > 0 {
        done.held_back.insert(Reason::Paused, books.window.paused());
        done.first_held.get_or_insert(Reason::Paused);
    }
    if done.requeued {
        due = context.store.next_due().await?;
    }
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

/// Looks at the queue: what is due, expired, cancelled, paused, new. When the next is due.
async fn look(
    context: &Context,
    books: &mut Books,
    free_permits: usize,
    now: Timestamp,
    done: &mut Done,
) -> Result<Option<Timestamp>, StoreError> {
    let store = &context.store;
    for budget in &mut books.ledger.budgets {
        let (start, end) = period(&budget.spec, now);
        budget.roll(start, end);
    }
    books.ledger.tick(now);
    let glance = store.glance(now).await?;
    let mut due = glance.next_due;
    done.wal = glance.wal;
    if glance.to_sweep {
        let swept = store.sweep(now, SWEEP_MAX).await?;
        due = store.next_due().await?;
        books.stale = true;
        let most = swept.due.max(swept.ended);
        done.wake_at = (most >= SWEEP_MAX.unsigned_abs()).then_some(now);
    }
    if now.since(books.tallied_at) >= TALLY_EVERY {
        books.tallied_at = now;
        store.tally().await?;
    }
    if books.data_version != Some(glance.version) {
        books.data_version = Some(glance.version);
        books.stale = true;
        done.others_write = true;
        let wishes = store.wishes().await?;
        books.paused = wishes.paused;
        books.apply_policies();
        done.break_off = wishes.break_off;
    }
    let low = books.taken > 0 && books.window.is_low(free_permits);
    if books.stale || low {
        let shares = &books.shares;
        let paused = |queue: &str| shares.policy(queue).paused;
        let unfit = books.window.fill(store, &books.config, paused).await?;
        books.stale = !unfit.is_empty();
        books.taken = 0;
        store.reject(&unfit, now).await?;
    }
    Ok(due)
}
