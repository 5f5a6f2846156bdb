//! Settlement: how attempts end, in groups, each exactly once.

use super::Store;
use super::ledger::write_snapshots;
use super::queue::{ids, take_numbers};
use crate::domain::job::{AttemptId, Epoch, JobEvent, JobId, JobState};
use crate::domain::time::Timestamp;
use crate::store::error::{Doing, StoreError};
use crate::store::rows::{Ending, Next, Settled, Snapshots};
use serde_json::{Value, json};
use sqlx::{Row, Sqlite, Transaction};
use std::collections::{HashMap, HashSet};

/// Guarded by attempt, epoch and not being settled: the lease must be shown to write.
pub(super) const SETTLE: &str = "-- settle
UPDATE attempts SET
  settlement = v.value ->> 'settlement', settled_at = ?2, counted_at = v.value ->> 'counted_at',
  settled_requests = v.value ->> 'requests', settled_input_tokens = v.value ->> 'limited_input',
  settled_output_tokens = v.value ->> 'limited_output', settled_tokens = v.value ->> 'tokens',
  settled_nanousd = v.value ->> 'nanousd', outcome = v.value ->> 'outcome',
  http_status = v.value ->> 'http_status', request_id = v.value ->> 'request_id',
  error_class = v.value ->> 'error_class', error = v.value ->> 'error',
  stop_reason = v.value ->> 'stop_reason', input_tokens = v.value ->> 'input_tokens',
  output_tokens = v.value ->> 'output_tokens',
  cache_read_tokens = v.value ->> 'cache_read_tokens',
  cache_write_tokens = v.value ->> 'cache_write_tokens', sent_at = v.value ->> 'sent_at',
  first_byte_at = v.value ->> 'first_byte_at', done_at = v.value ->> 'done_at',
  headers = v.value ->> 'headers'
FROM json_each(?1) AS v
WHERE attempts.id = (v.value ->> 'attempt') AND attempts.epoch = (v.value ->> 'epoch')
  AND attempts.job_id = (v.value ->> 'job') AND attempts.settlement IS NULL
RETURNING attempts.id";

pub(super) const IS_NEWEST: &str = "-- is_newest
SELECT ?1 = (SELECT max(epoch) FROM daemons)";

pub(super) const CANCELS: &str = "-- cancels
SELECT s.id FROM json_each(?1) AS wanted JOIN job_state AS s ON s.id = wanted.value
WHERE s.cancel_requested > 0";

/// The `+` keeps the index on `state` out: rows are found by id.
pub(super) const FINISH: &str = "-- finish
UPDATE job_state SET
  state = v.value ->> 'state', epoch = NULL, next_attempt_at = v.value ->> 'at',
  counted_attempts = counted_attempts + (v.value ->> 'counts'),
  finished_seq = v.value ->> 'seq', finished_at = v.value ->> 'finished_at',
  error_class = v.value ->> 'error_class', error = v.value ->> 'error'
FROM json_each(?1) AS v
WHERE job_state.id = (v.value ->> 'job') AND +job_state.state = 'running'
  AND job_state.epoch = (v.value ->> 'epoch')
  AND job_state.attempt_id = (v.value ->> 'attempt')
RETURNING job_state.id, job_state.state";

pub(super) const KEEP_RESPONSE: &str = "-- keep_response
INSERT INTO responses (attempt_id, body, text)
SELECT ?1, ?2, ?3
WHERE EXISTS (SELECT 1 FROM attempts AS a WHERE a.id = ?1 AND a.epoch = ?4 AND a.job_id = ?5)
ON CONFLICT (attempt_id) DO NOTHING";

/// The same number may be another call's in a database that was restored from elsewhere.
pub(super) const KNOWN: &str = "-- known
SELECT v.key FROM json_each(?1) AS v CROSS JOIN attempts AS a ON a.id = (v.value ->> 'attempt')
WHERE a.epoch = (v.value ->> 'epoch') AND a.job_id = (v.value ->> 'job')
  AND a.reserved_at = (v.value ->> 'reserved_at')";

impl Store {
    /// Writes a group of endings: results, attempts, next states and the ledger, all or none.
    ///
    /// An ending whose lease is lost changes neither job nor attempt; its answer is kept all
    /// the same. Writing the same ending twice changes nothing. `epoch` is the writer's: when a
    /// newer daemon has taken over, results are kept, and its ledger stays as it is.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn settle(
        &self,
        epoch: Epoch,
        endings: &[Ending],
        snapshots: &Snapshots,
        now: Timestamp,
    ) -> Result<Settled, StoreError> {
        let mut tx = self.begin().await?;
        let mut settled = settle_in(&mut tx, endings, now).await?;
        let newest: Option<bool> = sqlx::query_scalar(IS_NEWEST)
            .bind(epoch.0)
            .fetch_one(&mut *tx)
            .await
            .doing("look for a newer daemon")?;
        settled.fenced = newest != Some(true);
        if !settled.fenced {
            write_snapshots(&mut tx, snapshots, now).await?;
        }
        tx.commit().await.doing("commit settlements")?;
        Ok(settled)
    }
}

impl Store {
    /// The places of those endings whose call is in the ledger: the same attempt of the same job
    /// in the same daemon's life at the same time.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn known(&self, endings: &[Ending]) -> Result<HashSet<usize>, StoreError> {
        let leases = endings.iter().map(|ending| {
            json!({
                "attempt": ending.lease.attempt.0,
                "epoch": ending.lease.epoch.0,
                "job": ending.lease.job.0,
                "reserved_at": ending.lease.reservation.reserved_at.0,
            })
        });
        let rows: Vec<i64> = sqlx::query_scalar(KNOWN)
            .bind(Value::Array(leases.collect()).to_string())
            .fetch_all(&self.readers)
            .await
            .doing("look for the calls of results")?;
        Ok(rows.into_iter().filter_map(|at| usize::try_from(at).ok()).collect())
    }
}

