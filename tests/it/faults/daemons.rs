//! Two daemons, and configurations that change under a running one.

use crate::crash::checker::check_end;
use crate::helper::{CANARY, Lab, Settings, eventually, needs, sqlite3};
use claudeq::simulator;
use rustix::process::Signal;

fn lab() -> Lab {
    let settings = Settings { max_in_flight: 2, ..Settings::default() };
    Lab::new(simulator::Config { speed: 50.0, ..Default::default() }, &settings)
}

fn bytes(lab: &Lab) -> Vec<Vec<u8>> {
    let names = ["queue.db", "queue.db-wal", "queue.db-spool"];
    names.iter().map(|name| std::fs::read(lab.dir().join(name)).unwrap_or_default()).collect()
}

#[test]
fn a_second_daemon_is_turned_away_and_writes_nothing() {
    needs!("sqlite3");
    let lab = lab();
    lab.insert_many("k", 5, "[[out=10]]");
    let daemon = lab.start();
    lab.until("SELECT count(*) = 5 FROM job_state WHERE state = 'succeeded'");
    // So that nothing but the second one could write.
    daemon.signal(Signal::STOP);
    let before = bytes(&lab);
    let mut second = lab.command(&["daemon"]);
    let output = second.env("ANTHROPIC_API_KEY", CANARY).output().expect("the binary starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(75), "{said}");
    assert!(said.contains(&daemon.pid().to_string()), "it names the other: {said}");
    assert!(before == bytes(&lab), "it wrote something");
    daemon.signal(Signal::CONT);
    lab.insert([("later", "[[out=10]]")]);
    lab.until("SELECT count(*) = 6 FROM job_state WHERE state = 'succeeded'");
    assert_eq!(daemon.stop(), 0);
    check_end(&lab, &[]);
}

/// As one that runs as a user who may only read: its spool would keep the right one out.
#[test]
fn a_daemon_that_may_not_write_leaves_nothing_behind() {
    needs!("sqlite3");
    let lab = lab();
    lab.sql(
        "CREATE TRIGGER only_to_read BEFORE INSERT ON daemons
         BEGIN SELECT RAISE(ABORT, 'attempt to write a readonly database'); END;",
    );
    assert_ne!(lab.spawn(&[]).end(), 0);
    assert!(lab.logs().contains("readonly"), "{}", lab.logs());
    assert!(!lab.dir().join("queue.db-spool").exists());
}

#[test]
fn a_spool_that_cannot_be_opened_is_named() {
    needs!("sqlite3");
    let lab = lab();
    let spool = lab.dir().join("queue.db-spool");
    std::fs::create_dir(&spool).expect("a directory in its place");
    assert_ne!(lab.spawn(&[]).end(), 0);
    let logs = lab.logs();
    assert!(logs.contains(&format!("cannot use the spool {}", spool.display())), "{logs}");
    assert_eq!(lab.number("SELECT count(*) FROM daemons WHERE stopped_at IS NULL"), 0);
    std::fs::remove_dir(&spool).expect("it is empty");
    assert_eq!(lab.until_empty(), 0);
}

#[test]
fn a_broken_configuration_is_refused_and_the_old_one_stays() {
    needs!("sqlite3");
    let lab = lab();
    let mut daemon = lab.start();
    lab.write("daemon.toml", "[executor]\nmax_in_flite = 9\n");
    daemon.signal(Signal::HUP);
    daemon.says("not reloaded, the old configuration stays");
    daemon.says("max_in_flite");
    lab.insert_many("k", 20, "[[out=100]]");
    lab.until("SELECT count(*) = 20 FROM job_state WHERE state = 'succeeded'");
    assert_eq!(lab.simulator().stats().max_concurrency, 2);

    lab.configure(&Settings { max_in_flight: 5, ..Settings::default() });
    daemon.signal(Signal::HUP);
    daemon.says("reloaded\n");
    lab.insert_many("m", 40, "[[out=400]]");
    eventually("five at a time", || (lab.simulator().stats().max_concurrency == 5).then_some(()));
    lab.until("SELECT count(*) = 60 FROM job_state WHERE state = 'succeeded'");
    assert_eq!(lab.simulator().stats().max_concurrency, 5);
    assert_eq!(daemon.stop(), 0);
    check_end(&lab, &[]);
}

/// Paused for a while by a shell's SIGSTOP, it goes on where it was.
#[test]
fn a_daemon_that_was_stopped_for_a_while_goes_on() {
    needs!("sqlite3");
    let lab = lab();
    lab.insert_many("k", 30, "[[out=100]]");
    let daemon = lab.start();
    eventually("answers", || (lab.simulator().stats().ok >= 4).then_some(()));
    // It may be stopped inside a write, and would keep everybody out: then a moment later.
    eventually("a stop between two writes", || {
        daemon.signal(Signal::STOP);
        let free = sqlite3(lab.database(), ".timeout 200\nBEGIN IMMEDIATE; ROLLBACK;").code == 0;
        if !free {
            daemon.signal(Signal::CONT);
        }
        free.then_some(())
    });
    lab.at_rest();
    lab.insert_many("m", 10, "[[out=10]]");
    daemon.signal(Signal::CONT);
    lab.until("SELECT count(*) = 40 FROM job_state WHERE state = 'succeeded'");
    assert_eq!(lab.simulator().stats().requests, 40);
    assert_eq!(daemon.stop(), 0);
    check_end(&lab, &[]);
}
