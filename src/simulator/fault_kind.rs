//! The kinds of faults and their names.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What goes wrong. In files and markers a kind is its name, a status its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Kind {
    /// `"500"`, `"529"` …: an error with that status; 413 is a proxy's page. Not billed, like
    /// all errors.
    Status(u16),
    /// An error of a type nobody has heard of (`status`, 500 by default).
    UnknownError,
    /// `details: null` (`status`, 529 by default).
    DetailsNull,
    /// A 429 that names no limit and, unless given, no time.
    BareRateLimit,
    /// The acceleration limiter's 429.
    RampLimit,
    /// The 429 of the monthly spend cap: no `retry-after`.
    SpendCap,
    /// The 400 of the limit somebody set for himself.
    OwnLimit,
    /// 400 `organization_on_hold`.
    OnHold,
    /// 400 `request_body_timeout`.
    BodyTimeout,
    /// A proxy's page.
    Html502,
    /// 307 to another host (`location`).
    Redirect,
    /// Connection reset before anything ran: not billed.
    Reset,
    /// Connection closed before anything ran: not billed.
    Close,
    /// Connection reset after the answer was made and billed, before its first byte.
    ResetAfter,
    /// Half of the answer, then a reset.
    ResetBody,
    /// Half of the announced length, then the connection closes.
    CutBody,
    /// Half of a chunked answer, then the connection closes.
    CutChunked,
    /// Half of an answer that only ends with its connection: nothing tells it from a whole one.
    CutClose,
    /// Nothing for `stall_ms`, then the answer.
    Stall,
    /// Half of the answer, nothing for `stall_ms`, then the rest.
    StallBody,
    /// The first token takes `stall_ms` longer.
    SlowStart,
    /// An error event in the middle of a stream (`status`, 529 by default, gives its type).
    SseError,
    /// An error event in the place of a streamed answer, after a 200; not billed.
    SseRefusal,
    /// A stream that ends in good order, but without `message_stop`.
    SseCut,
    /// A plain message for a request that asked for a stream.
    JsonToStream,
    /// 200 with a body that is no JSON.
    Garbage,
    /// The answer compressed, whether the client asked for it or not.
    Gzip,
    /// A small compressed body that unfolds to `size` bytes (300 MB by default).
    GzipBomb,
    /// A body that never ends.
    Endless,
    /// A body of `size` bytes (40 MB by default).
    Oversized,
    /// A message without `usage`.
    UsageMissing,
    /// A `usage` with negative, textual, absurd or absent numbers.
    UsageOdd,
    /// No rate limit headers.
    NoHeaders,
    /// Rate limit headers that make no sense.
    OddHeaders,
    /// One header of `size` bytes (1 MB by default).
    HugeHeader,
}

const NAMES: [(&str, Kind); 34] = [
    ("unknown_error", Kind::UnknownError),
    ("details_null", Kind::DetailsNull),
    ("bare_rate_limit", Kind::BareRateLimit),
    ("ramp_limit", Kind::RampLimit),
    ("spend_cap", Kind::SpendCap),
    ("own_limit", Kind::OwnLimit),
    ("on_hold", Kind::OnHold),
    ("body_timeout", Kind::BodyTimeout),
    ("html_502", Kind::Html502),
    ("redirect", Kind::Redirect),
    ("reset", Kind::Reset),
    ("close", Kind::Close),
    ("reset_after", Kind::ResetAfter),
    ("reset_body", Kind::ResetBody),
    ("cut_body", Kind::CutBody),
    ("cut_chunked", Kind::CutChunked),
    ("cut_close", Kind::CutClose),
    ("stall", Kind::Stall),
    ("stall_body", Kind::StallBody),
    ("slow_start", Kind::SlowStart),
    ("sse_error", Kind::SseError),
    ("sse_refusal", Kind::SseRefusal),
    ("sse_cut", Kind::SseCut),
    ("json_to_stream", Kind::JsonToStream),
    ("garbage", Kind::Garbage),
    ("gzip", Kind::Gzip),
    ("gzip_bomb", Kind::GzipBomb),
    ("endless", Kind::Endless),
    ("oversized", Kind::Oversized),
    ("usage_missing", Kind::UsageMissing),
    ("usage_odd", Kind::UsageOdd),
    ("no_headers", Kind::NoHeaders),
    ("odd_headers", Kind::OddHeaders),
    ("huge_header", Kind::HugeHeader),
];

impl Kind {
    /// Every kind but the plain statuses.
    pub fn all() -> impl Iterator<Item = Kind> {
        NAMES.iter().map(|(_, kind)| *kind)
    }

    /// Some faults exist only in streams.
    pub(super) fn applies_to(self, stream: bool) -> bool {
        let only_in_streams = [Kind::SseError, Kind::SseRefusal, Kind::SseCut, Kind::JsonToStream];
        stream || !only_in_streams.contains(&self)
    }

    /// Whether a streaming request gets a plain body all the same.
    pub(super) fn is_plain_body(self) -> bool {
        matches!(
            self,
            Kind::JsonToStream
                | Kind::Garbage
                | Kind::Gzip
                | Kind::GzipBomb
                | Kind::Endless
                | Kind::Oversized
        )
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Kind::Status(status) = self {
            return write!(f, "{status}");
        }
        f.write_str(NAMES.iter().find(|(_, kind)| kind == self).map_or("?", |(name, _)| name))
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Kind, String> {
        if let Ok(status) = text.parse::<u16>()
            && (400..600).contains(&status)
        {
            return Ok(Kind::Status(status));
        }
        let known = NAMES.iter().find(|(name, _)| *name == text).map(|(_, kind)| *kind);
        known.ok_or_else(|| {
            let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
            format!("unknown fault '{text}' (known: 400 … 599, {})", names.join(", "))
        })
    }
}

impl TryFrom<String> for Kind {
    type Error = String;

    fn try_from(text: String) -> Result<Kind, String> {
        text.parse()
    }
}

impl From<Kind> for String {
    fn from(kind: Kind) -> String {
        kind.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for kind in Kind::all().chain([Kind::Status(529)]) {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        assert!("600".parse::<Kind>().is_err());
        assert!("?".parse::<Kind>().is_err());
    }
}
