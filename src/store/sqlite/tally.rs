//! How many jobs there are in each state, however many have ended.
//!
//! Invariant: a finished job is in `finished_counts` when its number is at most `counted`, and is
//! counted by index when it is behind that; never both. Triggers take out what is asked again or
//! deleted.

use super::Store;
use super::read::counts_of;
use crate::store::error::{Doing, StoreError};
use crate::store::views::Counts;

/// Fewer newly finished jobs than this are not worth a transaction: to count them is cheaper.
const WORTH_IT: i64 = 1_000;
/// Rows that one step looks at, so that it stays short.
const STEP: i64 = 8_192;

/// One state at a time: to group a million rows takes twice as long as to count them.
pub(super) const COUNTS: &str = "-- counts
SELECT state, sum(jobs) AS jobs FROM (
  SELECT state, jobs FROM finished_counts
  UNION ALL
  SELECT state, count(*) FROM job_state INDEXED BY job_state_finished
  WHERE finished_seq > (SELECT value FROM sequences WHERE name = 'counted')
  GROUP BY state
  UNION ALL
  SELECT 'queued', count(*) FROM job_state INDEXED BY job_state_class WHERE state = 'queued'
  UNION ALL
  SELECT 'running', count(*) FROM job_state INDEXED BY job_state_class WHERE state = 'running'
  UNION ALL
  SELECT 'held', count(*) FROM job_state INDEXED BY job_state_class WHERE state = 'held')
GROUP BY state";

pub(super) const UNCOUNTED: &str = "-- uncounted
SELECT (SELECT value FROM sequences WHERE name = 'finished')
  - (SELECT value FROM sequences WHERE name = 'counted')";

pub(super) const COUNT_FINISHED: &str = "-- count_finished
WITH next AS MATERIALIZED (
  SELECT state FROM job_state INDEXED BY job_state_finished
  WHERE finished_seq > (SELECT value FROM sequences WHERE name = 'counted')
  ORDER BY finished_seq LIMIT ?1)
UPDATE finished_counts
SET jobs = jobs + (SELECT count(*) FROM next WHERE next.state = finished_counts.state)";

pub(super) const COUNTED: &str = "-- counted
UPDATE sequences SET value = coalesce((
  SELECT max(finished_seq) FROM (
    SELECT finished_seq FROM job_state INDEXED BY job_state_finished
    WHERE finished_seq > (SELECT value FROM sequences WHERE name = 'counted')
    ORDER BY finished_seq LIMIT ?1)), value)
WHERE name = 'counted'";

impl Store {
    /// Jobs by state.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn counts(&self) -> Result<Counts, StoreError> {
        let rows = sqlx::query(COUNTS).fetch_all(&self.readers).await.doing("count jobs")?;
        Ok(counts_of(&rows))
    }

    /// Enters what has ended into the counts, a bounded step of it; nothing when it is little.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn tally(&self) -> Result<(), StoreError> {
        let behind: i64 = sqlx::query_scalar(UNCOUNTED)
            .fetch_one(&self.readers)
            .await
            .doing("look for finished jobs")?;
        if behind < WORTH_IT {
            return Ok(());
        }
        let mut tx = self.begin().await?;
        for statement in [COUNT_FINISHED, COUNTED] {
            sqlx::query(statement)
                .bind(STEP)
                .execute(&mut *tx)
                .await
                .doing("count finished jobs")?;
        }
        tx.commit().await.doing("commit counts")
    }
}
