use super::*;
use crate::domain::budget::{Budget, BudgetPer, BudgetSpec, Cap};
use crate::domain::fairness::QueuePolicy;
use crate::domain::limit::{
    Algorithm, Dimension, LimitSource, LimitSpec, OutputMode, Per, PoolSpec,
};
use crate::domain::pool::{Level, Meter, Pool};
use proptest::prelude::*;
use std::collections::BTreeSet;

const T0: Timestamp = Timestamp(1_700_000_000_000);

fn limit(dimension: Dimension, amount: i64) -> LimitSpec {
    LimitSpec {
        dimension,
        per: Per::Minute,
        amount,
        algorithm: Algorithm::Bucket { burst: Some(Millis::MINUTE) },
        source: LimitSource::Configured,
    }
}

fn ledger(limits: Vec<LimitSpec>) -> Ledger {
    let pool = PoolSpec {
        name: PoolName("all".into()),
        models: vec!["*".into()],
        limits,
        output_mode: OutputMode::Realtime,
    };
    Ledger::new(vec![pool], Vec::new(), T0)
}

fn job(id: i64) -> Candidate {
    Candidate {
        job: JobId(id),
        queue: "default".into(),
        priority: 0,
        model: "claude-sonnet-5".into(),
        body_bytes: 200,
        max_tokens: 100,
        unbounded: false,
        passed_over_since: None,
    }
}

fn plan_at(now: Timestamp, ledger: &mut Ledger, permits: usize, jobs: &[Candidate]) -> Plan {
    let situation = Situation {
        now,
        ledger,
        shares: &mut Shares::default(),
        whole: false,
        free_permits: permits,
    };
    plan(situation, jobs)
}

fn started(plan: &Plan) -> Vec<i64> {
    plan.starts.iter().map(|start| start.job.0).collect()
}

#[test]
fn priority_first_then_first_come() {
    let mut jobs = vec![job(1), job(2), job(3)];
    jobs[2].priority = 5;
    let plan = plan_at(T0, &mut ledger(vec![limit(Dimension::Requests, 100)]), 2, &jobs);
    assert_eq!(started(&plan), [3, 1]);
    assert_eq!(plan.held_back, BTreeMap::from([(Reason::Concurrency, 1)]));
}

#[test]
fn the_limit_that_binds_longest_is_the_reason_and_says_when() {
    // 200 bytes are 100 tokens: two fit into 250, the third lacks 50 of 250 a minute. The refill
    // begins when the first is sure to have arrived.
    let limits = vec![limit(Dimension::Requests, 60), limit(Dimension::InputTokens, 250)];
    let plan = plan_at(T0, &mut ledger(limits), 10, &[job(1), job(2), job(3)]);
    assert_eq!(started(&plan), [1, 2]);
    assert_eq!(plan.first_held, Some(Reason::InputTokens));
    assert_eq!(plan.wake_at, Some(T0 + Millis(12_500)));
}

#[test]
fn a_large_job_is_passed_over_but_not_for_ever() {
    let mut big = job(1);
    big.max_tokens = 900;
    let jobs = |big: &Candidate| vec![big.clone(), job(2), job(3)];
    let mut ledger = ledger(vec![limit(Dimension::OutputTokens, 1_000)]);
    // 500 are out for a long time: the large one waits, small ones go past.
    let mut first = job(9);
    first.max_tokens = 500;
    plan_at(T0, &mut ledger, 10, &[first]);
    let early = plan_at(T0, &mut ledger.clone(), 10, &jobs(&big));
    assert_eq!(started(&early), [2, 3]);
    let passed: Vec<JobId> =
        early.waits.iter().filter(|wait| wait.passed_over).map(|wait| wait.job).collect();
    assert_eq!(passed, [JobId(1)]);
    big.passed_over_since = Some(T0);
    let late = plan_at(T0 + PASSED_OVER_MAX, &mut ledger, 10, &jobs(&big));
    assert_eq!(started(&late), [] as [i64; 0]);
    assert_eq!(late.held_back[&Reason::OutputTokens], 3);
}

#[test]
fn a_paused_or_full_queue_does_not_stop_the_others() {
    let mut shares = Shares::default();
    let paused = QueuePolicy { paused: true, ..QueuePolicy::default() };
    let narrow = QueuePolicy { max_in_flight: Some(1), ..QueuePolicy::default() };
    shares.set_policies([("p".into(), paused), ("n".into(), narrow)].into(), false);
    let on = |id, queue: &str| Candidate { queue: queue.into(), ..job(id) };
    let jobs = [on(1, "p"), on(2, "n"), on(3, "n"), on(4, "free")];
    let situation = Situation {
        now: T0,
        ledger: &mut ledger(vec![limit(Dimension::Requests, 100)]),
        shares: &mut shares,
        whole: false,
        free_permits: 10,
    };
    let plan = plan(situation, &jobs);
    assert_eq!(started(&plan).into_iter().collect::<BTreeSet<_>>(), BTreeSet::from([2, 4]));
    assert_eq!(plan.held_back, BTreeMap::from([(Reason::Concurrency, 1), (Reason::Paused, 1)]));
}

