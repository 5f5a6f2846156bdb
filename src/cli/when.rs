//! Points in time as people say them: a duration from now or back, or a date.

use crate::clock::calendar;
use crate::domain::time::{Millis, Timestamp};

/// A point in time, perhaps seen from now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    In(Millis),
    Ago(Millis),
    At(Timestamp),
}

/// `2h` from now, or a time.
pub(crate) fn parse_future(text: &str) -> Result<When, String> {
    parse(text, When::In)
}

/// `24h` back, or a time.
pub(crate) fn parse_past(text: &str) -> Result<When, String> {
    parse(text, When::Ago)
}

fn parse(text: &str, relative: fn(Millis) -> When) -> Result<When, String> {
    if let Some(at) = calendar::parse_rfc3339(text) {
        return Ok(When::At(at));
    }
    humantime::parse_duration(text).map(|span| relative(span.into())).map_err(|_| {
        "neither a duration such as 2h nor a time such as 2026-09-01T06:00:00Z".to_owned()
    })
}

impl When {
    pub(crate) fn at(self, now: Timestamp) -> Timestamp {
        match self {
            When::In(span) => now + span,
            When::Ago(span) => now - span,
            When::At(at) => at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_durations_or_dates() {
        let now = Timestamp(10_000_000);
        assert_eq!(parse_future("2h").unwrap().at(now), Timestamp(17_200_000));
        assert_eq!(parse_past("2h").unwrap().at(now), Timestamp(2_800_000));
        let at = parse_future("2026-09-01T06:00:00Z").unwrap().at(now);
        assert_eq!(calendar::rfc3339(at), "2026-09-01T06:00:00Z");
        for bad in ["", "soon", "1756706400", "2026-09-01"] {
            assert!(parse_future(bad).is_err(), "{bad}");
        }
    }
}
