//! Every statement of the store: that it can be prepared, and that it finds its rows by an index.
//!
//! A new constant that is not in the table below is noticed.

use super::Store;
use sqlx::{AssertSqlSafe, Row};
use std::collections::BTreeSet;
use std::path::Path;

macro_rules! statements {
    (own: $($own:ident)*; $($module:ident: $($name:ident)*;)*) => {
        &[
            $((stringify!($own), super::$own),)*
            $($((stringify!($name), super::$module::$name),)*)*
        ]
    };
}

/// (name of the constant, text).
const STATEMENTS: &[(&str, &str)] = statements! {
    own: IDENTITY JOURNAL_MODE DATA_VERSION CHECKPOINT_PASSIVE NO_CHECKPOINTS UNDO_IN_MEMORY
        CHECKPOINT_TRUNCATE BACKUP INTEGRITY QUICK_CHECK;
    again: TURN_SO_FAR;
    backlog: READY_GROUPS TIMED_GROUPS BATCH_GROUPS SAMPLE_READY SAMPLE_NEAR SAMPLE_BATCH ASKED
        OPEN_GROUPS;
    daemons: BEGIN_EPOCH HEARTBEAT END_EPOCH LAST_TIME DATABASE_ID LAST_FINISHED FAILED_SINCE;
    edit: ADD_JOB FIND_BY_KEY SELECT_IDS REQUEST_CANCEL RETRY UNCANCEL HOLD RELEASE PAUSE RESUME
        RESUME_ALL PAUSED;
    glance: WAL_STATE;
    import: IMPORT FIND_TAKEN DELETE_JOBS;
    lease: STILL_READY RESERVE LEASE;
    ledger: WRITE_LIMITS WRITE_ESTIMATES READ_ESTIMATES WRITE_BUDGETS DROP_GATES WRITE_GATES
        READ_LIMITS READ_GATES OPEN_ATTEMPTS
        REQUEUE_STRAYS PAST_CALLS;
    narrow: ID_COUNTS BATCH_COUNTS STATES LATEST LATEST_COST;
    queue: READY_QUEUES HEADS HEADS_AFTER HEADS_BELOW BODIES MAKE_DUE NEXT_DUE WORK_TO_SWEEP EXPIRED UNWANTED BREAK_OFF
        WAITING_STATES END_WITHOUT_CALL TAKE_NUMBERS;
    read: OUTLOOK WAITING FAILURES QUEUES DAEMON USED RETRYING UNKNOWN LIST SELECTED_COUNTS DETAIL
        ATTEMPTS BUDGETS;
    results: FIND_RESULTS FIND_RESULTS_BY_ID RESULTS;
    settle: SETTLE IS_NEWEST CANCELS LAST_NUMBER SET_NUMBER FINISH KEEP_RESPONSES KNOWN;
    spending: SPEND SPENT SPENT_OF_BATCH BUDGET_SPENT;
    tally: COUNTS UNCOUNTED COUNT_FINISHED COUNTED;
};

/// Tables that may have millions of rows, by the names the statements give them.
const LARGE: &[&str] = &["jobs", "j", "job_state", "s", "attempts", "a", "c", "responses", "r"];

/// An index that holds every job: to search it by state is to walk over a million queued ones.
const NEARLY_A_SCAN: &str = "job_state_class (state=?)";

