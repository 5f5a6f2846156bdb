//! The queue seen from its heads: who is ready, who is due, who is wanted no more.
//!
//! Invariant: each statement names its partial index. Left to itself the planner takes the index
//! on `(state, error_class)` and walks over every queued job.

use super::Store;
use super::again::terms;
use crate::domain::job::{JobEvent, JobId, JobState};
use crate::domain::time::Timestamp;
use crate::store::error::{Doing, StoreError};
use crate::store::rows::{Head, JobRow, Unfit};
use serde_json::{Value, json};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, Sqlite, Transaction};
use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// Queues with ready jobs, by skipping from one to the next in the index.
pub(super) const READY_QUEUES: &str = "-- ready_queues
WITH RECURSIVE queues (queue) AS (
  SELECT min(queue) FROM job_state INDEXED BY job_state_ready
  WHERE state = 'queued' AND next_attempt_at IS NULL
  UNION ALL
  SELECT (SELECT min(s.queue) FROM job_state AS s INDEXED BY job_state_ready
          WHERE s.state = 'queued' AND s.next_attempt_at IS NULL AND s.queue > queues.queue)
  FROM queues WHERE queues.queue IS NOT NULL
)
SELECT queue FROM queues WHERE queue IS NOT NULL LIMIT ?1";

pub(super) const HEADS: &str = "-- heads
SELECT head.id, head.priority,
  coalesce(octet_length(j.prompt), 0) + coalesce(octet_length(j.request), 0)
    + coalesce(octet_length(j.system), 0) AS bytes
FROM (
  SELECT id, priority FROM job_state INDEXED BY job_state_ready
  WHERE queue = ?1 AND state = 'queued' AND next_attempt_at IS NULL
  ORDER BY priority DESC, id LIMIT ?2
) AS head JOIN jobs AS j ON j.id = head.id
ORDER BY head.priority DESC, head.id";

/// The rest of one priority, and then what is less urgent: two ranges of the same index.
pub(super) const HEADS_AFTER: &str = "-- heads_after
SELECT head.id, head.priority,
  coalesce(octet_length(j.prompt), 0) + coalesce(octet_length(j.request), 0)
    + coalesce(octet_length(j.system), 0) AS bytes
FROM (
  SELECT id, priority FROM job_state INDEXED BY job_state_ready
  WHERE queue = ?1 AND state = 'queued' AND next_attempt_at IS NULL AND priority = ?2 AND id > ?3
  ORDER BY id LIMIT ?4
) AS head JOIN jobs AS j ON j.id = head.id
ORDER BY head.id";

pub(super) const HEADS_BELOW: &str = "-- heads_below
SELECT head.id, head.priority,
  coalesce(octet_length(j.prompt), 0) + coalesce(octet_length(j.request), 0)
    + coalesce(octet_length(j.system), 0) AS bytes
FROM (
  SELECT id, priority FROM job_state INDEXED BY job_state_ready
  WHERE queue = ?1 AND state = 'queued' AND next_attempt_at IS NULL AND priority < ?2
  ORDER BY priority DESC, id LIMIT ?3
) AS head JOIN jobs AS j ON j.id = head.id
ORDER BY head.priority DESC, head.id";

/// As bytes: one row that is not UTF-8 must fail alone. Its columns are read by their place.
pub(super) const BODIES: &str = "-- bodies
SELECT j.id, s.queue, s.priority, CAST(j.prompt AS BLOB) AS prompt,
  CAST(j.request AS BLOB) AS request, CAST(j.system AS BLOB) AS system,
  CAST(j.model AS BLOB) AS model, j.max_tokens, j.max_attempts, s.max_tokens, s.turn_from
FROM json_each(?1) AS wanted
JOIN jobs AS j ON j.id = wanted.value
JOIN job_state AS s ON s.id = j.id";

pub(super) const MAKE_DUE: &str = "-- make_due
UPDATE job_state SET next_attempt_at = NULL WHERE id IN (
  SELECT id FROM job_state INDEXED BY job_state_timed
  WHERE state = 'queued' AND next_attempt_at IS NOT NULL AND next_attempt_at <= ?1
  ORDER BY next_attempt_at LIMIT ?2)";

pub(super) const NEXT_DUE: &str = "-- next_due
SELECT min(at) FROM (
  SELECT min(next_attempt_at) AS at FROM job_state INDEXED BY job_state_timed
  WHERE state = 'queued' AND next_attempt_at IS NOT NULL
  UNION ALL
  SELECT min(expires_at) FROM job_state INDEXED BY job_state_expiring
  WHERE state = 'queued' AND expires_at IS NOT NULL)";

pub(super) const WORK_TO_SWEEP: &str = "-- work_to_sweep
SELECT EXISTS (SELECT 1 FROM job_state INDEXED BY job_state_timed
    WHERE state = 'queued' AND next_attempt_at IS NOT NULL AND next_attempt_at <= ?1)
  OR EXISTS (SELECT 1 FROM job_state INDEXED BY job_state_expiring
    WHERE state = 'queued' AND expires_at IS NOT NULL AND expires_at <= ?1)
  OR EXISTS (SELECT 1 FROM job_state INDEXED BY job_state_cancelling
    WHERE cancel_requested > 0 AND state IN ('queued', 'running', 'held')
      AND state <> 'running')";

