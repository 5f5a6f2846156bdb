use super::*;
use proptest::prelude::*;

fn at_once(tokens: i64, at: Timestamp) -> Draw {
    Draw { from: at, to: at, tokens }
}

/// Headers without a `reset`.
fn left(remaining: i64, rounding: i64) -> Reading {
    Reading { remaining, until_full: None, rounding, unseen: 0 }
}

const T0: Timestamp = Timestamp(1_700_000_000_000);

fn minute(rate: i64, burst_secs: i64) -> Bucket {
    Bucket::full(rate, Millis::MINUTE, Some(Millis::from_secs(burst_secs)), T0)
}

#[test]
fn refill_is_exact_for_odd_rates() {
    let mut bucket = minute(7, 60);
    bucket.reserve(7, T0);
    // 7 a minute is one in 8,571.43 ms; a thousand looks in between change nothing.
    for ms in (0..60_000).step_by(60) {
        let now = T0 + ON_THE_WAY + Millis(ms);
        bucket.reserve(0, now);
        assert_eq!(bucket.available(now), 7 * ms / 60_000);
    }
    assert_eq!(bucket.available(T0 + ON_THE_WAY + Millis::MINUTE), 7);
}

#[test]
fn debt_is_paid_by_refill_alone() {
    let mut bucket = minute(60, 60);
    bucket.reserve(60, T0);
    bucket.settle(60, 180, T0);
    assert_eq!(bucket.available(T0), -120);
    assert_eq!(bucket.available(T0 + ON_THE_WAY + Millis::MINUTE), -60);
    assert_eq!(bucket.wait(1, T0), Millis(121_000 + ON_THE_WAY.0));
}

/// Tokens by the moments ahead: `per_second` until `all` are there.
fn curve(per_second: f64, all: f64) -> Curve {
    Curve::of(|ahead| (real(ahead.0) / 1_000.0 * per_second).min(all))
}

#[test]
fn output_may_go_as_long_as_the_level_stays_above_the_margin() {
    // 10 a second, five seconds' worth.
    let bucket = minute(600, 5);
    assert_eq!(bucket.wait_for_output(0, &curve(12.0, 200.0), 0, T0), Millis::ZERO);
    assert!(bucket.wait_for_output(0, &curve(60.0, 200.0), 0, T0) > Millis::ZERO);
    // What is written as fast as it refills never empties it, however much it is.
    assert_eq!(bucket.wait_for_output(0, &curve(10.0, 1e6), 0, T0), Millis::ZERO);
    assert!(bucket.wait_for_output(45, &curve(10.0, 1e6), 10, T0) > Millis::ZERO);
}

#[test]
fn refill_into_a_full_bucket_is_not_counted_on() {
    let bucket = minute(600, 5);
    // Nothing for eight seconds, then 130 at once: the 80 that came before are lost.
    let late = Curve::of(|ahead| if ahead.0 <= 8_000 { 0.0 } else { 130.0 });
    assert!(bucket.wait_for_output(0, &late, 0, T0) > Millis::ZERO);
}

#[test]
fn the_wait_for_output_is_long_enough() {
    let mut bucket = minute(600, 60);
    bucket.draw(at_once(590, T0));
    let wanted = curve(40.0, 90.0);
    let wait = bucket.wait_for_output(0, &wanted, 5, T0);
    assert!(wait > Millis::ZERO);
    assert_eq!(bucket.wait_for_output(0, &wanted, 5, T0 + wait), Millis::ZERO);
}

#[test]
fn a_giant_goes_only_when_full() {
    let mut bucket = minute(100, 60);
    assert!(bucket.fits(150, T0));
    bucket.draw(at_once(1, T0));
    assert!(!bucket.fits(150, T0));
    let full = T0 + bucket.wait(150, T0);
    assert!(bucket.fits(150, full));
}

#[test]
fn time_backwards_refills_nothing() {
    let mut bucket = minute(60, 60);
    bucket.reserve(60, T0);
    bucket.reserve(0, T0 - Millis::HOUR);
    assert_eq!(bucket.available(T0), 0);
    assert_eq!(bucket.available(T0 + ON_THE_WAY + Millis::SECOND), 1);
}

#[test]
fn what_is_written_down_is_right_again_by_time_alone() {
    let mut bucket = minute(600, 60);
    bucket.reserve(600, T0);
    let early = T0 + Millis(100);
    let mut restored = minute(600, 60);
    restored.restore(bucket.lasting_shares(0, early), early, None);
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
    bucket.empty(later + Millis::from_secs(10), later + Millis::from_secs(10));
    assert_eq!(bucket.capacity(), 100);
    assert_eq!(bucket.available(later + Millis::from_secs(10)), 0);
}