/// (statement, line of its plan, why that is right). Everything else must go by an index.
const MAY_WALK: &[(&str, &str, &str)] = &[
    ("WORK_TO_SWEEP", "SCAN job_state USING INDEX job_state_cancelling", "only what is to end"),
    ("UNWANTED", "SCAN job_state USING INDEX job_state_cancelling", "only what is to end"),
    ("BREAK_OFF", "SCAN job_state USING INDEX job_state_cancelling", "only what is to end"),
    ("UNKNOWN", "SCAN attempts USING COVERING INDEX attempts_unknown", "only what it counts"),
    ("READY_GROUPS", "SCAN job_state USING INDEX job_state_ready", "counting is its task"),
    ("OPEN_GROUPS", "SCAN attempts USING INDEX attempts_open", "only what it counts"),
    ("SPENT", "SCAN attempts USING INDEX attempts_open", "only what is in flight"),
    ("LATEST_COST", "SCAN attempts", "from the end, and only so many"),
    ("COUNTS", "SEARCH job_state USING COVERING INDEX job_state_class (state=?)", "what waits"),
    ("OUTLOOK", "SCAN job_state USING COVERING INDEX job_state_running", "only what runs"),
    ("OUTLOOK", "SEARCH job_state USING COVERING INDEX job_state_class (state=?)", "what waits"),
    ("FAILURES", "SEARCH job_state USING COVERING INDEX job_state_class (state=?)", "counts them"),
    ("QUEUES", "SEARCH job_state USING INDEX job_state_class (state=?)", "counts them"),
    ("SELECT_IDS", "SCAN s", "a person's selection may be any"),
    ("SELECT_IDS", "SCAN jobs USING COVERING INDEX sqlite_autoindex_jobs_1", "a key in any queue"),
    ("LATEST", "SCAN jobs USING COVERING INDEX sqlite_autoindex_jobs_1", "a key in any queue"),
    ("LIST", "SCAN jobs USING COVERING INDEX sqlite_autoindex_jobs_1", "a key in any queue"),
    ("SELECTED_COUNTS", "SCAN s USING INDEX job_state_class", "a person's selection may be any"),
    (
        "SELECTED_COUNTS",
        "SCAN jobs USING COVERING INDEX sqlite_autoindex_jobs_1",
        "a key in any queue",
    ),
];

/// Statements that stop after so many rows, so they must not sort all of them first.
const IN_ORDER: &[&str] = &[
    "HEADS",
    "HEADS_AFTER",
    "HEADS_BELOW",
    "MAKE_DUE",
    "EXPIRED",
    "UNWANTED",
    "NEXT_DUE",
    "READY_QUEUES",
    "FIND_RESULTS",
    "FIND_RESULTS_BY_ID",
    "RESULTS",
    "LIST",
    "LATEST",
];

/// What the daemon does at every turn, or at every call: no exceptions but the partial index.
const HOT: &[&str] = &[
    "HEADS",
    "HEADS_AFTER",
    "HEADS_BELOW",
    "READY_QUEUES",
    "BODIES",
    "TURN_SO_FAR",
    "MAKE_DUE",
    "NEXT_DUE",
    "EXPIRED",
    "STILL_READY",
    "RESERVE",
    "LEASE",
    "SETTLE",
    "IS_NEWEST",
    "CANCELS",
    "FINISH",
    "OPEN_ATTEMPTS",
    "SPEND",
    "BUDGET_SPENT",
    "PAST_CALLS",
    "USED",
    "FIND_RESULTS",
    "FIND_RESULTS_BY_ID",
    "RESULTS",
    "REQUEUE_STRAYS",
    "IMPORT",
    "FIND_TAKEN",
    "DELETE_JOBS",
    "WAITING_STATES",
    "END_WITHOUT_CALL",
    "KEEP_RESPONSES",
    "LAST_TIME",
];

async fn database() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::create(&dir.path().join("queue.db"), false).await.unwrap();
    (dir, store)
}

async fn plan(store: &Store, text: &str) -> Vec<String> {
    let query = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {text}")));
    let rows = query.fetch_all(&store.writer).await;
    let rows = rows.unwrap_or_else(|error| panic!("{text}\n{error}"));
    rows.iter().map(|row| row.get("detail")).collect()
}

/// The table a line of a plan walks over, if it does.
fn walked(line: &str) -> Option<&str> {
    let table = line.strip_prefix("SCAN ").or_else(|| {
        let nearly = line.contains(NEARLY_A_SCAN);
        line.strip_prefix("SEARCH ").filter(|_| nearly)
    })?;
    let table = table.split(' ').next()?;
    LARGE.contains(&table).then_some(table)
}

#[tokio::test]
async fn every_statement_can_be_prepared() {
    let (_dir, store) = database().await;
    for (name, text) in STATEMENTS {
        let query = sqlx::query(AssertSqlSafe(format!("EXPLAIN {text}")));
        let program = query.fetch_all(&store.writer).await;
        let program = program.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(!program.is_empty(), "{name}");
    }
}

