//! Who goes first, who shares with whom, who must wait, who is not wanted any more.

use crate::crash::checker::check_end;
use crate::helper::{Lab, Limits, Settings, eventually, needs};
use claudeq::clock::Clock;
use claudeq::simulator;

fn lab(settings: &Settings) -> Lab {
    Lab::new(simulator::Config { speed: 50.0, ..Default::default() }, settings)
}

#[test]
fn an_urgent_job_is_the_next_to_start() {
    needs!("sqlite3");
    let limits = Limits { requests: Some(12), burst_seconds: 30.0, ..Limits::default() };
    let lab = lab(&Settings { limits, ..Settings::default() });
    lab.insert_many("k", 300, "[[out=10]]");
    let daemon = lab.start();
    lab.until("SELECT count(*) >= 15 FROM attempts");
    lab.sql("INSERT INTO jobs (key, prompt, priority) VALUES ('urgent', '[[id=urgent]] [[out=10]]', 50);");
    lab.until(
        "SELECT count(*) FROM attempts AS a JOIN jobs AS j ON j.id = a.job_id
        WHERE j.key = 'urgent'",
    );
    daemon.kill();
    // Ten a second go out: it may have met one that was being admitted.
    let before =
        "SELECT count(*) FROM attempts AS a, jobs AS u JOIN attempts AS b ON b.job_id = u.id
        WHERE u.key = 'urgent' AND a.id < b.id AND a.reserved_at > u.created_at";
    let overtaken = lab.number(before);
    assert!(overtaken <= 2, "{overtaken} of 285 that waited went out before it");
}

#[test]
fn weights_share_the_tokens() {
    needs!("sqlite3");
    let limits = Limits { requests: Some(120), burst_seconds: 6.0, ..Limits::default() };
    let lab = lab(&Settings {
        max_in_flight: 8,
        limits,
        rest: "[queue.three]\nweight = 3\n[queue.one]\nweight = 1\n".to_owned(),
        ..Settings::default()
    });
    // Of different sizes, and the sizes in another order in each queue.
    for (queue, step) in [("three", 37), ("one", 53)] {
        let rows: Vec<String> = (0..500)
            .map(|n| {
                let tokens = 20 + (n * step) % 200;
                format!("('{queue}', '{queue}{n}', '[[id={queue}{n}]] [[out={tokens}]] [[in=40]]')")
            })
            .collect();
        lab.sql(&format!("INSERT INTO jobs (queue, key, prompt) VALUES {};", rows.join(", ")));
    }
    let daemon = lab.start();
    lab.until("SELECT count(*) >= 400 FROM job_state WHERE state = 'succeeded'");
    daemon.kill();
    let tokens = |queue: &str| {
        lab.number(&format!(
            "SELECT sum(settled_tokens) FROM attempts
             WHERE queue = '{queue}' AND settlement = 'actual'"
        ))
    };
    let (three, one) = (tokens("three"), tokens("one"));
    let percent = three * 100 / (three + one);
    assert!((68..=82).contains(&percent), "{percent} % instead of 75 ({three} and {one} tokens)");
}

#[test]
fn a_paused_queue_does_not_run() {
    needs!("sqlite3");
    let lab = lab(&Settings::default());
    let paused = lab.claudeq(&["pause", "slow"]);
    assert_eq!(paused.code, 0, "{paused:?}");
    lab.sql(
        "INSERT INTO jobs (queue, key, prompt) VALUES ('slow', 's', '[[id=s]] [[out=5]]'),
             ('quick', 'q', '[[id=q]] [[out=5]]');",
    );
    assert_eq!(lab.until_empty(), 8, "a paused queue waits for a person");
    assert_eq!((lab.job("s").0.as_str(), lab.job("q").0.as_str()), ("queued", "succeeded"));
    let daemon = lab.start();
    lab.until(
        "SELECT report LIKE '%\"held_back_by\":\"paused\"%' FROM daemons ORDER BY epoch DESC",
    );
    let resumed = lab.claudeq(&["resume", "slow"]);
    assert_eq!(resumed.code, 0, "{resumed:?}");
    lab.until("SELECT count(*) = 2 FROM job_state WHERE state = 'succeeded'");
    assert_eq!(daemon.stop(), 0);
    check_end(&lab, &[]);
}

