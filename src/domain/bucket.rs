//! A limit with continuous refill, mirrored.
//!
//! The level is kept in *shares*: tokens × the period in milliseconds, so that a millisecond
//! refills exactly `rate` shares and nothing is lost to rounding.
//!
//! Invariant: a level is never clamped up to zero; debt stays until refill pays it.
//! Invariant: time that runs backwards refills nothing.
//! Invariant: the mirror never runs ahead of what it mirrors: a full bucket refills only once the
//! call that takes from it must have arrived.

use super::time::{Millis, Timestamp};

/// Where an unknown burst begins: as one who "enforces 60 a minute as one a second" would allow,
/// with a little room.
const FIRST_BURST: Millis = Millis::from_secs(5);
/// A burst that nobody states is never taken for more than the whole minute.
const LONGEST_BURST: Millis = Millis::MINUTE;
/// Nor for less than this.
const SHORTEST_BURST: Millis = Millis::SECOND;
/// How long no 429 must come before an unknown burst is doubled.
const WIDEN_AFTER: Millis = Millis::from_secs(20);
/// The same, where the provider's headers say that twice as much would be there.
const WIDEN_AFTER_SEEN: Millis = Millis::from_secs(5);
/// From the reservation of a call to its arrival: a commit, perhaps a connection, the way. A bucket
/// of less than four times this loses no more than a quarter to it.
const ON_THE_WAY: Millis = Millis(500);

/// What one call takes out of one limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Charge {
    /// Taken when the call is sent, as the provider does.
    pub debit: i64,
    /// Expected to be taken while the call runs; set aside until it is settled, so that refill
    /// before the production is not spent twice.
    pub held: i64,
}

impl Charge {
    /// Both parts.
    pub fn total(self) -> i64 {
        self.debit.saturating_add(self.held)
    }
}

/// The mirrored level of one limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    rate: i64,
    period: Millis,
    burst: Burst,
    level: i64,
    as_of: Timestamp,
    held: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Burst {
    Told(Millis),
    /// `seen` is the most that headers said was left, since the span was last changed.
    Learned {
        span: Millis,
        since: Timestamp,
        seen: i64,
    },
}

impl Bucket {
    /// A full bucket. `rate` is tokens per `period`; without `burst` its size is learned.
    pub fn full(rate: i64, period: Millis, burst: Option<Millis>, now: Timestamp) -> Bucket {
        let burst = match burst {
            Some(span) => Burst::Told(span),
            None => Burst::Learned { span: FIRST_BURST.min(period), since: now, seen: 0 },
        };
        let mut bucket = Bucket { rate, period, burst, level: 0, as_of: now, held: 0 };
        bucket.level = bucket.capacity_shares();
        bucket
    }

    /// Puts back what a snapshot said: the level in shares at `as_of`, and a learned burst.
    ///
    /// A level below what this capacity allows is kept, debt included.
    pub fn restore(&mut self, level: i64, as_of: Timestamp, learned: Option<Millis>) {
        if let (Burst::Learned { since, seen, .. }, Some(span)) = (self.burst, learned) {
            self.burst = Burst::Learned { span: span.max(SHORTEST_BURST), since, seen };
        }
        self.level = level.min(self.capacity_shares());
        self.as_of = as_of;
    }

    /// Begins lacking what another bucket of the same thing lacks, with its calls in flight.
    pub fn inherit(&mut self, old: &Bucket, now: Timestamp) {
        if let (Burst::Learned { .. }, Burst::Learned { .. }) = (self.burst, old.burst) {
            self.burst = old.burst;
        }
        let lacking = old.capacity_shares().saturating_sub(old.shares(now)) / old.period.0;
        self.level = self.capacity_shares().saturating_sub(self.in_shares(lacking));
        self.as_of = now;
        self.held = old.held;
    }

    /// Tokens that fit at all.
    pub fn capacity(&self) -> i64 {
        self.capacity_shares() / self.period.0
    }

    /// The burst in force, and whether it was learned.
    pub fn burst(&self) -> (Millis, bool) {
        match self.burst {
            Burst::Told(span) => (span, false),
            Burst::Learned { span, .. } => (span, true),
        }
    }

    /// The level in shares at `now`, in-flight production not yet taken off.
    pub fn shares(&self, now: Timestamp) -> i64 {
        let refill = self.rate.saturating_mul(now.since(self.as_of).0);
        self.level.saturating_add(refill).min(self.capacity_shares())
    }

