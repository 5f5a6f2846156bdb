//! Each fault as a client meets it.

use super::client::{Reply, body, call, request, start};
use crate::simulator::{Config, FaultRule, Handle, Kind};
use serde_json::{Value, json};
use std::io::Read as _;

fn fast() -> Handle {
    start(Config { speed: 1_000.0, ..Config::default() })
}

/// One call with `rule` in force.
async fn meet(sim: &Handle, rule: FaultRule, stream: bool) -> Reply {
    sim.set_faults(vec![rule]);
    let mut ask = body("x [[out=80]]", 100);
    ask["stream"] = json!(stream);
    call(sim, &ask).await
}

#[tokio::test]
async fn errors_have_their_type_and_are_not_billed() {
    let sim = fast();
    for (kind, status, error) in [
        (Kind::Status(500), 500, "api_error"),
        (Kind::Status(529), 529, "overloaded_error"),
        (Kind::Status(401), 401, "authentication_error"),
        (Kind::Status(402), 402, "billing_error"),
        (Kind::Status(409), 409, "conflict_error"),
        (Kind::UnknownError, 500, "lunar_eclipse_error"),
        (Kind::DetailsNull, 529, "overloaded_error"),
        (Kind::BareRateLimit, 429, "rate_limit_error"),
        (Kind::OwnLimit, 400, "invalid_request_error"),
    ] {
        let reply = meet(&sim, FaultRule::new(kind), false).await;
        assert_eq!((reply.status, reply.json()["error"]["type"].as_str()), (status, Some(error)));
        assert_eq!(sim.log().last().unwrap().fault, Some(kind.to_string()));
    }
    for (kind, status, code) in [
        (Kind::RampLimit, 429, "ramp_limit_exceeded"),
        (Kind::SpendCap, 429, "enforced_spend_limit_reached"),
        (Kind::OnHold, 400, "organization_on_hold"),
    ] {
        let reply = meet(&sim, FaultRule::new(kind), true).await;
        assert_eq!(reply.status, status);
        assert_eq!(reply.json()["error"]["details"]["error_code"], code);
        assert_eq!(reply.header("retry-after").is_empty(), kind != Kind::RampLimit);
    }
    for (kind, status) in [(Kind::Status(413), 413), (Kind::Html502, 502)] {
        let reply = meet(&sim, FaultRule::new(kind), false).await;
        assert_eq!((reply.status, reply.header("content-type")), (status, "text/html"));
    }
    let elsewhere =
        FaultRule { location: Some("http://127.9.9.9/".into()), ..FaultRule::new(Kind::Redirect) };
    let reply = meet(&sim, elsewhere, false).await;
    assert_eq!((reply.status, reply.header("location")), (307, "http://127.9.9.9/"));
    assert_eq!(sim.stats().billed, 0);
    sim.stop().await;
}

#[tokio::test]
async fn retry_headers_are_sent_as_told() {
    let sim = fast();
    let overloaded = FaultRule::new(Kind::Status(529));
    let rule = FaultRule {
        retry_after: Some("soon".into()),
        should_retry: Some(false),
        ..overloaded.clone()
    };
    let reply = meet(&sim, rule, false).await;
    assert_eq!((reply.header("retry-after"), reply.header("x-should-retry")), ("soon", "false"));
    let rule = FaultRule { retry_after: Some("30".into()), retry_after_date: true, ..overloaded };
    let reply = meet(&sim, rule, false).await;
    assert!(reply.header("retry-after").ends_with("GMT"), "{}", reply.header("retry-after"));
    sim.stop().await;
}

