//! `claudeq init`: creates what is missing and leaves what exists.

use super::context::{CONFIG_FILE, Context};
use super::exit::{Exit, failure};
use super::output;
use super::render::escape;
use super::select::quoted;
use crate::config::{Config, DEFAULTS};
use crate::store::Store;
use anyhow::Context as _;
use clap::Args;
use serde::Serialize;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// What a newcomer changes; everything else stays at its default.
const STARTER: &str = include_str!("starter.toml");
/// The line that both files have for the database.
const DATABASE_LINE: &str = "path = \"queue.db\"";

/// For every member of the group: files belong to it, and only their owner may remove them.
const DIRECTORY_MODE: u32 = 0o3770;
const DATABASE_MODE: u32 = 0o660;
/// Before the umask.
const FILE_MODE: u32 = 0o644;
const NEW_DIRECTORY_MODE: u32 = 0o755;

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
    if args.group {
        // Before anything is written: a refusal leaves nothing behind.
        refuse_foreign(&directory_of(&database_to_be(&path, context)?), context)?;
    }
    let config_created = write_missing(&path, &with_database(text, &path, wanted.as_deref())?)?;
    let config = Config::load(Some(&path), &context.overrides())?;
    let database = config.database;
    let directory = directory_of(&database);
    create_directory(&directory)?;
    if args.group {
        set_mode(&directory, DIRECTORY_MODE)?;
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
        output::lines(&done.sentences(context).map(|line| escape::line(&line).into_owned()))?;
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
            options.push_str(&format!(" --config {}", quoted(&self.config.to_string_lossy())));
        }
        if !self.config_created && context.global.db.is_some() {
            // The file that was kept may name another one.
            options.push_str(&format!(" --db {}", quoted(&self.database.to_string_lossy())));
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
    create_directory(&directory_of(path))?;
    // It has the ceilings, which others must not be able to lift, whatever the umask.
    let file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path);
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

/// Creates a directory and those above it, such that others cannot put files into them.
fn create_directory(path: &Path) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(NEW_DIRECTORY_MODE)
        .create(path)
        .with_context(|| format!("cannot create the directory {}", path.display()))
}

/// Where the database will be.
fn database_to_be(config: &Path, context: &Context) -> anyhow::Result<PathBuf> {
    let overrides = context.overrides();
    if config.symlink_metadata().is_ok() {
        return Ok(Config::load(Some(config), &overrides)?.database);
    }
    let usual = || directory_of(config).join("queue.db");
    Ok(overrides.database.unwrap_or_else(usual))
}

/// A directory that serves other purposes as well is not opened to a group.
fn refuse_foreign(path: &Path, context: &Context) -> anyhow::Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let real = path.canonicalize().with_context(|| format!("cannot look at {}", path.display()))?;
    let home = context.environment.home.as_ref().and_then(|home| home.canonicalize().ok());
    let shared_by_all = fs::metadata(&real)?.mode() & 0o002 != 0;
    if is_of_the_system(&real) || Some(&real) == home.as_ref() || shared_by_all {
        let message = format!(
            "{} serves other purposes too, so its mode stays; \
             put the queue into a directory of its own: --db DIR/queue.db",
            real.display()
        );
        return Err(failure(Exit::Usage, message));
    }
    Ok(())
}

/// `/`, and what every system has below it.
fn is_of_the_system(path: &Path) -> bool {
    const ROOMS: [&str; 19] = [
        "bin", "boot", "dev", "etc", "home", "lib", "lib64", "media", "mnt", "opt", "proc", "root",
        "run", "sbin", "srv", "sys", "tmp", "usr", "var",
    ];
    let Ok(below) = path.strip_prefix("/") else { return false };
    let names: Vec<&OsStr> = below.iter().collect();
    match names[..] {
        [] => true,
        [room] => ROOMS.iter().any(|known| room == *known),
        [room, _] => room == "usr" || room == "var",
        _ => false,
    }
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
    fn directories_of_the_system_are_known() {
        for path in ["/", "/srv", "/etc", "/usr/local", "/var/lib"] {
            assert!(is_of_the_system(Path::new(path)), "{path}");
        }
        for path in ["/srv/claudeq", "/var/lib/claudeq", "/data", "/home/me"] {
            assert!(!is_of_the_system(Path::new(path)), "{path}");
        }
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
