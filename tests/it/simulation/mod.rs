//! The daemon's own turns against a simulated provider in virtual time: killed at random moments,
//! among random faults, and measured where only many minutes tell.
//!
//! A failing round is repeated by its seed, which every message names.

mod again;
mod limits;
mod order;
mod outage;
mod rounds;

use crate::world::World;
use claudeq::config::{Config, Overrides};
use claudeq::simulator::{Config as Sim, FaultRule, Latency, LimitSet, PoolConfig, Ramp};
use claudeq::store::Store;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};
use tempfile::TempDir;

/// The model that is asked where nothing else is said.
const MODEL: &str = "claude-sonnet-5";

/// A queue and a provider, and what the daemon is told of it.
struct Scene {
    limits: LimitSet,
    /// Further pools of the provider, before the one of all other models.
    pools: Vec<PoolConfig>,
    faults: Vec<FaultRule>,
    ramp: Option<Ramp>,
    latency: Latency,
    /// `None`: the limits and `burst = "60s"`.
    told: Option<String>,
    /// Further lines of the configuration.
    settings: &'static str,
    /// Fills the queue.
    insert: String,
    seed: u64,
}

impl Default for Scene {
    fn default() -> Scene {
        Scene {
            limits: LimitSet::default(),
            pools: Vec::new(),
            faults: Vec::new(),
            ramp: None,
            latency: Latency::default(),
            told: None,
            settings: "",
            insert: String::new(),
            seed: 1,
        }
    }
}

impl Scene {
    async fn begin(&self) -> (TempDir, World) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("daemon.toml");
        std::fs::write(&file, self.toml()).unwrap();
        let config = Config::load(Some(&file), &Overrides::default()).unwrap();
        Store::create(&config.database, false).await.unwrap().close().await;
        if !self.insert.is_empty() {
            execute(&config.database, self.insert.clone()).await;
        }
        let all = PoolConfig {
            name: "all".into(),
            models: vec!["*".into()],
            limits: self.limits.clone(),
        };
        let simulator = Sim {
            pools: self.pools.iter().cloned().chain([all]).collect(),
            faults: self.faults.clone(),
            ramp: self.ramp.clone(),
            latency: self.latency.clone(),
            seed: self.seed,
            ..Sim::default()
        };
        let world = World::new(config, simulator, self.seed).await.unwrap();
        (dir, world)
    }

    fn toml(&self) -> String {
        let told = self.told.clone().unwrap_or_else(|| pool(&self.limits, "burst = \"60s\""));
        format!("[defaults]\nmodel = \"{MODEL}\"\n{}\n{told}", self.settings)
    }
}

/// The daemon's own pool of all models, with these limits.
fn pool(limits: &LimitSet, told: &str) -> String {
    let line = |name: &str, amount: Option<u64>| {
        amount.map_or(String::new(), |amount| format!("{name} = {amount}\n"))
    };
    format!(
        "[[pool]]\nname = \"all\"\nmodels = [\"*\"]\n{told}\n{}{}{}{}",
        line("requests_per_minute", limits.requests_per_minute),
        line("input_tokens_per_minute", limits.input_tokens_per_minute),
        line("output_tokens_per_minute", limits.output_tokens_per_minute),
        line("tokens_per_minute", limits.tokens_per_minute),
    )
}

async fn execute(database: &std::path::Path, sql: String) {
    let producer = open(database).await;
    sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&producer).await.unwrap();
    producer.close().await;
}

/// `count` jobs of the mixed workload, as one statement.
fn mixed(count: usize, columns: &str, values: &str) -> String {
    let work = crate::workload::jobs(count, 0.0, 7);
    let rows: Vec<String> =
        work.iter().map(|job| format!("('{}', {}{values})", job.prompt, job.max_tokens)).collect();
    format!("INSERT INTO jobs (prompt, max_tokens{columns}) VALUES {}", rows.join(", "))
}

async fn open(database: &std::path::Path) -> SqlitePool {
    SqlitePool::connect_with(SqliteConnectOptions::new().filename(database)).await.unwrap()
}

/// A single number from the database.
async fn number(world: &World, select: &'static str) -> i64 {
    let database = open(world.database()).await;
    let number = sqlx::query_scalar(select).fetch_one(&database).await.unwrap();
    database.close().await;
    number
}
