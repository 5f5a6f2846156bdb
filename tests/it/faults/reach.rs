//! Calls that never reach the API: something else answers, or nobody.

use crate::crash::checker::check_end;
use crate::helper::{CANARY, Lab, Settings, needs};
use claudeq::simulator;
use std::net::TcpListener;

fn lab(settings: &Settings) -> Lab {
    Lab::new(simulator::Config { speed: 50.0, ..Default::default() }, settings)
}

/// Nothing in a queue may end because of where the calls went.
fn nothing_is_used_up(lab: &Lab) {
    let lost = "SELECT count(*) FROM job_state WHERE state <> 'queued' OR counted_attempts > 0";
    assert_eq!(lab.number(lost), 0, "jobs stay queued and lose no attempt");
    let charged = "SELECT count(*) FROM attempts WHERE outcome <> 'not_reached'
        OR settlement <> 'released' OR settled_nanousd <> 0 OR settled_requests <> 0";
    assert_eq!(lab.number(charged), 0);
}

#[test]
fn a_wrong_base_url_stops_the_queue_instead_of_emptying_it() {
    needs!("sqlite3");
    let lab = lab(&Settings { max_in_flight: 4, max_attempts: 1, ..Settings::default() });
    lab.insert_many("k", 30, "[[out=5]]");
    let elsewhere = format!("{}/elsewhere", lab.simulator().url());
    let environment = [("ANTHROPIC_API_KEY", CANARY), ("ANTHROPIC_BASE_URL", elsewhere.as_str())];
    let mut daemon = lab.spawn_with(&["--until-empty"], &environment);
    daemon.says("is provider.base_url right?");
    lab.until("SELECT count(*) FROM gates WHERE reason = 'provider'");
    lab.until("SELECT count(*) FROM daemons WHERE report LIKE '%\"held_back_by\":\"provider\"%'");
    lab.until("SELECT count(*) = 0 FROM job_state WHERE state = 'running'");
    nothing_is_used_up(&lab);
    let asked = lab.number("SELECT count(*) FROM attempts");
    assert!((1..=8).contains(&asked), "{asked} calls into a place that is not the API");
    assert!(daemon.ended().is_none(), "until-empty has work left");
    assert_eq!(daemon.stop(), 8, "not all is done");

    // With the right one it begins at once, whatever the gate's last word was.
    assert_eq!(lab.until_empty(), 0);
    assert_eq!(lab.states(), "succeeded 30");
    check_end(&lab, &[]);
}

#[test]
fn a_network_that_is_away_costs_nothing_and_ends_no_job() {
    needs!("sqlite3");
    let lab = lab(&Settings { max_in_flight: 4, max_attempts: 1, ..Settings::default() });
    lab.insert_many("k", 30, "[[out=5]]");
    // A port that was free a moment ago, and at which nobody listens.
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", free.local_addr().expect("its address"));
    drop(free);
    let environment = [("ANTHROPIC_API_KEY", CANARY), ("ANTHROPIC_BASE_URL", url.as_str())];
    let mut daemon = lab.spawn_with(&["--until-empty"], &environment);
    // The first calls, and a probe: no storm meanwhile.
    lab.until("SELECT max(reserved_at) - min(reserved_at) > 3000 FROM attempts");
    lab.until("SELECT count(*) FROM daemons WHERE report LIKE '%\"held_back_by\":\"provider\"%'");
    lab.until("SELECT count(*) = 0 FROM job_state WHERE state = 'running'");
    let shown = lab.claudeq(&["status", "--json"]);
    assert!(shown.out.contains(r#""held_back_by":"provider""#), "{}", shown.out);
    nothing_is_used_up(&lab);
    let classes = lab.texts("SELECT DISTINCT error_class FROM attempts");
    assert_eq!(classes, ["connection"]);
    let tried = lab.number("SELECT count(*) FROM attempts");
    assert!(tried <= 9, "{tried} connections tried in some seconds");
    let log = daemon.log();
    let warnings: Vec<&str> = log.lines().filter(|line| line.contains("WARN")).collect();
    let [warning] = warnings[..] else { panic!("not once:\n{log}") };
    for part in ["sonnet-5-5 is shut", "could not connect to 127.0.0.1:", "the next try is at 2"] {
        assert!(warning.contains(part), "{part}: {warning}");
    }
    assert!(log.contains("INFO no answer, the job is queued again: could not connect"), "{log}");
    let shown = lab.claudeq(&["status"]).out;
    assert!(shown.contains("sonnet-5-5 cannot reach the API at 127.0.0.1:"), "{shown}");
    assert!(daemon.ended().is_none(), "until-empty has work left");
    assert_eq!(daemon.stop(), 8, "not all is done");

    assert_eq!(lab.until_empty(), 0);
    assert!(lab.logs().contains("INFO sonnet-5-5 is open again"), "{}", lab.logs());
    assert_eq!(lab.states(), "succeeded 30");
    check_end(&lab, &[]);
}

/// A firewall that refuses one prompt keeps nobody else, and never costs the key.
#[test]
fn a_job_that_is_turned_away_alone_does_not_keep_the_others() {
    needs!("sqlite3");
    let lab = lab(&Settings { max_in_flight: 1, max_attempts: 1, ..Settings::default() });
    lab.insert([("bad", "[[out=5]] [[fault=redirect]]")]);
    lab.insert_many("k", 20, "[[out=5]]");
    let daemon = lab.start();
    lab.until("SELECT count(*) = 20 FROM job_state WHERE state = 'succeeded'");
    assert_eq!(daemon.stop(), 0);
    assert_eq!(lab.job("bad").0, "queued");
    assert_eq!(lab.number("SELECT count(*) FROM gates WHERE reason = 'key'"), 0);
}