pub(super) const EXPIRED: &str = "-- expired
SELECT id FROM job_state INDEXED BY job_state_expiring
WHERE state = 'queued' AND expires_at IS NOT NULL AND expires_at <= ?1
ORDER BY expires_at LIMIT ?2";

pub(super) const UNWANTED: &str = "-- unwanted
SELECT id FROM job_state INDEXED BY job_state_cancelling
WHERE cancel_requested > 0 AND state IN ('queued', 'running', 'held') AND state <> 'running'
LIMIT ?1";

pub(super) const BREAK_OFF: &str = "-- break_off
SELECT id FROM job_state INDEXED BY job_state_cancelling
WHERE cancel_requested > 1 AND state IN ('queued', 'running', 'held') AND state = 'running'
  AND cancel_requested > 0";

pub(super) const WAITING_STATES: &str = "-- waiting_states
SELECT s.id, s.state FROM json_each(?1) AS wanted
CROSS JOIN job_state AS s ON s.id = wanted.value
WHERE +s.state IN ('queued', 'held')";

/// Jobs that end or are held without a call. The `+` keeps the index on `state` out.
pub(super) const END_WITHOUT_CALL: &str = "-- end_without_call
UPDATE job_state SET
  state = v.value ->> 'state', finished_seq = v.value ->> 'seq',
  finished_at = v.value ->> 'finished_at', error_class = v.value ->> 'error_class',
  error = v.value ->> 'error', next_attempt_at = NULL
FROM json_each(?1) AS v
WHERE job_state.id = (v.value ->> 'job') AND +job_state.state IN ('queued', 'held')";

pub(super) const TAKE_NUMBERS: &str = "-- take_numbers
UPDATE sequences SET value = value + ?1 WHERE name = 'finished' RETURNING value";

/// What a sweep changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Timed jobs that became ready.
    pub due: u64,
    /// Jobs that ended: expired or cancelled.
    pub ended: u64,
}

impl Store {
    /// Up to `most` queues with ready jobs.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn ready_queues(&self, most: i64) -> Result<Vec<String>, StoreError> {
        sqlx::query_scalar(READY_QUEUES)
            .bind(most)
            .fetch_all(&self.readers)
            .await
            .doing("list the queues")
    }

    /// The first ready jobs of a queue.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn heads(&self, queue: &str, most: i64) -> Result<Vec<Head>, StoreError> {
        let rows = sqlx::query(HEADS)
            .bind(queue)
            .bind(most)
            .fetch_all(&self.readers)
            .await
            .doing("read the head of a queue")?;
        Ok(rows.iter().map(head).collect())
    }

    /// The ready jobs of a queue that come after this priority and id.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn heads_after(
        &self,
        queue: &str,
        (priority, id): (i64, JobId),
        most: i64,
    ) -> Result<Vec<Head>, StoreError> {
        let mut rows = sqlx::query(HEADS_AFTER)
            .bind(queue)
            .bind(priority)
            .bind(id.0)
            .bind(most)
            .fetch_all(&self.readers)
            .await
            .doing("read further into a queue")?;
        let missing = most.saturating_sub(i64::try_from(rows.len()).unwrap_or(i64::MAX));
        if missing > 0 {
            let below = sqlx::query(HEADS_BELOW)
                .bind(queue)
                .bind(priority)
                .bind(missing)
                .fetch_all(&self.readers)
                .await
                .doing("read further into a queue")?;
            rows.extend(below);
        }
        Ok(rows.iter().map(head).collect())
    }

    /// The bodies of these jobs, those that still exist.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn bodies(&self, jobs: &[JobId]) -> Result<Vec<JobRow>, StoreError> {
        let rows = sqlx::query(BODIES)
            .bind(ids(jobs))
            .fetch_all(&self.readers)
            .await
            .doing("read jobs")?;
        Ok(rows.iter().map(job_row).collect())
    }

    /// When the next timed job is due or the next job expires.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        let at: Option<i64> = sqlx::query_scalar(NEXT_DUE)
            .fetch_one(&self.readers)
            .await
            .doing("find the next due job")?;
        Ok(at.map(Timestamp))
    }

    /// Makes due jobs ready, ends expired and cancelled ones; at most `most` of each.
    ///
    /// Writes nothing when there is nothing to do.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn sweep(&self, now: Timestamp, most: i64) -> Result<Swept, StoreError> {
        let any: bool = sqlx::query_scalar(WORK_TO_SWEEP)
            .bind(now.0)
            .fetch_one(&self.readers)
            .await
            .doing("look for due jobs")?;
        if !any {
            return Ok(Swept::default());
        }
        let mut tx = self.begin().await?;
        let unwanted: Vec<i64> = sqlx::query_scalar(UNWANTED)
            .bind(most)
            .fetch_all(&mut *tx)
            .await
            .doing("cancel jobs")?;
        let unwanted: Vec<Unfit> = unwanted.into_iter().map(cancelled).collect();
        let mut ended = end_without_call(&mut tx, &unwanted, now).await?;
        let over: Vec<i64> = sqlx::query_scalar(EXPIRED)
            .bind(now.0)
            .bind(most)
            .fetch_all(&mut *tx)
            .await
            .doing("expire jobs")?;
        let over: Vec<Unfit> = over.into_iter().map(expired).collect();
        ended += end_without_call(&mut tx, &over, now).await?;
        let due = sqlx::query(MAKE_DUE)
            .bind(now.0)
            .bind(most)
            .execute(&mut *tx)
            .await
            .doing("make jobs ready")?
            .rows_affected();
        tx.commit().await.doing("commit a sweep")?;
        Ok(Swept { due, ended })
    }

    /// Ends or holds jobs that cannot be called at all.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn reject(&self, unfit: &[Unfit], now: Timestamp) -> Result<(), StoreError> {
        if unfit.is_empty() {
            return Ok(());
        }
        let mut tx = self.begin().await?;
        end_without_call(&mut tx, unfit, now).await?;
        tx.commit().await.doing("commit rejected jobs")
    }
}