#[test]
fn cancelled_jobs_end_as_they_should() {
    needs!("sqlite3");
    let lab = lab(&Settings { max_attempts: 9, ..Settings::default() });
    let in_an_hour = Clock::system().now().0 + 3_600_000;
    lab.insert([
        ("answered", "[[out=5]] [[fault=stall,stall_ms=1500]]"),
        ("refused", "[[out=5]] [[fault=reset_after,times=5]]"),
        ("now", "[[out=5]] [[fault=stall,stall_ms=30000]]"),
        ("finished", "[[out=5]]"),
    ]);
    lab.sql(&format!(
        "INSERT INTO jobs (key, prompt, run_at) VALUES ('queued', '[[id=queued]] x', {in_an_hour});"
    ));
    // Longer than the others, so that it is still running when it is cancelled.
    lab.sql(
        "INSERT INTO jobs (key, prompt) VALUES
        ('failing', '[[id=failing]] [[out=5]] [[fault=stall_body,stall_ms=30000]]');",
    );
    let daemon = lab.start();
    lab.until(
        "SELECT count(*) = 3 FROM job_state AS s JOIN jobs AS j ON j.id = s.id
        WHERE s.state = 'running' AND j.key IN ('answered', 'now', 'failing')",
    );
    lab.until(
        "SELECT s.state = 'succeeded' FROM job_state AS s JOIN jobs AS j ON j.id = s.id
        WHERE j.key = 'finished'",
    );
    lab.sql("UPDATE jobs SET cancel_requested = 1 WHERE key IN ('answered', 'queued', 'refused', 'finished');
             UPDATE jobs SET cancel_requested = 2 WHERE key = 'now';
             UPDATE jobs SET cancel_requested = 1 WHERE key = 'failing';");
    lab.until("SELECT count(*) = 5 FROM job_state WHERE finished_seq IS NOT NULL");
    daemon.kill();
    assert_eq!(lab.job("answered").0, "succeeded", "a 200 is kept");
    assert_eq!(lab.job("queued"), ("cancelled".into(), "cancelled".into()));
    assert_eq!(lab.job("refused"), ("cancelled".into(), "cancelled".into()));
    assert_eq!(lab.job("now"), ("cancelled".into(), "cancelled".into()));
    assert_eq!(lab.job("finished").0, "succeeded", "what is finished stays so");
    let charged = "SELECT count(*) FROM attempts AS a JOIN jobs AS j ON j.id = a.job_id
        WHERE j.key = 'now' AND a.outcome = 'unknown' AND a.settled_nanousd = a.worst_nanousd";
    assert_eq!(lab.number(charged), 1, "broken off, and charged at its worst");
    assert_eq!(lab.job("failing").0, "running");

    assert_eq!(lab.until_empty(), 0, "a cancelled job has not failed");
    assert_eq!(lab.job("failing").0, "cancelled", "its call ended with the daemon");
    check_end(&lab, &[]);
}

#[test]
fn nothing_runs_before_its_time_or_after_it() {
    needs!("sqlite3");
    let lab = lab(&Settings::default());
    let now = Clock::system().now().0;
    let (soon, gone) = (now + 1_500, now - 1_000);
    lab.sql(&format!(
        "INSERT INTO jobs (key, prompt, run_at) VALUES ('soon', '[[id=soon]] [[out=5]]', {soon});
         INSERT INTO jobs (key, prompt, expires_at) VALUES ('gone', '[[id=gone]] [[out=5]]', {gone});
         INSERT INTO jobs (key, prompt, expires_at) VALUES
           ('late', '[[id=late]] [[out=5]] [[fault=stall,stall_ms=1500]]', {});",
        now + 1_000
    ));
    assert_eq!(lab.until_empty(), 1, "one has expired");
    assert_eq!(lab.job("gone"), ("failed".into(), "expired".into()));
    assert_eq!(lab.job("soon").0, "succeeded");
    assert_eq!(lab.job("late").0, "succeeded", "a running call is not stopped");
    let log = lab.simulator().log();
    let started = |key: &str| {
        log.iter().find(|entry| entry.marker.as_deref() == Some(key)).map(|entry| entry.started_ms)
    };
    assert_eq!(started("gone"), None);
    let at = eventually("its call", || started("soon"));
    assert!(at >= soon, "{} ms too early", soon - at);
    check_end(&lab, &[]);
}

#[test]
fn a_job_that_can_never_be_called_fails_alone() {
    needs!("sqlite3");
    let lab = lab(&Settings::default());
    lab.sql(
        "INSERT INTO jobs (key, request) VALUES ('bad', '{\"messages\": ');
             INSERT INTO jobs (key, prompt) VALUES ('fine', '[[id=fine]] [[out=5]]');",
    );
    assert_eq!(lab.until_empty(), 1, "one has failed");
    assert_eq!(lab.job("bad"), ("failed".into(), "invalid_request".into()));
    assert_eq!(lab.job("fine").0, "succeeded");
    check_end(&lab, &[]);
}

/// Large bodies, and those of a paused queue at that, take nobody's place.
#[test]
fn a_queue_of_large_jobs_hides_no_other() {
    let lab =
        Lab::new(simulator::Config { speed: 50.0, ..Default::default() }, &Settings::default());
    lab.sql(
        "INSERT INTO jobs (prompt, queue)
           WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 80)
           SELECT '[[out=1]] [[in=1]] ' || hex(zeroblob(500000)), 'a' FROM n;
         INSERT INTO pauses (queue, paused_at) VALUES ('a', 1);
         INSERT INTO jobs (prompt, queue, priority) VALUES ('[[out=1]]', 'b', 100),
           ('[[out=1]]', 'b', 0);",
    );
    assert_eq!(lab.until_empty(), 8, "a paused queue waits for a person");
    assert_eq!(lab.number("SELECT count(*) FROM job_state WHERE state = 'succeeded'"), 2);
    assert_eq!(lab.claudeq(&["resume"]).code, 0);
    assert_eq!(lab.until_empty(), 0);
}

