//! The real binary: its daemon and its simulator, each a process of its own.

use anyhow::Context as _;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A limit that never binds.
pub(crate) const NO_LIMIT: u64 = 1_000_000_000_000;

/// The binary, with an environment that leads it nowhere.
pub(crate) fn claudeq() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_claudeq"));
    for name in ["CLAUDEQ_DB", "ANTHROPIC_BASE_URL", "CREDENTIALS_DIRECTORY"] {
        command.env_remove(name);
    }
    command.env("ANTHROPIC_API_KEY", "sk-ant-benchmark").stdin(Stdio::null());
    command
}

/// A process that ends with this value.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A simulator without limits whose answers take this long.
pub(crate) struct Simulator {
    /// Where it listens.
    pub(crate) url: String,
    _process: Running,
}

impl Simulator {
    /// Starts it.
    ///
    /// # Errors
    /// When it does not come up.
    pub(crate) fn start(folder: &Path, latency: Duration) -> anyhow::Result<Simulator> {
        let path = folder.join("simulator.toml");
        let text = format!(
            "log_entries_max = 1000\n\
             [limits]\nrequests_per_minute = {NO_LIMIT}\ninput_tokens_per_minute = {NO_LIMIT}\n\
             output_tokens_per_minute = {NO_LIMIT}\n\
             [latency]\nfirst_token_ms = {}\ntokens_per_second = 1e9\n",
            latency.as_millis()
        );
        std::fs::write(&path, text)?;
        let mut command = claudeq();
        command.args(["sim", "--listen", "127.0.0.1:0", "--config-file"]).arg(path);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let stdout = child.stdout.take().context("its output")?;
        let process = Running(child);
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let url = line.split_whitespace().find(|word| word.starts_with("http://"));
        let url = url.with_context(|| format!("an address in: {line}"))?.to_owned();
        Ok(Simulator { url, _process: process })
    }
}

/// Writes a configuration without limits that bind; gives its path.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn configure(folder: &Path, url: &str, in_flight: usize) -> anyhow::Result<PathBuf> {
    let path = folder.join("daemon.toml");
    let text = format!(
        "[database]\npath = \"queue.db\"\n\
         [provider]\nbase_url = \"{url}\"\n\
         [executor]\nmax_in_flight = {in_flight}\n\
         [[pool]]\nname = \"all\"\nmodels = [\"*\"]\noutput_mode = \"realtime\"\nburst = \"60s\"\n\
         requests_per_minute = {NO_LIMIT}\ninput_tokens_per_minute = {NO_LIMIT}\n\
         output_tokens_per_minute = {NO_LIMIT}\n"
    );
    std::fs::write(&path, text)?;
    Ok(path)
}

/// Runs a command to its end: how long it took, and how much CPU time it used.
///
/// # Errors
/// When it cannot be started or fails.
pub(crate) fn timed(command: &mut Command) -> anyhow::Result<(Duration, Duration)> {
    let (cpu, begun) = (children_cpu()?, Instant::now());
    let output = command.stdout(Stdio::null()).stderr(Stdio::piped()).output()?;
    let took = begun.elapsed();
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok((took, children_cpu()?.saturating_sub(cpu)))
}

/// CPU time of all children that have ended, in clock ticks of 10 ms (proc(5)).
fn children_cpu() -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The second field is a name in brackets that may have spaces in it.
    let rest = stat.rsplit_once(')').context("a name in brackets")?.1;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let mut ticks = 0;
    for field in [13, 14] {
        ticks += fields.get(field).context("a field")?.parse::<u64>()?;
    }
    Ok(Duration::from_millis(ticks * 10))
}

/// CPU time of all threads of a process that runs.
///
/// # Errors
/// When there is none.
pub(crate) fn cpu(pid: u32) -> anyhow::Result<Duration> {
    let mut nanos = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let times = std::fs::read_to_string(task?.path().join("schedstat"))?;
        nanos += times.split_whitespace().next().context("a time")?.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanos))
}

/// Most memory that a process ever had resident, in bytes.
///
/// # Errors
/// When there is no such process.
pub(crate) fn peak_memory(pid: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
    let kilobytes = line.trim().trim_end_matches("kB").trim().parse::<u64>()?;
    Ok(kilobytes << 10)
}
