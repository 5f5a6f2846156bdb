//! Every form of INSERT that the documentation shows.

use super::{attempt_of, stage};
use crate::helper::{TempDb, sql, sqlite3};

#[test]
fn a_prompt_is_a_complete_job() {
    let db = TempDb::create_now();
    sql(db.path(), "INSERT INTO jobs(prompt) VALUES ('Say hi');");
    let defaults = "SELECT id, queue, priority, cancel_requested,
           created_at BETWEEN 1700000000000 AND 99999999999999,
           coalesce(request, system, model, max_tokens, batch, key, run_at, expires_at, max_attempts,
             metadata) IS NULL FROM jobs;";
    assert_eq!(sql(db.path(), defaults), "1|default|0|0|1|1");
    let state = "SELECT id, queue, priority, state, attempts, counted_attempts, cancel_requested,
           coalesce(batch, next_attempt_at, expires_at, epoch, attempt_id, finished_seq) IS NULL
         FROM job_state;";
    assert_eq!(sql(db.path(), state), "1|default|0|queued|0|0|0|1");
}

#[test]
fn created_at_is_the_clock_in_milliseconds() {
    let db = TempDb::create_now();
    let off = "INSERT INTO jobs (prompt) VALUES ('x');
         SELECT abs(created_at - (julianday('now') - 2440587.5) * 86400000) < 60000 FROM jobs;";
    assert_eq!(sql(db.path(), off), "1");
}

#[test]
fn every_column_may_be_given() {
    let db = TempDb::create_now();
    sql(
        db.path(),
        "INSERT INTO jobs (id, prompt, system, model, max_tokens, queue, batch, key, priority, run_at,
           expires_at, max_attempts, metadata, created_at, cancel_requested)
         VALUES (7, 'Say hi', 'Be kind', 'claude-sonnet-5', 64, 'chat', 'b', 'k', -100, 1790000000000,
           1790000000001, 1000, '{\"a\":1}', 1780000000000, 1);",
    );
    let row = "SELECT id, prompt, system, model, max_tokens, queue, batch, key, priority, run_at,
           expires_at, max_attempts, metadata, created_at, cancel_requested FROM jobs;";
    let expected = "7|Say hi|Be kind|claude-sonnet-5|64|chat|b|k|-100|1790000000000|1790000000001|1000|\
         {\"a\":1}|1780000000000|1";
    assert_eq!(sql(db.path(), row), expected);
    let copied = "SELECT id, queue, batch, priority, state, next_attempt_at, expires_at,
           cancel_requested FROM job_state;";
    let expected = "7|chat|b|-100|queued|1790000000000|1790000000001|1";
    assert_eq!(sql(db.path(), copied), expected, "what the daemon looks for lies there");
}

/// The bounds, some of them as text or with a point.
pub(super) const DRESSED: &str =
    "INSERT INTO jobs (prompt, priority, max_tokens, max_attempts, queue, run_at)
     VALUES ('a', 100, 0, 1, substr(hex(zeroblob(100)), 1, 200), 100000000000),
            ('b', -100, 10000000, 1000, '~ !', 253402300799999),
            ('c', '5', '64', '3', 'q', '1790000000000'),
            ('d', 2.0, 1e3, 3.0, 'q', 1790000000000.0);";
/// How many there are, and of which types.
pub(super) const KINDS: &str = "SELECT count(*), (SELECT count(*) FROM job_state),
       group_concat(DISTINCT typeof(priority)), group_concat(DISTINCT typeof(max_tokens)),
       group_concat(DISTINCT typeof(run_at)) FROM jobs;";

#[test]
fn the_bounds_belong_to_what_is_allowed() {
    let db = TempDb::create_now();
    sql(db.path(), DRESSED);
    assert_eq!(sql(db.path(), KINDS), "4|4|integer|integer|integer");
}

#[test]
fn a_request_may_be_any_text() {
    let db = TempDb::create_now();
    let rows = "INSERT INTO jobs (request) VALUES ('{\"messages\":[]}'), ('this is not JSON');
         SELECT count(*) FROM job_state WHERE state = 'queued';";
    assert_eq!(sql(db.path(), rows), "2", "bad JSON fails alone, later, with a clear error");
}

