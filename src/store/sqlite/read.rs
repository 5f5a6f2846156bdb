//! What people look at: counts, lists, the daemon's row.

use super::Store;
use super::edit::{Selector, bound, selected};
use crate::domain::job::JobId;
use crate::domain::time::Timestamp;
use crate::store::error::{Doing, StoreError};
use crate::store::rows::BudgetSnapshot;
use crate::store::views::{
    AttemptRow, Counts, DaemonRow, FailureCount, JobDetail, JobListRow, Outlook, QueueCount, Timed,
    UsedRow,
};
use serde_json::value::RawValue;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

pub(super) const OUTLOOK: &str = "-- outlook
SELECT (SELECT count(*) FROM job_state WHERE state = 'queued') AS queued,
  (SELECT count(*) FROM job_state INDEXED BY job_state_running WHERE state = 'running') AS running,
  EXISTS (SELECT 1 FROM job_state INDEXED BY job_state_timed
    WHERE state = 'queued' AND next_attempt_at IS NOT NULL) AS timed,
  EXISTS (SELECT 1 FROM job_state WHERE state = 'held') AS held";

pub(super) const WAITING: &str = "-- waiting
SELECT count(*) AS timed, coalesce(sum(attempts > 0), 0) AS retrying, min(next_attempt_at) AS next
FROM job_state INDEXED BY job_state_timed
WHERE state = 'queued' AND next_attempt_at IS NOT NULL";

pub(super) const FAILURES: &str = "-- failures
SELECT error_class, count(*) AS jobs FROM job_state
WHERE state = ?1 GROUP BY error_class ORDER BY jobs DESC, error_class LIMIT 20";

pub(super) const QUEUES: &str = "-- queues
SELECT queue, count(*) AS jobs, sum(state = 'running') AS running
FROM job_state WHERE state IN ('queued', 'running') GROUP BY queue ORDER BY queue LIMIT 1000";

pub(super) const DAEMON: &str = "-- daemon
SELECT epoch, pid, host, version, started_at, heartbeat_at, stopped_at, report
FROM daemons ORDER BY epoch DESC LIMIT 1";

/// Settled where settled, else what is set aside.
pub(super) const USED: &str = "-- used
SELECT pool, sum(coalesce(settled_requests, reserved_requests)) AS requests,
  sum(coalesce(settled_input_tokens, reserved_input_tokens)) AS input_tokens,
  sum(coalesce(settled_output_tokens, reserved_output_tokens)) AS output_tokens
FROM attempts WHERE reserved_at > ?1 GROUP BY pool";

pub(super) const RETRYING: &str = "-- retrying
SELECT error_class, count(*) AS jobs FROM job_state INDEXED BY job_state_timed
WHERE state = 'queued' AND next_attempt_at IS NOT NULL AND attempts > 0
GROUP BY error_class ORDER BY jobs DESC LIMIT 20";

pub(super) const UNKNOWN: &str = "-- unknown
SELECT count(*) FROM attempts WHERE outcome = 'unknown'";

pub(super) const LIST: &str = selected!(
    "-- list
SELECT s.id, s.queue, s.batch, s.priority, s.state, s.attempts, s.next_attempt_at, s.error_class,
  s.error, s.finished_at, s.finished_seq, s.cancel_requested,
  (SELECT key FROM jobs WHERE id = s.id) AS key,
  (SELECT created_at FROM jobs WHERE id = s.id) AS created_at",
    "AND s.id > ?8 ORDER BY s.id LIMIT ?9"
);

pub(super) const SELECTED_COUNTS: &str =
    selected!("-- selected_counts\nSELECT s.state AS state, count(*) AS jobs", "GROUP BY s.state");

pub(super) const DETAIL: &str = "-- detail
SELECT j.id, j.prompt, j.request, j.system, j.model, j.max_tokens, j.queue, j.batch, j.key,
  j.priority, j.run_at, j.expires_at, j.max_attempts, j.metadata, j.created_at,
  j.cancel_requested, s.state, s.attempts, s.next_attempt_at, s.error_class, s.error,
  s.finished_at, s.finished_seq, s.max_tokens AS retry_max_tokens, r.text, r.body,
  (SELECT a.stop_reason FROM attempts AS a WHERE a.id = s.attempt_id) AS stop_reason,
  (SELECT CASE WHEN count(*) = count(a.settled_nanousd) THEN total(a.settled_nanousd) / 1e9 END
   FROM attempts AS a WHERE a.job_id = j.id) AS cost_usd
FROM jobs AS j JOIN job_state AS s ON s.id = j.id
LEFT JOIN responses AS r ON r.attempt_id = s.attempt_id
WHERE j.id = ?1";

pub(super) const ATTEMPTS: &str = "-- attempts
SELECT id, job_id, number, epoch, pool, model, outcome, settlement, http_status, request_id,
  error_class, error, stop_reason, input_tokens, output_tokens, cache_read_tokens,
  cache_write_tokens, settled_nanousd, worst_nanousd, reserved_at, sent_at, first_byte_at,
  done_at, wait_reason
