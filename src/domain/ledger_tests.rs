use super::*;
use crate::domain::attempt::{Answer, Failure, ObservedLimit, Usage};
use crate::domain::budget::{BudgetPer, BudgetSpec, Cap};
use crate::domain::limit::{Algorithm, OutputMode};
use crate::domain::reservation::CallSize;
use proptest::prelude::*;

/// Most tests have one call in flight.
const JOB: JobId = JobId(1);
const T0: Timestamp = Timestamp(1_700_000_000_000);
const MODEL: &str = "claude-sonnet-5";

fn spec(name: &str, limits: Vec<LimitSpec>) -> PoolSpec {
    PoolSpec {
        name: PoolName(name.into()),
        models: vec!["claude-*".into()],
        limits,
        output_mode: OutputMode::Realtime,
    }
}

fn limit(dimension: Dimension, per: Per, amount: i64) -> LimitSpec {
    let algorithm = Algorithm::Bucket { burst: Some(Millis::MINUTE) };
    LimitSpec { dimension, per, amount, algorithm, source: LimitSource::Configured }
}

fn minute(dimension: Dimension, amount: i64) -> LimitSpec {
    limit(dimension, Per::Minute, amount)
}

fn ledger(limits: Vec<LimitSpec>) -> Ledger {
    Ledger::new(vec![spec("pool", limits)], Vec::new(), T0)
}

fn call(ledger: &mut Ledger, input: i64, output: i64, now: Timestamp) -> Reservation {
    let size = CallSize {
        body_bytes: input * 2,
        max_tokens: output,
        expected_input: input,
        expected_output: output,
    };
    let pool = ledger.pool_of(MODEL, now);
    Reservation::new(&pool, &"q".into(), &MODEL.into(), size, now)
}

fn reply(outcome: Outcome, now: Timestamp) -> Reply {
    let http_status = match &outcome {
        Outcome::Completed(_) => Some(200),
        Outcome::Failed(_) => Some(429),
        Outcome::Unknown(_) => None,
    };
    Reply {
        outcome,
        http_status,
        request_id: None,
        limits: Vec::new(),
        headers: None,
        first_byte_at: Some(now),
        done_at: now,
    }
}

fn answer(input: i64, output: i64) -> Outcome {
    let usage = Usage { input_tokens: input, output_tokens: output, ..Usage::default() };
    Outcome::Completed(Box::new(Answer {
        body: String::new(),
        text: String::new(),
        stop_reason: None,
        model: None,
        usage: Some(usage),
        inference_geo: None,
    }))
}

fn fail(kind: FailureKind) -> Outcome {
    Outcome::Failed(Failure { kind, class: "x".into(), message: String::new() })
}

fn end(ledger: &mut Ledger, call: &Reservation, outcome: Outcome, now: Timestamp) {
    let reply = reply(outcome, now);
    ledger.end(JOB, call, &reply, &Settlement::of(&reply, call), Unit::ZERO, now);
}

fn available(ledger: &Ledger, now: Timestamp) -> Vec<i64> {
    ledger.pools[0].meters.iter().map(|meter| meter.available(now)).collect()
}

#[test]
fn a_call_takes_what_it_uses_and_no_more() {
    let limits = vec![
        minute(Dimension::Requests, 100),
        minute(Dimension::InputTokens, 10_000),
        minute(Dimension::OutputTokens, 10_000),
        limit(Dimension::Tokens, Per::Day, 50_000),
    ];
    let mut ledger = ledger(limits);
    let one = call(&mut ledger, 500, 900, T0);
    assert_eq!(ledger.check(&one, false, T0), Check::Go);
    ledger.reserve(JOB, &one);
    assert_eq!(available(&ledger, T0), [99, 9_500, 9_100, 48_600]);
    end(&mut ledger, &one, answer(400, 100), T0);
    assert_eq!(available(&ledger, T0), [99, 9_600, 9_900, 49_500]);
}

