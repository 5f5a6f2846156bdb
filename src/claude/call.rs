//! One call: sent once, read to its end, and its fate told.
//!
//! The fate of a call is one of three. No connection: surely not charged. A refusal, or a page of
//! something that is not the API: not charged. Anything else that is no whole message: unknown,
//! since the request may have been written and the answer paid for.

use super::answer::{self, NoAnswer};
use super::client::Inner;
use super::error::{self, ApiError, MESSAGE_CHARS_MAX, tidy};
use super::head::Head;
use super::sight::Sight;
use super::stream::{Stream, StreamError};
use crate::domain::attempt::{Answer, Failure, FailureKind, Outcome, Reply};
use bytes::Bytes;
use reqwest::Response;
use secrecy::ExposeSecret;
use std::borrow::Cow;
use std::error::Error;
use std::io;
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};

/// Of an error's body, so much is read …
const ERROR_BODY_BYTES_MAX: usize = 64 * 1024;
/// … and it is waited for so long: its status says most of it.
const ERROR_BODY_WAIT: Duration = Duration::from_secs(10);
/// After the last event the connection's end of the answer is waited for so long, that it can
/// be used again.
const CONNECTION_END_WAIT: Duration = Duration::from_millis(50);
/// Of an answer that is no JSON, so much is quoted.
const QUOTE_CHARS_MAX: usize = 200;
/// Keys shorter than this are no keys, and would be found in every text.
const KEY_CHARS_MIN: usize = 8;
/// Shorter beginnings of a key at the end of a shortened text tell nothing.
const KEY_BEGINNING_MIN: usize = 4;

/// How long to wait: for the next step, and altogether.
struct Patience {
    step: Duration,
    end: Instant,
}

impl Patience {
    fn next(&self) -> Instant {
        self.end.min(Instant::now() + self.step)
    }
}

/// How the reading of an answer ended.
enum End {
    Whole,
    TooLarge,
    TimedOut,
    Lost(reqwest::Error),
    Refused(StreamError),
}

/// An answer while it is read.
enum Body {
    /// Nothing but white space so far.
    Unknown,
    Json(Vec<u8>),
    Events(Box<Stream>),
}

pub(crate) async fn send(client: &Inner, body: Bytes, stream: bool, sight: &Sight) -> Reply {
    let patience = Patience {
        step: client.request_timeout,
        end: Instant::now() + if stream { client.stream_timeout } else { client.request_timeout },
    };
    let request =
        client.http.post(client.endpoint.clone()).headers(client.headers.clone()).body(body);
    let reply = match timeout_at(patience.next(), request.send()).await {
        Err(_) => headless(client, no_head(client)),
        Ok(Err(err)) => headless(client, not_sent(client, err)),
        Ok(Ok(response)) => receive(client, response, &patience, sight).await,
    };
    without_key(reply, client.key.expose_secret())
}

fn headless(client: &Inner, outcome: Outcome) -> Reply {
    Reply {
        outcome,
        http_status: None,
        request_id: None,
        limits: Vec::new(),
        headers: None,
        first_byte_at: None,
        done_at: client.clock.now(),
    }
}

async fn receive(
    client: &Inner,
    mut response: Response,
    patience: &Patience,
    sight: &Sight,
) -> Reply {
    let status = response.status();
    let head = Head::read(status.as_u16(), response.headers(), client.clock.now());
    let (outcome, body_id) = if status.is_success() {
        receive_answer(client, &head, &mut response, patience, sight).await
    } else {
        let body = error_body(&mut response, patience).await;
        error::outcome(&head, &body, &client.host)
    };
    let done_at = client.clock.now();
    if matches!(outcome, Outcome::Completed(_)) {
        // Nothing depends on it: the answer is whole.
        let _ = timeout(CONNECTION_END_WAIT, response.chunk()).await;
    }
    Reply {
        outcome,
        http_status: Some(head.status),
        request_id: head.request_id.or(body_id),
        limits: head.limits,
        headers: head.record,
        first_byte_at: Some(head.at),
        done_at,
    }
}

/// As much of an error's body as comes.
async fn error_body(response: &mut Response, patience: &Patience) -> Vec<u8> {
    let end = patience.next().min(Instant::now() + ERROR_BODY_WAIT);
    let mut body = Vec::new();
    while let Ok(Ok(Some(chunk))) = timeout_at(end, response.chunk()).await {
        body.extend_from_slice(&chunk);
        if body.len() >= ERROR_BODY_BYTES_MAX {
            body.truncate(ERROR_BODY_BYTES_MAX);
            break;
        }
    }
    body
}

