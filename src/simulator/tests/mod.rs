//! End to end, over plain TCP streams: what a client sees, and what the log says.

mod client;
mod faults;

use super::*;
use client::{Reply, body, call, request, start};
use serde_json::{Value, json};
use std::time::Duration;

#[tokio::test]
async fn a_plain_answer_is_complete() {
    let sim = start(Config { speed: 1_000.0, ..Config::default() });
    let reply = call(&sim, &body("Say hi [[out=20]] [[id=job-7]] [[in=300]]", 100)).await;
    assert_eq!(reply.status, 200);
    let message = reply.json();
    assert_eq!(message["type"], "message");
    assert_eq!(message["stop_reason"], "end_turn");
    assert_eq!(message["usage"]["output_tokens"], 20);
    assert_eq!(message["usage"]["input_tokens"], 300);
    assert_eq!(message["usage"]["cache_read_input_tokens"], 0);
    assert!(message["content"][0]["text"].as_str().unwrap().starts_with("echo Say hi"));
    assert!(reply.header("request-id").starts_with("req_"));
    assert_eq!(reply.header("anthropic-ratelimit-requests-limit"), "1000000");
    assert_eq!(reply.header("anthropic-ratelimit-requests-remaining"), "999");
    assert_eq!(reply.header("anthropic-ratelimit-tokens-limit"), "2400000000");
    assert!(reply.header("anthropic-ratelimit-input-tokens-reset").ends_with('Z'));

    let log = sim.log();
    assert_eq!(log.len(), 1);
    assert_eq!(log[0].marker.as_deref(), Some("job-7"));
    assert_eq!((log[0].input_tokens, log[0].output_tokens, log[0].billed), (300, 20, true));
    assert_eq!(log[0].request_id, reply.header("request-id"));
    assert_eq!(sim.stats().max_concurrency, 1);
    sim.stop().await;
}

#[tokio::test]
async fn a_streamed_answer_has_the_same_words() {
    let sim = start(Config { speed: 100.0, ..Config::default() });
    let plain = call(&sim, &body("Tell me [[out=2000]]", 4_000)).await;
    let mut streaming = body("Tell me [[out=2000]]", 4_000);
    streaming["stream"] = json!(true);
    let reply = call(&sim, &streaming).await;
    assert_eq!(reply.header("content-type"), "text/event-stream; charset=utf-8");
    let events = reply.events();
    let text: String = events.iter().filter_map(|event| event["delta"]["text"].as_str()).collect();
    assert_eq!(text, plain.json()["content"][0]["text"]);
    assert_eq!(events.last().unwrap()["type"], "message_stop");
    // 2,000 tokens take 25 s, 250 ms in time-lapse: about three deltas.
    let deltas = events.iter().filter(|event| event["type"] == "content_block_delta").count();
    assert!((2..=5).contains(&deltas), "{deltas}");
    assert_eq!(sim.stats().billed, 2);
    sim.stop().await;
}

#[tokio::test]
async fn a_429_says_when_and_means_it() {
    let limits = LimitSet { requests_per_minute: Some(2), ..LimitSet::default() };
    let config = Config { speed: 30.0, limits, ..Config::default() };
    let sim = start(config);
    let ask = body("x [[out=1]]", 10);
    assert_eq!(call(&sim, &ask).await.status, 200);
    assert_eq!(call(&sim, &ask).await.status, 200);
    let refused = call(&sim, &ask).await;
    assert_eq!(refused.status, 429);
    let error = refused.json();
    assert_eq!(error["error"]["type"], "rate_limit_error");
    assert_eq!(error["request_id"], refused.header("request-id"));
    let text = error["error"]["message"].as_str().unwrap();
    assert!(text.contains("rate limit of 60 requests per minute (org: "), "{text}");
    // Half a minute for one request, in time-lapse.
    let wait: f64 = refused.header("retry-after").parse().unwrap();
    assert!((0.5..=1.0).contains(&wait), "{wait}");
    assert_eq!(call(&sim, &ask).await.status, 429, "too early");
    tokio::time::sleep(Duration::from_secs_f64(wait)).await;
    assert_eq!(call(&sim, &ask).await.status, 200);
    let stats = sim.stats();
    assert_eq!((stats.ok, stats.refused_429, stats.early_retries), (3, 2, 1));
    sim.stop().await;
}

