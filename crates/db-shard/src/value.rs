use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A moment in UTC with a resolution of one microsecond.
///
/// MySQL keeps it as `DATETIME(6)`, SQLite as an integer: microseconds since
/// the Unix epoch, which is also how serde sees it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Returns the moment `micros` microseconds after the Unix epoch.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Returns the microseconds since the Unix epoch.
    #[must_use]
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Returns the moment `span` later, at most the last one there is.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(span.as_micros()).unwrap_or(i64::MAX)))
    }

    /// Returns the moment `span` earlier, at least the first one there is.
    #[must_use]
    pub fn minus(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(span.as_micros()).unwrap_or(i64::MAX)))
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let micros = |span: Duration| i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
        Self(match time.duration_since(UNIX_EPOCH) {
            Ok(after) => micros(after),
            Err(before) => -micros(before.duration()),
        })
    }
}

impl From<Timestamp> for SystemTime {
    fn from(time: Timestamp) -> Self {
        let span = Duration::from_micros(time.0.unsigned_abs());
        let moved =
            if time.0 < 0 { UNIX_EPOCH.checked_sub(span) } else { UNIX_EPOCH.checked_add(span) };
        moved.unwrap_or(UNIX_EPOCH)
    }
}

/// A value that is bound to a statement or found in a row.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// No value.
    Null,
    /// A signed integer; booleans are 0 and 1.
    Int(i64),
    /// An integer beyond [`i64::MAX`]. SQLite cannot store it.
    UInt(u64),
    /// A floating-point number.
    Float(f64),
    /// A decimal number as its text, such as `"12.50"`.
    Decimal(Box<str>),
    /// Text in UTF-8.
    Text(Box<str>),
    /// Bytes.
    Bytes(Box<[u8]>),
    /// A moment in UTC.
    Time(Timestamp),
    /// A UUID: 16 bytes in the database.
    Uuid(Uuid),
    /// A JSON document: text in the database.
    Json(Box<serde_json::Value>),
}

impl Value {
    /// Returns the name of the kind of value, for messages.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Int(_) | Self::UInt(_) => "integer",
            Self::Float(_) => "float",
            Self::Decimal(_) => "decimal",
            Self::Text(_) => "text",
            Self::Bytes(_) => "bytes",
            Self::Time(_) => "time",
            Self::Uuid(_) => "uuid",
            Self::Json(_) => "json",
        }
    }

    /// Tells whether this is [`Null`](Self::Null).
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }
}

/// Shows the kind only: values may be anybody's data.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())
    }
}

macro_rules! value_from {
    ($($type:ty => |$value:ident| $into:expr;)+) => {
        $(impl From<$type> for Value {
            fn from($value: $type) -> Self {
                $into
            }
        })+
    };
}

value_from! {
    bool => |value| Self::Int(value.into());
    i8 => |value| Self::Int(value.into());
    i16 => |value| Self::Int(value.into());
    i32 => |value| Self::Int(value.into());
    i64 => |value| Self::Int(value);
    u8 => |value| Self::Int(value.into());
    u16 => |value| Self::Int(value.into());
    u32 => |value| Self::Int(value.into());
    u64 => |value| i64::try_from(value).map_or(Self::UInt(value), Self::Int);
    f32 => |value| Self::Float(value.into());
    f64 => |value| Self::Float(value);
    &str => |value| Self::Text(value.into());
    &String => |value| Self::Text(value.as_str().into());
    String => |value| Self::Text(value.into());
    Box<str> => |value| Self::Text(value);
    &[u8] => |value| Self::Bytes(value.into());
    Vec<u8> => |value| Self::Bytes(value.into());
    Timestamp => |value| Self::Time(value);
    SystemTime => |value| Self::Time(value.into());
    Uuid => |value| Self::Uuid(value);
    serde_json::Value => |value| Self::Json(Box::new(value));
}

impl<const N: usize> From<[u8; N]> for Value {
    fn from(bytes: [u8; N]) -> Self {
        Self::Bytes(Box::new(bytes))
    }
}

impl<const N: usize> From<&[u8; N]> for Value {
    fn from(bytes: &[u8; N]) -> Self {
        Self::Bytes(bytes.as_slice().into())
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_hides_what_is_stored() {
        assert_eq!(format!("{:?}", Value::from("secret")), "text");
    }

    #[test]
    fn large_unsigned_integers_keep_their_value() {
        assert_eq!(Value::from(u64::MAX), Value::UInt(u64::MAX));
        assert_eq!(Value::from(7_u64), Value::Int(7));
    }

    #[test]
    fn times_before_the_epoch_survive() {
        let before = UNIX_EPOCH - Duration::from_micros(1_500_001);
        assert_eq!(SystemTime::from(Timestamp::from(before)), before);
        assert_eq!(Timestamp::from(before).as_micros(), -1_500_001);
    }
}
