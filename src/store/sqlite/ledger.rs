//! The ledger's durable side: snapshots written with each group, and what a new daemon reads.

use super::Store;
use super::batch::{Batch, Parameter};
use crate::domain::budget::Worst;
use crate::domain::job::{AttemptId, Epoch, JobId};
use crate::domain::limit::PoolName;
use crate::domain::reservation::{Amounts, Reservation};
use crate::domain::time::{Millis, Timestamp};
use crate::store::error::{Doing, StoreError};
use crate::store::rows::{
    BudgetSnapshot, EstimateRow, GateRow, Lease, LimitSnapshot, OpenAttempt, PastCall, Snapshots,
    output_mode,
};
use serde_json::{Value, json};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use std::sync::Arc;

pub(super) const WRITE_LIMITS: &str = "-- write_limits
INSERT INTO limit_snapshots (pool, dimension, per, amount, source, algorithm, burst_ms,
  burst_learned, capacity, level_shares, available, held, others, as_of)
SELECT v.value ->> 'pool', v.value ->> 'dimension', v.value ->> 'per', v.value ->> 'amount',
  v.value ->> 'source', v.value ->> 'algorithm', v.value ->> 'burst_ms',
  v.value ->> 'burst_learned', v.value ->> 'capacity', v.value ->> 'level',
  v.value ->> 'available', v.value ->> 'held', v.value ->> 'others', v.value ->> 'as_of'
FROM json_each(?1) AS v WHERE true
ON CONFLICT (pool, dimension, per) DO UPDATE SET
  amount = excluded.amount, source = excluded.source, algorithm = excluded.algorithm,
  burst_ms = excluded.burst_ms, burst_learned = excluded.burst_learned,
  capacity = excluded.capacity, level_shares = excluded.level_shares,
  available = excluded.available, held = excluded.held, others = excluded.others,
  as_of = excluded.as_of";

pub(super) const WRITE_ESTIMATES: &str = "-- write_estimates
INSERT INTO estimates (queue, model, answers, output_part, bytes_per_token, tokens_per_second,
  first_token_ms, learned, as_of)
SELECT v.value ->> 'queue', v.value ->> 'model', v.value ->> 'answers', v.value ->> 'output',
  v.value ->> 'bytes', v.value ->> 'speed', v.value ->> 'first', v.value ->> 'learned',
  v.value ->> 'as_of'
FROM json_each(?1) AS v WHERE true
ON CONFLICT (queue, model) DO UPDATE SET
  answers = excluded.answers, output_part = excluded.output_part,
  bytes_per_token = excluded.bytes_per_token, tokens_per_second = excluded.tokens_per_second,
  first_token_ms = excluded.first_token_ms, learned = excluded.learned, as_of = excluded.as_of";

/// The latest first: no more are remembered than the daemon can hold.
pub(super) const READ_ESTIMATES: &str = "-- read_estimates
SELECT queue, model, answers, output_part, bytes_per_token, tokens_per_second, first_token_ms,
  learned, as_of
FROM estimates ORDER BY as_of DESC, queue, model LIMIT 4096";

pub(super) const WRITE_BUDGETS: &str = "-- write_budgets
INSERT INTO budget_snapshots (budget, period_start, period_end, cap, spent, reserved, as_of)
SELECT v.value ->> 'budget', v.value ->> 'start', v.value ->> 'end', v.value ->> 'cap',
  v.value ->> 'spent', v.value ->> 'reserved', ?2
FROM json_each(?1) AS v WHERE true
ON CONFLICT (budget, period_start) DO UPDATE SET
  period_end = excluded.period_end, cap = excluded.cap, spent = excluded.spent,
  reserved = excluded.reserved, as_of = excluded.as_of";

pub(super) const DROP_GATES: &str = "-- drop_gates
DELETE FROM gates WHERE name NOT IN (SELECT v.value ->> 'name' FROM json_each(?1) AS v)";

pub(super) const WRITE_GATES: &str = "-- write_gates
INSERT INTO gates (name, reason, until, as_of)
SELECT v.value ->> 'name', v.value ->> 'reason', v.value ->> 'until', ?2
FROM json_each(?1) AS v WHERE true
ON CONFLICT (name) DO UPDATE SET
  reason = excluded.reason, until = excluded.until, as_of = excluded.as_of";

pub(super) const READ_LIMITS: &str = "-- read_limits
SELECT pool, dimension, per, amount, source, algorithm, burst_ms, burst_learned, capacity,
  level_shares, available, held, others, as_of
FROM limit_snapshots WHERE amount > 0 ORDER BY pool, dimension, per";

pub(super) const READ_GATES: &str = "-- read_gates
SELECT name, reason, until FROM gates ORDER BY name";

