//! `claudeq wait`: until the selected jobs are finished.
//!
//! Invariant: the pause between two looks is at least ten times as long as a look takes.

mod progress;

pub(crate) use progress::Progress;

use super::context::Context;
use super::exit::{Exit, failure};
use super::output;
use super::render::format;
use super::select::{SelectArgs, no_such};
use crate::domain::job::JobId;
use crate::store::{Counts, Selector, Store};
use clap::Args;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// Between two looks, at least.
pub(crate) const PAUSE: Duration = Duration::from_millis(250);
/// A daemon that is started again by its supervisor is back within this.
const RESTART: Duration = Duration::from_secs(5);

/// Wait until jobs are finished; all jobs when none are selected
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    claudeq wait 17 18\n  \
    claudeq wait --key invoice-17\n  \
    claudeq wait --batch nightly --fail-fast || claudeq cancel --batch nightly\n  \
    claudeq wait --batch nightly --timeout 2h && claudeq results --batch nightly > out.jsonl\n\n\
    Ends with 0 when all succeeded, 1 when some failed or were cancelled, 8 when some are held\n\
    or the time is up, 69 when there is work and no daemon runs. `claudeq follow` prints the\n\
    results as well.")]
pub(crate) struct WaitArgs {
    #[command(flatten)]
    select: SelectArgs,
    #[command(flatten)]
    until: UntilArgs,
}

/// When to stop waiting.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct UntilArgs {
    /// Give up after this time, such as 30m
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
    /// End with 1 as soon as one of them has failed or was cancelled
    #[arg(long)]
    fail_fast: bool,
}

/// What is waited for.
pub(crate) struct Watched<'a> {
    pub(crate) store: &'a Store,
    pub(crate) which: &'a Selector,
    pub(crate) until: UntilArgs,
    /// Between two looks, at least.
    pub(crate) pause: Duration,
    /// Whether a pipe gets a line now and then.
    pub(crate) talkative: bool,
}

/// How the waiting ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Nothing is queued or running any more; some may be held.
    Still(Counts),
    /// No daemon runs, so nothing will happen.
    NoDaemon(Counts),
    /// The time is up.
    TimeUp(Counts),
    /// One has failed, and that was to be the end.
    FailedFast(Counts),
    /// Ctrl-C.
    Interrupted,
}

pub(crate) async fn run(args: &WaitArgs, context: &Context) -> anyhow::Result<Exit> {
    let which = args.select.selector()?;
    let store = context.store().await?;
    let which = existing(&store, which).await?;
    let watched = Watched {
        store: &store,
        which: &which,
        until: args.until.clone(),
        pause: PAUSE,
        talkative: true,
    };
    let ended = until_still(&watched, context, async |_| Ok(())).await?;
    if let Some(counts) = ended.counts().filter(|_| context.global.json) {
        output::json_lines(&context.screen, &[counts])?;
    }
    verdict(ended, &args.select)
}

/// What is selected. Who waits for what does not exist has mistyped it.
pub(crate) async fn existing(store: &Store, which: Selector) -> anyhow::Result<Selector> {
    if which.key.is_some() {
        // Looked for once: a key alone is in no index, an id is.
        let ids: Vec<JobId> = store.select(&which).await?.into_iter().map(|(id, _)| id).collect();
        if ids.is_empty() {
            return Err(failure(Exit::Failed, "no job fits these selectors"));
        }
        return Ok(Selector { ids, ..Selector::default() });
    }
    if !which.ids.is_empty() {
        let found = store.states(&which.ids).await?;
        let is_there = |id: &JobId| found.iter().any(|(there, _)| there == id);
        let missing: Vec<JobId> = which.ids.iter().copied().filter(|id| !is_there(id)).collect();
        if !missing.is_empty() {
            return Err(failure(Exit::Failed, no_such(&missing)));
        }
    }
    if !which.is_everything() && store.counts_among(&which).await?.total() == 0 {
        return Err(failure(Exit::Failed, "no job fits these selectors"));
    }
    Ok(which)
}

impl Ended {
    fn counts(self) -> Option<Counts> {
        match self {
            Ended::Still(counts)
            | Ended::NoDaemon(counts)
            | Ended::TimeUp(counts)
            | Ended::FailedFast(counts) => Some(counts),
            Ended::Interrupted => None,
        }
    }
}

