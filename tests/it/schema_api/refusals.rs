//! Every bad value, under every form of INSERT: a sentence, and nothing changed.

use super::{Fixture, fingerprint, stage};
use crate::helper::{Lab, Settings, sql, sqlite3};
use claudeq::simulator;
use std::collections::BTreeSet;
use std::path::Path;

pub(super) const ONE_OF: &str = "jobs: give exactly one of prompt and request";
pub(super) const PROMPT: &str = "jobs.prompt must be text and not empty";
const REQUEST: &str = "jobs.request must be text: the JSON body of a Messages API call";
const SYSTEM: &str = "jobs.system must be text";
const MODEL: &str = "jobs.model must be text of 1 to 200 characters";
const MAX_TOKENS: &str = "jobs.max_tokens must be an integer from 0 to 10000000";
pub(super) const QUEUE: &str = "jobs.queue must be text of 1 to 200 printable ASCII characters and \
     not '*'; leave it out for 'default'";
const BATCH: &str = "jobs.batch must be text of 1 to 200 characters";
const KEY: &str = "jobs.key must be text of 1 to 500 characters";
pub(super) const PRIORITY: &str =
    "jobs.priority must be an integer from -100 to 100; higher goes first";
pub(super) const RUN_AT: &str =
    "jobs.run_at must be Unix time in milliseconds (an integer; seconds are refused)";
pub(super) const EXPIRES_AT: &str =
    "jobs.expires_at must be Unix time in milliseconds (an integer; seconds are refused)";
const ORDER: &str = "jobs.expires_at must lie after jobs.run_at";
const MAX_ATTEMPTS: &str = "jobs.max_attempts must be an integer from 1 to 1000";
const METADATA: &str = "jobs.metadata must be text";
const CREATED_AT: &str = "jobs.created_at must be Unix time in milliseconds; leave it out for now";
const CANCEL: &str = "jobs.cancel_requested must be 0, 1 or 2";
pub(super) const ID: &str =
    "jobs.id must lie between 1 and 9007199254740991; leave it out to have one given";
pub(super) const SAME_KEY: &str =
    "jobs.key: this queue has a job with the same key and another prompt or request";
const SAME_ID: &str = "jobs.id: there is another job with this id; leave it out to have one given";
const LAST_IDS: &str = "jobs.id: an id of your own must not be above 9007194959773695; leave it \
     out to have one given";
const OLD_ID: &str = "jobs.id: a deleted job had this id; ids are never used again";
/// SQLite's own word for an id that is no number.
pub(super) const MISMATCH: &str = "datatype mismatch";

/// A row that must be refused: columns, values, and the sentence.
pub(super) struct Bad {
    pub(super) columns: String,
    pub(super) values: String,
    pub(super) sentence: &'static str,
}

/// Bad values of one column beside a good prompt: column, sentence, SQL literals.
const ONE_COLUMN: &[(&str, &str, &[&str])] = &[
    ("system", SYSTEM, &["x'4869'"]),
    ("model", MODEL, &["''", "x'6d'", "hex(zeroblob(101))"]),
    ("max_tokens", MAX_TOKENS, &["-1", "10000001", "1.5", "'many'", "x'01'", "9e99"]),
    (
        "queue",
        QUEUE,
        &[
            "NULL",
            "''",
            "'*'",
            "x'71'",
            "hex(zeroblob(101))",
            "'a' || char(10)",
            "char(27) || 'a'",
            "'caf' || char(233)",
            "'a' || char(0) || 'b'",
            "CAST(x'ff' AS TEXT)",
            "CAST(x'6180' AS TEXT)",
            "CAST(x'6100ff' AS TEXT)",
        ],
    ),
    ("batch", BATCH, &["''", "x'62'", "hex(zeroblob(101))"]),
    ("key", KEY, &["''", "x'6b'", "hex(zeroblob(251))"]),
    ("priority", PRIORITY, &["'high'", "''", "x'05'", "1.5", "101", "-101", "NULL", "9e99"]),
    (
        "run_at",
        RUN_AT,
        &[
            "1790000000",
            "1790000000000000",
            "1790000000000.5",
            "'2026-11-24 12:00:00'",
            "''",
            "'tomorrow'",
            "x'01'",
            "0",
            "-1790000000000",
        ],
    ),
    (
        "expires_at",
        EXPIRES_AT,
        &["1790000000", "1790000000000000", "1790000000000.5", "'2026-11-24'", "x'01'", "0"],
    ),
    ("max_attempts", MAX_ATTEMPTS, &["0", "-1", "1001", "1.5", "'few'", "x'01'"]),
    ("metadata", METADATA, &["x'7b7d'"]),
    ("created_at", CREATED_AT, &["NULL", "1790000000", "'now'", "1.5", "x'01'"]),
    ("cancel_requested", CANCEL, &["3", "-1", "NULL", "'yes'", "0.5", "x'01'"]),
    (
        "id",
        ID,
        &["-1", "0", "-5", "9007199254740992", "9223372036854775807", "-9223372036854775808"],
    ),
    ("id", LAST_IDS, &["9007194959773696", "9007199254740991"]),
    ("id", MISMATCH, &["'abc'", "''", "1.5", "x'01'"]),
];

