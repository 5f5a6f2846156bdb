//! Which request meets which fault: by probability, by script, by a marker in its prompt.
//!
//! Invariant: times in rules are real milliseconds, since faults are aimed at the client's
//! clock; they and request numbers count from when the rules were set.

use super::errors::ApiError;
use super::fault_kind::Kind;
use super::matching;
use super::request::Ask;
use crate::clock::{Entropy, calendar};
use crate::domain::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;
use std::time::Duration;

/// A day: who stalls longer stalls for ever.
const STALL_MS_MAX: u64 = 86_400_000;

/// When a fault happens, and how it looks. All conditions given must hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultRule {
    /// What happens.
    pub kind: Kind,
    /// The dice, from 0 to 1.
    #[serde(default = "one")]
    pub probability: f64,
    /// Not before this many real milliseconds.
    #[serde(default)]
    pub from_ms: Option<u64>,
    /// Not from this many real milliseconds on.
    #[serde(default)]
    pub until_ms: Option<u64>,
    /// Exactly the k-th request to `/v1/messages`, counted from 1.
    #[serde(default)]
    pub request: Option<u64>,
    /// From the k-th request on.
    #[serde(default)]
    pub from_request: Option<u64>,
    /// Up to the k-th request, included.
    #[serde(default)]
    pub to_request: Option<u64>,
    /// Only prompts with this text in them.
    #[serde(default)]
    pub contains: Option<String>,
    /// Only models of this pattern (`*` stands for any text).
    #[serde(default)]
    pub model: Option<String>,
    /// At most this often in all.
    #[serde(default)]
    pub times: Option<u64>,
    /// At most this often for one and the same body.
    #[serde(default)]
    pub times_per_body: Option<u64>,
    /// The status, where the kind leaves it open.
    #[serde(default)]
    pub status: Option<u16>,
    /// The text of a `retry-after` header.
    #[serde(default)]
    pub retry_after: Option<String>,
    /// Sends `retry_after` (seconds) as an HTTP date.
    #[serde(default)]
    pub retry_after_date: bool,
    /// An `x-should-retry` header.
    #[serde(default)]
    pub should_retry: Option<bool>,
    /// How long a stall or a slow start lasts, in real milliseconds.
    #[serde(default)]
    pub stall_ms: Option<u64>,
    /// Bytes of a bomb, an oversized body, a huge header.
    #[serde(default)]
    pub size: Option<u64>,
    /// Where a redirect leads.
    #[serde(default)]
    pub location: Option<String>,
}

fn one() -> f64 {
    1.0
}

impl FaultRule {
    /// A rule that always holds; narrow it down with its fields.
    pub fn new(kind: Kind) -> FaultRule {
        FaultRule {
            kind,
            probability: 1.0,
            from_ms: None,
            until_ms: None,
            request: None,
            from_request: None,
            to_request: None,
            contains: None,
            model: None,
            times: None,
            times_per_body: None,
            status: None,
            retry_after: None,
            retry_after_date: false,
            should_retry: None,
            stall_ms: None,
            size: None,
            location: None,
        }
    }

    /// Reads what stands in a `[[fault=KIND,times=2,retry_after=3]]` marker.
    ///
    /// `times` counts per body there; unknown kinds and settings give `None`.
    fn from_marker(text: &str) -> Option<FaultRule> {
        let mut parts = text.split(',').map(str::trim);
        let mut rule = FaultRule::new(parts.next()?.parse().ok()?);
        for part in parts {
            let (name, value) = part.split_once('=')?;
            match name {
                "times" => rule.times_per_body = Some(value.parse().ok()?),
                "status" => rule.status = Some(value.parse().ok()?),
                "retry_after" => rule.retry_after = Some(value.to_owned()),
                "retry_after_date" => rule.retry_after_date = value.parse().ok()?,
                "should_retry" => rule.should_retry = Some(value.parse().ok()?),
                "stall_ms" => rule.stall_ms = Some(value.parse().ok()?),
                "size" => rule.size = Some(value.parse().ok()?),
                "location" => rule.location = Some(value.to_owned()),
                _ => return None,
            }
        }
        Some(rule)
    }

    fn holds(&self, now: Duration, number: u64, ask: &Ask) -> bool {
        let ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        self.kind.applies_to(ask.stream)
            && self.from_ms.is_none_or(|from| ms >= from)
            && self.until_ms.is_none_or(|until| ms < until)
            && self.request.is_none_or(|request| request == number)
            && self.from_request.is_none_or(|from| number >= from)
            && self.to_request.is_none_or(|to| number <= to)
            && self.contains.as_ref().is_none_or(|text| ask.prompt.contains(text.as_str()))
            && self.model.as_ref().is_none_or(|pattern| matching::glob(pattern, &ask.model))
    }

