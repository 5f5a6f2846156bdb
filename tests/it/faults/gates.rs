//! What shuts a pool or the account: 429s, spend limits, a rejected key.

use crate::crash::checker::{check, check_end};
use crate::helper::{CANARY, Lab, Limits, Settings, eventually, needs};
use claudeq::clock::Clock;
use claudeq::simulator::{self, FaultRule, Kind};
use rustix::process::Signal;

fn refuse_now_and_then(requests: &[u64], retry_after: &str) -> Vec<FaultRule> {
    let rule = |request: &u64| FaultRule {
        request: Some(*request),
        retry_after: Some(retry_after.to_owned()),
        ..FaultRule::new(Kind::Status(429))
    };
    requests.iter().map(rule).collect()
}

fn lab(faults: Vec<FaultRule>, settings: &Settings) -> Lab {
    Lab::new(simulator::Config { speed: 50.0, faults, ..Default::default() }, settings)
}

#[test]
fn nothing_is_sent_before_a_retry_after_is_over() {
    needs!("sqlite3");
    for stream in ["never", "always"] {
        let settings =
            Settings { max_in_flight: 1, max_attempts: 1, stream, ..Settings::default() };
        let lab = lab(refuse_now_and_then(&[3, 4, 9, 15], "0.7"), &settings);
        lab.insert_many("k", 20, "[[out=10]]");
        assert_eq!(lab.until_empty(), 0, "a 429 never uses up an attempt");
        let stats = lab.simulator().stats();
        assert_eq!((stats.refused_429, stats.requests), (4, 24), "{stats:?}");
        assert_eq!(stats.early_retries, 0, "{stats:?}");
        check_end(&lab, &[]);
    }
}

/// With many calls out, those under way cannot be called back; but none is started any more.
#[test]
fn nothing_is_started_while_a_pool_pauses() {
    needs!("sqlite3");
    let settings = Settings { max_attempts: 1, ..Settings::default() };
    let lab = lab(refuse_now_and_then(&[20, 45, 90], "0.9"), &settings);
    lab.insert_many("k", 120, "[[out=30]]");
    assert_eq!(lab.until_empty(), 0);
    assert_eq!(lab.states(), "succeeded 120");
    let refused = lab.number("SELECT count(*) FROM attempts WHERE outcome = 'rate_limited'");
    assert_eq!(refused, 3);
    let started = "SELECT count(*) FROM attempts AS a JOIN attempts AS b
        ON b.reserved_at > a.settled_at AND b.reserved_at < a.done_at + 900
        WHERE a.outcome = 'rate_limited'";
    assert_eq!(lab.number(started), 0, "calls were started during a pause");
    check_end(&lab, &[]);
}

/// Both the provider's cap (429) and the account's own limit (400) park everything.
#[test]
fn a_spend_limit_parks_the_account_and_says_until_when() {
    needs!("sqlite3");
    for kind in [Kind::SpendCap, Kind::OwnLimit] {
        let rule = FaultRule { from_request: Some(11), ..FaultRule::new(kind) };
        let settings = Settings { max_in_flight: 4, max_attempts: 1, ..Settings::default() };
        let lab = lab(vec![rule], &settings);
        lab.insert_many("k", 30, "[[out=10]]");
        assert_eq!(lab.until_empty(), 8, "{kind}");
        assert_eq!(lab.states(), "queued 20, succeeded 10");
        let refused = lab.number("SELECT count(*) FROM attempts WHERE outcome = 'parked'");
        assert!((1..=4).contains(&refused), "{refused} calls met the cap");
        let counted = "SELECT max(counted_attempts) FROM job_state WHERE state = 'queued'";
        assert_eq!(lab.number(counted), 0, "no attempt is used up");
        assert_eq!(lab.texts("SELECT name || ' ' || reason FROM gates"), ["* account"]);
        let left = lab.number("SELECT until FROM gates") - Clock::system().now().0;
        let day = 86_400_000;
        assert!((0..=31 * day).contains(&left), "{left} ms until the month ends");

        let before = lab.simulator().stats().requests;
        assert_eq!(lab.until_empty(), 8, "it knows the next time as well");
        assert_eq!(lab.simulator().stats().requests, before, "and does not ask again");
        check_end(&lab, &[]);
    }
}

