//! Calls against tiny servers that say exactly the bytes a test wants.

use super::*;
use crate::domain::attempt::{Answer, Failure, FailureKind, Outcome};
use crate::domain::limit::Dimension;
use crate::domain::time::{Millis, Timestamp};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write;
use std::sync::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const KEY: &str = "sk-ant-canary-0123456789";
const BODY: &str = r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"x"}]}"#;
const MESSAGE: &str = r#"{"id":"msg_1","type":"message","role":"assistant","model":"claude-x","content":[{"type":"text","text":"Hi!"}],"stop_reason":"end_turn","usage":{"input_tokens":3,"output_tokens":2}}"#;
const EVENTS: &str = concat!(
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"type\":\"message\",\"model\":\"claude-x\",\"content\":[],\"usage\":{\"input_tokens\":3,\"output_tokens\":1}}}\n\n",
    "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hi!\"}}\n\n",
    "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":2}}\n\n",
    "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
);
const NOW: Timestamp = Timestamp(1_790_000_000_000);

/// What the server does with each connection once it has read a request.
#[derive(Clone)]
enum Says {
    /// These bytes, and then waits for the next request.
    This(Vec<u8>),
    /// These bytes, and then closes.
    ThisAndCloses(Vec<u8>),
    /// These bytes, and then nothing, with the connection open.
    ThisAndHangs(Vec<u8>),
    /// The first bytes, then the second ones again and again.
    ThisForEver(Vec<u8>, Vec<u8>),
}

/// What a server saw.
#[derive(Clone, Default)]
struct Seen {
    connections: usize,
    requests: Vec<String>,
}

struct Server {
    port: u16,
    seen: Arc<Mutex<Seen>>,
}

impl Server {
    async fn start(says: Says) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let log = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                log.lock().unwrap().connections += 1;
                tokio::spawn(serve(connection, says.clone(), Arc::clone(&log)));
            }
        });
        Server { port, seen }
    }

    fn seen(&self) -> Seen {
        self.seen.lock().unwrap().clone()
    }

    fn config(&self) -> ClientConfig {
        ClientConfig {
            base_url: format!("http://127.0.0.1:{}", self.port),
            ..ClientConfig::default()
        }
    }
}

async fn serve(mut connection: TcpStream, says: Says, log: Arc<Mutex<Seen>>) {
    while let Some(request) = read_request(&mut connection).await {
        log.lock().unwrap().requests.push(request);
        let written = match &says {
            Says::This(bytes) => connection.write_all(bytes).await,
            Says::ThisAndCloses(bytes) => {
                let _ = connection.write_all(bytes).await;
                return;
            }
            Says::ThisAndHangs(bytes) => {
                let _ = connection.write_all(bytes).await;
                std::future::pending().await
            }
            Says::ThisForEver(head, again) => {
                let mut written = connection.write_all(head).await;
                while written.is_ok() {
                    tokio::task::yield_now().await;
                    written = connection.write_all(again).await;
                }
                written
            }
        };
        if written.is_err() {
            return;
        }
    }
}

/// Head and body; `None` at the end of the connection.
async fn read_request(connection: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).to_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |length| length.parse().unwrap());
            if body.len() >= length {
                return Some(String::from_utf8_lossy(&bytes).into_owned());
            }
        }
        match connection.read_buf(&mut bytes).await {
            Ok(0) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}