#[test]
fn limits_are_taken_from_the_first_headers() {
    let mut ledger = ledger(Vec::new());
    let first = call(&mut ledger, 10, 10, T0);
    ledger.reserve(JOB, &first);
    let second = call(&mut ledger, 10, 10, T0);
    assert!(
        matches!(ledger.check(&second, false, T0), Check::Wait(b) if b.reason == Reason::Concurrency)
    );
    let seen =
        |dimension, limit| ObservedLimit { dimension, limit, remaining: None, until_full: None };
    let mut first_reply = reply(answer(10, 10), T0);
    first_reply.limits = vec![
        seen(Dimension::Requests, 4_000),
        seen(Dimension::InputTokens, 400_000),
        seen(Dimension::OutputTokens, 80_000),
        seen(Dimension::Tokens, 480_000),
    ];
    ledger.end(JOB, &first, &first_reply, &Settlement::of(&first_reply, &first), Unit::ZERO, T0);
    let learned: Vec<(Dimension, i64)> =
        ledger.pools[0].spec.limits.iter().map(|limit| (limit.dimension, limit.amount)).collect();
    assert_eq!(
        learned,
        [
            (Dimension::Requests, 4_000),
            (Dimension::InputTokens, 400_000),
            (Dimension::OutputTokens, 80_000)
        ],
        "the sum of both halves is no limit of its own"
    );
    assert_eq!(ledger.check(&second, false, T0), Check::Go);
}

/// The client lets counts through up to this.
#[test]
fn the_highest_limits_in_headers_break_nothing() {
    let most = 1_000_000_000_000;
    for (limit, remaining) in [(most, most), (most, 0), (1, most), (7, 9)] {
        let mut ledger = ledger(Vec::new());
        let one = call(&mut ledger, 10, 10, T0);
        for round in 0..4 {
            let now = T0 + Millis(round * 40_000);
            ledger.reserve(JOB, &one);
            let mut seen = reply(answer(10, 10), now);
            seen.limits = [Dimension::Requests, Dimension::InputTokens, Dimension::OutputTokens]
                .map(|dimension| ObservedLimit {
                    dimension,
                    limit,
                    remaining: Some(remaining),
                    until_full: None,
                })
                .into();
            ledger.end(JOB, &one, &seen, &Settlement::of(&seen, &one), Unit::ZERO, now);
            ledger.foresee(now);
            ledger.tick(now);
        }
        let next = ledger.check(&one, false, T0 + Millis::HOUR);
        assert_eq!(next, Check::Go, "{limit} {remaining}");
    }
}

#[test]
fn a_learned_limit_follows_the_provider() {
    let mut ledger = ledger(Vec::new());
    let one = call(&mut ledger, 10, 10, T0);
    for (amount, capacity) in [(1_200, 100), (6_000, 500), (600, 50)] {
        ledger.reserve(JOB, &one);
        let mut seen = reply(answer(1, 1), T0);
        let dimension = Dimension::Requests;
        seen.limits =
            vec![ObservedLimit { dimension, limit: amount, remaining: None, until_full: None }];
        ledger.end(JOB, &one, &seen, &Settlement::of(&seen, &one), Unit::ZERO, T0);
        let pool = &ledger.pools[0];
        assert_eq!((pool.spec.limits[0].amount, pool.meters[0].capacity()), (amount, capacity));
        assert_eq!(pool.meters.len(), 1);
    }
}

#[test]
fn without_any_headers_trust_grows_with_each_answer() {
    let mut ledger = ledger(Vec::new());
    let one = call(&mut ledger, 10, 10, T0);
    for _ in 0..3 {
        ledger.reserve(JOB, &one);
        end(&mut ledger, &one, answer(1, 1), T0);
    }
    let mut out = 0;
    while ledger.check(&one, false, T0) == Check::Go {
        ledger.reserve(JOB, &one);
        out += 1;
    }
    assert_eq!(out, 4);
}

