//! The table of columns and the list of results are those of the schema.

use super::README;
use crate::helper::markdown::{code, rows, section};
use crate::helper::{TempDb, sql};

/// Name, type in small letters, default of every column of `jobs`.
fn columns(db: &TempDb) -> Vec<[String; 3]> {
    let query =
        "SELECT name, lower(type), ifnull(dflt_value, 'none') FROM pragma_table_info('jobs');";
    // The default of `created_at` is an expression over several lines.
    let text = sql(db.path(), query).replace('\n', "\u{1}");
    let lines = text.replace("|integer|", "|integer\u{2}").replace("|text|", "|text\u{2}");
    let mut found = Vec::new();
    for part in lines.split('\u{2}').collect::<Vec<_>>().windows(2) {
        let head = part[0].rsplit('\u{1}').next().unwrap();
        let (name, kind) = head.rsplit_once('|').unwrap();
        let default = part[1].rsplit_once('\u{1}').map_or(part[1], |(default, _)| default);
        found.push([name.to_owned(), kind.to_owned(), default.to_owned()]);
    }
    found
}

#[test]
fn the_columns_of_jobs() {
    let db = TempDb::create_now();
    let columns = columns(&db);
    let rows = rows(section(README, "## The contract"), "`jobs`");
    let named: Vec<String> = rows.iter().flat_map(|row| code(&row[0])).collect();
    let names: Vec<&str> = columns.iter().map(|column| column[0].as_str()).collect();
    assert_eq!(named, names, "the same columns in the same order");
    for row in &rows {
        for name in code(&row[0]) {
            let [_, kind, default] = columns.iter().find(|column| column[0] == name).unwrap();
            assert_said(&row[1], kind, default, &name);
        }
    }
}

/// `integer, 0` says type and default; `text` has none, and `NULL` alone fits any type.
fn assert_said(said: &str, kind: &str, default: &str, name: &str) {
    let (said_kind, said_default) = said.split_once(", ").unwrap_or((said, "NULL"));
    assert!(said_kind == "NULL" || said_kind == kind, "{name}: {said:?}, but it is {kind}");
    let fits = match said_default.trim_matches('`') {
        "NULL" => default == "none",
        "given" => name == "id" && default == "none",
        "now" => default.contains("strftime('%s', 'now')"),
        literal => literal == default,
    };
    assert!(fits, "{name}: {said:?}, but its default is {default}");
}

#[test]
fn the_columns_of_results() {
    let db = TempDb::create_now();
    let query = "SELECT group_concat(name, ', ') FROM pragma_table_info('results');";
    let columns = sql(db.path(), query);
    let named = code(README).into_iter().find(|code| code.starts_with("seq, id"));
    assert_eq!(named.as_deref(), Some(columns.as_str()));
}

#[test]
fn the_other_views_and_the_ledger() {
    let db = TempDb::create_now();
    let also = section(README, "## The contract").split("\nAlso: ").nth(1);
    let also = also.and_then(|text| text.split("\n\n").next()).expect("the README names them");
    let named = code(also);
    assert!(named.len() > 3, "{named:?}");
    for name in named {
        let query = format!("SELECT count(*) FROM sqlite_master WHERE name = '{name}';");
        assert_eq!(sql(db.path(), &query), "1", "{name}");
    }
}
