//! `claudeq plan`: how long the queue will take, what it will cost, and what would help.

use super::context::Context;
use super::exit::Exit;
use super::output;
use super::render::{Column, Line, Table, Tone, format, wrap};
use super::status::held_back_by;
use crate::clock::calendar;
use crate::daemon::forecast::{Basis, WhatIf};
use crate::domain::forecast::Forecast;
use crate::domain::price::{self, in_usd};
use crate::domain::reason::Reason;
use crate::domain::tier::TIERS;
use crate::domain::time::Timestamp;
use clap::Args;
use clap::builder::PossibleValuesParser;
use serde_json::{Value, json};

/// How long the queue will take, what it will cost, and what would make it faster
///
/// Looks ahead over the queue as it is, with the limits as they are; without a what-if, beside
/// them under each tier, as far as it makes a difference. Nothing is called and nothing is changed. With --batch or --queue, as if
/// there were no other jobs.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    claudeq plan\n  \
    claudeq plan --tier build --max-in-flight 256\n  \
    claudeq plan --batch nightly --model claude-haiku-4-5\n  \
    claudeq plan --json | jq 'select(.tier == null).finishes_at'")]
pub(crate) struct PlanArgs {
    /// What if the account had the limits of this tier
    #[arg(long, value_name = "TIER", value_parser = PossibleValuesParser::new(TIERS))]
    tier: Option<String>,
    /// What if so many calls could be in flight
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    max_in_flight: Option<u32>,
    /// What if every job asked this model
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// Jobs of this batch
    #[arg(long, value_name = "NAME")]
    batch: Option<String>,
    /// Jobs of this queue
    #[arg(long, value_name = "NAME")]
    queue: Option<String>,
}

/// A row: what is different, and what comes of it.
struct Row {
    what_if: WhatIf,
    forecast: Forecast,
}

pub(crate) async fn run(args: &PlanArgs, context: &Context) -> anyhow::Result<Exit> {
    let config = context.config()?;
    let store = context.store().await?;
    let now = context.now();
    let (batch, queue) = (args.batch.as_deref(), args.queue.as_deref());
    let basis = Basis::read(&store, &config, batch, queue, now).await?;
    let rows: Vec<Row> = scenarios(args)
        .into_iter()
        .map(|what_if| Row { forecast: basis.forecast(&what_if), what_if })
        .collect();
    if context.wants_json() {
        let most = config.max_in_flight;
        let values: Vec<Value> = rows.iter().map(|row| row_json(row, most, now)).collect();
        output::json_lines(&context.screen, &values)?;
    } else {
        output::lines(&page(&rows, context, now))?;
    }
    remarks(args, &basis, rows.first().map_or(0, |row| row.forecast.jobs));
    Ok(Exit::Ok)
}

/// As it is, and what is asked; without a question every tier.
fn scenarios(args: &PlanArgs) -> Vec<WhatIf> {
    let asked = WhatIf {
        tier: args.tier.clone(),
        max_in_flight: args.max_in_flight,
        model: args.model.clone(),
    };
    let mut all = vec![WhatIf::default()];
    if asked == WhatIf::default() {
        let tier = |name: &&str| WhatIf { tier: Some((*name).to_owned()), ..WhatIf::default() };
        all.extend(TIERS.iter().map(tier));
    } else {
        all.push(asked);
    }
    all
}

/// What somebody should know of the numbers.
fn remarks(args: &PlanArgs, basis: &Basis, jobs: i64) {
    if let Some(model) = args.model.as_deref().filter(|model| !price::is_known(model)) {
        output::note(&format!("claudeq: {model} has no known price, so its cost is not known"));
    }
    if jobs > 0 {
        unlearned(basis);
    }
}

/// What cannot be known yet.
pub(super) fn unlearned(basis: &Basis) {
    if !basis.has_learned() {
        output::note(
            "claudeq: no answers yet to learn sizes from: output is taken for all of max_tokens, \
             so it will be sooner and cheaper",
        );
    }
    let unknown = basis.unknown_pools();
    if !unknown.is_empty() {
        output::note(&format!(
            "claudeq: limits not known yet, so only calls in flight hold these back as it is: {} \
             (they are learned from the first answer, or stated as a [[pool]] in daemon.toml)",
            unknown.join(", ")
        ));
    }
}