#[test]
fn a_429_empties_the_limit_it_names_and_closes_the_pool() {
    let limits = vec![minute(Dimension::Requests, 100), minute(Dimension::OutputTokens, 10_000)];
    let mut ledger = ledger(limits);
    let one = call(&mut ledger, 10, 10, T0);
    ledger.reserve(JOB, &one);
    let limited = FailureKind::RateLimited {
        retry_after: Some(Millis::from_secs(7)),
        limit: Some(Dimension::OutputTokens),
        ramp: false,
    };
    end(&mut ledger, &one, fail(limited), T0);
    assert_eq!(available(&ledger, T0), [100, 0], "the refused call itself counts nothing");
    let soon = T0 + Millis::from_secs(6);
    assert!(matches!(ledger.check(&one, false, soon), Check::Wait(b) if b.reason == Reason::Pause));
    let later = T0 + Millis::from_secs(7);
    assert_eq!(ledger.check(&one, false, later), Check::Go);
}

#[test]
fn a_spend_limit_stops_everything_until_then_and_a_bad_key_until_somebody_acts() {
    let mut ledger = ledger(vec![minute(Dimension::Requests, 100)]);
    let one = call(&mut ledger, 10, 10, T0);
    ledger.reserve(JOB, &one);
    let until = T0 + Millis::DAY;
    end(&mut ledger, &one, fail(FailureKind::AccountParked { until: Some(until) }), T0);
    let blocked = Blocked { reason: Reason::Account, ready_at: Some(until) };
    assert_eq!(ledger.check(&one, false, T0), Check::Wait(blocked));
    assert_eq!(ledger.check(&one, false, until), Check::Go);
    ledger.account.open(T0);
    ledger.reserve(JOB, &one);
    end(&mut ledger, &one, fail(FailureKind::KeyRejected), T0);
    let blocked = Blocked { reason: Reason::Key, ready_at: None };
    assert_eq!(ledger.check(&one, false, T0 + Millis::DAY), Check::Wait(blocked));
    ledger.account.open(T0);
    assert_eq!(ledger.check(&one, false, T0), Check::Go);
}

#[test]
fn others_on_the_same_key_lower_the_level() {
    let mut ledger = ledger(vec![minute(Dimension::Requests, 1_000)]);
    let one = call(&mut ledger, 10, 10, T0);
    ledger.reserve(JOB, &one);
    let mut seen = reply(answer(1, 1), T0);
    let dimension = Dimension::Requests;
    seen.limits =
        vec![ObservedLimit { dimension, limit: 1_000, remaining: Some(300), until_full: None }];
    ledger.end(JOB, &one, &seen, &Settlement::of(&seen, &one), Unit::ZERO, T0);
    assert_eq!(
        available(&ledger, T0),
        [301],
        "the header, and one that may just have been on its way"
    );
}

/// Without limits of its own a pool waits for them no longer than for a first token.
#[test]
fn headers_of_a_stream_count_when_they_come_and_once() {
    let mut ledger = ledger(Vec::new());
    let one = call(&mut ledger, 10, 10, T0);
    ledger.reserve(JOB, &one);
    let (dimension, remaining) = (Dimension::Requests, Some(30));
    let head = |limit| ObservedLimit { dimension, limit, remaining, until_full: None };
    let soon = T0 + Millis::SECOND;
    let progress = Progress { first_token_at: soon, bytes: 1, limits: [head(600)].into() };
    ledger.see(&[(JOB, progress)], soon);
    assert_eq!(available(&ledger, soon), [31]);
    let later = T0 + Millis::from_secs(300);
    let before = available(&ledger, later);
    let mut seen = reply(answer(1, 1), later);
    seen.limits = vec![head(600)];
    ledger.end(JOB, &one, &seen, &Settlement::of(&seen, &one), Unit::ZERO, later);
    assert_eq!(available(&ledger, later), before, "they are five minutes old by now");
}

