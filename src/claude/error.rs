//! From a response that is no answer to a [`Failure`]: status, error type, error code.
//!
//! The status decides what to do; the provider's `error.type` names the class. Unknown types
//! and codes are taken for the bare status, since new ones appear without notice.

use super::fields::Fields;
use super::head::Head;
use crate::clock::calendar::{CalendarUnit, parse_rfc3339, period, zone};
use crate::domain::attempt::{Failure, FailureKind, Outcome};
use crate::domain::limit::Dimension;
use crate::domain::time::{Millis, Timestamp};

/// The longest message kept.
pub(crate) const MESSAGE_CHARS_MAX: usize = 500;
/// Of a body that is not the API's, so much is quoted.
const QUOTE_CHARS_MAX: usize = 200;
/// `error_class` of an answer that came from something else.
pub(crate) const NOT_THE_API: &str = "not_the_api";
/// A spend limit that should already have ended is looked at again after this.
const SPEND_LIMIT_LOOK: Millis = Millis::from_secs(300);

/// The error object of the API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ApiError {
    /// `error.type`.
    pub(crate) kind: String,
    /// `error.message`.
    pub(crate) message: String,
    /// `error.details.error_code`.
    pub(crate) code: Option<String>,
    /// The body's `request_id`.
    pub(crate) request_id: Option<String>,
    /// The body says of itself that it is an error, as the API's do; other people's need not.
    pub(crate) enveloped: bool,
}

impl ApiError {
    /// Reads an error body; `None` when it is not the API's.
    pub(crate) fn parse(body: &str) -> Option<ApiError> {
        ApiError::read(&Fields::parse(body).ok()?)
    }

    /// The same, of an object already read.
    pub(crate) fn read(body: &Fields) -> Option<ApiError> {
        let error = body.object("error")?;
        Some(ApiError {
            kind: error.text("type").unwrap_or_default(),
            message: error.text("message").unwrap_or_default(),
            code: error.object("details").and_then(|details| details.text("error_code")),
            request_id: body.text("request_id"),
            enveloped: body.text("type").as_deref() == Some("error"),
        })
    }

    /// The stable word for its type, when the type is known.
    pub(crate) fn class(&self) -> Option<&'static str> {
        Some(match self.kind.as_str() {
            "invalid_request_error" => "invalid_request",
            "authentication_error" => "authentication",
            "permission_error" => "permission",
            "billing_error" => "billing",
            "not_found_error" => "not_found",
            "conflict_error" => "conflict",
            "request_too_large" => "request_too_large",
            "rate_limit_error" => "rate_limited",
            "overloaded_error" => "overloaded",
            "timeout_error" => "timeout",
            "api_error" => "api_error",
            _ => return None,
        })
    }

    fn has_code(&self, codes: &[&str]) -> bool {
        self.code.as_deref().is_some_and(|code| codes.contains(&code))
    }
}

/// What a response with a status other than 2xx means. `body` may be cut short.
pub(crate) fn outcome(head: &Head, body: &[u8], host: &str) -> (Outcome, Option<String>) {
    let body = String::from_utf8_lossy(body);
    let api = ApiError::parse(&body);
    let elsewhere = is_elsewhere(head.status, api.as_ref(), &body);
    let (kind, class) = match head.status {
        300..=399 => (FailureKind::NotReached, "redirect"),
        _ if elsewhere => (FailureKind::NotReached, NOT_THE_API),
        _ => meaning(head, &api.clone().unwrap_or_default()),
    };
    let failure = Failure {
        message: describe(head.status, host, api.as_ref(), elsewhere, &body),
        kind,
        class: class.into(),
    };
    let outcome = if api.is_none() && may_have_run(head.status) {
        Outcome::Unknown(failure)
    } else {
        Outcome::Failed(failure)
    };
    (outcome, api.and_then(|error| error.request_id))
}

