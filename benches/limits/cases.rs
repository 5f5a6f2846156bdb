//! The cases: a provider, what claudeq is told of it, and what is expected.

use crate::rivals::{self, Rival};
use crate::workload::{Job, jobs};
use crate::world::{Other, START, World};
use claudeq::clock::Clock;
use claudeq::config::{Config, Overrides};
use claudeq::domain::time::{Millis, Timestamp};
use claudeq::simulator::{
    Algorithm, Config as Sim, FaultRule, Kind, LimitSet, Offline, OutputMode, PoolConfig,
};
use claudeq::store::{NewJob, Store};
use std::path::Path;

/// The model everything is asked of.
pub(crate) const MODEL: &str = "claude-sonnet-5";
/// Every case has the same jobs, as far as it has so many.
const WORK_SEED: u64 = 7;

/// One line of the table.
pub(crate) struct Case {
    pub name: &'static str,
    count: usize,
    limits: LimitSet,
    /// What the configuration says of bursts and algorithm.
    told: &'static str,
    faults: Vec<FaultRule>,
    spread: f64,
    /// Part of the key that somebody else uses.
    others: f64,
    kill_after: Option<(Millis, Millis)>,
    /// At least this part of the optimum.
    pub part: f64,
    /// At most so many 429s.
    pub refused: u64,
}

/// What came of a case.
pub(crate) struct Row {
    pub part: f64,
    pub refused: u64,
    pub lost: usize,
    pub note: String,
}

/// 4,000 requests, 400,000 input and 80,000 output tokens a minute.
fn large() -> LimitSet {
    LimitSet {
        requests_per_minute: Some(4_000),
        input_tokens_per_minute: Some(400_000),
        output_tokens_per_minute: Some(80_000),
        burst_seconds: 60.0,
        ..LimitSet::default()
    }
}

fn base(name: &'static str, part: f64, refused: u64) -> Case {
    Case {
        name,
        count: 1_500,
        limits: large(),
        told: "burst = \"60s\"",
        faults: Vec::new(),
        spread: 0.0,
        others: 0.0,
        kill_after: None,
        part,
        refused,
    }
}

/// All of them.
pub(crate) fn all() -> Vec<Case> {
    let burst = |seconds: f64| LimitSet { burst_seconds: seconds, ..large() };
    let fault = |kind: Kind, probability: f64| FaultRule { probability, ..FaultRule::new(kind) };
    vec![
        Case { count: 4_000, ..base("realtime, 4,000 jobs", 0.985, 0) },
        base("realtime, 1,500 jobs", 0.97, 0),
        Case {
            limits: LimitSet { output_mode: OutputMode::Reserve, ..large() },
            told: "burst = \"60s\"\noutput_mode = \"reserve\"",
            ..base("reserve, 1,500 jobs", 0.91, 0)
        },
        Case {
            limits: LimitSet {
                tokens_per_minute: Some(400_000),
                burst_seconds: 60.0,
                ..LimitSet::default()
            },
            ..base("one bucket of 400k tokens", 0.96, 0)
        },
        Case {
            count: 300,
            limits: LimitSet {
                requests_per_minute: Some(50),
                input_tokens_per_minute: Some(40_000),
                output_tokens_per_minute: Some(8_000),
                burst_seconds: 60.0,
                ..LimitSet::default()
            },
            ..base("tier 1 of 2024, 300 jobs", 0.99, 0)
        },
        Case { limits: burst(5.0), told: "burst = \"5s\"", ..base("burst of 5 s, told", 0.94, 0) },
        Case { limits: burst(5.0), told: "", ..base("burst of 5 s, not told", 0.90, 5) },
        Case { limits: burst(1.0), told: "burst = \"1s\"", ..base("burst of 1 s, told", 0.86, 0) },
        Case { others: 0.3, ..base("another client uses 30 %", 0.92, 5) },
        Case {
            limits: LimitSet { algorithm: Algorithm::Window, ..large() },
            told: "algorithm = \"window\"",
            ..base("rolling window", 0.97, 0)
        },
        Case {
            faults: vec![fault(Kind::Status(529), 0.05), fault(Kind::Reset, 0.01)],
            ..base("5 % 529s, 1 % dropped connections", 0.95, 0)
        },
        Case {
            kill_after: Some((Millis::from_secs(90), Millis::from_secs(2))),
            ..base("SIGKILL in the middle, restart", 0.0, 0)
        },
        Case {
            spread: 0.3,
            // Else output would bind, and wrong estimates would cost nothing.
            limits: LimitSet { output_tokens_per_minute: Some(200_000), ..large() },
            ..base("wrong input estimate, sigma 0.3, input binds", 0.95, 5)
        },
    ]
}

/// Runs a case in a directory of its own.
pub(crate) async fn run(case: &Case) -> anyhow::Result<Row> {
    let watch = Clock::system();
    let dir = tempfile::tempdir_in(if Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "." })?;
    let work = jobs(case.count, case.spread, WORK_SEED);
    let config = config(case, dir.path())?;
    Store::create(&config.database, false).await?.close().await;
    insert(&config.database, &work).await?;
    let mut world = World::new(config, simulator(case), 3).await?;
    if case.others > 0.0 {
        world.share_with(other(case));
    }
    if let Some((after, pause)) = case.kill_after {
        world.run(|world| world.now() >= START + after).await?;
        world.kill(pause).await?;
    }
    world.run(|_| false).await?;
    let outcome = world.outcome;
    let store = Store::open(world.database()).await?;
    let succeeded = usize::try_from(store.counts().await?.succeeded)?;
    let took = seconds(outcome.last_end);
    let repeated = outcome.calls as usize - succeeded;
    Ok(Row {
        part: optimum(case, &work) / took,
        refused: outcome.refused,
        lost: case.count - succeeded,
        note: format!(
            "{took:.1} s (last start {:.1}), {} turns, {repeated} repeated, {} at the kill, {:.1} s real",
            seconds(outcome.last_start),
            outcome.turns,
            outcome.killed,
            watch.monotonic().as_secs_f64()
        ),
    })
}