pub(super) async fn settle_in(
    tx: &mut Transaction<'static, Sqlite>,
    endings: &[Ending],
    now: Timestamp,
) -> Result<Settled, StoreError> {
    for ending in endings {
        if let Some((body, text)) = &ending.response {
            sqlx::query(KEEP_RESPONSE)
                .bind(ending.lease.attempt.0)
                .bind(body)
                .bind(text)
                .bind(ending.lease.epoch.0)
                .bind(ending.lease.job.0)
                .execute(&mut **tx)
                .await
                .doing("keep an answer")?;
        }
    }
    let attempts: Vec<Value> = endings.iter().map(attempt_json).collect();
    let won: HashSet<i64> = sqlx::query_scalar(SETTLE)
        .bind(Value::Array(attempts).to_string())
        .bind(now.0)
        .fetch_all(&mut **tx)
        .await
        .doing("settle attempts")?
        .into_iter()
        .collect();
    let jobs: Vec<JobId> = endings.iter().map(|ending| ending.lease.job).collect();
    let cancelled: HashSet<i64> = sqlx::query_scalar(CANCELS)
        .bind(ids(&jobs))
        .fetch_all(&mut **tx)
        .await
        .doing("look for cancelled jobs")?
        .into_iter()
        .collect();
    let finished = finish(tx, endings, &won, &cancelled, now).await?;
    let lost = endings.iter().map(|ending| ending.lease.attempt);
    let lost: Vec<AttemptId> = lost.filter(|attempt| !won.contains(&attempt.0)).collect();
    Ok(Settled { finished, lost, fenced: false })
}

async fn finish(
    tx: &mut Transaction<'static, Sqlite>,
    endings: &[Ending],
    won: &HashSet<i64>,
    cancelled: &HashSet<i64>,
    now: Timestamp,
) -> Result<Vec<(JobId, JobState)>, StoreError> {
    let mut moves: Vec<(&Ending, JobState)> = Vec::new();
    for ending in endings.iter().filter(|ending| won.contains(&ending.lease.attempt.0)) {
        let cancelled = cancelled.contains(&ending.lease.job.0);
        let event = after_cancel(&ending.next, cancelled);
        if let Ok(state) = JobState::Running.next(event) {
            moves.push((ending, state));
        }
    }
    let ends = moves.iter().filter(|(_, state)| state.is_finished()).count();
    let mut numbers = take_numbers(tx, ends).await?;
    let mut rows: Vec<Value> = Vec::with_capacity(moves.len());
    for (ending, state) in &moves {
        let number = if state.is_finished() { numbers.next() } else { None };
        rows.push(state_json(ending, *state, number, now));
    }
    let done = sqlx::query(FINISH)
        .bind(Value::Array(rows).to_string())
        .fetch_all(&mut **tx)
        .await
        .doing("write job states")?;
    let states: HashMap<i64, JobState> =
        moves.iter().map(|(ending, state)| (ending.lease.job.0, *state)).collect();
    let done = done.iter().filter_map(|row| {
        let id: i64 = row.get("id");
        Some((JobId(id), *states.get(&id)?))
    });
    Ok(done.collect())
}

/// Whoever asked for the end of a running job gets it, unless there is an answer.
fn after_cancel(next: &Next, cancelled: bool) -> JobEvent {
    match next.event {
        JobEvent::Succeed => JobEvent::Succeed,
        _ if cancelled => JobEvent::Cancel,
        event => event,
    }
}

fn attempt_json(ending: &Ending) -> Value {
    let settlement = &ending.settlement;
    json!({
        "attempt": ending.lease.attempt.0,
        "epoch": ending.lease.epoch.0,
        "job": ending.lease.job.0,
        "settlement": settlement.kind.as_str(),
        "counted_at": settlement.counted_at.0,
        "requests": settlement.amounts.requests,
        "limited_input": settlement.amounts.input_tokens,
        "limited_output": settlement.amounts.output_tokens,
        "tokens": settlement.tokens,
        "nanousd": settlement.nanousd,
        "outcome": ending.outcome,
        "http_status": ending.http_status,
        "request_id": ending.request_id,
        "error_class": ending.error_class,
        "error": ending.error,
        "stop_reason": ending.stop_reason,
        "input_tokens": ending.usage.map(|usage| usage.input_tokens),
        "output_tokens": ending.usage.map(|usage| usage.output_tokens),
        "cache_read_tokens": ending.usage.map(|usage| usage.cache_read_tokens),
        "cache_write_tokens": ending.usage.map(|usage| usage.cache_write_tokens),
        "sent_at": ending.sent_at.map(|at| at.0),
        "first_byte_at": ending.first_byte_at.map(|at| at.0),
        "done_at": ending.done_at.0,
        "headers": ending.headers,
    })
}

fn state_json(ending: &Ending, state: JobState, seq: Option<i64>, now: Timestamp) -> Value {
    let next = &ending.next;
    let queued = state == JobState::Queued;
    json!({
        "job": ending.lease.job.0,
        "attempt": ending.lease.attempt.0,
        "epoch": ending.lease.epoch.0,
        "state": state.as_str(),
        "at": if queued { next.at.map(|at| at.0) } else { None },
        "counts": i64::from(next.counts),
        "seq": seq,
        "finished_at": seq.map(|_| now.0),
        "error_class": if state == JobState::Cancelled { Some("cancelled") }
            else { next.error_class.as_deref() },
        "error": next.error,
    })
}
