//! Answers that are none: each fault by itself, with the word, the class and the count it must
//! leave in the database; then many at once.

use crate::crash::checker::check_end;
use crate::helper::{Lab, Settings, needs};
use claudeq::simulator::{self, FaultRule, Kind};

/// A fault and what it must lead to.
struct Case {
    /// The marker without its brackets; its first word is the job's key.
    fault: &'static str,
    /// Outcome and class of the first attempt.
    first: (&'static str, &'static str),
    /// State of the job at its end, calls made, calls that counted.
    end: (&'static str, i64, i64),
}

const fn case(
    fault: &'static str,
    first: (&'static str, &'static str),
    end: (&'static str, i64, i64),
) -> Case {
    Case { fault, first, end }
}

/// One bad answer, then a good one.
const AGAIN: (&str, i64, i64) = ("succeeded", 2, 2);
/// Good at once.
const GOOD: (&str, i64, i64) = ("succeeded", 1, 1);
/// Bad once and for all.
const BAD: (&str, i64, i64) = ("failed", 1, 1);

/// In groups of eight at the most: with more, the breaker would open.
const STATUSES: &[Case] = &[
    case("529,times=3", ("overloaded", "overloaded"), ("succeeded", 4, 1)),
    case("details_null,times=1", ("overloaded", "overloaded"), ("succeeded", 2, 1)),
    case("500,times=1", ("transient", "api_error"), AGAIN),
    case("504,times=1", ("transient", "timeout"), AGAIN),
    case("unknown_error,times=1", ("transient", "api_error"), AGAIN),
];
const REFUSALS: &[Case] = &[
    case("400", ("failed", "invalid_request"), BAD),
    case("404", ("failed", "not_found"), BAD),
    case("413", ("failed", "request_too_large"), BAD),
    case("unknown_error,status=400", ("failed", "invalid_request"), BAD),
    case("redirect,times=1", ("not_reached", "redirect"), ("succeeded", 2, 1)),
    case("408,times=1", ("transient", "timeout"), AGAIN),
    case("409,times=1", ("transient", "conflict"), AGAIN),
    case("body_timeout,times=1", ("transient", "timeout"), AGAIN),
];
const CONNECTIONS: &[Case] = &[
    case("reset,times=1", ("unknown", "connection_lost"), AGAIN),
    case("close,times=1", ("unknown", "connection_lost"), AGAIN),
    case("reset_after,times=1", ("unknown", "connection_lost"), AGAIN),
    case("reset_body,times=1", ("unknown", "connection_lost"), AGAIN),
    case("cut_body,times=1", ("unknown", "connection_lost"), AGAIN),
    case("cut_chunked,times=1", ("unknown", "connection_lost"), AGAIN),
    case("cut_close,times=1", ("unknown", "bad_response"), AGAIN),
];
const STALLS: &[Case] = &[
    case("stall,times=1,stall_ms=20000", ("unknown", "timeout"), AGAIN),
    case("stall_body,times=1,stall_ms=20000", ("unknown", "timeout"), AGAIN),
    case("slow_start,times=1,stall_ms=20000", ("unknown", "timeout"), AGAIN),
];
const BODIES: &[Case] = &[
    case("html_502,times=1", ("unknown", "api_error"), AGAIN),
    case("garbage,times=1", ("unknown", "bad_response"), AGAIN),
    case("oversized,size=3000000", ("unknown", "response_too_large"), BAD),
    case("endless", ("unknown", "response_too_large"), BAD),
    case("gzip_bomb,size=90000000", ("unknown", "response_too_large"), BAD),
    case("huge_header,times=1", ("unknown", "connection_lost"), AGAIN),
];
const ODDITIES: &[Case] = &[
    case("usage_missing", ("succeeded", ""), GOOD),
    case("usage_odd", ("succeeded", ""), GOOD),
    case("no_headers", ("succeeded", ""), GOOD),
    case("odd_headers", ("succeeded", ""), GOOD),
    case("gzip", ("succeeded", ""), GOOD),
];
const STREAMS: &[Case] = &[
    case("sse_error,times=1", ("unknown", "overloaded"), AGAIN),
    case("sse_error,times=1,status=500", ("unknown", "api_error"), AGAIN),
    case("sse_refusal,times=3", ("overloaded", "overloaded"), ("succeeded", 4, 1)),
    case("sse_refusal,times=1,status=500", ("transient", "api_error"), AGAIN),
    case("sse_refusal,status=400", ("failed", "invalid_request"), BAD),
    case("sse_cut,times=1", ("unknown", "bad_response"), AGAIN),
    case("json_to_stream", ("succeeded", ""), GOOD),
];

/// In a stream the end of the connection is no end of the answer, and an end without
/// `message_stop` is none either.
const PLAIN: &str = "never";
const STREAMED: &str = "always";

#[test]
fn statuses() {
    needs!("sqlite3");
    play(STATUSES, PLAIN);
    play(STATUSES, STREAMED);
}

#[test]
fn refusals() {
    needs!("sqlite3");
    play(REFUSALS, PLAIN);
    play(REFUSALS, STREAMED);
}

#[test]
fn connections() {
    needs!("sqlite3");
    play(CONNECTIONS, PLAIN);
    play(CONNECTIONS, STREAMED);
}

#[test]
fn stalls() {
    needs!("sqlite3");
    play(STALLS, PLAIN);
    play(STALLS, STREAMED);
}

#[test]
fn bodies() {
    needs!("sqlite3");
    play(BODIES, PLAIN);
    play(BODIES, STREAMED);
}

#[test]
fn oddities_and_streams() {
    needs!("sqlite3");
    play(ODDITIES, PLAIN);
    play(ODDITIES, STREAMED);
    play(STREAMS, STREAMED);
}

fn fast() -> simulator::Config {
    simulator::Config { speed: 50.0, ..Default::default() }
}

fn play(cases: &[Case], stream: &'static str) {
    let settings = Settings { stream, request_timeout: "600ms", ..Settings::default() };
    let lab = Lab::new(fast(), &settings);
    // The breaker looks at the share of bad answers among the last.
    lab.insert_many("good", 12, "[[out=3]]");
    assert_eq!(lab.until_empty(), 0);

    let key = |number: usize| format!("case{number}");
    let jobs: Vec<(String, String)> = cases
        .iter()
        .enumerate()
        .map(|(number, case)| (key(number), format!("[[out=200]] [[fault={}]]", case.fault)))
        .collect();
    lab.insert(jobs.iter().map(|(key, markers)| (key.as_str(), markers.as_str())));
    let failures = cases.iter().any(|case| case.end.0 == "failed");
    assert_eq!(lab.until_empty(), i32::from(failures), "{stream}: {}", lab.states());

    for (number, case) in cases.iter().enumerate() {
        let query = format!(
            "SELECT a.outcome || ' ' || coalesce(a.error_class, '') || ' ' || s.state || ' '
               || s.attempts || ' ' || s.counted_attempts
             FROM jobs AS j JOIN job_state AS s ON s.id = j.id
             JOIN attempts AS a ON a.job_id = j.id AND a.number = 1 WHERE j.key = '{}'",
            key(number)
        );
        let (outcome, class) = case.first;
        let (state, attempts, counted) = case.end;
        let expected = format!("{outcome} {class} {state} {attempts} {counted}");
        assert_eq!(lab.texts(&query), [expected], "{} {stream}", case.fault);
    }
    check_end(&lab, &[]);
}

#[test]
fn errors_500_use_up_the_attempts_and_no_more_are_made() {
    needs!("sqlite3");
    let settings = Settings { max_attempts: 3, ..Settings::default() };
    let lab = Lab::new(fast(), &settings);
    lab.insert([("sick", "[[fault=500]]")]);
    assert_eq!(lab.until_empty(), 1);
    assert_eq!(lab.job("sick"), ("failed".into(), "api_error".into()));
    assert_eq!(lab.simulator().stats().requests, 3);
    check_end(&lab, &[]);
}

#[test]
fn a_storm_of_everything_loses_nothing() {
    needs!("sqlite3");
    for stream in [PLAIN, STREAMED] {
        let kinds = [
            Kind::Status(529),
            Kind::Status(500),
            Kind::Reset,
            Kind::ResetAfter,
            Kind::CutBody,
            Kind::CutChunked,
            Kind::Garbage,
            Kind::Html502,
            Kind::SseError,
            Kind::StallBody,
        ];
        let rule =
            |kind| FaultRule { probability: 0.018, stall_ms: Some(5_000), ..FaultRule::new(kind) };
        let faults = kinds.into_iter().map(rule).collect();
        let settings =
            Settings { stream, max_attempts: 100, request_timeout: "500ms", ..Settings::default() };
        let lab = Lab::new(simulator::Config { faults, ..fast() }, &settings);
        let keys: Vec<String> = (1..=300).map(|n| format!("k{n}")).collect();
        lab.insert_many("k", 300, "[[out=60]] [[in=20]]");
        assert_eq!(lab.until_empty(), 0);
        assert_eq!(lab.states(), "succeeded 300");
        assert!(lab.simulator().stats().faults > 10, "{:?}", lab.simulator().stats());
        check_end(&lab, &keys);
        // Without a kill every paid answer that came whole is kept.
        let unknown = lab.number("SELECT count(*) FROM attempts WHERE outcome = 'unknown'");
        let kept = lab.number("SELECT count(*) FROM responses");
        assert_eq!(kept, 300);
        let billed = lab.simulator().stats().billed;
        assert!(billed <= u64::try_from(kept + unknown).expect("counts"));
    }
}

/// The breaker opens, a probe finds the provider well again, and no attempt was used up.
#[test]
fn an_overloaded_provider_uses_up_no_attempts() {
    needs!("sqlite3");
    let overload = FaultRule { until_ms: Some(1_500), ..FaultRule::new(Kind::Status(529)) };
    let settings = Settings { max_attempts: 1, max_in_flight: 8, ..Settings::default() };
    let lab = Lab::new(simulator::Config { faults: vec![overload], ..fast() }, &settings);
    lab.insert_many("k", 60, "[[out=20]]");
    let daemon = lab.spawn(&["--until-empty"]);
    lab.until("SELECT count(*) FROM gates WHERE reason = 'provider'");
    assert_eq!(daemon.end(), 0);
    assert_eq!(lab.states(), "succeeded 60");
    assert_eq!(lab.number("SELECT max(counted_attempts) FROM job_state"), 1);
    assert!(lab.number("SELECT count(*) FROM attempts WHERE outcome = 'overloaded'") >= 10);
    let refused = lab.simulator().stats().errors;
    assert!(refused < 60, "{refused} calls into a provider that was known to ail");
    check_end(&lab, &[]);
}
