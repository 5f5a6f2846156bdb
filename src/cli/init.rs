//! `claudeq init`: creates what is missing and leaves what exists.

use super::context::{CONFIG_FILE, Context};
use super::exit::{Exit, failure};
use super::output;
use crate::config::{Config, DEFAULTS};
use crate::store::Store;
use anyhow::Context as _;
use clap::Args;
use serde::Serialize;
use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// What a newcomer changes; everything else stays at its default.
const STARTER: &str = include_str!("starter.toml");
/// The line that both files have for the database.
const DATABASE_LINE: &str = "path = \"queue.db\"";

/// For every member of the group: files belong to it, and only their owner may remove them.
const DIRECTORY_MODE: u32 = 0o3770;
const DATABASE_MODE: u32 = 0o660;

/// Create what is missing: daemon.toml and the database; what exists is left as it is
#[derive(Args, Debug)]
pub(crate) struct InitArgs {
    /// Write every key with its default and its meaning, not only the first few
    #[arg(long)]
    full: bool,
    /// Print the file and create nothing
    #[arg(long, conflicts_with_all = ["group", "json"])]
    print: bool,
    /// Share the queue with your group: database 0660, its directory 3770 (setgid and sticky)
    #[arg(long)]
    group: bool,
}

#[derive(Debug, Serialize)]
struct Done {
    config: PathBuf,
    config_created: bool,
    database: PathBuf,
    database_created: bool,
    group: bool,
}

pub(crate) async fn run(args: &InitArgs, context: &Context) -> anyhow::Result<Exit> {
    let path = context.global.config.clone().unwrap_or_else(|| CONFIG_FILE.into());
    let text = if args.full { DEFAULTS } else { STARTER };
    let wanted = context.overrides().database;
    if args.print {
        output::raw(&with_database(text, &path, wanted.as_deref())?)?;
        return Ok(Exit::Ok);
    }
    let config_created = write_missing(&path, &with_database(text, &path, wanted.as_deref())?)?;
    let config = Config::load(Some(&path), &context.overrides())?;
    let database = config.database;
    let directory = directory_of(&database);
    let directory_created = !directory.exists();
    fs::create_dir_all(&directory)
        .with_context(|| format!("cannot create the directory {}", directory.display()))?;
    if args.group {
        share_directory(&directory, directory_created, context)?;
    }
    let database_created = fs::metadata(&database).map_or(true, |file| file.len() == 0);
    let store = Store::create(&database, args.group).await?;
    store.close().await;
    if args.group {
        set_mode(&database, DATABASE_MODE)?;
    }
    let group = args.group;
    let done = Done { config: path, config_created, database, database_created, group };
    if context.global.json {
        output::json_lines(&context.screen, &[done])?;
    } else {
        output::lines(&done.sentences(context))?;
    }
    Ok(Exit::Ok)
}

impl Done {
    fn sentences(&self, context: &Context) -> [String; 3] {
        let what = |created: bool| if created { "created" } else { "kept" };
        let group = if self.group { ", shared with the group" } else { "" };
        let has_key = context.environment.api_key.is_some();
        let key = if has_key { "" } else { "export ANTHROPIC_API_KEY=…, then " };
        let mut options = String::new();
        if self.config != Path::new(CONFIG_FILE) {
            options.push_str(&format!(" --config {}", self.config.display()));
        }
        [
            format!(
                "{} {} (your settings), {} {} (the queue{group})",
                what(self.config_created),
                self.config.display(),
                what(self.database_created),
                self.database.display(),
            ),
            format!("start:  {key}claudeq daemon{options}"),
            format!("try:    claudeq add \"Say hi\" --wait{options}"),
        ]
    }
}

/// The text with the database that was asked for, as the file will have to name it.
fn with_database(text: &str, config: &Path, wanted: Option<&Path>) -> anyhow::Result<String> {
    let Some(wanted) = wanted else {
        return Ok(text.to_owned());
    };
    let same_folder = directory_of(config) == Path::new(".");
    let path = if wanted.is_absolute() || same_folder {
        wanted.to_owned()
    } else {
        std::path::absolute(wanted)?
    };
    let Some(path) = path.to_str() else {
        let message = format!("the path {} is not UTF-8, so no file can name it", path.display());
        return Err(failure(Exit::BadInput, message));
    };
    // JSON strings are TOML strings.
    let line = format!("path = {}", serde_json::to_string(path)?);
    Ok(text.replacen(DATABASE_LINE, &line, 1))
}

/// Writes the file unless there is one; whether it did.
fn write_missing(path: &Path, text: &str) -> anyhow::Result<bool> {
    let cannot = || format!("cannot create {}", path.display());
    fs::create_dir_all(directory_of(path)).with_context(cannot)?;
    let file = OpenOptions::new().write(true).create_new(true).open(path);
    match file {
        Ok(mut file) => {
            file.write_all(text.as_bytes()).with_context(cannot)?;
            Ok(true)
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error).with_context(cannot),
    }
}

fn directory_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => ".".into(),
    }
}

/// Opens a directory to its group; one that serves other purposes as well is left alone.
fn share_directory(path: &Path, created: bool, context: &Context) -> anyhow::Result<()> {
    let real = path.canonicalize().with_context(|| format!("cannot look at {}", path.display()))?;
    let home = context.environment.home.as_ref().and_then(|home| home.canonicalize().ok());
    let shared_by_all = fs::metadata(&real)?.mode() & 0o002 != 0;
    if !created && (real.parent().is_none() || Some(&real) == home.as_ref() || shared_by_all) {
        let message = format!(
            "{} serves other purposes too, so its mode stays; \
             put the queue into a directory of its own: --db DIR/queue.db",
            real.display()
        );
        return Err(failure(Exit::Usage, message));
    }
    set_mode(path, DIRECTORY_MODE)
}

fn set_mode(path: &Path, mode: u32) -> anyhow::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))
        .with_context(|| format!("cannot set the mode of {} to {mode:04o}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Overrides;

    fn loaded(text: &str) -> Config {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.toml");
        fs::write(&path, text).unwrap();
        let mut config = Config::load(Some(&path), &Overrides::default()).unwrap();
        config.source = None;
        config.database = config.database.file_name().unwrap().into();
        config
    }

    #[test]
    fn the_starter_changes_nothing() {
        assert_eq!(loaded(STARTER), loaded(""));
    }

    #[test]
    fn what_the_starter_suggests_is_right() {
        let active: String = STARTER
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(key) if key.contains(" = ") || key.starts_with("[[") => format!("{key}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        let config = loaded(&active);
        assert_eq!(config.budgets.len(), 1);
        assert!(!config.pools[0].limits.is_empty());
        assert!(config.provider.api_key_file.is_some());
    }

    #[test]
    fn the_file_names_the_database_that_was_asked_for() {
        for text in [STARTER, DEFAULTS] {
            let named =
                with_database(text, Path::new("daemon.toml"), Some(Path::new("a \"b\".db")));
            assert_eq!(loaded(&named.unwrap()).database, Path::new("a \"b\".db"));
        }
        let elsewhere =
            with_database(STARTER, Path::new("etc/daemon.toml"), Some(Path::new("a.db"))).unwrap();
        let absolute = std::path::absolute("a.db").unwrap();
        assert!(elsewhere.contains(&format!("path = \"{}\"", absolute.display())));
    }
}
