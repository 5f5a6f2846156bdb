//! Settlement: how attempts end, in groups, each exactly once.

use super::Store;
use super::batch::Batch;
use super::columns::columns;
use super::lease::{STILL_READY, fresh};
use super::ledger::add_snapshots;
use super::queue::ids;
use super::spending::add_spending;
use crate::domain::job::{Epoch, JobEvent, JobId, JobState};
use crate::domain::time::Timestamp;
use crate::store::error::{Doing, StoreError};
use crate::store::rows::{Ending, Fresh, Lease, Next, Settled, Snapshots};
use serde::Serialize;
use serde_json::{Value, json};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, Sqlite, Transaction};
use std::collections::{HashMap, HashSet};

/// Guarded by attempt, epoch and not being settled: the lease must be shown to write.
///
/// Rows are arrays, here and below: to find a value by its name takes twice as long. And they are
/// `MATERIALIZED`: each use of a row's `value` would write it out anew.
pub(super) const SETTLE: &str = "-- settle
WITH rows AS MATERIALIZED (SELECT value AS row FROM jsonb_each(?1)),
v (attempt, epoch, job, settlement, counted_at, requests, limited_input, limited_output, tokens,
  nanousd, outcome, http_status, request_id, error_class, error, stop_reason, input_tokens,
  output_tokens, cache_read_tokens, cache_write_tokens, sent_at, first_byte_at, done_at, headers)
AS (SELECT row ->> 0, row ->> 1, row ->> 2, row ->> 3, row ->> 4, row ->> 5, row ->> 6, row ->> 7,
  row ->> 8, row ->> 9, row ->> 10, row ->> 11, row ->> 12, row ->> 13, row ->> 14, row ->> 15,
  row ->> 16, row ->> 17, row ->> 18, row ->> 19, row ->> 20, row ->> 21, row ->> 22, row ->> 23
  FROM rows)
UPDATE attempts SET
  settlement = v.settlement, settled_at = ?2, counted_at = v.counted_at,
  settled_requests = v.requests, settled_input_tokens = v.limited_input,
  settled_output_tokens = v.limited_output, settled_tokens = v.tokens,
  settled_nanousd = v.nanousd, outcome = v.outcome, http_status = v.http_status,
  request_id = v.request_id, error_class = v.error_class, error = v.error,
  stop_reason = v.stop_reason, input_tokens = v.input_tokens, output_tokens = v.output_tokens,
  cache_read_tokens = v.cache_read_tokens, cache_write_tokens = v.cache_write_tokens,
  sent_at = v.sent_at, first_byte_at = v.first_byte_at, done_at = v.done_at, headers = v.headers
FROM v
WHERE attempts.id = v.attempt AND attempts.epoch = v.epoch AND attempts.job_id = v.job
  AND attempts.settlement IS NULL
RETURNING attempts.id";

pub(super) const IS_NEWEST: &str = "-- is_newest
SELECT ?1 = (SELECT max(epoch) FROM daemons)";

pub(super) const CANCELS: &str = "-- cancels
SELECT s.id FROM json_each(?1) AS wanted JOIN job_state AS s ON s.id = wanted.value
WHERE s.cancel_requested > 0";

/// The `+` keeps the index on `state` out: rows are found by id.
pub(super) const FINISH: &str = "-- finish
WITH rows AS MATERIALIZED (SELECT value AS row FROM jsonb_each(?1)),
v (job, attempt, epoch, state, at, counts, seq, finished_at, error_class, error, paused)
AS (SELECT row ->> 0, row ->> 1, row ->> 2, row ->> 3, row ->> 4, row ->> 5, row ->> 6, row ->> 7,
  row ->> 8, row ->> 9, row ->> 10 FROM rows)
UPDATE job_state SET
  state = v.state, epoch = NULL, next_attempt_at = v.at,
  counted_attempts = counted_attempts + v.counts, finished_seq = v.seq,
  finished_at = v.finished_at, error_class = v.error_class, error = v.error,
  turn_from = coalesce(turn_from, v.paused)
