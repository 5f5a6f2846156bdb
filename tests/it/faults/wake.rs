//! An idle daemon notices a commit at once.

use crate::crash::checker::check_end;
use crate::helper::{Lab, Settings, needs};
use claudeq::simulator;

#[test]
fn an_insert_is_leased_by_its_commit_and_not_by_the_timer() {
    needs!("sqlite3");
    let lab =
        Lab::new(simulator::Config { speed: 50.0, ..Default::default() }, &Settings::default());
    let daemon = lab.start();
    for number in 1..=20 {
        let key = format!("k{number}");
        // As another process would, right after the last answer: the timer was due just now.
        lab.insert([(key.as_str(), "[[out=3]]")]);
        lab.until(&format!("SELECT count(*) = {number} FROM job_state WHERE state = 'succeeded'"));
    }
    let waits = "SELECT a.reserved_at - j.created_at FROM attempts AS a
        JOIN jobs AS j ON j.id = a.job_id ORDER BY 1 LIMIT 1 OFFSET 10";
    let median = lab.number(waits);
    assert!(median < 300, "half of them waited {median} ms; the timer looks once a second");
    assert_eq!(daemon.stop(), 0);
    check_end(&lab, &[]);
}