/// Bad rows of more than one column: columns, values, sentence.
const WHOLE_ROWS: &[(&str, &str, &str)] = &[
    ("prompt, request", "NULL, NULL", ONE_OF),
    ("prompt, request", "'Say hi', '{}'", ONE_OF),
    ("prompt", "''", PROMPT),
    ("prompt", "x'4869'", PROMPT),
    ("prompt", "char(0)", PROMPT),
    ("request", "''", REQUEST),
    ("request", "x'7b7d'", REQUEST),
    ("prompt, run_at, expires_at", "'x', 1790000000001, 1790000000001", ORDER),
    ("prompt, run_at, expires_at", "'x', 1790000000001, 1790000000000", ORDER),
    ("prompt, key", "'Say bye', 'taken'", SAME_KEY),
    ("request, key", "'{}', 'taken'", SAME_KEY),
    ("prompt, key, queue", "'Say bye', 'taken', 'default'", SAME_KEY),
];

/// Rows about an id that is or was somebody's.
fn rows_by_id(fixture: &Fixture) -> Vec<(&'static str, String, &'static str)> {
    let Fixture { running, keyed, deleted } = fixture;
    vec![
        ("id, prompt", format!("{running}, 'Say bye'"), SAME_ID),
        ("id, request", format!("{running}, '{{}}'"), SAME_ID),
        ("id, prompt, queue", format!("{running}, 'Say hi', 'other'"), SAME_ID),
        ("id, prompt, key", format!("{running}, 'Say hi', 'new'"), SAME_ID),
        ("id, prompt", format!("{keyed}, 'Say hi'"), SAME_ID),
        ("id, prompt", format!("{deleted}, 'gone'"), OLD_ID),
    ]
}

pub(super) fn every_bad_row(fixture: &Fixture) -> Vec<Bad> {
    let bad = |columns: &str, values: String, sentence| Bad {
        columns: columns.to_owned(),
        values,
        sentence,
    };
    let mut rows = Vec::new();
    for (column, sentence, values) in ONE_COLUMN {
        let columns = format!("prompt, {column}");
        rows.extend(
            values.iter().map(|value| bad(&columns, format!("'fine', {value}"), *sentence)),
        );
    }
    for (columns, values, sentence) in WHOLE_ROWS {
        rows.push(bad(columns, (*values).to_owned(), sentence));
    }
    for (columns, values, sentence) in rows_by_id(fixture) {
        rows.push(bad(columns, values, sentence));
    }
    rows
}

/// Values that would be accepted, for the neighbours of a bad row; `n` tells them apart.
fn good_values(columns: &str, n: usize) -> String {
    let value = |column: &str| match column {
        "prompt" => "'fine'".to_owned(),
        "request" if columns.contains("prompt") => "NULL".to_owned(),
        "request" => "'{}'".to_owned(),
        "key" => format!("'neighbour {n}'"),
        "queue" => "'default'".to_owned(),
        "priority" | "cancel_requested" => "0".to_owned(),
        "expires_at" => "1900000000000".to_owned(),
        "run_at" | "created_at" => "1800000000000".to_owned(),
        "max_tokens" | "max_attempts" => "5".to_owned(),
        "id" => "NULL".to_owned(),
        _ => "'text'".to_owned(),
    };
    columns.split(", ").map(value).collect::<Vec<_>>().join(", ")
}

/// (before the table, after the values).
const FORMS: &[(&str, &str)] = &[
    ("INSERT", ""),
    ("INSERT OR IGNORE", ""),
    ("INSERT OR REPLACE", ""),
    ("INSERT OR FAIL", ""),
    ("INSERT OR ROLLBACK", ""),
    ("REPLACE", ""),
    ("INSERT", " ON CONFLICT DO NOTHING"),
    ("INSERT", " ON CONFLICT (queue, key) DO UPDATE SET cancel_requested = 1"),
    ("INSERT", " ON CONFLICT (id) DO UPDATE SET cancel_requested = 1"),
];