FROM attempts WHERE job_id = ?1 ORDER BY number";

pub(super) const BUDGETS: &str = "-- budgets
SELECT budget, period_start, period_end, cap, spent, reserved FROM budget_snapshots
WHERE period_start <= ?1 AND period_end > ?1 ORDER BY budget";

impl Store {
    /// What is left to do.
    pub async fn outlook(&self) -> Result<Outlook, StoreError> {
        let row = sqlx::query(OUTLOOK).fetch_one(&self.readers).await;
        let row = row.doing("count what is left")?;
        Ok(Outlook {
            queued: row.get("queued"),
            running: row.get("running"),
            timed: row.get("timed"),
            held: row.get("held"),
        })
    }

    /// Jobs by state among the selected ones.
    pub async fn selected_counts(&self, which: &Selector) -> Result<Counts, StoreError> {
        let query = bound(SELECTED_COUNTS, which);
        let rows = query.fetch_all(&self.readers).await.doing("count jobs")?;
        Ok(counts_of(&rows))
    }

    /// Queued jobs that wait for a time.
    pub async fn timed(&self) -> Result<Timed, StoreError> {
        let row =
            sqlx::query(WAITING).fetch_one(&self.readers).await.doing("count waiting jobs")?;
        Ok(Timed {
            timed: row.get("timed"),
            retrying: row.get("retrying"),
            next_at: row.get::<Option<i64>, _>("next").map(Timestamp),
        })
    }

    /// Jobs in a state by error class, the most frequent first.
    pub async fn by_class(&self, state: &str) -> Result<Vec<FailureCount>, StoreError> {
        let rows = sqlx::query(FAILURES)
            .bind(state)
            .fetch_all(&self.readers)
            .await
            .doing("count failures")?;
        Ok(rows.iter().map(class_count).collect())
    }

    /// Retrying jobs by what their last attempt met.
    pub async fn retrying_by_class(&self) -> Result<Vec<FailureCount>, StoreError> {
        let rows = sqlx::query(RETRYING).fetch_all(&self.readers).await.doing("count retries")?;
        Ok(rows.iter().map(class_count).collect())
    }

    /// Queues with work.
    pub async fn queues(&self) -> Result<Vec<QueueCount>, StoreError> {
        let rows = sqlx::query(QUEUES).fetch_all(&self.readers).await.doing("count queues")?;
        let queue = |row: &SqliteRow| QueueCount {
            queue: row.get("queue"),
            jobs: row.get("jobs"),
            running: row.get("running"),
        };
        Ok(rows.iter().map(queue).collect())
    }

    /// The latest daemon, if there ever was one.
    pub async fn daemon(&self) -> Result<Option<DaemonRow>, StoreError> {
        let row = sqlx::query(DAEMON)
            .fetch_optional(&self.readers)
            .await
            .doing("read the daemon's row")?;
        Ok(row.map(|row| DaemonRow {
            epoch: row.get("epoch"),
            pid: row.get("pid"),
            host: row.get("host"),
            version: row.get("version"),
            started_at: Timestamp(row.get("started_at")),
            heartbeat_at: Timestamp(row.get("heartbeat_at")),
            stopped_at: row.get::<Option<i64>, _>("stopped_at").map(Timestamp),
            report: row.get("report"),
        }))
    }

    /// What each pool used since a moment.
    pub async fn used_since(&self, since: Timestamp) -> Result<Vec<UsedRow>, StoreError> {
        let rows = sqlx::query(USED)
            .bind(since.0)
            .fetch_all(&self.readers)
            .await
            .doing("sum up the last minute")?;
        let used = |row: &SqliteRow| UsedRow {
            pool: row.get("pool"),
            requests: row.get("requests"),
            input_tokens: row.get("input_tokens"),
            output_tokens: row.get("output_tokens"),
        };
        Ok(rows.iter().map(used).collect())
    }

    /// Attempts whose fate nobody knows.
    pub async fn unknown_attempts(&self) -> Result<i64, StoreError> {
        sqlx::query_scalar(UNKNOWN).fetch_one(&self.readers).await.doing("count unknown attempts")
    }

    /// Selected jobs after an id, by id.
    pub async fn list(
        &self,
        which: &Selector,
        after: JobId,
        most: i64,
    ) -> Result<Vec<JobListRow>, StoreError> {
        let query = bound(LIST, which).bind(after.0).bind(most);
        let rows = query.fetch_all(&self.readers).await.doing("list jobs")?;
        Ok(rows.iter().map(list_row).collect())
    }

    /// Everything about one job.
    pub async fn detail(&self, job: JobId) -> Result<Option<JobDetail>, StoreError> {
        let row = sqlx::query(DETAIL)
            .bind(job.0)
            .fetch_optional(&self.readers)
            .await
            .doing("read a job")?;
        Ok(row.as_ref().map(detail_row))
    }

