//! Wall time that can be trusted: checked against the monotonic clock.
//!
//! Invariant: it never runs backwards, so a window never reopens.
//! Invariant: a jump ahead frees nothing until it has lasted, so a bucket is never filled by a
//! wrong clock.

use super::time::{Millis, Timestamp};
use std::time::Duration;

/// Less than this is drift or a small correction, not a jump.
const TOLERANCE: Millis = Millis::from_secs(2);
/// A jump ahead that lasts this long is the truth: a suspend, or a clock put right.
const CONFIRM_AFTER: Duration = Duration::from_secs(10);

/// The guard between the machine's clocks and the ledger.
#[derive(Clone, Debug)]
pub struct SteadyTime {
    last: Timestamp,
    at: Duration,
    ahead_since: Option<Duration>,
}

impl SteadyTime {
    /// Starts at the later of the wall clock and what the ledger already knows.
    pub fn new(wall: Timestamp, known: Timestamp, monotonic: Duration) -> SteadyTime {
        SteadyTime { last: wall.max(known), at: monotonic, ahead_since: None }
    }

    /// The time to work with, and whether a jump ahead is still doubted.
    pub fn read(&mut self, wall: Timestamp, monotonic: Duration) -> (Timestamp, bool) {
        let passed = monotonic.saturating_sub(self.at);
        let expected = self.last + Millis::from(passed);
        let (now, doubted) = if wall > expected + TOLERANCE {
            let since = *self.ahead_since.get_or_insert(monotonic);
            if monotonic.saturating_sub(since) >= CONFIRM_AFTER {
                self.ahead_since = None;
                (wall, false)
            } else {
                (expected, true)
            }
        } else {
            self.ahead_since = None;
            // Behind: the clock went back, or the ledger comes from a machine that was ahead.
            // Stand still until the wall clock has caught up, as long as it is near; else run on.
            let behind = expected.since(wall);
            if behind > TOLERANCE { (expected, false) } else { (self.last.max(wall), false) }
        };
        self.last = now;
        self.at = monotonic;
        (now, doubted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Timestamp = Timestamp(1_000_000_000);

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn at(secs: i64) -> Timestamp {
        T0 + Millis::from_secs(secs)
    }

    #[test]
    fn backwards_it_runs_on() {
        let mut time = SteadyTime::new(T0, T0, secs(0));
        assert_eq!(time.read(at(5), secs(5)), (at(5), false));
        assert_eq!(time.read(at(-3_600), secs(6)), (at(6), false));
        assert_eq!(time.read(at(-3_599), secs(7)), (at(7), false));
    }

    #[test]
    fn it_never_begins_before_the_ledger() {
        let mut time = SteadyTime::new(T0, at(100), secs(0));
        assert_eq!(time.read(at(1), secs(1)), (at(101), false));
    }

    #[test]
    fn a_jump_ahead_counts_only_when_it_lasts() {
        let mut time = SteadyTime::new(T0, T0, secs(0));
        assert_eq!(time.read(at(3_601), secs(1)), (at(1), true));
        assert_eq!(time.read(at(3_605), secs(5)), (at(5), true));
        assert_eq!(time.read(at(3_611), secs(11)), (at(3_611), false));
        let mut brief = SteadyTime::new(T0, T0, secs(0));
        assert_eq!(brief.read(at(3_601), secs(1)), (at(1), true));
        assert_eq!(brief.read(at(2), secs(2)), (at(2), false));
        assert_eq!(brief.read(at(3_615), secs(15)), (at(15), true), "doubted anew");
    }

    #[test]
    fn small_steps_never_go_back() {
        let mut time = SteadyTime::new(T0, T0, secs(0));
        time.read(at(10), secs(10));
        let (now, _) = time.read(at(10) - Millis(500), secs(10));
        assert_eq!(now, at(10));
    }
}
