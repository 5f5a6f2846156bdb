//! `claudeq limits`: the limits, how full they are, and who says so.

use super::context::Context;
use super::exit::Exit;
use super::output;
use super::render::{Column, Line, Table, Tone, format, wrap};
use crate::clock::calendar;
use crate::config::Config;
use crate::domain::limit::{Algorithm, Dimension, LimitSpec, Per};
use crate::domain::time::{Millis, Timestamp};
use crate::store::{EstimateRow, GateRow, LimitSnapshot};
use clap::Args;
use serde::Serialize;

/// The limits, how full they are, who says so, and what was learned
///
/// What the daemon knows comes first; for a pool it has not used yet the configuration speaks. Below
/// stand the sizes and speeds that were learned from answers; before that, calls are taken for as
/// large as their max_tokens, and for a token every two bytes.
#[derive(Args, Debug)]
pub(crate) struct LimitsArgs {}

/// A limit as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Row {
    pool: String,
    dimension: String,
    per: String,
    amount: i64,
    /// As of `as_of`, as the daemon wrote it.
    available: Option<i64>,
    /// With what has flowed back since.
    available_now: Option<i64>,
    capacity: Option<i64>,
    algorithm: String,
    burst_ms: Option<i64>,
    burst_learned: bool,
    source: String,
    /// What other users of the key take in one period.
    others: i64,
    closed_by: Option<String>,
    closed_until: Option<Timestamp>,
    as_of: Option<Timestamp>,
}

pub(crate) async fn run(_args: &LimitsArgs, context: &Context) -> anyhow::Result<Exit> {
    let config = context.config()?;
    let store = context.store().await?;
    let now = context.now();
    let (snapshots, gates) = (store.limits().await?, store.gates().await?);
    let rows = rows(&snapshots, &gates, &config, now);
    let mut estimates: Vec<Estimate> =
        store.estimates().await?.into_iter().map(Estimate::from).collect();
    estimates.sort_by(|one, other| (&one.model, &one.queue).cmp(&(&other.model, &other.queue)));
    if context.wants_json() {
        output::json_lines(&context.screen, &rows)?;
        output::json_lines(&context.screen, &estimates)?;
        return Ok(Exit::Ok);
    }
    let mut lines = Vec::new();
    if !rows.is_empty() {
        lines.extend(table(&rows, now).lines(&context.screen));
    }
    let unknown: Vec<&str> = config
        .pools
        .iter()
        .map(|pool| &*pool.name.0)
        .filter(|pool| !rows.iter().any(|row| row.pool == *pool))
        .collect();
    if !unknown.is_empty() {
        let text = format!("learned from the first answer: {}", unknown.join(", "));
        let rows = wrap(&text, context.screen.width);
        lines.extend(
            rows.into_iter()
                .map(|row| Line::default().and(Tone::Faint, row).render(&context.screen)),
        );
    }
    if !estimates.is_empty() {
        lines.push(String::new());
        lines.extend(estimates_table(&estimates, now).lines(&context.screen));
    }
    output::lines(&lines)?;
    Ok(Exit::Ok)
}

fn rows(
    snapshots: &[LimitSnapshot],
    gates: &[GateRow],
    config: &Config,
    now: Timestamp,
) -> Vec<Row> {
    let known = |pool: &str| snapshots.iter().any(|snapshot| snapshot.pool == pool);
    let configured = config.pools.iter().filter(|pool| !known(&pool.name.0));
    let mut rows: Vec<Row> = snapshots.iter().map(|snapshot| of_snapshot(snapshot, now)).collect();
    rows.extend(
        configured
            .flat_map(|pool| pool.limits.iter().map(|limit| of_configuration(&pool.name.0, limit))),
    );
    for row in &mut rows {
        let gate = gates.iter().find(|gate| gate.name == row.pool || gate.name == "*");
        row.closed_by = gate.map(|gate| gate.reason.clone());
        row.closed_until = gate.and_then(|gate| gate.until);
    }
    let place =
        |row: &Row| (row.pool.clone(), Per::parse(&row.per), Dimension::parse(&row.dimension));
    rows.sort_by_key(place);
    rows
}