    /// The attempts of a job.
    pub async fn attempts(&self, job: JobId) -> Result<Vec<AttemptRow>, StoreError> {
        let rows = sqlx::query(ATTEMPTS)
            .bind(job.0)
            .fetch_all(&self.readers)
            .await
            .doing("read attempts")?;
        Ok(rows.iter().map(attempt_row).collect())
    }

    /// The snapshots of the budget periods around a moment.
    pub async fn budgets(&self, now: Timestamp) -> Result<Vec<BudgetSnapshot>, StoreError> {
        let rows = sqlx::query(BUDGETS)
            .bind(now.0)
            .fetch_all(&self.readers)
            .await
            .doing("read budgets")?;
        let budget = |row: &SqliteRow| BudgetSnapshot {
            budget: row.get("budget"),
            period_start: Timestamp(row.get("period_start")),
            period_end: Timestamp(row.get("period_end")),
            cap: row.get("cap"),
            spent: row.get("spent"),
            reserved: row.get("reserved"),
        };
        Ok(rows.iter().map(budget).collect())
    }
}

pub(super) fn counts_of(rows: &[SqliteRow]) -> Counts {
    let mut counts = Counts::default();
    for row in rows {
        counts.set(row.get("state"), row.get("jobs"));
    }
    counts
}

fn class_count(row: &SqliteRow) -> FailureCount {
    FailureCount {
        error_class: row.get::<Option<String>, _>("error_class").unwrap_or_default(),
        jobs: row.get("jobs"),
    }
}

/// Text as a producer may have stored it: perhaps not UTF-8.
pub(super) fn lossy(row: &SqliteRow, column: &str) -> Option<String> {
    let bytes: Option<Vec<u8>> = row.get_unchecked(column);
    bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

pub(super) fn raw(row: &SqliteRow, column: &str) -> Option<Box<RawValue>> {
    lossy(row, column).and_then(|text| RawValue::from_string(text).ok())
}

pub(super) fn list_row(row: &SqliteRow) -> JobListRow {
    JobListRow {
        id: row.get("id"),
        key: lossy(row, "key"),
        queue: row.get("queue"),
        batch: lossy(row, "batch"),
        priority: row.get("priority"),
        state: row.get("state"),
        attempts: row.get("attempts"),
        next_attempt_at: row.get("next_attempt_at"),
        error_class: row.get("error_class"),
        error: row.get("error"),
        cancel_requested: row.get("cancel_requested"),
        created_at: row.get("created_at"),
        finished_at: row.get("finished_at"),
        seq: row.get("finished_seq"),
    }
}

fn detail_row(row: &SqliteRow) -> JobDetail {
    JobDetail {
        id: row.get("id"),
        state: row.get("state"),
        queue: row.get("queue"),
        batch: lossy(row, "batch"),
        key: lossy(row, "key"),
        priority: row.get("priority"),
        model: lossy(row, "model"),
        max_tokens: row.get("max_tokens"),
        retry_max_tokens: row.get("retry_max_tokens"),
        system: lossy(row, "system"),
        prompt: lossy(row, "prompt"),
        request: lossy(row, "request"),
        metadata: lossy(row, "metadata"),
        run_at: row.get("run_at"),
        expires_at: row.get("expires_at"),
        max_attempts: row.get("max_attempts"),
        cancel_requested: row.get("cancel_requested"),
        created_at: row.get("created_at"),
        attempts: row.get("attempts"),
        next_attempt_at: row.get("next_attempt_at"),
        error_class: row.get("error_class"),
        error: row.get("error"),
        finished_at: row.get("finished_at"),
        seq: row.get("finished_seq"),
        stop_reason: row.get("stop_reason"),
        text: row.get("text"),
        response: raw(row, "body"),
        cost_usd: row.get("cost_usd"),
    }
}

fn attempt_row(row: &SqliteRow) -> AttemptRow {
    let nanousd: Option<i64> = row.get("settled_nanousd");
    AttemptRow {
        id: row.get("id"),
        job_id: row.get("job_id"),
        number: row.get("number"),
        epoch: row.get("epoch"),
        pool: row.get("pool"),
        model: row.get("model"),
        outcome: row.get("outcome"),
        settlement: row.get("settlement"),
        http_status: row.get("http_status"),
        request_id: row.get("request_id"),
        error_class: row.get("error_class"),
        error: row.get("error"),
        stop_reason: row.get("stop_reason"),
        input_tokens: row.get("input_tokens"),
        output_tokens: row.get("output_tokens"),
        cache_read_tokens: row.get("cache_read_tokens"),
        cache_write_tokens: row.get("cache_write_tokens"),
        // Money is far below 2^53 nano-dollars, so the division is exact enough.
        cost_usd: nanousd.map(crate::domain::price::in_usd),
        reserved_at: row.get("reserved_at"),
        sent_at: row.get("sent_at"),
        first_byte_at: row.get("first_byte_at"),
        done_at: row.get("done_at"),
        wait_reason: row.get("wait_reason"),
    }
}
