//! Whether producers are kept waiting: eight of them insert row by row while the daemon works as
//! fast as it can.
//!
//! `cargo bench --bench producers`: the same eight beside an idle daemon are the measure.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::disallowed_methods,
    reason = "a benchmark measures, and its figures are small and positive"
)]

#[path = "../harness/mod.rs"]
#[expect(dead_code, reason = "other benchmarks ask for more")]
mod harness;

use harness::program::{Running, Simulator, claudeq, configure};
use harness::table::Table;
use harness::{database, quantile};
use sqlx::Connection as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Who insert at once.
const PRODUCERS: usize = 8;
/// For so long.
const FOR: Duration = Duration::from_secs(10);
/// Jobs that are there at the beginning, more than can be done meanwhile.
const BACKLOG: usize = 200_000;

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let table = Table::new(&["inserts/s", "p50 ms", "p99 ms", "most ms", "refused", "jobs/s"]);
    for (name, backlog) in
        [("beside an idle database", 0), ("beside a daemon at full load", BACKLOG)]
    {
        let figures = runtime.block_on(measure(backlog))?;
        table.row(name, &figures);
    }
    Ok(())
}

async fn measure(backlog: usize) -> anyhow::Result<[f64; 6]> {
    let folder = harness::folder()?;
    let path = database::create(folder.path()).await?;
    let simulator = Simulator::start(folder.path(), Duration::ZERO)?;
    let mut daemon = None;
    if backlog > 0 {
        database::add_jobs(&path, backlog, 1_000).await?;
        let config = configure(folder.path(), &simulator.url, 256)?;
        let mut command = claudeq();
        command.arg("daemon").arg("--config").arg(config).current_dir(folder.path());
        daemon = Some(Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?));
        while finished(&path).await? == 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    let before = finished(&path).await?;
    let until = Instant::now() + FOR;
    let mut producers = tokio::task::JoinSet::new();
    for _ in 0..PRODUCERS {
        producers.spawn(produce(path.clone(), until));
    }
    let (mut times, mut refused) = (Vec::new(), 0);
    while let Some(ended) = producers.join_next().await {
        let (some, busy) = ended??;
        times.extend(some);
        refused += busy;
    }
    let done = finished(&path).await? - before;
    drop(daemon);
    let inserted = times.len() as f64;
    let [middle, most_of, most] = [0.5, 0.99, 1.0].map(|part| quantile(&mut times, part));
    let seconds = FOR.as_secs_f64();
    let refused = f64::from(refused);
    Ok([inserted / seconds, middle, most_of, most, refused, done as f64 / seconds])
}

async fn finished(path: &Path) -> anyhow::Result<i64> {
    let mut connection = database::connect(path).await?;
    let count = sqlx::query_scalar("SELECT value FROM sequences WHERE name = 'finished'")
        .fetch_one(&mut connection)
        .await?;
    connection.close().await?;
    Ok(count)
}

/// Milliseconds that each insert took, and how many were refused as busy.
async fn produce(path: std::path::PathBuf, until: Instant) -> anyhow::Result<(Vec<f64>, u32)> {
    const INSERT: &str = "INSERT INTO jobs (prompt, model, max_tokens)
        VALUES ('[[out=250]] ' || printf('%.*c', 1000, 'x'), 'claude-haiku-4-5', 1000)";
    let mut connection = database::connect(&path).await?;
    let (mut times, mut refused) = (Vec::new(), 0);
    while Instant::now() < until {
        let begun = Instant::now();
        match sqlx::query(INSERT).execute(&mut connection).await {
            Ok(_) => times.push(begun.elapsed().as_secs_f64() * 1e3),
            Err(sqlx::Error::Database(_)) => refused += 1,
            Err(error) => return Err(error.into()),
        }
    }
    Ok((times, refused))
}
