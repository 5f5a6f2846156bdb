//! What the command line writes: new jobs, and changes to selected ones.

use super::Store;
use super::queue::ids;
use crate::domain::job::{JobEvent, JobId, JobState};
use crate::domain::time::Timestamp;
use crate::store::error::{Doing, StoreError};
use sqlx::sqlite::SqliteArguments;
use sqlx::{Row, Sqlite};

pub(super) const ADD_JOB: &str = "-- add_job
INSERT INTO jobs (prompt, request, system, model, max_tokens, queue, batch, key, priority, run_at,
  expires_at, max_attempts, metadata)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
RETURNING id";

pub(super) const FIND_BY_KEY: &str = "-- find_by_key
SELECT id FROM jobs WHERE queue = ?1 AND key = ?2";

/// Selected jobs: every given condition must hold. [`bound`] gives the values.
macro_rules! selected {
    ($head:literal, $tail:literal) => {
        concat!(
            $head,
            " FROM job_state AS s WHERE
  (?1 IS NULL OR s.id IN (SELECT value FROM json_each(?1)))
  AND (?2 IS NULL OR s.batch = ?2) AND (?3 IS NULL OR s.queue = ?3)
  AND (?4 IS NULL OR s.state IN (SELECT value FROM json_each(?4)))
  AND (?5 IS NULL OR s.error_class = ?5)
  AND (?6 IS NULL OR s.id IN (SELECT id FROM jobs WHERE key = ?6))
  AND (?7 IS NULL OR (SELECT a.stop_reason FROM attempts AS a WHERE a.id = s.attempt_id) = ?7) ",
            $tail
        )
    };
}
pub(super) use selected;

pub(super) const SELECT_IDS: &str =
    selected!("-- select_ids\nSELECT s.id, s.state", "ORDER BY s.id");

/// `+state` here and below keeps the index on `state` out: rows are found by id.
pub(super) const REQUEST_CANCEL: &str = "-- request_cancel
UPDATE jobs SET cancel_requested = ?2
WHERE id IN (SELECT value FROM json_each(?1)) AND cancel_requested < ?2
  AND id IN (SELECT id FROM job_state
    WHERE id IN (SELECT value FROM json_each(?1)) AND +state IN ('queued', 'running', 'held'))";

/// The answer of before stays with its attempt: the job has none until there is a new one, and a
/// turn that was paused begins anew. A `run_at` that has passed is due at the next turn, as after
/// an insert.
pub(super) const RETRY: &str = "-- retry
UPDATE job_state SET state = 'queued', counted_attempts = 0,
  next_attempt_at = (SELECT j.run_at FROM jobs AS j WHERE j.id = job_state.id),
  attempt_id = NULL, finished_seq = NULL, finished_at = NULL, error_class = NULL, error = NULL,
  expires_at = NULL, max_tokens = coalesce(?2, max_tokens), turn_from = NULL
WHERE id IN (SELECT value FROM json_each(?1)) AND +state IN ('succeeded', 'failed', 'cancelled')";

/// Of the jobs that are to be retried, before they are.
pub(super) const UNCANCEL: &str = "-- uncancel
UPDATE jobs SET cancel_requested = 0
WHERE id IN (SELECT value FROM json_each(?1)) AND cancel_requested <> 0
  AND id IN (SELECT id FROM job_state
    WHERE id IN (SELECT value FROM json_each(?1)) AND finished_seq IS NOT NULL)";

pub(super) const HOLD: &str = "-- hold
UPDATE job_state SET state = 'held', error_class = 'held', error = 'held by hand'
WHERE id IN (SELECT value FROM json_each(?1)) AND +state = 'queued'";

/// `next_attempt_at` stays: a job held before its time still waits for it.
pub(super) const RELEASE: &str = "-- release
UPDATE job_state SET state = 'queued', error_class = NULL, error = NULL
WHERE id IN (SELECT value FROM json_each(?1)) AND +state = 'held'";

