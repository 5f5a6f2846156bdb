//! SIGTERM: once, twice, past the grace, and while somebody else has the database.

use super::locks::WriteLock;
use crate::crash::checker::{check, check_end};
use crate::helper::{Daemon, Lab, Settings, eventually, needs};
use claudeq::simulator;
use rustix::process::Signal;

const CALLS: u32 = 8;

fn settings() -> Settings {
    Settings { max_in_flight: CALLS, max_attempts: 1, ..Settings::default() }
}

fn lab(settings: &Settings, fault: &str) -> Lab {
    let lab = Lab::new(simulator::Config { speed: 50.0, ..Default::default() }, settings);
    lab.insert_many("k", 20, &format!("[[out=10]] [[fault={fault},times=1]]"));
    lab
}

/// The answers are made at once and then held back.
fn all_calls_out(lab: &Lab) {
    eventually("all calls out", || {
        (lab.simulator().stats().requests >= u64::from(CALLS)).then_some(())
    });
}

/// A daemon with all its calls out, each held back by `fault`, and more jobs waiting.
fn busy(settings: &Settings, fault: &str) -> (Lab, Daemon) {
    let lab = lab(settings, fault);
    let daemon = lab.start();
    all_calls_out(&lab);
    (lab, daemon)
}

/// A daemon as [`busy`], whose answers find the database locked.
fn busy_and_locked(lab: &Lab, args: &[&str]) -> (Daemon, WriteLock) {
    let lock = WriteLock::prepare(lab.database());
    let mut daemon = lab.spawn(args);
    daemon.works();
    all_calls_out(lab);
    let lock = lock.now();
    daemon.says(&format!("the database is locked by process {}", lock.pid()));
    (daemon, lock)
}

/// How the answers of such a daemon are held back.
const STALL: &str = "stall,stall_ms=1500";

#[test]
fn sigterm_lets_calls_end_and_starts_none() {
    needs!("sqlite3");
    let (lab, mut daemon) = busy(&settings(), "stall,stall_ms=1200");
    daemon.signal(Signal::TERM);
    daemon.says("stopping: no new calls");
    assert_eq!(daemon.end(), 0);
    assert_eq!(lab.states(), "queued 12, succeeded 8");
    assert_eq!(lab.number("SELECT count(*) FROM attempts"), i64::from(CALLS));
    assert_eq!(lab.number("SELECT count(*) FROM attempts WHERE outcome = 'succeeded'"), 8);
    let ended = "SELECT stopped_at IS NOT NULL FROM daemons";
    assert_eq!(lab.number(ended), 1, "it said that it ended");
    let logs = lab.logs();
    let last = logs.lines().last().unwrap_or_default();
    assert!(last.contains("INFO stopped queued=12 held=false running=0"), "{last}");
    check_end(&lab, &[]);
}

/// `daemon --until-empty && publish` must not publish.
#[test]
fn until_empty_stopped_with_work_left_is_not_done() {
    needs!("sqlite3");
    let lab = Lab::new(simulator::Config { speed: 50.0, ..Default::default() }, &settings());
    lab.insert_many("k", 20, "[[out=10]] [[fault=stall,times=1,stall_ms=1200]]");
    let stopped_at = |requests: u64, signal: Signal| {
        let daemon = lab.spawn(&["--until-empty"]);
        eventually("all calls out", || {
            (lab.simulator().stats().requests >= requests).then_some(())
        });
        daemon.signal(signal);
        (daemon.end(), lab.states())
    };
    assert_eq!(stopped_at(8, Signal::TERM), (8, "queued 12, succeeded 8".into()));
    assert_eq!(stopped_at(16, Signal::INT), (8, "queued 4, succeeded 16".into()));
    // The last four: whoever stops it then has stopped nothing.
    assert_eq!(stopped_at(20, Signal::TERM), (0, "succeeded 20".into()));
    check_end(&lab, &[]);
}

/// Broken off: of unknown fate, charged, and not counted against `max_attempts`.
fn all_broken_off(lab: &Lab) {
    let broken = "SELECT count(*) FROM attempts WHERE outcome = 'unknown'
        AND error_class = 'interrupted' AND settlement = 'assumed_spent'
        AND settled_nanousd = worst_nanousd";
    assert_eq!(lab.number(broken), i64::from(CALLS));
    assert_eq!(lab.states(), "queued 20");
    assert_eq!(lab.number("SELECT max(counted_attempts) FROM job_state"), 0);
    check_end(lab, &[]);
    assert_eq!(lab.until_empty(), 0);
    assert_eq!(lab.states(), "succeeded 20", "with one attempt each that counts");
    check_end(lab, &[]);
}

#[test]
fn a_second_sigterm_breaks_calls_off() {
    needs!("sqlite3");
    let settings = Settings { shutdown_grace: "10m", ..settings() };
    let (lab, mut daemon) = busy(&settings, "stall,stall_ms=4000");
    daemon.signal(Signal::TERM);
    daemon.says("stopping: no new calls");
    daemon.signal(Signal::TERM);
    daemon.says("stopping at once");
    assert_eq!(daemon.end(), 0);
    all_broken_off(&lab);
}