/// What an error means that came with status 200 in the place of a streamed answer: the same as
/// under the status that goes with its type.
pub(crate) fn in_place_of_a_stream(head: &Head, error: &ApiError, host: &str) -> Failure {
    let status = match error.kind.as_str() {
        "invalid_request_error" => 400,
        "authentication_error" => 401,
        "billing_error" => 402,
        "permission_error" => 403,
        "not_found_error" => 404,
        "conflict_error" => 409,
        "request_too_large" => 413,
        "rate_limit_error" => 429,
        "timeout_error" => 504,
        "overloaded_error" => 529,
        _ => 500,
    };
    let (kind, class) = meaning(&Head { status, ..head.clone() }, error);
    let words = format!("{host} gave no answer: {}: {}", error.kind, error.message);
    Failure { kind, class: class.into(), message: tidy(&words, MESSAGE_CHARS_MAX) }
}

fn meaning(head: &Head, error: &ApiError) -> (FailureKind, &'static str) {
    match head.status {
        429 => too_many(head, error),
        400..=499 => client_error(head, error),
        _ => server_error(head, error),
    }
}

/// The API gives a 4xx with words of its own. Without them it was something before it that
/// answered: a wrong base URL, a proxy, a firewall. Only where the request, the key or the load
/// may be the cause, whoever answers, is the bare status believed; but a proxy that wants a login
/// shows a page, and so does a server that is spoken to in the wrong way. Of a path that it does
/// not have the API says "Not found", of a model that it does not have the model's name.
fn is_elsewhere(status: u16, api: Option<&ApiError>, body: &str) -> bool {
    match (api, status) {
        (Some(error), 404) => {
            let words = error.message.get(..9);
            !error.enveloped || words.is_some_and(|words| words.eq_ignore_ascii_case("not found"))
        }
        (Some(_), _) => false,
        (None, 400 | 401) => body.trim_start().starts_with('<'),
        (None, 402 | 408 | 409 | 413 | 422 | 429) => false,
        (None, _) => (400..500).contains(&status) || status == 511,
    }
}

/// A gateway that gave up waiting says nothing about what became of the call behind it; the
/// API's own errors are not billed.
fn may_have_run(status: u16) -> bool {
    matches!(status, 502 | 504 | 520 | 522 | 524)
}

/// 429 has three meanings: a limit of rates, usage that rose too fast, and a spend cap.
fn too_many(head: &Head, error: &ApiError) -> (FailureKind, &'static str) {
    let capped = error.has_code(&["enforced_spend_limit_reached", "contract_spend_limit_reached"]);
    if capped || is_spend_limit(error) {
        return spend_limit(head, error);
    }
    let message = error.message.to_ascii_lowercase();
    let ramp = error.has_code(&["ramp_limit_exceeded"]) || message.contains("usage increase rate");
    let kind = FailureKind::RateLimited {
        retry_after: head.retry_after,
        limit: named_limit(&message),
        ramp,
    };
    (kind, if ramp { "ramp_limited" } else { "rate_limited" })
}

/// The provider keeps no code for some states of the account, only these words.
fn is_spend_limit(error: &ApiError) -> bool {
    error.message.starts_with("You have reached your specified")
        || (error.message.starts_with("You have reached your")
            && regains_access(&error.message).is_some())
}

fn spend_limit(head: &Head, error: &ApiError) -> (FailureKind, &'static str) {
    let now = head.date.unwrap_or(head.at);
    let until = regains_access(&error.message).unwrap_or_else(|| next_month(now));
    // A date in the past would let every call through at once, to be refused again.
    let until = if until > now { until } else { now + SPEND_LIMIT_LOOK };
    let until = Some(head.to_local(until));
    (FailureKind::AccountParked { until }, "spend_limit")
}

fn client_error(head: &Head, error: &ApiError) -> (FailureKind, &'static str) {
    let parked = FailureKind::AccountParked { until: None };
    let transient = FailureKind::Transient { retry_after: head.retry_after };
    if is_spend_limit(error) {
        return spend_limit(head, error);
    }
    if error.has_code(&["organization_on_hold"])
        || error.message.starts_with("This organization has been disabled")
    {
        return (parked, "account_on_hold");
    }
    if head.status == 402
        || error.kind == "billing_error"
        || error.message.starts_with("Your credit balance is too low")
    {
        return (parked, "billing");
    }
    let gives_up = head.should_retry == Some(false);
    match head.status {
        401 => return (FailureKind::KeyRejected, "authentication"),
        403 => return (FailureKind::KeyRejected, "permission"),
        408 => return (if gives_up { FailureKind::Permanent } else { transient }, "timeout"),
        409 => return (if gives_up { FailureKind::Permanent } else { transient }, "conflict"),
        413 => return (FailureKind::Permanent, "request_too_large"),
        _ => {}
    }
    if error.has_code(&["request_body_timeout"]) {
        return (transient, "timeout");
    }
    let class = error.class().unwrap_or(match head.status {
        400 | 422 => "invalid_request",
        404 => "not_found",
        _ => "provider_error",
    });
    if head.should_retry == Some(true) {
        return (transient, class);
    }
    (FailureKind::Permanent, class)
}

