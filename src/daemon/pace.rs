//! How fast jobs finish lately.

use crate::domain::time::{Millis, Timestamp};
use std::collections::VecDeque;

/// The pace is that of this stretch.
const STRETCH: Millis = Millis::from_secs(120);
/// A shorter one says nothing.
const SHORTEST: Millis = Millis::SECOND;

/// Jobs that finished lately.
#[derive(Debug, Default)]
pub(super) struct Pace {
    finished: VecDeque<(Timestamp, i64)>,
    since: Option<Timestamp>,
}

impl Pace {
    /// So many jobs finished now.
    pub(super) fn note(&mut self, jobs: usize, now: Timestamp) {
        self.since.get_or_insert(now);
        if jobs > 0 {
            self.finished.push_back((now, i64::try_from(jobs).unwrap_or(i64::MAX)));
        }
        while self.finished.front().is_some_and(|(at, _)| now.since(*at) > STRETCH) {
            self.finished.pop_front();
        }
    }

    /// Jobs a minute.
    pub(super) fn per_minute(&self, now: Timestamp) -> i64 {
        self.jobs().saturating_mul(Millis::MINUTE.0) / self.stretch(now).0
    }

    fn jobs(&self) -> i64 {
        self.finished.iter().map(|(_, jobs)| jobs).sum()
    }

    fn stretch(&self, now: Timestamp) -> Millis {
        self.since.map_or(SHORTEST, |since| now.since(since)).clamp(SHORTEST, STRETCH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Timestamp = Timestamp(1_000_000);

    #[test]
    fn jobs_a_minute() {
        let mut pace = Pace::default();
        assert_eq!(pace.per_minute(T0), 0);
        pace.note(0, T0);
        for second in 1..=10 {
            pace.note(5, T0 + Millis::from_secs(second));
        }
        let now = T0 + Millis::from_secs(10);
        assert_eq!(pace.per_minute(now), 300);
    }

    #[test]
    fn what_is_long_ago_counts_no_more() {
        let mut pace = Pace::default();
        pace.note(1_000, T0);
        let later = T0 + Millis::HOUR;
        pace.note(0, later);
        assert_eq!(pace.per_minute(later), 0);
    }
}
