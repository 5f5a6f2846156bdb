//! A database file of its own for each test, gone with it.

use claudeq::store::Store;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A directory with the path of a database in it.
pub(crate) struct TempDb {
    dir: TempDir,
    path: PathBuf,
}

impl TempDb {
    /// A path at which nothing lies yet.
    pub(crate) fn nothing() -> TempDb {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let path = dir.path().join("queue.db");
        TempDb { dir, path }
    }

    /// A database with the schema, closed again.
    pub(crate) async fn create() -> TempDb {
        let db = TempDb::nothing();
        let store = Store::create(&db.path, false).await;
        store.expect("a database can be created").close().await;
        db
    }

    /// As [`TempDb::create`], for tests that are not async.
    pub(crate) fn create_now() -> TempDb {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime can be built").block_on(TempDb::create())
    }

    /// The database.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Its directory, for files beside it.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }
}