pub(super) const OPEN_ATTEMPTS: &str = "-- open_attempts
SELECT a.id, a.job_id, a.number, a.epoch, a.queue, a.pool, a.model, a.output_mode, a.reserved_at,
  a.reserved_requests, a.reserved_input_tokens, a.reserved_output_tokens, a.worst_input_tokens,
  a.worst_output_tokens, a.worst_nanousd, coalesce(s.counted_attempts, 0) AS counted_attempts,
  j.max_attempts
FROM attempts AS a
LEFT JOIN job_state AS s ON s.id = a.job_id
LEFT JOIN jobs AS j ON j.id = a.job_id
WHERE a.settlement IS NULL AND a.epoch < ?1";

/// Running jobs of dead epochs whose attempt is settled or gone: they only lost their state.
pub(super) const REQUEUE_STRAYS: &str = "-- requeue_strays
UPDATE job_state INDEXED BY job_state_running
SET state = 'queued', epoch = NULL, next_attempt_at = NULL
WHERE state = 'running' AND epoch < ?1
  AND NOT EXISTS (SELECT 1 FROM attempts AS a
    WHERE a.id = job_state.attempt_id AND a.settlement IS NULL)";

/// `?3` is the length of a slot in milliseconds.
pub(super) const PAST_CALLS: &str = "-- past_calls
SELECT model, sum(settled_requests) AS requests, sum(settled_input_tokens) AS input_tokens,
  sum(settled_output_tokens) AS output_tokens, max(counted_at) AS counted_at
FROM attempts
WHERE counted_at IS NOT NULL AND counted_at > ?1 AND counted_at <= ?2
GROUP BY model, counted_at / ?3";

/// What a new daemon finds.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// Levels as of the last commit.
    pub limits: Vec<LimitSnapshot>,
    /// What was shut.
    pub gates: Vec<GateRow>,
    /// What was learned of sizes.
    pub estimates: Vec<EstimateRow>,
    /// Attempts that dead epochs left in flight.
    pub open: Vec<OpenAttempt>,
    /// Settled calls of the time asked for: by themselves for the last minute, in slots before.
    pub past: Vec<PastCall>,
}

impl Store {
    /// Reads what dead epochs left, and frees jobs that only lost their state; of the calls that
    /// are settled, those of the last `memory`, which the longest limit needs.
    ///
    /// # Errors
    /// When the database cannot be read or written.
    pub async fn recover(
        &self,
        epoch: Epoch,
        memory: Millis,
        now: Timestamp,
    ) -> Result<Recovered, StoreError> {
        sqlx::query(REQUEUE_STRAYS)
            .bind(epoch.0)
            .execute(&self.writer)
            .await
            .doing("requeue stray jobs")?;
        let open = sqlx::query(OPEN_ATTEMPTS)
            .bind(epoch.0)
            .fetch_all(&self.readers)
            .await
            .doing("find open attempts")?;
        let minute = now - Millis::MINUTE;
        let mut past = self.past_calls(minute, Timestamp(i64::MAX), Millis(1)).await?;
        if memory > Millis::MINUTE {
            past.extend(self.past_calls(now - memory, minute, Millis::MINUTE).await?);
        }
        Ok(Recovered {
            limits: self.limits().await?,
            gates: self.gates().await?,
            estimates: self.estimates().await?,
            open: open.iter().map(open_attempt).collect(),
            past,
        })
    }

    /// Settled calls counted after a moment and until another, by model, in slots.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn past_calls(
        &self,
        after: Timestamp,
        until: Timestamp,
        slot: Millis,
    ) -> Result<Vec<PastCall>, StoreError> {
        let rows = sqlx::query(PAST_CALLS)
            .bind(after.0)
            .bind(until.0)
            .bind(slot.0)
            .fetch_all(&self.readers)
            .await
            .doing("read past calls")?;
        let past = |row: &SqliteRow| PastCall {
            model: row.get("model"),
            requests: row.get("requests"),
            input_tokens: row.get("input_tokens"),
            output_tokens: row.get("output_tokens"),
            counted_at: Timestamp(row.get("counted_at")),
        };
        Ok(rows.iter().map(past).collect())
    }

    /// The last snapshots of all limits.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn limits(&self) -> Result<Vec<LimitSnapshot>, StoreError> {
        let rows = sqlx::query(READ_LIMITS).fetch_all(&self.readers).await.doing("read limits")?;
        let limit = |row: &SqliteRow| LimitSnapshot {
            pool: row.get("pool"),
            dimension: row.get("dimension"),
            per: row.get("per"),
            amount: row.get("amount"),
            source: row.get("source"),
            algorithm: row.get("algorithm"),
            burst_ms: row.get("burst_ms"),
            burst_learned: row.get("burst_learned"),
            capacity: row.get("capacity"),
            level_shares: row.get("level_shares"),
            available: row.get("available"),
            held: row.get("held"),
            others: row.get("others"),
            as_of: Timestamp(row.get("as_of")),
        };
        Ok(rows.iter().map(limit).collect())
    }

    /// What was learned of the sizes of calls, the latest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn estimates(&self) -> Result<Vec<EstimateRow>, StoreError> {
        let rows = sqlx::query(READ_ESTIMATES).fetch_all(&self.readers).await;
        let estimate = |row: &SqliteRow| EstimateRow {
            queue: row.get("queue"),
            model: row.get("model"),
            answers: row.get("answers"),
            output_part: row.get("output_part"),
            bytes_per_token: row.get("bytes_per_token"),
            tokens_per_second: row.get("tokens_per_second"),
            first_token_ms: row.get("first_token_ms"),
            learned: row.get("learned"),
            as_of: Timestamp(row.get("as_of")),
        };
        Ok(rows.doing("read estimates")?.iter().map(estimate).collect())
    }

    /// What is shut.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn gates(&self) -> Result<Vec<GateRow>, StoreError> {
        let rows = sqlx::query(READ_GATES).fetch_all(&self.readers).await.doing("read gates")?;
        let gate = |row: &SqliteRow| GateRow {
            name: row.get("name"),
            reason: row.get("reason"),
            until: row.get::<Option<i64>, _>("until").map(Timestamp),
        };
        Ok(rows.iter().map(gate).collect())
    }
}