fn response(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n", body.len())
        .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

fn json_response(body: &str) -> Vec<u8> {
    response("200 OK", "content-type: application/json\r\n", body.as_bytes())
}

fn chunked(content_type: &str, body: &str, chunk: usize) -> Vec<u8> {
    let mut bytes = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    .into_bytes();
    for part in body.as_bytes().chunks(chunk) {
        bytes.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
        bytes.extend_from_slice(part);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn client(config: ClientConfig) -> Client {
    Client::new(config, KEY.into(), Clock::manual(NOW)).unwrap()
}

async fn call(config: ClientConfig, stream: bool) -> Reply {
    client(config).send(Bytes::from_static(BODY.as_bytes()), stream).await
}

async fn reply_to(says: Says, stream: bool) -> Reply {
    let server = Server::start(says).await;
    let reply = call(server.config(), stream).await;
    assert!(server.seen().requests.len() <= 1, "a call was made twice");
    reply
}

fn answer(reply: &Reply) -> &Answer {
    match &reply.outcome {
        Outcome::Completed(answer) => answer,
        other => panic!("{other:?}"),
    }
}

fn unknown(reply: &Reply) -> &Failure {
    match &reply.outcome {
        Outcome::Unknown(failure) => failure,
        other => panic!("{other:?}"),
    }
}

fn failed(reply: &Reply) -> &Failure {
    match &reply.outcome {
        Outcome::Failed(failure) => failure,
        other => panic!("{other:?}"),
    }
}

const TRANSIENT: FailureKind = FailureKind::Transient { retry_after: None };

#[tokio::test]
async fn a_plain_call() {
    let headers = "content-type: application/json\r\nrequest-id: req_7\r\n\
        anthropic-ratelimit-requests-limit: 50\r\nanthropic-ratelimit-requests-remaining: 49\r\n";
    let server = Server::start(Says::This(response("200 OK", headers, MESSAGE.as_bytes()))).await;
    let config = ClientConfig {
        base_url: format!("http://localhost:{}/gateway/", server.port),
        anthropic_beta: vec!["a-1".to_owned(), "b-2".to_owned()],
        ..ClientConfig::default()
    };
    let reply = call(config, false).await;
    assert_eq!(answer(&reply).body, MESSAGE);
    assert_eq!(answer(&reply).text, "Hi!");
    assert_eq!(reply.http_status, Some(200));
    assert_eq!(reply.request_id.as_deref(), Some("req_7"));
    assert_eq!(reply.limits[0].dimension, Dimension::Requests);
    assert_eq!((reply.first_byte_at, reply.done_at), (Some(NOW), NOW));
    assert!(reply.headers.unwrap().contains(r#""request-id":"req_7""#));

    let request = &server.seen().requests[0];
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert_eq!(body, BODY);
    assert!(head.starts_with("POST /gateway/v1/messages HTTP/1.1\r\n"), "{head}");
    for line in [
        "content-type: application/json",
        "accept: application/json",
        "anthropic-version: 2023-06-01",
        "anthropic-beta: a-1,b-2",
        "accept-encoding: gzip",
        &format!("x-api-key: {KEY}"),
        &format!("user-agent: claudeq/{}", env!("CARGO_PKG_VERSION")),
    ] {
        assert_eq!(head.lines().filter(|found| *found == line).count(), 1, "{line}\n{head}");
    }
    assert!(!head.contains("authorization"));
}

#[tokio::test]
async fn a_bearer_key() {
    let server = Server::start(Says::This(json_response(MESSAGE))).await;
    let config = ClientConfig { auth: Auth::Bearer, ..server.config() };
    answer(&call(config, false).await);
    let request = &server.seen().requests[0];
    assert!(request.contains(&format!("authorization: Bearer {KEY}\r\n")));
    assert!(!request.contains("x-api-key"));
}

#[tokio::test]
async fn streams_and_their_connection_is_used_again() {
    let server = Server::start(Says::This(chunked("text/event-stream", EVENTS, 7))).await;
    let client = client(server.config());
    for _ in 0..3 {
        let reply = client.send(Bytes::from_static(BODY.as_bytes()), true).await;
        assert_eq!(answer(&reply).text, "Hi!");
        assert_eq!(answer(&reply).usage.unwrap().output_tokens, 2);
        assert_eq!(answer(&reply).stop_reason.as_deref(), Some("end_turn"));
    }
    let seen = server.seen();
    assert_eq!((seen.connections, seen.requests.len()), (1, 3));
    assert!(seen.requests[0].contains("\r\n\r\n{\"stream\":true,\"model\""));
}

#[tokio::test]
async fn json_to_a_streaming_request_and_events_under_any_label() {
    for (says, stream) in [
        (json_response(MESSAGE), true),
        (chunked("text/event-stream", MESSAGE, 50), true),
        (chunked("application/octet-stream", EVENTS, 50), true),
        (chunked("text/event-stream", EVENTS, 1), false),
        (response("201 Created", "", MESSAGE.as_bytes()), false),
    ] {
        let reply = reply_to(Says::ThisAndCloses(says), stream).await;
        assert_eq!(answer(&reply).text, "Hi!");
    }
}

#[tokio::test]
async fn an_answer_cut_anywhere_is_never_taken_for_one() {
    let close_delimited =
        [b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".as_slice(), MESSAGE.as_bytes()].concat();
    for (wire, stream, last) in [
        (json_response(MESSAGE), false, MESSAGE.len()),
        (close_delimited, false, MESSAGE.len()),
        (chunked("application/json", MESSAGE, 40), false, 0),
        (chunked("text/event-stream", EVENTS, 40), true, 0),
    ] {
        // Where the answer's last brace is, everything paid for has arrived.
        let whole = wire.iter().rposition(|byte| *byte == b'}').unwrap();
        assert!(last == 0 || whole == wire.len() - 1);
        for cut in (0..=whole).step_by(17).chain([whole]) {
            let reply = reply_to(Says::ThisAndCloses(wire[..cut].to_vec()), stream).await;
            let failure = unknown(&reply);
            assert_eq!(failure.kind, TRANSIENT, "{cut}");
            assert!(["connection_lost", "bad_response"].contains(&&*failure.class), "{failure:?}");
        }
        let reply = reply_to(Says::ThisAndCloses(wire[..=whole].to_vec()), stream).await;
        assert_eq!(answer(&reply).text, "Hi!");
    }
}

#[tokio::test]
async fn a_200_that_is_no_message() {
    for (body, words) in [
        ("", "empty"),
        ("Log in", "not JSON: Log in"),
        ("{}", "no message"),
        (r#"{"type":"message"}"#, "without content"),
        ("[1]", "not JSON"),
    ] {
        for stream in [false, true] {
            let reply = reply_to(Says::ThisAndCloses(json_response(body)), stream).await;
            assert_eq!(unknown(&reply).class, "bad_response", "{body}");
            assert!(unknown(&reply).message.contains(words), "{reply:?}");
            assert_eq!(reply.http_status, Some(200));
        }
    }
    let error =
        r#"{"type":"error","error":{"type":"api_error","message":"x"},"request_id":"req_3"}"#;
    let reply = reply_to(Says::ThisAndCloses(json_response(error)), false).await;
    assert_eq!(unknown(&reply).class, "api_error");
    assert_eq!(reply.request_id.as_deref(), Some("req_3"));
}

#[tokio::test]
async fn a_page_with_status_200_is_not_the_apis() {
    for stream in [false, true] {
        let page = json_response(" <!DOCTYPE html>\n<b>Log in");
        let reply = reply_to(Says::ThisAndCloses(page), stream).await;
        assert_eq!(failed(&reply).kind, FailureKind::NotReached);
        assert_eq!(failed(&reply).class, "not_the_api");
        let message = &failed(&reply).message;
        assert!(message.contains("base_url") && message.ends_with("<b>Log in"), "{message}");
    }
}

#[tokio::test]
async fn an_error_in_the_middle_of_a_stream() {
    let (begun, _) = EVENTS.split_once("event: message_delta").unwrap();
    let error = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"req_2"}"#;
    let wire = format!("{begun}event: error\ndata: {error}\n\n");
    let says = Says::ThisAndHangs(chunked("text/event-stream", &wire, 99));
    let reply = reply_to(says, true).await;
    assert_eq!(unknown(&reply).class, "overloaded");
    assert_eq!(unknown(&reply).kind, TRANSIENT);
    assert_eq!(reply.request_id.as_deref(), Some("req_2"));
}

/// What a streaming call gets in the place of an answer is an error as any other: overload uses up
/// no attempt, and nothing was written that could be billed.
#[tokio::test]
async fn an_error_in_the_place_of_a_stream() {
    let overloaded = FailureKind::Overloaded { retry_after: Some(Millis::from_secs(3)) };
    let transient = FailureKind::Transient { retry_after: Some(Millis::from_secs(3)) };
    let limited = FailureKind::RateLimited {
        retry_after: Some(Millis::from_secs(3)),
        limit: Some(Dimension::OutputTokens),
        ramp: false,
    };
    for (kind, expected, class) in [
        ("overloaded_error", overloaded, "overloaded"),
        ("rate_limit_error", limited, "rate_limited"),
        ("api_error", transient.clone(), "api_error"),
        ("timeout_error", transient.clone(), "timeout"),
        ("lunar_eclipse_error", transient, "api_error"),
        ("invalid_request_error", FailureKind::Permanent, "invalid_request"),
        ("authentication_error", FailureKind::KeyRejected, "authentication"),
    ] {
        let error = format!(
            r#"{{"type":"error","error":{{"type":"{kind}","message":"8,000 output tokens per minute"}},"request_id":"req_4"}}"#
        );
        let events = format!(
            ": hi\n\nevent: ping\ndata: {{\"type\": \"ping\"}}\n\nevent: error\ndata: {error}\n\n"
        );
        let headers = "content-type: text/event-stream\r\nretry-after: 3\r\n";
        let wire = response("200 OK", headers, events.as_bytes());
        let reply = reply_to(Says::ThisAndHangs(wire), true).await;
        assert_eq!((&failed(&reply).kind, &*failed(&reply).class), (&expected, class));
        assert!(failed(&reply).message.contains("8,000 output"), "{reply:?}");
        assert_eq!((reply.http_status, reply.request_id.as_deref()), (Some(200), Some("req_4")));
    }
}

#[tokio::test]
async fn refusals_are_read_by_status_and_body() {
    let headers = "retry-after: 7\r\nrequest-id: req_1\r\n";
    let body = r#"{"type":"error","error":{"type":"rate_limit_error","message":"rate limit of 50 requests per minute"}}"#;
    let wire = response("429 Too Many Requests", headers, body.as_bytes());
    let reply = reply_to(Says::ThisAndCloses(wire.clone()), false).await;
    let expected = FailureKind::RateLimited {
        retry_after: Some(Millis::from_secs(7)),
        limit: Some(Dimension::Requests),
        ramp: false,
    };
    assert_eq!(failed(&reply).kind, expected);
    assert_eq!(reply.http_status, Some(429));
    // The status stands, however its body ends.
    let server = Server::start(Says::ThisAndHangs(wire[..wire.len() - 90].to_vec())).await;
    let reply = call(impatient(&server), false).await;
    assert!(matches!(failed(&reply).kind, FailureKind::RateLimited { .. }));
    let flood = Says::ThisForEver(
        b"HTTP/1.1 500 Oh\r\nconnection: close\r\n\r\n".to_vec(),
        vec![b'x'; 4_096],
    );
    let reply = reply_to(flood, false).await;
    assert_eq!(failed(&reply).class, "api_error");
}

fn impatient(server: &Server) -> ClientConfig {
    ClientConfig {
        request_timeout: Duration::from_millis(100),
        stream_timeout: Duration::from_millis(300),
        ..server.config()
    }
}

#[tokio::test]
async fn silence_ends_in_a_timeout_of_unknown_fate() {
    let begun = chunked("text/event-stream", EVENTS, 40);
    for says in [Vec::new(), b"HTTP/1.1 200".to_vec(), begun[..300].to_vec()] {
        for stream in [false, true] {
            let server = Server::start(Says::ThisAndHangs(says.clone())).await;
            let reply = call(impatient(&server), stream).await;
            assert_eq!(unknown(&reply).class, "timeout");
            assert_eq!(unknown(&reply).kind, TRANSIENT);
        }
    }
}

#[tokio::test]
async fn pings_do_not_keep_a_call_alive_for_ever() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n".to_vec();
    let says = Says::ThisForEver(head, b": ping\n\n".to_vec());
    let server = Server::start(says).await;
    let config = ClientConfig { max_response_bytes: u64::MAX, ..impatient(&server) };
    let reply = call(config, true).await;
    assert_eq!(unknown(&reply).class, "timeout");
}

/// Blanks before an answer are as good as pings.
#[tokio::test]
async fn nor_do_drops_of_an_answer() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n".to_vec();
    for stream in [false, true] {
        let server = Server::start(Says::ThisForEver(head.clone(), b" ".to_vec())).await;
        let config = ClientConfig { max_response_bytes: u64::MAX, ..impatient(&server) };
        let reply = call(config, stream).await;
        assert_eq!((&*unknown(&reply).class, &unknown(&reply).kind), ("timeout", &TRANSIENT));
    }
}

#[tokio::test]
async fn a_message_that_is_whole_needs_no_end_of_the_connection() {
    let wire = [b"HTTP/1.1 200 OK\r\n\r\n".as_slice(), MESSAGE.as_bytes()].concat();
    let server = Server::start(Says::ThisAndHangs(wire)).await;
    let reply = call(impatient(&server), false).await;
    assert_eq!(answer(&reply).text, "Hi!");
}

#[tokio::test]
async fn answers_above_the_limit_are_charged_and_not_repeated() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{\"a\":\"".to_vec();
    let events = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n".to_vec();
    let bomb = gzip(&vec![b' '; 50_000_000]);
    assert!(bomb.len() < 100_000);
    let bomb = response("200 OK", "content-encoding: gzip\r\n", &bomb);
    for (says, stream) in [
        (Says::ThisForEver(head, vec![b'x'; 8_192]), false),
        (Says::ThisForEver(events, b"data: x\n".repeat(1_000)), true),
        (Says::This(bomb), false),
    ] {
        let server = Server::start(says).await;
        let config = ClientConfig { max_response_bytes: 1_000_000, ..server.config() };
        let reply = call(config, stream).await;
        assert_eq!(unknown(&reply).class, "response_too_large");
        assert_eq!(unknown(&reply).kind, FailureKind::Permanent);
    }
}

#[tokio::test]
async fn compressed_answers() {
    let packed = gzip(MESSAGE.as_bytes());
    let wire = |packed: &[u8]| response("200 OK", "content-encoding: gzip\r\n", packed);
    let reply = reply_to(Says::This(wire(&packed)), false).await;
    assert_eq!(answer(&reply).body, MESSAGE);
    let reply = reply_to(Says::This(wire(&packed[..packed.len() / 2])), false).await;
    unknown(&reply);
    let reply = reply_to(Says::This(wire(b"no gzip at all, and yet it says so")), false).await;
    assert_eq!(unknown(&reply).class, "bad_response");
    // Streams too, cut where no event ends.
    let headers = "content-type: text/event-stream\r\ncontent-encoding: gzip\r\n";
    let wire = response("200 OK", headers, &gzip(EVENTS.as_bytes()));
    let reply = reply_to(Says::This(wire.clone()), true).await;
    assert_eq!(answer(&reply).text, "Hi!");
    let reply = reply_to(Says::ThisAndCloses(wire[..wire.len() - 60].to_vec()), true).await;
    assert_eq!(unknown(&reply).kind, TRANSIENT);
}

#[tokio::test]
async fn endless_headers_are_refused() {
    let says = Says::ThisForEver(
        b"HTTP/1.1 200 OK\r\n".to_vec(),
        format!("x-a: {}\r\n", "x".repeat(8_000)).into_bytes(),
    );
    let reply = reply_to(says, false).await;
    unknown(&reply);
    assert_eq!(reply.http_status, None);
}

#[tokio::test]
async fn redirects_are_never_followed() {
    let elsewhere = Server::start(Says::This(json_response(MESSAGE))).await;
    for status in ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"] {
        let location = format!("location: http://localhost:{}/v1/messages\r\n", elsewhere.port);
        let wire = response(status, &location, b"");
        let reply = reply_to(Says::ThisAndCloses(wire), false).await;
        assert_eq!(failed(&reply).class, "redirect");
        assert_eq!(failed(&reply).kind, FailureKind::NotReached);
        assert!(failed(&reply).message.contains("provider.base_url"));
    }
    assert_eq!(elsewhere.seen().connections, 0);
}

/// A gateway may refuse a large body before it has read it.
#[tokio::test]
async fn a_refusal_in_the_middle_of_the_upload() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        let mut some = [0; 10_000];
        connection.read_exact(&mut some).await.unwrap();
        let head = b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        connection.write_all(head).await.unwrap();
        std::future::pending::<()>().await;
    });
    let config = ClientConfig {
        base_url: format!("http://127.0.0.1:{port}"),
        request_timeout: Duration::from_secs(2),
        ..ClientConfig::default()
    };
    let body = Bytes::from(vec![b'x'; 30_000_000]);
    let reply = client(config).send(body, false).await;
    assert_eq!(failed(&reply).class, "request_too_large");
}

