//! The configuration: the file, its defaults, and what both mean.
//!
//! Invariant: the shipped `daemon.toml` is compiled in and is the defaults.
//! Invariant: an error names the file, the line, what is wrong there and what would be right.

mod mistake;
mod pools;
mod raw;
mod values;

use crate::domain::budget::{BudgetPer, BudgetSpec, Cap};
use crate::domain::fairness::QueuePolicy;
use crate::domain::limit::PoolSpec;
use crate::domain::retry::{Backoff, OnUnknown, RetryPolicy};
pub use mistake::Mistake;
use mistake::Source;
use raw::{RawBudget, RawOnUnknown, RawPer, RawQueue};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use toml::Spanned;

/// The shipped file.
pub const DEFAULTS: &str = include_str!("../../daemon.toml");

/// No configuration is nearly as long; what is longer is the wrong file.
const BYTES_MAX: u64 = 1 << 20;

/// Everything, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The file it came from; `None`: only defaults.
    pub source: Option<PathBuf>,
    /// The database.
    pub database: PathBuf,
    /// The other end.
    pub provider: Provider,
    /// For jobs that do not say.
    pub defaults: Defaults,
    /// Calls in flight at the most.
    pub max_in_flight: u32,
    /// For a call, or a stream's silence.
    pub request_timeout: Duration,
    /// For the calls in flight at a stop.
    pub shutdown_grace: Duration,
    /// Of jobs that do not say.
    pub retry: RetryPolicy,
    /// The user's first, then the shipped ones.
    pub pools: Vec<PoolSpec>,
    /// Each a wall.
    pub budgets: Vec<BudgetSpec>,
    /// Those with an entry.
    pub queues: BTreeMap<Arc<str>, Queue>,
}

/// The other end.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each key is described in daemon.toml")]
pub struct Provider {
    pub base_url: String,
    pub api_key_file: Option<PathBuf>,
    pub bearer: bool,
    pub anthropic_version: String,
    pub anthropic_beta: Vec<String>,
    pub stream: StreamMode,
    pub proxy: Option<String>,
    pub ca_file: Option<PathBuf>,
    pub max_response_bytes: u64,
}

/// When answers are streamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamMode {
    /// Where it helps.
    Auto,
    /// Every one.
    Always,
    /// None.
    Never,
}

/// For jobs that do not say.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(missing_docs, reason = "each key is described in daemon.toml")]
pub struct Defaults {
    pub model: Option<String>,
    pub max_tokens: Option<i64>,
    pub system: Option<String>,
}

/// A queue's entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Queue {
    /// Share and bound.
    pub policy: QueuePolicy,
    /// Before the global ones.
    pub defaults: Defaults,
}

/// What the environment and the command line say; they come after the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--db`, or `CLAUDEQ_DB`; relative to the working directory.
    pub database: Option<PathBuf>,
    /// `ANTHROPIC_BASE_URL`.
    pub base_url: Option<String>,
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is missing or cannot be read.
    #[error("cannot read the configuration {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's words.
        #[source]
        source: std::io::Error,
    },
    /// Something in it is wrong.
    #[error("{0}")]
    Wrong(Mistake),
}

impl Config {
    /// Reads a file, or only the defaults, and lets the overrides come after.
    ///
    /// # Errors
    /// [`ConfigError`], which says where and what.
    pub fn load(path: Option<&Path>, overrides: &Overrides) -> Result<Config, ConfigError> {
        let Some(path) = path else {
            return Config::parse("", Path::new("defaults"), None, overrides);
        };
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(BYTES_MAX + 1).read_to_end(&mut bytes))
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        let text = String::from_utf8_lossy(&bytes);
        let given = Source { file: path, text: &text };
        if bytes.len() as u64 > BYTES_MAX {
            return Err(given.mistake("it is too large to be a configuration", None));
        }
        if let Err(error) = std::str::from_utf8(&bytes) {
            return Err(given.mistake("this is not UTF-8 text", Some(error.valid_up_to())));
        }
        Config::parse(&text, path, Some(path), overrides)
    }

    fn parse(
        text: &str,
        name: &Path,
        path: Option<&Path>,
        overrides: &Overrides,
    ) -> Result<Config, ConfigError> {
        let shipped = Source { file: Path::new("daemon.toml (shipped)"), text: DEFAULTS };
        let given = Source { file: name, text };
        let base = shipped.parse()?;
        let file = given.parse()?;
        let folder = path.and_then(Path::parent).unwrap_or(Path::new(""));
        let beside = |path: PathBuf| {
            if path.is_absolute() { path } else { folder.join(path) }
        };
        let pools = pools::pools(&given, &file.pool, &base.pool)?;
        let budgets = file.budget.iter().map(|budget| budget_of(&given, budget));
        let budgets = budgets.collect::<Result<Vec<_>, _>>()?;
        refuse_twins(&given, &file.budget, &budgets)?;
        let queues = file.queue.into_iter().map(|(name, raw)| (Arc::from(name.0), queue_of(raw)));
        let queues = queues.collect();
        let database = file.database.path.or(base.database.path).map(beside);
        let provider = provider_of(file.provider, base.provider, overrides, beside);
        let (executor, base_executor) = (file.executor, base.executor);
        let in_flight = executor.max_in_flight.or(base_executor.max_in_flight);
        let delay = |file: Option<values::Delay>, base: Option<values::Delay>| {
            file.or(base).map_or(Duration::from_secs(60), |delay| delay.0)
        };
        let grace = executor.shutdown_grace.or(base_executor.shutdown_grace);
        let retry = RetryPolicy {
            max_attempts: small(file.retry.max_attempts.or(base.retry.max_attempts)),
            backoff: Backoff {
                base: delay(file.retry.base_delay, base.retry.base_delay).into(),
                max: delay(file.retry.max_delay, base.retry.max_delay).into(),
            },
            on_unknown: match file.retry.on_unknown.or(base.retry.on_unknown) {
                Some(RawOnUnknown::Hold) => OnUnknown::Hold,
                _ => OnUnknown::Retry,
            },
            max_continuations: small(file.retry.max_continuations.or(base.retry.max_continuations)),
        };
        if retry.backoff.base > retry.backoff.max {
            let message = "retry.base_delay is longer than retry.max_delay; raise max_delay";
            return Err(given.mistake(message, None));
        }
        Ok(Config {
            source: path.map(Path::to_owned),
            database: overrides.database.clone().or(database).unwrap_or_else(|| "queue.db".into()),
            provider,
            defaults: Defaults {
                model: file.defaults.model.or(base.defaults.model).map(|model| model.0),
                max_tokens: file.defaults.max_tokens.or(base.defaults.max_tokens).map(|n| n.0),
                system: file.defaults.system.or(base.defaults.system),
            },
            max_in_flight: small(in_flight),
            request_timeout: delay(executor.request_timeout, base_executor.request_timeout),
            shutdown_grace: grace.map_or(Duration::from_secs(30), |span| span.0),
            retry,
            pools,
            budgets,
            queues,
        })
    }

    /// What fills a job's gaps: its queue's defaults, then the global ones.
    pub fn defaults_for(&self, queue: &str) -> Defaults {
        let own = self.queues.get(queue).map(|queue| queue.defaults.clone()).unwrap_or_default();
        Defaults {
            model: own.model.or_else(|| self.defaults.model.clone()),
            max_tokens: own.max_tokens.or(self.defaults.max_tokens),
            system: own.system.or_else(|| self.defaults.system.clone()),
        }
    }

    /// Keys that only a restart can change, with those that differ in `new`.
    pub fn frozen_changes(&self, new: &Config) -> Vec<&'static str> {
        let mut changed = Vec::new();
        if self.database != new.database {
            changed.push("database.path");
        }
        if self.provider.base_url != new.provider.base_url {
            changed.push("provider.base_url");
        }
        changed
    }
}

