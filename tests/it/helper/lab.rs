//! A laboratory: a simulator in this process, a database in a directory of its own, and the real
//! `claudeq daemon` between them, to be stopped, killed and started again.
//!
//! Invariant: a daemon that is still there when its test ends is killed.

use super::{Said, TempDb, claudeq, sql};
use claudeq::clock::Clock;
use claudeq::simulator::{self, Simulator};
use rustix::process::{Pid, Signal, kill_process};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _};
use std::cell::Cell;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::runtime::Runtime;

/// The key that the daemon is given: nobody may ever find it anywhere.
pub(crate) const CANARY: &str = "sk-ant-canary-7c1f0b5e9d3a4c62";
/// Whatever is waited for comes within this, or never.
const DEADLINE: Duration = Duration::from_secs(60);
/// Between two looks at a condition.
const LOOK: Duration = Duration::from_millis(4);

/// Waits for a condition, and fails the test when it does not come.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let clock = Clock::system();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(clock.monotonic() < DEADLINE, "it never came: {what}");
        pause(LOOK);
    }
}

/// Lets time pass: between two looks, or until the moment of a fault.
#[expect(clippy::disallowed_methods, reason = "nothing is assumed to have happened meanwhile")]
pub(crate) fn pause(span: Duration) {
    std::thread::sleep(span);
}

/// What stands in `daemon.toml`.
pub(crate) struct Settings {
    pub(crate) max_in_flight: u32,
    pub(crate) request_timeout: &'static str,
    pub(crate) shutdown_grace: &'static str,
    pub(crate) max_attempts: u32,
    pub(crate) base_delay: &'static str,
    pub(crate) max_delay: &'static str,
    pub(crate) on_unknown: &'static str,
    pub(crate) max_continuations: u32,
    pub(crate) stream: &'static str,
    pub(crate) max_response_bytes: &'static str,
    pub(crate) max_tokens: u32,
    /// Whether the key comes from the file `key` beside the configuration.
    pub(crate) key_file: bool,
    /// Pools.
    pub(crate) limits: Limits,
    /// Budgets and queues.
    pub(crate) rest: String,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            max_in_flight: 16,
            request_timeout: "10s",
            shutdown_grace: "10s",
            max_attempts: 5,
            base_delay: "20ms",
            max_delay: "100ms",
            on_unknown: "retry",
            max_continuations: 8,
            stream: "never",
            max_response_bytes: "1MiB",
            max_tokens: 512,
            key_file: false,
            limits: Limits::default(),
            rest: String::new(),
        }
    }
}

impl Settings {
    fn toml(&self, speed: f64) -> String {
        let key_file = if self.key_file { "api_key_file = \"key\"\n" } else { "" };
        format!(
            "[database]\npath = \"queue.db\"\n\
             [provider]\nstream = \"{}\"\nmax_response_bytes = \"{}\"\n{key_file}\
             [defaults]\nmodel = \"claude-sonnet-5-5\"\nmax_tokens = {}\n\
             [executor]\nmax_in_flight = {}\nrequest_timeout = \"{}\"\nshutdown_grace = \"{}\"\n\
             [retry]\nmax_attempts = {}\nbase_delay = \"{}\"\nmax_delay = \"{}\"\n\
             on_unknown = \"{}\"\nmax_continuations = {}\n{}{}",
            self.stream,
            self.max_response_bytes,
            self.max_tokens,
            self.max_in_flight,
            self.request_timeout,
            self.shutdown_grace,
            self.max_attempts,
            self.base_delay,
            self.max_delay,
            self.on_unknown,
            self.max_continuations,
            self.limits.pool(speed),
            self.rest,
        )
    }
}

/// The limits of the simulator, told to the daemon as they are in its own time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Limits {
    /// A minute of the simulator's time; `None` is no limit.
    pub(crate) requests: Option<u64>,
    pub(crate) input_tokens: Option<u64>,
    pub(crate) output_tokens: Option<u64>,
    pub(crate) tokens_per_day: Option<u64>,
    /// Of the simulator's time; 60 when zero.
    pub(crate) burst_seconds: f64,
    pub(crate) window: bool,
}