async fn receive_answer(
    client: &Inner,
    head: &Head,
    response: &mut Response,
    patience: &Patience,
    sight: &Sight,
) -> (Outcome, Option<String>) {
    let mut body = Body::Unknown;
    let end = read(client, head, response, patience, &mut body, sight).await;
    let made = match body {
        Body::Unknown => Err(odd("an empty answer")),
        Body::Json(bytes) => whole_json(bytes),
        Body::Events(stream) => stream
            .finish()
            .ok_or_else(|| odd("a stream without message_stop"))
            .and_then(answer::read),
    };
    match (end, made) {
        // Whole is whole, even when the connection broke right behind it.
        (End::Whole | End::Lost(_) | End::TimedOut, Ok(answer)) => {
            (Outcome::Completed(Box::new(answer)), None)
        }
        (End::Whole, Err(NoAnswer::Odd(what))) => {
            let message = format!("HTTP {} from {}, but {what}", head.status, client.host);
            (unknown("bad_response", message), None)
        }
        (End::Whole, Err(NoAnswer::Page(page))) => (not_the_api(client, head, &page), None),
        (End::Whole, Err(NoAnswer::Error(error))) => in_the_answer(client, head, error),
        (End::Refused(err), _) => refused(client, head, err),
        (End::TooLarge, _) => (too_large(client), None),
        (End::TimedOut, Err(_)) => {
            let message =
                format!("the answer from {} did not come to its end in time", client.host);
            (unknown("timeout", message), None)
        }
        (End::Lost(err), Err(_)) => (lost(client, err), None),
    }
}

/// Reads until the end, whatever that is; what was read is in `body`.
async fn read(
    client: &Inner,
    head: &Head,
    response: &mut Response,
    patience: &Patience,
    body: &mut Body,
    sight: &Sight,
) -> End {
    let most = client.max_response_bytes;
    let mut read: u64 = 0;
    loop {
        let chunk = match timeout_at(patience.next(), response.chunk()).await {
            Err(_) => return End::TimedOut,
            Ok(Err(err)) if err.is_timeout() => return End::TimedOut,
            Ok(Err(err)) => return End::Lost(err),
            Ok(Ok(None)) => return End::Whole,
            Ok(Ok(Some(chunk))) => chunk,
        };
        // The chunk is already decompressed.
        read = read.saturating_add(chunk.len() as u64);
        if read > most {
            return End::TooLarge;
        }
        if let Body::Unknown = body {
            *body = begin(head, &chunk, most);
        }
        match body {
            Body::Unknown => {}
            Body::Json(bytes) => bytes.extend_from_slice(&chunk),
            Body::Events(stream) => match stream.push(&chunk) {
                Err(err) => return End::Refused(err),
                Ok(()) => {
                    sight.saw(stream.written(), &head.limits, client.clock.now());
                    if stream.is_complete() {
                        return End::Whole;
                    }
                }
            },
        }
    }
}

/// What kind of answer begins here. The body counts more than its label: gateways send JSON
/// to who asked for a stream, and events without a proper type.
fn begin(head: &Head, chunk: &[u8], most: u64) -> Body {
    match chunk.trim_ascii_start().first() {
        None => Body::Unknown,
        Some(b'{') => Body::Json(Vec::new()),
        Some(b'e' | b'd' | b':' | b'i' | b'r') => Body::Events(Box::new(Stream::new(most))),
        Some(_) if head.media_type == "text/event-stream" => {
            Body::Events(Box::new(Stream::new(most)))
        }
        Some(_) => Body::Json(Vec::new()),
    }
}

fn whole_json(bytes: Vec<u8>) -> Result<Answer, NoAnswer> {
    let body = String::from_utf8(bytes).map_err(|_| odd("the answer is not UTF-8"))?;
    let begin = body.trim_start();
    if begin.starts_with('<') {
        return Err(NoAnswer::Page(tidy(&body, QUOTE_CHARS_MAX)));
    }
    if !begin.starts_with('{') {
        // Not a cut answer, which would be nobody's business here: words of some gateway.
        let quote = tidy(&body, QUOTE_CHARS_MAX);
        return Err(odd(format!("the answer is not JSON: {quote}")));
    }
    answer::read(body)
}

/// A login or parking page with status 200: what sends it did not pass the call on, so nothing
/// was billed. (Whatever else is no message may be a damaged answer, and stays unknown.)
fn not_the_api(client: &Inner, head: &Head, page: &str) -> Outcome {
    let message = format!(
        "HTTP {} from {} (a page, not the API's words: is provider.base_url right?): {page}",
        head.status, client.host
    );
    Outcome::Failed(Failure {
        kind: FailureKind::NotReached,
        class: error::NOT_THE_API.into(),
        message: tidy(&message, MESSAGE_CHARS_MAX),
    })
}

fn odd(what: impl Into<String>) -> NoAnswer {
    NoAnswer::Odd(what.into())
}

