//! What a forecast must get right whatever the numbers are, and some cases worked out by hand.

use super::*;
use proptest::prelude::*;

const NOW: Timestamp = Timestamp(1_795_500_000_000);
const MINUTE: f64 = 60_000.0;

fn call() -> Call {
    Call {
        input_tokens: 1_000.0,
        output_tokens: 300.0,
        max_tokens: 900.0,
        took_ms: 5_000.0,
        nanousd: Some(5_000_000.0),
        worst_nanousd: Some(5_500_000.0),
        worst_tokens: 6_000.0,
    }
}

fn jobs(jobs: f64) -> Class {
    Class { queue: 0, pool: 0, priority: 0, jobs, in_flight: 0.0, due: None, call: call() }
}

fn queue(name: &str) -> QueueState {
    QueueState { name: name.into(), weight: 1.0, max_in_flight: None, paused: false }
}

fn bucket(dimension: Dimension, per_minute: f64, stored: f64) -> LimitState {
    let stock = Stock::Bucket { level: stored, capacity: per_minute, per_ms: per_minute / MINUTE };
    LimitState { dimension, stock }
}

fn window(dimension: Dimension, limit: f64, period: Millis) -> LimitState {
    LimitState { dimension, stock: Stock::Window { limit, period, leaving: Vec::new() } }
}

fn scene(limits: Vec<LimitState>, classes: Vec<Class>) -> Scene {
    Scene {
        now: NOW,
        max_in_flight: 1_000,
        account: None,
        pools: vec![PoolState { mode: OutputMode::Realtime, closed: None, limits }],
        budgets: Vec::new(),
        queues: vec![queue("default"), queue("other")],
        classes,
    }
}

fn budget(cap: f64, spent: f64, ends: &[i64]) -> BudgetState {
    BudgetState {
        key: "usd/day/UTC/*".into(),
        in_usd: true,
        cap,
        spent,
        queue: None,
        allow_unbounded: false,
        ends: ends.iter().map(|minutes| NOW + Millis(minutes * 60_000)).collect(),
    }
}

/// Seconds until the end.
fn seconds(scene: &Scene) -> f64 {
    let finishes_at = forecast(scene).finishes_at.expect("it ends");
    fluid_seconds(finishes_at.since(NOW))
}

#[expect(clippy::cast_precision_loss, reason = "seconds of a test")]
fn fluid_seconds(span: Millis) -> f64 {
    span.0 as f64 / 1_000.0
}

fn near(found: f64, expected: f64, part: f64) {
    assert!((found - expected).abs() <= expected * part, "{found} instead of {expected}");
}

#[test]
fn nothing_to_do_is_done() {
    let found = forecast(&scene(Vec::new(), Vec::new()));
    assert_eq!((found.finishes_at, found.bottleneck, found.rest_nanousd), (None, None, Some(0)));
}

#[test]
fn one_job_takes_as_long_as_its_call() {
    let limits = vec![bucket(Dimension::OutputTokens, 80_000.0, 80_000.0)];
    near(seconds(&scene(limits, vec![jobs(1.0)])), 5.0, 0.01);
}

#[test]
fn the_limit_that_binds_is_named_and_sets_the_time() {
    // 1,000 jobs of 300 tokens, 60,000 of them stored: four minutes.
    for (dimension, per_minute, reason) in [
        (Dimension::OutputTokens, 60_000.0, Reason::OutputTokens),
        (Dimension::InputTokens, 200_000.0, Reason::InputTokens),
        (Dimension::Requests, 200.0, Reason::Requests),
        (Dimension::Tokens, 260_000.0, Reason::Tokens),
    ] {
        let limits =
            vec![bucket(Dimension::Requests, 1e9, 1e9), bucket(dimension, per_minute, per_minute)];
        let scene = scene(limits, vec![jobs(1_000.0)]);
        near(seconds(&scene), 240.0, 0.03);
        let found = forecast(&scene);
        assert_eq!(found.bottleneck, Some(reason));
        assert_eq!(
            (found.jobs, found.input_tokens, found.output_tokens),
            (1_000, 1_000_000, 300_000)
        );
        assert_eq!(found.rest_nanousd, Some(5_000_000_000));
    }
}

