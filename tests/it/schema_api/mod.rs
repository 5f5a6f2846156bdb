//! What producers do, in their own programs: the `sqlite3` command and Python's `sqlite3`, with
//! and without a daemon at work.

mod golden;
mod guards;
mod inserts;
mod old;
mod portable;
mod python;
mod refusals;

use crate::helper::{TempDb, sql};
use std::path::Path;

/// Ids of jobs that a bad statement could hurt.
pub(super) struct Fixture {
    /// `Say hi`, in flight.
    running: i64,
    /// `Say hi` under the key `taken`, waiting.
    keyed: i64,
    /// Deleted, after a call was made for it.
    deleted: i64,
}

/// A database with a running job, one that waits under a key, and the trace of a deleted one.
fn stage() -> (TempDb, Fixture) {
    let db = TempDb::create_now();
    sql(
        db.path(),
        "INSERT INTO jobs (prompt) VALUES ('Say hi');
         INSERT INTO jobs (prompt, key) VALUES ('Say hi', 'taken');
         INSERT INTO jobs (prompt) VALUES ('gone');
         UPDATE job_state SET state = 'running', epoch = 1 WHERE id = 1;",
    );
    attempt_of(db.path(), 3);
    sql(db.path(), "DELETE FROM jobs WHERE id = 3;");
    (db, Fixture { running: 1, keyed: 2, deleted: 3 })
}

/// One line that tells whether anything of the jobs has changed.
fn fingerprint(fixture: &Fixture) -> String {
    let Fixture { running, keyed, .. } = fixture;
    format!(
        "SELECT (SELECT count(*) FROM jobs), (SELECT count(*) FROM job_state),
           (SELECT count(*) FROM attempts),
           (SELECT group_concat(j.id || j.prompt || ifnull(j.key, '') || j.queue || s.state, ' ')
            FROM jobs AS j JOIN job_state AS s ON s.id = j.id
            WHERE j.id IN ({running}, {keyed}));"
    )
}

/// A call that was made for a job, and settled.
fn attempt_of(database: &Path, job: i64) {
    sql(
        database,
        &format!(
            "INSERT INTO attempts (job_id, number, epoch, queue, pool, model, output_mode,
               body_bytes, reserved_at, reserved_requests, reserved_input_tokens,
               reserved_output_tokens, worst_input_tokens, worst_output_tokens, settlement,
               settled_at)
             VALUES ({job}, 1, 1, 'default', 'p', 'm', 'realtime', 1, 1, 1, 1, 1, 1, 1,
               'released', 1);"
        ),
    );
}
