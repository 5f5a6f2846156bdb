//! `claudeq results`: finished jobs with their answers, and `--follow`: those that are to come.
//!
//! Invariant: however many they are and however slowly they are read, one page is in memory.

mod as_batch;
mod as_csv;
mod as_line;
mod printer;

pub(super) use printer::{Printer, ShapeArgs};

use super::context::Context;
use super::exit::{Exit, failure};
use super::output;
use super::select::SelectArgs;
use crate::domain::job::JobId;
use crate::store::{Selector, Store};
use clap::{Args, ValueEnum};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// Rows read at a time, at the most.
const PAGE: i64 = 500;
/// Between two looks for news; each reads one number.
const PAUSE: Duration = Duration::from_millis(50);

/// Finished jobs with their answers, in the order in which they finished
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    claudeq results --batch nightly > answers.jsonl\n  \
    claudeq results --batch nightly --order id --format csv > answers.csv\n  \
    claudeq results --batch nightly --format batch   # as the Message Batches API gives them\n  \
    claudeq results --key invoice-17 --text          # the answer alone\n  \
    claudeq results --follow --after 118240          # what came since, and all that comes\n\n\
    On a terminal a line each to look at, in a pipe JSON lines with the columns of the view\n\
    results. seq grows in the order of the ends: give the last one to --after to go on.\n\
    --follow goes on until Ctrl-C; `claudeq follow` ends when the jobs do.")]
pub(crate) struct ResultsArgs {
    #[command(flatten)]
    select: SelectArgs,
    /// Results after this seq; after `last`: none of those that are there
    #[arg(long, value_name = "SEQ", default_value = "0", hide_default_value = true)]
    after: After,
    /// Results at the most; 0 is no limit
    #[arg(long, short = 'n', value_name = "N", default_value_t = 0, hide_default_value = true)]
    limit: u32,
    /// In which order
    #[arg(long, value_enum, default_value_t, conflicts_with = "follow")]
    order: Order,
    /// Do not end: print results as they come
    #[arg(long, short)]
    follow: bool,
    #[command(flatten)]
    shape: ShapeArgs,
}

/// In which order results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Order {
    /// As they finished
    #[default]
    Seq,
    /// As they were inserted
    Id,
}

/// From where on results are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    Seq(i64),
    Last,
}

impl std::str::FromStr for After {
    type Err = &'static str;

    fn from_str(word: &str) -> Result<After, &'static str> {
        match word {
            "last" => Ok(After::Last),
            number => {
                number.parse().map(After::Seq).map_err(|_| "a seq is a whole number, or `last`")
            }
        }
    }
}

impl After {
    pub(super) async fn seq(self, store: &Store) -> anyhow::Result<i64> {
        match self {
            After::Seq(seq) => Ok(seq),
            After::Last => Ok(store.last_seq().await?),
        }
    }
}

pub(crate) async fn run(args: &ResultsArgs, context: &Context) -> anyhow::Result<Exit> {
    let which = args.select.selector()?;
    let mut printer = Printer::new(&args.shape, context)?;
    let store = context.store().await?;
    let mut tail = Tail {
        store: &store,
        which: &which,
        after: args.after.seq(&store).await?,
        left: if args.limit == 0 { i64::MAX } else { i64::from(args.limit) },
    };
    printer.begin()?;
    if args.follow {
        return follow(&mut tail, &mut printer).await;
    }
    match args.order {
        Order::Seq => tail.drain(&mut printer).await?,
        Order::Id => by_id(&tail, &mut printer).await?,
    }
    printer.end();
    if printer.is_text() && printer.printed == 0 && !which.ids.is_empty() {
        // Somebody may be about to write it into a file.
        return Err(failure(Exit::Unfinished, "none of these jobs has finished after that seq"));
    }
    Ok(Exit::Ok)
}

/// Results in the order of their ends, and up to where they are printed.
pub(super) struct Tail<'a> {
    pub(super) store: &'a Store,
    pub(super) which: &'a Selector,
    /// All up to this seq are printed.
    pub(super) after: i64,
    /// So many may still be.
    pub(super) left: i64,
}

impl Tail<'_> {
    /// Whether some job has finished that was not looked at.
    pub(super) async fn has_news(&self) -> anyhow::Result<bool> {
        Ok(self.store.last_seq().await? > self.after)
    }

    /// Prints all that there are.
    pub(super) async fn drain(&mut self, printer: &mut Printer<'_>) -> anyhow::Result<()> {
        // Read first: no job that ends later gets a smaller one.
        let last = self.store.last_seq().await?;
        while self.left > 0 {
            let rows = self.store.results(self.after, self.which, PAGE.min(self.left)).await?;
            let Some(end) = rows.last() else {
                self.after = self.after.max(last);
                break;
            };
            self.after = end.seq;
            self.left -= i64::try_from(rows.len()).unwrap_or(self.left);
            printer.print(&rows)?;
        }
        Ok(())
    }
}

/// All that there are, in the order of ids.
async fn by_id(tail: &Tail<'_>, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    let (mut after, mut left) = (JobId(0), tail.left);
    while left > 0 {
        let most = PAGE.min(left);
        let rows = tail.store.results_by_id(after, tail.after, tail.which, most).await?;
        let Some(end) = rows.last() else {
            break;
        };
        after = JobId(end.id);
        left -= i64::try_from(rows.len()).unwrap_or(left);
        printer.print(&rows)?;
    }
    Ok(())
}

/// Prints results as they come, until somebody ends it or enough are printed.
async fn follow(tail: &mut Tail<'_>, printer: &mut Printer<'_>) -> anyhow::Result<Exit> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    loop {
        if tail.has_news().await? {
            tail.drain(printer).await?;
        }
        if tail.left == 0 {
            printer.end();
            return Ok(Exit::Ok);
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            _ = interrupt.recv() => {
                printer.end();
                say_where(tail.after);
                return Ok(Exit::Interrupted);
            }
        }
    }
}

/// How to go on after an end before the end.
pub(super) fn say_where(seq: i64) {
    output::note(&format!("claudeq: stopped; --after {seq} goes on from here"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_number_or_the_last_one() {
        assert_eq!("17".parse(), Ok(After::Seq(17)));
        assert_eq!("last".parse(), Ok(After::Last));
        assert!("first".parse::<After>().is_err());
    }
}
