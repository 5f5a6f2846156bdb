//! Producers with an old SQLite: what the documentation shows, every refusal and every view, through
//! the shells that `tests/old-sqlite.sh` builds.

use super::inserts::{DRESSED, KINDS};
use super::refusals::{MISMATCH, every_bad_row};
use super::stage;
use crate::helper::markdown::{block, code};
use crate::helper::schema::database_of;
use crate::helper::{Lab, Said, Settings, TempDb, sql, sqlite3_of, tools_are_required};
use claudeq::simulator;
use std::path::{Path, PathBuf};

const VERSIONS: &[&str] = &["3.15.0", "3.31.1"];
const README: &str = include_str!("../../../README.md");
const CONTRACT: &str = include_str!("../../../docs/contract.md");
const GOLDEN: &str = include_str!("../contract_v1.sql");
const ROWS: &str = include_str!("../contract_v1_rows.sql");

/// A shell of an old SQLite.
struct Old {
    version: &'static str,
    program: PathBuf,
}

impl Old {
    fn sqlite3(&self, database: &Path, script: &str) -> Said {
        sqlite3_of(&self.program, database, script)
    }

    /// Runs a script that must succeed, and gives what it prints.
    fn sql(&self, database: &Path, script: &str) -> String {
        let said = self.sqlite3(database, script);
        assert!(said.code == 0 && said.err.is_empty(), "{}: {script}\n{said:?}", self.version);
        said.out
    }
}

/// Those that are built, each tried to be what it is said to be.
fn old_ones() -> Vec<Old> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools");
    let all = VERSIONS.iter().map(|version| {
        let program = tools.join(format!("sqlite3-{version}"));
        Old { version, program }
    });
    let (built, missing): (Vec<Old>, Vec<Old>) = all.partition(|old| old.program.exists());
    assert!(missing.is_empty() || !tools_are_required(), "build them: tests/old-sqlite.sh");
    for old in &missing {
        eprintln!("left out: SQLite {} is not built: tests/old-sqlite.sh", old.version);
    }
    for old in &built {
        let nowhere = TempDb::nothing();
        assert_eq!(old.sql(nowhere.path(), "SELECT sqlite_version();"), old.version);
    }
    built
}

/// Every INSERT in a text with its values: parameters become a text that is good everywhere.
fn inserts(text: &str) -> Vec<String> {
    let parts = text.split("INSERT INTO jobs").skip(1);
    let whole = parts.filter_map(|part| {
        let (columns, rest) = part.split_once("VALUES (")?;
        let (values, _) = rest.split_once(')')?;
        let values = values.replace('?', "'7'");
        // What a shell fills in is left out, and so is what only looks like it.
        let plain = columns.chars().all(|c| c.is_ascii_alphanumeric() || " (),_\n".contains(c));
        (plain && !values.contains('$'))
            .then(|| format!("INSERT INTO jobs{columns}VALUES ({values});"))
    });
    whole.collect()
}

/// The programs in `examples/`, one after the other.
fn examples() -> String {
    fn read(folder: &Path, text: &mut String) {
        for entry in std::fs::read_dir(folder).expect("it can be listed") {
            let path = entry.expect("it can be listed").path();
            if path.is_dir() && !path.ends_with("target") {
                read(&path, text);
            } else if path.is_file() {
                text.push_str(&std::fs::read_to_string(path).expect("it is text"));
            }
        }
    }
    let mut text = String::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("examples"), &mut text);
    text
}

#[test]
fn what_the_documentation_inserts() {
    let shown = format!("{}\n{}", code(README).join("\n"), code(CONTRACT).join("\n"));
    let inserts =
        [inserts(&shown), inserts(&block(README, "Use it", "python")), inserts(&examples())];
    assert!(
        inserts[0].len() >= 2 && inserts[1].len() == 1 && inserts[2].len() > 12,
        "{inserts:#?}"
    );
    for old in old_ones() {
        for insert in inserts.iter().flatten() {
            let db = TempDb::create_now();
            let state = "SELECT state, queue FROM job_list;";
            let said = old.sql(db.path(), &format!("{insert}\n{state}"));
            assert!(said.starts_with("queued|"), "{}: {insert}: {said}", old.version);
        }
    }
}

/// The README's lines, with a daemon at work that has a new SQLite.
#[test]
fn a_daemon_answers_them() {
    for old in old_ones() {
        let config = simulator::Config { speed: 500.0, ..Default::default() };
        let lab = Lab::new(config, &Settings::default());
        let daemon = lab.start();
        let open = block(CONTRACT, "How to open the file", "sql");
        let script = format!("{open}{}", block(README, "Use it", "sql"));
        old.sql(lab.database(), &script);
        lab.until("SELECT count(*) = 2 FROM results");
        let answers = old.sql(lab.database(), &script);
        let rows: Vec<&str> = answers.lines().filter(|line| line.starts_with("doc-")).collect();
        assert_eq!(rows.len(), 2, "{}: once each, though inserted twice: {answers}", old.version);
        assert_eq!(daemon.stop(), 0, "{}", old.version);
        let whole = "PRAGMA integrity_check; SELECT count(*) FROM jobs;";
        assert_eq!(old.sql(lab.database(), whole), "ok\n2", "{}", old.version);
    }
}

