//! What every command is given: where things are, who looks, what time it is.

use super::environment::Environment;
use super::exit::{Exit, failure};
use super::render::Screen;
use crate::clock::Clock;
use crate::config::{Config, Overrides};
use crate::domain::time::Timestamp;
use crate::store::{Store, StoreError, Trouble};
use clap::Args;
use std::path::{Path, PathBuf};

/// The configuration that is used when it is there and no other is named.
pub(crate) const CONFIG_FILE: &str = "daemon.toml";

/// Options that every command takes, before or after its name.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct GlobalArgs {
    /// Configuration [default: ./daemon.toml if it exists, else built in]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub(crate) config: Option<PathBuf>,
    /// Database [default: $CLAUDEQ_DB, else database.path of the configuration]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub(crate) db: Option<PathBuf>,
    /// JSON, also on a terminal
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) json: bool,
    /// A table, also in a pipe
    #[arg(long, global = true, conflicts_with = "json", help_heading = "Global options")]
    pub(crate) table: bool,
}

/// What every command is given.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) environment: Environment,
    pub(crate) global: GlobalArgs,
    pub(crate) clock: Clock,
    /// Standard output.
    pub(crate) screen: Screen,
}

impl Context {
    pub(crate) fn new(global: GlobalArgs) -> Context {
        let environment = Environment::read();
        let screen = Screen::stdout(&environment);
        Context { environment, global, clock: Clock::system(), screen }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Whether lists are JSON lines: asked for, or nobody looks.
    pub(crate) fn wants_json(&self) -> bool {
        self.global.json || !(self.screen.terminal || self.global.table)
    }

    /// The configuration file, when there is one.
    pub(crate) fn config_path(&self) -> Option<&Path> {
        match &self.global.config {
            Some(path) => Some(path),
            // A link that leads nowhere, or a file out of reach, is no leave to do without its
            // limits and budgets: reading it says what is wrong.
            None => Some(Path::new(CONFIG_FILE)).filter(|path| is_there(path)),
        }
    }

    /// What comes after the file.
    pub(crate) fn overrides(&self) -> Overrides {
        Overrides {
            database: self.global.db.clone().or_else(|| self.environment.database.clone()),
            base_url: self.environment.base_url.clone(),
        }
    }

    /// The configuration with everything that comes after it.
    pub(crate) fn config(&self) -> anyhow::Result<Config> {
        Ok(Config::load(self.config_path(), &self.overrides())?)
    }

    /// The database, opened for a command.
    pub(crate) async fn store(&self) -> anyhow::Result<Store> {
        let config = self.config()?;
        Ok(Store::open(&config.database).await?)
    }
}

fn is_there(path: &Path) -> bool {
    let found = std::fs::symlink_metadata(path);
    !found.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

/// Says who is in the way when the database is busy.
pub(crate) fn busy(store: &Store, error: StoreError) -> anyhow::Error {
    if error.trouble() != Trouble::Busy {
        return error.into();
    }
    let who = match store.write_lock_holder() {
        Some(pid) => format!("process {pid} is writing to it"),
        None => "another process is writing to it".to_owned(),
    };
    failure(Exit::Busy, format!("{} is busy: {who}; try again", store.path().display()))
}
