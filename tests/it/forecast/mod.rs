//! The forecast against a run in which every job is a row and every call is made: the daemon's
//! turns, ledger and store against the simulator, in virtual time.

use crate::workload::{Job, jobs};
use crate::world::{START, World};
use claudeq::config::{Config, Overrides};
use claudeq::domain::forecast::Forecast;
use claudeq::domain::reason::Reason;
use claudeq::domain::time::{Millis, Timestamp};
use claudeq::simulator::{Algorithm, Config as Sim, LimitSet, OutputMode, PoolConfig};
use claudeq::store::{NewJob, Store};

/// Lengths are learned in the order of admission, so the longest calls must have ended.
const LEARNED: Millis = Millis::from_secs(60);
/// What is asked everything.
const MODEL: &str = "claude-sonnet-5";

/// A provider, what the daemon is told of it, and the work.
struct Case {
    jobs: usize,
    limits: LimitSet,
    told: &'static str,
    max_in_flight: u32,
    queue_of: fn(usize) -> (&'static str, i64),
    bottleneck: Reason,
}

/// 2,000 requests, 400,000 input and 40,000 output tokens a minute.
fn limits() -> LimitSet {
    LimitSet {
        requests_per_minute: Some(2_000),
        input_tokens_per_minute: Some(400_000),
        output_tokens_per_minute: Some(40_000),
        burst_seconds: 60.0,
        ..LimitSet::default()
    }
}

fn case() -> Case {
    Case {
        jobs: 600,
        limits: limits(),
        told: "burst = \"60s\"",
        max_in_flight: 128,
        queue_of: |_| ("default", 0),
        bottleneck: Reason::OutputTokens,
    }
}

/// What was foreseen at `at`, and what came.
struct Came {
    forecast: Forecast,
    finished_at: Timestamp,
    /// Nano-dollars for everything that was not settled at `at`.
    rest: i64,
}

async fn run(case: &Case) -> Came {
    let dir = tempfile::tempdir().unwrap();
    let work = jobs(case.jobs, 0.0, 7);
    let config = config(case, dir.path());
    Store::create(&config.database, false).await.unwrap().close().await;
    let store = Store::open(&config.database).await.unwrap();
    insert(&store, case, &work).await;
    let simulator = Sim {
        pools: vec![PoolConfig {
            name: "all".into(),
            models: vec!["*".into()],
            limits: case.limits.clone(),
        }],
        seed: 11,
        ..Sim::default()
    };
    let mut world = World::new(config, simulator, 3).await.unwrap();
    // Sizes and speed are learned by then.
    let learned =
        |world: &World| world.outcome.ended >= case.jobs / 5 && world.now().since(START) > LEARNED;
    world.run(learned).await.unwrap();
    let forecast = world.daemon().forecast().await.unwrap();
    let left = i64::try_from(case.jobs - world.outcome.ended).unwrap();
    let settled = |store: Store| async move {
        let spent = store.budget_spent(Timestamp(0), Timestamp(i64::MAX), None).await.unwrap();
        (store, spent.nanousd)
    };
    let (store, before) = settled(store).await;
    world.run(|_| false).await.unwrap();
    let (_, after) = settled(store).await;
    assert_eq!(forecast.jobs, left, "every job is in it once");
    Came { forecast, finished_at: world.outcome.last_end, rest: after - before }
}

fn config(case: &Case, dir: &std::path::Path) -> Config {
    let line = |name: &str, amount: Option<u64>| {
        amount.map_or(String::new(), |amount| format!("{name} = {amount}\n"))
    };
    let limits = &case.limits;
    let text = format!(
        "[database]\npath = \"{}\"\n[executor]\nmax_in_flight = {}\n\
         [defaults]\nmodel = \"{MODEL}\"\n[queue.side]\nweight = 3.0\nmax_in_flight = 8\n\
         [[pool]]\nname = \"all\"\nmodels = [\"*\"]\n{}{}{}{}{}\n",
        dir.join("queue.db").display(),
        case.max_in_flight,
        line("requests_per_minute", limits.requests_per_minute),
        line("input_tokens_per_minute", limits.input_tokens_per_minute),
        line("output_tokens_per_minute", limits.output_tokens_per_minute),
        line("tokens_per_minute", limits.tokens_per_minute),
        case.told,
    );
    let file = dir.join("daemon.toml");
    std::fs::write(&file, text).unwrap();
    Config::load(Some(&file), &Overrides::default()).unwrap()
}

async fn insert(store: &Store, case: &Case, work: &[Job]) {
    for (number, job) in work.iter().enumerate() {
        let (queue, priority) = (case.queue_of)(number);
        let new = NewJob {
            prompt: Some(job.prompt.clone()),
            max_tokens: Some(i64::try_from(job.max_tokens).unwrap()),
            queue: Some(queue.to_owned()),
            priority,
            ..NewJob::default()
        };
        store.add_job(&new).await.unwrap();
    }
    let mean = work.iter().map(|job| job.input + job.output).sum::<u64>() / work.len() as u64;
    assert!((1_000..2_000).contains(&mean), "the work is what the cases are made for: {mean}");
}

fn check(name: &str, case: &Case, came: &Came) {
    let Came { forecast, finished_at, rest } = came;
    let begun = START;
    let finishes_at = forecast.finishes_at.expect("it ends");
    let (foreseen, took) = (finishes_at.since(forecast.as_of), finished_at.since(forecast.as_of));
    let cost = forecast.rest_nanousd.expect("the model has a price");
    println!(
        "{name}: {} s foreseen, {} s taken (from {} s on); {cost} foreseen, {rest} paid; {:?}",
        foreseen.0 / 1_000,
        took.0 / 1_000,
        forecast.as_of.since(begun).0 / 1_000,
        forecast.bottleneck
    );
    assert!(took > Millis::MINUTE, "{name}: too short to say anything: {took:?}");
    let off = (foreseen.0 - took.0).abs();
    assert!(off * 10 <= took.0, "{name}: {foreseen:?} foreseen, {took:?} taken");
    assert!((cost - rest).abs() * 20 <= *rest, "{name}: {cost} foreseen, {rest} paid");
    assert_eq!(forecast.bottleneck, Some(case.bottleneck), "{name}");
    assert!(forecast.stuck.is_empty(), "{name}: {:?}", forecast.stuck);
}

async fn holds(name: &str, case: Case) {
    let came = run(&case).await;
    check(name, &case, &came);
}

#[tokio::test]
async fn output_as_it_is_produced() {
    holds("realtime", case()).await;
}

#[tokio::test]
async fn output_reserved_at_the_start() {
    let limits = LimitSet { output_mode: OutputMode::Reserve, ..limits() };
    let told = "burst = \"60s\"\noutput_mode = \"reserve\"";
    holds("reserve", Case { limits, told, ..case() }).await;
}

#[tokio::test]
async fn one_bucket_of_all_tokens() {
    let limits =
        LimitSet { tokens_per_minute: Some(150_000), burst_seconds: 60.0, ..LimitSet::default() };
    holds("tokens", Case { limits, bottleneck: Reason::Tokens, ..case() }).await;
}

#[tokio::test]
async fn a_limit_on_requests() {
    let limits = LimitSet { requests_per_minute: Some(100), ..limits() };
    holds("requests", Case { limits, bottleneck: Reason::Requests, ..case() }).await;
}

#[tokio::test]
async fn a_rolling_window() {
    let limits = LimitSet { algorithm: Algorithm::Window, ..limits() };
    holds("window", Case { limits, told: "algorithm = \"window\"", ..case() }).await;
}

#[tokio::test]
async fn few_calls_at_a_time() {
    let wide = LimitSet {
        input_tokens_per_minute: Some(4_000_000),
        output_tokens_per_minute: Some(800_000),
        ..limits()
    };
    let bottleneck = Reason::Concurrency;
    holds("concurrency", Case { limits: wide, max_in_flight: 8, bottleneck, ..case() }).await;
}

#[tokio::test]
async fn queues_and_priorities() {
    let queue_of = |number: usize| match number % 10 {
        0 => ("urgent", 5),
        1..=4 => ("side", 0),
        _ => ("default", 0),
    };
    holds("queues", Case { queue_of, ..case() }).await;
}
