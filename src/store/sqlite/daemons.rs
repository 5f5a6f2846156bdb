//! The daemon's own row: its epoch fences what it writes, its report is what status reads.

use super::Store;
use crate::domain::job::Epoch;
use crate::domain::time::Timestamp;
use crate::store::error::{Doing, StoreError};

pub(super) const BEGIN_EPOCH: &str = "-- begin_epoch
INSERT INTO daemons (pid, host, version, started_at, heartbeat_at)
VALUES (?1, ?2, ?3, ?4, ?4) RETURNING epoch";

pub(super) const HEARTBEAT: &str = "-- heartbeat
UPDATE daemons SET heartbeat_at = ?2, report = ?3
WHERE epoch = ?1 AND epoch = (SELECT max(epoch) FROM daemons)";

pub(super) const END_EPOCH: &str = "-- end_epoch
UPDATE daemons SET stopped_at = ?2, heartbeat_at = ?2, report = ?3 WHERE epoch = ?1";

pub(super) const LAST_TIME: &str = "-- last_time
SELECT max(coalesce((SELECT max(heartbeat_at) FROM daemons), 0),
  coalesce((SELECT max(reserved_at) FROM attempts), 0),
  coalesce((SELECT max(counted_at) FROM attempts WHERE counted_at IS NOT NULL), 0))";

pub(super) const DATABASE_ID: &str = "-- database_id
SELECT id FROM identity LIMIT 1";

pub(super) const LAST_FINISHED: &str = "-- last_finished
SELECT value FROM sequences WHERE name = 'finished'";

pub(super) const FAILED_SINCE: &str = "-- failed_since
SELECT EXISTS (SELECT 1 FROM job_state WHERE finished_seq > ?1 AND +state = 'failed')";

impl Store {
    /// Begins a daemon's life.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn begin_epoch(
        &self,
        pid: u32,
        host: &str,
        version: &str,
        now: Timestamp,
    ) -> Result<Epoch, StoreError> {
        let epoch: i64 = sqlx::query_scalar(BEGIN_EPOCH)
            .bind(pid)
            .bind(host)
            .bind(version)
            .bind(now.0)
            .fetch_one(&self.writer)
            .await
            .doing("begin an epoch")?;
        Ok(Epoch(epoch))
    }

    /// Says that the daemon lives, and how it is; false when a newer one has taken over.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn heartbeat(
        &self,
        epoch: Epoch,
        report: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(HEARTBEAT)
            .bind(epoch.0)
            .bind(now.0)
            .bind(report)
            .execute(&self.writer)
            .await
            .doing("write a heartbeat")?;
        Ok(done.rows_affected() > 0)
    }

    /// Ends a daemon's life in order.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn end_epoch(
        &self,
        epoch: Epoch,
        report: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query(END_EPOCH)
            .bind(epoch.0)
            .bind(now.0)
            .bind(report)
            .execute(&self.writer)
            .await
            .doing("end an epoch")?;
        Ok(())
    }

    /// What tells this database from every other one.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn database_id(&self) -> Result<String, StoreError> {
        sqlx::query_scalar(DATABASE_ID).fetch_one(&self.readers).await.doing("read the identity")
    }

    /// The number of the job that finished last; zero when none has.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn last_finished(&self) -> Result<i64, StoreError> {
        let seq: Option<i64> = sqlx::query_scalar(LAST_FINISHED)
            .fetch_optional(&self.readers)
            .await
            .doing("find the last finished job")?;
        Ok(seq.unwrap_or(0))
    }

    /// Whether a job has failed after the finished job of this number, however that came about.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn failed_since(&self, seq: i64) -> Result<bool, StoreError> {
        sqlx::query_scalar(FAILED_SINCE)
            .bind(seq)
            .fetch_one(&self.readers)
            .await
            .doing("look for failed jobs")
    }

    /// The latest moment the ledger knows of: time never runs behind it.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn last_time(&self) -> Result<Timestamp, StoreError> {
        let at: i64 = sqlx::query_scalar(LAST_TIME)
            .fetch_one(&self.readers)
            .await
            .doing("read the last time")?;
        Ok(Timestamp(at))
    }
}
