//! `claudeq results`: finished jobs with their answers, in the order in which they finished.

use super::context::Context;
use super::exit::{Exit, failure};
use super::output;
use super::render::escape;
use super::select::SelectArgs;
use crate::store::ResultRow;
use clap::Args;

/// Rows read at a time, at the most …
const PAGE: i64 = 500;
/// … and at first, while nobody knows how long the answers are.
const FIRST_PAGE: i64 = 20;
/// Bytes of answers to hold at a time.
const PAGE_BYTES: i64 = 8 << 20;

/// Finished jobs with their answers, as JSON lines in the order in which they finished
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    claudeq results --batch nightly > answers.jsonl\n  \
    claudeq results --after 118240            # what came since\n  \
    claudeq results --key invoice-17 --text   # the answer alone\n\n\
    The field seq grows in the order of the ends: give the last one to --after to go on.")]
pub(crate) struct ResultsArgs {
    #[command(flatten)]
    select: SelectArgs,
    /// Results after this seq
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    after: i64,
    /// Results at the most; 0 is no limit
    #[arg(long, short = 'n', value_name = "N", default_value_t = 0)]
    limit: u32,
    /// The texts of the answers instead of JSON
    #[arg(long, conflicts_with = "json")]
    text: bool,
}

pub(crate) async fn run(args: &ResultsArgs, context: &Context) -> anyhow::Result<Exit> {
    let which = args.select.selector()?;
    let store = context.store().await?;
    let mut left = if args.limit == 0 { i64::MAX } else { i64::from(args.limit) };
    let mut after = args.after;
    let mut page = FIRST_PAGE;
    let mut any = false;
    while left > 0 {
        let most = page.min(left);
        let rows = store.results(after, &which, most).await?;
        let Some(last) = rows.last() else {
            break;
        };
        after = last.seq;
        any = true;
        let count = i64::try_from(rows.len()).unwrap_or(most);
        left -= count;
        page = (PAGE_BYTES / (bytes_of(&rows) / count + 1)).clamp(1, PAGE);
        if args.text {
            output::raw(&texts(&rows, context))?;
        } else {
            output::json_lines(&context.screen, &rows)?;
        }
        if count < most {
            break;
        }
    }
    if args.text && !any && !which.ids.is_empty() {
        // Somebody may be about to write it into a file.
        return Err(failure(Exit::Unfinished, "none of these jobs has finished after that seq"));
    }
    Ok(Exit::Ok)
}

fn bytes_of(rows: &[ResultRow]) -> i64 {
    let bytes = rows.iter().map(|row| {
        row.text.as_ref().map_or(0, String::len)
            + row.response.as_ref().map_or(0, |response| response.get().len())
    });
    i64::try_from(bytes.sum::<usize>()).unwrap_or(i64::MAX)
}

/// The answers' texts, each ended by a line feed.
fn texts(rows: &[ResultRow], context: &Context) -> String {
    let mut out = String::new();
    for text in rows.iter().filter_map(|row| row.text.as_deref()) {
        if context.screen.terminal {
            out.push_str(&escape::text(text));
        } else {
            out.push_str(text);
        }
        out.push('\n');
    }
    out
}
