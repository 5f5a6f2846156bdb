//! Turns that the provider pauses: one job, several calls, one answer.

use crate::crash::checker::{billed, check_end};
use crate::helper::{Lab, Settings, needs};
use claudeq::simulator::{self, FaultRule, Kind};
use serde_json::{Value, json};
use sqlx::Row as _;

fn lab(settings: &Settings) -> Lab {
    Lab::new(simulator::Config { speed: 50.0, ..Default::default() }, settings)
}

/// A request with a tool of the provider's, whose call stands at the end of each part.
fn request(key: &str, markers: &str) -> String {
    let body = json!({
        "messages": [{ "role": "user", "content": format!("[[id={key}]] {markers}") }],
        "tools": [{ "type": "web_search_20250305", "name": "web_search" }],
    });
    format!("INSERT INTO jobs (key, request) VALUES ('{key}', '{body}');")
}

/// Columns of a result, joined.
fn result(lab: &Lab, key: &str) -> String {
    let query = format!(
        "SELECT state || ' ' || stop_reason || ' ' || attempts || ' ' || input_tokens || ' '
           || output_tokens || ' ' || cache_read_tokens || ' ' || cache_write_tokens
         FROM results WHERE key = '{key}'"
    );
    lab.texts(&query).concat()
}

fn text(lab: &Lab, key: &str) -> String {
    lab.texts(&format!("SELECT text FROM results WHERE key = '{key}'")).concat()
}

#[test]
fn a_paused_turn_is_gone_on_with_to_its_end() {
    needs!("sqlite3");
    for stream in ["never", "always"] {
        let lab = lab(&Settings { stream, ..Settings::default() });
        let usage = "[[in=40]] [[out=30]] [[cache_read=11]] [[cache_write=5]]";
        lab.insert([("prompt", format!("[[pauses=2]] {usage}").as_str())]);
        lab.sql(&request("request", &format!("[[pauses=1]] {usage}")));
        assert_eq!(lab.until_empty(), 0);
        assert_eq!(result(&lab, "prompt"), "succeeded end_turn 3 120 90 33 15", "{stream}");
        assert_eq!(result(&lab, "request"), "succeeded end_turn 2 80 60 22 10", "{stream}");
        assert_eq!(text(&lab, "prompt").matches("echo [[id=prompt]]").count(), 3);

        let response = lab.texts("SELECT response FROM results WHERE key = 'request'").concat();
        let response: Value = serde_json::from_str(&response).unwrap();
        let kinds: Vec<&str> = response["content"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|b| b["type"].as_str())
            .collect();
        assert_eq!(kinds, ["text", "server_tool_use", "text"], "{stream}");

        // Each call is an attempt that was set aside, sent and settled for itself.
        let query = "SELECT a.number, a.outcome, a.settlement, a.stop_reason, a.input_tokens,
              a.body_bytes FROM attempts AS a JOIN jobs AS j ON j.id = a.job_id
            WHERE j.key = 'prompt' ORDER BY a.number";
        let calls = lab.rows(query, |row| {
            let words: [String; 3] = [row.get(1), row.get(2), row.get(3)];
            ((row.get::<i64, _>(0), words.join(" "), row.get::<i64, _>(4)), row.get::<i64, _>(5))
        });
        let (calls, bytes): (Vec<_>, Vec<i64>) = calls.into_iter().unzip();
        let paused = |number| (number, "succeeded actual pause_turn".to_owned(), 40);
        let last = (3, "succeeded actual end_turn".to_owned(), 40);
        assert_eq!(calls, [paused(1), paused(2), last]);
        assert!(bytes.is_sorted() && bytes[0] + 200 < bytes[2], "it says all so far: {bytes:?}");
        assert_eq!(lab.number("SELECT sum(counted_attempts) FROM job_state"), 2);
        let cost = lab.number("SELECT CAST(round(sum(cost_usd) * 1e9) AS INTEGER) FROM results");
        assert_eq!(u64::try_from(cost).unwrap(), billed(&lab));
        check_end(&lab, &[]);
    }
}

/// What there is when the bound is reached is the answer, and says so.
#[test]
fn a_turn_that_is_always_paused_ends_at_the_bound() {
    needs!("sqlite3");
    for (max_continuations, calls) in [(0, 1), (2, 3)] {
        let lab = lab(&Settings { max_continuations, ..Settings::default() });
        lab.insert([("k", "[[stop=pause_turn]] [[in=40]] [[out=30]]")]);
        assert_eq!(lab.until_empty(), 0);
        let expected = format!("succeeded pause_turn {calls} {} {} 0 0", 40 * calls, 30 * calls);
        assert_eq!(result(&lab, "k"), expected);
        assert_eq!(text(&lab, "k").matches("echo [[id=k]]").count(), calls);
        check_end(&lab, &[]);
    }
}

/// Its own usage, its own answer; what was paid before stays on record.
#[test]
fn a_retried_turn_begins_anew() {
    needs!("sqlite3");
    let lab = lab(&Settings::default());
    lab.insert([("k", "[[pauses=1]] [[in=40]] [[out=30]]")]);
    assert_eq!(lab.until_empty(), 0);
    let said = lab.claudeq(&["retry", "1", "--max-tokens", "99"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(lab.until_empty(), 0);
    assert_eq!(result(&lab, "k"), "succeeded end_turn 4 80 60 0 0");
    assert_eq!(text(&lab, "k").matches("echo [[id=k]]").count(), 2);
    let asked: Vec<u64> = lab.simulator().log().iter().map(|entry| entry.max_tokens).collect();
    assert_eq!(asked, [512, 512, 99, 99]);
    let parts = "SELECT group_concat(a.number || a.stop_reason) FROM attempts AS a
        JOIN responses AS r ON r.attempt_id = a.id";
    assert_eq!(lab.texts(parts), ["1pause_turn,2end_turn,3pause_turn,4end_turn"]);
}

/// A provider that fails in the middle is asked again for the rest, not for all of it.
#[test]
fn what_fails_in_the_middle_is_asked_again_from_there() {
    needs!("sqlite3");
    let second_and_third = FaultRule {
        from_request: Some(2),
        to_request: Some(3),
        ..FaultRule::new(Kind::Status(500))
    };
    let config =
        simulator::Config { speed: 50.0, faults: vec![second_and_third], ..Default::default() };
    let lab = Lab::new(config, &Settings::default());
    lab.insert([("k", "[[pauses=2]] [[in=40]] [[out=30]]")]);
    assert_eq!(lab.until_empty(), 0);
    assert_eq!(result(&lab, "k"), "succeeded end_turn 5 120 90 0 0");
    assert_eq!(text(&lab, "k").matches("echo [[id=k]]").count(), 3);
    check_end(&lab, &[]);
}