/// Adds what writes the snapshots.
pub(super) fn add_snapshots(batch: &mut Batch, snapshots: &Snapshots, now: Timestamp) {
    let limits: Vec<Value> = snapshots.limits.iter().map(limit_json).collect();
    if !limits.is_empty() {
        batch.add("write limits", WRITE_LIMITS, [text(limits)]);
    }
    let budgets: Vec<Value> = snapshots.budgets.iter().map(budget_json).collect();
    if !budgets.is_empty() {
        batch.add("write budgets", WRITE_BUDGETS, [text(budgets), now.0.into()]);
    }
    let estimates: Vec<Value> = snapshots.estimates.iter().map(estimate_json).collect();
    if !estimates.is_empty() {
        batch.add("write estimates", WRITE_ESTIMATES, [text(estimates)]);
    }
    let Some(gates) = &snapshots.gates else { return };
    let gates: Vec<Value> = gates.iter().map(gate_json).collect();
    batch.add("open gates", DROP_GATES, [text(gates.clone())]);
    batch.add("write gates", WRITE_GATES, [text(gates), now.0.into()]);
}

fn text(rows: Vec<Value>) -> Parameter {
    Value::Array(rows).to_string().into()
}

fn budget_json(row: &BudgetSnapshot) -> Value {
    json!({
        "budget": row.budget, "start": row.period_start.0, "end": row.period_end.0,
        "cap": row.cap, "spent": row.spent, "reserved": row.reserved,
    })
}

fn gate_json(row: &GateRow) -> Value {
    json!({ "name": row.name, "reason": row.reason, "until": row.until.map(|at| at.0) })
}

fn limit_json(row: &LimitSnapshot) -> Value {
    json!({
        "pool": row.pool, "dimension": row.dimension, "per": row.per, "amount": row.amount,
        "source": row.source, "algorithm": row.algorithm, "burst_ms": row.burst_ms,
        "burst_learned": i64::from(row.burst_learned), "capacity": row.capacity,
        "level": row.level_shares, "available": row.available, "held": row.held,
        "others": row.others,
        "as_of": row.as_of.0,
    })
}

fn estimate_json(row: &EstimateRow) -> Value {
    json!({
        "queue": row.queue, "model": row.model, "answers": row.answers, "output": row.output_part,
        "bytes": row.bytes_per_token, "speed": row.tokens_per_second, "first": row.first_token_ms,
        "learned": row.learned, "as_of": row.as_of.0,
    })
}

fn open_attempt(row: &SqliteRow) -> OpenAttempt {
    let reservation = Reservation {
        pool: PoolName(Arc::from(row.get::<String, _>("pool"))),
        mode: output_mode(&row.get::<String, _>("output_mode")),
        queue: Arc::from(row.get::<String, _>("queue")),
        model: Arc::from(row.get::<String, _>("model")),
        expected: Amounts {
            requests: row.get("reserved_requests"),
            input_tokens: row.get("reserved_input_tokens"),
            output_tokens: row.get("reserved_output_tokens"),
        },
        worst: Worst {
            input_tokens: row.get("worst_input_tokens"),
            output_tokens: row.get("worst_output_tokens"),
            nanousd: row.get("worst_nanousd"),
        },
        reserved_at: Timestamp(row.get("reserved_at")),
    };
    let as_count = |value: Option<i64>| value.and_then(|value| u32::try_from(value).ok());
    OpenAttempt {
        lease: Lease {
            attempt: AttemptId(row.get("id")),
            epoch: Epoch(row.get("epoch")),
            job: JobId(row.get("job_id")),
            attempts: as_count(Some(row.get::<i64, _>("number") - 1)).unwrap_or(0),
            counted_attempts: as_count(row.get("counted_attempts")).unwrap_or(0),
            reservation,
        },
        max_attempts: as_count(row.get("max_attempts")),
    }
}
