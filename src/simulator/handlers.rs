//! The paths: messages, `count_tokens`, and the simulator's own under `/__sim`.

use super::app::{App, Arrival, Run, Verdict};
use super::conn::Peer;
use super::errors::ApiError;
use super::fault_kind::Kind;
use super::faults::FaultRule;
use super::generation::Generation;
use super::log::Entry;
use super::pool::Level;
use super::request::{self, Ask};
use super::{reply, spoil, stream};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use serde_json::json;
use std::sync::Arc;

/// The largest body the API takes.
const BODY_BYTES_MAX: usize = 32 * 1024 * 1024;
const MESSAGES: &str = "/v1/messages";
/// Where a redirect leads unless told otherwise: nobody listens there.
const ELSEWHERE: &str = "http://127.0.0.2:9/v1/messages";

type Shared = State<Arc<App>>;

/// All paths.
pub(super) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route(MESSAGES, post(messages))
        .route("/v1/messages/count_tokens", post(count_tokens))
        .route("/__sim/log", get(log))
        .route("/__sim/stats", get(stats))
        .route("/__sim/faults", post(set_faults))
        .route("/__sim/key", post(set_key))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .with_state(app)
}

async fn messages(
    State(app): Shared,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
) -> Response {
    let mut entry = app.entry(MESSAGES);
    let ask = match read(&app, request, false).await {
        Ok(ask) => ask,
        Err(Unread { error, levels }) => return refuse(&app, entry, &levels, &error, None),
    };
    describe(&mut entry, &ask);
    let Arrival { pool, early, levels, fault, verdict } = app.arrive(&ask);
    entry.pool = pool;
    entry.early = early;
    entry.fault = fault.as_ref().map(|fault| fault.kind.to_string());
    match verdict {
        Verdict::Refuse(error) => refuse(&app, entry, &levels, &error, fault.as_ref()),
        Verdict::Instead(kind) => instead(&app, entry, &levels, fault.as_ref(), kind, &peer).await,
        Verdict::Run(run) => {
            entry.status = 200;
            entry.billed = run.answer.is_billed();
            entry.input_tokens = run.answer.input_tokens;
            entry.output_tokens = run.answer.output_tokens;
            entry.cache_read_tokens = run.answer.cache_read_tokens;
            entry.cache_write_tokens = run.answer.cache_write_tokens;
            answer(app, entry, levels, fault, run, ask.stream, peer).await
        }
    }
}

/// Runs a generation to its end, or hands out its stream.
async fn answer(
    app: Arc<App>,
    entry: Entry,
    levels: Vec<Level>,
    fault: Option<FaultRule>,
    run: Run,
    streaming: bool,
    peer: Peer,
) -> Response {
    let request_id = entry.request_id.clone();
    let mut generation = Generation::begin(app.clone(), entry, run.end);
    let kind = fault.as_ref().map(|fault| fault.kind);
    let plain = !streaming || kind.is_some_and(Kind::is_plain_body);
    if plain || kind == Some(Kind::ResetAfter) {
        app.sleep_until(run.end).await;
        generation.finish().await;
    }
    if kind == Some(Kind::ResetAfter) {
        peer.reset();
        return std::future::pending().await;
    }
    if let Some(fault) = fault.as_ref().filter(|fault| fault.kind == Kind::Stall) {
        tokio::time::sleep(fault.stall()).await;
    }
    let mut response = reply::respond(&app, &request_id, &levels, fault.as_ref(), Body::empty());
    if !plain {
        let headers = response.headers_mut();
        reply::set(headers, "content-type", "text/event-stream; charset=utf-8");
        reply::set(headers, "cache-control", "no-cache");
        if kind == Some(Kind::CutClose) {
            spoil::close_delimited(&mut response);
        }
        let events = stream::events(app, peer, generation, run, fault);
        *response.body_mut() = Body::from_stream(events);
        return response;
    }
    let message = run.answer.message();
    match &fault {
        Some(fault) => spoil::plain(&mut response, message, fault, peer),
        None => *response.body_mut() = Body::from(message.to_string()),
    }
    response
}

/// What comes in the place of an answer: the end of the connection, or a redirect.
async fn instead(
    app: &App,
    mut entry: Entry,
    levels: &[Level],
    fault: Option<&FaultRule>,
    kind: Kind,
    peer: &Peer,
) -> Response {
    entry.ended_ms = app.clock.now().0;
    let request_id = entry.request_id.clone();
    if kind != Kind::Redirect {
        app.witness.note(entry);
        if kind == Kind::Reset {
            peer.reset()
        } else {
            peer.close()
        }
        return std::future::pending().await;
    }
    entry.status = 307;
    app.witness.note(entry);
    let mut response = reply::respond(app, &request_id, levels, fault, Body::empty());
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    let location = fault.and_then(|fault| fault.location.as_deref()).unwrap_or(ELSEWHERE);
    reply::set(response.headers_mut(), "location", location);
    response
}

