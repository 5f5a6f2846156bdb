//! What the daemon knows between two turns; whatever is in here was committed first.

use super::window::HeadWindow;
use crate::clock::calendar::{self, CalendarUnit};
use crate::clock::{Clock, Entropy};
use crate::config::Config;
use crate::domain::budget::{Budget, BudgetPer, BudgetSpec, Cap};
use crate::domain::fairness::Shares;
use crate::domain::job::{AttemptId, Epoch, JobId};
use crate::domain::ledger::Ledger;
use crate::domain::reservation::Reservation;
use crate::domain::steady::SteadyTime;
use crate::domain::time::Timestamp;
use crate::store::{Store, StoreError};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;

/// What every turn needs and none changes.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) store: Store,
    pub(super) epoch: Epoch,
    pub(super) entropy: Entropy,
    pub(super) permits: Arc<Semaphore>,
    /// The number of the last job that had finished before this daemon began.
    pub(super) finished_before: i64,
    clock: Clock,
    steady: Mutex<SteadyTime>,
}

impl Context {
    pub(super) fn new(
        store: Store,
        epoch: Epoch,
        clock: Clock,
        known: Timestamp,
        entropy: Entropy,
        max_in_flight: u32,
        finished_before: i64,
    ) -> Context {
        let steady = SteadyTime::new(clock.now(), known, clock.monotonic());
        let permits = Arc::new(Semaphore::new(max_in_flight as usize));
        Context {
            store,
            epoch,
            entropy,
            permits,
            finished_before,
            clock,
            steady: Mutex::new(steady),
        }
    }

    /// Wall time that the ledger may trust.
    pub(super) fn now(&self) -> Timestamp {
        let mut steady = self.steady.lock().unwrap_or_else(PoisonError::into_inner);
        let (now, doubted) = steady.read(self.clock.now(), self.clock.monotonic());
        if doubted {
            tracing::debug!("the clock jumped ahead; waiting to see whether it stays there");
        }
        now
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }
}

/// The ledger and everything beside it that a turn changes.
#[derive(Debug)]
pub(super) struct Books {
    pub(super) config: Arc<Config>,
    pub(super) ledger: Ledger,
    pub(super) shares: Shares,
    pub(super) window: HeadWindow,
    /// Reservations of the calls in flight.
    pub(super) open: HashMap<AttemptId, (JobId, Reservation)>,
    /// Queues that somebody paused; `*` means every queue.
    pub(super) paused: Vec<String>,
    /// What SQLite said when the database was last looked at.
    pub(super) data_version: Option<i64>,
    /// Jobs may have become ready since the window was filled.
    pub(super) stale: bool,
    /// Starts since the window was filled.
    pub(super) taken: usize,
    /// When finished jobs were last entered into the counts.
    pub(super) tallied_at: Timestamp,
}

impl Books {
    pub(super) fn new(config: Arc<Config>, ledger: Ledger) -> Books {
        let mut books = Books {
            config,
            ledger,
            shares: Shares::default(),
            window: HeadWindow::default(),
            open: HashMap::new(),
            paused: Vec::new(),
            data_version: None,
            stale: true,
            taken: 0,
            tallied_at: Timestamp(0),
        };
        books.apply_policies();
        books
    }

    /// Weights and bounds from the configuration, pauses from the database.
    pub(super) fn apply_policies(&mut self) {
        let all = self.paused.iter().any(|queue| queue == "*");
        let mut policies: std::collections::BTreeMap<Arc<str>, _> = self
            .config
            .queues
            .iter()
            .map(|(name, queue)| (Arc::clone(name), queue.policy.clone()))
            .collect();
        for queue in &self.paused {
            policies.entry(Arc::from(queue.as_str())).or_default().paused = true;
        }
        self.shares.set_policies(policies, all);
    }
}

/// The budgets with what is already settled in their current periods.
pub(super) async fn budgets(
    store: &Store,
    specs: &[BudgetSpec],
    now: Timestamp,
) -> Result<Vec<Budget>, StoreError> {
    let mut budgets = Vec::with_capacity(specs.len());
    for spec in specs {
        let (start, end) = period(spec, now);
        let spent = store.budget_spent(start, end, spec.queue.as_deref()).await?;
        let spent = match spec.cap {
            Cap::Usd(_) => spent.nanousd,
            Cap::Tokens(_) => spent.tokens,
        };
        budgets.push(Budget::new(spec.clone(), start, end, spent));
    }
    Ok(budgets)
}

/// The calendar period of a budget around `now`.
pub(super) fn period(spec: &BudgetSpec, now: Timestamp) -> (Timestamp, Timestamp) {
    let unit = match spec.per {
        BudgetPer::Day => CalendarUnit::Day,
        BudgetPer::Month => CalendarUnit::Month,
        BudgetPer::Total => return (Timestamp(i64::MIN), Timestamp(i64::MAX)),
    };
    // The configuration refuses unknown zones; should one vanish from the machine, UTC it is.
    let zone = calendar::zone(&spec.timezone).or_else(|| calendar::zone("UTC"));
    zone.map_or((Timestamp(i64::MIN), Timestamp(i64::MAX)), |zone| {
        calendar::period(unit, &zone, now)
    })
}
