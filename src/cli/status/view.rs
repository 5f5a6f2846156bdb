//! What status shows, read from the database in one go.
//!
//! Invariant: nothing here takes longer on a longer queue than counting an index does.

use crate::cli::budgets::{self, BudgetUse};
use crate::config::Config;
use crate::daemon::report::Report;
use crate::domain::forecast::Forecast;
use crate::domain::limit::{Dimension, Per};
use crate::domain::time::{Millis, Timestamp};
use crate::store::{
    Counts, DaemonRow, FailureCount, GateRow, LimitSnapshot, SpentRow, Store, Timed, UsedRow,
};
use std::path::PathBuf;
use std::time::Duration;

/// A heartbeat older than this is worth a word.
const SILENT: Millis = Millis::from_secs(30);
/// The mean cost of a job is taken over this many calls.
const CALLS_FOR_MEAN: i64 = 5_000;
/// A limit that nobody has touched for this long is not in use.
const IN_USE: Millis = Millis::from_secs(600);
/// Whoever holds the write lock this long is in the way.
const IN_THE_WAY: Duration = Duration::from_millis(40);

/// Everything on the screen.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    pub(super) now: Timestamp,
    pub(super) database: PathBuf,
    pub(super) bytes: u64,
    pub(super) base_url: String,
    /// `provider.api_key_file`.
    pub(super) api_key_file: Option<PathBuf>,
    pub(super) daemon: Daemon,
    pub(super) counts: Counts,
    pub(super) timed: Timed,
    pub(super) failures: Vec<FailureCount>,
    pub(super) held: Vec<FailureCount>,
    pub(super) retries: Vec<FailureCount>,
    pub(super) limits: Vec<LimitUse>,
    pub(super) gates: Vec<GateRow>,
    pub(super) paused: Vec<String>,
    pub(super) budgets: Vec<BudgetUse>,
    /// Since midnight UTC, where no budget says more.
    pub(super) spent_today: i64,
    /// Mean of the latest calls, nano-dollars.
    pub(super) per_job: Option<i64>,
    pub(super) unknown: i64,
    /// A process that keeps everybody from writing.
    pub(super) locked_by: Option<u32>,
}

/// Whether a daemon runs, and how it is.
#[derive(Clone, Debug, Default)]
pub(super) struct Daemon {
    pub(super) running: bool,
    pub(super) pid: Option<i64>,
    /// The latest one's row; that of one that runs no more when `running` is false.
    pub(super) row: Option<DaemonRow>,
    /// What it says of itself, only while it runs.
    pub(super) report: Option<Report>,
}

/// A limit and how much of it is used.
#[derive(Clone, Debug)]
pub(super) struct LimitUse {
    pub(super) snapshot: LimitSnapshot,
    /// In the last minute, hour or day.
    pub(super) used: i64,
}

impl Daemon {
    /// It went without saying so: killed, or the machine went down.
    pub(super) fn died(&self) -> Option<&DaemonRow> {
        self.row.as_ref().filter(|row| !self.running && row.stopped_at.is_none())
    }

    /// How long a daemon that runs has not been heard of, when that is too long.
    pub(super) fn silent(&self, now: Timestamp) -> Option<Millis> {
        let silence = now.since(self.row.as_ref()?.heartbeat_at);
        (self.running && silence > SILENT).then_some(silence)
    }
}

impl LimitUse {
    /// The snapshot's words as the domain's.
    pub(super) fn dimension(&self) -> Option<Dimension> {
        Dimension::parse(&self.snapshot.dimension)
    }

    pub(super) fn per(&self) -> Option<Per> {
        Per::parse(&self.snapshot.per)
    }
}

impl View {
    /// Jobs that are neither finished nor held.
    pub(super) fn remaining(&self) -> i64 {
        self.counts.queued + self.counts.running
    }

    /// What the daemon foresees, while there is something to do.
    pub(super) fn forecast(&self) -> Option<&Forecast> {
        let report = self.daemon.report.as_ref().filter(|_| self.remaining() > 0)?;
        report.forecast.as_ref().filter(|forecast| forecast.jobs > 0)
    }

    /// Queued jobs that were not tried yet and wait for no time of their own.
    pub(super) fn waiting(&self) -> i64 {
        (self.counts.queued - self.timed.timed).max(0)
    }

    /// Queued jobs whose time has not come.
    pub(super) fn scheduled(&self) -> i64 {
        (self.timed.timed - self.timed.retrying).max(0)
    }

