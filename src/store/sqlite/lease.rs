//! Admission: lease and reservation in one transaction, before anything is sent.
//!
//! What has ended is settled in the same transaction: a commit costs the same, however much is in it.

use super::Store;
use super::again::terms;
use super::batch::Batch;
use super::columns::columns;
use super::ledger::add_snapshots;
use super::queue::{end_without_call, ids};
use super::settle::{add_finish, open, rows};
use crate::domain::job::{AttemptId, Epoch, JobId};
use crate::domain::limit::OutputMode;
use crate::domain::reason::Reason;
use crate::domain::time::Timestamp;
use crate::store::error::{Doing, StoreError};
use crate::store::rows::{Ending, Fresh, Lease, NewAttempt, Settled, Snapshots, Unfit};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use std::collections::HashMap;

/// `CROSS JOIN` here and below: the few candidates look for their rows, never the other way round.
///
/// Candidates were read outside the transaction: only those still ready count, and none when a
/// newer daemon has taken over.
pub(super) const STILL_READY: &str = "-- still_ready
SELECT s.id, s.attempts, s.counted_attempts, s.max_tokens, s.turn_from
FROM json_each(?1) AS wanted
CROSS JOIN job_state AS s ON s.id = wanted.value
WHERE s.state = 'queued' AND s.next_attempt_at IS NULL AND s.cancel_requested = 0
  AND (s.expires_at IS NULL OR s.expires_at > ?2)
  AND ?3 = (SELECT max(epoch) FROM daemons)";

pub(super) const RESERVE: &str = "-- reserve
WITH rows AS MATERIALIZED (SELECT value AS row FROM jsonb_each(?1)),
v (job, pool, model, mode, bytes, at, requests, input, output, worst_input, worst_output, nanousd,
  reason)
AS (SELECT row ->> 0, row ->> 1, row ->> 2, row ->> 3, row ->> 4, row ->> 5, row ->> 6, row ->> 7,
  row ->> 8, row ->> 9, row ->> 10, row ->> 11, row ->> 12 FROM rows)
INSERT INTO attempts (job_id, number, epoch, queue, batch, pool, model, output_mode, body_bytes,
  reserved_at, reserved_requests, reserved_input_tokens, reserved_output_tokens,
  worst_input_tokens, worst_output_tokens, worst_nanousd, wait_reason)
SELECT s.id, s.attempts + 1, ?2, s.queue, s.batch, v.pool, v.model, v.mode, v.bytes, v.at,
  v.requests, v.input, v.output, v.worst_input, v.worst_output, v.nanousd, v.reason
FROM v CROSS JOIN job_state AS s ON s.id = v.job
WHERE s.state = 'queued'
RETURNING id, job_id";

/// Runs before `attempts` of the job is counted up: the new one is the next.
pub(super) const LEASE: &str = "-- lease
UPDATE job_state SET state = 'running', attempts = s.attempts + 1, epoch = ?2,
  attempt_id = a.id, error_class = NULL, error = NULL
FROM json_each(?1) AS wanted
CROSS JOIN job_state AS s ON s.id = wanted.value
CROSS JOIN attempts AS a ON a.job_id = s.id AND a.number = s.attempts + 1
WHERE job_state.id = s.id";

/// What the decision gives the store to write.
#[derive(Clone, Debug, Default)]
pub struct Admission {
    /// Jobs that start.
    pub starts: Vec<NewAttempt>,
    /// Jobs that a person must look at first.
    pub unfit: Vec<Unfit>,
    /// The ledger after the endings and the starts.
    pub snapshots: Snapshots,
}