#[test]
fn calls_in_flight_bound_it() {
    // 1,000 calls of 5 s, 10 at a time.
    let scene = Scene { max_in_flight: 10, ..scene(Vec::new(), vec![jobs(1_000.0)]) };
    near(seconds(&scene), 500.0, 0.02);
    assert_eq!(forecast(&scene).bottleneck, Some(Reason::Concurrency));
}

#[test]
fn a_queue_has_a_bound_of_its_own() {
    let mut scene = scene(Vec::new(), vec![jobs(1_000.0)]);
    scene.queues[0].max_in_flight = Some(5);
    near(seconds(&scene), 1_000.0, 0.02);
}

#[test]
fn reserved_output_comes_back_late() {
    let limits = vec![bucket(Dimension::OutputTokens, 60_000.0, 60_000.0)];
    let mut scene = scene(limits, vec![jobs(1_000.0)]);
    scene.pools[0].mode = OutputMode::Reserve;
    // At the end calls of 5 s hold three times what they write: 2 × 5 s more, and the last call.
    near(seconds(&scene), 240.0 + 10.0 + 5.0, 0.03);
}

#[test]
fn what_exceeds_a_day_ends_tomorrow() {
    let limits = vec![window(Dimension::Tokens, 1_000_000.0, Millis::DAY)];
    // 1.3 million tokens under a million a day.
    let found = seconds(&scene(limits, vec![jobs(1_000.0)]));
    assert!((86_400.0..86_400.0 * 1.1).contains(&found), "{found}");
}

#[test]
fn a_window_lets_go_what_it_forgets() {
    // 1,000 calls, 100 in any minute: the last hundred begins nine minutes after the first.
    let limits = vec![window(Dimension::Requests, 100.0, Millis::MINUTE)];
    near(seconds(&scene(limits.clone(), vec![jobs(1_000.0)])), 9.0 * 60.0, 0.1);
    // In the long run it is a rate.
    near(seconds(&scene(limits, vec![jobs(100_000.0)])), 60_000.0, 0.01);
}

#[test]
fn what_was_used_before_counts() {
    let mut limits = vec![window(Dimension::Requests, 100.0, Millis::HOUR)];
    if let Stock::Window { leaving, .. } = &mut limits[0].stock {
        leaving.push((NOW + Millis::from_secs(1_800), 95.0));
    }
    near(seconds(&scene(limits, vec![jobs(10.0)])), 1_805.0, 0.01);
    let debt = vec![bucket(Dimension::Requests, 60.0, -120.0)];
    near(seconds(&scene(debt, vec![jobs(1.0)])), 126.0, 0.02);
}

#[test]
fn a_budget_stops_until_its_next_period() {
    // A dollar is left of it: 200 jobs. The rest goes on when the day ends, in ten minutes.
    let mut scene = scene(vec![bucket(Dimension::Requests, 100.0, 0.0)], vec![jobs(400.0)]);
    scene.budgets = vec![budget(10e9, 9e9, &[10, 1_450])];
    let found = forecast(&scene);
    let stops = fluid_seconds(found.budgets[0].stops_at.expect("it stops").since(NOW));
    // The last ones go one by one: each sets its worst case aside.
    near(stops, 125.0, 0.1);
    assert_eq!(found.budgets[0].exceeded_by, 1_000_000_000);
    // Until then a hundred calls are stored up.
    near(fluid_seconds(found.finishes_at.expect("it ends").since(NOW)), 665.0, 0.03);
    assert_eq!(found.bottleneck, Some(Reason::Budget));
    // One that never begins anew is a wall.
    scene.budgets = vec![budget(10e9, 9e9, &[])];
    let found = forecast(&scene);
    assert!(found.stuck[&Reason::Budget] >= 199, "{found:?}");
    scene.budgets = vec![budget(20e9, 9e9, &[])];
    let found = forecast(&scene);
    assert_eq!((found.budgets[0].stops_at, found.budgets[0].exceeded_by), (None, 0));
    assert!(found.stuck.is_empty());
}