impl Limits {
    fn burst(&self) -> f64 {
        if self.burst_seconds > 0.0 { self.burst_seconds } else { 60.0 }
    }

    /// As the simulator is told.
    pub(crate) fn set(&self) -> simulator::LimitSet {
        simulator::LimitSet {
            requests_per_minute: self.requests,
            input_tokens_per_minute: self.input_tokens,
            output_tokens_per_minute: self.output_tokens,
            tokens_per_day: self.tokens_per_day,
            burst_seconds: self.burst(),
            algorithm: if self.window {
                simulator::Algorithm::Window
            } else {
                simulator::Algorithm::Bucket
            },
            ..simulator::LimitSet::default()
        }
    }

    /// As the daemon is told.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "limits of tests are small and positive"
    )]
    fn pool(&self, speed: f64) -> String {
        let scaled = |amount: u64| (amount as f64 * speed).round() as u64;
        let mut text = "[[pool]]\nname = \"sonnet-5-5\"\n".to_owned();
        let mut line = |name: &str, amount: Option<u64>| {
            if let Some(amount) = amount {
                writeln!(text, "{name} = {}", scaled(amount)).expect("a string takes it");
            }
        };
        // Stated in any case: a pool without limits would begin with one call at a time.
        line("requests_per_minute", self.requests.or(Some(10_000_000)));
        line("input_tokens_per_minute", self.input_tokens);
        line("output_tokens_per_minute", self.output_tokens);
        line("tokens_per_day", self.tokens_per_day);
        if self.window {
            text.push_str("algorithm = \"window\"\n");
        } else {
            let burst = self.burst() * 1_000.0 / speed;
            writeln!(text, "burst = \"{}ms\"", burst.floor() as u64).expect("a string takes it");
        }
        text
    }
}

/// The place where a test happens.
pub(crate) struct Lab {
    simulator: simulator::Handle,
    speed: f64,
    db: TempDb,
    lives: Cell<u32>,
    runtime: Runtime,
}

impl Lab {
    /// Starts the simulator and creates the database; its limits are those of the settings.
    pub(crate) fn new(simulator: simulator::Config, settings: &Settings) -> Lab {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime can be built");
        let speed = simulator.speed;
        let config = simulator::Config { limits: settings.limits.set(), ..simulator };
        let simulator = {
            let _inside = runtime.enter();
            let any_port = ([127, 0, 0, 1], 0).into();
            Simulator::start(config, any_port, Clock::system()).expect("the simulator starts")
        };
        let db = runtime.block_on(TempDb::create());
        let lab = Lab { simulator, speed, db, lives: Cell::new(0), runtime };
        lab.configure(settings);
        lab
    }

    /// Writes the daemon's configuration anew.
    pub(crate) fn configure(&self, settings: &Settings) {
        self.write("daemon.toml", &settings.toml(self.speed));
    }

