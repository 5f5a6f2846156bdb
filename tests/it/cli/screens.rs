//! `claudeq status` over a real file.

use super::stage::{Stage, said};
use crate::helper::{FlockHolder, sql};
use serde_json::Value;

fn json(stage: &Stage) -> Value {
    serde_json::from_str(&stage.ok(&["status", "--json"])).expect("it is JSON")
}

#[test]
fn an_empty_queue() {
    let stage = Stage::ready();
    let text = stage.ok(&["status"]);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("claudeq ○ stopped  queue.db ("), "{text}");
    assert_eq!(lines[1..], ["", "  Queue     empty: claudeq add \"Say hi\""]);
}

#[test]
fn every_state_with_the_daemon_down() {
    let stage = Stage::with_every_state();
    let text = stage.ok(&["status"]);
    for line in [
        "claudeq ○ stopped, 2 waiting: start it with `claudeq daemon` · queue.db (",
        "  Queue     1 waiting · 1 running · 1 held   ",
        "  50 %",
        "  Done      1 ok (33.3 %) · 1 failed · 1 cancelled",
        "  Failed    1 · invalid_request 1",
        "claudeq list --state failed",
        "  Held      1 · cost_unbounded 1",
        "$0.000775 a job",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[test]
fn json_for_programs() {
    let stage = Stage::with_every_state();
    let value = json(&stage);
    assert_eq!(value["daemon"]["running"], false);
    for state in ["queued", "running", "succeeded", "failed", "cancelled", "held"] {
        assert_eq!(value["counts"][state], 1, "{state}");
    }
    assert!(value["held_back_by"].is_null() && value["finishes_at"].is_null());
    assert!(value["limits"].is_array() && value["cost"].is_object());
    assert_eq!(value["failures"][0]["error_class"], "invalid_request");
    assert_eq!(stage.run(&["status"]).out.chars().next(), Some('c'), "no JSON unless asked for");
}

#[test]
fn a_running_daemon_is_known_by_its_lock() {
    let stage = Stage::with_every_state();
    let holder = FlockHolder::of(&stage.database());
    let pid = holder.pid();
    sql(
        &stage.database(),
        &format!(
            "INSERT INTO daemons (pid, host, version, started_at, heartbeat_at, report)
             SELECT {pid}, 'host', '0.1.0', now - 60000, now,
               '{{\"base_url\": \"http://gateway:80/v1\", \"held_back_by\": \"budget\", \
                 \"forecast\": {{\"jobs\": 2, \"finishes_at\": ' || (now + 3600000) || '}}}}'
             FROM (SELECT CAST(strftime('%s', 'now') AS INTEGER) * 1000 AS now)"
        ),
    );
    let text = stage.ok(&["status"]);
    let first = text.lines().next().unwrap();
    assert!(
        first.starts_with(&format!("claudeq ● running  pid {pid}, up 1m · queue.db")),
        "{text}"
    );
    assert!(first.ends_with("· gateway:80"), "{text}");
    assert!(text.contains("  Finishes  in ") && text.contains("held back by: a budget"), "{text}");
    let value = json(&stage);
    assert_eq!(value["daemon"]["pid"], i64::from(pid));
    assert_eq!(value["held_back_by"], "budget");
    drop(holder);
    let text = stage.ok(&["status"]);
    let died = format!("  Note      the last daemon (pid {pid}) ended ");
    assert!(text.contains(&died) && text.contains("without a word"), "{text}");
    assert_eq!(json(&stage)["daemon"]["died"], true);
}

#[test]
fn a_lock_without_a_heartbeat_is_worth_a_word() {
    let stage = Stage::with_every_state();
    let holder = FlockHolder::of(&stage.database());
    let insert = "INSERT INTO daemons (pid, host, version, started_at, heartbeat_at) VALUES";
    let row = format!("{insert} ({}, 'host', '0.1.0', 1790000000000, 1790000000000)", holder.pid());
    sql(&stage.database(), &row);
    assert!(stage.ok(&["status"]).contains(", silent for "));
}

#[test]
fn every_line_fits() {
    let stage = Stage::with_every_state();
    for width in ["40", "60", "80", "120"] {
        let mut command = stage.command(&["status"]);
        command.env("COLUMNS", width);
        let text = said(command).out;
        let most = width.parse::<usize>().unwrap();
        assert!(text.lines().all(|line| line.chars().count() <= most), "{width}\n{text}");
    }
}

#[test]
fn a_locale_without_utf_8_gets_ascii() {
    let stage = Stage::with_every_state();
    let mut command = stage.command(&["status"]);
    command.env("LC_ALL", "C");
    let text = said(command).out;
    assert!(text.is_ascii() && text.starts_with("claudeq o stopped"), "{text}");
}

#[test]
fn watching_ends_with_ctrl_c_and_leaves_the_cursor() {
    let stage = Stage::with_every_state();
    // The terminal turns the typed character into SIGINT.
    let said = stage.when_it_says("Failed", "\u{3}", &["status", "--watch"]);
    assert_eq!(said.code, 0, "{said:?}");
    let hidden = said.out.matches("\u{1b}[?25l").count();
    assert_eq!(hidden, said.out.matches("\u{1b}[?25h").count(), "{:?}", said.out);
}