#[tokio::test]
async fn no_connection_is_surely_not_charged() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    // Nobody listens; and a server that does not speak TLS.
    let plain = Server::start(Says::ThisAndCloses(b"HTTP/1.1 400 Bad\r\n\r\n".to_vec())).await;
    let garbage = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let garbage_port = garbage.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = garbage.accept().await {
            let _ = connection.write_all(b"220 mail ready\r\n").await;
        }
    });
    drop(plain);
    for base_url in [
        format!("http://127.0.0.1:{port}"),
        format!("https://127.0.0.1:{port}"),
        format!("https://127.0.0.1:{garbage_port}"),
    ] {
        let config = ClientConfig { base_url, ..ClientConfig::default() };
        let reply = call(config, false).await;
        assert_eq!(failed(&reply).class, "connection");
        assert_eq!(failed(&reply).kind, FailureKind::NotReached);
        assert_eq!((reply.http_status, reply.first_byte_at), (None, None));
        assert!(failed(&reply).message.contains("127.0.0.1"), "{reply:?}");
    }
}

/// TCP is there, and then nothing: neither the handshake nor the tunnel ever comes about.
#[tokio::test]
async fn a_connection_that_never_comes_about_is_surely_not_charged() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    for (base_url, proxy) in [
        (format!("https://127.0.0.1:{port}"), None),
        ("https://api.invalid".to_owned(), Some(format!("http://127.0.0.1:{port}"))),
    ] {
        let connect_timeout = Duration::from_millis(50);
        let config = ClientConfig { base_url, proxy, connect_timeout, ..ClientConfig::default() };
        for config in [
            config.clone(),
            // The connection's time is never longer than the call's.
            ClientConfig {
                connect_timeout: Duration::from_secs(60),
                request_timeout: Duration::from_millis(100),
                ..config
            },
        ] {
            let reply = call(config, true).await;
            assert_eq!(failed(&reply).class, "connection");
            assert_eq!(failed(&reply).kind, FailureKind::NotReached);
        }
    }
}

