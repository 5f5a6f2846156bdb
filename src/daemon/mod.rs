//! The daemon: loops, permits, timeouts, the order of shutdown.
//!
//! `run` takes the database's lock, begins an epoch, recovers, and hands over to the scheduler.

mod books;
mod executor;
pub mod forecast;
mod gates;
mod notify;
mod pace;
mod reaper;
pub mod report;
mod scheduler;
mod scout;
mod signals;
mod snapshot;
mod spool;
pub mod stepper;
mod turn;
mod wake;
mod window;
mod writer;

use crate::claude::{Auth, Client, ClientConfig, ClientError};
use crate::clock::{Clock, Entropy};
use crate::config::Config;
use crate::store::{Store, StoreError, Trouble};
use books::{Books, Context};
use secrecy::SecretString;
use spool::Spool;
use std::sync::Arc;
use std::time::Duration;

/// How long a write waits for another writer before the turn is put off.
const BUSY: Duration = Duration::from_secs(1);
/// For database, spool, log, signals and whatever else is no call.
const OTHER_DESCRIPTORS: u64 = 64;

/// How often a start waits for [`BUSY`] before it gives up.
const START_TRIES: u32 = 30;
/// How often a lock that nobody seems to hold is tried again, and after which pause.
const LOCK_TRIES: u32 = 10;
const LOCK_RETRY: Duration = Duration::from_millis(50);

/// A configuration and a key, read anew.
pub struct Reloaded {
    /// Checked.
    pub config: Config,
    /// Perhaps another one.
    pub key: SecretString,
}

/// Reads configuration and key again, at SIGHUP.
pub type Reload = Box<dyn FnMut() -> Result<Reloaded, String> + Send>;

/// How a daemon is run.
pub struct Options {
    /// Checked.
    pub config: Config,
    /// The API key.
    pub key: SecretString,
    /// Ends when there is nothing to do.
    pub until_empty: bool,
    /// Real or by hand.
    pub clock: Clock,
    /// For jitter.
    pub entropy: Entropy,
    /// `NOTIFY_SOCKET`, under systemd.
    pub notify_socket: Option<String>,
    /// This machine's name.
    pub host: String,
    /// See [`Reload`].
    pub reload: Option<Reload>,
}

/// Why a daemon ended in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Somebody stopped it.
    Stopped,
    /// `until_empty`: somebody stopped it before all was done.
    Interrupted,
    /// `until_empty`: nothing is left to do without a person.
    Empty {
        /// A job failed while it ran.
        failed: bool,
        /// Something is held, paused, parked, or stopped by a budget.
        stuck: bool,
    },
}

