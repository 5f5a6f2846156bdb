//! SQLite: how it is opened, and what is demanded of it.

mod again;
mod backlog;
mod batch;
mod columns;
mod daemons;
mod edit;
mod glance;
mod import;
mod lease;
mod ledger;
mod narrow;
mod queue;
mod read;
mod results;
mod settle;
mod spending;
#[cfg(test)]
mod statements;
mod tally;

pub use edit::{Edited, NewJob, Selector};
pub use glance::{Glance, Wal, Wishes};
pub use import::{Defaults, ImportRule, Imported, OnDuplicate, Refusal, Taken};
pub use lease::Admission;
pub use ledger::Recovered;
pub use queue::Swept;
pub use spending::BudgetSpent;

use super::error::{Doing, StoreError, Trouble, Whole};
use super::file::{self, DatabaseFile, Holder};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection, Row, Sqlite, Transaction};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The migrator's own table may be all there is, after a crash.
pub(super) const IDENTITY: &str = "-- identity
SELECT sqlite_version() AS engine,
  (SELECT application_id FROM pragma_application_id) AS application_id,
  (SELECT user_version FROM pragma_user_version) AS user_version,
  (SELECT count(*) FROM sqlite_schema WHERE tbl_name <> '_sqlx_migrations') AS objects";

pub(super) const JOURNAL_MODE: &str = "-- journal_mode
PRAGMA journal_mode";

pub(super) const DATA_VERSION: &str = "-- data_version
PRAGMA data_version";

pub(super) const CHECKPOINT_PASSIVE: &str = "-- checkpoint_passive
PRAGMA wal_checkpoint(PASSIVE)";

pub(super) const NO_CHECKPOINTS: &str = "-- no_checkpoints
PRAGMA wal_autocheckpoint = 0";

pub(super) const UNDO_IN_MEMORY: &str = "-- undo_in_memory
PRAGMA temp_store = MEMORY";

pub(super) const CHECKPOINT_TRUNCATE: &str = "-- checkpoint_truncate
PRAGMA wal_checkpoint(TRUNCATE)";

pub(super) const BACKUP: &str = "-- backup
VACUUM INTO ?1";

pub(super) const INTEGRITY: &str = "-- integrity
PRAGMA integrity_check";

pub(super) const QUICK_CHECK: &str = "-- quick_check
PRAGMA quick_check(1)";

/// Oldest SQLite without the WAL-reset bug.
const OLDEST: i64 = 3_051_003;
/// Readers at a time.
const READERS: u32 = 4;
/// The WAL file is cut back to this after a checkpoint.
const WAL_SIZE_LIMIT: &str = "67108864";
/// Pages in the WAL after which a commit moves them into the database.
const SQLITES_OWN: &str = "1000";
const NEVER: &str = "0";
/// Rows that a statement may be ahead of who reads them, before its thread waits: those of a turn.
const ROWS_AT_ONCE: usize = 1_024;
/// How often two that create the same database at once get out of each other's way.
const CREATE_TRIES: u32 = 100;
/// How long a write waits for another writer before it says so.
const BUSY: Duration = Duration::from_secs(5);

/// The job database.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    file: DatabaseFile,
    /// One connection: writers queue here, not at SQLite's lock.
    writer: SqlitePool,
    readers: SqlitePool,
}

impl Store {
    /// Creates what is missing: the file, its directory's contents, the schema.
    ///
    /// # Errors
    /// When the file is not ours, or cannot be written.
    pub async fn create(path: &Path, group: bool) -> Result<Store, StoreError> {
        let mut tries = CREATE_TRIES;
        loop {
            match Store::try_create(path, group).await {
                // Going into WAL mode does not wait for others that do the same.
                Err(error) if error.trouble() == Trouble::Busy && tries > 0 => tries -= 1,
                created => return created,
            }
        }
    }

    async fn try_create(path: &Path, group: bool) -> Result<Store, StoreError> {
        let file = DatabaseFile::create(path, group)?;
        examine(path, BUSY).await?;
        let store = Store::connect(path, file, BUSY, SQLITES_OWN).await?;
        store.migrate().await?;
        Ok(store)
    }

    /// Opens an existing database for a command.
    ///
    /// # Errors
    /// When it is missing, not ours, newer than this program, or not yet migrated.
    pub async fn open(path: &Path) -> Result<Store, StoreError> {
        let file = DatabaseFile::open(path)?;
        if examine(path, BUSY).await? == 0 {
            return Err(StoreError::Missing { path: path.to_owned() });
        }
        Store::connect(path, file, BUSY, SQLITES_OWN).await
    }