#[test]
fn a_stated_limit_is_lowered_by_headers_and_never_raised() {
    let mut ledger = ledger(vec![minute(Dimension::Requests, 600)]);
    for (limit, amount, source) in [
        (300, 300, LimitSource::Headers),
        (600, 600, LimitSource::Configured),
        (900, 600, LimitSource::Configured),
    ] {
        let one = call(&mut ledger, 10, 10, T0);
        ledger.reserve(JOB, &one);
        let mut seen = reply(answer(1, 1), T0);
        let dimension = Dimension::Requests;
        seen.limits = vec![ObservedLimit { dimension, limit, remaining: None, until_full: None }];
        ledger.end(JOB, &one, &seen, &Settlement::of(&seen, &one), Unit::ZERO, T0);
        let spec = ledger.pools[0].meters[0].spec;
        assert_eq!((spec.amount, spec.source), (amount, source));
    }
}

#[test]
fn a_smaller_limit_begins_lacking_what_the_larger_one_lacked() {
    let mut ledger = ledger(vec![minute(Dimension::OutputTokens, 10_000)]);
    let settled = call(&mut ledger, 10, 3_000, T0);
    ledger.reserve(JOB, &settled);
    end(&mut ledger, &settled, answer(1, 3_000), T0);
    let open = call(&mut ledger, 10, 500, T0);
    ledger.reserve(JOB, &open);
    let pools = vec![spec("pool", vec![minute(Dimension::OutputTokens, 5_000)])];
    ledger.reconfigure(pools, Vec::new(), &[(JOB, &open)], T0);
    assert_eq!(available(&ledger, T0), [1_500]);
    end(&mut ledger, &open, answer(1, 100), T0);
    assert_eq!(available(&ledger, T0), [1_900]);
}

#[test]
fn a_window_under_another_limit_goes_on_counting() {
    let mut ledger = ledger(vec![limit(Dimension::Requests, Per::Day, 3)]);
    let one = call(&mut ledger, 10, 10, T0);
    ledger.reserve(JOB, &one);
    end(&mut ledger, &one, answer(1, 1), T0);
    ledger.reserve(JOB, &one);
    let pools = vec![spec("pool", vec![limit(Dimension::Requests, Per::Day, 5)])];
    ledger.reconfigure(pools, Vec::new(), &[(JOB, &one)], T0);
    assert_eq!(available(&ledger, T0), [3], "one settled, one in flight");
    end(&mut ledger, &one, answer(1, 1), T0);
    assert_eq!(available(&ledger, T0), [3]);
}

#[test]
fn the_old_keys_refusals_do_not_shut_the_gate_for_the_new_one() {
    let mut ledger = ledger(vec![minute(Dimension::Requests, 100)]);
    let old = call(&mut ledger, 10, 10, T0);
    ledger.reserve(JOB, &old);
    let later = T0 + Millis::SECOND;
    ledger.account.open(later);
    end(&mut ledger, &old, fail(FailureKind::KeyRejected), later);
    assert_eq!(ledger.check(&old, false, later), Check::Go);
}

#[test]
fn calls_that_we_break_off_say_nothing_of_the_provider() {
    let mut ledger = ledger(vec![minute(Dimension::Requests, 100)]);
    let one = call(&mut ledger, 10, 10, T0);
    for _ in 0..30 {
        ledger.reserve(JOB, &one);
        let broken_off = Failure {
            kind: FailureKind::Interrupted,
            class: "interrupted".into(),
            message: String::new(),
        };
        end(&mut ledger, &one, Outcome::Unknown(broken_off), T0);
    }
    assert_eq!(ledger.check(&one, false, T0), Check::Go);
}

fn refusal(limit: Option<Dimension>, ramp: bool) -> Outcome {
    fail(FailureKind::RateLimited { retry_after: Some(Millis::SECOND), limit, ramp })
}

#[test]
fn a_limit_that_refused_stays_empty_although_the_call_gives_its_part_back() {
    let limits = vec![minute(Dimension::Requests, 100), minute(Dimension::InputTokens, 10_000)];
    let mut ledger = ledger(limits);
    let one = call(&mut ledger, 2_000, 10, T0);
    ledger.reserve(JOB, &one);
    end(&mut ledger, &one, refusal(Some(Dimension::InputTokens), false), T0);
    assert_eq!(available(&ledger, T0), [100, 0]);
}

