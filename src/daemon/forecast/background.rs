//! The daemon's forecast, made anew in the background.
//!
//! Invariant: counting and looking ahead take no more than a fiftieth of the time, and no turn
//! waits for them.

use super::{View, foresee, in_flight, queued};
use crate::config::Config;
use crate::daemon::books::{Books, Context};
use crate::domain::fairness::Shares;
use crate::domain::forecast::{Forecast, Group};
use crate::domain::ledger::Ledger;
use crate::store::StoreError;
use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Jobs are counted this often at the most …
const COUNT_EVERY: Duration = Duration::from_secs(10);
/// … and the forecast is made anew this often from the last count.
const EVERY: Duration = Duration::from_secs(2);
/// After this times what it took.
const REST: u32 = 50;

/// What was counted.
#[derive(Clone, Debug)]
struct Count {
    groups: Arc<Vec<Group>>,
    /// Jobs in flight then.
    in_flight: i64,
    /// Jobs that have ended before it.
    ended: i64,
}

/// A forecast with what it cost.
#[derive(Debug)]
struct Made {
    forecast: Forecast,
    count: Count,
    counting: Option<Duration>,
    all: Duration,
}

/// Keeps a forecast.
#[derive(Debug)]
pub(in crate::daemon) struct Forecaster {
    latest: Option<Forecast>,
    count: Option<Count>,
    /// Jobs that have ended so far.
    ended: i64,
    task: Option<JoinHandle<Result<Made, StoreError>>>,
    count_at: Instant,
    at: Instant,
}

impl Forecaster {
    pub(in crate::daemon) fn new() -> Forecaster {
        let now = Instant::now();
        Forecaster { latest: None, count: None, ended: 0, task: None, count_at: now, at: now }
    }

    /// The last one.
    pub(in crate::daemon) fn latest(&self) -> Option<&Forecast> {
        self.latest.as_ref()
    }

    /// Jobs ended.
    pub(in crate::daemon) fn note(&mut self, jobs: usize) {
        self.ended += i64::try_from(jobs).unwrap_or(0);
    }

    /// Takes over what is ready, and begins the next when it is due. Never waits.
    pub(in crate::daemon) async fn go_on(
        &mut self,
        context: &Arc<Context>,
        books: &Books,
        config: &Config,
    ) {
        if let Some(task) = self.task.take_if(|task| task.is_finished()) {
            self.take(task.await.ok());
        }
        let now = Instant::now();
        if self.task.is_some() || now < self.at {
            return;
        }
        let count = self.count.clone().filter(|_| now < self.count_at);
        let work = Work {
            context: Arc::clone(context),
            config: config.clone(),
            ledger: books.ledger.clone(),
            shares: books.shares.clone(),
            open: in_flight(books.open.iter()),
            count,
            ended: self.ended,
        };
        self.task = Some(tokio::spawn(work.run()));
    }

    fn take(&mut self, made: Option<Result<Made, StoreError>>) {
        let now = Instant::now();
        self.at = now + EVERY;
        match made {
            Some(Ok(made)) => {
                self.at = now
                    + EVERY.max(made.all.saturating_sub(made.counting.unwrap_or_default()) * REST);
                if let Some(took) = made.counting {
                    self.count_at = now + COUNT_EVERY.max(took * REST);
                }
                self.count = Some(made.count);
                self.latest = Some(made.forecast);
            }
            Some(Err(error)) => tracing::debug!(%error, "no forecast this time"),
            None => tracing::error!("a forecast panicked; there is none this time"),
        }
    }

    /// Jobs are to be counted anew at the next turn: the configuration is another one.
    pub(in crate::daemon) fn forget(&mut self) {
        self.count = None;
        self.at = Instant::now();
    }

    /// No more: a read may be cancelled.
    pub(in crate::daemon) fn stop(&mut self) {
        self.latest = None;
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

/// What a forecast is made of.
struct Work {
    context: Arc<Context>,
    config: Config,
    ledger: Ledger,
    shares: Shares,
    open: Vec<Group>,
    count: Option<Count>,
    ended: i64,
}

impl Work {
    async fn run(self) -> Result<Made, StoreError> {
        let begun = Instant::now();
        let now = self.context.now();
        let out: i64 = self.open.iter().map(|group| group.jobs).sum();
        let (count, counting) = match self.count {
            Some(count) => (count, None),
            None => {
                let backlog = self.context.store.backlog(None, now).await?;
                let groups = Arc::new(queued(&backlog, &self.config));
                let counted = Count { groups, in_flight: out, ended: self.ended };
                (counted, Some(begun.elapsed()))
            }
        };
        let mut groups = count.groups.as_ref().clone();
        // Whatever ended was in flight then, or was queued and has started since.
        let started = (self.ended - count.ended) - count.in_flight + out;
        take_off(&mut groups, started.max(0));
        groups.extend(self.open);
        let view = View {
            now,
            ledger: &self.ledger,
            policy: &|queue| self.shares.policy(queue),
            max_in_flight: self.config.max_in_flight,
            as_model: None,
        };
        let forecast = foresee(view, &groups);
        Ok(Made { forecast, count, counting, all: begun.elapsed() })
    }
}

/// One made at once, for whoever drives the daemon by hand.
pub(in crate::daemon) async fn once(
    context: &Arc<Context>,
    books: &Books,
) -> Result<Forecast, StoreError> {
    let work = Work {
        context: Arc::clone(context),
        config: books.config.as_ref().clone(),
        ledger: books.ledger.clone(),
        shares: books.shares.clone(),
        open: in_flight(books.open.iter()),
        count: None,
        ended: 0,
    };
    Ok(work.run().await?.forecast)
}

/// Takes jobs that have started off the groups: the urgent first, of one priority evenly.
fn take_off(groups: &mut [Group], mut started: i64) {
    groups.sort_by_key(|group| (group.due.is_some(), Reverse(group.priority)));
    let same = |one: &Group, other: &Group| {
        (one.due.is_some(), one.priority) == (other.due.is_some(), other.priority)
    };
    for class in groups.chunk_by_mut(same) {
        let all: i64 = class.iter().map(|group| group.jobs).sum();
        let taken = started.min(all);
        started -= taken;
        for group in class {
            let part = i128::from(group.jobs) * i128::from(taken) / i128::from(all.max(1));
            group.jobs -= i64::try_from(part).unwrap_or(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Timestamp;

    #[test]
    fn what_has_started_is_taken_off_the_urgent_first() {
        let group = |priority, jobs| Group { priority, jobs, ..Group::default() };
        let due = Some((Timestamp(1), Timestamp(2)));
        let mut groups =
            vec![group(0, 100), group(5, 10), group(0, 300), Group { due, ..group(9, 7) }];
        take_off(&mut groups, 50);
        let left: Vec<(i64, i64)> = groups.iter().map(|one| (one.priority, one.jobs)).collect();
        assert_eq!(left, [(5, 0), (0, 90), (0, 270), (9, 7)]);
        take_off(&mut groups, 1_000);
        assert!(groups.iter().all(|one| one.jobs == 0));
    }
}
