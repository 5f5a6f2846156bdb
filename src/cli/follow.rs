//! `claudeq follow`: results as they come, until the selected jobs are finished.

use super::context::Context;
use super::exit::Exit;
use super::results::{After, Printer, ShapeArgs, Tail, say_where};
use super::select::SelectArgs;
use super::wait::{Ended, UntilArgs, Watched, existing, until_still, verdict};
use crate::store::Selector;
use clap::Args;
use std::time::Duration;

/// Between two looks, at least.
const PAUSE: Duration = Duration::from_millis(50);

/// Print results as they come, until the jobs are finished; all jobs when none are selected
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    claudeq follow --batch nightly\n  \
    claudeq follow --batch nightly --fail-fast | jq -r .text\n  \
    claudeq follow 17 18 --text --timeout 10m\n  \
    claudeq follow --batch nightly --state failed      # only these, until all are finished\n  \
    claudeq follow --after 118240 >> answers.jsonl     # goes on where it was stopped\n  \
    claudeq follow --after last                        # nothing of what is there already\n\n\
    Prints what has finished before, then what finishes, in the forms of `claudeq results`; ends\n\
    as `claudeq wait` does: 0 when all succeeded, 1 when some failed or were cancelled, 8 when\n\
    some are held or the time is up, 69 when there is work and no daemon runs.")]
pub(crate) struct FollowArgs {
    #[command(flatten)]
    select: SelectArgs,
    /// Results after this seq; after `last`: none of those that are there
    #[arg(long, value_name = "SEQ", default_value = "0", hide_default_value = true)]
    after: After,
    #[command(flatten)]
    until: UntilArgs,
    #[command(flatten)]
    shape: ShapeArgs,
}

pub(crate) async fn run(args: &FollowArgs, context: &Context) -> anyhow::Result<Exit> {
    let selected = args.select.selector()?;
    let mut printer = Printer::new(&args.shape, context)?;
    let store = context.store().await?;
    // How a job must end to be printed is no way to say which ones are waited for.
    let (states, error_class) = (selected.states.clone(), selected.error_class.clone());
    let stop_reason = selected.stop_reason.clone();
    let ends = Selector { states: Vec::new(), error_class: None, stop_reason: None, ..selected };
    let watched = existing(&store, ends).await?;
    let which = Selector { states, error_class, stop_reason, ..watched.clone() };
    let after = args.after.seq(&store).await?;
    let mut tail = Tail { store: &store, which: &which, after, left: i64::MAX };
    let watched = Watched {
        store: &store,
        which: &watched,
        until: args.until.clone(),
        pause: PAUSE,
        // Results are what shows that it goes on.
        talkative: false,
    };
    printer.begin()?;
    let ended = until_still(&watched, context, async |progress| {
        if tail.has_news().await? {
            progress.end();
            tail.drain(&mut printer).await?;
        }
        Ok(())
    })
    .await?;
    printer.end();
    if ended == Ended::Interrupted {
        say_where(tail.after);
    }
    verdict(ended, &args.select)
}