#[tokio::test]
async fn connections_end_where_they_are_told_to() {
    let sim = fast();
    // Kind, streamed, billed, whether any of the answer arrives, whether the end is noticed.
    for (kind, stream, billed, status, broken) in [
        (Kind::Reset, false, 0, 0, true),
        (Kind::Close, false, 0, 0, true),
        (Kind::ResetAfter, false, 1, 0, true),
        (Kind::ResetAfter, true, 1, 0, true),
        (Kind::ResetBody, false, 1, 200, true),
        (Kind::ResetBody, true, 1, 200, true),
        (Kind::CutBody, false, 1, 200, true),
        (Kind::CutBody, true, 1, 200, true),
        (Kind::CutChunked, false, 1, 200, true),
        (Kind::CutChunked, true, 1, 200, true),
        (Kind::CutClose, false, 1, 200, false),
        (Kind::CutClose, true, 1, 200, false),
        (Kind::SseCut, true, 1, 200, false),
        (Kind::SseError, true, 1, 200, false),
    ] {
        let before = sim.stats();
        let reply = meet(&sim, FaultRule::new(kind), stream).await;
        assert_eq!((reply.status, reply.broken), (status, broken), "{kind} {stream}");
        let after = sim.stats();
        assert_eq!(after.billed - before.billed, billed, "{kind} {stream}");
        assert_eq!(after.output_tokens - before.output_tokens, billed * 80, "{kind} {stream}");
        if status == 200 {
            assert!(!reply.bytes.is_empty(), "{kind} {stream}");
            assert!(serde_json::from_slice::<Value>(&reply.bytes).is_err(), "{kind} {stream}");
            assert!(!reply.bytes.ends_with(b"\"message_stop\"}\n\n"), "{kind} {stream}");
        }
    }
    assert_eq!(sim.stats().in_flight, 0);
    sim.stop().await;
}

#[tokio::test]
async fn an_error_event_comes_after_a_200() {
    let sim = fast();
    let reply = meet(&sim, FaultRule::new(Kind::SseError), true).await;
    let events = reply.events();
    assert_eq!(events[0]["type"], "message_start");
    assert_eq!(events.last().unwrap()["error"]["type"], "overloaded_error");
    sim.stop().await;
}

#[tokio::test]
async fn an_error_event_may_be_all_there_is() {
    let sim = fast();
    let rule = FaultRule { retry_after: Some("3".into()), ..FaultRule::new(Kind::SseRefusal) };
    let reply = meet(&sim, rule, true).await;
    assert_eq!((reply.status, reply.header("retry-after")), (200, "3"));
    assert_eq!(reply.header("content-type"), "text/event-stream; charset=utf-8");
    let events = reply.events();
    assert_eq!((events.len(), &events[0]["type"]), (1, &json!("error")));
    assert_eq!(events[0]["error"]["type"], "overloaded_error");
    let stats = sim.stats();
    assert_eq!((stats.billed, stats.errors), (0, 1));
    sim.stop().await;
}

#[tokio::test]
async fn stalls_end() {
    let sim = fast();
    for kind in [Kind::Stall, Kind::StallBody, Kind::SlowStart] {
        for stream in [false, true] {
            let clock = crate::clock::Clock::system();
            let rule = FaultRule { stall_ms: Some(60), ..FaultRule::new(kind) };
            let reply = meet(&sim, rule, stream).await;
            assert!(clock.monotonic().as_millis() >= 60, "{kind}");
            assert_eq!((reply.status, reply.broken), (200, false), "{kind}");
            if stream {
                assert_eq!(reply.events().last().unwrap()["type"], "message_stop");
            } else {
                assert_eq!(reply.json()["usage"]["output_tokens"], 80);
            }
        }
    }
    sim.stop().await;
}