pub(super) const PAUSE: &str = "-- pause
INSERT INTO pauses (queue, paused_at) VALUES (?1, ?2) ON CONFLICT (queue) DO NOTHING";

pub(super) const RESUME: &str = "-- resume
DELETE FROM pauses WHERE queue = ?1";

pub(super) const RESUME_ALL: &str = "-- resume_all
DELETE FROM pauses";

pub(super) const PAUSED: &str = "-- paused
SELECT queue FROM pauses ORDER BY queue";

/// A job as `claudeq add` inserts it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewJob {
    /// The user turn; or `request`.
    pub prompt: Option<String>,
    /// A Messages API body.
    pub request: Option<String>,
    /// System prompt.
    pub system: Option<String>,
    /// Model.
    pub model: Option<String>,
    /// Most output tokens.
    pub max_tokens: Option<i64>,
    /// Queue; `None`: `default`.
    pub queue: Option<String>,
    /// Label.
    pub batch: Option<String>,
    /// The producer's own id.
    pub key: Option<String>,
    /// Higher first.
    pub priority: i64,
    /// Not before.
    pub run_at: Option<Timestamp>,
    /// No new attempt after.
    pub expires_at: Option<Timestamp>,
    /// Counted attempts before it fails.
    pub max_attempts: Option<i64>,
    /// Given back untouched.
    pub metadata: Option<String>,
}

/// Which jobs are meant; every given condition must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// These.
    pub ids: Vec<JobId>,
    /// Of this batch.
    pub batch: Option<String>,
    /// Of this queue.
    pub queue: Option<String>,
    /// In one of these states.
    pub states: Vec<JobState>,
    /// With this error class.
    pub error_class: Option<String>,
    /// With this key, in any queue.
    pub key: Option<String>,
    /// Whose last answer stopped for this reason.
    pub stop_reason: Option<String>,
}

impl Selector {
    /// Whether it names nothing at all, which means every job.
    pub fn is_everything(&self) -> bool {
        *self == Selector::default()
    }

    fn ids_json(&self) -> Option<String> {
        (!self.ids.is_empty()).then(|| ids(&self.ids))
    }

    fn states_json(&self) -> Option<String> {
        let words: Vec<String> =
            self.states.iter().map(|state| format!("\"{}\"", state.as_str())).collect();
        (!words.is_empty()).then(|| format!("[{}]", words.join(",")))
    }
}

/// A statement with the values of the selector; more may follow.
pub(super) fn bound<'q>(
    statement: &'static str,
    which: &'q Selector,
) -> sqlx::query::Query<'q, Sqlite, SqliteArguments> {
    sqlx::query(statement)
        .bind(which.ids_json())
        .bind(&which.batch)
        .bind(&which.queue)
        .bind(which.states_json())
        .bind(&which.error_class)
        .bind(&which.key)
        .bind(&which.stop_reason)
}

/// How many jobs a change met, and how many it changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Edited {
    /// Changed.
    pub changed: u64,
}

impl Store {
    /// Inserts a job; the id of the one that is already there when queue and key are the same.
    ///
    /// # Errors
    /// [`StoreError::refusal`] when the schema refuses it.
    pub async fn add_job(&self, job: &NewJob) -> Result<JobId, StoreError> {
        let queue = job.queue.as_deref().unwrap_or("default");
        let inserted: Option<i64> = sqlx::query_scalar(ADD_JOB)
            .bind(&job.prompt)
            .bind(&job.request)
            .bind(&job.system)
            .bind(&job.model)
            .bind(job.max_tokens)
            .bind(queue)
            .bind(&job.batch)
            .bind(&job.key)
            .bind(job.priority)
            .bind(job.run_at.map(|at| at.0))
            .bind(job.expires_at.map(|at| at.0))
            .bind(job.max_attempts)
            .bind(&job.metadata)
            .fetch_optional(&self.writer)
            .await
            .doing("add a job")?;
        if let Some(id) = inserted {
            return Ok(JobId(id));
        }
        let id: i64 = sqlx::query_scalar(FIND_BY_KEY)
            .bind(queue)
            .bind(&job.key)
            .fetch_one(&self.writer)
            .await
            .doing("find the job that is already there")?;
        Ok(JobId(id))
    }

