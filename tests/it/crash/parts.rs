//! Kills in the middle of turns that the provider pauses.

use super::checker::{check, check_end};
use crate::helper::{Lab, Settings, eventually, needs, pause};
use claudeq::clock::{Clock, Entropy};
use claudeq::simulator;
use std::time::Duration;

const JOBS: usize = 60;
/// Calls of a turn.
const CALLS: i64 = 4;

/// Each part that is committed is gone on with, and none is in an answer twice.
#[test]
fn a_turn_goes_on_from_what_is_committed() {
    needs!("sqlite3");
    let seed = Clock::system().now().0.unsigned_abs();
    eprintln!("seed {seed}");
    let dice = Entropy::seeded(seed);
    let settings = Settings { max_in_flight: 16, max_attempts: 100, ..Settings::default() };
    let lab = Lab::new(simulator::Config { speed: 50.0, ..Default::default() }, &settings);
    lab.insert_many("k", JOBS, "[[pauses=3]] [[out=40]] [[in=20]]");
    let keys: Vec<String> = (1..=JOBS).map(|n| format!("k{n}")).collect();
    let mut in_the_middle = 0;
    for round in 1..=8 {
        let daemon = lab.start();
        let sent = lab.simulator().stats().requests;
        let some = 5 + dice.next_u64() % 20;
        eventually("calls", || {
            let done = lab.number("SELECT count(*) FROM job_state WHERE state = 'succeeded'");
            let all_done = usize::try_from(done) == Ok(JOBS);
            (lab.simulator().stats().requests >= sent + some || all_done).then_some(())
        });
        pause(Duration::from_millis(dice.next_u64() % 20));
        daemon.kill();
        check(&lab, &keys);
        in_the_middle += lab.number(
            "SELECT count(*) FROM attempts AS a JOIN job_state AS s ON s.attempt_id = a.id
             WHERE a.settlement IS NULL AND s.turn_from IS NOT NULL",
        );
        assert!(round < 8 || in_the_middle > 0, "it was killed in the middle of turns");
    }
    assert_eq!(lab.until_empty(), 0);
    check_end(&lab, &keys);
    let whole = format!(
        "SELECT count(*) FROM results WHERE state = 'succeeded' AND stop_reason = 'end_turn'
           AND json_array_length(response, '$.content') = {CALLS}
           AND input_tokens = 20 * {CALLS} AND output_tokens = 40 * {CALLS}
           AND (length(text) - length(replace(text, 'echo [[id=' || key || ']]', '')))
             = {CALLS} * length('echo [[id=' || key || ']]')"
    );
    assert_eq!(usize::try_from(lab.number(&whole)), Ok(JOBS));
}
