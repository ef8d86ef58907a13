use sqlx::decode::Decode;
use sqlx::error::BoxDynError;
use sqlx::mysql::{MySql, MySqlColumn, MySqlRow, MySqlTypeInfo, MySqlValueRef};
use sqlx::{Column as _, Row as _, Type, TypeInfo as _, ValueRef as _};

use super::calendar::Civil;
use crate::row::InvalidColumn;
use crate::{Columns, Row, Timestamp, Value};

/// The columns of one result: their names, and how to read them.
///
/// Integers of every width, `BOOL`, `BIT` and `YEAR` are read as integers,
/// `DECIMAL` as its text, `DATETIME` and `TIMESTAMP` as a time in UTC, `DATE`
/// and `TIME` as text, `ENUM` and `SET` as text, native `JSON` as JSON (that of
/// MariaDB is text), every binary string and geometry as bytes.
#[derive(Debug)]
pub(super) struct Layout {
    columns: Columns,
    kinds: Vec<Kind>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Signed,
    Unsigned,
    Float,
    Double,
    Decimal,
    Text,
    Bytes,
    DateTime,
    Date,
    Time,
    Json,
}

impl Kind {
    fn of(info: &MySqlTypeInfo) -> Self {
        match info.name() {
            // The name of a TINYINT(1) does not say whether it has a sign.
            "BOOLEAN" if !<u64 as Type<MySql>>::compatible(info) => Self::Signed,
            "TINYINT" | "SMALLINT" | "MEDIUMINT" | "INT" | "BIGINT" => Self::Signed,
            "BOOLEAN" | "TINYINT UNSIGNED" | "SMALLINT UNSIGNED" | "MEDIUMINT UNSIGNED"
            | "INT UNSIGNED" | "BIGINT UNSIGNED" | "YEAR" | "BIT" => Self::Unsigned,
            "FLOAT" => Self::Float,
            "DOUBLE" => Self::Double,
            "DECIMAL" => Self::Decimal,
            "DATETIME" | "TIMESTAMP" => Self::DateTime,
            "DATE" => Self::Date,
            "TIME" => Self::Time,
            "JSON" => Self::Json,
            "ENUM" | "SET" => Self::Text,
            // Texts in a collation such as utf8mb4_bin are named like bytes.
            _ if <str as Type<MySql>>::compatible(info) => Self::Text,
            _ => Self::Bytes,
        }
    }

    fn expected(self) -> &'static str {
        match self {
            Self::Signed | Self::Unsigned => "an integer",
            Self::Float | Self::Double => "a float",
            Self::Decimal => "a decimal",
            Self::Text => "text in UTF-8",
            Self::Bytes => "bytes",
            Self::DateTime | Self::Date => "a date of the calendar",
            Self::Time => "a time of day",
            Self::Json => "JSON",
        }
    }
}

impl Layout {
    pub(super) fn of(columns: &[MySqlColumn]) -> Self {
        Self {
            columns: Columns::new(columns.iter().map(|column| column.name())),
            kinds: columns.iter().map(|column| Kind::of(column.type_info())).collect(),
        }
    }

    /// Reads one row of the result.
    pub(super) fn read(&self, row: &MySqlRow) -> Result<Row, InvalidColumn> {
        let mut values = Vec::with_capacity(self.kinds.len());
        for (position, kind) in self.kinds.iter().enumerate() {
            let value = row.try_get_raw(position).map_err(|_| self.invalid(position, "nothing"))?;
            values.push(read(*kind, value).map_err(|found| self.invalid(position, found))?);
        }
        Ok(Row::new(self.columns.clone(), values))
    }

    fn invalid(&self, position: usize, found: &'static str) -> InvalidColumn {
        let expected = self.kinds.get(position).map_or("a column", |kind| kind.expected());
        InvalidColumn {
            column: self.columns.names().nth(position).unwrap_or_default().into(),
            expected: expected.into(),
            found: found.into(),
        }
    }
}

const ZERO_DATE: &str = "the zero date";
const MALFORMED: &str = "a malformed value";

/// Reads one value; the error is what was found instead.
fn read(kind: Kind, value: MySqlValueRef<'_>) -> Result<Value, &'static str> {
    if value.is_null() {
        // The driver takes a zero date for NULL.
        let is_date = matches!(kind, Kind::DateTime | Kind::Date);
        let is_zero = is_date && <&[u8] as Decode<'_, MySql>>::decode(value).is_ok();
        return if is_zero { Err(ZERO_DATE) } else { Ok(Value::Null) };
    }
    match kind {
        Kind::Signed => number::<i64>(value).map(Value::Int),
        Kind::Unsigned => number::<u64>(value).map(Value::from),
        Kind::Float => number::<f32>(value).map(Value::from),
        Kind::Double => number::<f64>(value).map(Value::Float),
        Kind::Decimal => Ok(Value::Decimal(text(value)?.into())),
        Kind::Text => Ok(Value::Text(text(value)?.into())),
        Kind::Bytes => Ok(Value::Bytes(bytes(value)?.into())),
        Kind::Json => {
            let json = serde_json::from_slice(bytes(value)?).map_err(|_| MALFORMED)?;
            Ok(Value::Json(Box::new(json)))
        }
        Kind::DateTime => datetime(bytes(value)?).map(Value::Time),
        Kind::Date => date(bytes(value)?).map(Value::Text),
        Kind::Time => time(bytes(value)?).map(Value::Text),
    }
}

fn number<'a, T: Decode<'a, MySql>>(value: MySqlValueRef<'a>) -> Result<T, &'static str> {
    T::decode(value).map_err(|_: BoxDynError| MALFORMED)
}

fn bytes(value: MySqlValueRef<'_>) -> Result<&[u8], &'static str> {
    <&[u8] as Decode<'_, MySql>>::decode(value).map_err(|_| MALFORMED)
}

fn text(value: MySqlValueRef<'_>) -> Result<&str, &'static str> {
    std::str::from_utf8(bytes(value)?).map_err(|_| "bytes that are no UTF-8")
}

/// Binary values begin with their length, which is below any printed digit.
fn is_printed(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|first| *first >= b'-')
}

fn printed(bytes: &[u8]) -> Result<&str, &'static str> {
    std::str::from_utf8(bytes).map_err(|_| MALFORMED)
}

fn datetime(bytes: &[u8]) -> Result<Timestamp, &'static str> {
    let civil = if is_printed(bytes) {
        printed_datetime(printed(bytes)?).ok_or(MALFORMED)?
    } else {
        packed_datetime(bytes).ok_or(MALFORMED)?
    };
    civil.to_micros().map(Timestamp::from_micros).ok_or(ZERO_DATE)
}

fn date(bytes: &[u8]) -> Result<Box<str>, &'static str> {
    if is_printed(bytes) {
        return Ok(printed(bytes)?.into());
    }
    let civil = packed_datetime(bytes).ok_or(MALFORMED)?;
    civil.to_micros().ok_or(ZERO_DATE)?;
    Ok(format!("{:04}-{:02}-{:02}", civil.year, civil.month, civil.day).into())
}