#[tokio::test]
async fn retry_after_is_in_whole_seconds_in_real_time() {
    let limits = LimitSet { input_tokens_per_minute: Some(30_000), ..LimitSet::default() };
    let latency = Latency { first_token_ms: 0, tokens_per_second: 1e6, ..Latency::default() };
    let sim = start(Config { limits, latency, ..Config::default() });
    assert_eq!(call(&sim, &body("[[in=29999]] [[out=1]]", 9)).await.status, 200);
    let refused = call(&sim, &body("[[in=5000]] [[out=1]]", 9)).await;
    assert_eq!(refused.header("retry-after"), "10");
    assert!(refused.json()["error"]["message"].as_str().unwrap().contains("30,000 input tokens"));
    assert_eq!(refused.header("anthropic-ratelimit-input-tokens-remaining"), "0");
    // What the cache holds does not count.
    let cached = call(&sim, &body("[[in=1]] [[cache_read=90000]] [[out=1]]", 9)).await;
    assert_eq!(cached.status, 200);
    sim.stop().await;
}

#[tokio::test]
async fn keys_versions_and_paths_are_checked() {
    let sim = start(Config { speed: 1_000.0, key: Some("right".into()), ..Config::default() });
    let good = body("x [[out=1]]", 10).to_string();
    let send = async |path: &str, headers: &str, body: &str| -> Reply {
        request(&sim, &format!("POST {path} HTTP/1.1\r\n{headers}"), body.as_bytes()).await
    };
    let version = "anthropic-version: 2023-06-01\r\n";
    for (path, headers, body, status) in [
        ("/v1/messages", "x-api-key: right\r\nanthropic-version: 2023-06-01\r\n", &*good, 200),
        (
            "/v1/messages",
            "authorization: Bearer right\r\nanthropic-version: 2023-06-01\r\n",
            &good,
            200,
        ),
        ("/v1/messages", version, &good, 401),
        ("/v1/messages", "x-api-key: wrong\r\nanthropic-version: 2023-06-01\r\n", &good, 401),
        ("/v1/messages", "x-api-key: right\r\n", &good, 400),
        ("/v1/messages", "x-api-key: right\r\nanthropic-version: 2023-06-01\r\n", "{}", 400),
        ("/v1/massages", "x-api-key: right\r\n", &good, 404),
    ] {
        let reply = send(path, headers, body).await;
        assert_eq!(reply.status, status, "{headers}");
        assert!(reply.header("request-id").starts_with("req_"));
        if status != 200 {
            assert_eq!(reply.json()["request_id"], reply.header("request-id"));
        }
    }
    sim.set_key(Some("new".into()));
    let headers = "x-api-key: right\r\nanthropic-version: 2023-06-01\r\n";
    assert_eq!(send("/v1/messages", headers, &good).await.status, 401);
    let bad =
        send("/v1/messages", "x-api-key: new\r\nanthropic-version: 2023-06-01\r\n", "{}").await;
    assert_eq!(bad.header("anthropic-ratelimit-requests-limit"), "1000000");
    sim.stop().await;
}

#[tokio::test]
async fn tokens_are_counted_in_a_pool_of_their_own() {
    let sim = start(Config { count_tokens_per_minute: Some(1), ..Config::default() });
    let ask = json!({ "model": "m", "messages": [{ "role": "user", "content": "[[in=17]]" }] });
    let count = async || {
        let head = "POST /v1/messages/count_tokens HTTP/1.1\r\nx-api-key: k\r\n\
                    anthropic-version: 2026-10-21\r\n";
        request(&sim, head, ask.to_string().as_bytes()).await
    };
    assert_eq!(count().await.json(), json!({ "input_tokens": 17 }));
    assert_eq!(count().await.status, 429);
    sim.stop().await;
}

