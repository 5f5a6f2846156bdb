//! Finished jobs with their answers, page by page.
//!
//! Invariant: a page is bounded in rows and in bytes, however large the answers are: it is found
//! first, by the sizes alone, and then read.

use super::Store;
use super::edit::{Selector, bound};
use super::read::{lossy, raw};
use super::settle::LAST_NUMBER;
use crate::domain::job::JobId;
use crate::store::error::{Doing, StoreError};
use crate::store::views::ResultRow;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

/// Bytes of answers on a page; a single one may be larger.
const PAGE_BYTES: i64 = 8 << 20;

/// Finished jobs that are selected, and how large their answers are.
macro_rules! found {
    ($head:literal, $tail:literal) => {
        concat!(
            $head,
            "SELECT seq, id, coalesce(octet_length(response), 0) + coalesce(octet_length(text), 0)
FROM results WHERE (?1 IS NULL OR id IN (SELECT value FROM json_each(?1)))
  AND (?2 IS NULL OR batch = ?2) AND (?3 IS NULL OR queue = ?3)
  AND (?4 IS NULL OR state IN (SELECT value FROM json_each(?4)))
  AND (?5 IS NULL OR error_class = ?5) AND (?6 IS NULL OR key = ?6)
  AND (?7 IS NULL OR stop_reason = ?7) ",
            $tail
        )
    };
}

pub(super) const FIND_RESULTS: &str =
    found!("-- find_results\n", "AND seq > ?8 ORDER BY seq LIMIT ?9");

/// The `+` keeps the index on the numbers out: they are read in the order of ids.
pub(super) const FIND_RESULTS_BY_ID: &str =
    found!("-- find_results_by_id\n", "AND +seq > ?8 AND id > ?10 ORDER BY id LIMIT ?9");

pub(super) const RESULTS: &str = "-- results
SELECT r.seq, r.id, r.key, r.queue, r.batch, r.state, r.text, r.response, r.stop_reason,
  r.error_class, r.error, r.attempts, r.model, r.input_tokens, r.output_tokens,
  r.cache_read_tokens, r.cache_write_tokens, r.cost_usd, r.created_at, r.finished_at, r.metadata,
  (SELECT a.request_id FROM job_state AS s JOIN attempts AS a ON a.id = s.attempt_id
   WHERE s.id = r.id) AS request_id
FROM json_each(?1) AS wanted CROSS JOIN results AS r ON r.seq = wanted.value";

impl Store {
    /// Selected jobs that finished after `seq`, in the order in which they finished: at most
    /// `most`, and fewer where their answers are large. An empty page is the end.
    ///
    /// # Errors
    /// When the database cannot be read; so for all the others here.
    pub async fn results(
        &self,
        seq: i64,
        which: &Selector,
        most: i64,
    ) -> Result<Vec<ResultRow>, StoreError> {
        let mut after = seq;
        loop {
            let query = bound(FIND_RESULTS, which).bind(after).bind(most);
            let found = query.fetch_all(&self.readers).await.doing("look for results")?;
            let (wanted, Some(last)) = fitting(&found) else { return Ok(Vec::new()) };
            let rows = self.read_results(&wanted).await?;
            // All of them may have been retried meanwhile: there may be others behind them.
            if !rows.is_empty() {
                return Ok(rows);
            }
            after = last.0;
        }
    }

    /// As [`Store::results`], but in the order of ids, from the one behind `id` on.
    pub async fn results_by_id(
        &self,
        id: JobId,
        seq: i64,
        which: &Selector,
        most: i64,
    ) -> Result<Vec<ResultRow>, StoreError> {
        let mut after = id;
        loop {
            let query = bound(FIND_RESULTS_BY_ID, which).bind(seq).bind(most).bind(after.0);
            let found = query.fetch_all(&self.readers).await.doing("look for results")?;
            let (wanted, Some(last)) = fitting(&found) else { return Ok(Vec::new()) };
            let rows = self.read_results(&wanted).await?;
            if !rows.is_empty() {
                return Ok(rows);
            }
            after = last.1;
        }
    }

    /// The number of the job that finished last; no other gets one that is smaller.
    pub async fn last_seq(&self) -> Result<i64, StoreError> {
        sqlx::query_scalar(LAST_NUMBER)
            .fetch_one(&self.readers)
            .await
            .doing("look for the last result")
    }

    /// Those that are still there, in this order.
    async fn read_results(&self, wanted: &[i64]) -> Result<Vec<ResultRow>, StoreError> {
        let list: Vec<String> = wanted.iter().map(i64::to_string).collect();
        let rows = sqlx::query(RESULTS)
            .bind(format!("[{}]", list.join(",")))
            .fetch_all(&self.readers)
            .await
            .doing("read results")?;
        Ok(rows.iter().map(result_row).collect())
    }
}

/// As many of those that were found as make a page, and the place of the last of them.
fn fitting(found: &[SqliteRow]) -> (Vec<i64>, Option<(i64, JobId)>) {
    let (mut wanted, mut last, mut bytes) = (Vec::new(), None, 0_i64);
    for row in found {
        bytes = bytes.saturating_add(row.get(2));
        if bytes > PAGE_BYTES && !wanted.is_empty() {
            break;
        }
        wanted.push(row.get(0));
        last = Some((row.get(0), JobId(row.get(1))));
    }
    (wanted, last)
}

fn result_row(row: &SqliteRow) -> ResultRow {
    ResultRow {
        seq: row.get("seq"),
        id: row.get("id"),
        key: lossy(row, "key"),
        queue: row.get("queue"),
        batch: lossy(row, "batch"),
        state: row.get("state"),
        text: row.get("text"),
        response: raw(row, "response"),
        stop_reason: row.get("stop_reason"),
        error_class: row.get("error_class"),
        error: row.get("error"),
        attempts: row.get("attempts"),
        model: lossy(row, "model"),
        input_tokens: row.get("input_tokens"),
        output_tokens: row.get("output_tokens"),
        cache_read_tokens: row.get("cache_read_tokens"),
        cache_write_tokens: row.get("cache_write_tokens"),
        cost_usd: row.get("cost_usd"),
        created_at: row.get("created_at"),
        finished_at: row.get("finished_at"),
        metadata: lossy(row, "metadata"),
        request_id: row.get("request_id"),
    }
}