/// The exit code, and on standard error why it is that.
pub(crate) fn verdict(ended: Ended, select: &SelectArgs) -> anyhow::Result<Exit> {
    let show = |states: &str| {
        format!("claudeq list --state {states} {}", select.typed()).trim_end().to_owned()
    };
    let failed = |counts: Counts, rest: &str| {
        let (failed, cancelled) = (format::count(counts.failed), format::count(counts.cancelled));
        let list = show("failed,cancelled");
        output::note(&format!("{failed} failed, {cancelled} cancelled{rest}: {list}"));
        Ok(Exit::Failed)
    };
    match ended {
        Ended::Still(counts) if counts.held > 0 => {
            output::note(&format!("{} held: {}", are(counts.held), show("held")));
            Ok(Exit::Unfinished)
        }
        Ended::Still(counts) if counts.failed + counts.cancelled > 0 => failed(counts, ""),
        Ended::Still(_) => Ok(Exit::Ok),
        Ended::FailedFast(counts) => {
            let left = counts.queued + counts.running + counts.held;
            failed(counts, &format!(", {} not finished", are(left)))
        }
        Ended::NoDaemon(counts) => {
            let message = format!(
                "no daemon runs, and {} not finished: start it with `claudeq daemon`",
                are(counts.queued + counts.running)
            );
            Err(failure(Exit::Unavailable, message))
        }
        Ended::TimeUp(counts) => {
            let left = are(counts.queued + counts.running);
            output::note(&format!("the time is up, {left} not finished"));
            Ok(Exit::Unfinished)
        }
        Ended::Interrupted => Ok(Exit::Interrupted),
    }
}

fn are(jobs: i64) -> String {
    format!("{} {}", format::jobs(jobs), if jobs == 1 { "is" } else { "are" })
}

/// Waits until none of the jobs is queued or running, and shows how far it is.
///
/// `each` is carried out after every count, so that it finds what has ended by then, and in
/// between where counting takes long.
pub(crate) async fn until_still(
    watched: &Watched<'_>,
    context: &Context,
    mut each: impl AsyncFnMut(&mut Progress) -> anyhow::Result<()>,
) -> anyhow::Result<Ended> {
    let started = context.clock.monotonic();
    let mut daemon_seen: Option<Duration> = None;
    let mut progress = Progress::new(watched.talkative, context);
    // One for the whole wait: a Ctrl-C while the database is read must not be lost.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let ended = loop {
        let asked = context.clock.monotonic();
        let counts = watched.store.counts_among(watched.which).await?;
        let look = context.clock.monotonic().saturating_sub(asked);
        each(&mut progress).await?;
        if watched.until.fail_fast && counts.failed + counts.cancelled > 0 {
            let still = counts.queued + counts.running == 0;
            break if still { Ended::Still(counts) } else { Ended::FailedFast(counts) };
        }
        if counts.queued + counts.running == 0 {
            break Ended::Still(counts);
        }
        if watched.store.holder().held {
            daemon_seen = Some(asked);
        } else if daemon_seen.is_none_or(|seen| asked.saturating_sub(seen) > RESTART) {
            // It may have ended because it finished the last of them after we looked.
            let counts = watched.store.counts_among(watched.which).await?;
            let still = counts.queued + counts.running == 0;
            break if still { Ended::Still(counts) } else { Ended::NoDaemon(counts) };
        }
        let waited = asked.saturating_sub(started);
        if watched.until.timeout.is_some_and(|most| waited >= most) {
            break Ended::TimeUp(counts);
        }
        progress.show(&counts, asked);
        let left = watched.until.timeout.map_or(Duration::MAX, |most| most.saturating_sub(waited));
        let pause = watched.pause.max(look * 10).min(left);
        tokio::select! {
            rested = rest(pause, watched.pause, context, async || each(&mut progress).await) => {
                rested?;
            }
            _ = interrupt.recv() => break Ended::Interrupted,
        }
    };
    progress.end();
    if ended != Ended::Interrupted {
        each(&mut progress).await?;
    }
    Ok(ended)
}

/// Waits for so long; `each` is carried out on the way.
async fn rest(
    pause: Duration,
    step: Duration,
    context: &Context,
    mut each: impl AsyncFnMut() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let until = context.clock.monotonic() + pause;
    loop {
        let left = until.saturating_sub(context.clock.monotonic());
        tokio::time::sleep(step.min(left)).await;
        if left <= step {
            return Ok(());
        }
        each().await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts() -> Counts {
        Counts { queued: 30, running: 10, succeeded: 55, failed: 3, cancelled: 2, held: 0 }
    }

    #[test]
    fn held_jobs_come_before_failed_ones() {
        let select = SelectArgs { batch: Some("a".into()), ..SelectArgs::default() };
        let code = |ended| verdict(ended, &select).map(Exit::code).unwrap_or(255);
        let done = Counts { queued: 0, running: 0, ..counts() };
        assert_eq!(code(Ended::Still(done)), 1);
        assert_eq!(code(Ended::Still(Counts { held: 1, ..done })), 8);
        assert_eq!(code(Ended::Still(Counts { failed: 0, cancelled: 0, ..done })), 0);
        assert_eq!(code(Ended::TimeUp(counts())), 8);
        assert_eq!(code(Ended::FailedFast(Counts { held: 1, ..counts() })), 1);
        assert_eq!(code(Ended::Interrupted), 130);
        assert!(verdict(Ended::NoDaemon(counts()), &select).is_err());
    }
}