fn of_snapshot(snapshot: &LimitSnapshot, now: Timestamp) -> Row {
    Row {
        pool: snapshot.pool.clone(),
        dimension: snapshot.dimension.clone(),
        per: snapshot.per.clone(),
        amount: snapshot.amount,
        available: Some(snapshot.available),
        available_now: Some(available_now(snapshot, now)),
        capacity: Some(snapshot.capacity),
        algorithm: snapshot.algorithm.clone(),
        burst_ms: snapshot.burst_ms,
        burst_learned: snapshot.burst_learned,
        source: snapshot.source.clone(),
        others: snapshot.others,
        closed_by: None,
        closed_until: None,
        as_of: Some(snapshot.as_of),
    }
}

/// What the bucket holds by now; a window is known only to be empty when its period is over.
fn available_now(snapshot: &LimitSnapshot, now: Timestamp) -> i64 {
    let elapsed = now.since(snapshot.as_of);
    let period = Per::parse(&snapshot.per).map_or(Millis::MINUTE, Per::span);
    let free = snapshot.capacity - snapshot.held;
    if snapshot.algorithm == "bucket" {
        let refill = i128::from(snapshot.amount) * i128::from(elapsed.0) / i128::from(period.0);
        let refill = i64::try_from(refill).unwrap_or(i64::MAX);
        return snapshot.available.saturating_add(refill).min(free).max(snapshot.available);
    }
    if elapsed > period { free } else { snapshot.available }
}

fn of_configuration(pool: &str, limit: &LimitSpec) -> Row {
    let (algorithm, burst) = match limit.algorithm {
        Algorithm::Bucket { burst } => ("bucket", burst),
        Algorithm::Window => ("window", None),
    };
    Row {
        pool: pool.to_owned(),
        dimension: limit.dimension.as_str().to_owned(),
        per: limit.per.as_str().to_owned(),
        amount: limit.amount,
        available: None,
        available_now: None,
        capacity: None,
        algorithm: algorithm.to_owned(),
        burst_ms: burst.map(|burst| burst.0),
        burst_learned: false,
        source: limit.source.as_str().to_owned(),
        others: 0,
        closed_by: None,
        closed_until: None,
        as_of: None,
    }
}

fn table(rows: &[Row], now: Timestamp) -> Table {
    let mut table = Table::new(&[
        Column::left("POOL"),
        Column::left("LIMIT").whole(),
        Column::left("PER").whole(),
        Column::right("AMOUNT"),
        Column::right("AVAILABLE").optional().dispensable(),
        Column::left("COUNTED AS").spare(),
        Column::left("SOURCE").spare(),
        Column::right("OTHERS").optional().spare(),
        Column::left("CLOSED").optional(),
        Column::left("AS OF").optional().spare(),
    ]);
    for row in rows {
        let plain = |text: String| (Tone::Plain, text);
        let label = Dimension::parse(&row.dimension)
            .map_or(row.dimension.as_str(), |dimension| dimension.label());
        let available = row.available_now.map(format::count).unwrap_or_default();
        let in_debt = row.available_now.is_some_and(|available| available < 0);
        table.row(vec![
            plain(row.pool.clone()),
            plain(label.to_owned()),
            plain(row.per.clone()),
            plain(format::count(row.amount)),
            (if in_debt { Tone::Warn } else { Tone::Plain }, available),
            plain(counted_as(row)),
            plain(row.source.clone()),
            plain(if row.others > 0 { format::count(row.others) } else { String::new() }),
            (Tone::Warn, closed(row, now)),
            (Tone::Faint, row.as_of.map(|at| age(at, now)).unwrap_or_default()),
        ]);
    }
    table
}

/// `bucket of 60 s`, `bucket of 5 s, learned`, `window`.
fn counted_as(row: &Row) -> String {
    match row.burst_ms {
        Some(burst) if row.burst_learned => format!("bucket of {}, learned", burst_of(burst)),
        Some(burst) => format!("bucket of {}", burst_of(burst)),
        None if row.algorithm == "ramp" => "a slope".to_owned(),
        None => row.algorithm.clone(),
    }
}