/// The clients that people write, against the limits of the second case.
pub(crate) fn rivals() -> anyhow::Result<Vec<(&'static str, Row)>> {
    let case = base("", 0.0, 0);
    let window = Rival::RollingWindow {
        input: case.limits.input_tokens_per_minute.unwrap_or(0),
        output: case.limits.output_tokens_per_minute.unwrap_or(0),
    };
    let all = [
        ("semaphore 10, 5 retries", Rival::Semaphore { permits: 10, retries: 5 }),
        ("semaphore 50, 5 retries", Rival::Semaphore { permits: 50, retries: 5 }),
        ("semaphore 200, 5 retries", Rival::Semaphore { permits: 200, retries: 5 }),
        ("rolling window over max_tokens, corrected", window),
    ];
    let work = jobs(case.count, case.spread, WORK_SEED);
    let row = |(name, rival)| {
        let clock = Clock::manual(START);
        let provider = Offline::new(simulator(&case), clock.clone())?;
        let outcome = rivals::run(rival, &provider, &clock, &work);
        let took = outcome.took.0 as f64 / 1_000.0;
        let part = optimum(&case, &work) / took;
        let note = format!("{took:.1} s");
        Ok((name, Row { part, refused: outcome.refused, lost: outcome.lost, note }))
    };
    all.into_iter().map(row).collect()
}

fn simulator(case: &Case) -> Sim {
    Sim {
        pools: vec![PoolConfig {
            name: "all".into(),
            models: vec!["*".into()],
            limits: case.limits.clone(),
        }],
        faults: case.faults.clone(),
        seed: 11,
        ..Sim::default()
    }
}

/// Seconds from the beginning.
fn seconds(at: Timestamp) -> f64 {
    at.since(START).0 as f64 / 1_000.0
}

/// Seconds: (demand − burst) ÷ rate, where it takes longest.
fn optimum(case: &Case, work: &[Job]) -> f64 {
    let sum = |part: fn(&Job) -> u64| work.iter().map(part).sum::<u64>() as f64;
    let (input, output) = (sum(|job| job.input), sum(|job| job.output));
    let limits = &case.limits;
    let span = |demand: f64, rate: Option<u64>| {
        rate.map_or(0.0, |rate| {
            let minutes = demand / (rate as f64 * (1.0 - case.others));
            match limits.algorithm {
                Algorithm::Bucket => minutes * 60.0 - limits.burst_seconds,
                // In any 60 s only one limit's worth: the last piece begins a whole number of
                // minutes after the first.
                Algorithm::Window => (minutes.ceil() - 1.0) * 60.0,
            }
        })
    };
    span(work.len() as f64, limits.requests_per_minute)
        .max(span(input, limits.input_tokens_per_minute))
        .max(span(output, limits.output_tokens_per_minute))
        .max(span(input + output, limits.tokens_per_minute))
}

/// Somebody who takes his part of each limit, one request every 700 ms.
fn other(case: &Case) -> Other {
    let every = Millis(700);
    let part =
        |rate: Option<u64>| rate.unwrap_or(0) as f64 * case.others * every.0 as f64 / 60_000.0;
    let input = part(case.limits.input_tokens_per_minute).round();
    let output = part(case.limits.output_tokens_per_minute).round();
    let prompt = format!("[[in={input}]] [[out={output}]]");
    let body = serde_json::json!({
        "model": MODEL,
        "max_tokens": 4 * output as u64,
        "messages": [{ "role": "user", "content": prompt }],
    });
    Other { every, body: body.to_string() }
}

fn config(case: &Case, dir: &Path) -> anyhow::Result<Config> {
    let line = |name: &str, amount: Option<u64>| {
        amount.map_or(String::new(), |amount| format!("{name} = {amount}\n"))
    };
    let limits = &case.limits;
    let text = format!(
        "[database]\npath = \"{}\"\n[executor]\nmax_in_flight = 256\n\
         [defaults]\nmodel = \"{MODEL}\"\n\
         [[pool]]\nname = \"all\"\nmodels = [\"*\"]\n{}{}{}{}{}\n",
        dir.join("queue.db").display(),
        line("requests_per_minute", limits.requests_per_minute),
        line("input_tokens_per_minute", limits.input_tokens_per_minute),
        line("output_tokens_per_minute", limits.output_tokens_per_minute),
        line("tokens_per_minute", limits.tokens_per_minute),
        case.told,
    );
    let file = dir.join("daemon.toml");
    std::fs::write(&file, text)?;
    Ok(Config::load(Some(&file), &Overrides::default())?)
}

async fn insert(database: &Path, work: &[Job]) -> anyhow::Result<()> {
    let store = Store::open(database).await?;
    for job in work {
        let new = NewJob {
            prompt: Some(job.prompt.clone()),
            max_tokens: Some(i64::try_from(job.max_tokens)?),
            ..NewJob::default()
        };
        store.add_job(&new).await?;
    }
    store.close().await;
    Ok(())
}