#[test]
fn calls_are_broken_off_when_the_grace_is_over() {
    needs!("sqlite3");
    let settings = Settings { shutdown_grace: "300ms", ..settings() };
    let (lab, daemon) = busy(&settings, "stall,stall_ms=4000");
    assert_eq!(daemon.stop(), 0);
    all_broken_off(&lab);
}

#[test]
fn results_that_the_database_cannot_take_are_spooled_and_come_in_once() {
    needs!("sqlite3");
    needs!("python3");
    let lab = lab(&Settings { shutdown_grace: "2s", ..settings() }, STALL);
    let (daemon, lock) = busy_and_locked(&lab, &[]);
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.end(), 0);
    assert_eq!(lab.states(), "queued 12, running 8", "nothing could be written");
    check(&lab, &[]);
    lock.release();

    let asked = lab.simulator().stats().requests;
    assert_eq!(asked, u64::from(CALLS));
    assert_eq!(lab.until_empty(), 0);
    assert_eq!(lab.states(), "succeeded 20");
    assert_eq!(lab.simulator().stats().requests, 20, "no call was repeated");
    assert_eq!(lab.number("SELECT count(*) FROM attempts WHERE outcome <> 'succeeded'"), 0);
    check_end(&lab, &[]);
}

/// A daemon that was killed with all its results in the spool.
fn killed_with_a_full_spool() -> Lab {
    let lab = lab(&settings(), STALL);
    let (daemon, lock) = busy_and_locked(&lab, &[]);
    eventually("all results in the spool", || {
        (lines_of(&lab, "queue.db-spool") == CALLS as usize).then_some(())
    });
    daemon.kill();
    lock.release();
    lab
}

fn lines_of(lab: &Lab, name: &str) -> usize {
    let bytes = std::fs::read(lab.dir().join(name)).unwrap_or_default();
    bytes.iter().filter(|byte| **byte == b'\n').count()
}

/// Other jobs have the same numbers there.
#[test]
fn a_spool_is_not_written_into_another_database() {
    needs!("sqlite3");
    needs!("python3");
    let lab = killed_with_a_full_spool();
    for name in ["queue.db", "queue.db-wal", "queue.db-shm"] {
        let _ = std::fs::rename(lab.dir().join(name), lab.dir().join(format!("old-{name}")));
    }
    assert_eq!(lab.claudeq(&["init"]).code, 0);
    lab.insert_many("other", 20, "[[out=10]]");
    assert_eq!(lab.until_empty(), 0);
    assert_eq!(lab.simulator().stats().requests, u64::from(CALLS) + 20, "each for itself");
    assert_eq!(lab.number("SELECT count(*) FROM responses"), 20);
    assert!(lab.logs().contains("was another one put in its place?"), "{}", lab.logs());
    assert_eq!(lines_of(&lab, "queue.db-spool-foreign"), CALLS as usize);

    // With the old one back in its place, its results are as well.
    for name in ["queue.db", "queue.db-wal", "queue.db-shm"] {
        let _ = std::fs::remove_file(lab.dir().join(name));
        let _ = std::fs::rename(lab.dir().join(format!("old-{name}")), lab.dir().join(name));
    }
    let kept = lab.dir().join("queue.db-spool-foreign");
    std::fs::rename(kept, lab.dir().join("queue.db-spool")).expect("it is there");
    assert_eq!(lab.until_empty(), 0);
    assert_eq!(lab.simulator().stats().requests, 40, "no call was repeated");
    assert_eq!(lab.states(), "succeeded 20");
}

#[test]
fn a_spool_survives_a_kill() {
    needs!("sqlite3");
    needs!("python3");
    let lab = killed_with_a_full_spool();
    let spooled = || std::fs::read(lab.dir().join("queue.db-spool")).unwrap_or_default();
    check(&lab, &[]);
    assert_eq!(lab.until_empty(), 0);
    assert_eq!(lab.simulator().stats().requests, 20, "no call was repeated");
    assert!(spooled().iter().all(|byte| *byte == 0), "the spool is empty again");
    check_end(&lab, &[]);
}

/// Whatever name the database went by, what belongs to it lies beside it.
#[test]
fn a_spool_is_found_through_a_link() {
    needs!("sqlite3");
    needs!("python3");
    let lab = lab(&settings(), STALL);
    std::fs::create_dir(lab.dir().join("links")).expect("a directory can be made");
    let link = lab.dir().join("links/queue.db");
    std::os::unix::fs::symlink(lab.database(), &link).expect("a link can be made");
    let (daemon, lock) = busy_and_locked(&lab, &["--db", link.to_str().expect("a plain path")]);
    eventually("all results in the spool", || {
        (lines_of(&lab, "queue.db-spool") == CALLS as usize).then_some(())
    });
    daemon.kill();
    lock.release();
    assert_eq!(lab.until_empty(), 0);
    assert_eq!(lab.simulator().stats().requests, 20, "no call was repeated");
    assert_eq!(lab.states(), "succeeded 20");
}
