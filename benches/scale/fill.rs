//! Jobs in millions, as the daemon and its producers would have left them.

use super::harness::database;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, SqliteConnection};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Between two jobs that ended, in milliseconds: ten million took the seventeen hours until now.
const APART: u64 = 6;

/// Adds finished jobs and, behind them, waiting ones.
///
/// The triggers that producers meet are away meanwhile: they check each row and add its state,
/// which the statements here do themselves.
///
/// # Errors
/// When the database cannot be written.
pub(super) async fn fill(
    path: &Path,
    waiting: u64,
    finished: u64,
    bytes: usize,
) -> anyhow::Result<()> {
    let mut connection = database::connect(path).await?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let all = waiting + finished;
    for pragma in ["synchronous = OFF", "journal_mode = OFF", "cache_size = -1000000"] {
        connection.execute(AssertSqlSafe(format!("PRAGMA {pragma}"))).await?;
    }
    let triggers: Vec<(String, String)> =
        sqlx::query_as("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
            .fetch_all(&mut connection)
            .await?;
    run(&mut connection, "BEGIN EXCLUSIVE").await?;
    for (name, _) in &triggers {
        run(&mut connection, &format!("DROP TRIGGER {name}")).await?;
    }
    let numbers = |from: u64, to: u64| {
        format!(
            "WITH RECURSIVE n(i) AS (SELECT {from} UNION ALL SELECT i + 1 FROM n WHERE i < {to})"
        )
    };
    let jobs = format!(
        "{} INSERT INTO jobs (id, prompt, model, max_tokens, created_at)
         SELECT i, substr('[[out=25]] ' || i || ' ' || printf('%.*c', {bytes}, 'x'), 1, {bytes}),
           'claude-haiku-4-5', 1000, {now} FROM n",
        numbers(1, all)
    );
    run(&mut connection, &jobs).await?;
    let ready = format!(
        "{} INSERT INTO job_state (id, queue, priority) SELECT i, 'default', 0 FROM n",
        numbers(finished + 1, all)
    );
    run(&mut connection, &ready).await?;
    if finished > 0 {
        let ended = format!("{now} - ({finished} - i) * {APART}");
        done(&mut connection, finished, &ended, &numbers(1, finished)).await?;
    }
    for (_, sql) in &triggers {
        run(&mut connection, sql).await?;
    }
    run(&mut connection, "COMMIT").await?;
    run(&mut connection, "PRAGMA journal_mode = WAL").await?;
    connection.close().await?;
    Ok(())
}

/// The states, attempts and answers of jobs that have ended.
async fn done(
    connection: &mut SqliteConnection,
    finished: u64,
    ended: &str,
    numbers: &str,
) -> anyhow::Result<()> {
    let states = format!(
        "{numbers} INSERT INTO job_state (id, queue, priority, state, attempts, counted_attempts,
           attempt_id, finished_seq, finished_at)
         SELECT i, 'default', 0, 'succeeded', 1, 1, i, i, {ended} FROM n"
    );
    run(connection, &states).await?;
    let attempts = format!(
        "{numbers} INSERT INTO attempts (id, job_id, number, epoch, queue, pool, model, output_mode,
           body_bytes, reserved_at, reserved_requests, reserved_input_tokens,
           reserved_output_tokens, worst_input_tokens, worst_output_tokens, worst_nanousd,
           settlement, settled_at, counted_at, settled_requests, settled_input_tokens,
           settled_output_tokens, settled_tokens, settled_nanousd, outcome, http_status, request_id,
           stop_reason, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, sent_at,
           first_byte_at, done_at)
         SELECT i, i, 1, 1, 'default', 'all', 'claude-haiku-4-5', 'realtime',
           100, {ended} - 300, 1, 30, 25, 30, 1000, 5030000,
           'actual', {ended}, {ended}, 1, 30, 25, 55, 155000, 'succeeded', 200, 'req_' || i,
           'end_turn', 30, 25, 0, 0, {ended} - 290, {ended} - 90, {ended} - 80 FROM n"
    );
    run(connection, &attempts).await?;
    let spending =
        "INSERT INTO spending SELECT reserved_at / 900000 * 900000, queue, model, count(*),
           sum(settled_nanousd), sum(settled_tokens), sum(settled_input_tokens),
           sum(settled_output_tokens), 0 FROM attempts GROUP BY 1, 2, 3";
    run(connection, spending).await?;
    let answer = "x".repeat(100);
    let responses = format!(
        "{numbers} INSERT INTO responses (attempt_id, body, text)
         SELECT i, '{{\"content\":[{{\"type\":\"text\",\"text\":\"{answer}\"}}]}}', '{answer}'
         FROM n"
    );
    run(connection, &responses).await?;
    run(connection, &format!("UPDATE sequences SET value = {finished}")).await?;
    let counts = format!("UPDATE finished_counts SET jobs = {finished} WHERE state = 'succeeded'");
    run(connection, &counts).await
}

async fn run(connection: &mut SqliteConnection, sql: &str) -> anyhow::Result<()> {
    connection.execute(AssertSqlSafe(sql.to_owned())).await?;
    Ok(())
}