    /// Opens an existing one for the daemon: takes the lock, then brings the schema up to date.
    /// No commit of it moves pages from the WAL into the database; that is left to
    /// [`Store::checkpoint`] and [`Store::checkpoint_beside`].
    ///
    /// # Errors
    /// As [`Store::open`], and when another daemon has it.
    pub async fn open_for_daemon(path: &Path, busy: Duration) -> Result<Store, StoreError> {
        let file = DatabaseFile::open(path)?;
        file.lock()?;
        if examine(path, busy).await? == 0 {
            return Err(StoreError::Missing { path: path.to_owned() });
        }
        let store = Store::connect(path, file, busy, NEVER).await?;
        store.migrate().await?;
        Ok(store)
    }

    /// Where it lies, as it was named.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where it lies, whatever links led to it: what belongs to it is there as well.
    pub fn real_path(&self) -> &Path {
        self.file.real_path()
    }

    /// Whether a daemon runs on it.
    pub fn holder(&self) -> Holder {
        self.file.holder()
    }

    /// Who holds SQLite's write lock, when the system tells.
    pub fn write_lock_holder(&self) -> Option<u32> {
        self.file.writer()
    }

    /// Whether another process has it open; there may be one where that cannot be told.
    pub fn is_shared(&self) -> bool {
        self.file.is_shared()
    }

    async fn connect(
        path: &Path,
        file: DatabaseFile,
        busy: Duration,
        checkpoint_after: &'static str,
    ) -> Result<Store, StoreError> {
        let writable = rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok();
        let base = SqliteConnectOptions::new()
            .filename(literal(path))
            .create_if_missing(false)
            .busy_timeout(busy)
            .foreign_keys(false)
            .row_buffer_size(ROWS_AT_ONCE)
            .pragma("trusted_schema", "OFF")
            .disable_statement_logging();
        let readers = if writable {
            base.clone().journal_mode(SqliteJournalMode::Wal).pragma("query_only", "ON")
        } else {
            base.clone().read_only(true)
        };
        let writer = base
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .pragma("journal_size_limit", WAL_SIZE_LIMIT)
            .pragma("wal_autocheckpoint", checkpoint_after);
        let pool = |most: u32| {
            SqlitePoolOptions::new()
                .max_connections(most)
                .idle_timeout(None)
                .max_lifetime(None)
                .test_before_acquire(false)
                .acquire_timeout(Duration::from_secs(600))
        };
        let store = Store {
            path: path.to_owned(),
            file,
            writer: pool(1).connect_lazy_with(writer),
            readers: pool(READERS).connect_lazy_with(readers),
        };
        store.check_mode().await?;
        Ok(store)
    }

    async fn check_mode(&self) -> Result<(), StoreError> {
        let mode: String = sqlx::query_scalar(JOURNAL_MODE)
            .fetch_one(&self.readers)
            .await
            .doing("read the journal mode")?;
        if mode != "wal" {
            return Err(StoreError::NoWal { path: self.path.clone(), found: mode });
        }
        Ok(())
    }