#[test]
fn in_the_last_half_minute_the_longest_go_first() {
    let jobs = [(1, 100), (2, 900), (3, 300)];
    let jobs = jobs.map(|(id, max_tokens)| Candidate { max_tokens, ..job(id) });
    let order = |output: i64, whole: bool| {
        let situation = Situation {
            now: T0,
            ledger: &mut ledger(vec![limit(Dimension::OutputTokens, output)]),
            shares: &mut Shares::default(),
            whole,
            free_permits: 10,
        };
        started(&plan(situation, &jobs))
    };
    assert_eq!(order(60_000, true), [2, 3, 1], "1,300 tokens are a second and a third");
    assert_eq!(order(60_000, false), [1, 2, 3], "more may be left than is in sight");
    assert_eq!(order(2_500, true), [1, 2, 3], "31 seconds of work");
}

#[test]
fn in_the_last_waves_of_a_window_the_longest_go_first() {
    let jobs = [(1, 100), (2, 900), (3, 300)];
    let jobs = jobs.map(|(id, max_tokens)| Candidate { max_tokens, ..job(id) });
    let first = |requests: i64, algorithm: Algorithm| {
        let spec = LimitSpec { algorithm, ..limit(Dimension::Requests, requests) };
        let situation = Situation {
            now: T0,
            ledger: &mut ledger(vec![spec]),
            shares: &mut Shares::default(),
            whole: true,
            free_permits: 1,
        };
        started(&plan(situation, &jobs))
    };
    assert_eq!(first(2, Algorithm::Window), [2], "three calls are a minute and a half");
    assert_eq!(first(1, Algorithm::Window), [1], "three minutes");
    let bucket = Algorithm::Bucket { burst: Some(Millis::MINUTE) };
    assert_eq!(first(2, bucket), [1], "a bucket's calls come evenly");
}

#[test]
fn a_model_without_limits_starts_with_one_call() {
    let plan = plan_at(T0, &mut ledger(Vec::new()), 10, &[job(1), job(2)]);
    assert_eq!(started(&plan), [1]);
    assert_eq!(plan.first_held, Some(Reason::Concurrency));
}

#[test]
fn fifty_permits_never_pass_a_budget_for_ten() {
    let worst = Reservation::new(
        &ledger(Vec::new()).pool_of("claude-sonnet-5", T0),
        &"default".into(),
        &"claude-sonnet-5".into(),
        CallSize { body_bytes: 200, max_tokens: 100, expected_input: 1, expected_output: 1 },
        T0,
    )
    .worst;
    let spec = BudgetSpec {
        cap: Cap::Usd(worst.nanousd.unwrap() * 10),
        per: BudgetPer::Total,
        queue: None,
        timezone: "UTC".into(),
        allow_unbounded: false,
    };
    let mut ledger = ledger(vec![limit(Dimension::Requests, 1_000)]);
    ledger.budgets = vec![Budget::new(spec, Timestamp(i64::MIN), Timestamp(i64::MAX), 0)];
    let jobs: Vec<Candidate> = (1..=50).map(job).collect();
    let plan = plan_at(T0, &mut ledger, 50, &jobs);
    assert_eq!(plan.starts.len(), 10);
    assert_eq!(plan.first_held, Some(Reason::Budget));
    let unpriced = Candidate { model: "claude-unheard-of".into(), ..job(51) };
    let again = plan_at(T0, &mut ledger, 50, &[unpriced]);
    assert_eq!(again.unbounded, [JobId(51)]);
}

/// Whether a level stays above zero, also while the calls in flight write.
fn never_empty(pool: &Pool, meter: &Meter) -> bool {
    let foreseen = &pool.production.outlook().written;
    match (&meter.level, meter.spec.dimension) {
        (Level::Bucket(bucket), Dimension::OutputTokens) => {
            bucket.wait_for_output(0, foreseen, 0, T0) == Millis::ZERO
        }
        _ => meter.available(T0) >= 0,
    }
}

proptest! {
    /// No plan overdraws any limit, whatever the candidates.
    #[test]
    fn never_overdraws(
        requests in 1_i64..50,
        output in 100_i64..5_000,
        sizes in prop::collection::vec((1_i64..4_000, 1_i64..800, -2_i64..3), 1..80),
        permits in 0_usize..60,
    ) {
        let limits = vec![limit(Dimension::Requests, requests), limit(Dimension::OutputTokens, output)];
        let mut ledger = ledger(limits);
        let jobs: Vec<Candidate> = sizes
            .iter()
            .zip(1..)
            .map(|((bytes, tokens, priority), id)| Candidate {
                body_bytes: *bytes,
                max_tokens: *tokens,
                priority: *priority,
                ..job(id)
            })
            .collect();
        let plan = plan_at(T0, &mut ledger, permits, &jobs);
        prop_assert!(plan.starts.len() <= permits);
        // A call larger than the bucket goes out, but alone.
        let alone = plan.starts.len() == 1;
        let pool = &ledger.pools[0];
        for meter in &pool.meters {
            prop_assert!(alone || never_empty(pool, meter));
        }
        let held: usize = plan.held_back.values().sum();
        prop_assert_eq!(plan.starts.len() + held + plan.unbounded.len(), jobs.len());
    }
}
