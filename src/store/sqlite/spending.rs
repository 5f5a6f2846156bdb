//! What was spent: sums that are kept, so that a day of ten million calls is read in no time.
//!
//! Invariant: `spending` is what the settled rows of `attempts` add up to, in every commit.

use super::Store;
use super::batch::Batch;
use super::settle::rows;
use crate::domain::time::Timestamp;
use crate::store::error::{Doing, StoreError};
use crate::store::rows::Ending;
use crate::store::views::SpentRow;
use serde::Serialize;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use std::collections::BTreeMap;

/// Milliseconds that one sum stands for: days begin at a multiple of it in every time zone of
/// today. What lies across is read call by call.
const SLOT: i64 = 900_000;

pub(super) const SPEND: &str = "-- spend
INSERT INTO spending (slot, queue, model, calls, nanousd, tokens, input_tokens, output_tokens,
  unpriced)
SELECT v.value ->> 'slot', v.value ->> 'queue', v.value ->> 'model', v.value ->> 'calls',
  v.value ->> 'nanousd', v.value ->> 'tokens', v.value ->> 'input_tokens',
  v.value ->> 'output_tokens', v.value ->> 'unpriced'
FROM json_each(?1) AS v WHERE true
ON CONFLICT (slot, queue, model) DO UPDATE SET
  calls = calls + excluded.calls, nanousd = nanousd + excluded.nanousd,
  tokens = tokens + excluded.tokens, input_tokens = input_tokens + excluded.input_tokens,
  output_tokens = output_tokens + excluded.output_tokens,
  unpriced = unpriced + excluded.unpriced";

/// Whole slots from `?2` on, what was settled between `?1` and there, and all that is in flight.
pub(super) const SPENT: &str = "-- spent
SELECT model, sum(calls) AS calls, sum(nanousd) AS nanousd, sum(input_tokens) AS input_tokens,
  sum(output_tokens) AS output_tokens, sum(unpriced) AS unpriced
FROM (
  SELECT model, calls, nanousd, input_tokens, output_tokens, unpriced
  FROM spending WHERE slot >= ?2 AND (?3 IS NULL OR queue = ?3)
  UNION ALL
  SELECT model, 1, coalesce(settled_nanousd, worst_nanousd, 0), settled_input_tokens,
    settled_output_tokens, worst_nanousd IS NULL
  FROM attempts
  WHERE reserved_at >= ?1 AND reserved_at < ?2 AND settlement IS NOT NULL
    AND (?3 IS NULL OR queue = ?3)
  UNION ALL
  SELECT model, 1, coalesce(worst_nanousd, 0), 0, 0, worst_nanousd IS NULL
  FROM attempts INDEXED BY attempts_open
  WHERE settlement IS NULL AND reserved_at >= ?1 AND (?3 IS NULL OR queue = ?3))
GROUP BY model ORDER BY sum(nanousd) DESC, model";

pub(super) const SPENT_OF_BATCH: &str = "-- spent_of_batch
SELECT model, count(*) AS calls,
  coalesce(sum(coalesce(settled_nanousd, worst_nanousd)), 0) AS nanousd,
  coalesce(sum(settled_input_tokens), 0) AS input_tokens,
  coalesce(sum(settled_output_tokens), 0) AS output_tokens,
  sum(worst_nanousd IS NULL) AS unpriced
FROM attempts WHERE batch = ?1 AND +reserved_at >= ?2 AND (?3 IS NULL OR queue = ?3)
GROUP BY model ORDER BY nanousd DESC, model";

/// Whole slots in `?2 … ?3`, and what was settled before and behind them, in `?1 … ?4`.
pub(super) const BUDGET_SPENT: &str = "-- budget_spent
SELECT coalesce(sum(nanousd), 0) AS nanousd, coalesce(sum(tokens), 0) AS tokens
FROM (
  SELECT nanousd, tokens FROM spending
  WHERE slot >= ?2 AND slot < ?3 AND (?5 IS NULL OR queue = ?5)
  UNION ALL
  SELECT settled_nanousd, settled_tokens FROM attempts
  WHERE reserved_at >= ?1 AND reserved_at < min(?2, ?4) AND settlement IS NOT NULL
    AND (?5 IS NULL OR queue = ?5)
  UNION ALL
  SELECT settled_nanousd, settled_tokens FROM attempts
  WHERE reserved_at >= max(?3, min(?2, ?4)) AND reserved_at < ?4 AND settlement IS NOT NULL
    AND (?5 IS NULL OR queue = ?5))";