#[test]
fn every_statement_says_its_name() {
    let mut names = BTreeSet::new();
    for (name, text) in STATEMENTS {
        let first = text.lines().next().unwrap();
        assert_eq!(first, format!("-- {}", name.to_lowercase()), "as slow-query logs show it");
        assert!(names.insert(first), "{first} stands there twice");
    }
}

#[tokio::test]
async fn no_statement_walks_over_a_large_table() {
    let (_dir, store) = database().await;
    for (name, text) in STATEMENTS {
        for line in plan(&store, text).await {
            let excused = MAY_WALK.iter().any(|(who, what, _)| who == name && *what == line);
            assert!(walked(&line).is_none() || excused, "{name}: {line}\n{text}");
        }
    }
}

#[tokio::test]
async fn every_exception_is_needed_and_none_is_hot() {
    let (_dir, store) = database().await;
    for (name, line, _) in MAY_WALK {
        let (_, text) = STATEMENTS.iter().find(|(other, _)| other == name).unwrap();
        assert!(plan(&store, text).await.iter().any(|other| other == line), "{name}: {line}");
        assert!(!HOT.contains(name), "{name}");
    }
    for name in HOT.iter().chain(IN_ORDER) {
        assert!(STATEMENTS.iter().any(|(other, _)| other == name), "{name} is no statement");
    }
}

#[tokio::test]
async fn what_is_bounded_is_not_sorted_first() {
    let (_dir, store) = database().await;
    for (name, text) in STATEMENTS.iter().filter(|(name, _)| IN_ORDER.contains(name)) {
        let sorts = plan(&store, text).await.into_iter().find(|line| line.contains("TEMP B-TREE"));
        assert_eq!(sorts, None, "{name}");
    }
}

/// The planner's own choice without the names of indexes, so that nobody takes them out again.
#[tokio::test]
async fn the_checker_finds_a_walk() {
    let (_dir, store) = database().await;
    let bad = [
        "SELECT * FROM jobs",
        "SELECT id FROM job_state WHERE state = 'queued' AND expires_at <= 5",
        "SELECT s.id FROM json_each('[1]') AS w JOIN job_state AS s ON s.id = w.value
           WHERE s.state = 'queued'",
    ];
    for text in bad {
        let found = plan(&store, text).await.iter().any(|line| walked(line).is_some());
        assert!(found, "{text}");
    }
    let good = plan(&store, "SELECT * FROM jobs WHERE id = 1").await;
    assert!(good.iter().all(|line| walked(line).is_none()));
}

/// The constants of a source file whose text begins with `-- name`.
fn constants(source: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for (at, _) in source.match_indices("const ") {
        let rest = &source[at + "const ".len()..];
        let Some((name, value)) = rest.split_once(": &str =") else { continue };
        let value =
            value.trim_start().trim_start_matches("selected!(").trim_start_matches("found!(");
        let value =
            value.trim_start_matches("sampled!(").trim_start_matches("concat!(").trim_start();
        if value.starts_with("\"-- ") && name.chars().all(|c| c.is_ascii_uppercase() || c == '_') {
            found.push(name);
        }
    }
    found
}

#[test]
fn no_statement_is_missing_here() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/sqlite");
    let mut written = Vec::new();
    for entry in std::fs::read_dir(here).unwrap() {
        let path = entry.unwrap().path();
        if !path.ends_with("statements.rs") {
            let source = std::fs::read_to_string(&path).unwrap();
            written.extend(constants(&source).into_iter().map(str::to_owned));
        }
    }
    written.sort();
    let mut listed: Vec<&str> = STATEMENTS.iter().map(|(name, _)| *name).collect();
    listed.sort_unstable();
    assert_eq!(written, listed);
}

#[test]
fn constants_are_found_in_source_text() {
    let source = "pub(super) const ONE: &str = \"-- one\nSELECT 1\";\n\
                  const LIMIT: &str = \"67\";\n\
                  pub(super) const TWO: &str =\n    selected!(\n        \"-- two\\nSELECT 2\", \"\");\n\
                  fn f() { const THREE: &str = \"-- three\"; }";
    assert_eq!(constants(source), ["ONE", "TWO", "THREE"]);
}
