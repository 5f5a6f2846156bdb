//! What is left to do, counted in groups, and what its jobs are like: for forecasts.
//!
//! Counts are exact, through the partial indexes of `job_state`. Sizes come from a sample spread
//! over the ids: bodies lie in another table, and reading all of them would take minutes.
//!
//! Invariant: how many bodies are looked at does not depend on how many jobs there are.

use super::Store;
use super::queue::ids;
use crate::domain::job::JobId;
use crate::domain::time::Timestamp;
use crate::store::error::{Doing, StoreError};
use crate::store::views::{Backlog, BacklogGroup, JobSample, OpenGroup};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use std::collections::HashMap;

/// Groups counted at the most.
const GROUPS_MAX: i64 = 10_000;
/// Groups of which jobs are looked at; the others are taken for like them.
const SAMPLED_GROUPS: usize = 256;
/// Jobs looked at in all, in one group at the most, and at the least.
const SAMPLES: usize = 4_000;
const SAMPLES_MAX: usize = 1_000;
const SAMPLES_MIN: usize = 8;
/// Bytes of JSON that are read for what their jobs ask.
const JSON_BYTES: i64 = 16 << 20;

pub(super) const READY_GROUPS: &str = "-- ready_groups
SELECT queue, priority, NULL AS due_from, NULL AS due_to, count(*) AS jobs, min(id) AS first,
  max(id) AS last
FROM job_state INDEXED BY job_state_ready
WHERE state = 'queued' AND next_attempt_at IS NULL
GROUP BY queue, priority LIMIT ?1";

/// How far away they are counts, not the second.
pub(super) const TIMED_GROUPS: &str = "-- timed_groups
SELECT queue, priority, min(next_attempt_at) AS due_from, max(next_attempt_at) AS due_to,
  count(*) AS jobs, min(id) AS first, max(id) AS last
FROM job_state INDEXED BY job_state_timed
WHERE state = 'queued' AND next_attempt_at IS NOT NULL
GROUP BY queue, priority,
  (next_attempt_at > ?2 + 60000) + (next_attempt_at > ?2 + 600000)
  + (next_attempt_at > ?2 + 3600000) + (next_attempt_at > ?2 + 21600000)
  + (next_attempt_at > ?2 + 86400000) + (next_attempt_at > ?2 + 604800000)
LIMIT ?1";

pub(super) const BATCH_GROUPS: &str = "-- batch_groups
SELECT queue, priority, min(next_attempt_at) AS due_from, max(next_attempt_at) AS due_to,
  count(*) AS jobs, min(id) AS first, max(id) AS last
FROM job_state INDEXED BY job_state_batch
WHERE batch = ?3 AND state = 'queued'
GROUP BY queue, priority, next_attempt_at IS NULL,
  (next_attempt_at > ?2 + 60000) + (next_attempt_at > ?2 + 600000)
  + (next_attempt_at > ?2 + 3600000) + (next_attempt_at > ?2 + 21600000)
  + (next_attempt_at > ?2 + 86400000) + (next_attempt_at > ?2 + 604800000)
LIMIT ?1";