/// The statements for a bad row: each form, alone and between good rows.
fn statements(bad: &Bad) -> Vec<String> {
    let Bad { columns, values, .. } = bad;
    let (one, other) = (good_values(columns, 1), good_values(columns, 2));
    let mut all = Vec::new();
    for (verb, tail) in FORMS {
        all.push(format!("{verb} INTO jobs ({columns}) VALUES ({values}){tail};"));
        all.push(format!(
            "{verb} INTO jobs ({columns}) VALUES ({one}), ({values}), ({other}){tail};"
        ));
        all.push(format!("{verb} INTO jobs ({columns}) SELECT {values} WHERE true{tail};"));
    }
    all
}

/// Tries every bad row on a database, with or without a daemon on it: each is refused with its
/// sentence, and changes nothing.
pub(crate) fn refuse_every_bad_row(database: &Path, fixture: &Fixture) {
    let look = fingerprint(fixture);
    for bad in every_bad_row(fixture) {
        let statements = statements(&bad);
        let before = sql(database, &look);
        let script: String = statements.iter().map(|one| format!("{one}\n{look}")).collect();
        let said = sqlite3(database, &script);
        let what = format!("({}) VALUES ({})", bad.columns, bad.values);
        let errors: Vec<&str> = said.err.lines().filter(|line| line.contains("error")).collect();
        assert_eq!(errors.len(), statements.len(), "{what}: some were accepted\n{said:?}");
        let code = if bad.sentence == MISMATCH { 20 } else { 19 };
        let sentence = format!(": {} ({code})", bad.sentence);
        for line in errors {
            assert!(line.ends_with(&sentence), "{what}: {line}");
        }
        for after in said.out.lines() {
            assert_eq!(after, before, "{what}: something changed");
        }
        assert_eq!(said.out.lines().count(), statements.len(), "{what}");
    }
}

#[test]
fn every_bad_row_is_refused_in_a_sentence() {
    let (db, fixture) = stage();
    refuse_every_bad_row(db.path(), &fixture);
}

/// A table that would accept its neighbours only because they are never reached proves nothing.
#[test]
fn the_neighbours_of_bad_rows_are_good() {
    let (db, fixture) = stage();
    let columns: BTreeSet<String> =
        every_bad_row(&fixture).into_iter().map(|bad| bad.columns).collect();
    for columns in columns {
        let (one, other) = (good_values(&columns, 1), good_values(&columns, 2));
        let insert = format!("INSERT INTO jobs ({columns}) VALUES ({one}), ({other});");
        let script = format!("BEGIN; {insert} SELECT changes(); ROLLBACK;");
        assert_eq!(sql(db.path(), &script), "2", "{insert}");
    }
}

/// Every sentence of the schema's trigger on INSERT is tried.
#[test]
fn every_sentence_is_tried() {
    let (db, fixture) = stage();
    let triggers = sql(db.path(), "SELECT sql FROM sqlite_master WHERE name = 'jobs_refuse';");
    let tried: BTreeSet<&str> = every_bad_row(&fixture).iter().map(|bad| bad.sentence).collect();
    let mut sentences = 0;
    for piece in triggers.split("RAISE(ABORT, '").skip(1) {
        let (sentence, _) = piece.split_once("')").expect("it ends");
        let sentence = sentence.replace("''", "'");
        assert!(tried.contains(sentence.as_str()), "nobody tries: {sentence}");
        sentences += 1;
    }
    assert!(sentences >= 20, "{sentences}");
}

/// The same table while a daemon works and a call is out.
#[test]
fn a_daemon_changes_nothing_about_it() {
    let faults = simulator::Config { speed: 1.0, ..Default::default() };
    let settings = Settings { request_timeout: "5m", shutdown_grace: "0s", ..Settings::default() };
    let lab = Lab::new(faults, &settings);
    lab.sql("INSERT INTO jobs (prompt) VALUES ('gone [[out=1]]');");
    assert_eq!(lab.until_empty(), 0);
    lab.sql(
        "DELETE FROM jobs;
         INSERT INTO pauses (queue, paused_at) VALUES ('elsewhere', 1);
         INSERT INTO jobs (prompt) VALUES ('Say hi [[fault=stall,stall_ms=600000]]');
         INSERT INTO jobs (prompt, key, run_at) VALUES ('Say hi', 'taken', 1990000000000);",
    );
    let _daemon = lab.start();
    lab.until("SELECT count(*) FROM job_state WHERE state = 'running'");
    refuse_every_bad_row(lab.database(), &Fixture { running: 2, keyed: 3, deleted: 1 });
}