    /// How long a stall or slow start lasts.
    pub(super) fn stall(&self) -> Duration {
        Duration::from_millis(self.stall_ms.unwrap_or(30_000).min(STALL_MS_MAX))
    }

    /// The error this fault answers with instead of running the request, if it is one.
    pub(super) fn error(&self, now: Timestamp) -> Option<ApiError> {
        let mut error = match self.kind {
            Kind::Status(413) => page(413, "Request Entity Too Large"),
            Kind::Status(status) => ApiError::new(status, status_message(status)),
            Kind::Html502 => page(502, "Bad Gateway"),
            Kind::UnknownError => {
                let error = ApiError::new(self.status.unwrap_or(500), "Something new happened");
                ApiError { kind: "lunar_eclipse_error".into(), ..error }.with_code("moon_phase_7")
            }
            Kind::DetailsNull => ApiError {
                details: Some(Value::Null),
                ..ApiError::new(self.status.unwrap_or(529), "Overloaded")
            },
            Kind::BareRateLimit => ApiError::new(429, "Error"),
            Kind::RampLimit => ApiError { retry_after: Some("5".into()), ..ApiError::ramp() },
            Kind::SseRefusal => {
                let status = self.status.unwrap_or(529);
                ApiError { event: true, ..ApiError::new(status, status_message(status)) }
            }
            Kind::SpendCap => ApiError::new(
                429,
                format!(
                    "You have reached your API usage limits: your organization has crossed its \
                     monthly API usage threshold, and access is paused until the month ends. \
                     You will regain access on {} at 00:00 UTC.",
                    next_month(now)
                ),
            )
            .with_code("enforced_spend_limit_reached"),
            Kind::OwnLimit => ApiError::invalid(format!(
                "You have reached your specified API usage limits. You will regain access on \
                 {} at 00:00 UTC.",
                next_month(now)
            )),
            Kind::OnHold => {
                ApiError::invalid("This organization is on hold.").with_code("organization_on_hold")
            }
            Kind::BodyTimeout => ApiError::invalid("Timed out while reading the request body.")
                .with_code("request_body_timeout"),
            _ => return None,
        };
        if self.retry_after.is_some() {
            error.retry_after.clone_from(&self.retry_after);
        }
        error.should_retry = self.should_retry;
        Some(error)
    }
}

/// The first day of the next month, as messages have it.
fn next_month(now: Timestamp) -> String {
    let today = calendar::rfc3339(now);
    let part = |from: usize, to: usize| today.get(from..to)?.parse::<u32>().ok();
    match (part(0, 4), part(5, 7)) {
        (Some(year), Some(12)) => format!("{:04}-01-01", year + 1),
        (Some(year), Some(month)) => format!("{year:04}-{:02}-01", month + 1),
        _ => "the first of next month".to_owned(),
    }
}

fn page(status: u16, message: &str) -> ApiError {
    ApiError { html: true, ..ApiError::new(status, message) }
}

fn status_message(status: u16) -> &'static str {
    match status {
        400 => "Invalid request",
        401 => "invalid x-api-key",
        402 => "Your account has an unpaid invoice.",
        403 => "Your API key does not have permission to use the specified resource",
        404 => "The requested resource could not be found",
        408 | 504 => "Request timed out",
        409 => "The request conflicts with another one",
        429 => "This request would exceed your organization's rate limit.",
        529 => "Overloaded",
        _ => "Internal server error",
    }
}

/// The rules in force and what they have done so far.
pub(super) struct Faults {
    rules: Vec<Armed>,
    dice: Entropy,
    since: Duration,
    requests: u64,
    /// How often a body's own marker has fired.
    marked: HashMap<u64, u64>,
}

struct Armed {
    rule: FaultRule,
    fired: u64,
    by_body: HashMap<u64, u64>,
}

impl Faults {
    /// Arms `rules` at `now` (real time since the start).
    pub(super) fn new(rules: Vec<FaultRule>, seed: u64, now: Duration) -> Faults {
        let arm = |rule| Armed { rule, fired: 0, by_body: HashMap::new() };
        Faults {
            rules: rules.into_iter().map(arm).collect(),
            dice: Entropy::seeded(seed),
            since: now,
            requests: 0,
            marked: HashMap::new(),
        }
    }

