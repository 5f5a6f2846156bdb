//! The ledger as rows, and back.

use crate::domain::budget::Budget;
use crate::domain::estimate::Estimator;
use crate::domain::gate::Closed;
use crate::domain::ledger::{Ledger, Past};
use crate::domain::limit::{Algorithm, Dimension, LimitSource, LimitSpec, Per};
use crate::domain::pool::{Level, Meter, Pool};
use crate::domain::ramp::Slope;
use crate::domain::reservation::{Amounts, Reservation};
use crate::domain::time::{Millis, Timestamp};
use crate::store::{BudgetSnapshot, EstimateRow, GateRow, LimitSnapshot, PastCall, Snapshots};
use std::collections::BTreeSet;

/// The account's row among the gates.
const ACCOUNT: &str = "*";
/// The dimension of a slope among the limits: calls that start.
const STARTS: &str = "starts";

/// The rows of the pools named, of every budget and every shut gate.
pub(super) fn snapshots(ledger: &Ledger, pools: &BTreeSet<&str>, now: Timestamp) -> Snapshots {
    let touched = ledger.pools.iter().filter(|pool| pools.contains(&*pool.spec.name.0));
    let limits = touched.flat_map(|pool| {
        pool.meters.iter().map(|meter| limit(pool, meter, now)).chain(slope(pool, now))
    });
    let mut gates: Vec<GateRow> = Vec::new();
    let all = ledger.pools.iter().map(|pool| (&*pool.spec.name.0, &pool.gate));
    for (name, gate) in all.chain([(ACCOUNT, &ledger.account)]) {
        if let Some((until, why)) = gate.closed() {
            gates.push(GateRow { name: name.to_owned(), reason: why.as_str().to_owned(), until });
        }
    }
    Snapshots {
        limits: limits.collect(),
        budgets: ledger.budgets.iter().flat_map(budget).collect(),
        gates: Some(gates),
        estimates: Vec::new(),
    }
}

/// What is known by now of the calls whose queues and models these are.
pub(super) fn estimates<'a>(
    sizes: &Estimator,
    calls: impl Iterator<Item = &'a Reservation>,
    now: Timestamp,
) -> Vec<EstimateRow> {
    let keys: BTreeSet<(&str, &str)> =
        calls.flat_map(|call| [(&*call.queue, &*call.model), ("", &*call.model)]).collect();
    keys.into_iter().filter_map(|(queue, model)| estimate(sizes, queue, model, now)).collect()
}

fn estimate(sizes: &Estimator, queue: &str, model: &str, now: Timestamp) -> Option<EstimateRow> {
    let learned = sizes.learned(queue, model)?;
    let speed = learned.pace().speed();
    #[expect(clippy::cast_possible_truncation, reason = "a few hundred samples")]
    let answers = learned.samples() as i64;
    Some(EstimateRow {
        queue: queue.to_owned(),
        model: model.to_owned(),
        answers,
        output_part: learned.mean_length(),
        bytes_per_token: learned.bytes_per_token(),
        tokens_per_second: speed.map(|speed| speed.tokens_per_second),
        first_token_ms: speed.map(|speed| speed.first_token.0),
        learned: serde_json::to_string(learned).ok()?,
        as_of: now,
    })
}

/// Puts back what was learned; what cannot be read is learned anew.
pub(super) fn restore_estimates(sizes: &mut Estimator, rows: &[EstimateRow]) {
    for row in rows {
        match serde_json::from_str(&row.learned) {
            Ok(learned) => sizes.restore(&row.queue, &row.model, learned),
            Err(error) => tracing::debug!(queue = row.queue, %error, "an estimate is unreadable"),
        }
    }
    sizes.restored();
}

/// The slope of a pool whose calls became more too fast, as one more limit; 0 when it is over.
fn slope(pool: &Pool, now: Timestamp) -> Option<LimitSnapshot> {
    let slope = pool.ramp.last()?;
    let allowed = pool.ramp.slope(now).map_or(0, |slope| slope.allowed(now));
    Some(LimitSnapshot {
        pool: pool.spec.name.0.to_string(),
        dimension: STARTS.to_owned(),
        per: Per::Minute.as_str().to_owned(),
        amount: allowed,
        source: "learned".to_owned(),
        algorithm: "ramp".to_owned(),
        burst_ms: None,
        burst_learned: false,
        capacity: slope.growth,
        level_shares: None,
        available: allowed,
        held: 0,
        others: 0,
        as_of: now,
    })
}

