//! The whole daemon against a simulator without limits, beside a bare loop of requests.
//!
//! `cargo bench --bench throughput [-- NAME]`: a job's way from its row to its committed result,
//! in the daemon's process, as a part of what a loop of the same requests reaches against the same
//! simulator in the same run. The simulator shares the machine's cores with both.

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

use harness::program::{Simulator, claudeq, configure, timed};
use harness::table::Table;
use harness::{database, is_wanted, median};
use serde_json::json;
use sqlx::Row as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Each case is measured so often; the medians are shown.
const RUNS: usize = 5;
/// Each measurement is to take about this long.
const SECONDS: f64 = 4.0;
/// Requests a second that are expected without latency, to choose how many to send.
const FAST: f64 = 8_000.0;

struct Case {
    latency: Duration,
    in_flight: usize,
    bytes: usize,
}

/// What one run of the daemon showed.
struct Run {
    per_second: f64,
    cpu_per_job: f64,
    commits_per_job: f64,
}

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let table = Table::new(&["bare loop/s", "claudeq/s", "part", "CPU µs/job", "commits/job"]);
    for case in cases() {
        let latency = match case.latency.as_millis() {
            0 => "no latency".to_owned(),
            millis => format!("{millis} ms"),
        };
        let name = format!("{latency}, {} in flight, {} bytes", case.in_flight, case.bytes);
        if is_wanted(&name) {
            runtime.block_on(measure(&table, &name, &case))?;
        }
    }
    Ok(())
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for latency in [200, 0].map(Duration::from_millis) {
        for bytes in [1_000, 100_000] {
            for in_flight in [64, 256, 1_000] {
                cases.push(Case { latency, in_flight, bytes });
            }
        }
    }
    cases
}

async fn measure(table: &Table, name: &str, case: &Case) -> anyhow::Result<()> {
    let folder = harness::folder()?;
    let simulator = Simulator::start(folder.path(), case.latency)?;
    let fast = if case.bytes > 10_000 { FAST / 8.0 } else { FAST };
    let rate = match case.latency.as_secs_f64() {
        latency if latency > 0.0 => fast.min(case.in_flight as f64 / latency),
        _ => fast,
    };
    let count = (rate * SECONDS) as usize;
    let (mut bare, mut runs) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        bare.push(bare_loop(&simulator.url, count, case).await?);
        runs.push(daemon(folder.path(), &simulator.url, count, case).await?);
    }
    let parts = bare.iter().zip(&runs).map(|(bare, run)| run.per_second / bare).collect();
    let of = |figure: fn(&Run) -> f64| median(runs.iter().map(figure).collect());
    let bare = median(bare.clone());
    table.row(
        name,
        &[
            bare,
            of(|run| run.per_second),
            median(parts),
            of(|run| run.cpu_per_job),
            of(|run| run.commits_per_job),
        ],
    );
    Ok(())
}

/// Requests a second by so many loops that send the next when the last is answered.
async fn bare_loop(url: &str, count: usize, case: &Case) -> anyhow::Result<f64> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .http1_only()
        .tls_backend_preconfigured(no_tls()?)
        .pool_max_idle_per_host(case.in_flight)
        .build()?;
    let prompt = format!("[[out=250]] {}", "x".repeat(case.bytes - 12));
    let body = json!({
        "model": "claude-haiku-4-5", "max_tokens": 1_000,
        "messages": [{ "role": "user", "content": prompt }],
    });
    let body = bytes::Bytes::from(body.to_string());
    let url: Arc<str> = format!("{url}/v1/messages").into();
    let left = Arc::new(AtomicUsize::new(count));
    let begun = Instant::now();
    let mut loops = tokio::task::JoinSet::new();
    for _ in 0..case.in_flight {
        let (client, body, url, left) = (client.clone(), body.clone(), url.clone(), left.clone());
        loops.spawn(async move {
            while left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
                .is_ok()
            {
                let request = client
                    .post(&*url)
                    .header("x-api-key", "sk-ant-benchmark")
                    .header("anthropic-version", "2023-06-01")
                    .header("content-type", "application/json")
                    .body(body.clone());
                let answer = request.send().await?.error_for_status()?;
                answer.bytes().await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = loops.join_next().await {
        ended??;
    }
    Ok(count as f64 / begun.elapsed().as_secs_f64())
}

/// The client wants a TLS configuration, although nothing here is encrypted.
fn no_tls() -> anyhow::Result<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth())
}

/// The daemon, from the first lease to the last committed result.
async fn daemon(folder: &Path, url: &str, count: usize, case: &Case) -> anyhow::Result<Run> {
    let folder = tempfile::tempdir_in(folder)?;
    let path = database::create(folder.path()).await?;
    database::add_jobs(&path, count, case.bytes).await?;
    let config = configure(folder.path(), url, case.in_flight)?;
    let mut command = claudeq();
    command.arg("daemon").arg("--until-empty").arg("--config").arg(config);
    command.current_dir(folder.path()).env("RUST_LOG", "warn");
    let (_, cpu) = timed(&mut command)?;
    let mut connection = database::connect(&path).await?;
    let row = sqlx::query(
        "SELECT count(*) AS calls, max(settled_at) - min(reserved_at) AS took,
           count(DISTINCT settled_at) + count(DISTINCT reserved_at) AS commits,
           sum(outcome = 'succeeded') AS completed
         FROM attempts",
    )
    .fetch_one(&mut connection)
    .await?;
    let completed: i64 = row.get("completed");
    anyhow::ensure!(completed == i64::try_from(count)?, "{completed} of {count} answered");
    let took: i64 = row.get("took");
    let commits: i64 = row.get("commits");
    let seconds = took as f64 / 1_000.0;
    Ok(Run {
        per_second: count as f64 / seconds,
        cpu_per_job: cpu.as_secs_f64() * 1e6 / count as f64,
        commits_per_job: commits as f64 / count as f64,
    })
}
