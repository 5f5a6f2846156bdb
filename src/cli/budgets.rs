//! Budgets and where they stand, for status and cost.

use super::render::{Line, Tone, format};
use crate::clock::calendar::{self, CalendarUnit};
use crate::config::Config;
use crate::domain::budget::{BudgetPer, BudgetSpec, Cap};
use crate::domain::forecast::{BudgetEnd, Forecast};
use crate::domain::price::in_usd;
use crate::domain::time::Timestamp;
use crate::store::Store;
use serde_json::{Value, json};

/// A configured budget and where it stands.
#[derive(Clone, Debug)]
pub(super) struct BudgetUse {
    pub(super) spec: BudgetSpec,
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
    pub(super) spent: i64,
    pub(super) reserved: i64,
}

impl BudgetUse {
    pub(super) fn cap(&self) -> i64 {
        match self.spec.cap {
            Cap::Usd(cap) | Cap::Tokens(cap) => cap,
        }
    }
}

/// The last midnight UTC.
pub(super) fn today(now: Timestamp) -> Timestamp {
    calendar_period(CalendarUnit::Day, "UTC", now).0
}

/// The configured budgets, as the daemon last wrote them or summed up from the ledger.
pub(super) async fn read(
    store: &Store,
    config: &Config,
    now: Timestamp,
) -> anyhow::Result<Vec<BudgetUse>> {
    let snapshots = store.budgets(now).await?;
    let mut uses = Vec::with_capacity(config.budgets.len());
    for spec in &config.budgets {
        let key = spec.key();
        if let Some(found) = snapshots.iter().find(|snapshot| snapshot.budget == key) {
            uses.push(BudgetUse {
                spec: spec.clone(),
                start: found.period_start,
                end: found.period_end,
                spent: found.spent,
                reserved: found.reserved,
            });
            continue;
        }
        // No call was made in this period yet, or no daemon has seen this budget.
        let (start, end) = period(spec, now);
        let spent = store.budget_spent(start, end, spec.queue.as_deref()).await?;
        let spent = match spec.cap {
            Cap::Usd(_) => spent.nanousd,
            Cap::Tokens(_) => spent.tokens,
        };
        uses.push(BudgetUse { spec: spec.clone(), start, end, spent, reserved: 0 });
    }
    Ok(uses)
}

fn period(spec: &BudgetSpec, now: Timestamp) -> (Timestamp, Timestamp) {
    let unit = match spec.per {
        BudgetPer::Day => CalendarUnit::Day,
        BudgetPer::Month => CalendarUnit::Month,
        BudgetPer::Total => return (Timestamp(i64::MIN), Timestamp(i64::MAX)),
    };
    calendar_period(unit, &spec.timezone, now)
}

fn calendar_period(unit: CalendarUnit, zone: &str, now: Timestamp) -> (Timestamp, Timestamp) {
    let all_of_time = (Timestamp(i64::MIN), Timestamp(i64::MAX));
    calendar::zone(zone).map_or(all_of_time, |zone| calendar::period(unit, &zone, now))
}

/// `$184.20 of $300.00 today`
pub(super) fn line(budget: &BudgetUse) -> Line {
    let amount = |number: i64| match budget.spec.cap {
        Cap::Usd(_) => format::usd(number),
        Cap::Tokens(_) => format::short(number),
    };
    let unit = match budget.spec.cap {
        Cap::Usd(_) => "",
        Cap::Tokens(_) => " tokens",
    };
    let per = match budget.spec.per {
        BudgetPer::Day => " today",
        BudgetPer::Month => " this month",
        BudgetPer::Total => " in all",
    };
    let queue = budget.spec.queue.as_ref().map(|queue| format!(" (queue {queue})"));
    let used = budget.spent.saturating_add(budget.reserved);
    let tone = match i128::from(used) * 100 / i128::from(budget.cap().max(1)) {
        ..80 => Tone::Plain,
        80..100 => Tone::Warn,
        _ => Tone::Bad,
    };
    Line::default().and(tone, amount(budget.spent)).and(
        Tone::Plain,
        format!(" of {}{unit}{per}{}", amount(budget.cap()), queue.unwrap_or_default()),
    )
}

/// When a budget will stop calls, and how to say so; `None`: it will not.
pub(super) fn wall(
    budget: &BudgetUse,
    forecast: &Forecast,
    now: Timestamp,
) -> Option<(Timestamp, String)> {
    let end = end(budget, forecast)?;
    let stops_at = end.stops_at?;
    let amount = match budget.spec.cap {
        Cap::Usd(_) => format::usd_about(end.exceeded_by),
        Cap::Tokens(_) => format!("{} tokens", format::short(end.exceeded_by)),
    };
    let why = match end.exceeded_by {
        // It is the worst case of the last calls that has no room.
        0 => "comes too near the budget".to_owned(),
        _ => format!("exceeds the budget by about {amount}"),
    };
    let when = match stops_at > now {
        true => format!("stops at {}", calendar::local_clock(stops_at, now)),
        false => "stopped".to_owned(),
    };
    Some((stops_at, format!("{why}, {when}")))
}

fn end<'a>(budget: &BudgetUse, forecast: &'a Forecast) -> Option<&'a BudgetEnd> {
    let key = budget.spec.key();
    forecast.budgets.iter().find(|end| end.key == key)
}

/// The same for programs, with what is foreseen of it.
pub(super) fn json(budget: &BudgetUse, forecast: Option<&Forecast>) -> Value {
    let (unit, amount): (&str, fn(i64) -> Value) = match budget.spec.cap {
        Cap::Usd(_) => ("usd", |amount| json!(in_usd(amount))),
        Cap::Tokens(_) => ("tokens", |amount| json!(amount)),
    };
    let end = forecast.and_then(|forecast| end(budget, forecast));
    let bound = |at: Timestamp| (at.0 != i64::MIN && at.0 != i64::MAX).then_some(at);
    json!({
        "unit": unit,
        "per": budget.spec.per.as_str(),
        "queue": budget.spec.queue,
        "cap": amount(budget.cap()),
        "spent": amount(budget.spent),
        "reserved": amount(budget.reserved),
        "period_start": bound(budget.start),
        "period_end": bound(budget.end),
        "fits": end.map(|end| end.stops_at.is_none()),
        "exceeded_by": end.map(|end| amount(end.exceeded_by)),
        "stops_at": end.and_then(|end| end.stops_at),
    })
}
