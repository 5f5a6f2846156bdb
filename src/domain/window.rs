//! Limits that never refill but forget: rolling windows, exact or in slots.
//!
//! Invariant: an amount leaves whole, and only when it is older than the period on every clock
//! that could have counted it.

use super::production::Curve;
use super::time::{Millis, Timestamp};
use std::collections::VecDeque;

/// An hour or a day is kept in at most this many slots.
const SLOTS: i64 = 1_440;

/// Never more than `limit` in any period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    limit: i64,
    period: Millis,
    /// Entries are merged into slots of this length; one millisecond keeps each by itself.
    slot: Millis,
    /// (when it leaves, how much), in the order of leaving.
    entries: VecDeque<(Timestamp, i64)>,
    sum: i64,
    in_flight: i64,
    /// Output that calls in flight are expected to take.
    held: i64,
}

impl Window {
    /// An empty window with an entry for each call: for limits a minute.
    pub fn exact(limit: i64, period: Millis) -> Window {
        Window {
            limit,
            period,
            slot: Millis(1),
            entries: VecDeque::new(),
            sum: 0,
            in_flight: 0,
            held: 0,
        }
    }

    /// An empty window of at most 1,440 slots: for limits an hour or a day.
    pub fn slotted(limit: i64, period: Millis) -> Window {
        let slot = Millis((period.0 / SLOTS).max(1));
        Window { slot, ..Window::exact(limit, period) }
    }

    /// The same window under another limit: what counts goes on counting.
    pub fn under(&self, limit: i64) -> Window {
        Window { limit, ..self.clone() }
    }

    /// The limit itself.
    pub fn capacity(&self) -> i64 {
        self.limit
    }

    /// Amounts given to calls that are not settled.
    pub fn in_flight(&self) -> i64 {
        self.in_flight.saturating_add(self.held)
    }

    /// What the calls in flight are expected to write.
    pub fn set_held(&mut self, tokens: i64) {
        self.held = tokens;
    }

    /// What counts at `now`, calls in flight included.
    pub fn used(&self, now: Timestamp) -> i64 {
        self.counted(now).saturating_add(self.held)
    }

    /// What counts already: without the output that is still being written.
    fn counted(&self, now: Timestamp) -> i64 {
        let left: i64 = self
            .entries
            .iter()
            .take_while(|(leaves, _)| *leaves <= now)
            .map(|(_, amount)| *amount)
            .sum();
        self.sum.saturating_sub(left).saturating_add(self.in_flight)
    }

    /// What counts at `now`, and when it leaves; calls in flight aside.
    pub fn leaving(&self, now: Timestamp) -> impl Iterator<Item = (Timestamp, i64)> {
        self.entries.iter().copied().filter(move |(leaves, _)| *leaves > now)
    }

    /// The period.
    pub fn period(&self) -> Millis {
        self.period
    }

    /// What may be given out now; negative in debt.
    pub fn available(&self, now: Timestamp) -> i64 {
        self.limit.saturating_sub(self.used(now))
    }

    /// Whether a call of this size may go: it fits, or it never would and the window is empty.
    pub fn fits(&self, amount: i64, now: Timestamp) -> bool {
        amount <= self.available(now) || (amount > self.limit && self.used(now) == 0)
    }

    /// How long until enough has left; `None` when a call in flight must end first.
    pub fn wait(&self, amount: i64, now: Timestamp) -> Option<Millis> {
        if self.fits(amount, now) {
            return Some(Millis::ZERO);
        }
        let allowed = self.limit.saturating_sub(amount).max(0);
        let mut used = self.used(now);
        for (leaves, gone) in self.entries.iter().filter(|(leaves, _)| *leaves > now) {
            used = used.saturating_sub(*gone);
            if used <= allowed {
                return Some(leaves.since(now).max(Millis(1)));
            }
        }
        None
    }

    /// How long to wait until the limit holds although answers end as foreseen: each counts when
    /// it is whole, and by then older ones have left. Zero: a call may go.
    pub fn wait_for_output(
        &self,
        debit: i64,
        finished: &Curve,
        margin: i64,
        now: Timestamp,
    ) -> Millis {
        let room = self
            .limit
            .saturating_sub(debit)
            .saturating_sub(margin.min(self.limit / 20).max(self.limit / 30));
        let mut counted = self.counted(now);
        let mut wait = if counted > room { Some(Millis(1)) } else { None };
        let mut leaving = self.entries.iter().filter(|(leaves, _)| *leaves > now).peekable();
        let next = leaving.peek().map(|(leaves, _)| leaves.since(now));
        for (ahead, tokens) in finished.tokens() {
            while let Some((_, gone)) = leaving.next_if(|(leaves, _)| *leaves <= now + ahead) {
                counted = counted.saturating_sub(*gone);
            }
            if real(counted) + tokens > real(room) {
                wait = Some(Millis(1));
            }
        }
        // Only what leaves makes room; nothing that is foreseen becomes less before.
        wait.map_or(Millis::ZERO, |least| next.unwrap_or(Millis::SECOND).max(least))
    }

