//! What can go wrong with the database, and what each calls for.

use std::fmt;
use std::path::PathBuf;

/// A failed verb of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A statement failed.
    #[error("failed to {doing}")]
    Sql {
        /// What was being done, as an infinitive.
        doing: &'static str,
        /// The database's words.
        #[source]
        source: Whole<sqlx::Error>,
    },
    /// The schema could not be brought up to date.
    #[error("failed to bring the schema of {} up to date", path.display())]
    Migrate {
        /// The database.
        path: PathBuf,
        /// The migrator's words.
        #[source]
        source: Whole<sqlx::migrate::MigrateError>,
    },
    /// There is no such file.
    #[error("there is no database {}; `claudeq init` creates one", path.display())]
    Missing {
        /// The database.
        path: PathBuf,
    },
    /// The file is there and cannot be used.
    #[error("cannot open the database {}", path.display())]
    Unreadable {
        /// The database.
        path: PathBuf,
        /// The system's words.
        #[source]
        source: std::io::Error,
    },
    /// It is some other program's file.
    #[error("{} is not a claudeq database ({found}); nothing was written", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it looks like.
        found: String,
    },
    /// A newer claudeq wrote it.
    #[error(
        "{} has schema version {found}, newer than this claudeq ({}) knows; use a newer claudeq; nothing was written",
        path.display(), env!("CARGO_PKG_VERSION")
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// major·1000 + minor.
        found: i64,
    },
    /// Another daemon has it.
    #[error("another claudeq daemon{} runs on {}; stop it first", pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default(), path.display())]
    Locked {
        /// The file.
        path: PathBuf,
        /// Who, when known.
        pid: Option<u32>,
    },
    /// The file system cannot hold a WAL database.
    #[error(
        "{} lies on a network file system ({kind}), where SQLite's WAL does not work; put it on a local disk",
        path.display()
    )]
    Network {
        /// The file.
        path: PathBuf,
        /// The file system's name.
        kind: &'static str,
    },
    /// SQLite did not give what was asked.
    #[error(
        "SQLite {found} is linked in, older than 3.51.3, which this program needs (WAL-reset bug)"
    )]
    OldSqlite {
        /// Its version.
        found: String,
    },
    /// WAL was asked for and not granted.
    #[error("{} could not be put into WAL mode (it is in {found} mode); is the disk or directory read-only?", path.display())]
    NoWal {
        /// The file.
        path: PathBuf,
        /// The mode it is in.
        found: String,
    },
}

/// What a database error calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Somebody else holds the write lock: try again.
    Busy,
    /// No space, or a file that cannot be written: keep results elsewhere.
    Unwritable,
    /// Damage: stop, write nothing.
    Corrupt,
    /// A constraint, a refusal, or text as an id: the statement's own fault.
    Refused,
    /// Anything else.
    Other,
}

impl StoreError {
    /// What it calls for, from SQLite's primary result code
    /// (<https://www.sqlite.org/rescode.html>).
    pub fn trouble(&self) -> Trouble {
        let StoreError::Sql { source, .. } = self else {
            return Trouble::Other;
        };
        let sqlx::Error::Database(database) = &source.0 else {
            return match source.0 {
                sqlx::Error::PoolTimedOut => Trouble::Busy,
                _ => Trouble::Other,
            };
        };
        let code = database.code().and_then(|code| code.parse::<i32>().ok()).unwrap_or(0);
        match code & 0xff {
            5 | 6 => Trouble::Busy,
            8 | 10 | 13 | 14 => Trouble::Unwritable,
            11 | 26 => Trouble::Corrupt,
            19 | 20 => Trouble::Refused,
            _ => Trouble::Other,
        }
    }

    /// A refusal's sentence, as the schema says it.
    pub fn refusal(&self) -> Option<String> {
        match self {
            StoreError::Sql { source: Whole(sqlx::Error::Database(database)), .. }
                if self.trouble() == Trouble::Refused =>
            {
                Some(database.message().to_owned())
            }
            _ => None,
        }
    }
}

/// An error of the library. It repeats what caused it, so it is the last of a chain.
#[derive(Debug)]
pub struct Whole<E>(pub(super) E);

impl fmt::Display for Whole<sqlx::Error> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            sqlx::Error::Database(database) => {
                f.write_str(database.message())?;
                let code = database.code();
                code.map_or(Ok(()), |code| write!(f, " (SQLite's code {code})"))
            }
            other => other.fmt(f),
        }
    }
}

impl fmt::Display for Whole<sqlx::migrate::MigrateError> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<E: fmt::Debug> std::error::Error for Whole<E> where Whole<E>: fmt::Display {}

/// Names what was being done when a statement failed.
pub(crate) trait Doing<T> {
    fn doing(self, doing: &'static str) -> Result<T, StoreError>;
}

impl<T> Doing<T> for Result<T, sqlx::Error> {
    fn doing(self, doing: &'static str) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::Sql { doing, source: Whole(source) })
    }
}
