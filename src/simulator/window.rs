//! A rolling window: never more than the limit within any 60 seconds, counted at arrival.
//!
//! Invariant: an entry keeps the time it was counted at; a later correction changes its
//! amount, never its time.

use super::bucket::{Charge, FOREVER};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

#[derive(Clone, Copy, Debug)]
struct Counted {
    at: Duration,
    amount: i64,
}

/// A change that is due later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    at: Duration,
    /// The entry it corrects; `None` counts as a new one.
    entry: Option<u64>,
    amount: i64,
}

/// What was counted in the last `span`.
#[derive(Clone, Debug)]
pub(super) struct Window {
    limit: i64,
    span: Duration,
    counted: VecDeque<Counted>,
    /// The number of the oldest entry in `counted`.
    first: u64,
    sum: i64,
    due: BinaryHeap<Reverse<Due>>,
}

impl Window {
    /// An empty window.
    pub(super) fn new(limit: u64, span: Duration) -> Window {
        Window {
            limit: signed(limit),
            span,
            counted: VecDeque::new(),
            first: 0,
            sum: 0,
            due: BinaryHeap::new(),
        }
    }

    /// How long `charge` must wait; zero means that it fits now.
    pub(super) fn wait(&mut self, now: Duration, charge: &Charge) -> Duration {
        self.advance(now);
        // What is larger than the limit may go when the window is empty.
        let need = signed(charge.upfront).min(self.limit).max(i64::from(charge.positive));
        let mut over = self.sum.saturating_add(need) - self.limit;
        if over <= 0 {
            return Duration::ZERO;
        }
        for entry in &self.counted {
            over -= entry.amount;
            if over <= 0 {
                return (entry.at + self.span).saturating_sub(now);
            }
        }
        FOREVER
    }

    /// Counts `charge`, whether it fits or not.
    pub(super) fn take(&mut self, now: Duration, charge: &Charge) {
        self.advance(now);
        let number = self.first + u64::try_from(self.counted.len()).unwrap_or(u64::MAX);
        self.count(now, signed(charge.upfront));
        if charge.at_end != 0 {
            let due = Due { at: charge.end, entry: Some(number), amount: charge.at_end };
            self.due.push(Reverse(due));
        }
        if charge.produced > 0 {
            let due = Due { at: charge.end, entry: None, amount: signed(charge.produced) };
            self.due.push(Reverse(due));
        }
    }

    /// Tokens that still fit now; negative when in debt.
    pub(super) fn remaining(&mut self, now: Duration) -> i64 {
        self.advance(now);
        self.limit.saturating_sub(self.sum)
    }

    /// Time until nothing is counted any more.
    pub(super) fn until_full(&mut self, now: Duration) -> Duration {
        self.advance(now);
        let newest = self.counted.iter().rev().find(|entry| entry.amount != 0);
        newest.map_or(Duration::ZERO, |entry| (entry.at + self.span).saturating_sub(now))
    }

    fn count(&mut self, at: Duration, amount: i64) {
        self.counted.push_back(Counted { at, amount });
        self.sum = self.sum.saturating_add(amount);
    }

    fn advance(&mut self, now: Duration) {
        while let Some(Reverse(due)) = self.due.peek().copied() {
            if due.at > now {
                break;
            }
            self.due.pop();
            self.apply(due);
        }
        while let Some(oldest) = self.counted.front() {
            if oldest.at + self.span > now {
                break;
            }
            self.sum -= oldest.amount;
            self.first += 1;
            self.counted.pop_front();
        }
    }

    fn apply(&mut self, due: Due) {
        let Some(number) = due.entry else {
            return self.count(due.at, due.amount);
        };
        // An entry that has left takes its correction with it.
        let place = number.checked_sub(self.first).and_then(|place| usize::try_from(place).ok());
        if let Some(entry) = place.and_then(|place| self.counted.get_mut(place)) {
            entry.amount += due.amount;
            self.sum = self.sum.saturating_add(due.amount);
        }
    }
}

fn signed(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Entropy;

    const MINUTE: Duration = Duration::from_secs(60);

    fn upfront(tokens: u64) -> Charge {
        Charge { upfront: tokens, ..Charge::default() }
    }

    #[test]
    fn an_entry_leaves_whole_after_a_minute() {
        let mut window = Window::new(100, MINUTE);
        window.take(Duration::ZERO, &upfront(60));
        window.take(Duration::from_secs(10), &upfront(40));
        let now = Duration::from_secs(20);
        assert_eq!(window.wait(now, &upfront(50)), Duration::from_secs(40));
        assert_eq!(window.wait(now, &upfront(70)), Duration::from_secs(50));
        assert_eq!(window.remaining(MINUTE), 60);
        assert_eq!(window.until_full(MINUTE), Duration::from_secs(10));
    }

    #[test]
    fn corrections_find_their_entry_or_nothing() {
        let mut window = Window::new(100, MINUTE);
        let end = Duration::from_secs(30);
        window.take(Duration::ZERO, &Charge { at_end: -50, end, ..upfront(80) });
        assert_eq!(window.remaining(Duration::from_secs(29)), 20);
        assert_eq!(window.remaining(end), 70);
        let late = Charge { at_end: -50, end: Duration::from_secs(200), ..upfront(80) };
        window.take(MINUTE, &late);
        assert_eq!(window.remaining(Duration::from_secs(300)), 100);
    }

    #[test]
    fn never_more_than_the_limit_within_any_minute() {
        for seed in 0..50 {
            let dice = Entropy::seeded(seed);
            let limit = 10 + dice.next_u64() % 1_000;
            let mut window = Window::new(limit, MINUTE);
            let mut admitted: Vec<(Duration, u64)> = Vec::new();
            let mut now = Duration::ZERO;
            for _ in 0..1_000 {
                now += Duration::from_millis(dice.next_u64() % 3_000);
                let charge = upfront(1 + dice.next_u64() % limit);
                let wait = window.wait(now, &charge);
                if wait > Duration::ZERO {
                    now += wait;
                    assert_eq!(window.wait(now, &charge), Duration::ZERO, "seed {seed}");
                }
                window.take(now, &charge);
                admitted.push((now, charge.upfront));
                let recent = admitted.iter().rev().take_while(|(at, _)| *at + MINUTE > now);
                assert!(recent.map(|(_, tokens)| tokens).sum::<u64>() <= limit, "seed {seed}");
            }
        }
    }
}