#[tokio::test]
async fn the_key_is_in_nothing_that_is_kept_or_shown() {
    let long = "x".repeat(440);
    for words in [format!("invalid x-api-key: {KEY}."), format!("{long} {KEY}")] {
        let body = format!(
            r#"{{"type":"error","error":{{"type":"authentication_error","message":"{words}"}}}}"#
        );
        let headers = format!("request-id: {KEY}\r\nretry-after: {KEY}\r\n");
        let wire = response("401 Unauthorized", &headers, body.as_bytes());
        let server = Server::start(Says::ThisAndCloses(wire)).await;
        let client = client(server.config());
        let reply = client.send(Bytes::from_static(BODY.as_bytes()), false).await;
        assert_eq!(failed(&reply).kind, FailureKind::KeyRejected);
        assert!(failed(&reply).message.contains("[key]"), "{reply:?}");
        let shown = format!("{reply:?} {client:?} {:?}", client.0.headers);
        assert!(!shown.contains(&KEY[..12]), "{shown}");
    }
    // Cut off in the middle of a header, it is not at the end of what is kept.
    let headers = format!("request-id: {0} {KEY}\r\nretry-after: {0} {KEY}\r\n", "x".repeat(188));
    let wire = response("429 Too Many", &headers, b"{}");
    let reply = reply_to(Says::ThisAndCloses(wire), false).await;
    assert!(!format!("{reply:?}").contains("sk-ant"), "{reply:?}");
    let error = Client::new(ClientConfig::default(), format!("{KEY}\n").into(), Clock::manual(NOW))
        .unwrap_err();
    assert!(!format!("{error} {error:?}").contains("canary"));
}