#[tokio::test]
async fn bodies_are_odd_in_every_way() {
    let sim = fast();
    let reply = meet(&sim, FaultRule::new(Kind::JsonToStream), true).await;
    assert_eq!(reply.json()["type"], "message");
    let reply = meet(&sim, FaultRule::new(Kind::Garbage), false).await;
    assert!(serde_json::from_slice::<Value>(&reply.bytes).is_err());
    let reply = meet(&sim, FaultRule::new(Kind::UsageMissing), false).await;
    assert_eq!(reply.json().get("usage"), None);
    let reply = meet(&sim, FaultRule::new(Kind::UsageMissing), true).await;
    assert!(!reply.text().contains("usage"));
    let reply = meet(&sim, FaultRule::new(Kind::UsageOdd), false).await;
    assert_ne!(reply.json()["usage"]["output_tokens"], 80);
    let reply = meet(&sim, FaultRule::new(Kind::NoHeaders), false).await;
    assert!(!reply.head.contains("anthropic-ratelimit"));
    let reply = meet(&sim, FaultRule::new(Kind::OddHeaders), true).await;
    assert_eq!(reply.header("anthropic-ratelimit-requests-remaining"), "many");
    let large = |kind| FaultRule { size: Some(3_000_000), ..FaultRule::new(kind) };
    let reply = meet(&sim, large(Kind::Oversized), false).await;
    assert_eq!((reply.bytes.len(), reply.json()["type"].as_str()), (3_000_000, Some("message")));
    for (kind, least) in [(Kind::Gzip, 100), (Kind::GzipBomb, 3_000_000)] {
        let reply = meet(&sim, large(kind), false).await;
        assert_eq!(reply.header("content-encoding"), "gzip");
        let mut text = String::new();
        flate2::read::GzDecoder::new(&reply.bytes[..]).read_to_string(&mut text).unwrap();
        assert!(text.len() > least && reply.bytes.len() < 10_000);
        assert!(serde_json::from_str::<Value>(&text).is_ok());
    }
    let reply = meet(&sim, large(Kind::HugeHeader), false).await;
    assert_eq!(reply.header("x-huge").len(), 3_000_000);
    assert_eq!(sim.stats().billed, sim.stats().requests);
    sim.stop().await;
}

#[tokio::test]
async fn absurd_numbers_break_nothing() {
    let sim = start(Config { speed: 100_000.0, ..Config::default() });
    let most = u64::MAX;
    for rule in [
        FaultRule {
            retry_after: Some("1e19".into()),
            retry_after_date: true,
            ..FaultRule::new(Kind::Status(429))
        },
        FaultRule { retry_after: Some("-1".into()), ..FaultRule::new(Kind::Status(429)) },
        FaultRule { retry_after: Some("nan".into()), ..FaultRule::new(Kind::RampLimit) },
    ] {
        assert_eq!(meet(&sim, rule, false).await.status, 429);
    }
    sim.set_faults(Vec::new());
    let prompt = format!("[[out={most}]] [[in={most}]] [[cache_read={most}]]");
    let mut ask = body(&prompt, 300_000);
    assert_eq!(call(&sim, &ask).await.json()["usage"]["output_tokens"], 300_000);
    let refused = call(&sim, &ask).await;
    assert_eq!(refused.status, 429);
    assert!(refused.header("retry-after").parse::<f64>().unwrap() > 1.0);
    ask["max_tokens"] = json!(most);
    assert_eq!(call(&sim, &ask).await.status, 400);
    sim.stop().await;
}

#[tokio::test]
async fn markers_and_other_programs_set_faults() {
    let sim = fast();
    let ask = body("x [[out=1]] [[fault=529,times=1]]", 10);
    assert_eq!(call(&sim, &ask).await.status, 529);
    assert_eq!(call(&sim, &ask).await.status, 200);
    let rules = json!([{ "kind": "503", "request": 2 }]).to_string();
    let set = request(&sim, "POST /__sim/faults HTTP/1.1\r\n", rules.as_bytes()).await;
    assert_eq!(set.status, 204);
    let ask = body("x [[out=1]]", 10);
    assert_eq!(call(&sim, &ask).await.status, 200);
    assert_eq!(call(&sim, &ask).await.status, 503);
    assert_eq!(request(&sim, "POST /__sim/key HTTP/1.1\r\n", b"new").await.status, 204);
    assert_eq!(call(&sim, &ask).await.status, 401);
    sim.stop().await;
}
