use super::*;
use proptest::prelude::*;

const QUEUES: [&str; 4] = ["a", "b", "c", "d"];
/// What one queue may be ahead of another, in calls of the largest size; each has one that is
/// being counted.
const CALLS_AHEAD: i64 = 3;
const TOKENS_MAX: i64 = 500;

fn pool(name: &str) -> PoolName {
    PoolName(name.into())
}

fn shares(weights: &[(&str, i64)]) -> Shares {
    let mut shares = Shares::default();
    let policy =
        |weight: i64| QueuePolicy { weight_milli: weight * 1_000, ..QueuePolicy::default() };
    let policies = weights.iter().map(|(name, weight)| (Arc::from(*name), policy(*weight)));
    shares.set_policies(policies.collect(), false);
    shares
}

/// The next of those that can be served, in the pool of each.
fn next<'a>(shares: &Shares, queues: &[(&'a str, &'a str)]) -> (&'a str, &'a str) {
    let turn = |(queue, of): &&(&str, &str)| shares.turn(queue, &pool(of), 0);
    *queues.iter().min_by_key(turn).unwrap()
}

fn call(shares: &mut Shares, (queue, of): (&str, &str), expected: i64, tokens: i64) {
    shares.start(&queue.into(), &pool(of), 0, expected);
    shares.end(&queue.into(), &pool(of), expected, tokens);
}

/// Serves so many calls of 100 tokens and gives what each got.
fn serve(shares: &mut Shares, queues: &[(&str, &str)], calls: usize) -> BTreeMap<String, i64> {
    let mut served = BTreeMap::new();
    for _ in 0..calls {
        let one = next(shares, queues);
        call(shares, one, 100, 100);
        *served.entry(one.0.to_owned()).or_default() += 100;
    }
    served
}

#[test]
fn tokens_follow_weights() {
    let mut shares = shares(&[("a", 3), ("b", 1)]);
    let mut served = BTreeMap::from([("a", 0_i64), ("b", 0)]);
    for turn in 0..4_000_i64 {
        let one = next(&shares, &[("a", "p"), ("b", "p")]);
        let tokens = 50 + (turn * 37) % 400;
        call(&mut shares, one, tokens, tokens);
        *served.get_mut(one.0).unwrap() += tokens;
    }
    let share = served["a"] * 100 / (served["a"] + served["b"]);
    assert!((74..=76).contains(&share), "{share}");
}

/// What was expected decides the order only until it is known what was used.
#[test]
fn a_queue_whose_calls_are_overestimated_gets_its_share() {
    let mut shares = shares(&[]);
    let mut served = BTreeMap::from([("a", 0_i64), ("b", 0)]);
    let mut out: Vec<(&str, i64)> = Vec::new();
    for _ in 0..4_000 {
        let (queue, _) = next(&shares, &[("a", "p"), ("b", "p")]);
        let expected = if queue == "a" { 1_000 } else { 100 };
        shares.start(&queue.into(), &pool("p"), 0, expected);
        *served.get_mut(queue).unwrap() += 100;
        out.push((queue, expected));
        // Eight calls are out at a time.
        if out.len() == 8 {
            let (queue, expected) = out.remove(0);
            shares.end(&queue.into(), &pool("p"), expected, 100);
        }
    }
    let share = served["a"] * 100 / (served["a"] + served["b"]);
    assert!((45..=55).contains(&share), "{share}");
}

/// Whatever is out, and however wrong the estimates are.
#[test]
fn tokens_follow_weights_when_every_estimate_is_wrong() {
    for (of_three, of_one) in [(552, 552), (552, 100), (100, 552), (20, 20), (552, 20)] {
        let mut shares = shares(&[("three", 3), ("one", 1)]);
        let mut served = BTreeMap::from([("three", 0_i64), ("one", 0)]);
        let mut out: Vec<(&str, i64, i64)> = Vec::new();
        for turn in 0..4_000_i64 {
            let (queue, _) = next(&shares, &[("three", "p"), ("one", "p")]);
            let expected = if queue == "three" { of_three } else { of_one };
            let tokens = 60 + (turn * 37) % 200;
            shares.start(&queue.into(), &pool("p"), 0, expected);
            *served.get_mut(queue).unwrap() += tokens;
            out.push((queue, expected, tokens));
            if out.len() == 8 {
                let (queue, expected, tokens) = out.remove(0);
                shares.end(&queue.into(), &pool("p"), expected, tokens);
            }
        }
        let share = served["three"] * 100 / (served["three"] + served["one"]);
        assert!((74..=76).contains(&share), "{share} {of_three} {of_one}");
    }
}

#[test]
fn idling_earns_nothing_and_working_ahead_is_not_forgotten() {
    let mut shares = shares(&[]);
    call(&mut shares, ("busy", "p"), 1_000_000, 1_000_000);
    shares.set_active(&["late".into()].into());
    let turn = |queue: &str| shares.turn(queue, &pool("p"), 0);
    assert!(turn("late") < turn("busy"), "it got a million just now");
    let both = [("busy", "p"), ("late", "p")];
    let served = serve(&mut shares, &both, 30_000);
    assert_eq!(served["late"] - served["busy"], 1_000_000, "that, and no more");
}

