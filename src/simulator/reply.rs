//! Responses: the headers every one of them has, and errors.

use super::app::App;
use super::errors::ApiError;
use super::fault_kind::Kind;
use super::faults::FaultRule;
use super::pool::{Dimension, Level};
use crate::clock::calendar;
use crate::domain::time::{Millis, Timestamp};
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use std::time::Duration;

const MEGABYTE: u64 = 1_000_000;

/// A response with the headers that all have.
pub(super) fn respond(
    app: &App,
    request_id: &str,
    levels: &[Level],
    fault: Option<&FaultRule>,
    body: impl Into<Body>,
) -> Response {
    let mut response = Response::new(body.into());
    let headers = response.headers_mut();
    set(headers, "request-id", request_id);
    set(headers, "anthropic-organization-id", &app.organization);
    set(headers, "date", &http_date(app.clock.now()));
    set(headers, "content-type", "application/json");
    match fault.map(|fault| fault.kind) {
        Some(Kind::NoHeaders) => {}
        Some(Kind::OddHeaders) => odd_limits(headers),
        _ => limits(app, headers, levels),
    }
    if let Some(fault) = fault.filter(|fault| fault.kind == Kind::HugeHeader) {
        let size = fault.size.unwrap_or(MEGABYTE).min(100 * MEGABYTE);
        let size = usize::try_from(size).unwrap_or(0);
        set(headers, "x-huge", &"x".repeat(size));
    }
    response
}

/// The response to a refusal.
pub(super) fn refuse(
    app: &App,
    request_id: &str,
    levels: &[Level],
    error: &ApiError,
    fault: Option<&FaultRule>,
) -> Response {
    let mut response = respond(app, request_id, levels, fault, error.body(request_id));
    if !error.event {
        *response.status_mut() =
            StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    }
    let headers = response.headers_mut();
    if error.event {
        set(headers, "content-type", "text/event-stream; charset=utf-8");
    }
    if error.html {
        set(headers, "content-type", "text/html");
    }
    if let Some(wait) = &error.retry_after {
        let as_date = fault.is_some_and(|fault| fault.retry_after_date);
        let date = as_date.then(|| wait.parse().ok().and_then(|wait| date_after(app, wait)));
        set(headers, "retry-after", date.flatten().as_deref().unwrap_or(wait));
    }
    if let Some(should) = error.should_retry {
        set(headers, "x-should-retry", if should { "true" } else { "false" });
    }
    response
}

/// Sets a header; a value that HTTP cannot carry is left out.
pub(super) fn set(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

fn limits(app: &App, headers: &mut HeaderMap, levels: &[Level]) {
    let find = |dimension| levels.iter().find(|level| level.dimension == dimension).copied();
    let input = find(Dimension::InputTokens);
    let output = find(Dimension::OutputTokens);
    if let Some(level) = find(Dimension::Requests) {
        limit(app, headers, level, level.remaining, REQUESTS);
    }
    if let Some(level) = input {
        limit(app, headers, level, to_thousand(level.remaining), INPUT);
    }
    if let Some(level) = output {
        limit(app, headers, level, to_thousand(level.remaining), OUTPUT);
    }
    let both = input.zip(output).map(|(input, output)| Level {
        dimension: Dimension::Tokens,
        amount: input.amount + output.amount,
        remaining: input.remaining + output.remaining,
        until_full: input.until_full.max(output.until_full),
    });
    if let Some(level) = find(Dimension::Tokens).or(both) {
        limit(app, headers, level, to_thousand(level.remaining), TOKENS);
    }
}

/// The three headers of one limit.
type Names = [&'static str; 3];

const REQUESTS: Names = [
    "anthropic-ratelimit-requests-limit",
    "anthropic-ratelimit-requests-remaining",
    "anthropic-ratelimit-requests-reset",
];
const INPUT: Names = [
    "anthropic-ratelimit-input-tokens-limit",
    "anthropic-ratelimit-input-tokens-remaining",
    "anthropic-ratelimit-input-tokens-reset",
];
const OUTPUT: Names = [
    "anthropic-ratelimit-output-tokens-limit",
    "anthropic-ratelimit-output-tokens-remaining",
    "anthropic-ratelimit-output-tokens-reset",
];
const TOKENS: Names = [
    "anthropic-ratelimit-tokens-limit",
    "anthropic-ratelimit-tokens-remaining",
    "anthropic-ratelimit-tokens-reset",
];

fn limit(app: &App, headers: &mut HeaderMap, level: Level, remaining: u64, names: Names) {
    set(headers, names[0], &app.per_real_minute(level.amount).to_string());
    set(headers, names[1], &remaining.to_string());
    let full = app.clock.now() + Millis::from(app.real(level.until_full));
    set(headers, names[2], &calendar::rfc3339(whole_second(full)));
}

fn odd_limits(headers: &mut HeaderMap) {
    set(headers, REQUESTS[0], "-1");
    set(headers, REQUESTS[1], "many");
    set(headers, REQUESTS[2], "yesterday");
    set(headers, INPUT[0], "0");
    set(headers, INPUT[1], "99999999999999999999999");
    set(headers, INPUT[2], "0001-01-01T00:00:00Z");
    set(headers, OUTPUT[0], "1e9");
    set(headers, OUTPUT[1], "");
    set(headers, OUTPUT[2], "9999-12-31T23:59:60Z");
}

fn to_thousand(tokens: u64) -> u64 {
    (tokens + 500) / 1_000 * 1_000
}

/// Rounds up: a reset must not be told before it is true.
fn whole_second(at: Timestamp) -> Timestamp {
    Timestamp(at.0.saturating_add(999).div_euclid(1_000) * 1_000)
}

fn date_after(app: &App, seconds: f64) -> Option<String> {
    let span = Duration::try_from_secs_f64(seconds).ok()?;
    Some(http_date(whole_second(app.clock.now() + Millis::from(span))))
}

/// The IMF-fixdate form of RFC 9110, put together from the RFC 3339 one.
fn http_date(at: Timestamp) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let at = Timestamp(at.0.div_euclid(1_000) * 1_000);
    // The first of January 1970 was a Thursday.
    let day = usize::try_from(at.0.div_euclid(86_400_000).rem_euclid(7)).unwrap_or(0);
    let text = calendar::rfc3339(at);
    let parts = (text.get(0..4), text.get(5..7), text.get(8..10), text.get(11..19));
    let (Some(year), Some(month), Some(date), Some(time)) = parts else {
        return text;
    };
    let month = month.parse().ok().and_then(|month: usize| MONTHS.get(month.wrapping_sub(1)));
    format!("{}, {date} {} {year} {time} GMT", DAYS[day], month.unwrap_or(&"Jan"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_back() {
        for seconds in [0, 784_111_777, 1_795_000_000, 1_772_323_199] {
            let at = Timestamp(seconds * 1_000);
            assert_eq!(calendar::parse_http_date(&http_date(at)), Some(at), "{}", http_date(at));
        }
        assert_eq!(http_date(Timestamp(784_111_777_000)), "Sun, 06 Nov 1994 08:49:37 GMT");
    }

    #[test]
    fn tokens_are_rounded_to_the_nearest_thousand() {
        assert_eq!([0, 499, 500, 1_499, 79_999].map(to_thousand), [0, 0, 1_000, 1_000, 80_000]);
    }

    #[test]
    fn resets_are_rounded_up() {
        assert_eq!(whole_second(Timestamp(1_001)), Timestamp(2_000));
        assert_eq!(whole_second(Timestamp(2_000)), Timestamp(2_000));
    }
}
