//! The configuration: the file, its defaults, and what both mean.
//!
//! Invariant: the shipped `daemon.toml` is compiled in and is the defaults.
//! Invariant: an error names the file, the line, what is wrong there and what would be right.

mod pools;
mod raw;
mod values;

use crate::domain::budget::{BudgetPer, BudgetSpec, Cap};
use crate::domain::fairness::QueuePolicy;
use crate::domain::limit::PoolSpec;
use crate::domain::retry::{Backoff, OnUnknown, RetryPolicy};
use raw::{RawBudget, RawConfig, RawOnUnknown, RawPer, RawQueue};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use toml::Spanned;

/// The shipped file.
pub const DEFAULTS: &str = include_str!("../../daemon.toml");

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

/// A mistake, and where it is.
#[derive(Debug)]
pub struct Mistake {
    file: PathBuf,
    message: String,
    /// Line and column from 1, and the line's text.
    place: Option<(usize, usize, String)>,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        let Some((line, column, text)) = &self.place else {
            return write!(f, "{file}: {}", self.message);
        };
        writeln!(f, "{file}:{line}:{column}: {}", self.message)?;
        let number = line.to_string();
        writeln!(f, "  {number} | {text}")?;
        let indent = " ".repeat(number.len() + 5 + column.saturating_sub(1));
        write!(f, "{indent}^")
    }
}

/// One text and the name it goes by in errors.
struct Source<'a> {
    file: &'a Path,
    text: &'a str,
}

impl Source<'_> {
    fn mistake(&self, message: impl Into<String>, offset: Option<usize>) -> ConfigError {
        let place = offset.map(|offset| {
            let offset = offset.min(self.text.len());
            let before = &self.text[..self.text.floor_char_boundary(offset)];
            let line = before.matches('\n').count();
            let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
            let text = self.text.lines().nth(line).unwrap_or("").to_owned();
            (line + 1, column, text)
        });
        let file = self.file.to_owned();
        ConfigError::Wrong(Mistake { file, message: message.into(), place })
    }

    fn parse(&self) -> Result<RawConfig, ConfigError> {
        toml::from_str(self.text).map_err(|error| {
            let message = error.message().replace("unknown field", "unknown key");
            self.mistake(one_line(&message), error.span().map(|span| span.start))
        })
    }
}

fn one_line(message: &str) -> String {
    message.lines().map(str::trim).collect::<Vec<_>>().join("; ")
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
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
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
        let queues = file.queue.into_iter().map(|(name, raw)| (Arc::from(name.0), queue_of(raw)));
        let queues = queues.collect();
        let database = file.database.path.or(base.database.path).map(beside);
        let provider = provider_of(file.provider, base.provider, overrides, beside);
        let (executor, base_executor) = (file.executor, base.executor);
        let in_flight = executor.max_in_flight.or(base_executor.max_in_flight);
        let span = |file: Option<values::Span>, base: Option<values::Span>| {
            file.or(base).map_or(Duration::from_secs(60), |span| span.0)
        };
        let some = |file: Option<values::SomeTime>, base: Option<values::SomeTime>| {
            span(file.map(|time| time.0), base.map(|time| time.0))
        };
        let retry = RetryPolicy {
            max_attempts: small(file.retry.max_attempts.or(base.retry.max_attempts), 1_000),
            backoff: Backoff {
                base: some(file.retry.base_delay, base.retry.base_delay).into(),
                max: some(file.retry.max_delay, base.retry.max_delay).into(),
            },
            on_unknown: match file.retry.on_unknown.or(base.retry.on_unknown) {
                Some(RawOnUnknown::Hold) => OnUnknown::Hold,
                _ => OnUnknown::Retry,
            },
        };
        if retry.backoff.base > retry.backoff.max {
            let message = "retry.base_delay is longer than retry.max_delay; set both";
            return Err(given.mistake(message, text.find("_delay").map(|at| at.saturating_sub(4))));
        }
        Ok(Config {
            source: path.map(Path::to_owned),
            database: overrides.database.clone().or(database).unwrap_or_else(|| "queue.db".into()),
            provider,
            defaults: Defaults {
                model: file.defaults.model.or(base.defaults.model).map(|name| name.0),
                max_tokens: file.defaults.max_tokens.or(base.defaults.max_tokens).map(|n| n.0),
                system: file.defaults.system.or(base.defaults.system),
            },
            max_in_flight: small(in_flight, 10_000),
            request_timeout: some(executor.request_timeout, base_executor.request_timeout),
            shutdown_grace: span(executor.shutdown_grace, base_executor.shutdown_grace),
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

fn small(count: Option<values::Count>, most: u32) -> u32 {
    count.and_then(|count| u32::try_from(count.0).ok()).unwrap_or(most).min(most)
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
        api_key_file: file.api_key_file.or(base.api_key_file).map(&beside),
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
        queue: raw.queue.as_ref().map(|name| Arc::from(name.0.as_str())),
        timezone: raw.timezone.as_ref().map_or_else(|| "UTC".into(), |zone| zone.0.clone()),
        allow_unbounded: raw.allow_unbounded,
    })
}

fn queue_of(raw: RawQueue) -> Queue {
    Queue {
        policy: QueuePolicy {
            weight_milli: raw.weight.map_or(1_000, |weight| weight.scaled(1e3)),
            max_in_flight: raw.max_in_flight.map(|count| small(Some(count), 10_000)),
            paused: false,
        },
        defaults: Defaults {
            model: raw.model.map(|name| name.0),
            max_tokens: raw.max_tokens.map(|count| count.0),
            system: raw.system,
        },
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