    /// Whether nothing counts.
    pub fn is_empty(&self, now: Timestamp) -> bool {
        self.used(now) == 0
    }

    /// Takes what a call takes when it is sent.
    pub fn reserve(&mut self, debit: i64, now: Timestamp) {
        self.forget(now);
        self.in_flight = self.in_flight.saturating_add(debit);
    }

    /// Ends a call: `actual` counts until a period after `counted_at`, the latest moment at which
    /// the provider may have counted it.
    pub fn settle(&mut self, debit: i64, actual: i64, counted_at: Timestamp, now: Timestamp) {
        self.forget(now);
        self.in_flight = self.in_flight.saturating_sub(debit).max(0);
        self.record(actual, counted_at);
    }

    /// Enters an amount that is final: a settled call, or one from the durable ledger.
    pub fn record(&mut self, amount: i64, counted_at: Timestamp) {
        if amount == 0 {
            return;
        }
        let end_of_slot = (counted_at.0.div_euclid(self.slot.0) + 1).saturating_mul(self.slot.0);
        let leaves = if self.slot.0 == 1 {
            counted_at + self.period
        } else {
            Timestamp(end_of_slot) + self.period
        };
        let at = self.entries.partition_point(|(other, _)| *other < leaves);
        match self.entries.get_mut(at) {
            Some((other, sum)) if *other == leaves => *sum = sum.saturating_add(amount),
            _ => self.entries.insert(at, (leaves, amount)),
        }
        self.sum = self.sum.saturating_add(amount);
    }

    /// The provider refused: count everything that seemed free as used by somebody else now.
    pub fn empty(&mut self, now: Timestamp) {
        let free = self.available(now);
        if free > 0 {
            self.record(free, now);
        }
    }

    /// Drops what no longer counts; a clock that steps back finds it gone, never doubled.
    fn forget(&mut self, now: Timestamp) {
        while let Some((leaves, amount)) = self.entries.front().copied() {
            if leaves > now {
                break;
            }
            self.entries.pop_front();
            self.sum = self.sum.saturating_sub(amount);
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "forecasts may round; amounts are kept exactly")]
fn real(number: i64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const T0: Timestamp = Timestamp(1_700_000_000_000);

    #[test]
    fn an_entry_counts_until_a_period_after_the_headers() {
        let mut window = Window::exact(10, Millis::MINUTE);
        window.reserve(10, T0);
        assert_eq!(window.available(T0 + Millis::HOUR), 0, "in flight it never leaves");
        assert_eq!(window.wait(1, T0), None);
        let headers = T0 + Millis::from_secs(30);
        window.settle(10, 4, headers, headers);
        assert_eq!(window.available(headers), 6);
        assert_eq!(window.wait(10, headers), Some(Millis::MINUTE));
        assert_eq!(window.available(headers + Millis::MINUTE), 10);
    }

    #[test]
    fn a_day_holds_at_most_1440_slots_each_leaving_whole() {
        let mut window = Window::slotted(1_000_000, Millis::DAY);
        for minute in 0..5_000 {
            window.reserve(1, T0 + Millis(minute * 30_000));
            let at = T0 + Millis(minute * 30_000);
            window.settle(1, 1, at, at);
        }
        assert!(window.entries.len() <= 1_442, "{}", window.entries.len());
    }

    #[test]
    fn a_giant_goes_when_nothing_else_counts() {
        let mut window = Window::exact(10, Millis::MINUTE);
        assert!(window.fits(11, T0));
        window.reserve(1, T0);
        assert!(!window.fits(11, T0));
    }

    #[test]
    fn a_refusal_leaves_nothing_for_a_period() {
        let mut window = Window::exact(10, Millis::MINUTE);
        window.empty(T0);
        assert_eq!(window.available(T0), 0);
        assert_eq!(window.available(T0 + Millis::MINUTE), 10);
    }

    proptest! {
        /// In no stretch of one period is more than the limit taken, counted at the provider's
        /// clock anywhere between send and headers.
        #[test]
        fn never_over_in_any_period(
            calls in prop::collection::vec((0_i64..4_000, 1_i64..8, 0_i64..3_000), 1..150),
        ) {
            let mut window = Window::exact(20, Millis::MINUTE);
            let mut now = T0;
            let mut counted: Vec<(Timestamp, i64)> = Vec::new();
            for (gap, amount, latency) in calls {
                now = now + Millis(gap);
                if window.fits(amount, now) {
                    window.reserve(amount, now);
                    let headers = now + Millis(latency);
                    window.settle(amount, amount, headers, headers);
                    counted.push((headers, amount));
                    now = headers;
                }
            }
            for (at, _) in &counted {
                let sum: i64 = counted
                    .iter()
                    .filter(|(other, _)| *other <= *at && *other > *at - Millis::MINUTE)
                    .map(|(_, amount)| amount)
                    .sum();
                prop_assert!(sum <= 20, "{sum}");
            }
        }
    }
}
