//! Limits that remember: what was sent before a SIGKILL still counts after it.

use super::checker::check;
use crate::helper::{Lab, Limits, Settings, eventually, needs, pause};
use claudeq::simulator;
use std::time::Duration;

/// In real time: a daemon's minute cannot be made shorter.
fn lab(limits: Limits) -> Lab {
    let settings = Settings { max_in_flight: 3, max_tokens: 150, limits, ..Settings::default() };
    let latency =
        simulator::Latency { first_token_ms: 40, tokens_per_second: 10_000.0, chunk_ms: 80 };
    Lab::new(simulator::Config { latency, ..Default::default() }, &settings)
}

/// Works until the daemon says that this limit holds the rest back and nothing is out.
fn work_until_held_back_by(lab: &Lab, reason: &str) {
    let query = format!(
        "SELECT count(*) FROM daemons WHERE epoch = (SELECT max(epoch) FROM daemons)
         AND report LIKE '%\"in_flight\":0,%' AND report LIKE '%\"held_back_by\":\"{reason}\"%'"
    );
    lab.until(&query);
}

#[test]
fn a_window_is_not_emptied_by_a_restart() {
    needs!("sqlite3");
    let lab = lab(Limits { requests: Some(12), window: true, ..Limits::default() });
    lab.insert_many("k", 30, "[[out=20]]");
    for sent in [3, 7] {
        let daemon = lab.start();
        eventually("some calls", || (lab.simulator().stats().requests >= sent).then_some(()));
        daemon.kill();
    }
    let daemon = lab.start();
    work_until_held_back_by(&lab, "requests");
    daemon.kill();
    let daemon = lab.start();
    work_until_held_back_by(&lab, "requests");
    assert_eq!(lab.number("SELECT count(*) FROM attempts"), 12, "the window is used in full");
    let stats = lab.simulator().stats();
    assert_eq!((stats.refused_429, stats.requests <= 12), (0, true), "{stats:?}");
    daemon.kill();
    check(&lab, &[]);
}

/// Takes more than a minute: `cargo test -- --ignored crash`.
#[test]
#[ignore = "takes more than a minute; cargo test -- --ignored crash"]
fn a_window_opens_again_and_nobody_is_refused() {
    needs!("sqlite3");
    let lab = lab(Limits { requests: Some(12), window: true, ..Limits::default() });
    lab.insert_many("k", 20, "[[out=20]]");
    let daemon = lab.start();
    eventually("some calls", || (lab.simulator().stats().requests >= 9).then_some(()));
    daemon.kill();
    let daemon = lab.start();
    work_until_held_back_by(&lab, "requests");
    pause(Duration::from_secs(30));
    lab.until("SELECT count(*) >= 20 FROM job_state WHERE finished_seq IS NOT NULL");
    assert_eq!(lab.simulator().stats().refused_429, 0);
    assert_eq!(daemon.stop(), 0);
    check(&lab, &[]);
}

#[test]
fn a_days_limit_is_not_emptied_by_a_restart() {
    needs!("sqlite3");
    let lab = lab(Limits { tokens_per_day: Some(4_000), ..Limits::default() });
    lab.insert_many("k", 60, "[[out=120]] [[in=30]]");
    for sent in [4, 9] {
        let daemon = lab.start();
        eventually("some calls", || (lab.simulator().stats().requests >= sent).then_some(()));
        daemon.kill();
    }
    let daemon = lab.start();
    work_until_held_back_by(&lab, "tokens");
    daemon.kill();
    check(&lab, &[]);
    let stats = lab.simulator().stats();
    assert_eq!(stats.refused_429, 0, "{stats:?}");
    let billed = stats.input_tokens + stats.output_tokens;
    assert!(billed <= 4_000, "{billed} tokens on one day");
    assert!(billed > 1_500, "{billed} tokens: the limit was hardly used");
}