    /// The level to be written down: without the refill that has not begun yet, so that time
    /// alone makes it right again.
    pub fn lasting_shares(&self, now: Timestamp) -> i64 {
        self.shares(now).saturating_sub(self.rate.saturating_mul(self.as_of.since(now).0))
    }

    /// Whole tokens that may be given out now; negative in debt.
    pub fn available(&self, now: Timestamp) -> i64 {
        self.shares(now).div_euclid(self.period.0).saturating_sub(self.held)
    }

    /// Tokens set aside for calls in flight.
    pub fn held(&self) -> i64 {
        self.held
    }

    /// Whether a call of this size may go: it fits, or it never would and the bucket is full.
    pub fn fits(&self, amount: i64, now: Timestamp) -> bool {
        amount <= self.available(now)
            || (amount > self.capacity()
                && self.held == 0
                && self.shares(now) == self.capacity_shares())
    }

    /// How long until refill alone lets a call of this size go; `None` when it never does
    /// while the calls in flight hold what they hold.
    pub fn wait(&self, amount: i64, now: Timestamp) -> Option<Millis> {
        if self.fits(amount, now) {
            return Some(Millis::ZERO);
        }
        let giant = amount > self.capacity();
        let wanted = self.in_shares(amount.saturating_add(self.held));
        let wanted = if giant && self.held == 0 { self.capacity_shares() } else { wanted };
        if wanted > self.capacity_shares() {
            return None;
        }
        let missing = wanted.saturating_sub(self.shares(now)).max(1);
        let not_begun = self.as_of.since(now).0;
        let refill = (missing.saturating_add(self.rate - 1) / self.rate).max(1);
        Some(Millis(refill.saturating_add(not_begun)))
    }

    /// Takes a call's charge.
    pub fn reserve(&mut self, charge: Charge, now: Timestamp) {
        self.touch(now);
        if charge.debit > 0 {
            self.hold_refill_back(now);
        }
        self.level = self.level.saturating_sub(self.in_shares(charge.debit));
        self.held = self.held.saturating_add(charge.held);
    }

    /// Sets aside again what a restored level does not contain: a call still in flight.
    pub fn adopt(&mut self, charge: Charge) {
        self.held = self.held.saturating_add(charge.held);
    }

    /// Ends a charge: `actual` is what the call took in the end.
    pub fn settle(&mut self, charge: Charge, actual: i64, now: Timestamp) {
        self.touch(now);
        self.held = self.held.saturating_sub(charge.held).max(0);
        let more = self.in_shares(actual.saturating_sub(charge.debit));
        self.level = self.level.saturating_sub(more).min(self.capacity_shares());
    }

    /// The provider refused: nothing is left, whatever the mirror says.
    ///
    /// When the mirror thought otherwise, an unknown burst is halved.
    pub fn empty(&mut self, now: Timestamp) {
        self.touch(now);
        let surprised = self.available(now) > 0;
        self.level = self.level.min(0);
        if let Burst::Learned { span, .. } = self.burst {
            let span = if surprised { Millis(span.0 / 2).max(SHORTEST_BURST) } else { span };
            self.burst = Burst::Learned { span, since: now, seen: 0 };
        }
    }

    /// Lowers the level to what the provider's headers say is left; never raises it.
    ///
    /// The provider's figure already lacks what the calls in flight have produced so far, so
    /// only what is below level − held is somebody else's doing.
    pub fn correct(&mut self, remaining: i64, tolerance: i64, now: Timestamp) {
        self.touch(now);
        if let Burst::Learned { seen, .. } = &mut self.burst {
            *seen = remaining.max(*seen);
        }
        let seen = self.in_shares(remaining.saturating_add(tolerance).saturating_add(self.held));
        self.level = self.level.min(seen);
    }

    /// Doubles an unknown burst after a quiet while. Returns whether it did.
    pub fn widen(&mut self, now: Timestamp) -> bool {
        let Burst::Learned { span, since, seen } = self.burst else {
            return false;
        };
        let more_seen = seen >= self.capacity().saturating_mul(2);
        let quiet = if more_seen { WIDEN_AFTER_SEEN } else { WIDEN_AFTER };
        if span >= LONGEST_BURST.min(self.period) || now.since(since) < quiet {
            return false;
        }
        self.touch(now);
        let span = Millis(span.0 * 2).min(LONGEST_BURST).min(self.period);
        self.burst = Burst::Learned { span, since: now, seen: 0 };
        true
    }