#[test]
fn many_rows_and_selects_give_a_state_each() {
    let db = TempDb::create_now();
    let script = "INSERT INTO jobs (prompt) VALUES ('a'), ('b'), ('c');
         SELECT changes();
         CREATE TEMP TABLE source AS SELECT 'text ' || id AS text, id FROM jobs;
         INSERT INTO jobs (prompt, batch, key) SELECT text, 'night', 'k' || id FROM source;
         SELECT changes();
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
         INSERT INTO jobs (prompt) SELECT 'number ' || i FROM n;
         SELECT count(*), count(DISTINCT s.id) FROM jobs AS j JOIN job_state AS s ON s.id = j.id;";
    assert_eq!(sql(db.path(), script), "3\n3\n1006|1006");
}

#[test]
fn the_id_comes_back() {
    let db = TempDb::create_now();
    let script = "INSERT INTO jobs (prompt) VALUES ('a'), ('b');
         SELECT last_insert_rowid() = max(id) FROM jobs;
         INSERT INTO jobs (prompt) VALUES ('c') RETURNING id;
         INSERT INTO jobs (prompt) SELECT 'd' UNION ALL SELECT 'e' RETURNING id, queue;";
    assert_eq!(sql(db.path(), script), "1\n3\n4|default\n5|default");
}

#[test]
fn an_explicit_id_is_kept_and_ids_go_on_above_it() {
    let db = TempDb::create_now();
    let script = "INSERT INTO jobs (id, prompt) VALUES (41, 'a');
         INSERT INTO jobs (prompt) VALUES ('b');
         INSERT INTO jobs (id, prompt) VALUES (3, 'c');
         SELECT group_concat(id) FROM (SELECT id FROM job_state ORDER BY id);";
    assert_eq!(sql(db.path(), script), "3,41,42");
}

/// The next id is above the largest there ever was: nobody may take the last one.
#[test]
fn no_id_of_ones_own_leaves_no_room_for_others() {
    const LAST: i64 = 9_007_199_254_740_991;
    const LARGEST: i64 = LAST - (1 << 32);
    let db = TempDb::create_now();
    for taken in [LAST, LARGEST + 1] {
        let insert = format!("INSERT OR IGNORE INTO jobs (id, prompt) VALUES ({taken}, 'x');");
        let said = sqlite3(db.path(), &insert);
        assert!(said.err.contains("must not be above 9007194959773695"), "{said:?}");
    }
    sql(db.path(), &format!("INSERT INTO jobs (id, prompt) VALUES ({LARGEST}, 'x');"));
    sql(db.path(), "INSERT INTO jobs (prompt) VALUES ('y');");
    let given = sql(db.path(), "SELECT max(id) FROM jobs;");
    assert_eq!(given, (LARGEST + 1).to_string());
    // The same job again does nothing, also when its id was given.
    sql(db.path(), &format!("INSERT INTO jobs (id, prompt) VALUES ({given}, 'y');"));
    assert_eq!(sql(db.path(), "SELECT count(*) FROM job_state;"), "2");
}

#[test]
fn an_id_is_never_given_twice() {
    let db = TempDb::create_now();
    let script = "INSERT INTO jobs (prompt) VALUES ('a'); DELETE FROM jobs;
         INSERT INTO jobs (prompt) VALUES ('b'); SELECT id FROM jobs;";
    assert_eq!(sql(db.path(), script), "2");
}

const FORMS: &[(&str, &str)] = &[
    ("INSERT", ""),
    ("INSERT OR IGNORE", ""),
    ("INSERT OR REPLACE", ""),
    ("INSERT OR FAIL", ""),
    ("INSERT OR ROLLBACK", ""),
    ("REPLACE", ""),
    ("INSERT", " ON CONFLICT DO NOTHING"),
    ("INSERT", " ON CONFLICT (queue, key) DO NOTHING"),
    ("INSERT", " ON CONFLICT (queue, key) DO UPDATE SET prompt = excluded.prompt"),
    ("INSERT", " ON CONFLICT (id) DO UPDATE SET prompt = excluded.prompt"),
];