fn limit(pool: &Pool, meter: &Meter, now: Timestamp) -> LimitSnapshot {
    let (algorithm, burst, level_shares, held) = match &meter.level {
        Level::Bucket(bucket) => {
            let level = bucket.lasting_shares(pool.taken_unsettled(meter), now);
            ("bucket", Some(bucket.burst()), Some(level), bucket.held())
        }
        Level::Window(window) => ("window", None, None, window.in_flight()),
    };
    LimitSnapshot {
        pool: pool.spec.name.0.to_string(),
        dimension: meter.spec.dimension.as_str().to_owned(),
        per: meter.spec.per.as_str().to_owned(),
        amount: meter.spec.amount,
        source: meter.spec.source.as_str().to_owned(),
        algorithm: algorithm.to_owned(),
        burst_ms: burst.map(|(span, _)| span.0),
        burst_learned: burst.is_some_and(|(_, learned)| learned),
        capacity: meter.capacity(),
        level_shares,
        available: meter.available(now),
        held,
        others: match &meter.level {
            Level::Bucket(bucket) => bucket.others(),
            Level::Window(_) => 0,
        },
        as_of: now,
    }
}

fn budget(budget: &Budget) -> Vec<BudgetSnapshot> {
    let row = |period: &crate::domain::budget::PeriodSum| BudgetSnapshot {
        budget: budget.spec.key(),
        period_start: period.start,
        period_end: period.end,
        cap: budget.cap(),
        spent: period.spent,
        reserved: period.reserved,
    };
    budget.periods().iter().map(row).collect()
}

/// Puts levels, learned limits, windows and gates back as the last commit left them.
pub(super) fn restore(
    ledger: &mut Ledger,
    limits: &[LimitSnapshot],
    past: &[PastCall],
    gates: &[GateRow],
    now: Timestamp,
) {
    for row in limits {
        restore_limit(ledger, row, now);
    }
    let restored = |pool: &Pool, meter: &Meter| {
        limits.iter().any(|row| {
            *row.pool == *pool.spec.name.0
                && row.dimension == meter.spec.dimension.as_str()
                && row.per == meter.spec.per.as_str()
        })
    };
    for call in past {
        let amounts = Amounts {
            requests: call.requests,
            input_tokens: call.input_tokens,
            output_tokens: call.output_tokens,
        };
        let past = Past { model: &call.model, amounts, counted_at: call.counted_at };
        ledger.remember(past, restored, now);
    }
    for row in gates {
        let Some(why) = Closed::parse(&row.reason) else { continue };
        // A rejected key may be another one by now: the first call will tell.
        if why == Closed::Key {
            continue;
        }
        if row.name == ACCOUNT {
            ledger.account.restore(why, row.until, now);
        } else if let Some(pool) =
            ledger.pools.iter_mut().find(|pool| *pool.spec.name.0 == *row.name)
        {
            pool.gate.restore(why, row.until, now);
        }
    }
}

