//! From a producer's commit in another process to the request at the server, and what waiting
//! costs.
//!
//! `cargo bench --bench wake`: the daemon has nothing to do; every now and then this process
//! commits one job with `synchronous=FULL` and waits for its request to arrive.

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

use anyhow::Context as _;
use harness::program::{Running, claudeq, configure, cpu};
use harness::table::Table;
use harness::{database, is_wanted, quantile};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// Jobs that are committed one by one.
const JOBS: usize = 300;
/// Between two of them: the daemon is idle again.
const PAUSE: Duration = Duration::from_millis(37);
/// For so long an idle daemon is watched.
const IDLE: Duration = Duration::from_secs(30);

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure())
}

async fn measure() -> anyhow::Result<()> {
    let folder = harness::folder()?;
    let (url, mut arrivals) = serve().await?;
    let path = database::create(folder.path()).await?;
    let config = configure(folder.path(), &url, 16)?;
    let mut command = claudeq();
    command.arg("daemon").arg("--config").arg(config).current_dir(folder.path());
    let daemon = Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
    let mut producer = database::connect(&path).await?;
    // The first call opens the connection and is not measured.
    commit(&mut producer, &mut arrivals).await?;
    if is_wanted("wake") {
        let table = Table::new(&["p50 ms", "p99 ms", "most ms"]);
        let (mut from_begin, mut from_commit) = (Vec::new(), Vec::new());
        for _ in 0..JOBS {
            tokio::time::sleep(PAUSE).await;
            let (begin, end) = commit(&mut producer, &mut arrivals).await?;
            from_begin.push(begin);
            from_commit.push(end);
        }
        for (name, mut times) in [
            ("from the end of COMMIT to the request", from_commit),
            ("from its beginning, with the producer's fsync", from_begin),
        ] {
            let figures = [0.5, 0.99, 1.0].map(|part| quantile(&mut times, part));
            table.row(name, &figures);
        }
    }
    if is_wanted("idle") {
        let table = Table::new(&["% of a core"]);
        tokio::time::sleep(Duration::from_secs(2)).await;
        let before = cpu(daemon.0.id())?;
        tokio::time::sleep(IDLE).await;
        let used = cpu(daemon.0.id())?.saturating_sub(before);
        table.row("an idle daemon", &[used.as_secs_f64() / IDLE.as_secs_f64() * 100.0]);
    }
    Ok(())
}

/// Commits one job; milliseconds from the statement's begin and end to the request's arrival.
async fn commit(
    producer: &mut sqlx::SqliteConnection,
    arrivals: &mut mpsc::UnboundedReceiver<Instant>,
) -> anyhow::Result<(f64, f64)> {
    const INSERT: &str = "INSERT INTO jobs (prompt, model, max_tokens) VALUES ('Hi', 'haiku', 9)";
    let begun = Instant::now();
    sqlx::query(INSERT).execute(producer).await?;
    let committed = Instant::now();
    let arrived = tokio::time::timeout(Duration::from_secs(10), arrivals.recv()).await;
    let arrived = arrived.context("no request came")?.context("the server has ended")?;
    let since = |from: Instant| arrived.saturating_duration_since(from).as_secs_f64() * 1e3;
    Ok((since(begun), since(committed)))
}

/// A server that says when requests arrive, and answers them all alike.
async fn serve() -> anyhow::Result<(String, mpsc::UnboundedReceiver<Instant>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let (arrived, arrivals) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(converse(socket, arrived.clone()));
        }
    });
    Ok((url, arrivals))
}

/// Requests are far smaller than the buffer, and each comes only after the last was answered.
async fn converse(
    mut socket: TcpStream,
    arrived: mpsc::UnboundedSender<Instant>,
) -> std::io::Result<()> {
    const ANSWER: &str = r#"{"id":"msg_1","type":"message","role":"assistant","model":"haiku","content":[{"type":"text","text":"Hi"}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":8,"output_tokens":1}}"#;
    socket.set_nodelay(true)?;
    let mut buffer = vec![0; 16_384];
    loop {
        let mut filled = 0;
        while !buffer[..filled].ends_with(b"}") {
            match socket.read(&mut buffer[filled..]).await? {
                0 => return Ok(()),
                more => {
                    if filled == 0 {
                        let _ = arrived.send(Instant::now());
                    }
                    filled += more;
                }
            }
        }
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nrequest-id: req_1";
        let reply = format!("{head}\r\ncontent-length: {}\r\n\r\n{ANSWER}", ANSWER.len());
        socket.write_all(reply.as_bytes()).await?;
    }
}