fn refuse(
    app: &App,
    mut entry: Entry,
    levels: &[Level],
    error: &ApiError,
    fault: Option<&FaultRule>,
) -> Response {
    entry.status = error.status;
    entry.error = Some(error.kind.clone());
    entry.ended_ms = app.clock.now().0;
    let response = reply::refuse(app, &entry.request_id, levels, error, fault);
    app.witness.note(entry);
    response
}

fn describe(entry: &mut Entry, ask: &Ask) {
    entry.marker = ask.marker("id").map(str::to_owned);
    entry.model.clone_from(&ask.model);
    entry.stream = ask.stream;
    entry.max_tokens = ask.max_tokens;
}

async fn count_tokens(State(app): Shared, request: Request) -> Response {
    let id = app.id("req");
    let ask = match read(&app, request, true).await {
        Ok(ask) => ask,
        Err(Unread { error, levels }) => return reply::refuse(&app, &id, &levels, &error, None),
    };
    let (levels, result) = app.count_tokens(&ask.model);
    if let Err(error) = result {
        return reply::refuse(&app, &id, &levels, &error, None);
    }
    let tokens = ask.number("in").unwrap_or(ask.counted_tokens);
    reply::respond(&app, &id, &levels, None, json!({ "input_tokens": tokens }).to_string())
}

/// A request that was refused before anybody looked at its limits.
struct Unread {
    error: ApiError,
    levels: Vec<Level>,
}

impl From<ApiError> for Unread {
    fn from(error: ApiError) -> Self {
        Unread { error, levels: Vec::new() }
    }
}

/// Size, key, version, body, in the order of the API.
async fn read(app: &App, request: Request, counting: bool) -> Result<Ask, Unread> {
    let (parts, body) = request.into_parts();
    let headers = &parts.headers;
    let announced: Option<usize> =
        header(headers, "content-length").and_then(|length| length.parse().ok());
    let body = match announced {
        Some(length) if length > BODY_BYTES_MAX => None,
        // Read before the key is checked, so that the refusal does not meet a client that
        // is still writing.
        _ => to_bytes(body, BODY_BYTES_MAX).await.ok(),
    };
    let bearer = header(headers, "authorization").and_then(|text| text.strip_prefix("Bearer "));
    app.check_key(header(headers, "x-api-key").or(bearer))?;
    let Some(body) = body else {
        let error = ApiError::new(413, "Request exceeds the maximum size");
        return Err(Unread { error, levels: app.levels("") });
    };
    let checked = request::check_version(header(headers, "anthropic-version"))
        .and_then(|version| request::parse(&body, version, counting));
    checked.map_err(|error| Unread { error, levels: app.levels(&model_of(&body)) })
}

/// The model of a body that is wrong in another place.
fn model_of(body: &[u8]) -> String {
    let value: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    value["model"].as_str().unwrap_or_default().to_owned()
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

async fn unknown_path(State(app): Shared, uri: Uri) -> Response {
    let error = ApiError::not_found(format!("Not found: {}", uri.path()));
    reply::refuse(&app, &app.id("req"), &[], &error, None)
}

async fn wrong_method(State(app): Shared) -> Response {
    let error = ApiError::new(405, "Method Not Allowed");
    reply::refuse(&app, &app.id("req"), &[], &error, None)
}

async fn log(State(app): Shared) -> Response {
    let mut lines = String::new();
    for entry in app.witness.entries() {
        if let Ok(line) = serde_json::to_string(&entry) {
            lines.push_str(&line);
            lines.push('\n');
        }
    }
    let mut response = Response::new(Body::from(lines));
    reply::set(response.headers_mut(), "content-type", "application/x-ndjson");
    response
}

async fn stats(State(app): Shared) -> Response {
    let text = serde_json::to_string(&app.witness.stats()).unwrap_or_default();
    let mut response = Response::new(Body::from(text));
    reply::set(response.headers_mut(), "content-type", "application/json");
    response
}

/// A JSON list of rules takes the place of all rules.
async fn set_faults(State(app): Shared, body: Bytes) -> Response {
    match serde_json::from_slice::<Vec<FaultRule>>(&body) {
        Ok(rules) => {
            app.set_faults(rules);
            StatusCode::NO_CONTENT.into_response()
        }
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    }
}

/// The body is the only key that is let in from now on; an empty one lets in any.
async fn set_key(State(app): Shared, body: String) -> Response {
    let key = body.trim();
    app.set_key((!key.is_empty()).then(|| key.to_owned()));
    StatusCode::NO_CONTENT.into_response()
}