fn cancelled(id: i64) -> Unfit {
    Unfit {
        job: JobId(id),
        event: JobEvent::Cancel,
        class: "cancelled".into(),
        error: "cancelled before it ran".into(),
    }
}

fn expired(id: i64) -> Unfit {
    Unfit {
        job: JobId(id),
        event: JobEvent::Fail,
        class: "expired".into(),
        error: "expires_at passed before an answer was there".into(),
    }
}

/// Applies events to jobs that are queued or held; how many of them changed.
pub(super) async fn end_without_call(
    tx: &mut Transaction<'static, Sqlite>,
    unfit: &[Unfit],
    now: Timestamp,
) -> Result<u64, StoreError> {
    if unfit.is_empty() {
        return Ok(0);
    }
    let wanted: Vec<JobId> = unfit.iter().map(|one| one.job).collect();
    let rows = sqlx::query(WAITING_STATES)
        .bind(ids(&wanted))
        .fetch_all(&mut **tx)
        .await
        .doing("look for waiting jobs")?;
    let states: HashMap<i64, JobState> = rows
        .iter()
        .filter_map(|row| Some((row.get("id"), JobState::parse(row.get("state"))?)))
        .collect();
    let moves: Vec<(&Unfit, JobState)> = unfit
        .iter()
        .filter_map(|one| Some((one, states.get(&one.job.0)?.next(one.event).ok()?)))
        .collect();
    let ends = moves.iter().filter(|(_, to)| to.is_finished()).count();
    let mut numbers = take_numbers(tx, ends).await?;
    let rows: Vec<Value> = moves
        .iter()
        .map(|(one, to)| {
            let seq = if to.is_finished() { numbers.next() } else { None };
            json!({
                "job": one.job.0, "state": to.as_str(), "seq": seq,
                "finished_at": seq.map(|_| now.0), "error_class": one.class, "error": one.error,
            })
        })
        .collect();
    let done = sqlx::query(END_WITHOUT_CALL)
        .bind(Value::Array(rows).to_string())
        .execute(&mut **tx)
        .await
        .doing("end jobs")?;
    Ok(done.rows_affected())
}

/// Takes the next `count` numbers of the finished sequence.
pub(super) async fn take_numbers(
    tx: &mut Transaction<'static, Sqlite>,
    count: usize,
) -> Result<RangeInclusive<i64>, StoreError> {
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    let last = if count == 0 {
        0
    } else {
        sqlx::query_scalar(TAKE_NUMBERS)
            .bind(count)
            .fetch_one(&mut **tx)
            .await
            .doing("number finished jobs")?
    };
    Ok(last - count + 1..=last)
}

/// Ids as a JSON array, for `json_each`.
pub(super) fn ids(jobs: &[JobId]) -> String {
    let list: Vec<String> = jobs.iter().map(|job| job.0.to_string()).collect();
    format!("[{}]", list.join(","))
}

fn head(row: &SqliteRow) -> Head {
    Head { id: JobId(row.get(0)), priority: row.get(1), bytes: row.get(2) }
}

fn job_row(row: &SqliteRow) -> JobRow {
    JobRow {
        id: JobId(row.get(0)),
        queue: Arc::from(row.get::<&str, _>(1)),
        priority: row.get(2),
        prompt: row.get(3),
        request: row.get(4),
        system: row.get(5),
        model: row.get(6),
        max_tokens: row.get(7),
        max_attempts: row.get::<Option<i64>, _>(8).and_then(|most| u32::try_from(most).ok()),
        terms: terms(row, 9),
    }
}
