//! What a response's headers say: waits, limits, ids.
//!
//! Invariant: times of the provider are measured against its own `Date`, so that a wrong local
//! clock neither shortens nor lengthens a wait.

use crate::clock::calendar::{parse_http_date, parse_rfc3339};
use crate::domain::attempt::ObservedLimit;
use crate::domain::limit::Dimension;
use crate::domain::time::{Millis, Timestamp};
use reqwest::header::HeaderMap;
use serde_json::{Map, Value};

/// No value that is read here is longer; half of one would say nothing, or tell a part of a key.
const VALUE_CHARS_MAX: usize = 200;

/// No limit is as high. The ledger's sums are made for what is lower; a level far above what it
/// can hold would look like a pool without anything left.
const COUNT_MAX: i64 = 1_000_000_000_000;

/// The headers that are written down with the attempt.
const RECORDED: &[&str] = &[
    "request-id",
    "retry-after",
    "retry-after-ms",
    "x-should-retry",
    "anthropic-ratelimit-requests-limit",
    "anthropic-ratelimit-requests-remaining",
    "anthropic-ratelimit-requests-reset",
    "anthropic-ratelimit-input-tokens-limit",
    "anthropic-ratelimit-input-tokens-remaining",
    "anthropic-ratelimit-input-tokens-reset",
    "anthropic-ratelimit-output-tokens-limit",
    "anthropic-ratelimit-output-tokens-remaining",
    "anthropic-ratelimit-output-tokens-reset",
    "anthropic-ratelimit-tokens-limit",
    "anthropic-ratelimit-tokens-remaining",
    "anthropic-ratelimit-tokens-reset",
];

/// A response's head, as far as it matters.
#[derive(Clone, Debug, Default)]
pub(crate) struct Head {
    /// HTTP status.
    pub(crate) status: u16,
    /// The provider's id of the call.
    pub(crate) request_id: Option<String>,
    /// How long it wants us to wait.
    pub(crate) retry_after: Option<Millis>,
    /// Its word on a retry, above the status code.
    pub(crate) should_retry: Option<bool>,
    /// Its clock.
    pub(crate) date: Option<Timestamp>,
    /// When the head arrived, by ours.
    pub(crate) at: Timestamp,
    /// The limits it names.
    pub(crate) limits: Vec<ObservedLimit>,
    /// A JSON object of the recorded headers.
    pub(crate) record: Option<String>,
    /// Media type of the body, lower case, without parameters.
    pub(crate) media_type: String,
}

impl Head {
    /// Reads status and headers; `at` is the local time.
    pub(crate) fn read(status: u16, headers: &HeaderMap, at: Timestamp) -> Head {
        let date = text(headers, "date").and_then(|date| parse_http_date(&date));
        let media_type = text(headers, "content-type").unwrap_or_default();
        let media_type = media_type.split(';').next().unwrap_or_default();
        Head {
            status,
            request_id: text(headers, "request-id"),
            retry_after: retry_after(headers, date.unwrap_or(at)),
            should_retry: match text(headers, "x-should-retry").as_deref() {
                Some("true") => Some(true),
                Some("false") => Some(false),
                _ => None,
            },
            date,
            at,
            limits: limits(headers, date.unwrap_or(at)),
            record: record(headers),
            media_type: media_type.trim().to_ascii_lowercase(),
        }
    }

    /// A time of the provider's clock on ours.
    pub(crate) fn to_local(&self, theirs: Timestamp) -> Timestamp {
        let ahead = self.date.unwrap_or(self.at).0.saturating_sub(self.at.0);
        Timestamp(theirs.0.saturating_sub(ahead))
    }
}

/// `retry-after-ms`, else `retry-after` in seconds or as a date measured against `now`.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Millis> {
    let millis = text(headers, "retry-after-ms").and_then(|value| number(&value, 1.0));
    millis.or_else(|| {
        let value = text(headers, "retry-after")?;
        number(&value, 1_000.0).or_else(|| {
            let until = parse_http_date(&value)?;
            // A date that has passed says nothing, like a negative number.
            (until > now).then(|| until.since(now))
        })
    })
}