/// More queues than are looked at in one go, and most of them stand still.
#[test]
fn blocked_queues_hide_no_other_however_many() {
    let lab =
        Lab::new(simulator::Config { speed: 50.0, ..Default::default() }, &Settings::default());
    lab.sql(
        "INSERT INTO jobs (prompt, queue)
           WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100)
           SELECT '[[out=1]]', 'a' || i FROM n;
         INSERT INTO pauses (queue, paused_at)
           WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 99)
           SELECT 'a' || i, 1 FROM n;
         INSERT INTO jobs (prompt, queue) VALUES ('[[out=1]]', 'z');",
    );
    assert_eq!(lab.until_empty(), 8);
    assert_eq!(
        lab.texts("SELECT queue FROM job_state WHERE state = 'succeeded' ORDER BY 1"),
        ["a100", "z"]
    );
}

/// A number that no sum could hold is a bad request, not the end of the daemon.
/// However many jobs of a model wait for its limit, those of the next model are seen.
#[test]
fn a_used_up_limit_hides_no_job_of_another_model() {
    needs!("sqlite3");
    let limits = Limits { requests: Some(1), ..Limits::default() };
    let lab = Lab::new(simulator::Config::default(), &Settings { limits, ..Settings::default() });
    lab.sql(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1500)
         INSERT INTO jobs (prompt) SELECT '[[out=5]]' FROM n;
         INSERT INTO jobs (key, prompt, model) VALUES ('next', '[[out=5]]', 'claude-haiku-4-5');",
    );
    let daemon = lab.start();
    lab.until(
        "SELECT count(*) FROM jobs AS j JOIN job_state AS s ON s.id = j.id
         WHERE j.key = 'next' AND s.state = 'succeeded'",
    );
    let before = lab.number("SELECT count(*) FROM attempts WHERE model <> 'claude-haiku-4-5'");
    assert_eq!(before, 1, "calls of the first model: nobody had to wait for its limit");
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn absurd_sizes_fail_alone() {
    let lab =
        Lab::new(simulator::Config { speed: 50.0, ..Default::default() }, &Settings::default());
    lab.sql(
        r#"INSERT INTO jobs (request) VALUES ('{"model":"claude-sonnet-5-5",
             "max_tokens":9223372036854775807,"messages":[{"role":"user","content":"x"}]}');
           INSERT INTO jobs (prompt) VALUES ('[[out=1]]');"#,
    );
    assert_eq!(lab.until_empty(), 1);
    assert_eq!(lab.states(), "failed 1, succeeded 1");
    assert_eq!(lab.until_empty(), 0, "and it starts again");
}
