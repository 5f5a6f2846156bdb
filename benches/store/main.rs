//! Lease and settlement as the store writes them, beside the same tables' bare statements.
//!
//! `cargo bench --bench store [-- NAME]`: jobs a second through `admit` and `settle` at
//! `synchronous=FULL`, with bodies and answers of 1,000 bytes; then what SQLite does of itself
//! when the same rows are written by one statement a table, fed by `json_each`, in as many
//! commits. Neither moves pages out of the WAL meanwhile.

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

use claudeq::store::Store;
use harness::table::Table;
use harness::{cycles, database, is_wanted, median};
use serde_json::{Value, json};
use sqlx::SqliteConnection;
use std::time::{Duration, Instant};

/// Each case is measured so often; the medians are shown.
const RUNS: usize = 5;
/// Bytes of text in an answer; its JSON has the same text again.
const ANSWER: usize = 1_000;

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let table = Table::new(&["bare/s", "store/s", "part", "read µs", "lease µs", "settle µs"]);
    for group in [1, 16, 64, 256] {
        let name = format!("groups of {group}");
        if is_wanted(&name) {
            runtime.block_on(measure(&table, &name, group))?;
        }
    }
    Ok(())
}

async fn measure(table: &Table, name: &str, group: usize) -> anyhow::Result<()> {
    let count = if group == 1 { 500 } else { 40 * group };
    let (mut bare, mut through) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        bare.push(bare_statements(count, group).await?);
        through.push(store(count, group).await?);
    }
    let per_second = |cycles: &cycles::Cycles| cycles.per_second();
    let parts = bare.iter().zip(&through).map(|(bare, store)| per_second(store) / bare).collect();
    let micros = |part: fn(&cycles::Cycles) -> std::time::Duration| {
        median(through.iter().map(|one| part(one).as_secs_f64() * 1e6 / count as f64).collect())
    };
    table.row(
        name,
        &[
            median(bare.clone()),
            median(through.iter().map(per_second).collect()),
            median(parts),
            micros(|one| one.reading),
            micros(|one| one.leasing),
            micros(|one| one.settling),
        ],
    );
    Ok(())
}

async fn store(count: usize, group: usize) -> anyhow::Result<cycles::Cycles> {
    let folder = harness::folder()?;
    let path = database::create(folder.path()).await?;
    database::add_jobs(&path, count, 1_000).await?;
    let store = Store::open_for_daemon(&path, Duration::from_secs(5)).await?;
    let cycles = cycles::run(&store, count, group, &"x".repeat(ANSWER)).await?;
    store.close().await;
    Ok(cycles)
}

/// Jobs a second when nobody asks whose they are: no guard, no fence, no ledger.
async fn bare_statements(count: usize, group: usize) -> anyhow::Result<f64> {
    let folder = harness::folder()?;
    let path = database::create(folder.path()).await?;
    database::add_jobs(&path, count, 1_000).await?;
    let store = Store::open(&path).await?;
    let epoch = cycles::epoch(&store).await?.0;
    store.close().await;
    let mut connection = database::connect(&path).await?;
    let answer = "x".repeat(ANSWER);
    let body = format!(r#"{{"content":[{{"type":"text","text":"{answer}"}}]}}"#);
    let begun = Instant::now();
    for first in (1..=count).step_by(group) {
        let read: Vec<(i64, String)> = sqlx::query_as(BARE_READ)
            .bind(i64::try_from(first)?)
            .bind(i64::try_from(group)?)
            .fetch_all(&mut connection)
            .await?;
        anyhow::ensure!(read.len() == group, "too few jobs");
        let jobs: Vec<i64> = read.iter().map(|(id, _)| *id).collect();
        let jobs = serde_json::to_string(&jobs)?;
        in_one(&mut connection, &[BARE_RESERVE, BARE_LEASE], &jobs, epoch).await?;
        // The first database of its kind: attempts are numbered like the jobs.
        let answers: Vec<Value> = read.iter().map(|(id, _)| json!([id, body, answer])).collect();
        let answers = Value::Array(answers).to_string();
        let statements = [BARE_RESPONSES, BARE_SETTLE, BARE_FINISH];
        in_one(&mut connection, &statements, &answers, epoch).await?;
    }
    Ok(count as f64 / begun.elapsed().as_secs_f64())
}

/// All statements on the same rows, in one transaction.
async fn in_one(
    connection: &mut SqliteConnection,
    statements: &[&'static str],
    rows: &str,
    epoch: i64,
) -> anyhow::Result<()> {
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
    for statement in statements {
        sqlx::query(*statement).bind(rows).bind(epoch).execute(&mut *connection).await?;
    }
    sqlx::query("COMMIT").execute(&mut *connection).await?;
    Ok(())
}

const BARE_READ: &str = "SELECT id, prompt FROM jobs WHERE id >= ?1 ORDER BY id LIMIT ?2";

const BARE_RESERVE: &str = "INSERT INTO attempts (job_id, number, epoch, queue, pool, model,
    output_mode, body_bytes, reserved_at, reserved_requests, reserved_input_tokens,
    reserved_output_tokens, worst_input_tokens, worst_output_tokens, worst_nanousd)
  SELECT value, 1, ?2, 'default', 'haiku', 'claude-haiku-4-5', 'realtime', 1000, 1790000000000,
    1, 250, 250, 1000, 1000, 6000000
  FROM json_each(?1)";

const BARE_LEASE: &str = "UPDATE job_state SET state = 'running', attempts = 1, epoch = ?2,
    attempt_id = value
  FROM json_each(?1) AS v WHERE job_state.id = v.value";

const BARE_RESPONSES: &str = "INSERT INTO responses (attempt_id, body, text)
  SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each(?1) WHERE ?2 > 0";

const BARE_SETTLE: &str = "UPDATE attempts SET settlement = 'actual', settled_at = 1790000000200,
    counted_at = 1790000000200, settled_requests = 1, settled_input_tokens = 240,
    settled_output_tokens = 250, settled_tokens = 490, settled_nanousd = 1490000,
    outcome = 'succeeded', http_status = 200, request_id = 'req_011CSHoEeqs5C35K2UUqR7Fy',
    stop_reason = 'end_turn', input_tokens = 240, output_tokens = 250, cache_read_tokens = 0,
    cache_write_tokens = 0, sent_at = 1790000000000, first_byte_at = 1790000000200,
    done_at = 1790000000200, headers = '{\"anthropic-ratelimit-requests-limit\":\"4000\",\"anthropic-ratelimit-requests-remaining\":\"3999\"}'
  FROM json_each(?1) AS v WHERE attempts.id = (v.value ->> 0) AND epoch = ?2";

const BARE_FINISH: &str = "UPDATE job_state SET state = 'succeeded', epoch = NULL,
    counted_attempts = 1, finished_seq = v.value ->> 0, finished_at = 1790000000200
  FROM json_each(?1) AS v WHERE job_state.id = (v.value ->> 0) AND epoch = ?2";