impl Store {
    /// [`Store::settle_and_admit`] with nothing to settle.
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
        let (_, leases, rest) = self.settle_and_admit(now, epoch, &[], candidates, decide).await?;
        Ok((leases, rest))
    }

    /// Writes a group of endings, then runs a decision and writes what it says: all or none, at
    /// the price of one commit.
    ///
    /// `decide` gets the candidates that are still ready; its snapshots are of the ledger after
    /// the endings and the starts. When nothing ends and it starts nothing, nothing is written.
    /// The leases that come back are committed. Endings go by the rules of [`Store::settle`].
    ///
    /// # Errors
    /// As [`Store::admit`].
    pub async fn settle_and_admit<T>(
        &self,
        now: Timestamp,
        epoch: Epoch,
        endings: &[Ending],
        candidates: &[JobId],
        decide: impl FnOnce(&[Fresh]) -> (Admission, T),
    ) -> Result<(Settled, Vec<Lease>, T), StoreError> {
        let mut tx = self.begin().await?;
        let opening = open(&mut tx, epoch, endings, candidates, now).await?;
        let (admission, rest) = decide(&opening.fresh);
        if endings.is_empty() && admission.starts.is_empty() && admission.unfit.is_empty() {
            tx.rollback().await.doing("end an empty admission")?;
            let fenced = opening.fenced;
            return Ok((Settled { fenced, ..Settled::default() }, Vec::new(), rest));
        }
        let mut batch = Batch::default();
        let moves = add_finish(&mut batch, endings, &opening, now);
        let reserved = add_starts(&mut batch, &admission.starts, epoch);
        if !opening.fenced {
            add_snapshots(&mut batch, &admission.snapshots, now);
        }
        let rows = batch.run(&mut tx).await?;
        end_without_call(&mut tx, &admission.unfit, now).await?;
        tx.commit().await.doing("commit a turn")?;
        let settled = opening.settled(endings, &moves, &rows);
        let attempts = reserved.map(|at| rows[at].as_slice()).unwrap_or_default();
        Ok((settled, leases(admission.starts, &opening.fresh, attempts, epoch), rest))
    }
}

/// Adds what writes reservations and leases; the place of the new attempts.
fn add_starts(batch: &mut Batch, starts: &[NewAttempt], epoch: Epoch) -> Option<usize> {
    if starts.is_empty() {
        return None;
    }
    let jobs: Vec<JobId> = starts.iter().map(|start| start.job).collect();
    let attempts: Vec<StartRow> = starts.iter().map(StartRow::of).collect();
    let parameters = [rows(&attempts).into(), epoch.0.into()];
    let reserved = batch.add("write reservations", RESERVE, parameters);
    batch.add("write leases", LEASE, [ids(&jobs).into(), epoch.0.into()]);
    Some(reserved)
}

/// The starts that were written, as the right to call.
fn leases(
    starts: Vec<NewAttempt>,
    fresh: &[Fresh],
    attempts: &[SqliteRow],
    epoch: Epoch,
) -> Vec<Lease> {
    let attempts: HashMap<i64, i64> = attempts.iter().map(|row| (row.get(1), row.get(0))).collect();
    let before: HashMap<JobId, &Fresh> = fresh.iter().map(|one| (one.id, one)).collect();
    let leases = starts.into_iter().filter_map(|start| {
        Some(Lease {
            attempt: AttemptId(*attempts.get(&start.job.0)?),
            epoch,
            job: start.job,
            attempts: before.get(&start.job).map_or(0, |one| one.attempts),
            counted_attempts: before.get(&start.job).map_or(0, |one| one.counted_attempts),
            reservation: start.reservation,
        })
    });
    leases.collect()
}

pub(super) fn fresh(row: &SqliteRow) -> Fresh {
    let count = |at: usize| u32::try_from(row.get::<i64, _>(at)).unwrap_or(u32::MAX);
    Fresh {
        id: JobId(row.get(0)),
        attempts: count(1),
        counted_attempts: count(2),
        terms: terms(row, 3),
    }
}

columns! {
    /// What [`RESERVE`] reads.
    struct StartRow<'a> {
        job: i64,
        pool: &'a str,
        model: &'a str,
        mode: &'static str,
        bytes: i64,
        at: i64,
        requests: i64,
        input: i64,
        output: i64,
        worst_input: i64,
        worst_output: i64,
        nanousd: Option<i64>,
        reason: Option<&'static str>,
    }
}

impl StartRow<'_> {
    fn of(start: &NewAttempt) -> StartRow<'_> {
        let call = &start.reservation;
        StartRow {
            job: start.job.0,
            pool: &call.pool.0,
            model: &call.model,
            mode: match call.mode {
                OutputMode::Realtime => "realtime",
                OutputMode::Reserve => "reserve",
            },
            bytes: start.body_bytes,
            at: call.reserved_at.0,
            requests: call.expected.requests,
            input: call.expected.input_tokens,
            output: call.expected.output_tokens,
            worst_input: call.worst.input_tokens,
            worst_output: call.worst.output_tokens,
            nanousd: call.worst.nanousd,
            reason: start.wait_reason.map(Reason::as_str),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::columns::are_read;
    use super::*;

    #[test]
    fn rows_are_read_in_the_order_in_which_they_are_written() {
        assert!(are_read(StartRow::NAMES, RESERVE));
    }
}