#[test]
fn without_a_price_nobody_says_what_it_costs() {
    let mut class = jobs(10.0);
    class.call.nanousd = None;
    class.call.worst_nanousd = None;
    let mut scene = scene(Vec::new(), vec![class]);
    assert_eq!(forecast(&scene).rest_nanousd, None);
    assert!(forecast(&scene).finishes_at.is_some());
    scene.budgets = vec![budget(10e9, 0.0, &[])];
    assert_eq!(forecast(&scene).finishes_at, None, "a wall does not let it through");
}

#[test]
fn what_needs_a_person_never_ends() {
    let mut paused = scene(Vec::new(), vec![jobs(10.0)]);
    paused.queues[0].paused = true;
    let found = forecast(&paused);
    assert_eq!(found.finishes_at, None);
    assert_eq!(found.stuck, BTreeMap::from([(Reason::Paused, 10)]));
    let other = Class { queue: 1, ..jobs(5.0) };
    paused.classes.push(other);
    assert!(forecast(&paused).finishes_at.is_some(), "the others end");
    let mut parked = scene(Vec::new(), vec![jobs(10.0)]);
    parked.account = Some(Closure { reason: Reason::Key, until: None });
    assert_eq!(forecast(&parked).stuck, BTreeMap::from([(Reason::Key, 10)]));
    let until = Some(NOW + Millis::HOUR);
    parked.account = Some(Closure { reason: Reason::Account, until });
    near(seconds(&parked), 3_605.0, 0.01);
}

#[test]
fn a_time_of_their_own_is_waited_for() {
    let due = Some((NOW + Millis::HOUR, NOW + Millis(2 * 3_600_000)));
    let scene = scene(Vec::new(), vec![Class { due, ..jobs(100.0) }]);
    near(seconds(&scene), 7_205.0, 0.01);
    assert_eq!(forecast(&scene).bottleneck, Some(Reason::Schedule));
}

#[test]
fn the_urgent_go_first_and_weights_share_the_rest() {
    let limits = || vec![bucket(Dimension::Requests, 100.0, 0.0)];
    // A wall for one queue alone: how far the other is by then shows who goes first.
    let ends_of = |first: Class, second: Class, weight: f64| {
        let mut scene = scene(limits(), vec![first, second]);
        scene.queues[0].weight = weight;
        scene.budgets =
            vec![BudgetState { queue: Some("default".into()), ..budget(1e9, 0.0, &[]) }];
        let found = forecast(&scene).budgets[0].stops_at.expect("it stops");
        fluid_seconds(found.since(NOW))
    };
    let other = |priority| Class { queue: 1, priority, ..jobs(600.0) };
    // About 197 of its jobs fit under the wall.
    near(ends_of(jobs(600.0), other(0), 1.0), 2.0 * 118.0, 0.05);
    near(ends_of(jobs(600.0), other(0), 3.0), 118.0 * 4.0 / 3.0, 0.05);
    near(ends_of(jobs(600.0), other(-1), 1.0), 118.0, 0.05);
    near(ends_of(jobs(600.0), other(1), 1.0), 360.0 + 118.0, 0.05);
}

#[test]
fn calls_in_flight_end_too() {
    let class = Class { in_flight: 8.0, ..jobs(0.0) };
    let found = forecast(&scene(Vec::new(), vec![class]));
    assert_eq!(found.finishes_at, Some(NOW + Millis(5_000)));
    assert_eq!((found.jobs, found.rest_nanousd), (8, Some(40_000_000)));
}

