//! Producers in the way: one that holds the write lock, fifty that do not wait for it, one that
//! dies inside a transaction.

use crate::crash::checker::check_end;
use crate::helper::{Lab, Settings, eventually, needs, pause, python, sqlite3};
use claudeq::simulator;
use rustix::process::Signal;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Another process inside a write transaction.
pub(super) struct WriteLock(Child);

impl WriteLock {
    /// Returns once the lock is held.
    pub(super) fn take(database: &Path) -> WriteLock {
        WriteLock::prepare(database).now()
    }

    /// Starts the process, which takes long on a busy machine; it holds nothing yet.
    pub(super) fn prepare(database: &Path) -> WriteLock {
        const HOLD: &str = "import sqlite3, sys\n\
             db = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)\n\
             db.execute('PRAGMA wal_autocheckpoint=0')\n\
             print('ready', flush=True)\n\
             sys.stdin.readline()\n\
             db.execute('BEGIN IMMEDIATE')\n\
             db.execute(\"INSERT INTO jobs (key, prompt) VALUES ('never', 'x')\")\n\
             print('held', flush=True)\n\
             sys.stdin.read()\n";
        let mut command = Command::new("python3");
        command.args(["-c", HOLD]).arg(database).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut this = WriteLock(command.spawn().expect("these tests need the program python3"));
        this.says("ready\n");
        this
    }

    /// Takes the lock; returns once it is held.
    pub(super) fn now(mut self) -> WriteLock {
        let stdin = self.0.stdin.as_mut().expect("its input is a pipe");
        stdin.write_all(b"now\n").expect("it listens");
        self.says("held\n");
        self
    }

    fn says(&mut self, what: &str) {
        let out = self.0.stdout.as_mut().expect("its output is a pipe");
        let mut said = vec![0; what.len()];
        out.read_exact(&mut said).expect("it can be read");
        assert_eq!(String::from_utf8_lossy(&said), what);
    }

    pub(super) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Killed inside its transaction.
    pub(super) fn release(self) {}
}

impl Drop for WriteLock {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn lab(settings: &Settings) -> Lab {
    Lab::new(simulator::Config { speed: 50.0, ..Default::default() }, settings)
}

#[test]
fn a_held_write_lock_stops_new_calls_and_nothing_else() {
    needs!("sqlite3");
    needs!("python3");
    let settings = Settings { max_in_flight: 6, ..Settings::default() };
    let lab = lab(&settings);
    lab.insert_many("k", 60, "[[out=200]]");
    let mut daemon = lab.start();
    eventually("answers", || (lab.simulator().stats().ok >= 6).then_some(()));
    let lock = WriteLock::take(lab.database());
    let holder = lock.pid().to_string();
    daemon.says(&format!("the database is locked by process {holder}"));
    // In flight were at most six; their answers are in, and nobody may go out.
    lab.at_rest();
    let asked = lab.simulator().stats().requests;
    let committed = lab.number("SELECT count(*) FROM attempts");
    assert_eq!(asked, u64::try_from(committed).expect("a count"), "only what is reserved is sent");
    let status = lab.claudeq(&["status"]);
    assert!(status.out.contains(&holder), "status names who holds the lock: {status:?}");
    pause(Duration::from_secs(3));
    assert_eq!(lab.simulator().stats().requests, asked, "no new call");
    lock.release();
    daemon.says("the database takes writes again");
    lab.until("SELECT count(*) = 60 FROM job_state WHERE state = 'succeeded'");
    assert_eq!(daemon.stop(), 0);
    assert_eq!(lab.simulator().stats().requests, 60, "nothing was called twice");
    check_end(&lab, &[]);
}

/// Fifty processes that retry by hand, and every tenth job in a transaction that is never
/// committed.
#[test]
fn fifty_producers_that_do_not_wait_lose_nothing() {
    needs!("sqlite3");
    needs!("python3");
    const PRODUCERS: &str = r"
import os, random, sqlite3, sys, time
children = []
for producer in range(50):
    child = os.fork()
    if child:
        children.append(child)
        continue
    dice = random.Random(producer)
    db = sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None)
    for number in range(6):
        key = f'{producer}-{number}'
        while True:
            try:
                db.execute('BEGIN IMMEDIATE')
                db.execute('INSERT INTO jobs (key, prompt) VALUES (?, ?)',
                           (key, f'[[id={key}]] [[out=5]]'))
                db.execute('COMMIT')
                break
            except sqlite3.OperationalError as error:
                if 'locked' not in str(error):
                    raise
                if db.in_transaction:
                    db.execute('ROLLBACK')
                time.sleep(dice.uniform(0, 0.02))
    while True:
        try:
            db.execute('BEGIN IMMEDIATE')
            break
        except sqlite3.OperationalError:
            time.sleep(dice.uniform(0, 0.02))
    db.execute('INSERT INTO jobs (key, prompt) VALUES (?, ?)', (f'{producer}-torn', 'x'))
    os.kill(os.getpid(), 9)
for child in children:
    _, status = os.waitpid(child, 0)
    assert status == 9, status
print('done')
";
    let lab = lab(&Settings::default());
    let daemon = lab.start();
    let database = lab.database().to_str().expect("a plain path");
    assert_eq!(python(PRODUCERS, &[database]).unwrap(), "done");
    lab.until("SELECT count(*) = 300 FROM job_state WHERE state = 'succeeded'");
    assert_eq!(daemon.stop(), 0);
    assert_eq!(lab.states(), "succeeded 300", "and nothing of the torn transactions");
    assert_eq!(lab.simulator().stats().requests, 300);
    let keys: Vec<String> = (0..50).flat_map(|p| (0..6).map(move |n| format!("{p}-{n}"))).collect();
    check_end(&lab, &keys);
}

