//! How far an import is, on standard error where that is a terminal.

use super::report::Tally;
use crate::cli::context::Context;
use crate::cli::output;
use crate::cli::render::{Line, Screen, Tone, bar, format};
use std::io::Write as _;
use std::time::Duration;

const BAR_WIDTH: usize = 20;
/// Between two drawings.
const PAUSE: Duration = Duration::from_millis(100);
/// Before this nothing is said about the time left.
const RATE_AFTER: Duration = Duration::from_secs(1);
/// Bad lines that a terminal shows.
const BAD_SHOWN: u64 = 20;

/// The line that is drawn over, and the bad lines that are named above it.
pub(super) struct Progress {
    screen: Screen,
    redraw: bool,
    /// Bytes of the file, when it is known how long it is.
    size: Option<u64>,
    began: Duration,
    drawn: Option<Duration>,
    bad: u64,
}

impl Progress {
    pub(super) fn new(size: Option<u64>, context: &Context) -> Progress {
        let screen = Screen::stderr(&context.environment);
        let redraw = screen.can_redraw(&context.environment);
        // A line that fills the last column may break.
        let screen = screen.at_most(screen.width - 1);
        let began = context.clock.monotonic();
        Progress { screen, redraw, size, began, drawn: None, bad: 0 }
    }

    pub(super) fn show(&mut self, tally: &Tally, now: Duration) {
        let is_due = self.drawn.is_none_or(|last| now.saturating_sub(last) >= PAUSE);
        if self.redraw && is_due {
            let line = line(tally, self.size, now.saturating_sub(self.began), &self.screen);
            let text = line.render(&self.screen);
            let _ = write!(std::io::stderr().lock(), "\r{text}\u{1b}[K");
            self.drawn = Some(now);
        }
    }

    /// Names a bad line; a pipe gets all of them, a person not more than can be read.
    pub(super) fn name_bad(&mut self, place: &str) {
        self.bad += 1;
        if !self.screen.terminal || self.bad <= BAD_SHOWN {
            self.end();
            output::note(place);
        }
    }

    /// Leaves the line clean.
    pub(super) fn end(&mut self) {
        if self.drawn.take().is_some() {
            let _ = write!(std::io::stderr().lock(), "\r\u{1b}[K");
        }
    }

    /// Bad lines that were not named.
    pub(super) fn unnamed(&self) -> u64 {
        if self.screen.terminal { self.bad.saturating_sub(BAD_SHOWN) } else { 0 }
    }
}

/// `━━━━━━━━━━━━────────  60 %  600,000 rows · 41,000 a second · 10 s left`
fn line(tally: &Tally, size: Option<u64>, took: Duration, screen: &Screen) -> Line {
    let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let mut line = Line::default();
    if let Some(size) = size {
        let (done, all) = (whole(tally.bytes), whole(size));
        line.append(bar::progress(done, all, BAR_WIDTH, screen));
        line.push(Tone::Plain, format!("  {}  ", format::percent(done.min(all), all)));
    }
    let noun = if tally.rows == 1 { "row" } else { "rows" };
    line.push(Tone::Plain, format!("{} {noun}", format::count(whole(tally.rows))));
    if tally.bad > 0 {
        line.push(Tone::Bad, format!(" · {} bad", format::count(whole(tally.bad))));
    }
    let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    if took < RATE_AFTER || tally.rows == 0 || tally.bytes == 0 {
        return line;
    }
    let rate = whole(tally.rows.saturating_mul(1_000) / millis);
    line.push(Tone::Plain, format!(" · {} a second", format::count(rate)));
    if let Some(size) = size {
        let left = u128::from(size.saturating_sub(tally.bytes)) * u128::from(millis);
        let left = i64::try_from(left / u128::from(tally.bytes)).unwrap_or(i64::MAX);
        line.push(Tone::Plain, format!(" · {} left", format::span(left)));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_far_it_is() {
        let screen = Screen::plain(100);
        let tally = Tally { rows: 600_000, bytes: 600, bad: 2, ..Tally::default() };
        let text =
            |size, secs| line(&tally, size, Duration::from_secs(secs), &screen).render(&screen);
        assert_eq!(
            text(Some(1_000), 15),
            "━━━━━━━━━━━━────────  60 %  600,000 rows · 2 bad · 40,000 a second · 10 s left"
        );
        assert_eq!(text(None, 15), "600,000 rows · 2 bad · 40,000 a second");
        assert_eq!(text(Some(600), 0), "━━━━━━━━━━━━━━━━━━━━  100 %  600,000 rows · 2 bad");
    }
}