#[test]
fn every_bad_row_is_refused_in_a_sentence() {
    for old in old_ones() {
        let (db, fixture) = stage();
        let bad = every_bad_row(&fixture);
        let count = "SELECT count(*) FROM jobs;";
        let before = old.sql(db.path(), count);
        for verb in ["INSERT", "INSERT OR IGNORE", "INSERT OR REPLACE"] {
            let statement = |(columns, values, _): &(&str, &str, &str)| {
                format!("{verb} INTO jobs ({columns}) VALUES ({values});\n")
            };
            let rows = bad.iter().map(|bad| (&*bad.columns, &*bad.values, bad.sentence));
            // An id that is no integer is SQLite's own to refuse.
            let rows: Vec<_> = rows.filter(|(_, _, sentence)| *sentence != MISMATCH).collect();
            let said = old.sqlite3(db.path(), &rows.iter().map(statement).collect::<String>());
            let errors: Vec<&str> = said.err.lines().collect();
            assert_eq!(errors.len(), rows.len(), "{}: {verb}: {said:?}", old.version);
            for (error, row) in errors.iter().zip(&rows) {
                let fits = error.ends_with(&format!(": {}", row.2));
                assert!(fits, "{}: {verb} {row:?}: {error}", old.version);
            }
        }
        assert_eq!(old.sql(db.path(), count), before, "{}: nothing went in", old.version);
    }
}

/// Many languages bind a number as text. Old versions look at CHECKs before they convert it, and
/// OR IGNORE would lose the row without a word.
#[test]
fn numbers_in_another_dress_become_numbers() {
    for old in old_ones() {
        for verb in ["INSERT", "INSERT OR IGNORE", "INSERT OR REPLACE"] {
            let db = TempDb::create_now();
            old.sql(db.path(), &DRESSED.replace("INSERT", verb));
            let kinds = old.sql(db.path(), KINDS);
            assert_eq!(kinds, "4|4|integer|integer|integer", "{}: {verb}", old.version);
            let all = "id, max_tokens, priority, run_at, expires_at, max_attempts, created_at, \
                 cancel_requested";
            let values =
                "'70', '5', '5', '1790000000000', '1790000000001', '5', '1790000000000', '1'";
            old.sql(
                db.path(),
                &format!("{verb} INTO jobs (prompt, {all}) VALUES ('x', {values});"),
            );
            let texts = "SELECT typeof(id) || typeof(max_tokens) || typeof(priority)
                || typeof(run_at) || typeof(expires_at) || typeof(max_attempts)
                || typeof(created_at) || typeof(cancel_requested) FROM jobs WHERE prompt = 'x';";
            assert_eq!(old.sql(db.path(), texts), "integer".repeat(8), "{}", old.version);
        }
    }
}

#[test]
fn the_same_job_twice_and_what_may_be_done_to_it() {
    for old in old_ones() {
        let (db, fixture) = stage();
        let script = "INSERT INTO jobs (prompt, key) VALUES ('one', 'k'), ('Say hi', 'taken');
             SELECT changes();
             INSERT OR REPLACE INTO jobs (prompt, key) VALUES ('one', 'k');
             SELECT changes();
             UPDATE jobs SET cancel_requested = 1 WHERE key = 'k';
             SELECT cancel_requested FROM job_list WHERE key = 'k';
             DELETE FROM jobs WHERE key = 'k';
             SELECT count(*) FROM job_list;";
        assert_eq!(old.sql(db.path(), script), "1\n0\n1\n2", "{}", old.version);
        for (statement, sentence) in [
            ("UPDATE jobs SET prompt = 'x'", "only cancel_requested may be updated"),
            ("UPDATE jobs SET rowid = 99", "only cancel_requested may be updated"),
            ("UPDATE jobs SET cancel_requested = 3", "must be 0, 1"),
            ("DELETE FROM jobs", "a running job cannot be deleted"),
        ] {
            let said = old.sqlite3(db.path(), &format!("{statement};"));
            assert!(said.err.contains(sentence), "{}: {statement}: {said:?}", old.version);
        }
        let states = "SELECT group_concat(id || state) FROM job_list;";
        let kept = format!("{}running,{}queued", fixture.running, fixture.keyed);
        assert_eq!(old.sql(db.path(), states), kept, "{}", old.version);
    }
}

/// Each view says the same through an old SQLite and a new one.
#[tokio::test]
async fn every_view_reads_the_same() {
    let db = database_of(&[GOLDEN, ROWS]).await;
    for old in old_ones() {
        for (view, order) in
            [("results", "seq"), ("job_list", "id"), ("batches", "batch"), ("limits_now", "pool")]
        {
            let query = format!("SELECT * FROM {view} ORDER BY {order};");
            let rows = sql(db.path(), &query);
            assert!(!rows.is_empty(), "{view}");
            assert_eq!(old.sql(db.path(), &query), rows, "{}: {view}", old.version);
        }
    }
}

/// It would make such a database, too.
#[test]
fn it_takes_the_whole_schema() {
    for old in old_ones() {
        let db = TempDb::nothing();
        let use_it = "INSERT INTO jobs (prompt) VALUES ('Say hi'); SELECT state FROM job_list;";
        let said = old
            .sql(db.path(), &format!("{GOLDEN}\n{ROWS}\nDELETE FROM jobs WHERE id <> 6;{use_it}"));
        assert!(said.ends_with("running\nqueued"), "{}: {said}", old.version);
    }
}