FROM v
WHERE job_state.id = v.job AND +job_state.state = 'running' AND job_state.epoch = v.epoch
  AND job_state.attempt_id = v.attempt
RETURNING job_state.id";

/// The last number that was given, and is given anew when a write is rolled back.
pub(super) const LAST_NUMBER: &str = "-- last_number
SELECT value FROM sequences WHERE name = 'finished'";

pub(super) const SET_NUMBER: &str = "-- set_number
UPDATE sequences SET value = ?1 WHERE name = 'finished'";

/// The answers lie in `?2`, one behind the other: nothing in them has to be escaped and read again.
pub(super) const KEEP_RESPONSES: &str = "-- keep_responses
WITH rows AS MATERIALIZED (SELECT value AS row FROM json_each(?1)),
v (attempt, epoch, job, at, body, text)
AS (SELECT row ->> 0, row ->> 1, row ->> 2, row ->> 3, row ->> 4, row ->> 5 FROM rows)
INSERT INTO responses (attempt_id, body, text)
SELECT v.attempt, CAST(substr(?2, v.at, v.body) AS TEXT),
  CAST(substr(?2, v.at + v.body, v.text) AS TEXT)
FROM v CROSS JOIN attempts AS a ON a.id = v.attempt
WHERE a.epoch = v.epoch AND a.job_id = v.job
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
        let opening = open(&mut tx, epoch, endings, &[], now).await?;
        let mut batch = Batch::default();
        let moves = add_finish(&mut batch, endings, &opening, now);
        if !opening.fenced {
            add_snapshots(&mut batch, snapshots, now);
        }
        let rows = batch.run(&mut tx).await?;
        tx.commit().await.doing("commit settlements")?;
        Ok(opening.settled(endings, &moves, &rows))
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

/// What the first statements of a write have found.
pub(super) struct Opening {
    /// Attempts that this write has settled.
    won: HashSet<i64>,
    /// Jobs that somebody wants no more.
    cancelled: HashSet<i64>,
    /// The last number of a finished job.
    last_number: i64,
    /// A newer daemon has taken over.
    pub(super) fenced: bool,
    /// Candidates that are still ready.
    pub(super) fresh: Vec<Fresh>,
}

/// Settles the attempts, and reads what decides over the rest of the write.
pub(super) async fn open(
    tx: &mut Transaction<'static, Sqlite>,
    epoch: Epoch,
    endings: &[Ending],
    candidates: &[JobId],
    now: Timestamp,
) -> Result<Opening, StoreError> {
    let mut batch = Batch::default();
    add_responses(&mut batch, endings);
    let newest = batch.add("look for a newer daemon", IS_NEWEST, [epoch.0.into()]);
    let places = (!endings.is_empty()).then(|| {
        let attempts: Vec<AttemptRow> = endings.iter().map(AttemptRow::of).collect();
        let jobs: Vec<JobId> = endings.iter().map(|ending| ending.lease.job).collect();
        (
            batch.add("settle attempts", SETTLE, [rows(&attempts).into(), now.0.into()]),
            batch.add("look for cancelled jobs", CANCELS, [ids(&jobs).into()]),
            batch.add("number finished jobs", LAST_NUMBER, []),
        )
    });
    let ready = (!candidates.is_empty()).then(|| {
        let parameters = [ids(candidates).into(), now.0.into(), epoch.0.into()];
        batch.add("check candidates", STILL_READY, parameters)
    });
    let found = batch.run(tx).await?;
    let numbers = |at: usize| found[at].iter().map(|row| row.get(0)).collect();
    let is_newest: Option<bool> = found[newest].first().and_then(|row| row.get(0));
    Ok(Opening {
        won: places.map(|(won, ..)| numbers(won)).unwrap_or_default(),
        cancelled: places.map(|(_, cancelled, _)| numbers(cancelled)).unwrap_or_default(),
        last_number: places.and_then(|(.., last)| found[last].first()).map_or(0, |row| row.get(0)),
        fenced: is_newest != Some(true),
        fresh: ready.map(|at| found[at].iter().map(fresh).collect()).unwrap_or_default(),
    })
}

