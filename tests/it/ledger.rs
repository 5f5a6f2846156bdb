//! The ledger can be rebuilt: snapshots are what the `attempts` rows add up to.

use claudeq::clock::{Clock, Entropy};
use claudeq::config::{Config, Overrides};
use claudeq::daemon::{self, Ended, Options};
use claudeq::domain::bucket::Bucket;
use claudeq::domain::limit::{Dimension, OutputMode};
use claudeq::domain::production::Draw;
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
    settled: Amounts,
    is_end: bool,
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
        let settled = amounts("settled");
        for (column, is_end) in [("reserved_at", false), ("settled_at", true)] {
            postings.push(Posting { at: Timestamp(row.get(column)), reserved, settled, is_end });
        }
    }
    // A turn settles before it admits.
    postings.sort_by_key(|posting| (posting.at, !posting.is_end));
    postings
}

/// When output that is not reserved is taken off.
#[derive(Clone, Copy, PartialEq)]
enum Output {
    AtTheStart,
    AtTheEnd,
}

fn replayed(
    mut bucket: Bucket,
    postings: &[Posting],
    dimension: Dimension,
    mode: OutputMode,
    output: Output,
) -> Bucket {
    for posting in postings {
        let debit = posting.reserved.debit(dimension, mode);
        let written = match (dimension, mode, output) {
            (Dimension::OutputTokens, OutputMode::Realtime, Output::AtTheStart) => {
                posting.settled.output_tokens
            }
            _ => 0,
        };
        if posting.is_end {
            bucket.settle(debit + written, posting.settled.of(dimension), posting.at);
        } else {
            bucket.reserve(debit, posting.at);
            let at = posting.at;
            bucket.draw(Draw { from: at, to: at, tokens: written });
        }
    }
    bucket
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
        assert_eq!(limit.get::<i64, _>("held"), 0, "{dimension:?}");
        // Output is taken off while it is written: not before the start, not after the end.
        let replay = |output: Output| {
            let full = Bucket::full(
                limit.get("amount"),
                Millis::MINUTE,
                Some(Millis::MINUTE),
                postings[0].at,
            );
            let bucket = replayed(full, &postings, dimension, mode, output);
            bucket.lasting_shares(0, Timestamp(limit.get("as_of")))
        };
        let level = limit.get::<i64, _>("level_shares");
        let (least, most) = (replay(Output::AtTheEnd), replay(Output::AtTheStart));
        assert!((least..=most).contains(&level), "{dimension:?}: {least} ≤ {level} ≤ {most}");
        let by_time = dimension == Dimension::OutputTokens && mode == OutputMode::Realtime;
        assert!(by_time || least == most, "{dimension:?}");
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
