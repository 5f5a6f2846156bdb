//! The recovery itself is killed, again and again.

use super::checker::{check, check_end};
use crate::helper::{Lab, Settings, eventually, needs, pause};
use claudeq::clock::{Clock, Entropy};
use claudeq::simulator;
use std::time::Duration;

#[test]
fn a_recovery_that_is_killed_is_done_by_the_next_one() {
    needs!("sqlite3");
    let seed = Clock::system().now().0.unsigned_abs();
    eprintln!("seed {seed}");
    let dice = Entropy::seeded(seed);
    let settings = Settings { max_in_flight: 64, max_attempts: 100, ..Settings::default() };
    let lab = Lab::new(simulator::Config { speed: 50.0, ..Default::default() }, &settings);
    lab.insert_many("k", 300, "[[out=400]] [[in=20]]");
    let keys: Vec<String> = (1..=300).map(|n| format!("k{n}")).collect();

    for _ in 0..3 {
        let daemon = lab.start();
        // Not all 64 permits at once: some are always between two calls.
        eventually("calls", || (lab.simulator().stats().in_flight >= 32).then_some(()));
        daemon.kill();
        let open = lab.number("SELECT count(*) FROM attempts WHERE settlement IS NULL");
        assert!(open > 0, "the recovery has something to do");
        for _ in 0..5 {
            let daemon = lab.spawn(&[]);
            pause(Duration::from_millis(dice.next_u64() % 50));
            daemon.kill();
            check(&lab, &keys);
        }
    }
    assert_eq!(lab.until_empty(), 0);
    check_end(&lab, &keys);
    assert_eq!(lab.states(), "succeeded 300");
    // Each number of a job's attempts once, none missing: nothing was settled as another one.
    let numbers = "SELECT count(*) FROM job_state AS s
        WHERE s.attempts <> (SELECT count(*) FROM attempts AS a WHERE a.job_id = s.id)";
    assert_eq!(lab.number(numbers), 0);
}
