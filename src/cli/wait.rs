//! `claudeq wait`: until the selected jobs are finished.
//!
//! Invariant: the pause between two looks is at least ten times as long as a look takes.

use super::context::Context;
use super::exit::{Exit, failure};
use super::output;
use super::render::{Line, Screen, Tone, bar, format};
use super::select::{SelectArgs, no_such};
use crate::domain::job::JobId;
use crate::store::{Counts, Selector, Store};
use clap::Args;
use std::io::Write;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// Between two looks, at least.
const PAUSE: Duration = Duration::from_millis(250);
/// Between two lines where nothing can be drawn over.
const PAUSE_OF_LINES: Duration = Duration::from_secs(10);
/// A daemon that is started again by its supervisor is back within this.
const RESTART: Duration = Duration::from_secs(5);
/// Before this nothing is said about the time left.
const RATE_AFTER: Duration = Duration::from_secs(3);
const BAR_WIDTH: usize = 20;

/// Wait until jobs are finished; all jobs when none are selected
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    claudeq wait 17 18\n  \
    claudeq wait --batch nightly --timeout 2h && claudeq results --batch nightly > out.jsonl\n\n\
    Ends with 0 when all succeeded, 1 when some failed or were cancelled, 8 when some are held\n\
    or the time is up, 69 when there is work and no daemon runs.")]
pub(crate) struct WaitArgs {
    #[command(flatten)]
    select: SelectArgs,
    /// Give up after this time, such as 30m
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
}

/// What is waited for.
pub(crate) struct Watched<'a> {
    pub(crate) store: &'a Store,
    pub(crate) which: &'a Selector,
    pub(crate) timeout: Option<Duration>,
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
    /// Ctrl-C.
    Interrupted,
}

pub(crate) async fn run(args: &WaitArgs, context: &Context) -> anyhow::Result<Exit> {
    let which = args.select.selector()?;
    let store = context.store().await?;
    refuse_missing(&store, &which).await?;
    let watched = Watched { store: &store, which: &which, timeout: args.timeout, talkative: true };
    let ended = until_still(&watched, context).await?;
    if context.global.json
        && let Ended::Still(counts) | Ended::NoDaemon(counts) | Ended::TimeUp(counts) = ended
    {
        output::json_lines(&context.screen, &[counts])?;
    }
    verdict(ended, &args.select)
}

/// Who waits for what does not exist has mistyped it.
async fn refuse_missing(store: &Store, which: &Selector) -> anyhow::Result<()> {
    if !which.ids.is_empty() {
        let found = store.states(&which.ids).await?;
        let is_there = |id: &JobId| found.iter().any(|(there, _)| there == id);
        let missing: Vec<JobId> = which.ids.iter().copied().filter(|id| !is_there(id)).collect();
        if !missing.is_empty() {
            return Err(failure(Exit::Failed, no_such(&missing)));
        }
    }
    if !which.is_everything() && store.counts_among(which).await?.total() == 0 {
        return Err(failure(Exit::Failed, "no job fits these selectors"));
    }
    Ok(())
}

fn verdict(ended: Ended, select: &SelectArgs) -> anyhow::Result<Exit> {
    let show = |state: &str| format!("claudeq list --state {state} {}", select.typed());
    let counts = match ended {
        Ended::Still(counts) => counts,
        Ended::NoDaemon(counts) => {
            let message = format!(
                "no daemon runs, and {} not finished: start it with `claudeq daemon`",
                are(counts.queued + counts.running)
            );
            return Err(failure(Exit::Unavailable, message));
        }
        Ended::TimeUp(counts) => {
            output::note(&format!(
                "the time is up, {} not finished",
                are(counts.queued + counts.running)
            ));
            return Ok(Exit::Unfinished);
        }
        Ended::Interrupted => return Ok(Exit::Interrupted),
    };
    if counts.held > 0 {
        output::note(&format!("{} held: {}", are(counts.held), show("held").trim_end()));
        return Ok(Exit::Unfinished);
    }
    if counts.failed + counts.cancelled > 0 {
        let (failed, cancelled) = (format::count(counts.failed), format::count(counts.cancelled));
        let list = show("failed,cancelled");
        output::note(&format!("{failed} failed, {cancelled} cancelled: {}", list.trim_end()));
        return Ok(Exit::Failed);
    }
    Ok(Exit::Ok)
}

fn are(jobs: i64) -> String {
    format!("{} {}", format::jobs(jobs), if jobs == 1 { "is" } else { "are" })
}

