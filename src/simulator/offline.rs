//! The provider without sockets, for simulations in virtual time: what is asked is answered at
//! once, with the times at which it would have come.

use super::answer::Answer;
use super::app::{App, Arrival, Run, Verdict};
use super::config::Config;
use super::fault_kind::Kind;
use super::log::Stats;
use super::{reply, request};
use crate::clock::Clock;
use axum::http::HeaderMap;
use std::io;
use std::time::Duration;

/// The API version it is asked in.
const VERSION: &str = "2023-06-01";

/// A simulator that is called like a function; its time is that of a clock set by hand.
pub struct Offline {
    app: App,
}

/// A response, and when its parts come, counted from the request's arrival.
#[derive(Clone, Debug)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// All of them, the rate limits included.
    pub headers: HeaderMap,
    /// A message or an error, as JSON.
    pub body: String,
    /// When the first token comes; zero for errors.
    pub first_token: Duration,
    /// When the body is whole.
    pub end: Duration,
    /// Tokens that come evenly between the two.
    pub output_tokens: u64,
    /// The connection breaks at the end, and the response with it; it is billed all the same.
    pub lost: bool,
}

impl Offline {
    /// A provider that nobody has called yet.
    ///
    /// # Errors
    /// When the configuration cannot be meant.
    pub fn new(config: Config, clock: Clock) -> io::Result<Offline> {
        Ok(Offline { app: App::new(config, clock)? })
    }

    /// A request arrives now. `None`: its connection ends before anything has run.
    pub fn arrive(&self, body: &[u8]) -> Option<Response> {
        let app = &self.app;
        let mut entry = app.entry("/v1/messages");
        let ask = match request::parse(body, VERSION, false) {
            Ok(ask) => ask,
            Err(error) => return Some(refused(app, &entry.request_id, &[], &error)),
        };
        let now = app.now();
        let Arrival { pool, early, levels, fault, verdict } = app.arrive(&ask);
        (entry.pool, entry.early) = (pool, early);
        entry.marker = ask.marker("id").map(str::to_owned);
        let response = match verdict {
            Verdict::Refuse(error) => {
                entry.status = error.status;
                Some(refused(app, &entry.request_id, &levels, &error))
            }
            Verdict::Instead(_) => None,
            Verdict::Run(Run { answer, first_token, end }) => {
                entry.status = 200;
                bill(&mut entry, &answer);
                let response = reply::respond(app, &entry.request_id, &levels, None, String::new());
                Some(Response {
                    status: 200,
                    headers: response.headers().clone(),
                    body: answer.message().to_string(),
                    first_token: first_token - now,
                    end: end - now,
                    output_tokens: answer.output_tokens,
                    lost: fault.is_some_and(|fault| fault.kind == Kind::ResetAfter),
                })
            }
        };
        app.witness.note(entry);
        response
    }

    /// From now on the buckets of the pool `model` belongs to have `factor` times their limits and
    /// hold `burst` of refill.
    pub fn scale_limits(&self, model: &str, factor: f64, burst: Duration) {
        self.app.scale(model, factor, burst);
    }

    /// The counters so far.
    pub fn stats(&self) -> Stats {
        self.app.witness.stats()
    }
}

fn refused(
    app: &App,
    id: &str,
    levels: &[super::pool::Level],
    error: &super::errors::ApiError,
) -> Response {
    let response = reply::refuse(app, id, levels, error, None);
    Response {
        status: error.status,
        headers: response.headers().clone(),
        body: error.body(id),
        first_token: Duration::ZERO,
        end: Duration::ZERO,
        output_tokens: 0,
        lost: false,
    }
}

fn bill(entry: &mut super::log::Entry, answer: &Answer) {
    entry.billed = answer.is_billed();
    entry.input_tokens = answer.input_tokens;
    entry.output_tokens = answer.output_tokens;
    entry.cache_read_tokens = answer.cache_read_tokens;
    entry.cache_write_tokens = answer.cache_write_tokens;
}
