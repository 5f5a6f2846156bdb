//! How fast a file goes in: `claudeq import` of a million rows of 1 kB, beside what SQLite does
//! of itself with the same rows in groups of the same size.
//!
//! `cargo bench --bench import [-- NAME]`: rows a second and the part of the bare inserts that is,
//! peak memory of the process, CPU time a row (that of the bare inserts is their process's), and
//! how long a producer waits that inserts a row each 20 ms meanwhile. A daemon does not run.

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

use harness::program::{Running, claudeq, cpu, peak_memory};
use harness::table::Table;
use harness::{database, is_wanted, quantile};
use sqlx::Connection as _;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Rows of a file.
const ROWS: usize = 1_000_000;
/// Bytes of each prompt, line feeds and quotes among them.
const BYTES: usize = 1_000;
/// Rows of a bare statement: as many as `import` puts into one.
const GROUP: usize = 512;
/// Between two looks at the process, and between two inserts of the producer beside it.
const PAUSE: Duration = Duration::from_millis(20);

/// What was measured.
struct Figures {
    rows_per_second: f64,
    megabytes: f64,
    cpu_micros: f64,
    /// What each insert of a producer took, in milliseconds.
    waits: Vec<f64>,
}

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let table = Table::new(&["rows/s", "part", "peak MB", "CPU µs", "p99 ms", "most ms"]);
    let bare = runtime.block_on(bare())?;
    show(&table, "bare json_each", &bare, f64::NAN);
    for (name, format, beside) in [
        ("import of JSON lines", "jsonl", false),
        ("import of CSV with a template", "csv", false),
        ("import of JSON lines beside a producer", "jsonl", true),
    ] {
        if is_wanted(name) {
            let figures = runtime.block_on(import(format, beside))?;
            show(&table, name, &figures, bare.rows_per_second);
        }
    }
    Ok(())
}

fn show(table: &Table, name: &str, figures: &Figures, bare: f64) {
    let mut waits = figures.waits.clone();
    let [most_of, most] = [0.99, 1.0].map(|part| quantile(&mut waits, part));
    let part = figures.rows_per_second / bare;
    let row = [figures.rows_per_second, part, figures.megabytes, figures.cpu_micros, most_of, most];
    table.row(name, &row);
}

/// A prompt that differs from row to row.
fn prompt(row: usize) -> String {
    let mut text = format!("Summarise text {row}:\n");
    while text.len() < BYTES {
        text.push_str("it says \"so\" and goes on about this and that, for a line or two.\n");
    }
    text.truncate(BYTES);
    text
}

fn write(path: &Path, format: &str) -> anyhow::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    if format == "csv" {
        writeln!(file, "id,text")?;
    }
    for row in 0..ROWS {
        let prompt = prompt(row);
        if format == "csv" {
            writeln!(file, "doc-{row:07},\"{}\"", prompt.replace('"', "\"\""))?;
        } else {
            let prompt = serde_json::Value::from(prompt);
            writeln!(file, "{{\"prompt\": {prompt}, \"key\": \"doc-{row:07}\"}}")?;
        }
    }
    // Else the first commits wait for a gigabyte that is not theirs.
    file.into_inner()?.sync_all()?;
    Ok(())
}

async fn import(format: &str, beside: bool) -> anyhow::Result<Figures> {
    let folder = harness::folder()?;
    let path = database::create(folder.path()).await?;
    let file = folder.path().join(format!("rows.{format}"));
    write(&file, format)?;
    let mut command = claudeq();
    command.arg("import").arg(&file).arg("--db").arg(&path).current_dir(folder.path());
    if format == "csv" {
        command.args(["--template", "Read this. {{text}}", "--key-col", "id"]);
    }
    let begun = Instant::now();
    let mut process = Running(command.stdout(Stdio::null()).stderr(Stdio::inherit()).spawn()?);
    let (pid, mut producer, mut waits) = (process.0.id(), None, Vec::new());
    if beside {
        producer = Some(database::connect(&path).await?);
    }
    let (mut peak, mut used) = (0, Duration::ZERO);
    let status = loop {
        if let Some(status) = process.0.try_wait()? {
            break status;
        }
        // Both only grow; what comes in the last moment is not seen.
        peak = peak_memory(pid).unwrap_or(peak);
        used = cpu(pid).unwrap_or(used);
        if let Some(producer) = &mut producer {
            let begun = Instant::now();
            sqlx::query("INSERT INTO jobs (prompt) VALUES ('Say hi')").execute(producer).await?;
            waits.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        tokio::time::sleep(PAUSE).await;
    };
    let took = begun.elapsed();
    anyhow::ensure!(status.success(), "it failed");
    let jobs = count(&path).await? - waits.len();
    anyhow::ensure!(jobs == ROWS, "{jobs} jobs");
    Ok(Figures {
        rows_per_second: ROWS as f64 / took.as_secs_f64(),
        megabytes: peak as f64 / 1e6,
        cpu_micros: used.as_secs_f64() * 1e6 / ROWS as f64,
        waits,
    })
}

/// What must be there whatever the file is like: the statements and their commits.
async fn bare() -> anyhow::Result<Figures> {
    const INSERT: &str = "INSERT INTO jobs (prompt, key)
        SELECT value ->> 0, value ->> 1 FROM json_each(?1)";
    let folder = harness::folder()?;
    let path = database::create(folder.path()).await?;
    let mut connection = database::connect(&path).await?;
    sqlx::query("PRAGMA wal_autocheckpoint = 1000").execute(&mut connection).await?;
    let (mut took, mut used) = (Duration::ZERO, Duration::ZERO);
    for first in (0..ROWS).step_by(GROUP) {
        let rows = first..(first + GROUP).min(ROWS);
        let rows: Vec<_> = rows.map(|row| (prompt(row), format!("doc-{row:07}"))).collect();
        let rows = serde_json::to_string(&rows)?;
        let (begun, before) = (Instant::now(), cpu(std::process::id())?);
        sqlx::query(INSERT).bind(rows).execute(&mut connection).await?;
        took += begun.elapsed();
        used += cpu(std::process::id())?.saturating_sub(before);
    }
    connection.close().await?;
    anyhow::ensure!(count(&path).await? == ROWS, "some are missing");
    Ok(Figures {
        rows_per_second: ROWS as f64 / took.as_secs_f64(),
        megabytes: f64::NAN,
        cpu_micros: used.as_secs_f64() * 1e6 / ROWS as f64,
        waits: Vec::new(),
    })
}

async fn count(path: &Path) -> anyhow::Result<usize> {
    let mut connection = database::connect(path).await?;
    let count: i64 =
        sqlx::query_scalar("SELECT count(*) FROM job_state").fetch_one(&mut connection).await?;
    connection.close().await?;
    Ok(usize::try_from(count)?)
}
