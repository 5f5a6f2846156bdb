//! The schema runs in the producer's SQLite, however old: nothing newer than 3.9 stands in it.

use crate::helper::{TempDb, python, sql};

const SCHEMA: &str = include_str!("../../../migrations/sqlite/0001_contract.sql");

/// (as it would stand in the text, since when SQLite knows it, or why not).
const FORBIDDEN: &[(&str, &str)] = &[
    (") strict", "3.37"),
    ("json_", "an option of the build until 3.38"),
    ("->", "3.38"),
    ("generated", "3.31"),
    ("stored", "3.31"),
    ("unixepoch", "3.38"),
    ("iif(", "3.32"),
    ("over (", "window functions, 3.25"),
    ("filter (", "3.30"),
    ("on conflict", "an outer clause overrides one in a trigger"),
    ("insert or", "an outer clause overrides one in a trigger"),
    ("replace into", "an outer clause overrides one in a trigger"),
    ("update or", "an outer clause overrides one in a trigger"),
    ("returning", "3.35"),
    ("true", "3.23"),
    ("false", "3.23"),
    ("nulls first", "3.30"),
    ("nulls last", "3.30"),
    ("materialized", "3.35"),
    ("is distinct", "3.39"),
    ("is not distinct", "3.39"),
    ("pragma_", "3.16"),
    ("octet_length", "3.43"),
    ("string_agg", "3.44"),
    ("concat(", "3.44"),
    ("format(", "3.38"),
    ("indexed by", "the planner of the producer's SQLite is its own"),
    ("without rowid", "last_insert_rowid would be gone"),
    ("fts", "an option of the build"),
    ("references", "the ledger outlives its jobs"),
];

/// The text without comments, in small letters, each space one.
fn plain(schema: &str) -> String {
    let lines = schema.lines().map(|line| line.split("--").next().unwrap_or_default());
    let words = lines.flat_map(str::split_whitespace);
    words.collect::<Vec<_>>().join(" ").to_lowercase()
}

/// What of the forbidden stands in a schema. What is said to people does not count.
fn newer_than_the_floor(schema: &str) -> Vec<&'static str> {
    let text = plain(schema);
    let code: String = text.split('\'').step_by(2).collect::<Vec<_>>().join("''");
    let names = FORBIDDEN.iter().map(|(words, _)| *words);
    let mut found: Vec<&str> = names.filter(|words| stands_in(&code, words)).collect();
    if code.split(';').any(is_expression_index) {
        found.push("an index on an expression");
    }
    if code.split(';').any(|part| part.contains("update ") && part.contains(" from (select")) {
        found.push("update from");
    }
    found
}

/// As a whole word, where it begins or ends with a letter.
fn stands_in(code: &str, words: &str) -> bool {
    let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    code.match_indices(words).any(|(at, _)| {
        let before = is_part(code[..at].chars().next_back()) && is_part(words.chars().next());
        let rest = &code[at + words.len()..];
        let after = is_part(rest.chars().next()) && is_part(words.chars().next_back());
        !before && (!after || words.ends_with('_'))
    })
}

fn is_expression_index(statement: &str) -> bool {
    let statement = statement.trim();
    let is_index = statement.starts_with("create index") || statement.starts_with("create unique");
    let columns = statement.split_once('(').map_or("", |(_, rest)| rest);
    let before_where = columns.split(" where ").next().unwrap_or_default();
    is_index && before_where.contains('(')
}

#[test]
fn nothing_newer_than_the_floor_stands_in_the_schema() {
    assert_eq!(newer_than_the_floor(SCHEMA), [""; 0]);
}

#[test]
fn what_is_forbidden_is_found() {
    let planted = [
        ("CREATE TABLE t (a TEXT) STRICT;", ") strict"),
        ("SELECT a ->> 'b';", "->"),
        ("SELECT json_extract(a, 'b');", "json_"),
        ("CREATE TABLE t (a, b AS (a) STORED);", "stored"),
        ("SELECT unixepoch();", "unixepoch"),
        ("SELECT iif(1, 2, 3);", "iif("),
        ("SELECT row_number() OVER (ORDER BY a);", "over ("),
        (
            "CREATE TRIGGER x BEFORE INSERT ON t BEGIN INSERT OR IGNORE INTO u VALUES (1); END;",
            "insert or",
        ),
        ("INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING;", "on conflict"),
        ("CREATE INDEX i ON t (lower(a)) WHERE a > 1;", "an index on an expression"),
        ("UPDATE t SET a = TRUE;", "true"),
    ];
    for (text, words) in planted {
        let found = newer_than_the_floor(text);
        assert!(found.contains(&words), "{text}: {found:?}");
    }
    let innocent = "SELECT 'json -> true'; -- STRICT\nCREATE INDEX i ON t (a) WHERE (a > 1);";
    assert_eq!(newer_than_the_floor(innocent), [""; 0]);
}

const OBJECTS: &str = "SELECT type, name FROM sqlite_master
     WHERE name NOT LIKE 'sqlite_%' AND name NOT LIKE '%_sqlx_%' ORDER BY type, name;";

/// The same objects, whoever runs the text.
#[test]
fn the_command_sqlite3_takes_the_schema() {
    let ours = TempDb::create_now();
    let theirs = TempDb::nothing();
    sql(theirs.path(), SCHEMA);
    let objects = sql(theirs.path(), OBJECTS);
    assert_eq!(objects, sql(ours.path(), OBJECTS));
    assert!(objects.lines().count() > 30, "{objects}");
    let use_it = "INSERT INTO jobs (prompt) VALUES ('Say hi'); SELECT count(*) FROM job_list;
         SELECT count(*) FROM results; SELECT count(*) FROM batches; SELECT count(*) FROM limits_now;";
    assert_eq!(sql(theirs.path(), use_it), "1\n0\n0\n0");
}

#[test]
fn python_takes_the_schema() {
    let db = TempDb::nothing();
    let program = "import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.executescript(sys.argv[2])
db.execute(\"INSERT INTO jobs (prompt) VALUES ('Say hi')\")
print(db.execute('SELECT state FROM job_state').fetchall())
";
    let said = python(program, &[&db.path().display().to_string(), SCHEMA]);
    assert_eq!(said.unwrap(), "[('queued',)]");
}