#[test]
fn headers_that_show_more_widen_it_sooner() {
    let mut bucket = Bucket::full(1_200, Millis::MINUTE, None, T0);
    let later = T0 + WIDEN_AFTER_SEEN;
    bucket.correct(left(199, 0), None, T0);
    assert!(!bucket.widen(later));
    bucket.correct(left(200, 0), None, T0);
    assert!(bucket.widen(later));
    assert_eq!((bucket.capacity(), bucket.available(later)), (200, 100));
}

#[test]
fn the_same_drift_in_many_headers_is_corrected_once() {
    let mut bucket = minute(1_000, 60);
    let mark = bucket.mark(T0);
    for _ in 0..20 {
        bucket.correct(left(600, 0), Some(mark), T0);
    }
    assert_eq!(bucket.available(T0), 600);
}

#[test]
fn headers_of_either_moment_are_no_drift() {
    let mut bucket = minute(1_000, 60);
    let mark = bucket.mark(T0);
    bucket.draw(at_once(400, T0));
    for remaining in [1_000, 600, 700] {
        bucket.correct(left(remaining, 0), Some(mark), T0);
    }
    assert_eq!((bucket.available(T0), bucket.others()), (600, 0));
}

#[test]
fn headers_only_lower() {
    let mut bucket = minute(1_000, 60);
    bucket.correct(left(2_000, 0), None, T0);
    assert_eq!(bucket.available(T0), 1_000);
    bucket.correct(left(300, 50), None, T0);
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
                bucket.reserve(amount, now);
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
        bucket.reserve(spent, T0);
        let wait = bucket.wait(amount, T0);
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
            now = now + if gap < 1_500 { mirror.wait(amount, now) } else { Millis(gap) };
            if mirror.fits(amount, now) {
                mirror.reserve(amount, now);
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

    /// taken + settled + available is conserved, in whatever order calls end.
    #[test]
    fn conserved(calls in prop::collection::vec((0_i64..100, 0_i64..100, 0_i64..300), 1..50)) {
        let mut bucket = minute(1_000_000, 60);
        let start = bucket.available(T0);
        let mut used = 0;
        for (debit, written, _) in &calls {
            bucket.reserve(*debit, T0);
            bucket.draw(at_once(*written, T0));
        }
        for (debit, written, actual) in &calls {
            bucket.settle(debit + written, *actual, T0);
            used += actual;
        }
        prop_assert_eq!(bucket.available(T0), start - used);
    }

    /// A client that uses the same key shows in rounded headers, and is left its part.
    #[test]
    fn others_are_seen_through_rounding(theirs in 5_i64..60, seed in 0_i64..1_000) {
        let mut mirror = minute(80_000, 60);
        let mut truth = minute(80_000, 60);
        mirror.draw(at_once(40_000, T0));
        truth.draw(at_once(40_000, T0));
        let rate = 80_000 * theirs / 100;
        for step in 1..=900 {
            let now = T0 + Millis(step * 100);
            truth.draw(at_once(rate / 600, now));
            // We take as much as keeps the mirrored level where it is.
            let ours = (mirror.available(now) - 39_000 + (seed + step * 37) % 900).max(0);
            mirror.draw(at_once(ours, now));
            truth.draw(at_once(ours, now));
            let mark = mirror.mark(now);
            let rounded = (truth.available(now) + 500).div_euclid(1_000) * 1_000;
            mirror.correct(left(rounded, 500), Some(mark), now);
        }
        let end = T0 + Millis(90_000);
        let apart = mirror.available(end) - truth.available(end);
        prop_assert!(apart < 600, "the mirror is {apart} above the truth");
        let seen = mirror.others();
        prop_assert!((seen - rate).abs() < 8_000, "{seen} instead of {rate}");
    }
}

#[test]
fn output_of_minutes_is_taken_out_of_what_flows_in() {
    let mut bucket = minute(60_000, 10);
    let later = T0 + Millis::from_secs(180);
    bucket.draw(Draw { from: T0, to: later, tokens: 180_000 });
    assert_eq!(bucket.available(later), 10_000, "no more was written than flowed in");
    bucket.draw(at_once(180_000, later));
    assert_eq!(bucket.available(later), -170_000, "all of it at the end would be a debt");
}

#[test]
fn a_bucket_that_holds_less_is_nobodys_use() {
    let mut bucket = Bucket::full(60_000, Millis::MINUTE, None, T0);
    for second in 1..=300 {
        let now = T0 + Millis::from_secs(second);
        let until_full = Some(Millis(if second % 2 == 0 { 400 } else { 1_000 }));
        bucket.correct(
            Reading { remaining: 1_600, until_full, rounding: 50, unseen: 0 },
            None,
            now,
        );
        bucket.widen(now);
    }
    let later = T0 + Millis::from_secs(400);
    assert_eq!(bucket.burst(), (Millis(2_000), true));
    assert_eq!((bucket.available(later), bucket.others()), (2_000, 0));
    bucket.empty(later, later);
    assert_eq!(bucket.burst(), (Millis(1_000), true));
}
