//! The whole schema of a database as one text that makes such a database again.

use super::{TempDb, sql};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};
use std::fmt::Write as _;
use std::path::Path;

/// In this order a database can be made of it.
const KINDS: [(&str, &str); 4] =
    [("table", "tables"), ("index", "indexes"), ("view", "views"), ("trigger", "triggers")];

/// What differs from database to database, and what stands in its place.
const VOLATILE: &[(&str, &str, &str)] = &[
    ("identity", "id", "lower(hex(randomblob(16)))"),
    ("_sqlx_migrations", "installed_on", "'2026-11-24 00:00:00'"),
    ("_sqlx_migrations", "execution_time", "0"),
];

/// Marks, tables, indexes, views, triggers; each kind by name.
pub(crate) fn schema_of(database: &Path) -> String {
    let marks = sql(database, "PRAGMA application_id; PRAGMA user_version;");
    let (id, version) = marks.split_once('\n').expect("two lines");
    let mut text = format!(
        "PRAGMA journal_mode = wal;\nPRAGMA application_id = {id};\n\
         PRAGMA user_version = {version};\n"
    );
    for (kind, title) in KINDS {
        let query = format!(
            "SELECT char(10) || sql || ';' FROM sqlite_master
             WHERE type = '{kind}' AND sql IS NOT NULL AND name NOT LIKE 'sqlite_%'
             ORDER BY name;"
        );
        let _ = writeln!(text, "\n-- {title}\n{}", sql(database, &query));
    }
    text
}

/// Everything that stands in its tables, as INSERTs.
pub(crate) fn rows_of(database: &Path) -> String {
    let tables = "SELECT name FROM sqlite_master
        WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name;";
    sql(database, tables).lines().map(|table| rows_of_table(database, table)).collect()
}

fn rows_of_table(database: &Path, table: &str) -> String {
    let names = sql(database, &format!("SELECT name FROM pragma_table_info('{table}');"));
    let names: Vec<&str> = names.lines().collect();
    let value = |column: &&str| {
        let of = |(t, c, _): &&(&str, &str, &str)| t == &table && c == column;
        VOLATILE.iter().find(of).map_or_else(
            || format!("quote({column})"),
            |(_, _, literal)| format!("'{}'", literal.replace('\'', "''")),
        )
    };
    let values: Vec<String> = names.iter().map(value).collect();
    let query = format!(
        "SELECT 'INSERT INTO {table} ({}) VALUES (' || {} || ');' FROM {table} ORDER BY 1;",
        names.join(", "),
        values.join(" || ', ' || "),
    );
    let rows = sql(database, &query);
    if rows.is_empty() { rows } else { rows + "\n" }
}

/// A database made of such a text, and of whatever follows it.
pub(crate) async fn database_of(texts: &[&str]) -> TempDb {
    let db = TempDb::nothing();
    fill(db.path(), texts).await;
    db
}

/// Makes a database at a path where none is.
pub(crate) async fn fill(path: &Path, texts: &[&str]) {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .foreign_keys(false)
        .disable_statement_logging();
    let connection: Result<SqliteConnection, _> = options.connect().await;
    let mut connection = connection.expect("a database can be made");
    for text in texts {
        let script = sqlx::raw_sql(AssertSqlSafe((*text).to_owned()));
        script.execute(&mut connection).await.expect("the text is good SQL");
    }
    connection.close().await.expect("it can be closed");
}
