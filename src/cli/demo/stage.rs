//! The demo's stage: a directory, the simulator, a configuration, the daemon's process.

use super::super::context::Context;
use super::super::exit::{Exit, failure};
use super::super::output;
use super::super::render::format;
use crate::simulator::{Config as SimConfig, Handle, Simulator, preset};
use anyhow::Context as _;
use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// Jobs inserted.
pub(super) const JOBS: i64 = 2_000;
/// Everything happens this many times faster.
pub(super) const SPEED: i64 = 30;
/// The account's limits a minute, before the time-lapse.
pub(super) const REQUESTS: i64 = 4_000;
pub(super) const INPUT_TOKENS: i64 = 400_000;
pub(super) const OUTPUT_TOKENS: i64 = 80_000;

/// What any program could insert. The markers tell the simulator how long to make its answer.
pub(super) const INSERT: &str = "\
INSERT INTO jobs (key, batch, max_tokens, prompt)
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000),
  mixed (i, output, input) AS (
    SELECT i,
      20 + (i * 7919) % 200 + CASE WHEN (i * 31) % 10 = 0 THEN (i * 104729) % 1500
        ELSE (i * 1299709) % 180 END,
      50 + (i * 15485863) % 1400 + CASE WHEN (i * 37) % 12 = 0 THEN (i * 32452843) % 6000 ELSE 0 END
    FROM n)
SELECT 'demo-' || i, 'demo', output * 3,
  '[[id=demo-' || i || ']] [[out=' || output || ']] [[in=' || input || ']] ' ||
  'Say something about the number ' || i || '. ' || hex(zeroblob(input * 3 / 2))
FROM mixed";

/// The daemon's process, killed when the stage goes.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Everything the demo needs, and nothing outside its directory.
pub(super) struct Stage {
    folder: TempDir,
    simulator: Handle,
    daemon: Option<Daemon>,
}

impl Stage {
    pub(super) fn set(context: &Context) -> anyhow::Result<Stage> {
        let folder = tempfile::Builder::new()
            .prefix("claudeq-demo-")
            .tempdir()
            .context("cannot create a temporary directory")?;
        let limits = preset("tier-4-split").context("the simulator lost a preset")?;
        let config = SimConfig {
            #[expect(clippy::cast_precision_loss, reason = "a small constant")]
            speed: SPEED as f64,
            limits: crate::simulator::LimitSet {
                output_mode: crate::simulator::OutputMode::Realtime,
                ..limits
            },
            ..SimConfig::default()
        };
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let simulator = Simulator::start(config, local, context.clock.clone())
            .context("cannot listen on this machine")?;
        let stage = Stage { folder, simulator, daemon: None };
        std::fs::write(stage.config_file(), daemon_toml())?;
        Ok(stage)
    }

    pub(super) fn config_file(&self) -> PathBuf {
        self.folder.path().join("daemon.toml")
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("daemon.log")
    }

    pub(super) fn simulator(&self) -> &Handle {
        &self.simulator
    }

    pub(super) fn introduce(&self) -> anyhow::Result<()> {
        output::lines(&[
            "2,000 jobs of mixed sizes, inserted by one SQL statement, against a simulated account:"
                .to_owned(),
            format!(
                "{} requests, {} input and {} output tokens a minute, {SPEED} times faster than \
                 real.",
                format::count(REQUESTS),
                format::count(INPUT_TOKENS),
                format::count(OUTPUT_TOKENS)
            ),
            String::new(),
        ])
    }

    /// Starts the daemon as a user would.
    pub(super) fn start_daemon(&mut self) -> anyhow::Result<()> {
        let program = std::env::current_exe().context("cannot find this program's file")?;
        let log = File::options().create(true).append(true).open(self.log_file())?;
        let child = Command::new(program)
            .args(["daemon", "--until-empty", "--config"])
            .arg(self.config_file())
            .current_dir(self.folder.path())
            .env("ANTHROPIC_BASE_URL", self.simulator.url())
            .env("ANTHROPIC_API_KEY", "the-demo-needs-none")
            .env_remove("CLAUDEQ_DB")
            .env_remove("NOTIFY_SOCKET")
            .env_remove("CREDENTIALS_DIRECTORY")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("cannot start the daemon")?;
        self.daemon = Some(Daemon(child));
        Ok(())
    }

    /// SIGKILL: it gets no chance to write anything.
    pub(super) fn kill_daemon(&mut self) -> anyhow::Result<()> {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.0.kill().context("cannot kill the daemon")?;
            daemon.0.wait()?;
        }
        Ok(())
    }

    /// Its exit code, once it has ended; `Some(None)` when a signal ended it.
    pub(super) fn daemon_ended(&mut self) -> anyhow::Result<Option<Option<i32>>> {
        let Some(daemon) = &mut self.daemon else { return Ok(None) };
        Ok(daemon.0.try_wait()?.map(|status| status.code()))
    }

    /// What to say when the daemon did not end as it should.
    pub(super) fn broken(&self, code: Option<i32>) -> anyhow::Error {
        let log = std::fs::read_to_string(self.log_file()).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().take(5).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        let code = code.map_or_else(|| "a signal".to_owned(), |code| format!("code {code}"));
        failure(Exit::Failed, format!("the daemon ended with {code}:\n{}", tail.join("\n")))
    }

    /// Ends everything; the directory goes, unless it is to be kept.
    pub(super) async fn strike(mut self, keep: bool) -> anyhow::Result<()> {
        self.kill_daemon()?;
        self.simulator.stop().await;
        if keep {
            let kept = self.folder.keep();
            output::line(&format!("kept {}", kept.display()))?;
        }
        Ok(())
    }
}

/// The account's limits in time-lapse: the rates are higher, what a bucket holds is not.
fn daemon_toml() -> String {
    format!(
        "[database]\npath = \"queue.db\"\n\n\
         [executor]\nmax_in_flight = 200\n\n\
         [[pool]]\nname = \"sonnet-5-5\"\n\
         requests_per_minute = {}\ninput_tokens_per_minute = {}\noutput_tokens_per_minute = {}\n\
         burst = \"{}ms\"\n\n\
         [[budget]]\nusd = 25.0\nper = \"total\"\n",
        REQUESTS * SPEED,
        INPUT_TOKENS * SPEED,
        OUTPUT_TOKENS * SPEED,
        60_000 / SPEED,
    )
}

/// For the summary, which counts time by itself.
pub(super) fn limits() -> [(&'static str, i64); 3] {
    [("requests", REQUESTS), ("input tokens", INPUT_TOKENS), ("output tokens", OUTPUT_TOKENS)]
}
