use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};

/// A duration in a configuration: a whole number with a unit, `"250ms"`.
///
/// Units: `us`, `ms`, `s`, `m`, `h`, `d`. Bare numbers are refused, because
/// nobody can tell their unit.
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use trine_core::Span;
///
/// let span: Span = "1500ms".parse()?;
/// assert_eq!(span.get(), Duration::from_millis(1500));
/// assert_eq!(span.to_string(), "1500ms");
/// # Ok::<(), trine_core::InvalidUnit>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(Duration);

impl Span {
    /// Returns the span of `millis` milliseconds.
    #[must_use]
    pub const fn millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// Returns the span of `secs` seconds.
    #[must_use]
    pub const fn secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }

    /// Returns the span as a duration.
    #[must_use]
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl From<Duration> for Span {
    fn from(duration: Duration) -> Self {
        Self(duration)
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        span.0
    }
}

const SPAN_UNITS: [(&str, u64); 6] = [
    ("us", 1),
    ("ms", 1_000),
    ("s", 1_000_000),
    ("m", 60_000_000),
    ("h", 3_600_000_000),
    ("d", 86_400_000_000),
];

impl FromStr for Span {
    type Err = InvalidUnit;

    fn from_str(text: &str) -> Result<Self, InvalidUnit> {
        parse(text, &SPAN_UNITS, "us, ms, s, m, h, d").map(|us| Self(Duration::from_micros(us)))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = u64::try_from(self.0.as_micros()).unwrap_or(u64::MAX);
        // The unit a person would have written: seconds up to two minutes.
        let (unit, size) = match micros {
            0 => ("ms", 1_000),
            _ if micros % 86_400_000_000 == 0 => ("d", 86_400_000_000),
            _ if micros % 3_600_000_000 == 0 => ("h", 3_600_000_000),
            _ if micros % 60_000_000 == 0 => ("m", 60_000_000),
            _ if micros % 1_000_000 == 0 => ("s", 1_000_000),
            _ if micros % 1_000 == 0 => ("ms", 1_000),
            _ => ("us", 1),
        };
        write!(f, "{}{unit}", micros / size)
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A number of bytes in a configuration: a whole number with a unit, `"8MiB"`.
///
/// Units: `B`, `KiB`, `MiB`, `GiB`, `TiB`. Bare numbers are refused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(u64);

impl Size {
    /// Returns the size of `count` KiB.
    #[must_use]
    pub const fn kib(count: u64) -> Self {
        Self(count << 10)
    }

    /// Returns the size of `count` MiB.
    #[must_use]
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    /// Returns the size of `count` bytes.
    #[must_use]
    pub const fn bytes(count: u64) -> Self {
        Self(count)
    }

    /// Returns the size in bytes.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Returns the size in bytes as a length in memory.
    #[must_use]
    pub fn as_len(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

const SIZE_UNITS: [(&str, u64); 5] =
    [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

impl FromStr for Size {
    type Err = InvalidUnit;

    fn from_str(text: &str) -> Result<Self, InvalidUnit> {
        parse(text, &SIZE_UNITS, "B, KiB, MiB, GiB, TiB").map(Self)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit =
            SIZE_UNITS.iter().rev().find(|(_, size)| self.0 != 0 && self.0.is_multiple_of(*size));
        let (unit, size) = unit.unwrap_or(&("B", 1));
        write!(f, "{}{unit}", self.0 / size)
    }
}

impl fmt::Debug for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not a number with one of the known units.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}`: expected a whole number with a unit, one of {units}")]
pub struct InvalidUnit {
    text: Box<str>,
    units: &'static str,
}

fn parse(text: &str, units: &[(&str, u64)], names: &'static str) -> Result<u64, InvalidUnit> {
    let invalid = || InvalidUnit { text: text.into(), units: names };
    let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(invalid)?;
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().map_err(|_| invalid())?;
    let (_, size) =
        units.iter().find(|(name, _)| *name == unit.trim_start()).ok_or_else(invalid)?;
    number.checked_mul(*size).ok_or_else(invalid)
}

macro_rules! text_serde {
    ($type:ty, $name:literal, $expecting:literal, $pattern:literal) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl Visitor<'_> for Text {
                    type Value = $type;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern })
            }
        }
    };
}

text_serde!(Span, "Span", "a duration with a unit, such as \"250ms\"", "^[0-9]+ *(us|ms|s|m|h|d)$");
text_serde!(Size, "Size", "a size with a unit, such as \"8MiB\"", "^[0-9]+ *(B|KiB|MiB|GiB|TiB)$");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_what_they_print() {
        for text in ["0ms", "7us", "250ms", "90s", "5m", "12h", "30d"] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span.to_string().parse::<Span>().unwrap(), span, "{text}");
        }
    }

    #[test]
    fn sizes_read_what_they_print() {
        for (text, bytes) in [("0B", 0), ("10B", 10), ("8MiB", 8 << 20), ("1536KiB", 1536 << 10)] {
            let size: Size = text.parse().unwrap();
            assert_eq!(size.get(), bytes);
            assert_eq!(size.to_string(), text);
        }
    }

    #[test]
    fn bare_negative_and_foreign_units_are_refused() {
        for text in ["", "5", "ms", "-1s", "1.5s", "1 week", "5 S", "99999999999999999999s"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
        for text in ["8", "8MB", "8mib", "99999999999TiB"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_number_in_json_is_refused() {
        let error = serde_json::from_str::<Span>("5").unwrap_err().to_string();
        assert!(error.contains("a duration with a unit"), "{error}");
    }
}
