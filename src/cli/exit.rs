//! How a command ends: the exit codes, and the error that carries one.

use crate::claude::key::KeyError;
use crate::config::ConfigError;
use crate::daemon::DaemonError;
use crate::store::{StoreError, Trouble};
use std::io;
use std::path::Path;
use std::process::ExitCode;

/// The exit codes; public contract. Those from 64 on are sysexits.h's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Ok,
    /// Jobs failed, or the answer is no.
    Failed,
    /// The command was not understood.
    Usage,
    /// There is still work.
    Unfinished,
    /// What was given is no good.
    BadInput,
    /// There is no such file.
    NoInput,
    /// No daemon runs, or the API cannot be reached.
    Unavailable,
    /// Somebody else is at it: try again.
    Busy,
    /// Not allowed.
    Permission,
    /// The configuration is wrong.
    Configuration,
    /// Ctrl-C.
    Interrupted,
}

impl Exit {
    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Exit::Ok => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Unfinished => 8,
            Exit::BadInput => 65,
            Exit::NoInput => 66,
            Exit::Unavailable => 69,
            Exit::Busy => 75,
            Exit::Permission => 77,
            Exit::Configuration => 78,
            Exit::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

/// An error that knows its exit code.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct Failure {
    exit: Exit,
    message: String,
}

/// A sentence and the exit code that goes with it.
pub(crate) fn failure(exit: Exit, message: impl Into<String>) -> anyhow::Error {
    Failure { exit, message: message.into() }.into()
}

/// The exit code of a command that could not be carried out.
///
/// The outermost cause that knows decides.
pub(crate) fn exit_of(error: &anyhow::Error) -> Exit {
    error.chain().find_map(exit_of_cause).unwrap_or(Exit::Failed)
}

fn exit_of_cause(cause: &(dyn std::error::Error + 'static)) -> Option<Exit> {
    if let Some(failure) = cause.downcast_ref::<Failure>() {
        return Some(failure.exit);
    }
    if let Some(error) = cause.downcast_ref::<StoreError>() {
        return Some(exit_of_store(error));
    }
    if let Some(error) = cause.downcast_ref::<ConfigError>() {
        return Some(match error {
            ConfigError::Unreadable { source, .. } if is_denied(source) => Exit::Permission,
            ConfigError::Unreadable { .. } | ConfigError::Wrong(_) => Exit::Configuration,
        });
    }
    if let Some(error) = cause.downcast_ref::<DaemonError>() {
        return exit_of_daemon(error);
    }
    if cause.downcast_ref::<KeyError>().is_some() {
        return Some(Exit::Configuration);
    }
    cause.downcast_ref::<io::Error>().and_then(|error| match error.kind() {
        io::ErrorKind::NotFound => Some(Exit::NoInput),
        io::ErrorKind::PermissionDenied => Some(Exit::Permission),
        io::ErrorKind::IsADirectory => Some(Exit::BadInput),
        _ => None,
    })
}

/// `None`: its cause says more.
fn exit_of_daemon(error: &DaemonError) -> Option<Exit> {
    match error {
        DaemonError::Store(error) => Some(exit_of_store(error)),
        DaemonError::Client(_) => Some(Exit::Configuration),
        DaemonError::Fenced => Some(Exit::Busy),
        DaemonError::Spool { .. } | DaemonError::Signals(_) | DaemonError::Panicked => None,
    }
}

fn exit_of_store(error: &StoreError) -> Exit {
    match error {
        StoreError::Missing { .. } => Exit::NoInput,
        StoreError::Unreadable { source, .. } => match source.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Exit::Permission,
            _ => Exit::NoInput,
        },
        StoreError::Locked { .. } => Exit::Busy,
        StoreError::Sql { .. } => match error.trouble() {
            Trouble::Busy => Exit::Busy,
            Trouble::Unwritable => Exit::Permission,
            Trouble::Refused | Trouble::Corrupt => Exit::BadInput,
            Trouble::Other => Exit::Failed,
        },
        StoreError::Foreign { .. }
        | StoreError::Newer { .. }
        | StoreError::Network { .. }
        | StoreError::OldSqlite { .. }
        | StoreError::NoWal { .. }
        | StoreError::Migrate { .. } => Exit::Configuration,
    }
}

fn is_denied(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

/// Whether the reader of our output has gone (`| head`), which is no error.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}

/// The error as a person reads it: the whole chain, or the refusal's own sentence.
pub(crate) fn describe(error: &anyhow::Error) -> String {
    let refusal = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<StoreError>().and_then(StoreError::refusal));
    refusal.unwrap_or_else(|| format!("{error:#}"))
}

/// Whether the database was found damaged.
pub(crate) fn is_damage(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let store = match cause.downcast_ref::<DaemonError>() {
            Some(DaemonError::Store(error)) => Some(error),
            _ => cause.downcast_ref::<StoreError>(),
        };
        store.is_some_and(|error| error.trouble() == Trouble::Corrupt)
    })
}

/// What to do about a damaged database.
pub(crate) fn damaged(database: &Path) -> String {
    format!(
        "{0} is damaged. Start no daemon on it and delete nothing: copy {0}, {0}-wal and {0}-spool \
         together to another disk, save what can be read (claudeq results --db COPY), and restore \
         the last backup; docs/operations.md says how, under \"A damaged file\"",
        database.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn the_outermost_cause_that_knows_decides() {
        let plain: anyhow::Result<()> = Err(io::Error::from(io::ErrorKind::NotFound).into());
        let error = plain.context("cannot read request.json").unwrap_err();
        assert_eq!(exit_of(&error), Exit::NoInput);
        assert!(describe(&error).starts_with("cannot read request.json: "));
        let wrapped = failure(Exit::BadInput, "it is no JSON").context("cannot add it");
        assert_eq!(exit_of(&wrapped), Exit::BadInput);
        assert_eq!(describe(&wrapped), "cannot add it: it is no JSON");
        assert_eq!(exit_of(&anyhow::anyhow!("no idea")), Exit::Failed);
    }
}