#[tokio::test]
async fn a_client_that_hangs_up_is_billed_in_full() {
    let sim = start(Config::default());
    let mut open = Vec::new();
    for stream in [false, true] {
        let mut ask = body("x [[out=800]] [[id=gone]]", 1_000);
        ask["stream"] = json!(stream);
        open.push(client::send(&sim, &ask).await);
    }
    client::eventually(|| sim.stats().in_flight == 2).await;
    drop(open);
    client::eventually(|| sim.stats().clients_gone == 2).await;
    let stats = sim.stats();
    assert_eq!((stats.output_tokens, stats.in_flight), (1_600, 0));
    assert_eq!(stats.max_concurrency, 2);
    for entry in sim.log() {
        let length = entry.ended_ms - entry.started_ms;
        assert!((10_990..13_000).contains(&length), "{length}");
    }
    sim.stop().await;
}

#[tokio::test]
async fn the_log_is_on_disk_when_the_answer_arrives() {
    let path = std::env::temp_dir().join(format!("claudeq-sim-{}.jsonl", std::process::id()));
    let config = Config { speed: 1_000.0, log_path: Some(path.clone()), ..Config::default() };
    let sim = start(config);
    let mut ask = body("x [[out=5]] [[id=a]]", 10);
    call(&sim, &ask).await;
    ask["stream"] = json!(true);
    call(&sim, &ask).await;
    let text = std::fs::read_to_string(&path).unwrap();
    let entries: Vec<Entry> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(entries, sim.log());
    assert_eq!(entries.len(), 2);
    let served = request(&sim, "GET /__sim/log HTTP/1.1\r\n", b"").await;
    assert_eq!(served.text(), text);
    let stats = request(&sim, "GET /__sim/stats HTTP/1.1\r\n", b"").await;
    let stats: Stats = serde_json::from_value(stats.json()).unwrap();
    assert_eq!(stats, sim.stats());
    sim.stop().await;
    std::fs::remove_file(path).unwrap();
}

#[tokio::test]
async fn stopping_ends_what_is_running() {
    let sim = start(Config::default());
    let mut stream = client::send(&sim, &body("x [[out=800]]", 1_000)).await;
    client::eventually(|| sim.stats().in_flight == 1).await;
    let app = sim.app.clone();
    sim.stop().await;
    assert_eq!(app.witness.stats().clients_gone, 1);
    assert_eq!(client::read(&mut stream).await.status, 0);
}

#[tokio::test]
async fn the_server_never_admits_more_than_its_limit() {
    // 50 clients, none of which ever waits, for two seconds that are two minutes.
    let limits = LimitSet {
        requests_per_minute: Some(600),
        input_tokens_per_minute: Some(60_000),
        output_mode: OutputMode::Reserve,
        output_tokens_per_minute: Some(20_000),
        burst_seconds: 10.0,
        ..LimitSet::default()
    };
    let clock = Clock::system();
    let sim = start(Config { speed: 60.0, limits, ..Config::default() });
    let hammer = async |number: u64| {
        while clock.monotonic() < Duration::from_secs(2) {
            let ask = body(&format!("{number} [[in={}]] [[out=30]]", 50 + number * 7), 60);
            call(&sim, &ask).await;
        }
    };
    futures_util::future::join_all((0..50).map(hammer)).await;
    // Sixty times as fast: a second is a minute.
    let minutes = clock.monotonic().as_secs_f64();
    let stats = sim.stats();
    assert!(stats.refused_429 > 0 && stats.ok > 0);
    for (used, rate) in
        [(stats.ok, 600.0), (stats.input_tokens, 60_000.0), (stats.output_tokens, 20_000.0)]
    {
        let used = u32::try_from(used).unwrap();
        assert!(f64::from(used) <= rate * (minutes + 10.0 / 60.0), "{used} of {rate}");
    }
    sim.stop().await;
}

fn stop_reason(reply: &Reply) -> Value {
    reply.json()["stop_reason"].clone()
}

#[tokio::test]
async fn stop_reasons_are_chosen_in_the_prompt() {
    let sim = start(Config { speed: 1_000.0, ..Config::default() });
    for (prompt, max_tokens, reason) in [
        ("[[stop=pause_turn]]", 100, "pause_turn"),
        ("[[stop=refusal]]", 100, "refusal"),
        ("[[out=100]]", 100, "max_tokens"),
        ("warm", 0, "max_tokens"),
    ] {
        assert_eq!(stop_reason(&call(&sim, &body(prompt, max_tokens)).await), reason);
    }
    assert_eq!(sim.stats().billed, 3, "a refusal before output is free");
    sim.stop().await;
}