/// A producer may change the journal's mode while no daemon runs.
#[test]
fn another_journal_mode_is_put_right_at_the_start() {
    needs!("sqlite3");
    let lab = lab(&Settings::default());
    lab.insert_many("k", 3, "[[out=5]]");
    assert_eq!(lab.until_empty(), 0);
    assert_eq!(lab.sql("PRAGMA journal_mode = DELETE;"), "delete");
    lab.insert_many("m", 3, "[[out=5]]");
    assert_eq!(lab.until_empty(), 0);
    assert_eq!(lab.states(), "succeeded 6");
    assert_eq!(lab.sql("PRAGMA journal_mode;"), "wal");
    check_end(&lab, &[]);
}

/// While its call is out, a job can neither be deleted nor replaced nor rewritten.
#[test]
fn a_running_job_is_nobody_elses() {
    needs!("sqlite3");
    let lab = lab(&Settings::default());
    lab.insert([("mine", "[[out=5]] [[fault=stall,stall_ms=1500]]")]);
    let daemon = lab.start();
    eventually("its call", || (lab.simulator().stats().requests > 0).then_some(()));
    for attack in [
        "DELETE FROM jobs WHERE key = 'mine';",
        "UPDATE jobs SET prompt = 'yours';",
        "INSERT OR REPLACE INTO jobs (id, key, prompt) VALUES (1, 'mine', 'yours');",
        "REPLACE INTO jobs (key, prompt) VALUES ('mine', 'yours');",
        "UPDATE jobs SET id = 7;",
    ] {
        let said = sqlite3(lab.database(), attack);
        assert!(said.code != 0 && said.err.contains("jobs"), "{attack} {said:?}");
    }
    lab.until("SELECT count(*) FROM job_state WHERE state = 'succeeded'");
    assert_eq!(daemon.stop(), 0);
    assert_eq!(lab.simulator().stats().requests, 1);
    check_end(&lab, &["mine".to_owned()]);
}

/// A bulk insert of some seconds is no reason not to start; nor is a reload meanwhile.
#[test]
fn a_start_waits_for_a_lock() {
    needs!("python3");
    let lab = lab(&Settings::default());
    lab.insert_many("k", 3, "[[out=5]]");
    let lock = WriteLock::take(lab.database());
    let mut daemon = lab.spawn(&[]);
    daemon.says("waiting for it");
    daemon.signal(Signal::HUP);
    lock.release();
    daemon.says("reloaded");
    lab.until("SELECT count(*) = 3 FROM job_state WHERE state = 'succeeded'");
    assert_eq!(daemon.stop(), 0);
}
