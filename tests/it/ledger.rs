//! The ledger can be rebuilt: snapshots are what the `attempts` rows add up to.

use claudeq::clock::{Clock, Entropy};
use claudeq::config::{Config, Overrides};
use claudeq::daemon::{self, Ended, Options};
use claudeq::domain::bucket::Bucket;
use claudeq::domain::limit::{Dimension, OutputMode};
use claudeq::domain::reservation::Amounts;
use claudeq::domain::time::{Millis, Timestamp};
use claudeq::simulator::{Config as SimConfig, LimitSet, Simulator};
use claudeq::store::{NewJob, Store};
use sqlx::Row;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqliteRow};
use std::path::Path;

/// More than the hundred jobs use in all, so that no header corrects a level.
const CONFIG: &str = r#"
[[pool]]
name = "sonnet-5-5"
requests_per_minute = 90000
input_tokens_per_minute = 9000000
output_tokens_per_minute = 7000001
burst = "60s"
MODE
[[budget]]
usd = 40.0
per = "total"
[[budget]]
tokens = 90000000
per = "day"
"#;

async fn run_jobs(folder: &Path, mode: &str) -> Config {
    let toml = folder.join("daemon.toml");
    std::fs::write(&toml, CONFIG.replace("MODE", mode)).unwrap();
    let limits = LimitSet { requests_per_minute: Some(90_000), ..LimitSet::default() };
    let simulator = Simulator::start(
        SimConfig { speed: 200.0, limits, ..SimConfig::default() },
        ([127, 0, 0, 1], 0).into(),
        Clock::system(),
    )
    .unwrap();
    let overrides = Overrides { base_url: Some(simulator.url()), ..Overrides::default() };
    let config = Config::load(Some(&toml), &overrides).unwrap();
    let store = Store::create(&config.database, false).await.unwrap();
    for number in 0..100_i64 {
        let fault = if number % 10 == 3 { "[[fault=500,times=1]]" } else { "" };
        store
            .add_job(&NewJob {
                prompt: Some(format!("{fault} [[out={}]] {}", 5 + number, "x".repeat(400))),
                max_tokens: Some(300),
                ..NewJob::default()
            })
            .await
            .unwrap();
    }
    store.close().await;
    let mut quick = config.clone();
    quick.retry.backoff.base = Millis(10);
    let ended = daemon::run(Options {
        config: quick,
        key: "key".to_owned().into(),
        until_empty: true,
        clock: Clock::system(),
        entropy: Entropy::seeded(7),
        notify_socket: None,
        host: "here".into(),
        reload: None,
    })
    .await
    .unwrap();
    assert_eq!(ended, Ended::Empty { failed: false, stuck: false });
    simulator.stop().await;
    config
}

/// What moved a bucket, and when.
struct Posting {
    at: Timestamp,
    reserved: Amounts,
    settled: Option<Amounts>,
}

fn postings(rows: &[SqliteRow]) -> Vec<Posting> {
    let mut postings = Vec::new();
    for row in rows {
        let amounts = |kind: &str| Amounts {
            requests: row.get(format!("{kind}_requests").as_str()),
            input_tokens: row.get(format!("{kind}_input_tokens").as_str()),
            output_tokens: row.get(format!("{kind}_output_tokens").as_str()),
        };
        let reserved = amounts("reserved");
        postings.push(Posting { at: Timestamp(row.get("reserved_at")), reserved, settled: None });
        postings.push(Posting {
            at: Timestamp(row.get("settled_at")),
            reserved,
            settled: Some(amounts("settled")),
        });
    }
    // A turn settles before it admits.
    postings.sort_by_key(|posting| (posting.at, posting.settled.is_none()));
    postings
}

async fn rebuilt(mode_key: &str, mode: OutputMode) {
    let folder = tempfile::tempdir().unwrap();
    let config = run_jobs(folder.path(), mode_key).await;
    let database = SqlitePool::connect_with(SqliteConnectOptions::new().filename(&config.database))
        .await
        .unwrap();
    let attempts =
        sqlx::query("SELECT * FROM attempts ORDER BY id").fetch_all(&database).await.unwrap();
    assert_eq!(attempts.len(), 110, "ten jobs needed a second attempt");
    let limits = sqlx::query("SELECT * FROM limit_snapshots").fetch_all(&database).await.unwrap();
    assert_eq!(limits.len(), 3);
    let postings = postings(&attempts);
    for limit in limits {
        let dimension = Dimension::parse(limit.get("dimension")).unwrap();
        let start = postings[0].at;
        let mut bucket =
            Bucket::full(limit.get("amount"), Millis::MINUTE, Some(Millis::MINUTE), start);
        for posting in &postings {
            let charge = posting.reserved.charge(dimension, mode);
            match posting.settled {
                None => bucket.reserve(charge, posting.at),
                Some(actual) => bucket.settle(charge, actual.of(dimension), posting.at),
            }
        }
        let as_of = Timestamp(limit.get("as_of"));
        assert_eq!(bucket.held(), limit.get::<i64, _>("held"), "{dimension:?}");
        assert_eq!(
            bucket.lasting_shares(as_of),
            limit.get::<i64, _>("level_shares"),
            "{dimension:?}"
        );
    }
    let money: i64 = attempts.iter().map(|row| row.get::<i64, _>("settled_nanousd")).sum();
    let tokens: i64 = attempts.iter().map(|row| row.get::<i64, _>("settled_tokens")).sum();
    let budgets = sqlx::query("SELECT * FROM budget_snapshots ORDER BY budget")
        .fetch_all(&database)
        .await
        .unwrap();
    let spent: Vec<i64> = budgets.iter().map(|row| row.get("spent")).collect();
    assert_eq!(spent, [tokens, money]);
    assert!(budgets.iter().all(|row| row.get::<i64, _>("reserved") == 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_are_what_the_attempts_add_up_to() {
    rebuilt("", OutputMode::Realtime).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn also_where_the_provider_reserves_max_tokens() {
    rebuilt("output_mode = \"reserve\"", OutputMode::Reserve).await;
}