fn page(rows: &[Row], context: &Context, now: Timestamp) -> Vec<String> {
    let Some(first) = rows.first().map(|row| &row.forecast).filter(|first| first.jobs > 0) else {
        return vec!["nothing is left to do".to_owned()];
    };
    let head = format!(
        "{} left: ≈ {} input and {} output tokens",
        format::jobs(first.jobs),
        format::short(first.input_tokens),
        format::short(first.output_tokens)
    );
    let mut lines: Vec<String> = wrap(&head, context.screen.width)
        .into_iter()
        .map(|row| Line::plain(row).render(&context.screen))
        .collect();
    lines.push(String::new());
    let mut shown = Vec::new();
    let mut same = Vec::new();
    for row in rows {
        match row.what_if.tier.as_deref() {
            Some(tier) if rows.len() > 2 && looks_like(row, &rows[0], now) => same.push(tier),
            _ => shown.push(row),
        }
    }
    lines.extend(table(&shown, now).lines(&context.screen));
    if !same.is_empty() {
        lines.push(String::new());
        // Rows with the same figures would be a riddle.
        let text = match shown.len() {
            1 => "The same under every tier: their limits are not what holds it back.".to_owned(),
            _ => format!("The same as it is under {}.", same.join(", ")),
        };
        let rows = wrap(&text, context.screen.width);
        lines.extend(rows.into_iter().map(|row| Line::plain(row).render(&context.screen)));
    }
    lines
}

/// Whether two rows would show the same.
fn looks_like(row: &Row, other: &Row, now: Timestamp) -> bool {
    let figures = |row: &Row| {
        let forecast = &row.forecast;
        (ends(forecast, now), cost(forecast), stuck(forecast), budget(forecast, now))
    };
    figures(row) == figures(other)
}

/// `24 m` and `09:33`.
pub(super) fn ends(forecast: &Forecast, now: Timestamp) -> (String, String) {
    match forecast.finishes_at {
        Some(at) => (format::span(at.since(now).0), calendar::local_clock(at, now)),
        None => ("never".to_owned(), "–".to_owned()),
    }
}

pub(super) fn cost(forecast: &Forecast) -> String {
    forecast.rest_nanousd.map_or_else(|| "no price".to_owned(), format::usd_about)
}

fn table(rows: &[&Row], now: Timestamp) -> Table {
    let mut table = Table::new(&[
        Column::left("LIMITS").least(17),
        Column::right("TAKES"),
        Column::right("ENDS").dispensable(),
        Column::right("COST").dispensable(),
        Column::left("HELD BACK BY").spare(),
        Column::left("STUCK").optional(),
        Column::left("BUDGET").optional(),
    ]);
    for Row { what_if, forecast } in rows {
        let tone = if *what_if == WhatIf::default() { Tone::Strong } else { Tone::Plain };
        let (takes, ends) = ends(forecast, now);
        table.row(vec![
            (tone, name(what_if)),
            (tone, takes),
            (tone, ends),
            (tone, cost(forecast)),
            (tone, forecast.bottleneck.map(held_back_by).unwrap_or_default().to_owned()),
            (Tone::Warn, stuck(forecast)),
            (Tone::Warn, budget(forecast, now)),
        ]);
    }
    table
}

/// `tier build, 256 in flight`
fn name(what_if: &WhatIf) -> String {
    let parts: Vec<String> = [
        what_if.tier.as_ref().map(|tier| format!("tier {tier}")),
        what_if.max_in_flight.map(|most| format!("{most} in flight")),
        what_if.model.clone(),
    ]
    .into_iter()
    .flatten()
    .collect();
    if parts.is_empty() { "as it is".to_owned() } else { parts.join(", ") }
}

/// `1,200: a paused queue`
pub(super) fn stuck(forecast: &Forecast) -> String {
    let all: i64 = forecast.stuck.values().sum();
    match forecast.stuck.iter().max_by_key(|(_, jobs)| **jobs) {
        Some((reason, _)) => format!("{}: {}", format::count(all), held_back_by(*reason)),
        None => String::new(),
    }
}

fn budget(forecast: &Forecast, now: Timestamp) -> String {
    let stops = forecast.budgets.iter().filter_map(|budget| budget.stops_at).min();
    stops.map(|at| format!("stops at {}", calendar::local_clock(at, now))).unwrap_or_default()
}

fn row_json(row: &Row, max_in_flight: u32, now: Timestamp) -> Value {
    let Row { what_if, forecast } = row;
    json!({
        "tier": what_if.tier,
        "max_in_flight": what_if.max_in_flight.unwrap_or(max_in_flight),
        "model": what_if.model,
        "as_of": forecast.as_of,
        "jobs": forecast.jobs,
        "input_tokens": forecast.input_tokens,
        "output_tokens": forecast.output_tokens,
        "finishes_at": forecast.finishes_at,
        "takes_ms": forecast.finishes_at.map(|at| at.since(now)),
        "usd": forecast.rest_nanousd.map(in_usd),
        "bottleneck": forecast.bottleneck,
        "stuck": forecast.stuck.iter().map(stuck_json).collect::<Vec<Value>>(),
        "budgets": forecast.budgets.iter().map(|budget| {
            json!({
                "budget": budget.key,
                "fits": budget.stops_at.is_none(),
                "stops_at": budget.stops_at,
            })
        }).collect::<Vec<Value>>(),
    })
}

fn stuck_json((reason, jobs): (&Reason, &i64)) -> Value {
    json!({ "reason": reason, "jobs": jobs })
}