/// The first rule took the queue that was furthest behind, which may be one that cannot run.
#[test]
fn a_newcomer_starts_level_with_those_that_run_not_with_one_that_stands_still() {
    let mut shares = shares(&[]);
    let standing = [("a", "p"), ("b", "p"), ("paused", "p")];
    serve(&mut shares, &standing, 3);
    serve(&mut shares, &standing[..2], 10_000);
    let all = [("a", "p"), ("b", "p"), ("new", "p")];
    let served = serve(&mut shares, &all, 300);
    assert!(served.values().all(|tokens| (9_900..=10_100).contains(tokens)), "{served:?}");
    let again = serve(&mut shares, &[("a", "p"), ("b", "p"), ("paused", "p")], 300);
    assert!(again.values().all(|tokens| (9_900..=10_100).contains(tokens)), "{again:?}");
}

/// The queues of a slow pool share it by weight, however far a fast one runs ahead.
#[test]
fn a_fast_pool_does_not_make_others_look_equally_late() {
    let mut shares = shares(&[("b", 3), ("c", 1)]);
    let mut served = BTreeMap::from([("b", 0_i64), ("c", 0)]);
    for _ in 0..400 {
        serve(&mut shares, &[("a", "fast")], 50);
        let one = next(&shares, &[("b", "slow"), ("c", "slow")]);
        call(&mut shares, one, 100, 100);
        *served.get_mut(one.0).unwrap() += 100;
    }
    assert_eq!((served["b"], served["c"]), (30_000, 10_000));
    // And the slow pool has no claim on the permits for what it could not use.
    let all = serve(&mut shares, &[("a", "fast"), ("c", "slow")], 100);
    assert!(all.values().all(|tokens| (4_800..=5_200).contains(tokens)), "{all:?}");
}

/// … and so do queues that get what more urgent jobs leave.
#[test]
fn what_urgent_jobs_leave_is_shared_as_well() {
    let mut shares = shares(&[]);
    let mut served = BTreeMap::from([("a", 0_i64), ("b", 0)]);
    for _ in 0..400 {
        for _ in 0..20 {
            shares.start(&"urgent".into(), &pool("p"), 50, 100);
            shares.end(&"urgent".into(), &pool("p"), 100, 100);
        }
        let one = next(&shares, &[("a", "p"), ("b", "p")]);
        let tokens = if one.0 == "a" { 300 } else { 100 };
        call(&mut shares, one, tokens, tokens);
        *served.get_mut(one.0).unwrap() += tokens;
    }
    assert!((served["a"] - served["b"]).abs() <= 600, "{served:?}");
}

#[test]
fn what_says_nothing_is_forgotten() {
    let mut shares = shares(&[]);
    for number in 0..1_000 {
        let queue: Arc<str> = format!("q{number}").into();
        shares.start(&queue, &pool(&format!("p{}", number % 50)), 0, 10);
        shares.end(&queue, &pool(&format!("p{}", number % 50)), 10, 5);
    }
    for number in 0..50 {
        serve(&mut shares, &[("a", &format!("p{number}"))], 10);
    }
    shares.set_active(&["a".into()].into());
    let tags: usize =
        shares.lines.values().flat_map(|lines| lines.values()).map(|l| l.tags.len()).sum();
    assert!(tags <= 50, "{tags}");
    assert!(shares.refunds.len() <= 1);
}

proptest! {
    /// From any moment on at which two queues can both be served, and as long as they can, what
    /// they get differs by a few calls: no earlier pause, block or idleness counts.
    #[test]
    fn nobody_gains_by_having_been_blocked(
        weights in prop::array::uniform4(1_i64..5),
        pools in prop::array::uniform4(0_usize..2),
        stretches in prop::collection::vec((0_u8..16, 1_usize..60), 1..30),
        sizes in prop::collection::vec(1..=TOKENS_MAX, 64),
    ) {
        let named: Vec<(&str, i64)> = QUEUES.into_iter().zip(weights).collect();
        let mut shares = shares(&named);
        let of = |at: usize| (QUEUES[at], ["p", "r"][pools[at]]);
        let mut calls = 0;
        for (able, length) in stretches {
            let able: Vec<usize> = (0..4).filter(|at| able & (1 << at) != 0).collect();
            if able.is_empty() {
                continue;
            }
            let servable: Vec<(&str, &str)> = able.iter().map(|at| of(*at)).collect();
            let mut served = [0_i64; 4];
            for _ in 0..length {
                let one = next(&shares, &servable);
                let at = QUEUES.iter().position(|queue| *queue == one.0).unwrap();
                calls += 1;
                let tokens = sizes[calls % sizes.len()];
                call(&mut shares, one, tokens, tokens);
                served[at] += tokens * 60 / weights[at];
            }
            for one in &able {
                for other in &able {
                    let ahead = served[*one] - served[*other];
                    let most = CALLS_AHEAD * TOKENS_MAX * 60;
                    prop_assert!(ahead <= most, "{served:?} {weights:?} {pools:?} {able:?}");
                }
            }
        }
    }
}