impl Opening {
    /// What came of it, when all is written.
    pub(super) fn settled(
        &self,
        endings: &[Ending],
        moves: &Moves,
        rows: &[Vec<SqliteRow>],
    ) -> Settled {
        let written = moves.place.map(|at| rows[at].as_slice()).unwrap_or_default();
        let finished = written.iter().filter_map(|row| {
            let id: i64 = row.get(0);
            Some((JobId(id), *moves.states.get(&id)?))
        });
        let lost = endings.iter().map(|ending| ending.lease.attempt);
        Settled {
            finished: finished.collect(),
            lost: lost.filter(|attempt| !self.won.contains(&attempt.0)).collect(),
            fenced: self.fenced,
        }
    }
}

/// States that are to be written.
#[derive(Default)]
pub(super) struct Moves {
    states: HashMap<i64, JobState>,
    /// Of the statement that writes them.
    place: Option<usize>,
}

/// Adds what keeps the answers, also of calls that somebody has settled before.
fn add_responses(batch: &mut Batch, endings: &[Ending]) {
    let given = || endings.iter().filter_map(|ending| Some((ending, ending.response.as_ref()?)));
    let mut answers: Vec<u8> =
        Vec::with_capacity(given().map(|(_, (body, text))| body.len() + text.len()).sum());
    let mut places: Vec<ResponseRow> = Vec::new();
    for (ending, (body, text)) in given() {
        let Lease { attempt, epoch, job, .. } = ending.lease;
        places.push((attempt.0, epoch.0, job.0, answers.len() + 1, body.len(), text.len()));
        answers.extend_from_slice(body.as_bytes());
        answers.extend_from_slice(text.as_bytes());
    }
    if !places.is_empty() {
        batch.add("keep answers", KEEP_RESPONSES, [rows(&places).into(), answers.into()]);
    }
}

/// Adds what writes the next states of the jobs, and what their calls cost.
pub(super) fn add_finish(
    batch: &mut Batch,
    endings: &[Ending],
    opening: &Opening,
    now: Timestamp,
) -> Moves {
    let mut number = opening.last_number;
    let mut states: Vec<StateRow> = Vec::with_capacity(endings.len());
    let mut moves = Moves::default();
    let won = || endings.iter().filter(|ending| opening.won.contains(&ending.lease.attempt.0));
    for ending in won() {
        let cancelled = opening.cancelled.contains(&ending.lease.job.0);
        let Ok(state) = JobState::Running.next(after_cancel(&ending.next, cancelled)) else {
            continue;
        };
        number += i64::from(state.is_finished());
        states.push(StateRow::of(ending, state, state.is_finished().then_some(number), now));
        moves.states.insert(ending.lease.job.0, state);
    }
    add_spending(batch, won());
    if number > opening.last_number {
        batch.add("number finished jobs", SET_NUMBER, [number.into()]);
    }
    if !states.is_empty() {
        moves.place = Some(batch.add("write job states", FINISH, [rows(&states).into()]));
    }
    moves
}

/// Whoever asked for the end of a running job gets it, unless there is an answer, or a part of one.
fn after_cancel(next: &Next, cancelled: bool) -> JobEvent {
    match next.event {
        JobEvent::Succeed => JobEvent::Succeed,
        JobEvent::Continue if cancelled => JobEvent::Succeed,
        _ if cancelled => JobEvent::Cancel,
        event => event,
    }
}

/// Rows as a JSON array, for `jsonb_each`.
pub(super) fn rows<T: Serialize>(rows: &[T]) -> String {
    // Numbers and text: there is nothing that could not be written.
    serde_json::to_string(rows).unwrap_or_default()
}

/// What [`KEEP_RESPONSES`] reads: attempt, epoch and job, where its bytes begin (from 1), how many
/// are the body, and how many behind them its text.
type ResponseRow = (i64, i64, i64, usize, usize, usize);

