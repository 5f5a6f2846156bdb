//! `claudeq attempts`: the calls made for a job.

use super::context::Context;
use super::exit::{Exit, failure};
use super::list::error_of;
use super::output;
use super::render::{Column, Table, Tone, format};
use super::select::{SelectArgs, no_such};
use crate::clock::calendar;
use crate::domain::job::JobId;
use crate::domain::time::Timestamp;
use crate::store::AttemptRow;
use clap::Args;

/// The calls made for a job: when, how they ended, what they cost
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    claudeq attempts 17\n  \
    claudeq attempts --batch nightly --state failed --json")]
pub(crate) struct AttemptsArgs {
    #[command(flatten)]
    select: SelectArgs,
}

pub(crate) async fn run(args: &AttemptsArgs, context: &Context) -> anyhow::Result<Exit> {
    let which = args.select.explicit("show the attempts of")?;
    let store = context.store().await?;
    let jobs: Vec<JobId> = if args.select.only_ids() {
        which.ids.clone()
    } else {
        store.select(&which).await?.into_iter().map(|(id, _)| id).collect()
    };
    let mut rows = Vec::new();
    let mut missing = Vec::new();
    for id in jobs {
        let attempts = store.attempts(id).await?;
        if attempts.is_empty() && store.states(&[id]).await?.is_empty() {
            missing.push(id);
        } else if context.wants_json() {
            output::json_lines(&context.screen, &attempts)?;
        } else {
            rows.extend(attempts);
        }
    }
    if !context.wants_json() && !rows.is_empty() {
        output::lines(&table(&rows, context.now()).lines(&context.screen))?;
    } else if !context.wants_json() && missing.is_empty() {
        output::note("no calls were made yet");
    }
    if missing.is_empty() {
        return Ok(Exit::Ok);
    }
    Err(failure(Exit::Failed, no_such(&missing)))
}

fn table(rows: &[AttemptRow], now: Timestamp) -> Table {
    let mut table = Table::new(&[
        Column::right("JOB"),
        Column::right("TRY"),
        Column::left("BEGAN").whole(),
        Column::left("OUTCOME").whole(),
        Column::right("STATUS").optional().dispensable(),
        Column::right("TOOK").optional().dispensable(),
        Column::right("IN").optional().dispensable(),
        Column::right("OUT").optional().dispensable(),
        Column::right("COST").optional().dispensable(),
        Column::left("MODEL").spare(),
        Column::left("STOP").optional().spare(),
        Column::left("ERROR").optional(),
        Column::left("REQUEST ID").optional().spare(),
    ]);
    for row in rows {
        let plain = |text: String| (Tone::Plain, text);
        let number = |value: Option<i64>| plain(value.map(format::count).unwrap_or_default());
        let (tone, outcome) = outcome_of(row);
        table.row(vec![
            plain(row.job_id.to_string()),
            plain(row.number.to_string()),
            plain(calendar::local_clock(Timestamp(row.reserved_at), now)),
            (tone, outcome),
            plain(row.http_status.map(|status| status.to_string()).unwrap_or_default()),
            plain(took(row)),
            number(row.input_tokens),
            number(row.output_tokens),
            plain(row.cost_usd.map(usd).unwrap_or_default()),
            plain(row.model.clone()),
            plain(row.stop_reason.clone().unwrap_or_default()),
            plain(error_of(row.error_class.as_deref(), row.error.as_deref())),
            (Tone::Faint, row.request_id.clone().unwrap_or_default()),
        ]);
    }
    table
}

fn outcome_of(row: &AttemptRow) -> (Tone, String) {
    match row.outcome.as_deref() {
        None => (Tone::Active, "running".to_owned()),
        Some("unknown") => (Tone::Warn, "unknown".to_owned()),
        Some(outcome) if row.error_class.is_some() => (Tone::Bad, outcome.to_owned()),
        Some(outcome) => (Tone::Good, outcome.to_owned()),
    }
}

fn took(row: &AttemptRow) -> String {
    match (row.sent_at, row.done_at) {
        (Some(sent), Some(done)) => format::took(done - sent),
        _ => String::new(),
    }
}

fn usd(usd: f64) -> String {
    // Below 2^53 nano-dollars, which an f64 holds.
    #[expect(clippy::cast_possible_truncation, reason = "see above")]
    let nanousd = (usd * 1e9).round() as i64;
    format::usd(nanousd)
}