    /// Writes a file beside the database, for its owner alone.
    pub(crate) fn write(&self, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.dir().join(name);
        std::fs::write(&path, text).expect("a file can be written");
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&path, mode).expect("it is ours");
    }

    pub(crate) fn simulator(&self) -> &simulator::Handle {
        &self.simulator
    }

    pub(crate) fn dir(&self) -> &Path {
        self.db.dir()
    }

    pub(crate) fn database(&self) -> &Path {
        self.db.path()
    }

    /// A command of the real binary on this database; the configuration is the one beside it.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = claudeq();
        command.arg("--config").arg(self.dir().join("daemon.toml")).args(args);
        command.env("ANTHROPIC_BASE_URL", self.simulator.url());
        command
    }

    /// Runs a command of the real binary.
    pub(crate) fn claudeq(&self, args: &[&str]) -> Said {
        let output = self.command(args).output().expect("the binary starts");
        Said::of(&output)
    }

    /// Starts a daemon and does not wait for anything.
    pub(crate) fn spawn(&self, args: &[&str]) -> Daemon {
        self.spawn_with(args, &[("ANTHROPIC_API_KEY", CANARY)])
    }

    pub(crate) fn spawn_with(&self, args: &[&str], environment: &[(&str, &str)]) -> Daemon {
        let mut command = self.command(&["daemon"]);
        command.args(args).envs(environment.iter().copied());
        self.launch(command)
    }

    /// Starts a daemon to which the shell has given limits (`ulimit …`).
    pub(crate) fn spawn_under(&self, limits: &str, args: &[&str]) -> Daemon {
        let program = self.command(&[]);
        let mut command = Command::new("sh");
        // Without the trap a file that may not grow would be the process's end.
        command.args(["-c", &format!("trap '' XFSZ; {limits}; exec \"$0\" \"$@\"")]);
        command.arg(program.get_program()).args(program.get_args()).arg("daemon").args(args);
        command.env("ANTHROPIC_API_KEY", CANARY).env("ANTHROPIC_BASE_URL", self.simulator.url());
        self.launch(command)
    }

    fn launch(&self, mut command: Command) -> Daemon {
        let life = self.lives.get() + 1;
        self.lives.set(life);
        let log = self.dir().join(format!("daemon-{life:04}.log"));
        let file = OpenOptions::new().create(true).append(true).open(&log);
        let file: File = file.expect("the log can be written");
        let out = file.try_clone().expect("a descriptor can be doubled");
        let child = command.stdout(out).stderr(Stdio::from(file)).spawn();
        Daemon { child: child.expect("the binary starts"), log }
    }

    /// Starts a daemon and returns when it works.
    pub(crate) fn start(&self) -> Daemon {
        let mut daemon = self.spawn(&[]);
        daemon.works();
        daemon
    }

    /// Lets a daemon work until it ends by itself, and gives its exit code.
    pub(crate) fn until_empty(&self) -> i32 {
        self.spawn(&["--until-empty"]).end()
    }

    /// Runs a script of a producer through the command `sqlite3`.
    pub(crate) fn sql(&self, script: &str) -> String {
        sql(self.database(), script)
    }

    /// Inserts jobs in one transaction, each with its key as its marker: (key, markers).
    pub(crate) fn insert<'a>(&self, jobs: impl IntoIterator<Item = (&'a str, &'a str)>) {
        let rows: Vec<String> = jobs
            .into_iter()
            .map(|(key, markers)| format!("('{key}', '[[id={key}]] {markers}')"))
            .collect();
        self.sql(&format!("INSERT INTO jobs (key, prompt) VALUES {};", rows.join(", ")));
    }

    /// Inserts `count` jobs `PREFIX1 …` alike.
    pub(crate) fn insert_many(&self, prefix: &str, count: usize, markers: &str) {
        let keys: Vec<String> = (1..=count).map(|n| format!("{prefix}{n}")).collect();
        self.insert(keys.iter().map(|key| (key.as_str(), markers)));
    }

    /// A connection of one's own, to look more often.
    pub(crate) fn watch(&self) -> Watch<'_> {
        Watch { connection: Some(self.connect()), lab: self }
    }

    fn connect(&self) -> SqliteConnection {
        let options = SqliteConnectOptions::new()
            .filename(self.database())
            .busy_timeout(Duration::from_secs(10))
            .pragma("wal_autocheckpoint", "0")
            .pragma("query_only", "ON")
            .disable_statement_logging();
        self.runtime.block_on(options.connect()).expect("the database can be read")
    }

    /// Reads rows.
    pub(crate) fn rows<T>(&self, query: &str, read: impl FnMut(&SqliteRow) -> T) -> Vec<T> {
        self.watch().rows(query, read)
    }

    /// The number a query gives.
    pub(crate) fn number(&self, query: &str) -> i64 {
        self.watch().number(query)
    }

    /// The texts a query gives, one a row.
    pub(crate) fn texts(&self, query: &str) -> Vec<String> {
        self.rows(query, |row| row.get::<Option<String>, _>(0).unwrap_or_else(|| "NULL".into()))
    }

    /// `state` and `error_class` of the job with this key.
    pub(crate) fn job(&self, key: &str) -> (String, String) {
        let query = format!(
            "SELECT s.state, coalesce(s.error_class, '') FROM job_state AS s
             JOIN jobs AS j ON j.id = s.id WHERE j.key = '{key}'"
        );
        self.rows(&query, |row| (row.get(0), row.get(1))).pop().expect("the job is there")
    }

    /// How many jobs there are by state, as `held 1, queued 2`.
    pub(crate) fn states(&self) -> String {
        let query = "SELECT state || ' ' || count(*) FROM job_state GROUP BY state ORDER BY state";
        self.texts(query).join(", ")
    }

    /// Waits until a query gives something above zero.
    pub(crate) fn until(&self, query: &str) {
        let mut watch = self.watch();
        eventually(query, || (watch.number(query) > 0).then_some(()));
    }

    /// Waits until the simulator is at rest: whatever a dead client left has ended.
    pub(crate) fn at_rest(&self) {
        eventually("the simulator at rest", || {
            (self.simulator.stats().in_flight == 0).then_some(())
        });
    }

    /// Everything that daemons have logged.
    pub(crate) fn logs(&self) -> String {
        let lives = 1..=self.lives.get();
        let logs = lives.map(|life| self.dir().join(format!("daemon-{life:04}.log")));
        logs.map(|log| std::fs::read_to_string(log).unwrap_or_default()).collect()
    }
}