fn refusal(config: ClientConfig) -> String {
    let refused = Client::new(config, KEY.into(), Clock::manual(NOW));
    refused.unwrap_err().to_string()
}

#[test]
fn base_urls() {
    for (base_url, endpoint) in [
        ("https://api.anthropic.com", "https://api.anthropic.com/v1/messages"),
        ("https://api.anthropic.com/v1/", "https://api.anthropic.com/v1/messages"),
        ("https://gw.example:8443/a/", "https://gw.example:8443/a/v1/messages"),
        ("http://127.0.0.1:9/", "http://127.0.0.1:9/v1/messages"),
        ("http://[::1]:9", "http://[::1]:9/v1/messages"),
        ("http://LOCALHOST", "http://localhost/v1/messages"),
    ] {
        assert_eq!(super::endpoint(base_url).unwrap().as_str(), endpoint);
    }
    for base_url in [
        "http://api.anthropic.com",
        "http://10.0.0.1",
        "http://localhost.example",
        "http://127.0.0.1.example",
        "ftp://localhost",
        "api.anthropic.com",
        "https://user:secret@host",
        "https://host/?a=b",
        "",
    ] {
        let error =
            refusal(ClientConfig { base_url: base_url.to_owned(), ..ClientConfig::default() });
        assert!(error.contains("provider.base_url"), "{base_url}: {error}");
        assert!(!error.contains("secret"), "{error}");
    }
}