/// Jobs found by one look at an index for each target, and what they are like.
macro_rules! sampled {
    ($name:literal, $one:literal) => {
        concat!(
            $name,
            "
SELECT DISTINCT j.id, coalesce(octet_length(j.prompt), 0) + coalesce(octet_length(j.request), 0)
    + coalesce(octet_length(j.system), 0) AS bytes, CAST(j.model AS BLOB) AS model,
  coalesce(s.max_tokens, j.max_tokens) AS max_tokens,
  j.request IS NOT NULL AS is_request, j.system IS NOT NULL AS has_system
FROM json_each(?3) AS target CROSS JOIN job_state AS s ON s.id = (",
            $one,
            " LIMIT 1) CROSS JOIN jobs AS j ON j.id = s.id
WHERE s.queue = ?1 AND s.priority = ?2"
        )
    };
}

pub(super) const SAMPLE_READY: &str = sampled!(
    "-- sample_ready",
    "SELECT n.id FROM job_state AS n INDEXED BY job_state_ready
    WHERE n.queue = ?1 AND n.priority = ?2 AND n.state = 'queued' AND n.next_attempt_at IS NULL
      AND n.id >= target.value ORDER BY n.id"
);

/// Whatever their state: jobs of a queue are alike.
pub(super) const SAMPLE_NEAR: &str = sampled!(
    "-- sample_near",
    "SELECT n.id FROM job_state AS n WHERE n.id >= target.value ORDER BY n.id"
);

pub(super) const SAMPLE_BATCH: &str = sampled!(
    "-- sample_batch",
    "SELECT n.id FROM job_state AS n INDEXED BY job_state_batch
    WHERE n.batch = ?4 AND n.state = 'queued' AND n.id >= target.value ORDER BY n.id"
);

/// What requests ask, as a JSON array of model and `max_tokens`.
pub(super) const ASKED: &str = "-- asked
SELECT j.id, CASE WHEN json_valid(j.request) THEN json_extract(j.request, '$.model', '$.max_tokens')
  END AS asked
FROM json_each(?1) AS wanted CROSS JOIN jobs AS j ON j.id = wanted.value";

pub(super) const OPEN_GROUPS: &str = "-- open_groups
SELECT queue, model, count(*) AS calls, CAST(avg(body_bytes) AS INTEGER) AS body_bytes,
  CAST(avg(worst_output_tokens) AS INTEGER) AS max_tokens
FROM attempts INDEXED BY attempts_open
WHERE settlement IS NULL AND (?1 IS NULL OR batch = ?1)
GROUP BY queue, model";

/// A group and where its jobs lie.
struct Found {
    group: BacklogGroup,
    first: i64,
    last: i64,
}

/// A job that was looked at.
struct Look {
    id: i64,
    bytes: i64,
    sample: JobSample,
}

impl Store {
    /// What is queued and in flight, of one batch or all of it.
    ///
    /// Counting a million jobs takes a few hundred milliseconds: nothing for a turn.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn backlog(
        &self,
        batch: Option<&str>,
        now: Timestamp,
    ) -> Result<Backlog, StoreError> {
        let mut found = Vec::new();
        let statements = match batch {
            None => vec![READY_GROUPS, TIMED_GROUPS],
            Some(_) => vec![BATCH_GROUPS],
        };
        for statement in statements {
            let rows = sqlx::query(statement)
                .bind(GROUPS_MAX)
                .bind(now.0)
                .bind(batch)
                .fetch_all(&self.readers)
                .await
                .doing("count what is left")?;
            found.extend(rows.iter().map(found_group));
        }
        found.sort_by_key(|one| std::cmp::Reverse(one.group.jobs));
        let most = SAMPLES / found.len().clamp(1, SAMPLED_GROUPS);
        let most = most.clamp(SAMPLES_MIN, SAMPLES_MAX);
        let mut json_bytes = JSON_BYTES;
        for one in found.iter_mut().take(SAMPLED_GROUPS) {
            let mut looks = self.look_at(one, batch, most).await?;
            self.read_requests(&mut looks, &mut json_bytes).await?;
            one.group.samples = looks.into_iter().map(|look| look.sample).collect();
        }
        let open = sqlx::query(OPEN_GROUPS)
            .bind(batch)
            .fetch_all(&self.readers)
            .await
            .doing("count calls in flight")?;
        let groups = found.into_iter().map(|one| one.group).collect();
        Ok(Backlog { groups, open: open.iter().map(open_group).collect() })
    }

    /// Some jobs of a group, spread over its ids.
    async fn look_at(
        &self,
        one: &Found,
        batch: Option<&str>,
        most: usize,
    ) -> Result<Vec<Look>, StoreError> {
        let statement = match (batch, one.group.due) {
            (Some(_), _) => SAMPLE_BATCH,
            (None, None) => SAMPLE_READY,
            (None, Some(_)) => SAMPLE_NEAR,
        };
        let rows = sqlx::query(statement)
            .bind(&one.group.queue)
            .bind(one.group.priority)
            .bind(targets(one.first, one.last, most))
            .bind(batch)
            .fetch_all(&self.readers)
            .await
            .doing("look at some jobs")?;
        Ok(rows.iter().map(look).collect())
    }

    /// What the requests among them ask; those beyond the bytes are taken for like the one before.
    async fn read_requests(
        &self,
        looks: &mut [Look],
        json_bytes: &mut i64,
    ) -> Result<(), StoreError> {
        let mut wanted: Vec<JobId> = Vec::new();
        // Spread over all of them, should they not all be read.
        let stride = (looks.len() / 16).max(1);
        let spread = (0..stride).flat_map(|from| (from..looks.len()).step_by(stride));
        for look in spread.map(|at| &looks[at]).filter(|look| look.sample.is_request) {
            if wanted.is_empty() || *json_bytes >= look.bytes {
                wanted.push(JobId(look.id));
                *json_bytes -= look.bytes;
            }
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let rows = sqlx::query(ASKED)
            .bind(ids(&wanted))
            .fetch_all(&self.readers)
            .await
            .doing("read what some jobs ask")?;
        let asked: HashMap<i64, (Option<String>, Option<i64>)> =
            rows.iter().map(|row| (row.get("id"), asked(row))).collect();
        let mut last = wanted.first().and_then(|id| asked.get(&id.0)).cloned().unwrap_or_default();
        for look in looks.iter_mut().filter(|look| look.sample.is_request) {
            if let Some(known) = asked.get(&look.id) {
                last.clone_from(known);
            }
            // What the body says comes before the columns.
            look.sample.model = last.0.clone().or_else(|| look.sample.model.take());
            look.sample.max_tokens = last.1.or(look.sample.max_tokens);
        }
        Ok(())
    }
}

/// Ids from the first to the last, evenly, as a JSON array.
fn targets(first: i64, last: i64, most: usize) -> String {
    let steps = i64::try_from(most).unwrap_or(1).max(2) - 1;
    let span = last.saturating_sub(first);
    let at = |step: i64| {
        let part = i128::from(span) * i128::from(step) / i128::from(steps);
        JobId(first.saturating_add(i64::try_from(part).unwrap_or(0)))
    };
    let mut all: Vec<JobId> = (0..=steps).map(at).collect();
    all.dedup();
    ids(&all)
}

fn found_group(row: &SqliteRow) -> Found {
    let due: (Option<i64>, Option<i64>) = (row.get("due_from"), row.get("due_to"));
    let group = BacklogGroup {
        queue: row.get("queue"),
        priority: row.get("priority"),
        due: due.0.zip(due.1).map(|(from, to)| (Timestamp(from), Timestamp(to))),
        jobs: row.get("jobs"),
        samples: Vec::new(),
    };
    Found { group, first: row.get("first"), last: row.get("last") }
}

fn look(row: &SqliteRow) -> Look {
    let model: Option<Vec<u8>> = row.get("model");
    let bytes = row.get("bytes");
    let sample = JobSample {
        bytes,
        model: model.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
        max_tokens: row.get("max_tokens"),
        is_request: row.get("is_request"),
        has_system: row.get("has_system"),
    };
    Look { id: row.get("id"), bytes, sample }
}

/// Model and `max_tokens` of a request, where it says them.
fn asked(row: &SqliteRow) -> (Option<String>, Option<i64>) {
    let text: Option<String> = row.get("asked");
    let pair: Option<(serde_json::Value, serde_json::Value)> =
        text.and_then(|text| serde_json::from_str(&text).ok());
    let (model, max_tokens) = pair.unwrap_or_default();
    (model.as_str().map(str::to_owned), max_tokens.as_i64())
}

fn open_group(row: &SqliteRow) -> OpenGroup {
    OpenGroup {
        queue: row.get("queue"),
        model: row.get("model"),
        calls: row.get("calls"),
        body_bytes: row.get("body_bytes"),
        max_tokens: row.get("max_tokens"),
    }
}
