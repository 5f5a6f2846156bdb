//! How fast the rate of calls may grow, once the provider has said that it grew too fast.
//!
//! Thresholds are not documented: after a ramp limit's 429 calls start at half of the rate that was
//! refused, and that rate grows by a part of itself each minute; a further refusal halves the growth.

use super::time::{Millis, Timestamp};
use std::collections::VecDeque;

/// The stretch over which the present rate is measured.
const MEASURED: Millis = Millis::from_secs(10);
/// Starts that are remembered at the most.
const STARTS_MAX: usize = 10_000;
/// Growth in a hundred parts of the rate a minute, after the first refusal …
const GROWTH: i64 = 100;
/// … and at the least.
const GROWTH_MIN: i64 = 5;
/// A slope so many times above where it began holds nothing back any more.
const OVER: i64 = 16;

/// Watches how fast calls start, and holds them to a slope after a refusal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ramp {
    starts: VecDeque<Timestamp>,
    slope: Option<Slope>,
}

/// The rate that is allowed, and how it grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slope {
    /// Calls a minute at `since`.
    pub per_minute: i64,
    /// In a hundred parts of the rate, a minute.
    pub growth: i64,
    /// When it began.
    pub since: Timestamp,
    next_at: Timestamp,
}

impl Slope {
    /// One that was written down.
    pub fn new(per_minute: i64, growth: i64, since: Timestamp) -> Slope {
        let (per_minute, growth) = (per_minute.max(1), growth.clamp(GROWTH_MIN, GROWTH));
        Slope { per_minute, growth, since, next_at: since }
    }

    /// Calls a minute now.
    pub fn allowed(&self, now: Timestamp) -> i64 {
        let minutes = real(now.since(self.since).0) / real(Millis::MINUTE.0);
        let grown = (1.0 + real(self.growth) / 100.0).powf(minutes) * real(self.per_minute);
        #[expect(clippy::cast_possible_truncation, reason = "`as` saturates, and so it should")]
        let allowed = grown as i64;
        allowed.max(1)
    }

    fn is_over(&self, now: Timestamp) -> bool {
        self.allowed(now) >= self.per_minute.saturating_mul(OVER)
    }
}

impl Ramp {
    /// How long the next call must wait.
    pub fn wait(&self, now: Timestamp) -> Millis {
        self.slope(now).map_or(Millis::ZERO, |slope| slope.next_at.since(now))
    }

    /// The slope, while it holds anything back.
    pub fn slope(&self, now: Timestamp) -> Option<Slope> {
        self.slope.filter(|slope| !slope.is_over(now))
    }

    /// The last slope, also when it is over.
    pub fn last(&self) -> Option<Slope> {
        self.slope
    }

    /// A call starts.
    pub fn started(&mut self, now: Timestamp) {
        self.forget(now);
        if self.starts.len() < STARTS_MAX {
            self.starts.push_back(now);
        }
        if let Some(slope) = &mut self.slope {
            let gap = Millis(Millis::MINUTE.0 / slope.allowed(now));
            slope.next_at = slope.next_at.max(now) + gap;
        }
    }

    /// The provider says that the rate grew too fast when a call was sent. All those that were sent
    /// before the slope was lowered are refused for one reason.
    pub fn refused(&mut self, sent_at: Timestamp, now: Timestamp) {
        if self.slope.is_some_and(|slope| sent_at < slope.since) {
            return;
        }
        self.forget(now);
        let growth = self.slope.map_or(GROWTH, |slope| slope.growth / 2);
        let measured =
            i64::try_from(self.starts.len()).unwrap_or(i64::MAX) * (Millis::MINUTE.0 / MEASURED.0);
        let allowed = self.slope(now).map_or(measured, |slope| slope.allowed(now).min(measured));
        self.slope = Some(Slope::new(allowed / 2, growth, now));
    }

    /// Puts back what was written down.
    pub fn restore(&mut self, slope: Slope) {
        self.slope = Some(slope);
    }

    fn forget(&mut self, now: Timestamp) {
        while self.starts.front().is_some_and(|start| now.since(*start) >= MEASURED) {
            self.starts.pop_front();
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "rates and spans lie far below 2^53")]
fn real(number: i64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Timestamp = Timestamp(1_700_000_000_000);

    fn busy(calls: i64) -> Ramp {
        let mut ramp = Ramp::default();
        (0..calls).for_each(|call| ramp.started(T0 + Millis(call * 10_000 / calls)));
        ramp
    }

    #[test]
    fn nothing_is_held_back_before_a_refusal() {
        assert_eq!(busy(5_000).wait(T0 + Millis(9_999)), Millis::ZERO);
    }

    #[test]
    fn a_refusal_halves_the_rate_and_it_grows_again() {
        let mut ramp = busy(100);
        let now = T0 + Millis(9_999);
        ramp.refused(now, now);
        let slope = ramp.slope(now).unwrap();
        assert_eq!((slope.per_minute, slope.growth), (300, 100));
        ramp.started(now);
        assert_eq!(ramp.wait(now), Millis(200));
        assert_eq!(slope.allowed(now + Millis::MINUTE), 600);
        assert_eq!(ramp.slope(now + Millis::from_secs(300)), None, "32 times as much");
    }

    #[test]
    fn calls_in_flight_at_a_refusal_lower_the_slope_once() {
        let mut ramp = busy(100);
        let now = T0 + Millis(9_999);
        (0..60).for_each(|late| ramp.refused(now - Millis(500), now + Millis(late)));
        let slope = ramp.slope(now).unwrap();
        assert_eq!((slope.per_minute, slope.growth), (300, 100));
    }

    #[test]
    fn each_further_refusal_lowers_the_slope() {
        let mut ramp = busy(100);
        let now = T0 + Millis(9_999);
        for growth in [100, 50, 25, 12, 6, 5, 5] {
            ramp.refused(now, now);
            assert_eq!(ramp.slope(now).unwrap().growth, growth);
        }
        assert!(ramp.slope(now).unwrap().per_minute >= 1);
    }
}
