//! `claudeq list`: jobs, one a line.

use super::context::Context;
use super::exit::Exit;
use super::output;
use super::render::{Column, Table, Tone, format};
use super::select::SelectArgs;
use crate::domain::job::{JobId, JobState};
use crate::domain::time::Timestamp;
use crate::store::{JobListRow, Selector, Store};
use clap::Args;

/// Jobs read at a time.
const PAGE: i64 = 500;
/// On a terminal, when nobody says how many.
const ON_SCREEN: i64 = 50;

/// Jobs, one a line: a table on a terminal, JSON lines in a pipe
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    claudeq list --state failed\n  \
    claudeq list --batch nightly --error-class refusal\n  \
    claudeq list --state queued,running --json | jq .id")]
pub(crate) struct ListArgs {
    #[command(flatten)]
    select: SelectArgs,
    /// Jobs after this id, from the first on
    #[arg(long, value_name = "ID")]
    after: Option<i64>,
    /// The latest N, or with --after the first N; 0 is no limit [default: 50 on a terminal, else 0]
    #[arg(long, short = 'n', value_name = "N")]
    limit: Option<u32>,
}

pub(crate) async fn run(args: &ListArgs, context: &Context) -> anyhow::Result<Exit> {
    let which = args.select.selector()?;
    let store = context.store().await?;
    let most = match args.limit {
        Some(0) => i64::MAX,
        Some(limit) => i64::from(limit),
        None if context.screen.terminal => ON_SCREEN,
        None => i64::MAX,
    };
    if context.wants_json() {
        return print_json(&store, args, &which, most, context).await;
    }
    print_table(&store, args, &which, most, context).await
}

async fn print_json(
    store: &Store,
    args: &ListArgs,
    which: &Selector,
    most: i64,
    context: &Context,
) -> anyhow::Result<Exit> {
    if args.after.is_none() && most < i64::MAX {
        output::json_lines(&context.screen, &store.latest(which, most).await?)?;
        return Ok(Exit::Ok);
    }
    let (mut after, mut left) = (args.after.unwrap_or(0), most);
    while left > 0 {
        let rows = store.list(which, JobId(after), PAGE.min(left)).await?;
        output::json_lines(&context.screen, &rows)?;
        let Some(last) = rows.last() else {
            break;
        };
        after = last.id;
        left -= i64::try_from(rows.len()).unwrap_or(left);
    }
    Ok(Exit::Ok)
}

async fn print_table(
    store: &Store,
    args: &ListArgs,
    which: &Selector,
    most: i64,
    context: &Context,
) -> anyhow::Result<Exit> {
    let rows = match args.after {
        None if most < i64::MAX => store.latest(which, most).await?,
        after => pages(store, which, after.unwrap_or(0), most).await?,
    };
    let Some(last) = rows.last() else {
        output::note("no jobs");
        return Ok(Exit::Ok);
    };
    output::lines(&table(&rows, context.now()).lines(&context.screen))?;
    let shown = i64::try_from(rows.len()).unwrap_or(i64::MAX);
    if shown == most {
        let all = store.counts_among(which).await?.total();
        let next = match args.after {
            None => "the latest; --after 0 shows the first".to_owned(),
            Some(_) => format!("--after {} shows the next", last.id),
        };
        if all > shown {
            let of = format!("{} of {}", format::count(shown), format::jobs(all));
            output::note(&format!("{of}, {next}, --limit 0 all"));
        }
    }
    Ok(Exit::Ok)
}

async fn pages(
    store: &Store,
    which: &Selector,
    mut after: i64,
    mut left: i64,
) -> anyhow::Result<Vec<JobListRow>> {
    let mut rows = Vec::new();
    while left > 0 {
        let page = store.list(which, JobId(after), PAGE.min(left)).await?;
        let Some(last) = page.last() else {
            break;
        };
        after = last.id;
        left -= i64::try_from(page.len()).unwrap_or(left);
        rows.extend(page);
    }
    Ok(rows)
}

fn table(rows: &[JobListRow], now: Timestamp) -> Table {
    let mut table = Table::new(&[
        Column::right("ID"),
        Column::left("STATE").whole(),
        Column::left("QUEUE"),
        Column::left("BATCH").optional().dispensable(),
        Column::left("KEY").optional().dispensable(),
        Column::right("PRIO").optional().dispensable(),
        Column::right("TRIES").dispensable(),
        Column::left("WHEN").whole(),
        Column::left("ERROR").optional(),
    ]);
    for row in rows {
        let plain = |text: String| (Tone::Plain, text);
        let priority = if row.priority == 0 { String::new() } else { row.priority.to_string() };
        table.row(vec![
            plain(row.id.to_string()),
            (state_tone(&row.state), row.state.clone()),
            plain(row.queue.clone()),
            plain(row.batch.clone().unwrap_or_default()),
            plain(row.key.clone().unwrap_or_default()),
            plain(priority),
            plain(row.attempts.to_string()),
            (Tone::Faint, when(row, now)),
            plain(error_of(row.error_class.as_deref(), row.error.as_deref())),
        ]);
    }
    table
}

/// The moment that matters: the end, the next attempt, or the insertion.
fn when(row: &JobListRow, now: Timestamp) -> String {
    if let Some(at) = row.finished_at {
        return format!("{} ago", format::span(now.0 - at));
    }
    if let Some(at) = row.next_attempt_at {
        return if at > now.0 {
            format!("in {}", format::span(at - now.0))
        } else {
            "due".to_owned()
        };
    }
    if row.cancel_requested > 0 {
        return "cancelling".to_owned();
    }
    format!("{} old", format::span(now.0 - row.created_at))
}

/// `refusal: the model declined`.
pub(crate) fn error_of(class: Option<&str>, error: Option<&str>) -> String {
    match (class, error) {
        (Some(class), Some(error)) => format!("{class}: {error}"),
        (Some(one), None) | (None, Some(one)) => one.to_owned(),
        (None, None) => String::new(),
    }
}

/// A state's tone, wherever it is shown.
pub(crate) fn state_tone(state: &str) -> Tone {
    match JobState::parse(state) {
        Some(JobState::Succeeded) => Tone::Good,
        Some(JobState::Running) => Tone::Active,
        Some(JobState::Failed) => Tone::Bad,
        Some(JobState::Held) => Tone::Warn,
        Some(JobState::Cancelled) => Tone::Faint,
        Some(JobState::Queued) | None => Tone::Plain,
    }
}