    /// The provider's bucket stays full until the call arrives, and refill into a full bucket is
    /// lost: the level must not exceed what will be there right after the arrival.
    fn hold_refill_back(&mut self, now: Timestamp) {
        let on_the_way = ON_THE_WAY.0.min(self.burst().0.0 / 4);
        let full_after = self.capacity_shares().saturating_sub(self.level) / self.rate;
        if full_after < on_the_way {
            self.as_of = self.as_of.max(now + Millis(on_the_way - full_after));
        }
    }

    fn touch(&mut self, now: Timestamp) {
        self.level = self.shares(now);
        self.as_of = self.as_of.max(now);
    }

    fn in_shares(&self, tokens: i64) -> i64 {
        tokens.saturating_mul(self.period.0)
    }

    fn capacity_shares(&self) -> i64 {
        let span = self.burst().0;
        // At least one token, else a tiny burst would stop everything for ever.
        self.rate.saturating_mul(span.0).max(self.period.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const T0: Timestamp = Timestamp(1_700_000_000_000);

    fn minute(rate: i64, burst_secs: i64) -> Bucket {
        Bucket::full(rate, Millis::MINUTE, Some(Millis::from_secs(burst_secs)), T0)
    }

    fn debit(amount: i64) -> Charge {
        Charge { debit: amount, held: 0 }
    }

    #[test]
    fn refill_is_exact_for_odd_rates() {
        let mut bucket = minute(7, 60);
        bucket.reserve(debit(7), T0);
        // 7 a minute is one in 8,571.43 ms; a thousand looks in between change nothing.
        for ms in (0..60_000).step_by(60) {
            let now = T0 + ON_THE_WAY + Millis(ms);
            bucket.reserve(debit(0), now);
            assert_eq!(bucket.available(now), 7 * ms / 60_000);
        }
        assert_eq!(bucket.available(T0 + ON_THE_WAY + Millis::MINUTE), 7);
    }

    #[test]
    fn debt_is_paid_by_refill_alone() {
        let mut bucket = minute(60, 60);
        bucket.reserve(debit(60), T0);
        bucket.settle(debit(60), 180, T0);
        assert_eq!(bucket.available(T0), -120);
        assert_eq!(bucket.available(T0 + ON_THE_WAY + Millis::MINUTE), -60);
        assert_eq!(bucket.wait(1, T0), Some(Millis(121_000 + ON_THE_WAY.0)));
    }

    #[test]
    fn a_call_in_flight_is_not_refilled_away() {
        let mut bucket = minute(600, 60);
        bucket.reserve(Charge { debit: 0, held: 500 }, T0);
        let later = T0 + Millis::HOUR;
        assert_eq!(bucket.available(later), 100);
        assert_eq!(bucket.wait(200, later), None, "only its end makes room");
        bucket.settle(Charge { debit: 0, held: 500 }, 300, later);
        assert_eq!(bucket.available(later), 300);
    }

    #[test]
    fn a_giant_goes_only_when_full_and_alone() {
        let mut bucket = minute(100, 60);
        assert!(bucket.fits(150, T0));
        bucket.reserve(Charge { debit: 0, held: 1 }, T0);
        assert!(!bucket.fits(150, T0));
        bucket.settle(Charge { debit: 0, held: 1 }, 1, T0);
        assert!(!bucket.fits(150, T0));
        let full = T0 + bucket.wait(150, T0).unwrap();
        assert!(bucket.fits(150, full));
    }

    #[test]
    fn time_backwards_refills_nothing() {
        let mut bucket = minute(60, 60);
        bucket.reserve(debit(60), T0);
        bucket.reserve(debit(0), T0 - Millis::HOUR);
        assert_eq!(bucket.available(T0), 0);
        assert_eq!(bucket.available(T0 + ON_THE_WAY + Millis::SECOND), 1);
    }

    #[test]
    fn what_is_written_down_is_right_again_by_time_alone() {
        let mut bucket = minute(600, 60);
        bucket.reserve(debit(600), T0);
        let early = T0 + Millis(100);
        let mut restored = minute(600, 60);
        restored.restore(bucket.lasting_shares(early), early, None);
        assert!(restored.available(early) <= bucket.available(early));
        for ms in [500, 600, 7_000, 70_000] {
            let now = T0 + Millis(ms);
            assert_eq!(restored.shares(now), bucket.shares(now), "{ms}");
        }
    }

    #[test]
    fn an_unknown_burst_starts_low_widens_and_halves() {
        let mut bucket = Bucket::full(1_200, Millis::MINUTE, None, T0);
        assert_eq!(bucket.capacity(), 100);
        assert!(!bucket.widen(T0 + Millis::SECOND));
        let later = T0 + WIDEN_AFTER;
        assert!(bucket.widen(later));
        assert_eq!(bucket.capacity(), 200);
        bucket.empty(later + Millis::from_secs(10));
        assert_eq!(bucket.capacity(), 100);
        assert_eq!(bucket.available(later + Millis::from_secs(10)), 0);
    }

    #[test]
    fn headers_that_show_more_widen_it_sooner() {
        let mut bucket = Bucket::full(1_200, Millis::MINUTE, None, T0);
        let later = T0 + WIDEN_AFTER_SEEN;
        bucket.correct(199, 0, T0);
        assert!(!bucket.widen(later));
        bucket.correct(200, 0, T0);
        assert!(bucket.widen(later));
        assert_eq!((bucket.capacity(), bucket.available(later)), (200, 100));
    }

    #[test]
    fn headers_only_lower() {
        let mut bucket = minute(1_000, 60);
        bucket.correct(2_000, 0, T0);
        assert_eq!(bucket.available(T0), 1_000);
        bucket.correct(300, 50, T0);
        assert_eq!(bucket.available(T0), 350);
    }

    proptest! {
        /// Whatever is planned by `fits` (giants aside) never takes more than
        /// capacity + rate × time in any stretch that starts at the beginning.
        #[test]
        fn never_over_capacity_plus_refill(
            rate in 1_i64..10_000,
            burst in 1_i64..60,
            steps in prop::collection::vec((0_i64..5_000, 1_i64..500), 1..200),
        ) {
            let mut bucket = minute(rate, burst);
            let (mut now, mut taken) = (T0, 0_i64);
            for (ms, amount) in steps {
                now = now + Millis(ms);
                if amount <= bucket.capacity() && bucket.fits(amount, now) {
                    bucket.reserve(debit(amount), now);
                    taken += amount;
                }
                let allowed = bucket.capacity() * 60_000 + rate * now.since(T0).0;
                prop_assert!(taken * 60_000 <= allowed.max(60_000 * bucket.capacity()) + 60_000);
                prop_assert!(bucket.available(now) >= 0);
            }
        }

        /// The wait is exact: at its end the call fits, a millisecond before it does not.
        #[test]
        fn wait_is_exact(rate in 1_i64..100_000, spent in 0_i64..200, amount in 1_i64..100) {
            let mut bucket = minute(rate.max(100), 60);
            let spent = spent * rate.max(100) / 100;
            bucket.reserve(debit(spent), T0);
            let wait = bucket.wait(amount, T0).unwrap();
            prop_assert!(bucket.fits(amount, T0 + wait));
            if wait > Millis::ZERO {
                prop_assert!(!bucket.fits(amount, T0 + wait - Millis(1)) );
            }
        }

        /// However long each call is on its way, the provider's own bucket always has enough.
        #[test]
        fn never_ahead_of_the_provider(
            calls in prop::collection::vec((0_i64..3_000, 1_i64..20, 0..=ON_THE_WAY.0), 1..200),
        ) {
            let mut mirror = Bucket::full(600, Millis::MINUTE, Some(Millis::from_secs(3)), T0);
            let mut now = T0;
            let mut arrivals: Vec<(Timestamp, i64)> = Vec::new();
            for (gap, amount, way) in calls {
                // Now and then it waits as long as it must, now and then it comes by chance.
                now = now + if gap < 1_500 { mirror.wait(amount, now).unwrap() } else { Millis(gap) };
                if mirror.fits(amount, now) {
                    mirror.reserve(debit(amount), now);
                    arrivals.push((now + Millis(way), amount));
                }
            }
            arrivals.sort();
            let (capacity, mut level, mut at) = (30 * 60_000, 30 * 60_000, T0);
            for (arrival, amount) in arrivals {
                level = (level + 600 * arrival.since(at).0).min(capacity) - amount * 60_000;
                at = arrival;
                prop_assert!(level >= 0, "{level}");
            }
        }

        /// reserved + settled + available is conserved, in whatever order calls end.
        #[test]
        fn conserved(calls in prop::collection::vec((0_i64..100, 0_i64..100, 0_i64..300), 1..50)) {
            let mut bucket = minute(1_000_000, 60);
            let start = bucket.available(T0);
            let mut used = 0;
            for (debit, held, _) in &calls {
                bucket.reserve(Charge { debit: *debit, held: *held }, T0);
            }
            for (debit, held, actual) in &calls {
                bucket.settle(Charge { debit: *debit, held: *held }, *actual, T0);
                used += actual;
            }
            prop_assert_eq!(bucket.held(), 0);
            prop_assert_eq!(bucket.available(T0), start - used);
        }
    }
}