#[test]
fn a_refusal_that_nobody_expected_halves_an_unknown_burst_while_calls_write() {
    let spec = LimitSpec {
        algorithm: Algorithm::Bucket { burst: None },
        ..minute(Dimension::OutputTokens, 60_000)
    };
    let mut ledger = ledger(vec![spec]);
    let capacity = ledger.pools[0].meters[0].capacity();
    // More is expected of the calls in flight than there is, but it is not written yet.
    for number in 0..20 {
        let one = call(&mut ledger, 10, capacity / 10, T0);
        ledger.reserve(JobId(100 + number), &one);
    }
    let one = call(&mut ledger, 10, 10, T0);
    ledger.reserve(JOB, &one);
    end(&mut ledger, &one, refusal(Some(Dimension::OutputTokens), false), T0);
    assert_eq!(ledger.pools[0].meters[0].capacity(), capacity / 2);
}

#[test]
fn a_ramp_limit_lowers_the_slope_and_no_level() {
    let mut ledger = ledger(vec![minute(Dimension::Requests, 6_000)]);
    let one = call(&mut ledger, 10, 10, T0);
    for number in 0..100 {
        ledger.reserve(JobId(100 + number), &one);
    }
    ledger.reserve(JOB, &one);
    let before = available(&ledger, T0)[0];
    end(&mut ledger, &one, refusal(None, true), T0);
    assert_eq!(available(&ledger, T0), [before + 1], "the refused call gave its own back");
    // The pause is over, a probe went through, and calls begin at half of the rate before.
    let later = T0 + Millis::from_secs(3);
    ledger.reserve(JOB, &Reservation { reserved_at: later, ..one.clone() });
    end(&mut ledger, &one, answer(10, 10), later);
    let blocked = ledger.check(&one, false, later);
    assert!(
        matches!(blocked, Check::Wait(Blocked { reason: Reason::Provider, ready_at: Some(_) })),
        "{blocked:?}"
    );
}

#[test]
fn enough_calls_in_flight_stop_the_pool_and_name_the_limit() {
    let mut ledger = ledger(vec![minute(Dimension::Requests, 600)]);
    for number in 0..20 {
        let one = call(&mut ledger, 10, 10, T0);
        ledger.reserve(JobId(number), &one);
        let later = T0 + Millis::SECOND;
        let reply = reply(answer(10, 10), later);
        let settlement = Settlement::of(&reply, &one);
        ledger.end(JobId(number), &one, &reply, &settlement, Unit::ZERO, later);
    }
    // Ten a second, and each takes a second: twenty are enough, and those that are stored up.
    let later = T0 + Millis::SECOND;
    let one = Reservation { reserved_at: later, ..call(&mut ledger, 10, 10, later) };
    let mut number = 100;
    while ledger.check(&one, false, later) == Check::Go {
        ledger.reserve(JobId(number), &one);
        number += 1;
    }
    assert!(available(&ledger, later)[0] > 0, "the limit itself would let it go");
    assert_eq!(ledger.check(&one, false, later), Check::Enough(Dimension::Requests));
}

#[test]
fn a_days_limit_counts_calls_in_flight_in_full_and_is_used_to_its_end() {
    let mut ledger = ledger(vec![limit(Dimension::Tokens, Per::Day, 10_000)]);
    let one = call(&mut ledger, 1_000, 8_000, T0);
    ledger.reserve(JOB, &one);
    let later = T0 + Millis::HOUR;
    ledger.foresee(later);
    let small = call(&mut ledger, 500, 500, later);
    assert_eq!(ledger.check(&small, false, later), Check::Go, "9,000 and 1,000");
    let large = call(&mut ledger, 500, 501, later);
    assert!(matches!(ledger.check(&large, false, later), Check::Wait(_)));
}