/// Waits until none of the jobs is queued or running, and shows how far it is.
pub(crate) async fn until_still(watched: &Watched<'_>, context: &Context) -> anyhow::Result<Ended> {
    let started = context.clock.monotonic();
    let mut daemon_seen: Option<Duration> = None;
    let mut progress = Progress::new(watched, context);
    // One for the whole wait: a Ctrl-C while the database is read must not be lost.
    let mut interrupt = signal(SignalKind::interrupt())?;
    loop {
        let asked = context.clock.monotonic();
        let counts = watched.store.counts_among(watched.which).await?;
        let look = context.clock.monotonic().saturating_sub(asked);
        if counts.queued + counts.running == 0 {
            progress.end();
            return Ok(Ended::Still(counts));
        }
        if watched.store.holder().held {
            daemon_seen = Some(asked);
        } else if daemon_seen.is_none_or(|seen| asked.saturating_sub(seen) > RESTART) {
            progress.end();
            // It may have ended because it finished the last of them after we looked.
            let counts = watched.store.counts_among(watched.which).await?;
            let still = counts.queued + counts.running == 0;
            return Ok(if still { Ended::Still(counts) } else { Ended::NoDaemon(counts) });
        }
        let waited = asked.saturating_sub(started);
        if watched.timeout.is_some_and(|most| waited >= most) {
            progress.end();
            return Ok(Ended::TimeUp(counts));
        }
        progress.show(&counts, asked);
        let left = watched.timeout.map_or(Duration::MAX, |most| most.saturating_sub(waited));
        tokio::select! {
            () = tokio::time::sleep(PAUSE.max(look * 10).min(left)) => {}
            _ = interrupt.recv() => {
                progress.end();
                return Ok(Ended::Interrupted);
            }
        }
    }
}

/// How far it is, on standard error.
struct Progress {
    screen: Screen,
    redraw: bool,
    talkative: bool,
    /// When and at how many finished jobs the looking began.
    first: Option<(Duration, i64)>,
    /// What was last written, and when.
    last: Option<(Duration, String)>,
}

impl Progress {
    fn new(watched: &Watched<'_>, context: &Context) -> Progress {
        let screen = Screen::stderr(&context.environment);
        let redraw = screen.can_redraw(&context.environment);
        // A line that fills the last column may break.
        let screen = screen.at_most(screen.width - 1);
        Progress { screen, redraw, talkative: watched.talkative, first: None, last: None }
    }

    fn show(&mut self, counts: &Counts, now: Duration) {
        let (began, finished) = *self.first.get_or_insert((now, counts.finished()));
        let left = time_left(counts, counts.finished() - finished, now.saturating_sub(began));
        let line = match counts.total() {
            1 => one_job_line(counts, now.saturating_sub(began)),
            _ => progress_line(counts, left, &self.screen),
        };
        let text = line.render(&self.screen);
        if self.redraw {
            let _ = write!(std::io::stderr().lock(), "\r{text}\u{1b}[K");
            self.last = Some((now, text));
            return;
        }
        let due = self
            .last
            .as_ref()
            .is_none_or(|(at, said)| now.saturating_sub(*at) >= PAUSE_OF_LINES && *said != text);
        if self.talkative && due {
            output::note(&text);
            self.last = Some((now, text));
        }
    }

    /// Leaves the line clean.
    fn end(&mut self) {
        if self.redraw && self.last.take().is_some() {
            let _ = write!(std::io::stderr().lock(), "\r\u{1b}[K");
        }
    }
}

/// Milliseconds that the rest takes at the pace so far.
fn time_left(counts: &Counts, done: i64, within: Duration) -> Option<i64> {
    if done <= 0 || within < RATE_AFTER {
        return None;
    }
    let left = i128::from(counts.queued + counts.running);
    let millis = i128::try_from(within.as_millis()).ok()?;
    i64::try_from(left * millis / i128::from(done)).ok()
}

/// `running · 3 s`
fn one_job_line(counts: &Counts, waited: Duration) -> Line {
    let (tone, state) =
        if counts.running > 0 { (Tone::Active, "running") } else { (Tone::Plain, "queued") };
    let waited = i64::try_from(waited.as_millis()).unwrap_or(i64::MAX);
    Line::default().and(tone, state).and(Tone::Faint, format!(" · {}", format::span(waited)))
}

fn progress_line(counts: &Counts, left: Option<i64>, screen: &Screen) -> Line {
    let (done, all) = (counts.finished(), counts.total());
    let mut line = bar::progress(done, all, BAR_WIDTH, screen);
    line.push(Tone::Plain, format!("  {}  ", format::percent(done, all)));
    line.push(Tone::Plain, format!("{} of {}", format::count(done), format::count(all)));
    line.push(Tone::Plain, format!(" · {} running", format::count(counts.running)));
    if counts.failed > 0 {
        line.push(Tone::Bad, format!(" · {} failed", format::count(counts.failed)));
    }
    if counts.held > 0 {
        line.push(Tone::Warn, format!(" · {} held", format::count(counts.held)));
    }
    if let Some(left) = left {
        line.push(Tone::Plain, format!(" · {} left", format::span(left)));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts() -> Counts {
        Counts { queued: 30, running: 10, succeeded: 55, failed: 3, cancelled: 2, held: 0 }
    }

    #[test]
    fn the_line_says_how_far_it_is() {
        let screen = Screen::plain(100);
        let line = progress_line(&counts(), Some(125_000), &screen).render(&screen);
        assert_eq!(
            line,
            "━━━━━━━━━━━━────────  60 %  60 of 100 · 10 running · 3 failed · 2 m 05 s left"
        );
    }

    #[test]
    fn the_pace_so_far_gives_the_time_left() {
        assert_eq!(time_left(&counts(), 20, Duration::from_secs(10)), Some(20_000));
        assert_eq!(time_left(&counts(), 0, Duration::from_secs(10)), None);
        assert_eq!(time_left(&counts(), 20, Duration::from_secs(1)), None);
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
        assert_eq!(code(Ended::Interrupted), 130);
        assert!(verdict(Ended::NoDaemon(counts()), &select).is_err());
    }
}
