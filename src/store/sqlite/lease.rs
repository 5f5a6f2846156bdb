//! Admission: lease and reservation in one transaction, before anything is sent.

use super::Store;
use super::ledger::write_snapshots;
use super::queue::{end_without_call, ids};
use crate::domain::job::{AttemptId, Epoch, JobId};
use crate::domain::time::Timestamp;
use crate::store::error::{Doing, StoreError};
use crate::store::rows::{Fresh, Lease, NewAttempt, Snapshots, Unfit};
use serde_json::json;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use std::collections::HashMap;

/// `CROSS JOIN` here and below: the few candidates look for their rows, never the other way round.
///
/// Candidates were read outside the transaction: only those still ready count, and none when a
/// newer daemon has taken over.
pub(super) const STILL_READY: &str = "-- still_ready
SELECT s.id, s.attempts, s.counted_attempts FROM json_each(?1) AS wanted
CROSS JOIN job_state AS s ON s.id = wanted.value
WHERE s.state = 'queued' AND s.next_attempt_at IS NULL AND s.cancel_requested = 0
  AND (s.expires_at IS NULL OR s.expires_at > ?2)
  AND ?3 = (SELECT max(epoch) FROM daemons)";

pub(super) const RESERVE: &str = "-- reserve
INSERT INTO attempts (job_id, number, epoch, queue, batch, pool, model, output_mode, body_bytes,
  reserved_at, reserved_requests, reserved_input_tokens, reserved_output_tokens,
  worst_input_tokens, worst_output_tokens, worst_nanousd, wait_reason)
SELECT s.id, s.attempts + 1, ?2, s.queue, s.batch, v.value ->> 'pool', v.value ->> 'model',
  v.value ->> 'mode', v.value ->> 'bytes', v.value ->> 'at', v.value ->> 'requests',
  v.value ->> 'input', v.value ->> 'output', v.value ->> 'worst_input', v.value ->> 'worst_output',
  v.value ->> 'nanousd', v.value ->> 'reason'
FROM json_each(?1) AS v CROSS JOIN job_state AS s ON s.id = (v.value ->> 'job')
WHERE s.state = 'queued'
RETURNING id, job_id";

pub(super) const LEASE: &str = "-- lease
UPDATE job_state SET state = 'running', attempts = attempts + 1, epoch = ?2,
  attempt_id = v.value ->> 'attempt', error_class = NULL, error = NULL
FROM json_each(?1) AS v WHERE job_state.id = (v.value ->> 'job')";

/// What the decision gives the store to write.
#[derive(Clone, Debug, Default)]
pub struct Admission {
    /// Jobs that start.
    pub starts: Vec<NewAttempt>,
    /// Jobs that a person must look at first.
    pub unfit: Vec<Unfit>,
    /// The ledger after the starts.
    pub snapshots: Snapshots,
}

impl Store {
    /// Runs a decision inside the write transaction and writes what it says.
    ///
    /// `decide` gets the candidates that are still ready. When it starts nothing, nothing is
    /// written. The leases that come back are committed.
    ///
    /// # Errors
    /// When the database cannot be written; then nothing of it happened, except after an I/O
    /// error at the commit itself, when it may have.
    pub async fn admit<T>(
        &self,
        now: Timestamp,
        epoch: Epoch,
        candidates: &[JobId],
        decide: impl FnOnce(&[Fresh]) -> (Admission, T),
    ) -> Result<(Vec<Lease>, T), StoreError> {
        let mut tx = self.begin().await?;
        let rows = sqlx::query(STILL_READY)
            .bind(ids(candidates))
            .bind(now.0)
            .bind(epoch.0)
            .fetch_all(&mut *tx)
            .await
            .doing("check candidates")?;
        let fresh: Vec<Fresh> = rows.iter().map(fresh).collect();
        let (admission, rest) = decide(&fresh);
        if admission.starts.is_empty() && admission.unfit.is_empty() {
            tx.rollback().await.doing("end an empty admission")?;
            return Ok((Vec::new(), rest));
        }
        end_without_call(&mut tx, &admission.unfit, now).await?;
        let reserved = sqlx::query(RESERVE)
            .bind(starts_json(&admission.starts))
            .bind(epoch.0)
            .fetch_all(&mut *tx)
            .await
            .doing("write reservations")?;
        let attempts: HashMap<i64, i64> =
            reserved.iter().map(|row| (row.get("job_id"), row.get("id"))).collect();
        let pairs: Vec<_> = attempts
            .iter()
            .map(|(job, attempt)| json!({ "job": job, "attempt": attempt }))
            .collect();
        sqlx::query(LEASE)
            .bind(serde_json::Value::Array(pairs).to_string())
            .bind(epoch.0)
            .execute(&mut *tx)
            .await
            .doing("write leases")?;
        write_snapshots(&mut tx, &admission.snapshots, now).await?;
        tx.commit().await.doing("commit an admission")?;
        let before: HashMap<JobId, Fresh> = fresh.into_iter().map(|one| (one.id, one)).collect();
        let leases = admission.starts.into_iter().filter_map(|start| {
            Some(Lease {
                attempt: AttemptId(*attempts.get(&start.job.0)?),
                epoch,
                job: start.job,
                attempts: before.get(&start.job).map_or(0, |one| one.attempts),
                counted_attempts: before.get(&start.job).map_or(0, |one| one.counted_attempts),
                reservation: start.reservation,
            })
        });
        Ok((leases.collect(), rest))
    }
}

fn fresh(row: &SqliteRow) -> Fresh {
    let count = |name: &str| u32::try_from(row.get::<i64, _>(name)).unwrap_or(u32::MAX);
    Fresh {
        id: JobId(row.get("id")),
        attempts: count("attempts"),
        counted_attempts: count("counted_attempts"),
    }
}

fn starts_json(starts: &[NewAttempt]) -> String {
    let rows: Vec<_> = starts
        .iter()
        .map(|start| {
            let call = &start.reservation;
            let mode = match call.mode {
                crate::domain::limit::OutputMode::Realtime => "realtime",
                crate::domain::limit::OutputMode::Reserve => "reserve",
            };
            json!({
                "job": start.job.0,
                "pool": &*call.pool.0,
                "model": &*call.model,
                "mode": mode,
                "bytes": start.body_bytes,
                "at": call.reserved_at.0,
                "requests": call.expected.requests,
                "input": call.expected.input_tokens,
                "output": call.expected.output_tokens,
                "worst_input": call.worst.input_tokens,
                "worst_output": call.worst.output_tokens,
                "nanousd": call.worst.nanousd,
                "reason": start.wait_reason.map(crate::domain::reason::Reason::as_str),
            })
        })
        .collect();
    serde_json::Value::Array(rows).to_string()
}