fn restore_limit(ledger: &mut Ledger, row: &LimitSnapshot, now: Timestamp) {
    if row.dimension == STARTS {
        if row.amount > 0
            && let Some(pool) = ledger.pools.iter_mut().find(|pool| *pool.spec.name.0 == *row.pool)
        {
            pool.ramp.restore(Slope::new(row.amount, row.capacity, row.as_of));
        }
        return;
    }
    let (Some(dimension), Some(per)) = (Dimension::parse(&row.dimension), Per::parse(&row.per))
    else {
        return;
    };
    if row.source == LimitSource::Headers.as_str() && row.amount > 0 {
        let algorithm = Algorithm::Bucket { burst: None };
        let source = LimitSource::Headers;
        let spec = LimitSpec { dimension, per, amount: row.amount, algorithm, source };
        ledger.restore_learned(&row.pool, spec, now);
    }
    let Some(meter) = ledger.meter_mut(&row.pool, dimension, per) else { return };
    if row.source == LimitSource::Headers.as_str() {
        meter.lower(row.amount, now);
    }
    let (Level::Bucket(bucket), Some(shares)) = (&mut meter.level, row.level_shares) else {
        return;
    };
    let learned = row.burst_learned.then_some(row.burst_ms).flatten().map(Millis);
    let same_burst = match (bucket.burst(), learned) {
        // What was told may hold less by the headers.
        (_, Some(_)) => true,
        ((span, false), None) => Some(span.0) == row.burst_ms,
        _ => false,
    };
    if same_burst && meter.spec.amount == row.amount {
        bucket.restore(shares, row.as_of, learned);
        bucket.restore_others(row.others);
    } else {
        // Another limit now: what was missing from the old bucket is missing from the new one.
        let missing = row.capacity.saturating_sub(row.available.saturating_add(row.held)).max(0);
        let level = bucket.capacity().saturating_sub(missing).saturating_mul(per.span().0);
        bucket.restore(level, row.as_of, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::bucket::Reading;
    use crate::domain::limit::{OutputMode, PoolName, PoolSpec};

    const T0: Timestamp = Timestamp(1_790_000_000_000);

    /// One pool: its limits, if any are stated.
    fn ledger(limits: Vec<LimitSpec>, now: Timestamp) -> Ledger {
        let pool = PoolSpec {
            name: PoolName("p".into()),
            models: vec!["*".into()],
            limits,
            output_mode: OutputMode::Realtime,
        };
        Ledger::new(vec![pool], Vec::new(), now)
    }

    fn limit(amount: i64, source: LimitSource) -> LimitSpec {
        let (dimension, per) = (Dimension::OutputTokens, Per::Minute);
        LimitSpec { dimension, per, amount, algorithm: Algorithm::Bucket { burst: None }, source }
    }

    fn bucket(ledger: &Ledger) -> &crate::domain::bucket::Bucket {
        let Level::Bucket(bucket) = &ledger.pools[0].meters[0].level else { panic!("a bucket") };
        bucket
    }

    /// What the next daemon knows of the pool.
    fn restarted(old: &Ledger, limits: Vec<LimitSpec>, now: Timestamp) -> Ledger {
        let rows = snapshots(old, &BTreeSet::from(["p"]), now);
        let mut new = ledger(limits, now);
        restore(&mut new, &rows.limits, &[], &[], now);
        new
    }

    #[test]
    fn what_was_learned_of_limits_outlives_a_restart() {
        let mut old = ledger(Vec::new(), T0);
        old.restore_learned("p", limit(60_000, LimitSource::Headers), T0);
        let now = T0 + Millis::from_secs(30);
        let Level::Bucket(learned) = &mut old.pools[0].meters[0].level else { panic!("a bucket") };
        assert!(learned.widen(now));
        let reading = Reading { remaining: 2_000, until_full: None, rounding: 500, unseen: 0 };
        learned.correct(reading, None, now);
        (0..60).for_each(|_| old.pools[0].ramp.started(now));
        old.pools[0].ramp.refused(now, now);
        let new = restarted(&old, Vec::new(), now);
        assert_eq!(new.pools[0].spec.limits, [limit(60_000, LimitSource::Headers)]);
        assert_eq!(bucket(&new).burst(), (Millis::from_secs(10), true));
        assert!(bucket(&new).others() > 0);
        assert_eq!(bucket(&new).others(), bucket(&old).others());
        assert_eq!(bucket(&new).available(now), 2_500);
        let slope = new.pools[0].ramp.slope(now).unwrap();
        assert_eq!((slope.per_minute, slope.growth), (180, 100));
    }

    #[test]
    fn a_stated_limit_that_the_headers_lowered_is_low_after_a_restart() {
        let stated = limit(60_000, LimitSource::Configured);
        let mut old = ledger(vec![stated], T0);
        old.pools[0].meters[0].lower(30_000, T0);
        let new = restarted(&old, vec![stated], T0);
        assert_eq!(new.pools[0].meters[0].spec, limit(30_000, LimitSource::Headers));
        assert_eq!(bucket(&new).available(T0), 2_500);
    }
}