/// Why a daemon could not run, or not go on.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The client could not be built.
    #[error("cannot call the provider")]
    Client(#[source] ClientError),
    /// The spool cannot be used.
    #[error("{what}")]
    Spool {
        /// Which file, and what to do about it.
        what: String,
        /// The system's words.
        #[source]
        source: std::io::Error,
    },
    /// Signals cannot be received.
    #[error("cannot receive signals")]
    Signals(#[source] std::io::Error),
    /// Another daemon has taken the database over.
    #[error("a newer daemon has taken over this database; this one stopped and wrote nothing more")]
    Fenced,
    /// A bug.
    #[error("a turn of the scheduler panicked; start the daemon again, it recovers")]
    Panicked,
}

/// Runs the daemon until it is stopped or, with `until_empty`, has nothing left to do.
///
/// # Errors
/// When the database is missing, foreign, newer, locked or damaged, when the client cannot be
/// built, and when the database fails in a way that only a restart can recover from.
pub async fn run(options: Options) -> Result<Ended, DaemonError> {
    let hang_up = signals::hang_up()?;
    raise_descriptor_limit(options.config.max_in_flight);
    let client = client_of(&options.config, options.key.clone(), &options.clock)
        .map_err(DaemonError::Client)?;
    let (context, books, spool) = begin(&options).await?;
    tracing::info!(
        epoch = context.epoch.0,
        database = %options.config.database.display(),
        provider = client.host(),
        max_in_flight = options.config.max_in_flight,
        "started"
    );
    let signals = signals::Signals::new(hang_up)?;
    scheduler::Scheduler::new(Arc::new(context), client, books, spool, options).run(signals).await
}

/// Takes the database's lock, begins an epoch, recovers.
async fn begin(options: &Options) -> Result<(Context, Books, Spool), DaemonError> {
    let config = Arc::new(options.config.clone());
    let store = open(&config).await?;
    let known = store.last_time().await?;
    let finished_before = store.last_finished().await?;
    let now = options.clock.now().max(known);
    let pid = std::process::id();
    let version = env!("CARGO_PKG_VERSION");
    let epoch =
        patiently(async || store.begin_epoch(pid, &options.host, version, now).await).await?;
    let unusable =
        |source| DaemonError::Spool { what: spool::unusable(&config.database, &source), source };
    // Not before the first write: a daemon that may not write leaves no file to others.
    let id = store.database_id().await?;
    let opened = Spool::open(store.real_path(), id)
        .and_then(|mut spool| spool.read().map(|spooled| (spool, spooled)));
    let (mut spool, spooled) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            store.end_epoch(epoch, "{}", now).await?;
            return Err(unusable(error));
        }
    };
    let context = Context::new(
        store,
        epoch,
        options.clock.clone(),
        known,
        options.entropy.clone(),
        config.max_in_flight,
        finished_before,
    );
    let (ledger, strange) =
        patiently(async || reaper::recover(&context, &config, &spooled).await).await?;
    spool.set_aside(&strange).map_err(unusable)?;
    spool.clear();
    gates::tell(&gates::left_shut(&ledger), &[], now);
    Ok((context, Books::new(config, ledger), spool))
}

/// Each call takes a descriptor, and many systems give a process 1,024 unless it asks for more.
fn raise_descriptor_limit(max_in_flight: u32) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = setrlimit(Resource::Nofile, raised).map_or(limit.current, |()| raised.current);
    let needed = u64::from(max_in_flight) + OTHER_DESCRIPTORS;
    if let Some(current) = current.filter(|current| *current < needed) {
        tracing::warn!(
            "this process may have {current} files open and may need {needed} \
             (executor.max_in_flight and {OTHER_DESCRIPTORS} more): raise its limit (ulimit -n, \
             LimitNOFILE), or calls will fail"
        );
    }
}

/// A bulk insert of some seconds is no reason not to start.
async fn patiently<T>(
    mut work: impl AsyncFnMut() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let mut tries = START_TRIES;
    loop {
        match work().await {
            Err(error) if error.trouble() == Trouble::Busy && tries > 0 => {
                tracing::warn!("the database is locked by another process; waiting for it");
                tries -= 1;
            }
            done => return done,
        }
    }
}

/// A status command that looks for a daemon holds the lock for a moment, without being named as
/// its holder: that is no reason to give up.
async fn open(config: &Config) -> Result<Store, StoreError> {
    let mut tries = LOCK_TRIES;
    loop {
        match Store::open_for_daemon(&config.database, BUSY).await {
            Err(StoreError::Locked { pid: None, .. }) if tries > 0 => tries -= 1,
            opened => return opened,
        }
        tokio::time::sleep(LOCK_RETRY).await;
    }
}

fn client_of(config: &Config, key: SecretString, clock: &Clock) -> Result<Client, ClientError> {
    let provider = &config.provider;
    let settings = ClientConfig {
        base_url: provider.base_url.clone(),
        auth: if provider.bearer { Auth::Bearer } else { Auth::XApiKey },
        anthropic_version: provider.anthropic_version.clone(),
        anthropic_beta: provider.anthropic_beta.clone(),
        proxy: provider.proxy.clone(),
        ca_file: provider.ca_file.clone(),
        max_response_bytes: provider.max_response_bytes,
        request_timeout: config.request_timeout,
        ..ClientConfig::default()
    };
    Client::new(settings, key, clock.clone())
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
