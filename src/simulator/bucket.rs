//! A continuous token bucket that knows the generations running against it.
//!
//! Invariant: `now` is a parameter; a bucket never reads a clock.
//! Invariant: what a running generation takes over time is registered when it starts, so a
//! level is exact at any moment without a task per token, and a client that hangs up
//! changes nothing.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// One token, in the unit levels are kept in. The microseconds of a day divide it, and so do
/// those of a minute: refills are exact, and a wait is never a microsecond too long.
const TOKEN: i128 = 86_400_000_000 * 1_000_000;

/// What a request that cannot ever fit is told.
pub(super) const FOREVER: Duration = Duration::from_secs(86_400);

/// What one request takes from one limit.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Charge {
    /// Taken at the start; must be there.
    pub(super) upfront: u64,
    /// Asks only that the level be above zero.
    pub(super) positive: bool,
    /// Taken on top at the end, negative to give back.
    pub(super) at_end: i64,
    /// Taken evenly between the first token and the end.
    pub(super) produced: u64,
    /// When the first token comes.
    pub(super) first_token: Duration,
    /// When the answer is finished.
    pub(super) end: Duration,
}

/// A change that is due later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    at: i128,
    debit: i128,
    draw: i128,
}

/// The level of one limit; tokens are kept in [`TOKEN`]s, time in microseconds.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    capacity: i128,
    /// Per microsecond.
    refill: i128,
    level: i128,
    /// What running generations take together, per microsecond.
    draw: i128,
    at: i128,
    due: BinaryHeap<Reverse<Due>>,
}

impl Bucket {
    /// A full bucket of `amount` tokens per `period` that holds `burst` worth of refill.
    pub(super) fn new(amount: u64, period: Duration, burst: Duration) -> Bucket {
        let refill = i128::from(amount) * TOKEN / micros(period).max(1);
        // At least one token, or nothing could ever start.
        let capacity = (refill * micros(burst)).max(TOKEN);
        Bucket { capacity, refill, level: capacity, draw: 0, at: 0, due: BinaryHeap::new() }
    }

    /// The same under another limit from now on; it holds what it held, as far as that fits.
    pub(super) fn resize(&mut self, now: Duration, amount: u64, period: Duration, burst: Duration) {
        self.advance(now);
        let fresh = Bucket::new(amount, period, burst);
        self.level = self.level.min(fresh.capacity);
        (self.capacity, self.refill) = (fresh.capacity, fresh.refill);
    }

    /// How long `charge` must wait; zero means that it fits now.
    pub(super) fn wait(&mut self, now: Duration, charge: &Charge) -> Duration {
        self.advance(now);
        // What is larger than the bucket may go when the bucket is full.
        let need = (i128::from(charge.upfront) * TOKEN).min(self.capacity);
        let need = need.max(i128::from(charge.positive));
        let missing = need - self.level;
        if missing <= 0 {
            return Duration::ZERO;
        }
        self.time_to_refill(missing)
    }

    /// Takes `charge`, whether it fits or not.
    pub(super) fn take(&mut self, now: Duration, charge: &Charge) {
        self.advance(now);
        self.level -= i128::from(charge.upfront) * TOKEN;
        let end = micros(charge.end).max(self.at);
        let first = micros(charge.first_token).clamp(self.at, end);
        let produced = i128::from(charge.produced) * TOKEN;
        // The rest of the division is taken at the end, so the sum is exact.
        let span = end - first;
        let draw = if span == 0 { 0 } else { produced / span };
        let rest = produced - draw * span;
        if draw > 0 {
            self.due.push(Reverse(Due { at: first, debit: 0, draw }));
        }
        let debit = rest + i128::from(charge.at_end) * TOKEN;
        if draw > 0 || debit != 0 {
            self.due.push(Reverse(Due { at: end, debit, draw: -draw }));
        }
    }

    /// Whole tokens that are there now; negative when in debt.
    pub(super) fn remaining(&mut self, now: Duration) -> i64 {
        self.advance(now);
        i64::try_from(self.level.div_euclid(TOKEN)).unwrap_or(i64::MIN)
    }

    /// Time until full, if nobody took anything more.
    pub(super) fn until_full(&mut self, now: Duration) -> Duration {
        self.advance(now);
        self.time_to_refill(self.capacity - self.level)
    }

    /// How long the refill alone takes; running generations may still take it away again.
    fn time_to_refill(&self, missing: i128) -> Duration {
        if self.refill == 0 {
            return FOREVER;
        }
        let micros = (missing + self.refill - 1) / self.refill;
        Duration::from_micros(u64::try_from(micros.max(0)).unwrap_or(u64::MAX))
    }

    fn advance(&mut self, now: Duration) {
        let now = micros(now);
        while let Some(Reverse(due)) = self.due.peek().copied() {
            if due.at > now {
                break;
            }
            self.due.pop();
            self.run_to(due.at);
            self.level = (self.level - due.debit).min(self.capacity);
            self.draw += due.draw;
        }
        self.run_to(now);
    }

