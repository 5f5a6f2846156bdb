//! Cheap looks: at jobs by id or batch through their indexes, at the latest jobs and calls.
//!
//! `claudeq wait` asks several times a second, which must not read every row of a long queue.

use super::Store;
use super::edit::{Selector, bound, selected};
use super::queue::ids;
use super::read::{counts_of, list_row};
use crate::domain::job::{JobId, JobState};
use crate::store::error::{Doing, StoreError};
use crate::store::views::{Counts, JobListRow};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

pub(super) const ID_COUNTS: &str = "-- id_counts
SELECT s.state AS state, count(*) AS jobs
FROM json_each(?1) AS wanted CROSS JOIN job_state AS s ON s.id = wanted.value GROUP BY s.state";

pub(super) const BATCH_COUNTS: &str = "-- batch_counts
SELECT state, count(*) AS jobs FROM job_state WHERE batch = ?1 GROUP BY state";

pub(super) const STATES: &str = "-- states
SELECT s.id, s.state
FROM json_each(?1) AS wanted CROSS JOIN job_state AS s ON s.id = wanted.value ORDER BY s.id";

pub(super) const LATEST: &str = selected!(
    "-- latest
SELECT s.id, s.queue, s.batch, s.priority, s.state, s.attempts, s.next_attempt_at, s.error_class,
  s.error, s.finished_at, s.finished_seq, s.cancel_requested,
  (SELECT key FROM jobs WHERE id = s.id) AS key,
  (SELECT created_at FROM jobs WHERE id = s.id) AS created_at",
    "AND s.id > 0 ORDER BY s.id DESC LIMIT ?8"
);

pub(super) const LATEST_COST: &str = "-- latest_cost
SELECT coalesce(sum(coalesce(settled_nanousd, worst_nanousd)), 0) AS nanousd,
  count(DISTINCT job_id) AS jobs
FROM (SELECT job_id, settled_nanousd, worst_nanousd FROM attempts ORDER BY id DESC LIMIT ?1)";

impl Store {
    /// Jobs by state among the selected ones, through an index where there is one.
    ///
    /// # Errors
    /// When the database cannot be read; so for all the others here.
    pub async fn counts_among(&self, which: &Selector) -> Result<Counts, StoreError> {
        let only_ids = Selector { ids: which.ids.clone(), ..Selector::default() };
        let only_batch = Selector { batch: which.batch.clone(), ..Selector::default() };
        let query = if which.is_everything() {
            return self.counts().await;
        } else if *which == only_ids {
            sqlx::query(ID_COUNTS).bind(ids(&which.ids))
        } else if *which == only_batch {
            sqlx::query(BATCH_COUNTS).bind(which.batch.clone())
        } else {
            return self.selected_counts(which).await;
        };
        let rows = query.fetch_all(&self.readers).await.doing("count jobs")?;
        Ok(counts_of(&rows))
    }

    /// The selected jobs that were inserted last, by id.
    pub async fn latest(&self, which: &Selector, most: i64) -> Result<Vec<JobListRow>, StoreError> {
        let query = bound(LATEST, which).bind(most);
        let rows = query.fetch_all(&self.readers).await.doing("list jobs")?;
        Ok(rows.iter().rev().map(list_row).collect())
    }

    /// Those of the jobs that exist, with their states, by id.
    pub async fn states(&self, jobs: &[JobId]) -> Result<Vec<(JobId, JobState)>, StoreError> {
        let rows = sqlx::query(STATES)
            .bind(ids(jobs))
            .fetch_all(&self.readers)
            .await
            .doing("look for jobs")?;
        let pair = |row: &SqliteRow| {
            let state = JobState::parse(row.get("state")).unwrap_or(JobState::Queued);
            (JobId(row.get("id")), state)
        };
        Ok(rows.iter().map(pair).collect())
    }

    /// Nano-dollars that a job cost over the last `calls` calls; `None` before the first.
    pub async fn cost_per_job(&self, calls: i64) -> Result<Option<i64>, StoreError> {
        let row = sqlx::query(LATEST_COST)
            .bind(calls)
            .fetch_one(&self.readers)
            .await
            .doing("sum up the latest costs")?;
        let (nanousd, jobs): (i64, i64) = (row.get("nanousd"), row.get("jobs"));
        Ok((jobs > 0).then(|| nanousd / jobs))
    }
}
