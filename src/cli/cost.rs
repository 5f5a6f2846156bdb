//! `claudeq cost`: what was spent, by model, and the budgets.

use super::budgets;
use super::context::Context;
use super::exit::Exit;
use super::output;
use super::render::{Column, Line, Screen, Table, Tone, format, wrap};
use super::when::{When, parse_past};
use crate::clock::calendar;
use crate::config::Config;
use crate::daemon::forecast::{Basis, WhatIf};
use crate::daemon::report::Report;
use crate::domain::forecast::Forecast;
use crate::domain::price::in_usd;
use crate::domain::time::Timestamp;
use crate::store::{SpentRow, Store};
use clap::Args;
use serde_json::{Value, json};

/// What was spent, by model, and the budgets; calls in flight or of unknown fate at their worst
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    claudeq cost --since 24h\n  \
    claudeq cost --batch nightly --json | jq .total.usd")]
pub(crate) struct CostArgs {
    /// Calls since then: a duration back, such as 24h, or a time, such as 2026-09-01T00:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = parse_past)]
    since: Option<When>,
    /// Calls of this batch
    #[arg(long, value_name = "NAME")]
    batch: Option<String>,
    /// Calls of this queue
    #[arg(long, value_name = "NAME")]
    queue: Option<String>,
}

pub(crate) async fn run(args: &CostArgs, context: &Context) -> anyhow::Result<Exit> {
    let now = context.now();
    let since = args.since.map(|when| when.at(now));
    let from = since.unwrap_or(Timestamp(i64::MIN));
    let (batch, queue) = (args.batch.as_deref(), args.queue.as_deref());
    let config = context.config()?;
    let store = context.store().await?;
    let models = store.spent_by_model(from, batch, queue).await?;
    let total = SpentRow { model: "total".to_owned(), ..SpentRow::sum(&models) };
    let budgets = budgets::read(&store, &config, now).await?;
    let forecast = rest(&store, &config, batch, queue, now).await?;
    let end = forecast.rest_nanousd.map(|rest| total.nanousd.saturating_add(rest));
    if context.wants_json() {
        // What a part of the jobs will cost says nothing of a budget over all of them.
        let whole = Some(&forecast).filter(|_| batch.is_none() && queue.is_none());
        let foreseen = |budget| budgets::json(budget, whole);
        let value = json!({
            "since": since,
            "batch": batch,
            "queue": queue,
            "total": sums_json(&total),
            "models": models.iter().map(row_json).collect::<Vec<Value>>(),
            "rest": {
                "jobs": forecast.jobs,
                "usd": forecast.rest_nanousd.map(in_usd),
                "as_of": forecast.as_of,
            },
            "usd_at_the_end": end.map(in_usd),
            "budgets": budgets.iter().map(foreseen).collect::<Vec<Value>>(),
        });
        output::json_lines(&context.screen, &[value])?;
        return Ok(Exit::Ok);
    }
    let mut lines = match models.is_empty() {
        true => vec!["no calls were made".to_owned()],
        false => table(&models, &total).lines(&context.screen),
    };
    if forecast.jobs > 0 {
        lines.push(String::new());
        lines.extend(to_do(&forecast, end, &context.screen));
    }
    if let Some(since) = since {
        lines.insert(0, format!("since {}", calendar::local_clock(since, now)));
    }
    if !budgets.is_empty() {
        lines.push(String::new());
    }
    for budget in &budgets {
        let mut line = Line::default().and(Tone::Faint, "budget  ");
        line.append(budgets::line(budget));
        if budget.reserved > 0 {
            line.push(Tone::Faint, ", the calls in flight not counted");
        }
        if batch.is_none() && queue.is_none() && forecast.jobs > 0 {
            match budgets::wall(budget, &forecast, now) {
                Some((_, text)) => line.push(Tone::Warn, format!(", {text}")),
                None => line.push(Tone::Good, ", fits"),
            }
        }
        lines.push(line.render(&context.screen));
    }
    output::lines(&lines)?;
    Ok(Exit::Ok)
}

/// Up to so many jobs the queue is looked at anew: what the daemon said some seconds ago no longer
/// fits the sum of what was spent by now.
const LOOKED_AT_ANEW: i64 = 50_000;

/// What the jobs that are left will cost: of a long queue as the daemon foresees it, else looked
/// at now.
async fn rest(
    store: &Store,
    config: &Config,
    batch: Option<&str>,
    queue: Option<&str>,
    now: Timestamp,
) -> anyhow::Result<Forecast> {
    if batch.is_none()
        && queue.is_none()
        && store.holder().held
        && let Some(row) = store.daemon().await?.filter(|row| row.stopped_at.is_none())
        && let Some(report) = row.report.as_deref()
        && let Ok(Report { forecast: Some(forecast), .. }) = serde_json::from_str(report)
        && forecast.jobs > LOOKED_AT_ANEW
    {
        return Ok(forecast);
    }
    let basis = Basis::read(store, config, batch, queue, now).await?;
    Ok(basis.forecast(&WhatIf::default()))
}

/// `to do   41,784 jobs, ≈ $64.10: ≈ $248 at the end`
fn to_do(forecast: &Forecast, end: Option<i64>, screen: &Screen) -> Vec<String> {
    const LABEL: &str = "to do   ";
    let jobs = format::jobs(forecast.jobs);
    let (tone, text) = match (forecast.rest_nanousd, end) {
        (Some(rest), Some(end)) => {
            let (rest, end) = (format::usd_about(rest), format::usd_about(end));
            (Tone::Plain, format!("{jobs}, ≈ {rest}: ≈ {end} at the end"))
        }
        _ => (Tone::Warn, format!("{jobs}, some of them of models without a known price")),
    };
    let rows = wrap(&text, screen.width.saturating_sub(LABEL.len()));
    let line = |(at, row)| {
        let label = if at == 0 { LABEL } else { "" };
        Line::default().and(Tone::Faint, label).pad_to(LABEL.len()).and(tone, row).render(screen)
    };
    rows.into_iter().enumerate().map(line).collect()
}

fn table(models: &[SpentRow], total: &SpentRow) -> Table {
    let mut table = Table::new(&[
        Column::left("MODEL"),
        Column::right("CALLS"),
        Column::right("INPUT").dispensable(),
        Column::right("OUTPUT").dispensable(),
        Column::right("COST"),
        Column::right("A CALL").spare(),
        Column::right("NO PRICE").optional(),
    ]);
    let totals = (models.len() > 1).then_some(total);
    for (row, tone) in
        models.iter().map(|row| (row, Tone::Plain)).chain(totals.map(|total| (total, Tone::Strong)))
    {
        let unpriced = if row.unpriced > 0 { format::count(row.unpriced) } else { String::new() };
        table.row(vec![
            (tone, row.model.clone()),
            (tone, format::count(row.calls)),
            (tone, format::short(row.input_tokens)),
            (tone, format::short(row.output_tokens)),
            (tone, format::usd(row.nanousd)),
            (Tone::Faint, format::usd(row.nanousd / row.calls.max(1))),
            (Tone::Warn, unpriced),
        ]);
    }
    table
}

fn row_json(row: &SpentRow) -> Value {
    let mut value = sums_json(row);
    value["model"] = json!(row.model);
    value
}

fn sums_json(row: &SpentRow) -> Value {
    json!({
        "calls": row.calls,
        "usd": in_usd(row.nanousd),
        "input_tokens": row.input_tokens,
        "output_tokens": row.output_tokens,
        "unpriced_calls": row.unpriced,
    })
}
