//! Whether anything grows with the file: a small queue, a million jobs waiting, and ten million
//! finished ones beside them.
//!
//! `cargo bench --bench scale [-- NAME]`: each file is filled by plain SQL, then admission and
//! settlement, the commands that people wait for, start-up, recovery, memory and size are measured
//! on it. The largest file takes some eight gigabytes for a while.

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

mod fill;

use anyhow::Context as _;
use claudeq::store::Store;
use harness::program::{Running, Simulator, claudeq, configure, peak_memory, timed};
use harness::table::Table;
use harness::{cycles, database, is_wanted, median};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Each figure is the median of so many.
const RUNS: usize = 5;
/// Jobs leased and settled in each run, in groups of [`GROUP`].
const JOBS: usize = 2 * GROUP;
const GROUP: usize = 256;
/// Calls in flight while memory is measured, and for how long each time: the small queue is not
/// to run out.
const IN_FLIGHT: usize = 256;
const LOAD: Duration = Duration::from_secs(1);
/// The argument by which this program asks itself for [`through_the_store`]: a process keeps the
/// lock of a database that it once had, and daemons follow.
const STORE: &str = "--through-the-store";

struct Case {
    name: &'static str,
    waiting: u64,
    finished: u64,
    body_bytes: usize,
}

const CASES: [Case; 4] = [
    Case { name: "10k waiting", waiting: 10_000, finished: 0, body_bytes: 100 },
    Case { name: "1M waiting", waiting: 1_000_000, finished: 0, body_bytes: 100 },
    Case { name: "1M waiting of 1 kB", waiting: 1_000_000, finished: 0, body_bytes: 1_000 },
    Case {
        name: "1M waiting + 10M done",
        waiting: 1_000_000,
        finished: 10_000_000,
        body_bytes: 100,
    },
];

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if let Some(path) = std::env::args().skip_while(|argument| argument != STORE).nth(1) {
        let (lease, settle) = runtime.block_on(through_the_store(Path::new(&path)))?;
        println!("{lease} {settle}");
        return Ok(());
    }
    let table = Table::new(&[
        "lease µs",
        "settle µs",
        "status ms",
        "list ms",
        "start ms",
        "recover ms",
        "peak MB",
        "file MB",
        "fill s",
    ]);
    for case in CASES.iter().filter(|case| is_wanted(case.name)) {
        table.row(case.name, &runtime.block_on(measure(case))?);
    }
    Ok(())
}

async fn measure(case: &Case) -> anyhow::Result<[f64; 9]> {
    let folder = harness::folder()?;
    let path = database::create(folder.path()).await?;
    let begun = Instant::now();
    fill::fill(&path, case.waiting, case.finished, case.body_bytes).await?;
    let filled = begun.elapsed().as_secs_f64();
    let file = std::fs::metadata(&path)?.len() as f64 / 1e6;
    let output = Command::new(std::env::current_exe()?).arg(STORE).arg(&path).output()?;
    let figures = String::from_utf8(output.stdout)?;
    let (lease, settle) = figures.trim().split_once(' ').context("two figures of the store")?;
    let (lease, settle) = (lease.parse()?, settle.parse()?);
    let status = command(folder.path(), &["status"])?;
    let list = command(folder.path(), &["list", "--limit", "50"])?;
    let simulator = Simulator::start(folder.path(), Duration::from_millis(200))?;
    configure(folder.path(), &simulator.url, IN_FLIGHT)?;
    let (mut starts, mut recoveries, mut peak) = (Vec::new(), Vec::new(), 0.0_f64);
    for _ in 0..RUNS {
        let (daemon, ready) = start(folder.path())?;
        starts.push(ready);
        tokio::time::sleep(LOAD).await;
        peak = peak.max(peak_memory(daemon.0.id())? as f64 / 1e6);
        // Killed, with calls in flight.
        drop(daemon);
        let (daemon, ready) = start(folder.path())?;
        recoveries.push(ready);
        stop(daemon)?;
    }
    let (start, recovery) = (median(starts), median(recoveries));
    Ok([lease, settle, status, list, start, recovery, peak, file, filled])
}

/// Microseconds a job for a lease and for a settlement, in groups.
async fn through_the_store(path: &Path) -> anyhow::Result<(f64, f64)> {
    let store = Store::open_for_daemon(path, Duration::from_secs(5)).await?;
    let (mut leasing, mut settling) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let done = cycles::run(&store, JOBS, GROUP, &"x".repeat(100)).await?;
        leasing.push(done.leasing.as_secs_f64() * 1e6 / done.jobs as f64);
        settling.push(done.settling.as_secs_f64() * 1e6 / done.jobs as f64);
    }
    store.close().await;
    Ok((median(leasing), median(settling)))
}

/// Milliseconds that a command takes, process and all.
fn command(folder: &Path, arguments: &[&str]) -> anyhow::Result<f64> {
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let mut command = claudeq();
        command.args(arguments).args(["--db", "queue.db"]).current_dir(folder);
        times.push(timed(&mut command)?.0.as_secs_f64() * 1e3);
    }
    Ok(median(times))
}

/// Starts a daemon, and waits until it says that it is ready; milliseconds.
fn start(folder: &Path) -> anyhow::Result<(Running, f64)> {
    let address = folder.join("notify");
    let _ = std::fs::remove_file(&address);
    let socket = UnixDatagram::bind(&address)?;
    socket.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut command = claudeq();
    command.args(["daemon", "--config", "daemon.toml"]).current_dir(folder);
    command.env("NOTIFY_SOCKET", &address).stdout(Stdio::null()).stderr(Stdio::null());
    let begun = Instant::now();
    let daemon = Running(command.spawn()?);
    let mut message = [0; 4_096];
    loop {
        let length = socket.recv(&mut message).context("the daemon never became ready")?;
        if message[..length].starts_with(b"READY=1") {
            return Ok((daemon, begun.elapsed().as_secs_f64() * 1e3));
        }
    }
}

/// Ends a daemon as an operator would, with its calls.
fn stop(mut daemon: Running) -> anyhow::Result<()> {
    let id = daemon.0.id().to_string();
    Command::new("kill").args(["-TERM", &id]).status()?;
    daemon.0.wait()?;
    Ok(())
}
