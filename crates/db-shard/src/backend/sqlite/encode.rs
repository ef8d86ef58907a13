use std::borrow::Cow;

use sqlx::sqlite::{SqliteArguments, SqliteRow, SqliteValueRef};
use sqlx::{Arguments, Column, Decode, Row as _, Sqlite, TypeInfo, ValueRef};

use crate::{Columns, InvalidColumn, Row, Value};

/// Turns values into what the driver binds.
///
/// Times become microseconds, UUIDs their 16 bytes, JSON and decimals text.
pub(super) fn encode(values: Vec<Value>) -> Result<SqliteArguments, Cow<'static, str>> {
    let mut arguments = SqliteArguments::default();
    arguments.reserve(values.len(), 0);
    for value in values {
        let added = match value {
            Value::Null => arguments.add(None::<i64>),
            Value::Int(value) => arguments.add(value),
            Value::UInt(_) => return Err("SQLite stores no integer beyond 2^63 - 1".into()),
            Value::Float(value) if !value.is_finite() => {
                return Err("a float that is no finite number is not portable".into());
            }
            Value::Float(value) => arguments.add(value),
            Value::Decimal(value) | Value::Text(value) => arguments.add(value),
            Value::Bytes(value) => arguments.add(value.into_vec()),
            Value::Time(value) => arguments.add(value.as_micros()),
            Value::Uuid(value) => arguments.add(value.as_bytes().to_vec()),
            Value::Json(value) => arguments.add(value.to_string()),
        };
        if added.is_err() {
            return Err("a value cannot be bound".into());
        }
    }
    Ok(arguments)
}

/// Returns the names of the columns of a row.
pub(super) fn columns(row: &SqliteRow) -> Columns {
    Columns::new(row.columns().iter().map(Column::name))
}

/// Reads a row by the storage class of each value, whatever its column was
/// declared as.
pub(super) fn decode(row: &SqliteRow, columns: &Columns) -> Result<Row, InvalidColumn> {
    let mut values = Vec::with_capacity(row.len());
    for (position, name) in columns.names().enumerate() {
        let value = row.try_get_raw(position).ok().and_then(value);
        values.push(value.ok_or_else(|| InvalidColumn {
            column: name.into(),
            expected: "text in UTF-8".into(),
            found: "other bytes".into(),
        })?);
    }
    Ok(Row::new(columns.clone(), values))
}

fn value(value: SqliteValueRef<'_>) -> Option<Value> {
    if value.is_null() {
        return Some(Value::Null);
    }
    let class = value.type_info();
    match class.name() {
        "INTEGER" => get(value).map(Value::Int),
        "REAL" => get(value).map(Value::Float),
        "BLOB" => get::<&[u8]>(value).map(Value::from),
        _ => get::<&str>(value).map(Value::from),
    }
}

fn get<'r, T: Decode<'r, Sqlite>>(value: SqliteValueRef<'r>) -> Option<T> {
    T::decode(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_sqlite_would_change_is_refused() {
        for value in [Value::UInt(u64::MAX), Value::Float(f64::NAN), Value::Float(f64::INFINITY)] {
            assert!(encode(vec![Value::Int(1), value]).is_err());
        }
        assert_eq!(encode(vec![Value::Int(i64::MIN), Value::Null]).unwrap().len(), 2);
    }
}
