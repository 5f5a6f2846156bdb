//! Calendar bounds in a named time zone, computed here and passed into the pure core.

use crate::domain::time::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{ToSpan, ZonedDateTime};

/// A calendar period a budget is counted over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CalendarUnit {
    /// Midnight to midnight: 23 to 25 hours where the clocks change.
    Day,
    /// The first of a month to the first of the next.
    Month,
}

/// Looks a zone up by its IANA name; `None` when nobody knows it.
pub fn zone(name: &str) -> Option<TimeZone> {
    if name.eq_ignore_ascii_case("utc") {
        return Some(TimeZone::UTC);
    }
    TimeZone::get(name).ok()
}

/// Start (included) and end (excluded) of the period around `now`.
///
/// Times outside jiff's calendar (years −9999 … 9999) give the whole of time.
pub fn period(unit: CalendarUnit, zone: &TimeZone, now: Timestamp) -> (Timestamp, Timestamp) {
    bounds(unit, zone, now).unwrap_or((Timestamp(i64::MIN), Timestamp(i64::MAX)))
}

fn bounds(
    unit: CalendarUnit,
    zone: &TimeZone,
    now: Timestamp,
) -> Result<(Timestamp, Timestamp), jiff::Error> {
    let today: Date =
        jiff::Timestamp::from_millisecond(now.0)?.to_zoned_datetime(zone.clone()).date();
    let (first, next) = match unit {
        CalendarUnit::Day => (today, today.checked_add(1.day())?),
        CalendarUnit::Month => {
            let first = today.first_of_month();
            (first, first.checked_add(1.month())?)
        }
    };
    let at = |date: Date| -> Result<Timestamp, jiff::Error> {
        let start: ZonedDateTime = date.to_zoned_datetime(zone.clone())?;
        Ok(Timestamp(start.timestamp().as_millisecond()))
    };
    Ok((at(first)?, at(next)?))
}

/// RFC 3339 in UTC, whole seconds.
pub fn rfc3339(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.0)
        .ok()
        .and_then(|at| at.round(jiff::Unit::Second).ok())
        .map_or_else(|| format!("{} ms", at.0), |at| at.to_string())
}

/// Reads an RFC 3339 time.
pub fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    let at: jiff::Timestamp = text.trim().parse().ok()?;
    Some(Timestamp(at.as_millisecond()))
}

/// Reads an HTTP date (RFC 9110 §5.6.7, the IMF-fixdate form).
pub fn parse_http_date(text: &str) -> Option<Timestamp> {
    let zoned = jiff::fmt::rfc2822::parse(text.trim()).ok()?;
    Some(Timestamp(zoned.timestamp().as_millisecond()))
}

/// A short local time for people: `02:41`, with the date when it is not today's.
pub fn local_clock(at: Timestamp, now: Timestamp) -> String {
    let zone = TimeZone::system();
    let read = |at: Timestamp| {
        jiff::Timestamp::from_millisecond(at.0).ok().map(|at| at.to_zoned_datetime(zone.clone()))
    };
    match (read(at), read(now)) {
        (Some(at), Some(now)) if at.date() == now.date() => at.strftime("%H:%M").to_string(),
        (Some(at), _) => at.strftime("%Y-%m-%d %H:%M").to_string(),
        _ => format!("{} ms", at.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(unit: CalendarUnit, zone_name: &str, now: &str) -> i64 {
        let zone = zone(zone_name).unwrap();
        let (start, end) = period(unit, &zone, parse_rfc3339(now).unwrap());
        end.since(start).0 / 3_600_000
    }

    #[test]
    fn days_have_23_24_or_25_hours() {
        assert_eq!(hours(CalendarUnit::Day, "UTC", "2026-03-29T12:00:00Z"), 24);
        assert_eq!(hours(CalendarUnit::Day, "Europe/Berlin", "2026-03-29T12:00:00Z"), 23);
        assert_eq!(hours(CalendarUnit::Day, "Europe/Berlin", "2026-10-25T12:00:00Z"), 25);
    }

    #[test]
    fn months_end_where_the_next_begins() {
        assert_eq!(hours(CalendarUnit::Month, "UTC", "2026-02-10T00:00:00Z"), 28 * 24);
        assert_eq!(hours(CalendarUnit::Month, "UTC", "2026-12-31T23:59:59Z"), 31 * 24);
    }

    #[test]
    fn http_dates_are_read() {
        let at = parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(rfc3339(at), "1994-11-06T08:49:37Z");
        assert!(parse_http_date("soon").is_none());
    }

    #[test]
    fn unknown_zone_is_none() {
        assert!(zone("Europe/Atlantis").is_none());
    }
}