/// By key, by id, of a running job too: it stays what it is, and its neighbours go in.
#[test]
fn the_same_job_twice_is_one_job_and_loses_no_other() {
    for (verb, tail) in FORMS {
        let (db, fixture) = stage();
        let whole = "SELECT * FROM jobs WHERE id < 3; SELECT * FROM job_state WHERE id < 3;";
        let before = sql(db.path(), whole);
        let script = format!(
            "{verb} INTO jobs (prompt, key) VALUES ('one', 'k1'), ('Say hi', 'taken'), ('two', 'k2'),
               ('one', 'k1'){tail};
             SELECT changes();
             {verb} INTO jobs (id, prompt) VALUES ({}, 'Say hi'), (NULL, 'three'){tail};
             SELECT changes();
             SELECT group_concat(prompt) FROM (SELECT prompt FROM jobs WHERE id > 3 ORDER BY id);
             SELECT count(*) FROM job_state;",
            fixture.running
        );
        assert_eq!(sql(db.path(), &script), "2\n1\none,two,three\n5", "{verb} … {tail}");
        assert_eq!(sql(db.path(), whole), before, "{verb} … {tail}");
    }
}

#[test]
fn an_ignored_job_leaves_last_insert_rowid_alone() {
    let (db, _) = stage();
    let script = "INSERT INTO jobs (prompt) VALUES ('a');
         INSERT INTO jobs (prompt, key) VALUES ('Say hi', 'taken');
         SELECT last_insert_rowid(), changes();
         INSERT INTO jobs (prompt, key) VALUES ('Say hi', 'taken') RETURNING id;";
    assert_eq!(sql(db.path(), script), "4|0", "RETURNING gives a row for a new job only");
}

#[test]
fn a_key_is_a_queues_own() {
    let (db, _) = stage();
    let script = "INSERT INTO jobs (prompt, key, queue) VALUES ('Say bye', 'taken', 'other');
         INSERT INTO jobs (prompt) VALUES ('no key'), ('no key');
         SELECT count(*) FROM jobs;";
    assert_eq!(sql(db.path(), script), "5");
}

/// A finished job's key is remembered as long as its row.
#[test]
fn a_key_outlives_the_end_of_its_job() {
    let (db, fixture) = stage();
    let id = fixture.keyed;
    attempt_of(db.path(), id);
    let script = format!(
        "UPDATE job_state SET state = 'succeeded', finished_seq = 1, finished_at = 1 WHERE id = {id};
         INSERT INTO jobs (prompt, key) VALUES ('Say hi', 'taken');
         SELECT changes(), (SELECT state FROM job_state WHERE id = {id});"
    );
    assert_eq!(sql(db.path(), &script), "0|succeeded");
}

#[test]
fn a_transaction_that_is_rolled_back_leaves_neither_job_nor_state() {
    let db = TempDb::create_now();
    let script = "BEGIN; INSERT INTO jobs (prompt) VALUES ('a'); ROLLBACK;
         SELECT (SELECT count(*) FROM jobs), (SELECT count(*) FROM job_state);";
    assert_eq!(sql(db.path(), script), "0|0");
}

/// A daemon may have read the prompt of the one that is gone.
#[test]
fn an_id_is_not_used_again_though_no_call_was_made() {
    let (db, _) = stage();
    sql(
        db.path(),
        "INSERT INTO jobs (id, prompt) VALUES (50, 'old'); DELETE FROM jobs WHERE id = 50;",
    );
    for verb in ["INSERT", "INSERT OR IGNORE", "INSERT OR REPLACE"] {
        let again = format!("{verb} INTO jobs (id, prompt) VALUES (50, 'new');");
        let said = sqlite3(db.path(), &again);
        assert!(said.code != 0 && said.err.contains("ids are never used again"), "{said:?}");
    }
    // One of its own below the last is as good as ever.
    assert_eq!(
        sql(db.path(), "INSERT INTO jobs (id, prompt) VALUES (40, 'x') RETURNING id;"),
        "40"
    );
}
