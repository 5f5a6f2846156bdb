//! `claudeq backup`: a consistent copy of the database, checked before it gets its name.
//!
//! Invariant: nothing is overwritten, and no file of the wanted name is there that is not whole.

use super::context::Context;
use super::exit::{Exit, failure};
use super::output;
use super::render::{escape, format};
use crate::store::Store;
use anyhow::Context as _;
use clap::Args;
use serde_json::json;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use tempfile::{Builder, NamedTempFile};

/// Write a consistent copy of the database to a new file, also while the daemon works
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    claudeq backup backup.db\n  \
    claudeq backup \"/var/backups/claudeq-$(date +%F).db\"\n\n\
    The copy is checked, readable by you alone (0600), and overwrites nothing.")]
pub(crate) struct BackupArgs {
    /// The new file
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub(crate) async fn run(args: &BackupArgs, context: &Context) -> anyhow::Result<Exit> {
    let file = &args.file;
    if file.symlink_metadata().is_ok() {
        return Err(exists(file));
    }
    let store = context.store().await?;
    let copy = place_beside(file)?;
    tokio::select! {
        written = write(&store, &copy) => written?,
        // It only reads the database; the unfinished copy goes with its guard.
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            return Ok(Exit::Interrupted);
        }
    }
    let bytes = copy.as_file().metadata()?.len();
    match copy.persist_noclobber(file) {
        Ok(_) => {}
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(exists(file));
        }
        Err(error) => return Err(error.error).with_context(|| cannot(file)),
    }
    // Its name is as durable as its bytes.
    File::open(folder_of(file)).and_then(|folder| folder.sync_all())?;
    if context.global.json {
        let line = json!({ "file": file, "bytes": bytes });
        output::json_lines(&context.screen, &[line])?;
    } else {
        let sentence = format!("wrote {} ({}), checked", file.display(), format::bytes(bytes));
        output::line(&escape::line(&sentence))?;
    }
    Ok(Exit::Ok)
}

/// An empty file of mode 0600, gone unless it gets its name.
fn place_beside(file: &Path) -> anyhow::Result<NamedTempFile> {
    // SQLite would take a name that begins with "file:" for a URL.
    let folder = std::path::absolute(folder_of(file))?;
    if folder.to_str().is_none() {
        let message = format!("{}: SQLite takes only paths in UTF-8", folder.display());
        return Err(failure(Exit::BadInput, message));
    }
    Builder::new().prefix(".claudeq-backup-").tempfile_in(folder).with_context(|| cannot(file))
}

async fn write(store: &Store, copy: &NamedTempFile) -> anyhow::Result<()> {
    store.backup(copy.path()).await?;
    copy.as_file().sync_all()?;
    let damage = Store::inspect_copy(copy.path()).await?;
    match damage.first() {
        None => Ok(()),
        Some(first) => {
            let message = format!("the copy is damaged, so it was thrown away: {first}");
            Err(failure(Exit::BadInput, message))
        }
    }
}

fn exists(file: &Path) -> anyhow::Error {
    let message = format!("{} is there already; a backup overwrites nothing", file.display());
    failure(Exit::Failed, message)
}

fn cannot(file: &Path) -> String {
    format!("cannot write {}", file.display())
}

fn folder_of(file: &Path) -> &Path {
    match file.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}
