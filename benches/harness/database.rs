//! A database as a producer sees it, and many jobs at once.

use claudeq::store::Store;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A producer's connection.
///
/// # Errors
/// When the file cannot be opened.
pub(crate) async fn connect(path: &Path) -> anyhow::Result<SqliteConnection> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(Duration::from_secs(5))
        .pragma("synchronous", "FULL")
        .pragma("wal_autocheckpoint", "0");
    Ok(options.disable_statement_logging().connect().await?)
}

/// Creates a database in a folder.
///
/// # Errors
/// When it cannot be created.
pub(crate) async fn create(folder: &Path) -> anyhow::Result<PathBuf> {
    let path = folder.join("queue.db");
    Store::create(&path, false).await?.close().await;
    Ok(path)
}

/// Adds jobs whose prompts are this long, each asking for an answer of some 1,000 bytes.
///
/// # Errors
/// When the database cannot be written.
pub(crate) async fn add_jobs(path: &Path, count: usize, bytes: usize) -> anyhow::Result<()> {
    let mut connection = connect(path).await?;
    let text = format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})
         INSERT INTO jobs (prompt, model, max_tokens)
         SELECT substr('[[out=250]] ' || i || ' ' || printf('%.*c', {bytes}, 'x'), 1, {bytes}),
           'claude-haiku-4-5', 1000
         FROM n"
    );
    connection.execute(AssertSqlSafe(text)).await?;
    connection.close().await?;
    Ok(())
}