/// A number above zero, in the given unit of milliseconds, rounded up. Zero is no wish, and who
/// took it for one would come back at once, again and again.
fn number(value: &str, unit: f64) -> Option<Millis> {
    let count: f64 = value.trim().parse().ok()?;
    if !count.is_finite() || count <= 0.0 {
        return None;
    }
    // Absurd waits saturate; the gate clamps them.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "float to integer saturates, which is what is wanted"
    )]
    let millis = (count * unit).ceil() as i64;
    Some(Millis(millis))
}

/// The limits, with waits measured against the provider's `now`.
fn limits(headers: &HeaderMap, now: Timestamp) -> Vec<ObservedLimit> {
    [
        (Dimension::Requests, "requests"),
        (Dimension::InputTokens, "input-tokens"),
        (Dimension::OutputTokens, "output-tokens"),
        (Dimension::Tokens, "tokens"),
    ]
    .into_iter()
    .filter_map(|(dimension, word)| {
        let word = |what| text(headers, &format!("anthropic-ratelimit-{word}-{what}"));
        let read = |what| -> Option<i64> {
            word(what)?.trim().parse().ok().filter(|count| *count <= COUNT_MAX)
        };
        let full_at = word("reset").and_then(|at| parse_rfc3339(at.trim()));
        let limit = read("limit").filter(|limit| *limit >= 1)?;
        Some(ObservedLimit {
            dimension,
            limit,
            remaining: read("remaining").map(|left| left.max(0)),
            until_full: full_at.map(|at| at.since(now)),
        })
    })
    .collect()
}

fn record(headers: &HeaderMap) -> Option<String> {
    let kept: Map<String, Value> = RECORDED
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), text(headers, name)?.into())))
        .collect();
    (!kept.is_empty()).then(|| Value::Object(kept).to_string())
}