    /// Counts a request and says what befalls it.
    pub(super) fn pick(&mut self, now: Duration, ask: &Ask) -> Option<FaultRule> {
        self.requests += 1;
        if let Some(rule) = ask.marker("fault").and_then(FaultRule::from_marker) {
            let fired = self.marked.entry(ask.body_hash).or_default();
            if rule.kind.applies_to(ask.stream) && rule.times_per_body.is_none_or(|n| *fired < n) {
                *fired += 1;
                return Some(rule);
            }
        }
        let now = now.saturating_sub(self.since);
        for armed in &mut self.rules {
            let rule = &armed.rule;
            if rule.times.is_some_and(|times| armed.fired >= times)
                || !rule.holds(now, self.requests, ask)
            {
                continue;
            }
            let of_body = armed.by_body.get(&ask.body_hash).copied().unwrap_or(0);
            if rule.times_per_body.is_some_and(|times| of_body >= times)
                || (rule.probability < 1.0 && self.dice.unit().get() >= rule.probability)
            {
                continue;
            }
            armed.fired += 1;
            if rule.times_per_body.is_some() {
                armed.by_body.insert(ask.body_hash, of_body + 1);
            }
            return Some(rule.clone());
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(prompt: &str, hash: u64) -> Ask {
        Ask { prompt: prompt.into(), model: "m-1".into(), body_hash: hash, ..Ask::default() }
    }

    fn play(rules: Vec<FaultRule>, asks: &[(u64, Ask)]) -> Vec<bool> {
        let mut faults = Faults::new(rules, 7, Duration::ZERO);
        let pick = |(ms, ask): &(u64, Ask)| faults.pick(Duration::from_millis(*ms), ask).is_some();
        asks.iter().map(pick).collect()
    }

    #[test]
    fn the_kth_request_or_a_range() {
        let asks = vec![(0, ask("x", 1)); 5];
        let third = FaultRule { request: Some(3), ..FaultRule::new(Kind::Status(529)) };
        assert_eq!(play(vec![third], &asks), [false, false, true, false, false]);
        let range = FaultRule {
            from_request: Some(2),
            to_request: Some(4),
            times: Some(2),
            ..FaultRule::new(Kind::Reset)
        };
        assert_eq!(play(vec![range], &asks), [false, true, true, false, false]);
    }

    #[test]
    fn by_time_text_model_and_body() {
        let rule = FaultRule {
            from_ms: Some(10),
            until_ms: Some(20),
            contains: Some("boom".into()),
            model: Some("m-*".into()),
            times_per_body: Some(1),
            ..FaultRule::new(Kind::Garbage)
        };
        let asks = [
            (9, ask("boom", 1)),
            (10, ask("boom", 1)),
            (11, ask("boom", 1)),
            (12, ask("boom", 2)),
            (13, ask("quiet", 3)),
            (20, ask("boom", 4)),
        ];
        assert_eq!(play(vec![rule], &asks), [false, true, false, true, false, false]);
    }

    #[test]
    fn markers_say_what_how_and_how_often() {
        let mut faults = Faults::new(Vec::new(), 7, Duration::ZERO);
        let ask = ask("x [[fault=529, times=2, retry_after=3]]", 1);
        let fault = faults.pick(Duration::ZERO, &ask).unwrap();
        let error = fault.error(Timestamp(0)).unwrap();
        assert_eq!(error.retry_after.as_deref(), Some("3"));
        assert!(faults.pick(Duration::ZERO, &ask).is_some());
        assert!(faults.pick(Duration::ZERO, &ask).is_none());
    }

    #[test]
    fn spend_limits_name_the_day_they_end() {
        for (now, end) in [
            ("2026-11-24T23:59:59Z", "2026-12-01"),
            ("2026-12-01T00:00:00Z", "2027-01-01"),
            ("2024-02-29T12:00:00Z", "2024-03-01"),
        ] {
            assert_eq!(next_month(calendar::parse_rfc3339(now).unwrap()), end);
        }
    }

    #[test]
    fn the_same_seed_throws_the_same_dice() {
        let rule = FaultRule { probability: 0.3, ..FaultRule::new(Kind::Status(500)) };
        let asks = vec![(0, ask("x", 1)); 1_000];
        let first = play(vec![rule.clone()], &asks);
        assert_eq!(first, play(vec![rule], &asks));
        let fired = first.iter().filter(|fired| **fired).count();
        assert!((230..370).contains(&fired), "{fired}");
    }
}
