//! Jobs whose calls never outlive the daemon.

use super::checker::check_end;
use crate::helper::{Lab, Settings, eventually, needs};
use claudeq::simulator;

/// Never answered within a test.
const ENDLESS: &str = "[[out=5]] [[in=5]] [[fault=stall,stall_ms=600000]]";

fn kill_while_it_runs(lab: &Lab) {
    let before = lab.simulator().stats().requests;
    let daemon = lab.start();
    // Billed before the stall: the log has it while the answer is still held back.
    eventually("its call", || (lab.simulator().stats().requests > before).then_some(()));
    daemon.kill();
}

#[test]
fn a_job_that_kills_the_daemon_each_time_ends_as_failed() {
    needs!("sqlite3");
    let lab =
        Lab::new(simulator::Config { speed: 50.0, ..Default::default() }, &Settings::default());
    lab.sql(&format!(
        "INSERT INTO jobs (key, prompt, max_attempts) VALUES ('poison', '[[id=poison]] {ENDLESS}', 3);"
    ));
    for life in 1..=3 {
        assert_eq!(lab.job("poison").0, if life == 1 { "queued" } else { "running" });
        kill_while_it_runs(&lab);
    }
    assert_eq!(lab.until_empty(), 1, "a job that fails at the recovery has failed");
    assert_eq!(lab.job("poison"), ("failed".into(), "unknown".into()));
    assert_eq!(lab.number("SELECT attempts FROM job_state"), 3);
    assert_eq!(lab.number("SELECT count(*) FROM attempts WHERE outcome = 'unknown'"), 3);
    assert_eq!(lab.simulator().stats().requests, 3, "nothing was sent after the last");
    check_end(&lab, &["poison".to_owned()]);
}

#[test]
fn on_unknown_hold_leaves_the_decision_to_a_person() {
    needs!("sqlite3");
    let settings = Settings { on_unknown: "hold", ..Settings::default() };
    let lab = Lab::new(simulator::Config { speed: 50.0, ..Default::default() }, &settings);
    lab.insert([("doubtful", ENDLESS)]);
    kill_while_it_runs(&lab);
    lab.insert([("fine", "[[out=5]]")]);
    assert_eq!(lab.until_empty(), 8, "something is held");
    assert_eq!(lab.job("doubtful"), ("held".into(), "unknown".into()));
    assert_eq!(lab.job("fine").0, "succeeded");
    assert_eq!(lab.simulator().stats().requests, 2, "the call was not repeated");
    check_end(&lab, &["doubtful".to_owned(), "fine".to_owned()]);
}
