//! A look at the database before anything is done: whether others have committed, what is due, and
//! how much of the WAL is not in the database yet.

use super::batch::Batch;
use super::edit::PAUSED;
use super::queue::{BREAK_OFF, NEXT_DUE, WORK_TO_SWEEP};
use super::{DATA_VERSION, Store};
use crate::domain::job::JobId;
use crate::domain::time::Timestamp;
use crate::store::error::{Doing, StoreError};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

pub(super) const WAL_STATE: &str = "-- wal_state
PRAGMA wal_checkpoint(NOOP)";

/// What a look shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glance {
    /// Changes when somebody else commits, and not when this store does.
    pub version: i64,
    /// Whether a sweep has something to do.
    pub to_sweep: bool,
    /// When the next timed job is due or the next job expires.
    pub next_due: Option<Timestamp>,
    /// The WAL.
    pub wal: Wal,
}

/// The WAL, in pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wal {
    /// Those in it.
    pub pages: i64,
    /// Those of them that are not in the database yet.
    pub unmoved: i64,
}

/// What people ask of a running daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Queues that are paused; `*` among them is every queue.
    pub paused: Vec<String>,
    /// Running jobs whose call is to be broken off.
    pub break_off: Vec<JobId>,
}

impl Store {
    /// What people ask of a running daemon.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn wishes(&self) -> Result<Wishes, StoreError> {
        let mut batch = Batch::default();
        let paused = batch.add("read paused queues", PAUSED, []);
        let break_off = batch.add("find jobs to break off", BREAK_OFF, []);
        let mut reader = self.readers.acquire().await.doing("look at the database")?;
        let rows = batch.run(&mut reader).await?;
        Ok(Wishes {
            paused: rows[paused].iter().map(|row| row.get(0)).collect(),
            break_off: rows[break_off].iter().map(|row| JobId(row.get(0))).collect(),
        })
    }

    /// Looks, with one hand-off to the writer's thread.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn glance(&self, now: Timestamp) -> Result<Glance, StoreError> {
        let mut batch = Batch::default();
        let version = batch.add("look for new commits", DATA_VERSION, []);
        let wal = batch.add("look at the WAL", WAL_STATE, []);
        let sweep = batch.add("look for due jobs", WORK_TO_SWEEP, [now.0.into()]);
        let due = batch.add("find the next due job", NEXT_DUE, []);
        let mut writer = self.writer.acquire().await.doing("look at the database")?;
        let rows = batch.run(&mut writer).await?;
        let number = |at: usize, column: usize| {
            rows[at].first().and_then(|row: &SqliteRow| row.get::<Option<i64>, _>(column))
        };
        let pages = number(wal, 1).unwrap_or(0).max(0);
        let moved = number(wal, 2).unwrap_or(0).max(0);
        Ok(Glance {
            version: number(version, 0).unwrap_or(0),
            to_sweep: number(sweep, 0) == Some(1),
            next_due: number(due, 0).map(Timestamp),
            wal: Wal { pages, unmoved: pages - moved },
        })
    }
}