#[test]
fn settings_that_cannot_be() {
    let with_proxy = |proxy: &str, base_url: &str| ClientConfig {
        proxy: Some(proxy.to_owned()),
        base_url: base_url.to_owned(),
        ..ClientConfig::default()
    };
    for config in [
        with_proxy("socks5://u:secret@host", "https://host"),
        with_proxy("u:secret@host", "https://host"),
        with_proxy("http://u:secret@host", "http://localhost"),
    ] {
        assert!(!format!("{config:?}").contains("secret"));
        let error = refusal(config);
        assert!(error.contains("provider.proxy"), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
    let directory = tempfile::tempdir().unwrap();
    let ca_file = directory.path().join("ca.pem");
    let config = ClientConfig { ca_file: Some(ca_file.clone()), ..ClientConfig::default() };
    assert!(refusal(config.clone()).contains("failed to read provider.ca_file"));
    for pem in
        ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"]
    {
        std::fs::write(&ca_file, pem).unwrap();
        assert!(refusal(config.clone()).contains("ca.pem"), "{pem}");
    }
    for version in ["a\nb", "", " "] {
        let config =
            ClientConfig { anthropic_version: version.to_owned(), ..ClientConfig::default() };
        assert!(refusal(config).contains("provider.anthropic_version"), "{version:?}");
    }
    for beta in [["a", ""], [" ", "b"], ["a", "b\r\nc"]] {
        let anthropic_beta = beta.map(str::to_owned).into();
        let config = ClientConfig { anthropic_beta, ..ClientConfig::default() };
        assert!(refusal(config).contains("provider.anthropic_beta"), "{beta:?}");
    }
}

#[tokio::test]
async fn a_configured_proxy_gets_a_tunnel_and_not_the_key() {
    for status in ["403 No", "407 Proxy Authentication Required", "401 Who", "502 Bad Gateway"] {
        let login = "proxy-authenticate: Basic realm=\"corp\"\r\n";
        let proxy = Server::start(Says::ThisAndCloses(response(status, login, b"<html>"))).await;
        let config = ClientConfig {
            proxy: Some(format!("http://user:pa55word@127.0.0.1:{}", proxy.port)),
            base_url: "https://api.invalid".to_owned(),
            ..ClientConfig::default()
        };
        let reply = call(config, false).await;
        // A proxy's login is not the provider's: the key's gate stays as it is.
        assert_eq!(failed(&reply).class, "connection", "{status}");
        assert_eq!(failed(&reply).kind, FailureKind::NotReached, "{status}");
        assert!(!format!("{reply:?}").contains("pa55word"), "{reply:?}");
        let request = &proxy.seen().requests[0];
        assert!(request.starts_with("CONNECT api.invalid:443"), "{request}");
        assert!(request.to_lowercase().contains("proxy-authorization: basic "), "{request}");
        assert!(!request.contains("canary"));
    }
}

/// The environment can only be set for another process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_proxy_variables_nor_a_missing_ca_store_matter() {
    let api = Server::start(Says::This(json_response(MESSAGE))).await;
    let proxy = Server::start(Says::This(json_response(MESSAGE))).await;
    let proxy_url = format!("http://127.0.0.1:{}", proxy.port);
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child
        .args(["--exact", "--ignored", "--nocapture"])
        .arg("claude::client::tests::child_with_an_environment")
        .env("CLAUDEQ_TEST_BASE_URL", format!("http://127.0.0.1:{}", api.port))
        .env("SSL_CERT_FILE", "/nonexistent/ca.pem")
        .env("SSL_CERT_DIR", "/nonexistent");
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]
    {
        child.env(name, &proxy_url);
    }
    let done = tokio::task::spawn_blocking(move || child.output()).await.unwrap().unwrap();
    let shown = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{shown}");
    assert!(shown.contains("1 passed"), "{shown}");
    assert_eq!(api.seen().requests.len(), 1);
    assert_eq!(proxy.seen().connections, 0);
}

#[tokio::test]
#[ignore = "run by the test above, with an environment"]
async fn child_with_an_environment() {
    let Ok(base_url) = std::env::var("CLAUDEQ_TEST_BASE_URL") else {
        return;
    };
    let config = ClientConfig { base_url, ..ClientConfig::default() };
    answer(&call(config, false).await);
    // Roots are there though the machine has none.
    let reply = call(
        ClientConfig { base_url: "https://127.0.0.1:1".to_owned(), ..ClientConfig::default() },
        false,
    )
    .await;
    assert_eq!(failed(&reply).class, "connection");
}