/// What was settled in a period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BudgetSpent {
    /// Money.
    pub nanousd: i64,
    /// Prompt and output.
    pub tokens: i64,
}

impl Store {
    /// What was spent since a moment, by model; calls in flight at their worst.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn spent_by_model(
        &self,
        since: Timestamp,
        batch: Option<&str>,
        queue: Option<&str>,
    ) -> Result<Vec<SpentRow>, StoreError> {
        let query = match batch {
            Some(batch) => sqlx::query(SPENT_OF_BATCH).bind(batch.to_owned()).bind(since.0),
            None => sqlx::query(SPENT).bind(since.0).bind(slot_at_or_after(since)),
        };
        let rows = query.bind(queue).fetch_all(&self.readers).await.doing("sum up costs")?;
        Ok(rows.iter().map(spent_row).collect())
    }

    /// What was settled of the calls reserved in `start … end`, of one queue or of all.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn budget_spent(
        &self,
        start: Timestamp,
        end: Timestamp,
        queue: Option<&str>,
    ) -> Result<BudgetSpent, StoreError> {
        let row = sqlx::query(BUDGET_SPENT)
            .bind(start.0)
            .bind(slot_at_or_after(start))
            .bind(slot_of(end))
            .bind(end.0)
            .bind(queue)
            .fetch_one(&self.readers)
            .await
            .doing("sum up a budget")?;
        Ok(BudgetSpent { nanousd: row.get("nanousd"), tokens: row.get("tokens") })
    }
}

/// Adds what has just been settled.
pub(super) fn add_spending<'a>(batch: &mut Batch, endings: impl Iterator<Item = &'a Ending>) {
    let mut sums: BTreeMap<(i64, &str, &str), Sums> = BTreeMap::new();
    for ending in endings {
        let call = &ending.lease.reservation;
        let key = (slot_of(call.reserved_at), &*call.queue, &*call.model);
        sums.entry(key).or_default().add(ending);
    }
    if sums.is_empty() {
        return;
    }
    let sums: Vec<_> = sums
        .into_iter()
        .map(|((slot, queue, model), sums)| SpendingRow { slot, queue, model, sums })
        .collect();
    batch.add("add up costs", SPEND, [rows(&sums).into()]);
}

/// What [`SPEND`] reads.
#[derive(Serialize)]
struct SpendingRow<'a> {
    slot: i64,
    queue: &'a str,
    model: &'a str,
    #[serde(flatten)]
    sums: Sums,
}

#[derive(Default, Serialize)]
struct Sums {
    calls: i64,
    nanousd: i64,
    tokens: i64,
    input_tokens: i64,
    output_tokens: i64,
    unpriced: i64,
}

impl Sums {
    fn add(&mut self, ending: &Ending) {
        let settlement = &ending.settlement;
        self.calls += 1;
        self.nanousd = self.nanousd.saturating_add(settlement.nanousd.unwrap_or(0));
        self.tokens = self.tokens.saturating_add(settlement.tokens);
        let amounts = settlement.amounts;
        self.input_tokens = self.input_tokens.saturating_add(amounts.input_tokens);
        self.output_tokens = self.output_tokens.saturating_add(amounts.output_tokens);
        self.unpriced += i64::from(ending.lease.reservation.worst.nanousd.is_none());
    }
}

/// The begin of the slot around a moment.
fn slot_of(at: Timestamp) -> i64 {
    at.0.div_euclid(SLOT).saturating_mul(SLOT)
}

/// The first begin of a slot that is not before a moment.
fn slot_at_or_after(at: Timestamp) -> i64 {
    let slot = slot_of(at);
    if slot >= at.0 { slot } else { slot.saturating_add(SLOT) }
}

fn spent_row(row: &SqliteRow) -> SpentRow {
    SpentRow {
        model: row.get("model"),
        calls: row.get("calls"),
        nanousd: row.get("nanousd"),
        input_tokens: row.get("input_tokens"),
        output_tokens: row.get("output_tokens"),
        unpriced: row.get("unpriced"),
    }
}