    /// Reads it all. To count a million waiting jobs takes as long as all the rest, so it is done
    /// beside it.
    pub(super) async fn read(
        store: &Store,
        config: &Config,
        now: Timestamp,
    ) -> anyhow::Result<View> {
        let counts = async { anyhow::Ok(store.counts().await?) };
        let (view, counts) = tokio::try_join!(View::read_rest(store, config, now), counts)?;
        Ok(View { counts, ..view })
    }

    /// Everything but the counts.
    async fn read_rest(store: &Store, config: &Config, now: Timestamp) -> anyhow::Result<View> {
        let used = store.used_since(now - Millis::MINUTE).await?;
        let daemon = daemon(store).await?;
        let live_url = daemon.report.as_ref().map(|report| report.base_url.clone());
        let budgets = budgets::read(store, config, now).await?;
        let spent_today = if budgets.is_empty() {
            let models = store.spent_by_model(budgets::today(now), None, None).await?;
            SpentRow::sum(&models).nanousd
        } else {
            0
        };
        Ok(View {
            now,
            database: store.path().to_owned(),
            bytes: std::fs::metadata(store.path()).map_or(0, |file| file.len()),
            base_url: live_url.unwrap_or_else(|| config.provider.base_url.clone()),
            api_key_file: config.provider.api_key_file.clone(),
            counts: Counts::default(),
            timed: store.timed().await?,
            failures: store.by_class("failed").await?,
            held: store.by_class("held").await?,
            retries: store.retrying_by_class().await?,
            limits: limits_in_use(store.limits().await?, &used, now),
            gates: store.gates().await?,
            paused: store.paused().await?,
            budgets,
            spent_today,
            per_job: store.cost_per_job(CALLS_FOR_MEAN).await?,
            unknown: store.unknown_attempts().await?,
            locked_by: locked_by(store, daemon.pid).await,
            daemon,
        })
    }
}

async fn daemon(store: &Store) -> anyhow::Result<Daemon> {
    let holder = store.holder();
    let row = store.daemon().await?;
    let of_row = row.as_ref().filter(|row| row.stopped_at.is_none()).map(|row| row.pid);
    // While a new daemon starts, the row is still that of the one before.
    let is_of_holder = |row: &&DaemonRow| holder.pid.is_none_or(|pid| i64::from(pid) == row.pid);
    let report = row
        .as_ref()
        .filter(|row| holder.held && row.stopped_at.is_none())
        .filter(is_of_holder)
        .and_then(|row| serde_json::from_str(row.report.as_deref()?).ok());
    let pid = if holder.held { holder.pid.map(i64::from).or(of_row) } else { None };
    Ok(Daemon { running: holder.held, pid, row, report })
}

/// Who, other than the daemon, holds the write lock, and still does a moment later.
async fn locked_by(store: &Store, daemon: Option<i64>) -> Option<u32> {
    let first = store.write_lock_holder().filter(|pid| Some(i64::from(*pid)) != daemon)?;
    tokio::time::sleep(IN_THE_WAY).await;
    store.write_lock_holder().filter(|pid| *pid == first)
}

/// Limits of pools that were used lately, with what was used of them.
fn limits_in_use(all: Vec<LimitSnapshot>, used: &[UsedRow], now: Timestamp) -> Vec<LimitUse> {
    let lately = |snapshot: &LimitSnapshot| {
        now.since(snapshot.as_of) < IN_USE || used.iter().any(|row| row.pool == snapshot.pool)
    };
    let mut limits: Vec<LimitUse> = all
        .into_iter()
        .filter(lately)
        .map(|snapshot| {
            let used = match Per::parse(&snapshot.per) {
                Some(Per::Minute) | None => used_of(&snapshot, used),
                Some(Per::Hour | Per::Day) => snapshot.capacity - snapshot.available,
            };
            LimitUse { snapshot, used }
        })
        .collect();
    limits.sort_by_key(|limit| (limit.snapshot.pool.clone(), limit.per(), limit.dimension()));
    limits
}

fn used_of(snapshot: &LimitSnapshot, used: &[UsedRow]) -> i64 {
    let Some(row) = used.iter().find(|row| row.pool == snapshot.pool) else {
        return 0;
    };
    match Dimension::parse(&snapshot.dimension) {
        Some(Dimension::Requests) => row.requests,
        Some(Dimension::InputTokens) => row.input_tokens,
        Some(Dimension::OutputTokens) => row.output_tokens,
        Some(Dimension::Tokens) | None => row.input_tokens.saturating_add(row.output_tokens),
    }
}
