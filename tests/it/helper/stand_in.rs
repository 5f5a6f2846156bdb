//! The command `sqlite3` where there is none: the same SQL through the SQLite of this program.

use super::Said;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Column as _, ConnectOptions as _, Connection as _, Row as _};
use sqlx::{TypeInfo as _, ValueRef as _};
use std::path::Path;
use std::time::Duration;

/// Runs a script statement by statement, going on after errors, as `sqlite3 -batch` does.
pub(super) fn run(database: &Path, script: &str) -> Said {
    // A thread of its own: callers may be inside a runtime, which must not block on another.
    std::thread::scope(|scope| {
        let work = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime can be built").block_on(run_all(database, script))
        });
        work.join().expect("the script was run")
    })
}

async fn run_all(database: &Path, script: &str) -> Said {
    let options = SqliteConnectOptions::new()
        .filename(database)
        .create_if_missing(true)
        .foreign_keys(false)
        .busy_timeout(Duration::from_secs(5))
        .disable_statement_logging();
    let mut said = Said { code: 0, out: String::new(), err: String::new() };
    let mut connection = match SqliteConnection::connect_with(&options).await {
        Ok(connection) => connection,
        Err(error) => return Said { code: 1, err: error.to_string(), ..said },
    };
    for statement in statements(script) {
        match sqlx::raw_sql(AssertSqlSafe(statement)).fetch_all(&mut connection).await {
            Ok(rows) => rows.iter().for_each(|row| said.out.push_str(&line(row))),
            Err(error) => {
                said.code = 1;
                said.err.push_str(&format!("Error: {error}\n"));
            }
        }
    }
    let _ = connection.close().await;
    said.out = said.out.trim_end().to_owned();
    said.err = said.err.trim_end().to_owned();
    said
}

/// Values with `|` between them, as the command's list mode prints them.
fn line(row: &SqliteRow) -> String {
    let cells: Vec<String> = (0..row.len()).map(|index| cell(row, index)).collect();
    format!("{}\n", cells.join("|"))
}

fn cell(row: &SqliteRow, index: usize) -> String {
    let value = row.try_get_raw(index).expect("the column is there");
    if value.is_null() {
        return String::new();
    }
    let _ = row.column(index).name();
    match value.type_info().name() {
        "INTEGER" => row.get_unchecked::<i64, _>(index).to_string(),
        "REAL" => real(row.get_unchecked(index)),
        _ => String::from_utf8_lossy(&row.get_unchecked::<Vec<u8>, _>(index)).into_owned(),
    }
}

/// As SQLite's `%!.15g`: always with a point, an exponent of two digits at least.
fn real(number: f64) -> String {
    if number != 0.0 && !(1e-4..1e15).contains(&number.abs()) {
        let text = format!("{number:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let point = if digits.contains('.') { "" } else { ".0" };
        let exponent: i32 = exponent.parse().unwrap_or(0);
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}{point}e{sign}{:02}", exponent.abs());
    }
    format!("{number:?}")
}

/// Splits at semicolons outside quotes, comments and trigger bodies; drops dot commands.
fn statements(script: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut current = String::new();
    let mut quote: Option<char> = None;
    let script: Vec<&str> =
        script.lines().filter(|line| !line.trim_start().starts_with('.')).collect();
    for line in script {
        let mut chars = line.chars().peekable();
        while let Some(c) = chars.next() {
            match quote {
                Some(open) if c == open => quote = None,
                None if c == '\'' || c == '"' => quote = Some(c),
                None if c == '-' && chars.peek() == Some(&'-') => break,
                _ => {}
            }
            current.push(c);
            if c == ';' && quote.is_none() && !inside_trigger(&current) {
                all.push(std::mem::take(&mut current));
            }
        }
        current.push('\n');
    }
    all.push(current);
    all.retain(|statement| !statement.trim().trim_matches(';').trim().is_empty());
    all
}

fn inside_trigger(statement: &str) -> bool {
    let upper = statement.trim().to_uppercase();
    let is_trigger = ["CREATE TRIGGER", "CREATE TEMP TRIGGER"].iter().any(|t| upper.starts_with(t));
    is_trigger && !upper.trim_end_matches(';').trim_end().ends_with("END")
}

#[test]
fn it_speaks_like_the_command() {
    let folder = tempfile::tempdir().unwrap();
    let script = "CREATE TABLE t (a, b); -- a; comment\n.timeout 5\n\
        CREATE TRIGGER g BEFORE DELETE ON t BEGIN SELECT RAISE(ABORT, 'no; never'); END;\n\
        INSERT INTO t VALUES (1, 'x;y'), (NULL, 1.5), (5e-9, x'41');\n\
        DELETE FROM t; SELECT * FROM t; SELECT nonsense; SELECT 2";
    let said = run(&folder.path().join("x.db"), script);
    assert_eq!(said.out, "1|x;y\n|1.5\n5.0e-09|A\n2");
    assert!(said.err.contains("no; never") && said.err.contains("nonsense"), "{said:?}");
}
