//! The same through Python's `sqlite3`: parameters with their types, and the classes of errors.

use super::refusals::{EXPIRES_AT, ID, ONE_OF, PRIORITY, PROMPT, QUEUE, RUN_AT, SAME_KEY};
use super::{fingerprint, stage};
use crate::helper::{TempDb, python, sql};
use std::path::Path;

/// Every program begins so; `sys.argv[1]` is the database.
const BEGIN: &str = "import json, sqlite3, sys\n\
     db = sqlite3.connect(sys.argv[1], timeout=5)\n";

fn run(database: &Path, program: &str) -> String {
    python(&format!("{BEGIN}{program}"), &[&database.display().to_string()]).unwrap()
}

#[test]
fn parameters_arrive_with_their_types() {
    let db = TempDb::create_now();
    run(
        db.path(),
        "with db:
    db.execute('INSERT INTO jobs (prompt, system, model, max_tokens, queue, batch, key, priority,'
               ' run_at, expires_at, max_attempts, metadata) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)',
               ('Grüße, 日本 🙂', None, 'claude-sonnet-5', 64, 'q', 'b', 'k', True,
                1790000000000, 1790000000001, None, json.dumps({'a': [1, None]})))
",
    );
    let row =
        "SELECT prompt, typeof(system), typeof(max_tokens), typeof(priority), priority, run_at,
           metadata FROM jobs;";
    let expected = "Grüße, 日本 🙂|null|integer|integer|1|1790000000000|{\"a\": [1, null]}";
    assert_eq!(sql(db.path(), row), expected);
}

#[test]
fn named_parameters_lastrowid_and_returning() {
    let db = TempDb::create_now();
    let said = run(
        db.path(),
        "cursor = db.execute('INSERT INTO jobs (prompt, key) VALUES (:prompt, :key)',
                    {'prompt': 'a', 'key': 'k'})
print(cursor.lastrowid, cursor.rowcount)
cursor = db.execute('INSERT INTO jobs (prompt, key) VALUES (?, ?)', ('a', 'k'))
print(cursor.rowcount)
if sqlite3.sqlite_version_info >= (3, 35):
    print(db.execute('INSERT INTO jobs (prompt) VALUES (?) RETURNING id', ('b',)).fetchall())
else:
    print([(db.execute('INSERT INTO jobs (prompt) VALUES (?)', ('b',)).lastrowid,)])
db.commit()
print(db.execute('SELECT count(*) FROM job_state').fetchone()[0])
",
    );
    assert_eq!(said, "1 1\n0\n[(2,)]\n2");
}

#[test]
fn executemany_inserts_each_once() {
    let db = TempDb::create_now();
    let said = run(
        db.path(),
        "rows = [(f'job {n}', f'k{n % 500}') for n in range(500)]
with db:
    db.executemany('INSERT INTO jobs (prompt, key) VALUES (?, ?)', rows)
with db:
    db.executemany('INSERT INTO jobs (prompt, key) VALUES (?, ?)', rows + [('new', 'new')])
print(db.execute('SELECT count(*), count(DISTINCT key) FROM jobs').fetchone())
",
    );
    assert_eq!(said, "(501, 501)");
}

#[test]
fn autocommit_and_upsert_work() {
    let db = TempDb::create_now();
    let said = run(
        db.path(),
        "db.isolation_level = None
one = 'INSERT INTO jobs (prompt, key) VALUES (?, ?) '
for tail in ['', 'ON CONFLICT (queue, key) DO NOTHING',
             'ON CONFLICT (queue, key) DO UPDATE SET metadata = excluded.metadata']:
    db.execute(one + tail, ('a', 'k'))
print(db.execute('SELECT count(*), max(metadata) FROM jobs').fetchone())
",
    );
    assert_eq!(said, "(1, None)");
}