/// `60 s`, `1.5 s`, `3 ms`.
fn burst_of(millis: i64) -> String {
    match millis {
        ..100 => format!("{millis} ms"),
        _ if millis % 1_000 == 0 => format!("{} s", format::count(millis / 1_000)),
        _ => format::took(millis),
    }
}

/// What was learned of a queue and model, as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Estimate {
    /// Empty: the model over all queues.
    queue: String,
    model: String,
    /// Answers whose length it stands on.
    answers: i64,
    /// Mean output as a part of `max_tokens`.
    output_part: Option<f64>,
    bytes_per_token: Option<f64>,
    tokens_per_second: Option<f64>,
    first_token_ms: Option<i64>,
    as_of: Timestamp,
}

impl From<EstimateRow> for Estimate {
    fn from(row: EstimateRow) -> Estimate {
        Estimate {
            queue: row.queue,
            model: row.model,
            answers: row.answers,
            output_part: row.output_part,
            bytes_per_token: row.bytes_per_token,
            tokens_per_second: row.tokens_per_second,
            first_token_ms: row.first_token_ms,
            as_of: row.as_of,
        }
    }
}

fn estimates_table(estimates: &[Estimate], now: Timestamp) -> Table {
    let mut table = Table::new(&[
        Column::left("LEARNED OF"),
        Column::left("QUEUE"),
        Column::right("ANSWERS"),
        Column::right("OUTPUT").spare(),
        Column::right("BYTES/TOKEN").optional().dispensable(),
        Column::right("TOKENS/S").optional().dispensable(),
        Column::right("FIRST").optional().dispensable(),
        Column::left("AS OF").optional().spare(),
    ]);
    let plain = |text: String| (Tone::Plain, text);
    let number = |number: Option<f64>| number.map(|one| format!("{one:.1}")).unwrap_or_default();
    for one in estimates {
        let queue = if one.queue.is_empty() { "(all)" } else { &one.queue };
        let output = one.output_part.map(|part| format!("{:.0} % of max", part * 100.0));
        let first = one.first_token_ms.map(|ms| format!("{ms} ms"));
        table.row(vec![
            plain(one.model.clone()),
            plain(queue.to_owned()),
            plain(format::count(one.answers)),
            plain(output.unwrap_or_else(|| "max_tokens".to_owned())),
            plain(number(one.bytes_per_token)),
            plain(number(one.tokens_per_second)),
            plain(first.unwrap_or_default()),
            (Tone::Faint, age(one.as_of, now)),
        ]);
    }
    table
}

fn closed(row: &Row, now: Timestamp) -> String {
    match (&row.closed_by, row.closed_until) {
        (Some(reason), Some(until)) => {
            format!("{reason} until {}", calendar::local_clock(until, now))
        }
        (Some(reason), None) => reason.clone(),
        (None, _) => String::new(),
    }
}

fn age(at: Timestamp, now: Timestamp) -> String {
    format!("{} ago", format::span(now.since(at).0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(algorithm: &str) -> LimitSnapshot {
        LimitSnapshot {
            pool: "p".into(),
            dimension: "tokens".into(),
            per: "minute".into(),
            amount: 60_000,
            source: "headers".into(),
            algorithm: algorithm.into(),
            burst_ms: None,
            burst_learned: false,
            capacity: 60_000,
            level_shares: None,
            available: -1_000,
            held: 500,
            others: 0,
            as_of: Timestamp(0),
        }
    }

    #[test]
    fn buckets_refill_and_windows_wait() {
        let bucket = snapshot("bucket");
        assert_eq!(available_now(&bucket, Timestamp(0)), -1_000);
        assert_eq!(available_now(&bucket, Timestamp(2_000)), 1_000);
        assert_eq!(available_now(&bucket, Timestamp(i64::MAX)), 59_500);
        let window = snapshot("window");
        assert_eq!(available_now(&window, Timestamp(2_000)), -1_000);
        assert_eq!(available_now(&window, Timestamp(61_000)), 59_500);
    }
}