#[test]
fn a_new_limit_knows_the_calls_in_flight() {
    let mut ledger = ledger(vec![minute(Dimension::Requests, 100)]);
    let open = call(&mut ledger, 10, 500, T0);
    ledger.reserve(JOB, &open);
    let limits = vec![minute(Dimension::Requests, 100), minute(Dimension::OutputTokens, 1_000)];
    ledger.reconfigure(vec![spec("pool", limits)], Vec::new(), &[(JOB, &open)], T0);
    assert_eq!(available(&ledger, T0), [99, 500]);
}

#[test]
fn what_was_spent_before_a_restart_still_counts() {
    let limits = vec![
        minute(Dimension::Requests, 100),
        LimitSpec { algorithm: Algorithm::Window, ..minute(Dimension::OutputTokens, 1_000) },
        limit(Dimension::Tokens, Per::Day, 9_000),
    ];
    let mut ledger = ledger(limits);
    let amounts = Amounts { requests: 1, input_tokens: 100, output_tokens: 400 };
    let now = T0 + Millis::HOUR;
    for ago in [Millis::from_secs(20), Millis::from_secs(90)] {
        let past = Past { model: MODEL, amounts, counted_at: now - ago };
        ledger.remember(past, |_, _| false, now);
    }
    assert_eq!(available(&ledger, now), [99, 600, 8_000]);
    let past = Past { model: MODEL, amounts, counted_at: now };
    ledger.remember(past, |_, _| true, now);
    assert_eq!(available(&ledger, now), [99, 200, 7_500], "a restored bucket knows it already");
}

proptest! {
    /// Whatever the order of starts and ends, at the end nothing is set aside, no pool has calls
    /// out, and budgets hold exactly what was used.
    #[test]
    fn everything_settles_exactly_once(
        calls in prop::collection::vec((1_i64..500, 1_i64..500, 0_u8..4, any::<prop::sample::Index>()), 1..60),
    ) {
        let budget = BudgetSpec {
            cap: Cap::Tokens(i64::MAX),
            per: BudgetPer::Total,
            queue: None,
            timezone: "UTC".into(),
            allow_unbounded: false,
        };
        let mut ledger = ledger(vec![
            minute(Dimension::OutputTokens, 1_000_000),
            limit(Dimension::Tokens, Per::Hour, 1_000_000),
        ]);
        ledger.budgets = vec![Budget::new(budget, Timestamp(i64::MIN), Timestamp(i64::MAX), 0)];
        let mut open: Vec<(JobId, Reservation, u8)> = Vec::new();
        let mut used = 0;
        let finish = |ledger: &mut Ledger, (job, call, how): (JobId, Reservation, u8)| {
            let outcome = match how {
                0 => answer(call.expected.input_tokens / 2, call.expected.output_tokens / 2),
                1 => Outcome::Unknown(Failure {
                    kind: FailureKind::Interrupted,
                    class: "x".into(),
                    message: String::new(),
                }),
                2 => fail(FailureKind::Permanent),
                _ => fail(FailureKind::Overloaded { retry_after: None }),
            };
            let reply = reply(outcome, T0);
            let settlement = Settlement::of(&reply, &call);
            ledger.settle(job, &call, &settlement, T0);
            settlement.tokens
        };
        for (number, (input, output, how, which)) in (0..).zip(calls) {
            let one = call(&mut ledger, input, output, T0);
            ledger.reserve(JobId(number), &one);
            open.push((JobId(number), one, how));
            if how % 2 == 0 {
                let at = which.index(open.len());
                used += finish(&mut ledger, open.swap_remove(at));
            }
        }
        for one in open {
            used += finish(&mut ledger, one);
        }
        prop_assert_eq!(ledger.pools[0].in_flight, 0);
        for meter in &ledger.pools[0].meters {
            match &meter.level {
                Level::Bucket(bucket) => prop_assert_eq!(bucket.held(), 0),
                Level::Window(window) => prop_assert_eq!(window.in_flight(), 0),
            }
        }
        let sum = ledger.budgets[0].current();
        prop_assert_eq!((sum.spent, sum.reserved), (used, 0));
    }
}
