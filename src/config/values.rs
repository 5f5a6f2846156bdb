//! Values as people write them, checked where they are read, so that an error points at them.

use crate::clock::calendar;
use crate::domain::job::is_plain_name;
use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};
use std::fmt;
use std::path::PathBuf;
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

/// Nothing here is sensibly longer, and timers cannot hold much more.
const LONGEST: Duration = Duration::from_secs(30 * 86_400);

/// A span that something takes: never nothing, which would end or repeat it at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Delay(pub(super) Duration);

impl<'de> Deserialize<'de> for Delay {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Span(span) = Span::deserialize(deserializer)?;
        if span.as_millis() == 0 {
            return Err(D::Error::custom("it must be at least \"1ms\""));
        }
        Ok(Delay(span))
    }
}

/// A size such as "32MiB" or "500kB"; never nothing.
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
    number.checked_mul(unit).filter(|size| *size > 0)
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

/// A whole number from `LEAST` to `MOST`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Whole<const MOST: i64, const LEAST: i64 = 1>(pub(super) i64);

/// Of requests or tokens.
pub(super) type Count = Whole<1_000_000_000_000>;
/// Calls at a time.
pub(super) type Calls = Whole<10_000>;
/// Attempts of a job; as in the table `jobs`.
pub(super) type Attempts = Whole<1_000>;
/// Calls that go on with a turn.
pub(super) type Continuations = Whole<100, 0>;
/// Of an answer; as in the table `jobs`.
pub(super) type MaxTokens = Whole<10_000_000>;

impl<'de, const MOST: i64, const LEAST: i64> Deserialize<'de> for Whole<MOST, LEAST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number<const MOST: i64, const LEAST: i64>;
        impl<const MOST: i64, const LEAST: i64> Visitor<'_> for Number<MOST, LEAST> {
            type Value = Whole<MOST, LEAST>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a whole number from {LEAST} to {MOST}, without quotes or unit")
            }
            fn visit_i64<E: Error>(self, value: i64) -> Result<Whole<MOST, LEAST>, E> {
                if (LEAST..=MOST).contains(&value) {
                    return Ok(Whole(value));
                }
                Err(E::invalid_value(Unexpected::Signed(value), &self))
            }
            fn visit_i128<E: Error>(self, value: i128) -> Result<Whole<MOST, LEAST>, E> {
                Err(E::invalid_value(Unexpected::Other(&format!("integer `{value}`")), &self))
            }
        }
        deserializer.deserialize_any(Number)
    }
}

/// A name that a queue or a pool can have: what the table `jobs` takes for a queue.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name(pub(super) String);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = text(deserializer, "a name")?;
        if is_plain_name(&name) {
            return Ok(Name(name));
        }
        Err(D::Error::custom(format!(
            "{name:?} can be no name: 1 to 200 printable ASCII characters, not \"*\""
        )))
    }
}

/// A model's name, or a pattern of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Model(pub(super) String);

impl<'de> Deserialize<'de> for Model {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let model = text(deserializer, "a model, such as \"claude-sonnet-5-5\"")?;
        if (1..=200).contains(&model.chars().count()) {
            return Ok(Model(model));
        }
        Err(D::Error::custom("a model has 1 to 200 characters"))
    }
}

/// Where the key lies; never the key itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeyFile(pub(super) PathBuf);

impl<'de> Deserialize<'de> for KeyFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let path = text(deserializer, "the path of a file that has the key")?;
        if path.starts_with("sk-") {
            return Err(D::Error::custom(
                "this is a key; write it into a file that only you can read, and name that here",
            ));
        }
        Ok(KeyFile(path.into()))
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
        for bad in ["", "32", "MiB", "1.5MiB", "-1B", "99999999999999999999GiB", "1TB", "0B"] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
    }
}