#[test]
fn a_rejected_key_stops_all_calls_until_there_is_a_new_one() {
    needs!("sqlite3");
    const NEW_KEY: &str = "sk-ant-new-key-0c9a8b7d6e5f";
    let settings =
        Settings { max_in_flight: 4, max_attempts: 1, key_file: true, ..Settings::default() };
    let lab = lab(Vec::new(), &settings);
    lab.simulator().set_key(Some(CANARY.to_owned()));
    lab.write("key", CANARY);
    lab.insert_many("k", 200, "[[out=40]]");
    let mut daemon = lab.spawn_with(&["--until-empty"], &[]);
    eventually("answers", || (lab.simulator().stats().ok >= 20).then_some(()));
    lab.write("key", NEW_KEY);
    lab.simulator().set_key(Some(NEW_KEY.to_owned()));

    lab.until("SELECT count(*) FROM gates WHERE name = '*' AND reason = 'key'");
    lab.until("SELECT count(*) = 0 FROM job_state WHERE state = 'running'");
    // Everything waits for a person: until-empty ends here, a daemon would stay.
    daemon.says("no answer");
    assert_eq!(daemon.end(), 8);
    let rejected = "SELECT count(*) FROM attempts WHERE outcome = 'key_rejected'";
    assert!((1..=4).contains(&lab.number(rejected)), "{}", lab.number(rejected));
    let lost = "SELECT count(*) FROM job_state WHERE state NOT IN ('queued', 'succeeded')
        OR (state = 'queued' AND counted_attempts > 0)";
    assert_eq!(lab.number(lost), 0, "jobs stay queued and lose no attempt");

    // The daemon that stays: it is told by SIGHUP.
    lab.write("key", CANARY);
    let mut daemon = lab.spawn_with(&[], &[]);
    daemon.says("no answer");
    lab.until("SELECT count(*) = 0 FROM job_state WHERE state = 'running'");
    let asked = lab.simulator().stats().requests;
    lab.until("SELECT heartbeat_at - started_at > 2500 FROM daemons ORDER BY epoch DESC LIMIT 1");
    assert_eq!(lab.simulator().stats().requests, asked, "nobody asks with a rejected key");
    lab.write("key", NEW_KEY);
    daemon.signal(Signal::HUP);
    lab.until("SELECT count(*) = 200 FROM job_state WHERE state = 'succeeded'");
    assert_eq!(lab.number("SELECT count(*) FROM gates"), 0);
    assert_eq!(daemon.stop(), 0);
    assert!(!lab.logs().contains(NEW_KEY));
    check(&lab, &[]);
}

/// Whoever looks after a restart or a reload sees that the key is taken for good again.
#[test]
fn a_gate_that_was_opened_does_not_look_shut() {
    needs!("sqlite3");
    let lab = lab(Vec::new(), &Settings { key_file: true, ..Settings::default() });
    lab.simulator().set_key(Some("sk-ant-another-key".to_owned()));
    lab.write("key", CANARY);
    let shut = |key: &str| {
        lab.insert([(key, "[[out=5]]")]);
        lab.until("SELECT count(*) FROM gates WHERE reason = 'key'");
        lab.until("SELECT count(*) = 0 FROM job_state WHERE state = 'running'");
        // Nothing is left that would be called, and so tell.
        lab.sql("UPDATE jobs SET cancel_requested = 1;");
        lab.until("SELECT count(*) = 0 FROM job_state WHERE state = 'queued'");
    };
    let daemon = lab.spawn_with(&[], &[]);
    shut("first");
    assert_eq!(daemon.stop(), 0);
    assert_eq!(lab.number("SELECT count(*) FROM gates"), 1);
    let mut daemon = lab.spawn_with(&[], &[]);
    daemon.works();
    assert_eq!(lab.number("SELECT count(*) FROM gates"), 0, "a restart opens it");
    shut("second");
    daemon.signal(Signal::HUP);
    lab.until("SELECT count(*) = 0 FROM gates");
    assert_eq!(daemon.stop(), 0);
}

/// The first calls into a full bucket take longest: they commit, connect, and only then arrive.
#[test]
fn a_full_bucket_is_emptied_and_nobody_is_refused() {
    needs!("sqlite3");
    for stream in ["never", "always"] {
        let limits = Limits { requests: Some(600), burst_seconds: 3.0, ..Limits::default() };
        let settings = Settings { max_in_flight: 64, stream, limits, ..Settings::default() };
        let latency = simulator::Latency { first_token_ms: 300, ..Default::default() };
        let lab = Lab::new(simulator::Config { latency, ..Default::default() }, &settings);
        lab.insert_many("k", 55, "[[out=10]]");
        assert_eq!(lab.until_empty(), 0);
        assert_eq!(lab.states(), "succeeded 55");
        assert_eq!(lab.simulator().stats().refused_429, 0);
        check_end(&lab, &[]);
    }
}

/// The limit of others with the same key is not known beforehand: a 429 is information.
#[test]
fn a_429_without_a_time_pauses_for_a_while() {
    needs!("sqlite3");
    let rule = FaultRule { request: Some(5), ..FaultRule::new(Kind::BareRateLimit) };
    let ramp = FaultRule {
        request: Some(9),
        retry_after: Some("0.5".to_owned()),
        ..FaultRule::new(Kind::RampLimit)
    };
    let settings = Settings { max_in_flight: 2, max_attempts: 1, ..Settings::default() };
    let lab = lab(vec![rule, ramp], &settings);
    lab.insert_many("k", 20, "[[out=10]]");
    assert_eq!(lab.until_empty(), 0);
    assert_eq!(lab.states(), "succeeded 20");
    let classes = "SELECT error_class FROM attempts WHERE outcome = 'rate_limited' ORDER BY id";
    assert_eq!(lab.texts(classes), ["rate_limited", "ramp_limited"]);
    check_end(&lab, &[]);
}