/// A header's value, unless it is too long; bytes that are no UTF-8 are replaced.
fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(name)?;
    let value = String::from_utf8_lossy(value.as_bytes());
    let value = value.trim();
    (value.chars().count() <= VALUE_CHARS_MAX).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::calendar::parse_rfc3339;
    use reqwest::header::{HeaderName, HeaderValue};

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_bytes(name.as_bytes()).unwrap(),
                    HeaderValue::from_str(value).unwrap(),
                )
            })
            .collect()
    }

    fn local() -> Timestamp {
        parse_rfc3339("2026-11-24T12:00:00Z").unwrap()
    }

    fn wait(pairs: &[(&str, &str)]) -> Option<i64> {
        Head::read(429, &headers(pairs), local()).retry_after.map(|wait| wait.0)
    }

    #[test]
    fn every_form_of_retry_after() {
        for (value, millis) in [
            ("7", Some(7_000)),
            ("0", None),
            ("0.0", None),
            ("-0", None),
            ("0.25", Some(250)),
            ("0.0001", Some(1)),
            ("1.0001", Some(1_001)),
            (" 3 ", Some(3_000)),
            ("-1", None),
            ("-0.5", None),
            ("soon", None),
            ("", None),
            ("inf", None),
            ("NaN", None),
            ("1e400", None),
            ("7, 9", None),
            ("7s", None),
            ("0x7", None),
            ("99999999999999999999", Some(i64::MAX)),
            // The local clock stands in for a missing Date.
            ("Tue, 24 Nov 2026 12:00:30 GMT", Some(30_000)),
            ("Tue, 24 Nov 2026 12:00:00 GMT", None),
            ("Tue, 24 Nov 2026 11:59:30 GMT", None),
            ("Thu, 24 Dec 2099 12:00:00 GMT", Some(2_306_275_200_000)),
        ] {
            assert_eq!(wait(&[("retry-after", value)]), millis, "{value}");
        }
    }

    #[test]
    fn milliseconds_come_first_and_dates_are_measured_against_theirs() {
        assert_eq!(wait(&[("retry-after", "7"), ("retry-after-ms", "1500.2")]), Some(1_501));
        for nothing in ["x", "0", "-5", "", "nan"] {
            let both = [("retry-after", "7"), ("retry-after-ms", nothing)];
            assert_eq!(wait(&both), Some(7_000), "{nothing}");
        }
        let theirs = ("date", "Tue, 24 Nov 2026 15:00:00 GMT");
        assert_eq!(wait(&[theirs, ("retry-after", "Tue, 24 Nov 2026 15:00:02 GMT")]), Some(2_000));
        let head = Head::read(429, &headers(&[theirs]), local());
        let until = parse_rfc3339("2026-11-24T15:30:00Z").unwrap();
        assert_eq!(head.to_local(until), local() + Millis::from_secs(1_800));
    }

    #[test]
    fn limits_are_read_and_nonsense_is_not() {
        let head = Head::read(
            200,
            &headers(&[
                ("anthropic-ratelimit-requests-limit", "50"),
                ("anthropic-ratelimit-requests-remaining", "49"),
                ("anthropic-ratelimit-input-tokens-limit", "30000"),
                ("anthropic-ratelimit-output-tokens-limit", "many"),
                ("anthropic-ratelimit-tokens-limit", "0"),
                ("x-should-retry", "false"),
                ("content-type", "Text/Event-Stream; charset=utf-8"),
            ]),
            local(),
        );
        assert_eq!(
            head.limits,
            [
                ObservedLimit {
                    dimension: Dimension::Requests,
                    limit: 50,
                    remaining: Some(49),
                    until_full: None
                },
                ObservedLimit {
                    dimension: Dimension::InputTokens,
                    limit: 30_000,
                    remaining: None,
                    until_full: None
                },
            ]
        );
        assert_eq!(head.should_retry, Some(false));
        assert_eq!(head.media_type, "text/event-stream");
    }

    /// Whatever a gateway makes of them, the ledger can take what is left.
    #[test]
    fn absurd_limits_reach_no_ledger() {
        let most = i64::MAX.to_string();
        let limit = |limit: &str, remaining: &str| {
            let pairs = [
                ("anthropic-ratelimit-requests-limit", limit),
                ("anthropic-ratelimit-requests-remaining", remaining),
                ("anthropic-ratelimit-requests-reset", "9999-12-31T23:59:60Z"),
                ("anthropic-priority-input-tokens-limit", "7"),
                ("anthropic-fast-output-tokens-limit", "7"),
            ];
            let head = Head::read(200, &headers(&pairs), local());
            assert!(head.limits.len() <= 1, "{:?}", head.limits);
            head.limits.first().map(|seen| (seen.limit, seen.remaining))
        };
        assert_eq!(limit("50", "51"), Some((50, Some(51))), "a burst may be above a minute's");
        assert_eq!(limit("50", "-3"), Some((50, Some(0))));
        for odd in [most.as_str(), "1000000000001", "1e3", "4.0", "", "many", "0x7"] {
            assert_eq!(limit("50", odd), Some((50, None)), "{odd}");
            assert_eq!(limit(odd, "50"), None, "{odd}");
        }
    }

    #[test]
    fn the_record_is_a_fixed_list_with_short_values() {
        let (long, longest) = ("9".repeat(201), "9".repeat(200));
        let head = Head::read(
            200,
            &headers(&[
                ("request-id", &longest),
                ("set-cookie", "a=b"),
                ("x-should-retry", "true"),
                ("retry-after", &long),
            ]),
            local(),
        );
        let record: Value = serde_json::from_str(&head.record.unwrap()).unwrap();
        assert_eq!(record, serde_json::json!({ "request-id": longest, "x-should-retry": "true" }));
        assert_eq!(head.retry_after, None, "half of a value says nothing");
        assert!(Head::read(200, &HeaderMap::new(), local()).record.is_none());
    }
}
