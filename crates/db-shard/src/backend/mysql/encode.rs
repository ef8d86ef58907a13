use sqlx::encode::{Encode, IsNull};
use sqlx::error::BoxDynError;
use sqlx::mysql::{MySql, MySqlArguments, MySqlTypeInfo};
use sqlx::{Arguments as _, Type};

use super::calendar::Civil;
use crate::{Timestamp, Value};

/// The most parameters that the protocol can count.
const MAX_PARAMETERS: usize = u16::MAX as usize;
/// The most digits of a `DECIMAL`, and how many of them after the point.
const MAX_DIGITS: (usize, usize) = (65, 30);

/// The types `DATETIME` and `DECIMAL` as the server names them.
///
/// The driver offers them only together with a date and a decimal crate, but
/// hands out the types of any result: every connection asks for one of each
/// when it is made.
#[derive(Clone, Debug)]
pub(super) struct NativeTypes {
    pub(super) datetime: MySqlTypeInfo,
    pub(super) decimal: MySqlTypeInfo,
}

/// Binds `values` in order; the error says which one can never be bound.
///
/// Integers, floats, text and bytes are bound as what they are, a UUID as its
/// 16 bytes, a time as `DATETIME(6)` in UTC, a decimal as `DECIMAL`, JSON as
/// text.
pub(super) fn encode(values: &[Value], types: &NativeTypes) -> Result<MySqlArguments, String> {
    if values.len() > MAX_PARAMETERS {
        return Err(format!("{} parameters: expected at most {MAX_PARAMETERS}", values.len()));
    }
    let mut arguments = MySqlArguments::default();
    arguments.reserve(values.len(), values.len().saturating_mul(16));
    for (position, value) in values.iter().enumerate() {
        bind(&mut arguments, value, types)
            .map_err(|problem| format!("parameter {}: {problem}", position + 1))?;
    }
    Ok(arguments)
}

fn bind(
    arguments: &mut MySqlArguments,
    value: &Value,
    types: &NativeTypes,
) -> Result<(), BoxDynError> {
    match value {
        Value::Null => arguments.add(None::<&str>),
        Value::Int(value) => arguments.add(*value),
        Value::UInt(value) => arguments.add(*value),
        Value::Float(value) if value.is_finite() => arguments.add(*value),
        Value::Float(_) => Err("expected a finite float".into()),
        Value::Decimal(text) => {
            check_decimal(text)?;
            arguments.add(Native { kind: &types.decimal, bytes: Packed::Decimal(text) })
        }
        Value::Text(text) => arguments.add(&**text),
        Value::Bytes(bytes) => arguments.add(&**bytes),
        Value::Time(time) => {
            let bytes = Packed::DateTime(datetime(*time)?);
            arguments.add(Native { kind: &types.datetime, bytes })
        }
        Value::Uuid(id) => arguments.add(id.as_bytes().as_slice()),
        Value::Json(json) => arguments.add(serde_json::to_string(json)?),
    }
}

/// The server reads a malformed decimal as 0 and shortens a long one, both
/// without a word.
fn check_decimal(text: &str) -> Result<(), &'static str> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let only_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if !only_digits(whole) || !only_digits(fraction) || whole.len() + fraction.len() == 0 {
        return Err("expected a decimal such as `-12.50`");
    }
    let whole = whole.trim_start_matches('0').len();
    if fraction.len() > MAX_DIGITS.1 || whole + fraction.len() > MAX_DIGITS.0 {
        return Err("expected a decimal of at most 65 digits, 30 of them after the point");
    }
    Ok(())
}

/// Writes a time as the binary protocol wants it, its length first.
fn datetime(time: Timestamp) -> Result<[u8; 12], &'static str> {
    let civil = Civil::from_micros(time.as_micros())
        .ok_or("expected a time between the years 1 and 9999")?;
    let [year_low, year_high] = civil.year.to_le_bytes();
    let [a, b, c, d] = civil.micros.to_le_bytes();
    let Civil { month, day, hour, minute, second, .. } = civil;
    Ok([11, year_low, year_high, month, day, hour, minute, second, a, b, c, d])
}

/// A parameter of a type that the driver has no Rust type for.
struct Native<'a> {
    kind: &'a MySqlTypeInfo,
    bytes: Packed<'a>,
}

enum Packed<'a> {
    Decimal(&'a str),
    DateTime([u8; 12]),
}

impl Type<MySql> for Native<'_> {
    fn type_info() -> MySqlTypeInfo {
        <str as Type<MySql>>::type_info()
    }
}

impl Encode<'_, MySql> for Native<'_> {
    fn encode_by_ref(&self, buffer: &mut Vec<u8>) -> Result<IsNull, BoxDynError> {
        match &self.bytes {
            Packed::Decimal(text) => <&str as Encode<'_, MySql>>::encode_by_ref(text, buffer),
            Packed::DateTime(bytes) => {
                buffer.extend_from_slice(bytes);
                Ok(IsNull::No)
            }
        }
    }

    fn produces(&self) -> Option<MySqlTypeInfo> {
        Some(self.kind.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_and_oversized_decimals_are_refused() {
        for good in ["0", "-12.50", "+.5", "5.", &"9".repeat(65)] {
            assert_eq!(check_decimal(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "-",
            ".",
            "1e3",
            "1.2.3",
            "abc",
            "1,5",
            &"9".repeat(66),
            &format!("0.{}", "1".repeat(31)),
        ] {
            assert!(check_decimal(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_time_is_written_in_utc_with_microseconds() {
        let time = Timestamp::from_micros(1_700_000_000_123_456);
        let micros = 123_456_u32.to_le_bytes();
        let year = 2023_u16.to_le_bytes();
        let expected =
            [11, year[0], year[1], 11, 14, 22, 13, 20, micros[0], micros[1], micros[2], micros[3]];
        assert_eq!(datetime(time), Ok(expected));
        assert!(datetime(Timestamp::from_micros(i64::MAX)).is_err());
        assert!(datetime(Timestamp::from_micros(i64::MIN)).is_err());
    }
}