#[test]
fn a_million_jobs_in_many_queues_take_no_time() {
    let mut scene = scene(vec![bucket(Dimension::OutputTokens, 80_000.0, 0.0)], Vec::new());
    scene.queues = (0..200).map(|number| queue(&number.to_string())).collect();
    scene.classes = (0..200)
        .map(|at| Class { queue: at, ..jobs(5_000.0 + if at % 2 == 0 { 500.0 } else { 0.0 }) })
        .collect();
    near(seconds(&scene), 1_050_000.0 * 300.0 / 80_000.0 * 60.0, 0.01);
}

prop_compose! {
    fn any_class()(
        queue in 0..2_usize,
        priority in -1..2_i64,
        jobs in 1.0..5_000.0_f64,
        in_flight in 0.0..20.0_f64,
        input_tokens in 10.0..5_000.0_f64,
        output_tokens in 1.0..2_000.0_f64,
        spare in 1.0..4.0_f64,
        took_ms in 200.0..60_000.0_f64,
    ) -> Class {
        let call = Call {
            input_tokens,
            output_tokens,
            max_tokens: output_tokens * spare,
            took_ms,
            ..call()
        };
        Class { queue, pool: 0, priority, jobs, in_flight, due: None, call }
    }
}

fn demand(scene: &Scene, dimension: Dimension) -> f64 {
    let of = |call: &Call| match dimension {
        Dimension::Requests => 1.0,
        Dimension::InputTokens => call.input_tokens,
        Dimension::OutputTokens => call.output_tokens,
        Dimension::Tokens => call.tokens(),
    };
    scene.classes.iter().map(|class| class.jobs * of(&class.call)).sum()
}

fn any_scene() -> impl Strategy<Value = Scene> {
    let classes = prop::collection::vec(any_class(), 1..5);
    let limit = |most: f64| (most / 50.0..most, 0.0..1.0_f64);
    let limits = (limit(4_000.0), limit(4e5), limit(8e4));
    (classes, limits, any::<bool>(), 1..300_u32).prop_map(|(classes, limits, reserve, most)| {
        let state = |dimension, (rate, stored): (f64, f64)| bucket(dimension, rate, rate * stored);
        let limits = vec![
            state(Dimension::Requests, limits.0),
            state(Dimension::InputTokens, limits.1),
            state(Dimension::OutputTokens, limits.2),
        ];
        let mut scene = Scene { max_in_flight: most, ..scene(limits, classes) };
        if reserve {
            scene.pools[0].mode = OutputMode::Reserve;
        }
        scene
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn never_earlier_than_the_bound(scene in any_scene()) {
        let found = seconds(&scene);
        for limit in &scene.pools[0].limits {
            let Stock::Bucket { level, per_ms, .. } = &limit.stock else { continue };
            let held: f64 = scene.classes.iter().map(|class| {
                let reserve = scene.pools[0].mode == OutputMode::Reserve;
                let held = class.call.max_tokens - class.call.output_tokens;
                let counts = reserve && limit.dimension == Dimension::OutputTokens;
                if counts { class.in_flight * held } else { 0.0 }
            }).sum();
            let bound = (demand(&scene, limit.dimension) - level - held) / per_ms / 1_000.0;
            prop_assert!(found >= bound * 0.999 - 0.1, "{found} before {bound}");
        }
        let work: f64 = scene.classes.iter().map(|one| one.jobs * one.call.took_ms).sum();
        let longest = scene.classes.iter().map(|one| one.call.took_ms).fold(0.0, f64::max);
        let bound = work / f64::from(scene.max_in_flight) - longest;
        prop_assert!(found >= bound / 1_000.0 * 0.98, "{found} before {bound}");
    }

    #[test]
    fn more_is_never_later(scene in any_scene(), which in 0..4_usize, times in 1.1..10.0_f64) {
        let mut more = scene.clone();
        match more.pools[0].limits.get_mut(which).map(|limit| &mut limit.stock) {
            Some(Stock::Bucket { per_ms, capacity, .. }) => {
                *per_ms *= times;
                *capacity *= times;
            }
            _ => more.max_in_flight *= 4,
        }
        // Steps of other lengths round differently.
        prop_assert!(seconds(&more) <= seconds(&scene) * 1.02 + 0.5);
    }
}
