//! How far it is, in one line that is drawn over, or now and then where nothing can be.

use crate::cli::context::Context;
use crate::cli::output;
use crate::cli::render::{Line, Screen, Tone, bar, format};
use crate::store::Counts;
use std::io::Write;
use std::time::Duration;

/// Between two lines where nothing can be drawn over.
const PAUSE_OF_LINES: Duration = Duration::from_secs(10);
/// Before this nothing is said about the time left.
const RATE_AFTER: Duration = Duration::from_secs(3);
const BAR_WIDTH: usize = 20;

/// How far it is, on standard error.
pub(crate) struct Progress {
    screen: Screen,
    redraw: bool,
    talkative: bool,
    /// When and at how many finished jobs the looking began.
    first: Option<(Duration, i64)>,
    /// What was last written, and when.
    last: Option<(Duration, String)>,
}

impl Progress {
    pub(super) fn new(talkative: bool, context: &Context) -> Progress {
        let screen = Screen::stderr(&context.environment);
        let redraw = screen.can_redraw(&context.environment);
        // A line that fills the last column may break.
        let screen = screen.at_most(screen.width - 1);
        Progress { screen, redraw, talkative, first: None, last: None }
    }

    pub(super) fn show(&mut self, counts: &Counts, now: Duration) {
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
    pub(crate) fn end(&mut self) {
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
}