columns! {
    /// What [`SETTLE`] reads.
    struct AttemptRow<'a> {
        attempt: i64,
        epoch: i64,
        job: i64,
        settlement: &'static str,
        counted_at: i64,
        requests: i64,
        limited_input: i64,
        limited_output: i64,
        tokens: i64,
        nanousd: Option<i64>,
        outcome: &'a str,
        http_status: Option<u16>,
        request_id: Option<&'a str>,
        error_class: Option<&'a str>,
        error: Option<&'a str>,
        stop_reason: Option<&'a str>,
        input_tokens: Option<i64>,
        output_tokens: Option<i64>,
        cache_read_tokens: Option<i64>,
        cache_write_tokens: Option<i64>,
        sent_at: Option<i64>,
        first_byte_at: Option<i64>,
        done_at: i64,
        headers: Option<&'a str>,
    }
}

impl AttemptRow<'_> {
    fn of(ending: &Ending) -> AttemptRow<'_> {
        let settlement = &ending.settlement;
        AttemptRow {
            attempt: ending.lease.attempt.0,
            epoch: ending.lease.epoch.0,
            job: ending.lease.job.0,
            settlement: settlement.kind.as_str(),
            counted_at: settlement.counted_at.0,
            requests: settlement.amounts.requests,
            limited_input: settlement.amounts.input_tokens,
            limited_output: settlement.amounts.output_tokens,
            tokens: settlement.tokens,
            nanousd: settlement.nanousd,
            outcome: &ending.outcome,
            http_status: ending.http_status,
            request_id: ending.request_id.as_deref(),
            error_class: ending.error_class.as_deref(),
            error: ending.error.as_deref(),
            stop_reason: ending.stop_reason.as_deref(),
            input_tokens: ending.usage.map(|usage| usage.input_tokens),
            output_tokens: ending.usage.map(|usage| usage.output_tokens),
            cache_read_tokens: ending.usage.map(|usage| usage.cache_read_tokens),
            cache_write_tokens: ending.usage.map(|usage| usage.cache_write_tokens),
            sent_at: ending.sent_at.map(|at| at.0),
            first_byte_at: ending.first_byte_at.map(|at| at.0),
            done_at: ending.done_at.0,
            headers: ending.headers.as_deref(),
        }
    }
}

columns! {
    /// What [`FINISH`] reads.
    struct StateRow<'a> {
        job: i64,
        attempt: i64,
        epoch: i64,
        state: &'static str,
        at: Option<i64>,
        counts: i64,
        seq: Option<i64>,
        finished_at: Option<i64>,
        error_class: Option<&'a str>,
        error: Option<&'a str>,
        paused: Option<i64>,
    }
}

impl StateRow<'_> {
    fn of(ending: &Ending, state: JobState, seq: Option<i64>, now: Timestamp) -> StateRow<'_> {
        let next = &ending.next;
        let queued = state == JobState::Queued;
        StateRow {
            job: ending.lease.job.0,
            attempt: ending.lease.attempt.0,
            epoch: ending.lease.epoch.0,
            state: state.as_str(),
            at: if queued { next.at.map(|at| at.0) } else { None },
            counts: i64::from(next.counts),
            seq,
            finished_at: seq.map(|_| now.0),
            error_class: if state == JobState::Cancelled {
                Some("cancelled")
            } else {
                next.error_class.as_deref()
            },
            error: next.error.as_deref(),
            paused: (next.event == JobEvent::Continue).then_some(ending.lease.attempt.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::columns::are_read;
    use super::*;

    #[test]
    fn rows_are_read_in_the_order_in_which_they_are_written() {
        assert!(are_read(AttemptRow::NAMES, SETTLE));
        assert!(are_read(StateRow::NAMES, FINISH));
        assert!(are_read(&["attempt", "epoch", "job", "at", "body", "text"], KEEP_RESPONSES));
        assert!(!are_read(StateRow::NAMES, SETTLE));
    }
}
