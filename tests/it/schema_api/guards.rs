//! What may not be done to a job that is there: one column may change, a running job stays.

use super::{Fixture, attempt_of, fingerprint, stage};
use crate::helper::{sql, sqlite3};
use std::path::Path;

const GUARDED: &str = "jobs: only cancel_requested may be updated; insert a new job instead";
const CANCEL: &str =
    "jobs.cancel_requested must be 0, 1 (a running call may end) or 2 (it is broken off)";
const DELETE: &str =
    "jobs: a running job cannot be deleted; set cancel_requested = 1 and wait for its end";

/// Every column but `cancel_requested`, with a value that would be accepted in an INSERT, and the
/// three other names of `id`.
const COLUMNS: &[(&str, &str)] = &[
    ("id", "77"),
    ("rowid", "77"),
    ("_rowid_", "77"),
    ("oid", "77"),
    ("prompt", "'other'"),
    ("request", "'{}'"),
    ("system", "'Be kind'"),
    ("model", "'claude-sonnet-5'"),
    ("max_tokens", "5"),
    ("queue", "'other'"),
    ("batch", "'b'"),
    ("key", "'k'"),
    ("priority", "100"),
    ("run_at", "1790000000000"),
    ("expires_at", "1790000000000"),
    ("max_attempts", "5"),
    ("metadata", "'{}'"),
    ("created_at", "1790000000000"),
];

const FORMS: &[&str] =
    &["UPDATE", "UPDATE OR IGNORE", "UPDATE OR REPLACE", "UPDATE OR FAIL", "UPDATE OR ROLLBACK"];

/// Runs statements that must each be refused with the sentence and change nothing.
fn refuse(database: &Path, fixture: &Fixture, statements: &[String], sentence: &str) {
    let look = fingerprint(fixture);
    let before = sql(database, &format!("{look}SELECT * FROM jobs;"));
    let script: String = statements.iter().map(|one| format!("{one}\n")).collect();
    let said = sqlite3(database, &script);
    let errors: Vec<&str> = said.err.lines().filter(|line| line.contains("error")).collect();
    assert_eq!(errors.len(), statements.len(), "{statements:#?}\n{said:?}");
    for line in errors {
        assert!(line.ends_with(&format!(": {sentence} (19)")), "{line}");
    }
    assert_eq!(sql(database, &format!("{look}SELECT * FROM jobs;")), before, "{statements:#?}");
}

#[test]
fn no_column_but_one_may_be_updated() {
    let (db, fixture) = stage();
    for (column, value) in COLUMNS {
        let ids = [fixture.running, fixture.keyed];
        let update =
            |form: &&str, id: i64| format!("{form} jobs SET {column} = {value} WHERE id = {id};");
        let mut all: Vec<String> = Vec::new();
        for form in FORMS {
            all.extend(ids.iter().map(|id| update(form, *id)));
            all.push(format!("{form} jobs SET cancel_requested = 1, {column} = {value};"));
        }
        refuse(db.path(), &fixture, &all, GUARDED);
    }
}

/// One job's id onto another's: REPLACE would take the other away.
#[test]
fn no_job_takes_the_place_of_another() {
    let (db, fixture) = stage();
    let Fixture { running, keyed, .. } = fixture;
    for name in ["id", "rowid", "_rowid_", "oid"] {
        let all: Vec<String> = FORMS
            .iter()
            .map(|form| format!("{form} jobs SET {name} = {running} WHERE id = {keyed};"))
            .collect();
        refuse(db.path(), &fixture, &all, GUARDED);
    }
}

#[test]
fn every_column_is_guarded() {
    let (db, _) = stage();
    let columns = sql(db.path(), "SELECT name FROM pragma_table_info('jobs');");
    for column in columns.lines().filter(|column| *column != "cancel_requested") {
        assert!(COLUMNS.iter().any(|(name, _)| *name == column), "nobody tries {column}");
    }
}

#[test]
fn cancel_requested_takes_three_values() {
    let (db, fixture) = stage();
    let mut all = Vec::new();
    for form in FORMS {
        for value in ["3", "-1", "NULL", "'yes'", "0.5", "x'01'"] {
            all.push(format!("{form} jobs SET cancel_requested = {value};"));
        }
    }
    refuse(db.path(), &fixture, &all, CANCEL);
    for value in [1, 2, 0] {
        let script = format!(
            "UPDATE jobs SET cancel_requested = {value} WHERE id = {};
             SELECT cancel_requested FROM job_state WHERE id = {};",
            fixture.running, fixture.running
        );
        assert_eq!(sql(db.path(), &script), value.to_string(), "the daemon is told");
    }
}

#[test]
fn a_running_job_cannot_be_deleted() {
    let (db, fixture) = stage();
    let id = fixture.running;
    let all = [
        format!("DELETE FROM jobs WHERE id = {id};"),
        "DELETE FROM jobs;".to_owned(),
        "DELETE FROM jobs WHERE true;".to_owned(),
        "DELETE FROM jobs WHERE queue = 'default';".to_owned(),
    ];
    refuse(db.path(), &fixture, &all, DELETE);
}

#[test]
fn a_job_that_waits_goes_with_its_state() {
    let (db, fixture) = stage();
    sql(db.path(), &format!("DELETE FROM jobs WHERE id = {};", fixture.keyed));
    assert_eq!(sql(db.path(), "SELECT group_concat(id) FROM job_state;"), "1");
    let again =
        "INSERT INTO jobs (prompt, key) VALUES ('Say bye', 'taken'); SELECT max(id) FROM jobs;";
    assert_eq!(sql(db.path(), again), "4", "the key is free, the id is not");
}

#[test]
fn what_was_paid_for_stays_when_its_job_goes() {
    let (db, fixture) = stage();
    let id = fixture.keyed;
    attempt_of(db.path(), id);
    sql(
        db.path(),
        &format!(
            "INSERT INTO responses VALUES ((SELECT max(id) FROM attempts), '{{}}', 'Hi');
             UPDATE job_state SET state = 'succeeded', finished_seq = 1, finished_at = 1,
               attempt_id = (SELECT max(id) FROM attempts) WHERE id = {id};
             SELECT text FROM results;
             DELETE FROM jobs WHERE id = {id};"
        ),
    );
    let left = format!(
        "SELECT count(*) FROM results; SELECT count(*) FROM attempts WHERE job_id = {id};
         SELECT text FROM responses;"
    );
    assert_eq!(sql(db.path(), &left), "0\n1\nHi");
}

/// Writes to the state go beside the contract, yet the state words are checked there too.
#[test]
fn no_state_is_half_written() {
    let (db, fixture) = stage();
    let id = fixture.keyed;
    for set in [
        "state = 'done'",
        "state = 'running'",
        "state = 'succeeded'",
        "epoch = 5",
        "finished_seq = 5",
        "state = 'failed', finished_seq = 5",
    ] {
        let said = sqlite3(db.path(), &format!("UPDATE job_state SET {set} WHERE id = {id};"));
        assert!(said.err.contains("CHECK constraint failed"), "{set}: {said:?}");
    }
}