fn server_error(head: &Head, error: &ApiError) -> (FailureKind, &'static str) {
    let retry_after = head.retry_after;
    // Being busy is nobody's fault and never uses up an attempt, whatever else is said of it.
    if head.status == 529 || error.kind == "overloaded_error" {
        return (FailureKind::Overloaded { retry_after }, "overloaded");
    }
    let class = error.class().unwrap_or(match head.status {
        504 | 524 => "timeout",
        _ => "api_error",
    });
    if head.should_retry == Some(false) {
        return (FailureKind::Permanent, class);
    }
    (FailureKind::Transient { retry_after }, class)
}

/// The limit a 429 names in its (lower-case) message.
fn named_limit(message: &str) -> Option<Dimension> {
    // The longer names first: "input tokens per minute" ends with "tokens per minute".
    [
        ("input tokens per", Dimension::InputTokens),
        ("output tokens per", Dimension::OutputTokens),
        ("requests per", Dimension::Requests),
        ("tokens per", Dimension::Tokens),
    ]
    .into_iter()
    .find(|(words, _)| message.contains(words))
    .map(|(_, dimension)| dimension)
}

/// "… regain access on 2026-09-01 at 00:00 UTC."
fn regains_access(message: &str) -> Option<Timestamp> {
    let (_, rest) = message.split_once("regain access on ")?;
    let date = rest.get(..10)?;
    let time = rest
        .get(10..)
        .and_then(|rest| rest.strip_prefix(" at "))
        .and_then(|rest| rest.get(..5))
        .unwrap_or("00:00");
    parse_rfc3339(&format!("{date}T{time}:00Z"))
        .or_else(|| parse_rfc3339(&format!("{date}T00:00:00Z")))
}

fn next_month(now: Timestamp) -> Timestamp {
    match zone("UTC") {
        Some(utc) => period(CalendarUnit::Month, &utc, now).1,
        None => now + Millis::DAY,
    }
}

fn describe(
    status: u16,
    host: &str,
    api: Option<&ApiError>,
    elsewhere: bool,
    body: &str,
) -> String {
    let words = match api {
        Some(error) if error.kind.is_empty() => error.message.clone(),
        Some(error) => format!("{}: {}", error.kind, error.message),
        None => tidy(body, QUOTE_CHARS_MAX),
    };
    let cure = match (status, api) {
        (300..=399, _) => " (redirects are never followed: set provider.base_url to its target)",
        _ if !elsewhere => "",
        (_, Some(_)) => " (no such path there: is provider.base_url right?)",
        (401 | 407 | 511, None) => {
            " (not the API's words: a proxy that wants a login? provider.base_url?)"
        }
        (403 | 451, None) => " (not the API's words: a firewall on the way? provider.base_url?)",
        (_, None) => " (not the API's words: is provider.base_url right?)",
    };
    let separator = if words.is_empty() { "" } else { ": " };
    tidy(&format!("HTTP {status} from {host}{cure}{separator}{words}"), MESSAGE_CHARS_MAX)
}

/// One line: runs of white space and control characters become a space; cut at `most`.
pub(crate) fn tidy(text: &str, most: usize) -> String {
    let mut line = String::new();
    let mut count = 0;
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()) {
        if word.is_empty() {
            continue;
        }
        if count > 0 {
            line.push(' ');
            count += 1;
        }
        for c in word.chars() {
            if count >= most {
                line.push('…');
                return line;
            }
            line.push(c);
            count += 1;
        }
    }
    line
}

#[cfg(test)]
#[path = "error_tests.rs"]
mod tests;