/// The defaults have every key, so that the last resort is never needed.
fn small<const MOST: i64, const LEAST: i64>(count: Option<values::Whole<MOST, LEAST>>) -> u32 {
    count.and_then(|count| u32::try_from(count.0).ok()).unwrap_or(1)
}

fn provider_of(
    file: raw::RawProvider,
    base: raw::RawProvider,
    overrides: &Overrides,
    beside: impl Fn(PathBuf) -> PathBuf,
) -> Provider {
    let base_url = overrides.base_url.clone().or(file.base_url).or(base.base_url);
    Provider {
        base_url: base_url.unwrap_or_default(),
        api_key_file: file.api_key_file.or(base.api_key_file).map(|file| beside(file.0)),
        bearer: file.auth.or(base.auth) == Some(raw::RawAuth::Bearer),
        anthropic_version: file.anthropic_version.or(base.anthropic_version).unwrap_or_default(),
        anthropic_beta: file.anthropic_beta.or(base.anthropic_beta).unwrap_or_default(),
        stream: match file.stream.or(base.stream) {
            Some(raw::RawStream::Always) => StreamMode::Always,
            Some(raw::RawStream::Never) => StreamMode::Never,
            _ => StreamMode::Auto,
        },
        proxy: file.proxy.or(base.proxy),
        ca_file: file.ca_file.or(base.ca_file).map(&beside),
        max_response_bytes: file
            .max_response_bytes
            .or(base.max_response_bytes)
            .map_or(32 << 20, |size| size.0),
    }
}

fn budget_of(source: &Source<'_>, raw: &Spanned<RawBudget>) -> Result<BudgetSpec, ConfigError> {
    let at = Some(raw.span().start);
    let raw = raw.get_ref();
    let cap = match (raw.usd, raw.tokens) {
        (Some(usd), None) => Cap::Usd(usd.scaled(1e9)),
        (None, Some(tokens)) => Cap::Tokens(tokens.0),
        _ => return Err(source.mistake("a [[budget]] needs either `usd` or `tokens`", at)),
    };
    let per = match raw.per {
        RawPer::Day => BudgetPer::Day,
        RawPer::Month => BudgetPer::Month,
        RawPer::Total => BudgetPer::Total,
    };
    Ok(BudgetSpec {
        cap,
        per,
        queue: raw.queue.as_ref().map(|name| Arc::from(&*name.0)),
        timezone: raw.timezone.as_ref().map_or_else(|| "UTC".into(), |zone| zone.0.clone()),
        allow_unbounded: raw.allow_unbounded,
    })
}

/// Two walls of the same kind would share one account, and the higher one says nothing.
fn refuse_twins(
    source: &Source<'_>,
    raw: &[Spanned<RawBudget>],
    budgets: &[BudgetSpec],
) -> Result<(), ConfigError> {
    for (at, budget) in budgets.iter().enumerate() {
        if budgets[..at].iter().any(|first| first.key() == budget.key()) {
            let message = "there is another budget for the same calls, unit and period; \
                           keep the lower one";
            return Err(source.mistake(message, raw.get(at).map(|raw| raw.span().start)));
        }
    }
    Ok(())
}

fn queue_of(raw: RawQueue) -> Queue {
    Queue {
        policy: QueuePolicy {
            weight_milli: raw.weight.map_or(1_000, |weight| weight.scaled(1e3)),
            max_in_flight: raw.max_in_flight.map(|count| small(Some(count))),
            paused: false,
        },
        defaults: Defaults {
            model: raw.model.map(|model| model.0),
            max_tokens: raw.max_tokens.map(|count| count.0),
            system: raw.system,
        },
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
