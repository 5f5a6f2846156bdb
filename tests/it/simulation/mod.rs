//! The daemon's own turns against a simulated provider in virtual time: killed at random moments,
//! among random faults, and measured where only many minutes tell.
//!
//! A failing round is repeated by its seed, which every message names.

mod order;
mod outage;
mod rounds;

use crate::world::World;
use claudeq::config::{Config, Overrides};
use claudeq::simulator::{Config as Sim, FaultRule, LimitSet, PoolConfig};
use claudeq::store::Store;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};
use tempfile::TempDir;

/// A queue, filled by one SQL statement, and a provider of these limits, which the daemon knows.
struct Scene {
    limits: LimitSet,
    faults: Vec<FaultRule>,
    /// Further lines of the configuration.
    settings: &'static str,
    insert: String,
    seed: u64,
}

impl Scene {
    async fn begin(&self) -> (TempDir, World) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("daemon.toml");
        std::fs::write(&file, self.toml()).unwrap();
        let config = Config::load(Some(&file), &Overrides::default()).unwrap();
        Store::create(&config.database, false).await.unwrap().close().await;
        let producer = open(&config.database).await;
        sqlx::query(sqlx::AssertSqlSafe(self.insert.clone())).execute(&producer).await.unwrap();
        producer.close().await;
        let simulator = Sim {
            pools: vec![PoolConfig {
                name: "all".into(),
                models: vec!["*".into()],
                limits: self.limits.clone(),
            }],
            faults: self.faults.clone(),
            seed: self.seed,
            ..Sim::default()
        };
        let world = World::new(config, simulator, self.seed).await.unwrap();
        (dir, world)
    }

    fn toml(&self) -> String {
        let line = |name: &str, amount: Option<u64>| {
            amount.map_or(String::new(), |amount| format!("{name} = {amount}\n"))
        };
        let limits = &self.limits;
        format!(
            "[defaults]\nmodel = \"claude-sonnet-5\"\n{}\n\
             [[pool]]\nname = \"all\"\nmodels = [\"*\"]\nburst = \"60s\"\n{}{}{}",
            self.settings,
            line("requests_per_minute", limits.requests_per_minute),
            line("input_tokens_per_minute", limits.input_tokens_per_minute),
            line("output_tokens_per_minute", limits.output_tokens_per_minute),
        )
    }
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