impl Drop for Lab {
    /// What the last daemon said, when the test has failed.
    fn drop(&mut self) {
        if std::thread::panicking() {
            let logs = self.logs();
            let lines: Vec<&str> = logs.lines().collect();
            let last = &lines[lines.len().saturating_sub(40)..];
            eprintln!("{}\n{:?}", last.join("\n"), self.simulator.stats());
        }
    }
}

/// A reader's connection.
pub(crate) struct Watch<'a> {
    lab: &'a Lab,
    connection: Option<SqliteConnection>,
}

impl Watch<'_> {
    /// Reads rows.
    pub(crate) fn rows<T>(&mut self, query: &str, read: impl FnMut(&SqliteRow) -> T) -> Vec<T> {
        let connection = self.connection.as_mut().expect("it is open");
        let sql = AssertSqlSafe(query.to_owned());
        let rows = self.lab.runtime.block_on(sqlx::query(sql).fetch_all(connection));
        rows.unwrap_or_else(|error| panic!("{query}: {error}")).iter().map(read).collect()
    }

    /// The number a query gives; zero for none.
    pub(crate) fn number(&mut self, query: &str) -> i64 {
        self.rows(query, |row| row.get::<Option<i64>, _>(0)).first().copied().flatten().unwrap_or(0)
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            // It only read; there is nothing to lose.
            let _ = self.lab.runtime.block_on(connection.close());
        }
    }
}

/// A daemon of the real binary.
pub(crate) struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a process has an id"), signal).expect("it still runs");
    }

    /// Returns when it has recovered and begun to work.
    pub(crate) fn works(&mut self) {
        self.says("started");
    }

    /// Returns when it has logged this.
    pub(crate) fn says(&mut self, words: &str) {
        eventually(words, || {
            if self.log().contains(words) {
                return Some(());
            }
            let end = self.child.try_wait().expect("it can be waited for");
            assert!(end.is_none(), "it ended ({end:?}) before it said {words:?}:\n{}", self.log());
            None
        });
    }

    /// SIGKILL, and its end.
    pub(crate) fn kill(self) {}

    /// Its exit code, when it has ended.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        let status = self.child.try_wait().expect("a child can be asked");
        status.map(|status| status.code().unwrap_or(-1))
    }

    /// Waits for its end and gives the exit code; −1 after a signal.
    pub(crate) fn end(mut self) -> i32 {
        let status = eventually("the daemon's end", || self.child.try_wait().expect("a child"));
        status.code().unwrap_or(-1)
    }

    /// Asks it to stop and gives the exit code.
    pub(crate) fn stop(self) -> i32 {
        self.signal(Signal::TERM);
        self.end()
    }

    /// What it logged so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