    /// When another process migrates at the same moment, the second look finds its work done.
    async fn migrate(&self) -> Result<(), StoreError> {
        if migrator().run(&self.writer).await.is_ok() {
            return Ok(());
        }
        migrator()
            .run(&self.writer)
            .await
            .map_err(|error| StoreError::Migrate { path: self.path.clone(), source: Whole(error) })
    }

    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        match self.writer.begin_with("BEGIN IMMEDIATE").await {
            // A full disk makes SQLite roll back by itself; the library goes on counting a
            // transaction that is no more, and only another connection gets it right again.
            Err(sqlx::Error::InvalidSavePointStatement | sqlx::Error::BeginFailed) => {
                let lost = self.writer.acquire().await.doing("begin a write")?.detach();
                lost.close_hard().await.doing("close a connection that failed")?;
                self.writer.begin_with("BEGIN IMMEDIATE").await.doing("begin a write")
            }
            begun => begun.doing("begin a write"),
        }
    }

    /// A number that changes when somebody else commits, and not when this store does.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn data_version(&self) -> Result<i64, StoreError> {
        sqlx::query_scalar(DATA_VERSION).fetch_one(&self.writer).await.doing("look for new commits")
    }

    /// Moves committed pages from the WAL into the database without waiting for anybody.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn checkpoint(&self, truncate: bool) -> Result<(), StoreError> {
        let statement = if truncate { CHECKPOINT_TRUNCATE } else { CHECKPOINT_PASSIVE };
        sqlx::query(statement).execute(&self.writer).await.doing("checkpoint the WAL")?;
        Ok(())
    }

    /// Prepares for many large writes: checkpoints are left to [`Store::checkpoint_beside`], since
    /// to do one after a commit costs as much as the commit, and what a statement may have to undo
    /// is kept in memory, not in a file of its own.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub async fn prepare_import(&self) -> Result<(), StoreError> {
        for setting in [NO_CHECKPOINTS, UNDO_IN_MEMORY] {
            sqlx::query(setting).execute(&self.writer).await.doing("prepare to write much")?;
        }
        Ok(())
    }

    /// As [`Store::checkpoint`] without truncating, while this store goes on writing.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn checkpoint_beside(&self) -> Result<(), StoreError> {
        let done = sqlx::query(CHECKPOINT_PASSIVE).execute(&self.readers).await;
        done.doing("checkpoint the WAL")?;
        Ok(())
    }

    /// Writes a compact, consistent copy to a file that must be empty or not exist yet. Its path
    /// must be UTF-8 and not begin with "file:".
    ///
    /// # Errors
    /// When the copy cannot be written.
    pub async fn backup(&self, to: &Path) -> Result<(), StoreError> {
        sqlx::query(BACKUP)
            .bind(literal(to).to_string_lossy().into_owned())
            .execute(&self.writer)
            .await
            .doing("write the backup")?;
        Ok(())
    }

    /// Whether SQLite finds the file sound; its complaints otherwise.
    ///
    /// # Errors
    /// When it cannot even be read.
    pub async fn integrity(&self) -> Result<Vec<String>, StoreError> {
        let rows: Vec<String> = sqlx::query_scalar(INTEGRITY)
            .fetch_all(&self.readers)
            .await
            .doing("check the database")?;
        Ok(rows.into_iter().filter(|row| row != "ok").collect())
    }

    /// Whether the pages of the file are in order; some of the time of [`Store::integrity`].
    ///
    /// # Errors
    /// When it cannot even be read.
    pub async fn is_sound(&self) -> Result<bool, StoreError> {
        let found: String = sqlx::query_scalar(QUICK_CHECK)
            .fetch_one(&self.readers)
            .await
            .doing("check the database")?;
        Ok(found == "ok")
    }

    /// Whether a copy that nobody uses yet is ours and sound; SQLite's complaints otherwise. Not a
    /// byte of it changes.
    ///
    /// # Errors
    /// When it cannot even be read, or is no database of ours.
    pub async fn inspect_copy(path: &Path) -> Result<Vec<String>, StoreError> {
        if examine(path, BUSY).await? == 0 {
            let found = "it is empty".to_owned();
            return Err(StoreError::Foreign { path: path.to_owned(), found });
        }
        let options = SqliteConnectOptions::new().filename(literal(path)).read_only(true);
        let connection = options.disable_statement_logging().connect().await;
        let mut connection = connection.doing("open the copy")?;
        let rows: Result<Vec<String>, _> =
            sqlx::query_scalar(INTEGRITY).fetch_all(&mut connection).await;
        let rows = rows.doing("check the copy")?;
        connection.close().await.doing("close the copy")?;
        Ok(rows.into_iter().filter(|row| row != "ok").collect())
    }

    /// Closes the connections; the lock stays with the process.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// Makes sure, through SQLite but without writing a byte, that the file is ours or new, and gives
/// its schema version. (The header on disk may be older than the WAL.)
async fn examine(path: &Path, busy: Duration) -> Result<i64, StoreError> {
    let options = SqliteConnectOptions::new().filename(literal(path)).read_only(true);
    let options = options.busy_timeout(busy);
    let connection = options.disable_statement_logging().connect().await;
    let mut connection = connection.doing("open the database")?;
    let row = sqlx::query(IDENTITY).fetch_one(&mut connection).await;
    let row = row.doing("read the schema version")?;
    connection.close().await.doing("read the schema version")?;
    let engine: String = row.get("engine");
    if version_number(&engine) < OLDEST {
        return Err(StoreError::OldSqlite { found: engine });
    }
    let (id, version): (i64, i64) = (row.get("application_id"), row.get("user_version"));
    file::check_identity(path, id, version)?;
    if id == 0 && row.get::<i64, _>("objects") > 0 {
        let found = "it has tables, and none of them are ours".to_owned();
        return Err(StoreError::Foreign { path: path.to_owned(), found });
    }
    Ok(version)
}

/// SQLite reads a name that begins with `file:` as a URI, and `:memory:` as no file at all.
fn literal(path: &Path) -> PathBuf {
    Path::new(".").join(path)
}

/// The schema, forward only and additive.
fn migrator() -> Migrator {
    const CONTRACT: &str = include_str!("../../../migrations/sqlite/0001_contract.sql");
    let contract = Migration::new(
        1,
        "contract".into(),
        MigrationType::Simple,
        sqlx::SqlSafeStr::into_sql_str(CONTRACT),
        false,
    );
    let mut migrator = Migrator::with_migrations(vec![contract]);
    migrator.set_locking(false);
    migrator
}

/// `3.51.3` as 3051003.
fn version_number(version: &str) -> i64 {
    version
        .split('.')
        .map(|part| part.parse::<i64>().unwrap_or(0))
        .chain([0, 0, 0])
        .take(3)
        .fold(0, |sum, part| sum * 1_000 + part)
}