fn packed_datetime(bytes: &[u8]) -> Option<Civil> {
    let (length, rest) = bytes.split_first()?;
    let zero = Civil { year: 0, month: 0, day: 0, hour: 0, minute: 0, second: 0, micros: 0 };
    if *length == 0 {
        return Some(zero);
    }
    let (&[year_low, year_high, month, day], rest) = rest.split_first_chunk()?;
    let date = Civil { year: u16::from_le_bytes([year_low, year_high]), month, day, ..zero };
    let Some((&[hour, minute, second], rest)) = rest.split_first_chunk() else {
        return Some(date);
    };
    let micros = rest.first_chunk().map_or(0, |micros| u32::from_le_bytes(*micros));
    Some(Civil { hour, minute, second, micros, ..date })
}

/// Reads `2024-05-06 07:08:09.5`.
fn printed_datetime(text: &str) -> Option<Civil> {
    let (date, time) = text.split_once(' ').unwrap_or((text, "0:0:0"));
    let mut date = date.splitn(3, '-');
    let (clock, fraction) = time.split_once('.').unwrap_or((time, ""));
    let mut clock = clock.splitn(3, ':');
    Some(Civil {
        year: date.next()?.parse().ok()?,
        month: date.next()?.parse().ok()?,
        day: date.next()?.parse().ok()?,
        hour: clock.next()?.parse().ok()?,
        minute: clock.next()?.parse().ok()?,
        second: clock.next()?.parse().ok()?,
        micros: format!("{fraction:0<6}").get(..6)?.parse().ok()?,
    })
}

fn time(bytes: &[u8]) -> Result<Box<str>, &'static str> {
    if is_printed(bytes) {
        return Ok(printed(bytes)?.into());
    }
    let (length, rest) = bytes.split_first().ok_or(MALFORMED)?;
    if *length == 0 {
        return Ok("00:00:00".into());
    }
    let (&[negative, a, b, c, d, hour, minute, second], rest) =
        rest.split_first_chunk().ok_or(MALFORMED)?;
    let hours = u64::from(u32::from_le_bytes([a, b, c, d])) * 24 + u64::from(hour);
    let sign = if negative == 0 { "" } else { "-" };
    let fraction = match rest.first_chunk() {
        Some(micros) => format!(".{:06}", u32::from_le_bytes(*micros)),
        None => String::new(),
    };
    Ok(format!("{sign}{hours:02}:{minute:02}:{second:02}{fraction}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_and_printed_times_read_the_same() {
        let packed = [11, 0xe8, 0x07, 5, 6, 7, 8, 9, 0x20, 0xa1, 0x07, 0];
        let printed = datetime(b"2024-05-06 07:08:09.500000").unwrap();
        assert_eq!(datetime(&packed).unwrap(), printed);
        assert_eq!(datetime(b"2024-05-06 07:08:09.5").unwrap(), printed);
        let midnight = datetime(b"2024-05-06").unwrap();
        assert_eq!(datetime(&packed[..5]).map(|time| time == midnight), Ok(true));
        assert_eq!(date(&[4, 0xe8, 0x07, 5, 6]).as_deref(), Ok("2024-05-06"));
        assert_eq!(time(&[8, 1, 1, 0, 0, 0, 2, 3, 4]).as_deref(), Ok("-26:03:04"));
        assert_eq!(time(&[0]).as_deref(), Ok("00:00:00"));
    }

    #[test]
    fn a_zero_or_cut_off_date_is_an_error_and_no_panic() {
        assert_eq!(datetime(&[0]), Err(ZERO_DATE));
        assert_eq!(datetime(b"0000-00-00 00:00:00"), Err(ZERO_DATE));
        assert_eq!(date(&[4, 0, 0, 0, 0]), Err(ZERO_DATE));
        for bytes in [&[][..], &[4], &[11, 1], b"2024", b"2024-05-06 07", b"x"] {
            assert!(datetime(bytes).is_err(), "{bytes:?}");
        }
        assert_eq!(time(&[8, 0]), Err(MALFORMED));
    }
}
