//! Bars: how far along, and how full.

use super::line::Line;
use super::screen::{Screen, Tone};

/// How far along: `━━━━━━╸─────`. Full only when all is done.
pub(crate) fn progress(done: i64, all: i64, width: usize, screen: &Screen) -> Line {
    let [filled, head, empty] = screen.glyphs().progress;
    let halves = share(done, all, width * 2);
    let (full, half) = (halves / 2, halves % 2);
    let tone = if done >= all { Tone::Good } else { Tone::Active };
    Line::default()
        .and(tone, filled.repeat(full) + &head.repeat(half))
        .and(Tone::Faint, empty.repeat(width - full - half))
}

/// How full a limit is: `████████░░░░`.
pub(crate) fn level(used: i64, amount: i64, width: usize, screen: &Screen) -> Line {
    let [filled, empty] = screen.glyphs().level;
    let mut full = share(used, amount, width);
    if used > 0 && full == 0 {
        full = 1;
    }
    Line::default()
        .and(tone(used, amount), filled.repeat(full))
        .and(Tone::Faint, empty.repeat(width - full))
}

/// A limit that is nearly used up is where things wait.
pub(crate) fn tone(used: i64, amount: i64) -> Tone {
    match i128::from(used) * 100 / i128::from(amount.max(1)) {
        ..75 => Tone::Good,
        75..=100 => Tone::Warn,
        _ => Tone::Bad,
    }
}

/// `part` of `whole` in steps, rounded down, at most all of them.
fn share(part: i64, whole: i64, steps: usize) -> usize {
    if whole <= 0 || part <= 0 {
        return 0;
    }
    let steps_wide = i128::try_from(steps).unwrap_or(i128::MAX);
    let scaled = i128::from(part).saturating_mul(steps_wide) / i128::from(whole);
    usize::try_from(scaled).unwrap_or(steps).min(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_full_only_when_all_is_done() {
        let screen = Screen::plain(80);
        let text = |done| progress(done, 1_000, 10, &screen).render(&screen);
        assert_eq!(text(0), "──────────");
        assert_eq!(text(50), "╸─────────");
        assert_eq!(text(740), "━━━━━━━───");
        assert_eq!(text(999), "━━━━━━━━━╸");
        assert_eq!(text(1_000), "━━━━━━━━━━");
        assert_eq!(progress(0, 0, 4, &screen).render(&screen), "────");
    }

    #[test]
    fn levels_show_a_little_and_too_much() {
        let screen = Screen::ascii(80);
        let text = |used| level(used, 100, 10, &screen).render(&screen);
        assert_eq!(text(0), "..........");
        assert_eq!(text(1), "#.........");
        assert_eq!(text(65), "######....");
        assert_eq!(text(400), "##########");
        assert_eq!(text(-5), "..........");
    }
}