    /// Refills and draws over a stretch in which neither rate changes.
    fn run_to(&mut self, at: i128) {
        if at <= self.at {
            return;
        }
        let change = (self.refill - self.draw) * (at - self.at);
        self.level = (self.level + change).min(self.capacity);
        self.at = at;
    }
}

pub(super) fn micros(span: Duration) -> i128 {
    i128::try_from(span.as_micros()).unwrap_or(i128::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Entropy;

    const MINUTE: Duration = Duration::from_secs(60);

    fn upfront(tokens: u64) -> Charge {
        Charge { upfront: tokens, ..Charge::default() }
    }

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn refills_continuously_up_to_the_burst() {
        let mut bucket = Bucket::new(60, MINUTE, Duration::from_secs(10));
        assert_eq!(bucket.remaining(at(0)), 10);
        bucket.take(at(0), &upfront(10));
        assert_eq!(bucket.wait(at(0), &upfront(1)), at(1_000));
        assert_eq!(bucket.wait(at(400), &upfront(1)), at(600));
        assert_eq!(bucket.wait(at(1_000), &upfront(1)), Duration::ZERO);
        assert_eq!(bucket.remaining(at(3_600_000)), 10);
        assert_eq!(bucket.until_full(at(3_600_000)), Duration::ZERO);
    }

    #[test]
    fn the_promised_wait_is_exact() {
        let mut bucket = Bucket::new(30_000, MINUTE, MINUTE);
        bucket.take(at(0), &upfront(30_000));
        let wait = bucket.wait(at(0), &upfront(777));
        assert!(bucket.wait(wait - Duration::from_micros(2), &upfront(777)) > Duration::ZERO);
        assert_eq!(bucket.wait(wait, &upfront(777)), Duration::ZERO);
    }

    #[test]
    fn what_is_larger_than_the_bucket_waits_until_it_is_full() {
        let mut bucket = Bucket::new(100, MINUTE, MINUTE);
        assert_eq!(bucket.wait(at(0), &upfront(1_000)), Duration::ZERO);
        bucket.take(at(0), &upfront(1_000));
        assert_eq!(bucket.remaining(at(0)), -900);
        let wait = bucket.wait(at(0), &upfront(1_000));
        assert!(wait >= Duration::from_secs(599) && wait <= Duration::from_secs(601), "{wait:?}");
    }

    #[test]
    fn production_is_debited_as_it_happens() {
        let mut bucket = Bucket::new(60, MINUTE, MINUTE);
        let charge = Charge {
            positive: true,
            produced: 1_000,
            first_token: at(1_000),
            end: at(11_000),
            ..Charge::default()
        };
        assert_eq!(bucket.wait(at(0), &charge), Duration::ZERO);
        bucket.take(at(0), &charge);
        assert_eq!(bucket.remaining(at(1_000)), 60);
        // One second: 100 produced, 1 refilled.
        assert_eq!(bucket.remaining(at(2_000)), -39);
        assert!(bucket.wait(at(2_000), &charge) > Duration::ZERO);
        assert_eq!(bucket.remaining(at(11_000)), 60 - 1_000 + 10);
        assert_eq!(bucket.remaining(at(12_000)), 60 - 1_000 + 11);
    }

    #[test]
    fn a_reservation_gives_back_what_was_not_used() {
        let mut bucket = Bucket::new(60, MINUTE, MINUTE);
        let charge = Charge { upfront: 50, at_end: -40, end: at(5_000), ..Charge::default() };
        bucket.take(at(0), &charge);
        assert_eq!(bucket.remaining(at(0)), 10);
        assert_eq!(bucket.remaining(at(4_999)), 14);
        assert_eq!(bucket.remaining(at(5_000)), 55);
    }

    #[test]
    fn never_admits_more_than_capacity_and_refill() {
        for seed in 0..50 {
            let dice = Entropy::seeded(seed);
            let rate = 1 + dice.next_u64() % 5_000;
            let burst = 1 + dice.next_u64() % 60;
            let mut bucket = Bucket::new(rate, MINUTE, Duration::from_secs(burst));
            let capacity = u64::try_from(bucket.remaining(at(0))).unwrap();
            let (mut now, mut admitted) = (0_u64, 0_u64);
            for _ in 0..2_000 {
                now += dice.next_u64() % 700;
                let charge = upfront(1 + dice.next_u64() % capacity);
                if bucket.wait(at(now), &charge) == Duration::ZERO {
                    bucket.take(at(now), &charge);
                    admitted += charge.upfront;
                }
                // Both sides times 60,000, so that nothing is rounded.
                let held = (rate * burst * 1_000).max(60_000);
                assert!(admitted * 60_000 <= held + rate * now, "seed {seed}: {admitted}");
            }
        }
    }
}
