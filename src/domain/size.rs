//! How large a provider's bucket is, by its own headers: what is left, and how long until it is
//! full.
//!
//! Invariant: headers that contradict each other say nothing.

use super::time::{Millis, Timestamp};

/// What was read is forgotten after one to two of these.
const EPOCH: Millis = Millis::MINUTE;
/// `reset` is in whole seconds, and may be of the moment when the call arrived: readings that are
/// no older than [`FRESH`] agree within this.
const WRONG: Millis = Millis::from_secs(4);
/// Headers that took longer tell no size.
pub(super) const FRESH: Millis = Millis::from_secs(3);

/// Sizes as read lately, in tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    now: Option<Range>,
    before: Option<Range>,
    since: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    least: i64,
    most: i64,
}

impl Range {
    fn with(self, other: Range) -> Range {
        Range { least: self.least.min(other.least), most: self.most.max(other.most) }
    }
}

impl Sizes {
    /// One more reading.
    pub fn add(&mut self, size: i64, now: Timestamp) {
        if self.since.is_none_or(|since| now.since(since) >= EPOCH) {
            (self.before, self.now, self.since) = (self.now, None, Some(now));
        }
        let one = Range { least: size, most: size };
        self.now = Some(self.now.map_or(one, |range| range.with(one)));
    }

    /// The least size that was read, of a bucket that refills so fast; `rounding` is how far off a
    /// number of tokens may be.
    pub fn least(&self, per_second: i64, rounding: i64) -> Option<i64> {
        let all = match (self.now, self.before) {
            (Some(now), Some(before)) => now.with(before),
            (one, other) => one.or(other)?,
        };
        let wrong = per_second.saturating_mul(WRONG.0) / 1_000;
        let agree = all.most.saturating_sub(all.least) <= wrong.saturating_add(2 * rounding);
        agree.then_some(all.least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Timestamp = Timestamp(1_700_000_000_000);

    #[test]
    fn the_least_is_believed_while_all_agree() {
        let mut sizes = Sizes::default();
        assert_eq!(sizes.least(1_000, 500), None);
        sizes.add(9_800, T0);
        sizes.add(6_100, T0);
        assert_eq!(sizes.least(1_000, 500), Some(6_100));
        sizes.add(60_000, T0);
        assert_eq!(sizes.least(1_000, 500), None, "a reset that means something else");
    }

    #[test]
    fn what_was_read_is_forgotten() {
        let mut sizes = Sizes::default();
        sizes.add(60_000, T0);
        sizes.add(6_000, T0 + EPOCH);
        assert_eq!(sizes.least(1_000, 500), None);
        sizes.add(6_000, T0 + EPOCH + EPOCH);
        assert_eq!(sizes.least(1_000, 500), Some(6_000));
    }
}
