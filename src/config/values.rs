//! Values as people write them, checked where they are read, so that an error points at them.

use crate::clock::calendar;
use crate::domain::job::is_queue_name;
use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};
use std::fmt;
use std::time::Duration;

/// A duration such as "90s" or "1h 30m"; a bare number is refused, since nobody knows its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span(pub(super) Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = text(deserializer, "a duration with its unit, such as \"90s\" or \"10m\"")?;
        let span = humantime::parse_duration(&text).map_err(|error| {
            D::Error::custom(format!("{text:?} is no duration ({error}); write \"90s\" or \"10m\""))
        })?;
        if span > LONGEST {
            return Err(D::Error::custom(format!("{text:?} is too long; at most \"30days\"")));
        }
        Ok(Span(span))
    }
}

/// A duration during which something is to happen: above zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SomeTime(pub(super) Span);

impl<'de> Deserialize<'de> for SomeTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let span = Span::deserialize(deserializer)?;
        if span.0.is_zero() {
            return Err(D::Error::custom("must be longer than nothing; write \"10m\""));
        }
        Ok(SomeTime(span))
    }
}

/// Nothing here is sensibly longer, and timers cannot hold much more.
const LONGEST: Duration = Duration::from_secs(30 * 86_400);

/// A size such as "32MiB" or "500kB".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size(pub(super) u64);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = text(deserializer, "a size with its unit, such as \"32MiB\"")?;
        parse_size(&text).map(Size).ok_or_else(|| {
            D::Error::custom(format!("{text:?} is no size; write \"32MiB\" or \"500kB\""))
        })
    }
}

fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let unit = match text[digits..].trim() {
        "B" => 1,
        "kB" | "KB" => 1_000,
        "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(unit)
}

/// The name of a queue as the schema allows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct QueueName(pub(super) String);

impl<'de> Deserialize<'de> for QueueName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = text(deserializer, "the name of a queue")?;
        if is_queue_name(&name) {
            return Ok(QueueName(name));
        }
        Err(D::Error::custom(format!(
            "no queue can be called {name:?}: 1 to 200 printable ASCII characters, and not \"*\""
        )))
    }
}

/// The name of a model: any, but one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ModelName(pub(super) String);

impl<'de> Deserialize<'de> for ModelName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = text(deserializer, "the name of a model")?;
        if (1..=200).contains(&name.chars().count()) {
            return Ok(ModelName(name));
        }
        Err(D::Error::custom("the name of a model has 1 to 200 characters; leave it out for none"))
    }
}

/// The name of a time zone that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Zone(pub(super) String);

impl<'de> Deserialize<'de> for Zone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = text(deserializer, "the name of a time zone, such as \"Europe/Berlin\"")?;
        match calendar::zone(&name) {
            Some(_) => Ok(Zone(name)),
            None => Err(D::Error::custom(format!(
                "{name:?} is no time zone; write \"UTC\" or an IANA name such as \"Europe/Berlin\""
            ))),
        }
    }
}

/// A positive number with a fraction, in thousandths or billionths of a unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Positive(pub(super) f64);

impl<'de> Deserialize<'de> for Positive {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl Visitor<'_> for Number {
            type Value = f64;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a positive number")
            }
            fn visit_f64<E: Error>(self, value: f64) -> Result<f64, E> {
                Ok(value)
            }
            #[expect(clippy::cast_precision_loss, reason = "checked against a bound below")]
            fn visit_i64<E: Error>(self, value: i64) -> Result<f64, E> {
                Ok(value as f64)
            }
        }
        let value = deserializer.deserialize_any(Number)?;
        if value.is_finite() && value > 0.0 && value <= 1e9 {
            Ok(Positive(value))
        } else {
            Err(D::Error::invalid_value(Unexpected::Float(value), &"a number above 0, up to 1e9"))
        }
    }
}

impl Positive {
    /// In units of `1 / scale`; at least one.
    pub(super) fn scaled(self, scale: f64) -> i64 {
        // At most 1e9 × 1e9, which an i64 holds.
        #[expect(clippy::cast_possible_truncation, reason = "see above")]
        let value = (self.0 * scale).round() as i64;
        value.max(1)
    }
}

/// A whole number of at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Count(pub(super) i64);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = i64::deserialize(deserializer)?;
        if (1..=1_000_000_000_000).contains(&value) {
            Ok(Count(value))
        } else {
            Err(D::Error::invalid_value(Unexpected::Signed(value), &"a whole number from 1"))
        }
    }
}

fn text<'de, D: Deserializer<'de>>(
    deserializer: D,
    expected: &'static str,
) -> Result<String, D::Error> {
    struct Text(&'static str);
    impl Visitor<'_> for Text {
        type Value = String;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
        fn visit_str<E: Error>(self, value: &str) -> Result<String, E> {
            Ok(value.to_owned())
        }
    }
    deserializer.deserialize_any(Text(expected))
}

#[cfg(test)]
mod tests {
    use super::parse_size;

    #[test]
    fn sizes() {
        assert_eq!(parse_size("32MiB"), Some(32 << 20));
        assert_eq!(parse_size("500 kB"), Some(500_000));
        assert_eq!(parse_size("7B"), Some(7));
        for bad in ["", "32", "MiB", "1.5MiB", "-1B", "99999999999999999999GiB", "1TB"] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
    }
}