/// (columns, Python values, sentence): what only a language with types of its own can do wrong.
fn bad_parameters() -> Vec<(&'static str, &'static str, &'static str)> {
    vec![
        ("prompt", "(b'Say hi',)", PROMPT),
        ("prompt", "(None,)", ONE_OF),
        ("prompt", "('',)", PROMPT),
        ("prompt, priority", "('a', 1.5)", PRIORITY),
        ("prompt, priority", "('a', 'high')", PRIORITY),
        ("prompt, priority", "('a', b'5')", PRIORITY),
        ("prompt, priority", "('a', float('inf'))", PRIORITY),
        ("prompt, priority", "('a', float('nan'))", PRIORITY),
        ("prompt, run_at", "('a', time.time())", RUN_AT),
        ("prompt, run_at", "('a', int(time.time()))", RUN_AT),
        ("prompt, run_at", "('a', datetime.datetime(2026, 11, 24).isoformat())", RUN_AT),
        ("prompt, expires_at", "('a', time.time_ns() // 1000)", EXPIRES_AT),
        ("prompt, expires_at", "('a', time.time_ns())", EXPIRES_AT),
        ("prompt, id", "('a', -1)", ID),
        ("prompt, id", "('a', 0)", ID),
        ("prompt, id", "('a', 2**53)", ID),
        ("prompt, id", "('a', 2**63 - 1)", ID),
        ("prompt, queue", "('a', None)", QUEUE),
        ("prompt, queue", "('a', 'café')", QUEUE),
        ("prompt, key", "('Say bye', 'taken')", SAME_KEY),
    ]
}

/// Every way to run a statement, under every conflict clause; prints what was not refused.
const TRY: &str = "import datetime, time
columns, values, sentence = sys.argv[2], eval(sys.argv[3]), sys.argv[4]
marks = ', '.join('?' * len(values))
good = tuple({'prompt': 'fine', 'key': 'neighbour', 'queue': 'default', 'priority': 0}.get(c)
             for c in columns.split(', '))
for verb in ['INSERT', 'INSERT OR IGNORE', 'INSERT OR REPLACE']:
    one = f'{verb} INTO jobs ({columns}) VALUES ({marks})'
    for run in [lambda: db.execute(one, values),
                lambda: db.execute(f'{one}, ({marks})', good + values),
                lambda: db.executemany(one, [good, values])]:
        try:
            with db:
                run()
            print(verb, 'accepted it')
        except sqlite3.IntegrityError as error:
            if str(error) != sentence:
                print(verb, 'says', error)
        except Exception as error:
            print(verb, 'raises', type(error), error)
";

#[test]
fn bad_parameters_raise_integrity_errors_with_the_sentence() {
    let (db, fixture) = stage();
    let look = fingerprint(&fixture);
    let before = sql(db.path(), &look);
    let path = db.path().display().to_string();
    for (columns, values, sentence) in bad_parameters() {
        let said = python(&format!("{BEGIN}{TRY}"), &[&path, columns, values, sentence]);
        assert_eq!(said.unwrap(), "", "({columns}) {values}");
        assert_eq!(sql(db.path(), &look), before, "({columns}) {values}: something changed");
    }
}

/// Text that is no text: a surrogate alone cannot be stored, and Python says so itself.
#[test]
fn a_lone_surrogate_never_arrives() {
    let db = TempDb::create_now();
    let said = run(
        db.path(),
        "try:
    db.execute('INSERT INTO jobs (prompt) VALUES (?)', ('\\ud800',))
except UnicodeEncodeError:
    print('refused')
",
    );
    assert_eq!(said, "refused");
}

/// A reader of results beside the writer, as the README shows it.
#[test]
fn results_are_consumed_by_seq() {
    let (db, fixture) = stage();
    sql(
        db.path(),
        &format!(
            "UPDATE job_state SET state = 'failed', finished_seq = 5, finished_at = 9,
               error_class = 'expired', error = 'too late' WHERE id = {};",
            fixture.keyed
        ),
    );
    let said = run(
        db.path(),
        "db.row_factory = sqlite3.Row
rows = db.execute('SELECT * FROM results WHERE seq > ? ORDER BY seq', (4,)).fetchall()
print([(row['id'], row['key'], row['state'], row['error_class'], row['text']) for row in rows])
print(db.execute('SELECT * FROM results WHERE seq > 5').fetchall())
",
    );
    assert_eq!(said, "[(2, 'taken', 'failed', 'expired', None)]\n[]");
}