    /// Runs a statement as a producer would.
    ///
    /// # Errors
    /// [`StoreError::refusal`] when the schema refuses a job.
    pub async fn insert_as_producer(&self, statement: &'static str) -> Result<u64, StoreError> {
        let done = sqlx::query(statement).execute(&self.writer).await.doing("insert jobs")?;
        Ok(done.rows_affected())
    }

    /// The selected jobs and their states, by id.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn select(&self, which: &Selector) -> Result<Vec<(JobId, JobState)>, StoreError> {
        let query = bound(SELECT_IDS, which);
        let rows = query.fetch_all(&self.readers).await.doing("select jobs")?;
        let pair = |row: &sqlx::sqlite::SqliteRow| {
            let state = JobState::parse(row.get("state")).unwrap_or(JobState::Queued);
            (JobId(row.get("id")), state)
        };
        Ok(rows.iter().map(pair).collect())
    }

    /// Applies a person's event to jobs; those in a state that refuses it stay as they are.
    ///
    /// `Cancel` only asks: the daemon's next turn, or [`Store::sweep`] without one, does it.
    /// With `now_too` running calls are broken off.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn edit(
        &self,
        jobs: &[JobId],
        event: JobEvent,
        now_too: bool,
    ) -> Result<Edited, StoreError> {
        let list = ids(jobs);
        let statement = match event {
            JobEvent::Cancel => REQUEST_CANCEL,
            JobEvent::Retry => return self.retry(jobs, None).await,
            JobEvent::Hold => HOLD,
            JobEvent::Release => RELEASE,
            JobEvent::Lease
            | JobEvent::Succeed
            | JobEvent::Fail
            | JobEvent::Requeue
            | JobEvent::Continue => return Ok(Edited::default()),
        };
        let mut tx = self.begin().await?;
        let mut query = sqlx::query(statement).bind(&list);
        if event == JobEvent::Cancel {
            query = query.bind(if now_too { 2_i64 } else { 1 });
        }
        let changed = query.execute(&mut *tx).await.doing("change jobs")?.rows_affected();
        tx.commit().await.doing("commit changed jobs")?;
        Ok(Edited { changed })
    }

    /// Runs finished jobs again, as they are or with another `max_tokens`, which stays theirs.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn retry(
        &self,
        jobs: &[JobId],
        max_tokens: Option<i64>,
    ) -> Result<Edited, StoreError> {
        let list = ids(jobs);
        let mut tx = self.begin().await?;
        sqlx::query(UNCANCEL).bind(&list).execute(&mut *tx).await.doing("change jobs")?;
        let query = sqlx::query(RETRY).bind(&list).bind(max_tokens);
        let changed = query.execute(&mut *tx).await.doing("change jobs")?.rows_affected();
        tx.commit().await.doing("commit changed jobs")?;
        Ok(Edited { changed })
    }

    /// Pauses a queue (`*`: every queue).
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn pause(&self, queue: &str, now: Timestamp) -> Result<(), StoreError> {
        sqlx::query(PAUSE)
            .bind(queue)
            .bind(now.0)
            .execute(&self.writer)
            .await
            .doing("pause a queue")?;
        Ok(())
    }

    /// Ends the pause of one queue, or with `None` every pause; whether there was one.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn resume(&self, queue: Option<&str>) -> Result<bool, StoreError> {
        let query = match queue {
            Some(queue) => sqlx::query(RESUME).bind(queue.to_owned()),
            None => sqlx::query(RESUME_ALL),
        };
        let done = query.execute(&self.writer).await.doing("resume a queue")?;
        Ok(done.rows_affected() > 0)
    }

    /// The paused queues; `*` among them means every queue.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn paused(&self) -> Result<Vec<String>, StoreError> {
        sqlx::query_scalar(PAUSED).fetch_all(&self.readers).await.doing("read paused queues")
    }
}