/// The provider reports an error after a 200: tokens may have been billed before it.
fn in_the_answer(client: &Inner, head: &Head, error: ApiError) -> (Outcome, Option<String>) {
    let ApiError { kind, message, .. } = &error;
    let message = format!("{} broke off its answer: {kind}: {message}", client.host);
    let outcome = Outcome::Unknown(Failure {
        kind: FailureKind::Transient { retry_after: head.retry_after },
        class: error.class().unwrap_or("provider_error").into(),
        message: tidy(&message, MESSAGE_CHARS_MAX),
    });
    (outcome, error.request_id)
}

fn refused(client: &Inner, head: &Head, err: StreamError) -> (Outcome, Option<String>) {
    match err {
        StreamError::TooLarge(_) => (too_large(client), None),
        StreamError::Malformed(_) => {
            let message = format!("HTTP {} from {}, but {err}", head.status, client.host);
            (unknown("bad_response", message), None)
        }
        StreamError::Provider { error, begun: false } => {
            let failure = error::in_place_of_a_stream(head, &error, &client.host);
            (Outcome::Failed(failure), error.request_id)
        }
        StreamError::Provider { error, begun: true } => in_the_answer(client, head, error),
    }
}

fn too_large(client: &Inner) -> Outcome {
    Outcome::Unknown(Failure {
        kind: FailureKind::Permanent,
        class: "response_too_large".into(),
        message: format!(
            "the answer from {} is larger than provider.max_response_bytes ({})",
            client.host, client.max_response_bytes
        ),
    })
}

fn no_head(client: &Inner) -> Outcome {
    let message = format!("no answer from {} within {:?}", client.host, client.request_timeout);
    unknown("timeout", message)
}

/// No response head: whether the request was written decides.
fn not_sent(client: &Inner, err: reqwest::Error) -> Outcome {
    let host = &client.host;
    if err.is_connect() || err.is_builder() {
        let message = format!("could not connect to {host}: {}", causes(err));
        // Not a byte of it went out, and the cause may be this machine.
        return Outcome::Failed(Failure {
            kind: FailureKind::NotReached,
            class: "connection".into(),
            message: tidy(&message, MESSAGE_CHARS_MAX),
        });
    }
    let class = if err.is_timeout() { "timeout" } else { "connection_lost" };
    let causes = causes(err);
    unknown(class, format!("{host} gave no answer after the request was sent: {causes}"))
}

fn lost(client: &Inner, err: reqwest::Error) -> Outcome {
    let host = &client.host;
    let class = if is_garbage(&err) { "bad_response" } else { "connection_lost" };
    let causes = causes(err);
    unknown(class, format!("the answer from {host} broke off: {causes}"))
}

/// Broken compression or framing rather than a broken connection.
fn is_garbage(err: &reqwest::Error) -> bool {
    let mut source = err.source();
    while let Some(cause) = source {
        if let Some(cause) = cause.downcast_ref::<io::Error>() {
            return matches!(
                cause.kind(),
                io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput
            );
        }
        source = cause.source();
    }
    false
}

fn unknown(class: &'static str, message: String) -> Outcome {
    Outcome::Unknown(Failure {
        kind: FailureKind::Transient { retry_after: None },
        class: class.into(),
        message: tidy(&message, MESSAGE_CHARS_MAX),
    })
}

/// The chain below the library's own "error sending request", each part once.
fn causes(err: reqwest::Error) -> String {
    let err = err.without_url();
    let mut parts: Vec<String> = Vec::new();
    let mut source = err.source();
    while let Some(cause) = source {
        let part = cause.to_string();
        if !parts.iter().any(|known| known.contains(&part)) {
            parts.push(part);
        }
        source = cause.source();
    }
    if parts.is_empty() {
        return err.to_string();
    }
    parts.join(": ")
}

/// A gateway may repeat the key in its words. Nothing that is kept or shown may have it.
fn without_key(mut reply: Reply, key: &str) -> Reply {
    if key.len() < KEY_CHARS_MIN {
        return reply;
    }
    let clean = |text: &mut String| {
        if text.contains(key) {
            *text = text.replace(key, "[key]");
        }
        // What was shortened may end in the middle of it.
        let kept = text.trim_end_matches('…');
        let cut = (KEY_BEGINNING_MIN..key.len()).rev().find(|cut| kept.ends_with(&key[..*cut]));
        if let Some(cut) = cut {
            text.truncate(kept.len() - cut);
            text.push_str("[key]");
        }
    };
    if let Outcome::Failed(failure) | Outcome::Unknown(failure) = &mut reply.outcome {
        clean(&mut failure.message);
        if failure.class.contains(key) {
            failure.class = Cow::Borrowed("provider_error");
        }
    }
    reply.headers.as_mut().map(clean);
    reply.request_id.as_mut().map(clean);
    reply
}
