use std::cmp::Ordering;

use serde::de::DeserializeOwned;

use super::{Asked, FanOutCall, FanOutValue};
use crate::backend::Access;
use crate::{Database, IntoParams, InvalidColumn, Result, Row, SqlText, Value};

/// A number that sums over shards are made of: `i64`, `u64` and `f64`.
pub trait Total: Copy + Send + sealed::Sealed {
    /// The sum of nothing.
    const ZERO: Self;

    /// The name of the type, for messages.
    const NAME: &'static str;

    /// Returns the number in a column, if it is one of this type.
    fn from_value(value: &Value) -> Option<Self>;

    /// Returns the sum, unless it is out of range.
    #[must_use]
    fn plus(self, other: Self) -> Option<Self>;
}

mod sealed {
    pub trait Sealed {}

    impl Sealed for i64 {}
    impl Sealed for u64 {}
    impl Sealed for f64 {}
}

impl Total for i64 {
    const ZERO: Self = 0;
    const NAME: &'static str = "i64";

    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Int(value) => Some(*value),
            Value::UInt(value) => Self::try_from(*value).ok(),
            // What MySQL makes of the sum of integers.
            Value::Decimal(text) => text.parse().ok(),
            _ => None,
        }
    }

    fn plus(self, other: Self) -> Option<Self> {
        self.checked_add(other)
    }
}

impl Total for u64 {
    const ZERO: Self = 0;
    const NAME: &'static str = "u64";

    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Int(value) => Self::try_from(*value).ok(),
            Value::UInt(value) => Some(*value),
            Value::Decimal(text) => text.parse().ok(),
            _ => None,
        }
    }

    fn plus(self, other: Self) -> Option<Self> {
        self.checked_add(other)
    }
}

impl Total for f64 {
    const ZERO: Self = 0.0;
    const NAME: &'static str = "f64";

    #[expect(clippy::cast_precision_loss, reason = "the caller asked for a float")]
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Float(value) => Some(*value),
            Value::Int(value) => Some(*value as Self),
            Value::UInt(value) => Some(*value as Self),
            Value::Decimal(text) => text.parse().ok(),
            _ => None,
        }
    }

    fn plus(self, other: Self) -> Option<Self> {
        Some(self + other).filter(|sum| sum.is_finite())
    }
}

impl FanOutCall {
    /// Adds up the only column of a query over every shard. Null counts as
    /// nothing, and so does a shard without rows.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query), and `Codec` for another number of columns,
    /// for a value that is no such number and for a sum that is out of range.
    pub async fn sum<N: Total>(
        &self,
        sql: impl Into<SqlText>,
        params: impl IntoParams,
    ) -> Result<FanOutValue<N>> {
        self.total("fan_out.sum", (sql.into(), params.into_params())).await
    }

    /// Adds up counts: the only column of a query such as
    /// `SELECT COUNT(*) FROM note`.
    ///
    /// # Errors
    ///
    /// As [`sum`](Self::sum).
    pub async fn count(
        &self,
        sql: impl Into<SqlText>,
        params: impl IntoParams,
    ) -> Result<FanOutValue<u64>> {
        self.total("fan_out.count", (sql.into(), params.into_params())).await
    }

    /// Returns the least value in the only column of a query over every shard;
    /// `None` if there is none but null.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query), and `Codec` if a value is not a `T`.
    pub async fn min<T: DeserializeOwned + PartialOrd + Send>(
        &self,
        sql: impl Into<SqlText>,
        params: impl IntoParams,
    ) -> Result<FanOutValue<Option<T>>> {
        let asked = (sql.into(), params.into_params());
        self.extreme("fan_out.min", asked, Ordering::Less).await
    }

    /// Returns the greatest value in the only column of a query over every
    /// shard; `None` if there is none but null.
    ///
    /// # Errors
    ///
    /// As [`min`](Self::min).
    pub async fn max<T: DeserializeOwned + PartialOrd + Send>(
        &self,
        sql: impl Into<SqlText>,
        params: impl IntoParams,
    ) -> Result<FanOutValue<Option<T>>> {
        let asked = (sql.into(), params.into_params());
        self.extreme("fan_out.max", asked, Ordering::Greater).await
    }

    async fn total<N: Total>(
        &self,
        operation: &'static str,
        asked: Asked,
    ) -> Result<FanOutValue<N>> {
        let (sql, params) = &asked;
        let ask = |database: Database| async move {
            let rows: Vec<Row> = database.query(sql.clone(), params.clone()).await?;
            let total = rows.iter().try_fold(N::ZERO, |total, row| add_row(total, row));
            total.map_err(|error| error.at(database.at(operation)))
        };
        let gathered = self.gather(operation, Access::Read, self.partial, ask).await?;
        let mut parts = gathered.by_shard.into_values();
        let value = parts.try_fold(N::ZERO, N::plus);
        let value = value.ok_or_else(|| {
            out_of_range::<N>("sum over the shards").at(self.service.global().at(operation))
        })?;
        Ok(FanOutValue { value, failed: gathered.failed })
    }

    async fn extreme<T: DeserializeOwned + PartialOrd + Send>(
        &self,
        operation: &'static str,
        asked: Asked,
        wanted: Ordering,
    ) -> Result<FanOutValue<Option<T>>> {
        let (sql, params) = &asked;
        let better = |best: Option<T>, next: Option<T>| match (best, next) {
            (Some(best), Some(next)) if next.partial_cmp(&best) == Some(wanted) => Some(next),
            (best, next) => best.or(next),
        };
        let better = &better;
        let ask = |database: Database| async move {
            let rows: Vec<Option<T>> = database.query(sql.clone(), params.clone()).await?;
            Ok(rows.into_iter().fold(None, better))
        };
        let gathered = self.gather(operation, Access::Read, self.partial, ask).await?;
        let value = gathered.by_shard.into_values().fold(None, better);
        Ok(FanOutValue { value, failed: gathered.failed })
    }
}

fn add_row<N: Total>(total: N, row: &Row) -> Result<N, InvalidColumn> {
    let column = row.columns().names().next().unwrap_or_default();
    let invalid = |found: String| InvalidColumn {
        column: column.into(),
        expected: N::NAME.into(),
        found: found.into(),
    };
    match row.values() {
        [Value::Null] => Ok(total),
        [value] => {
            let found = || format!("{} that is no {}", value.kind(), N::NAME);
            let value = N::from_value(value).ok_or_else(|| invalid(found()))?;
            total.plus(value).ok_or_else(|| out_of_range::<N>(column))
        }
        values => Err(invalid(format!("{} columns", values.len()))),
    }
}

fn out_of_range<N: Total>(column: &str) -> InvalidColumn {
    InvalidColumn {
        column: column.into(),
        expected: format!("a sum that fits {}", N::NAME).into(),
        found: "one that is out of range".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Columns;

    fn add<N: Total>(values: Vec<Value>) -> Result<N, InvalidColumn> {
        let row = |value| Row::new(Columns::new(["n"]), vec![value]);
        values.into_iter().map(row).try_fold(N::ZERO, |total, row| add_row(total, &row))
    }

    #[test]
    fn numbers_of_every_kind_add_up() {
        let decimal = Value::Decimal("5".into());
        assert_eq!(add::<i64>(vec![1.into(), Value::Null, decimal.clone()]), Ok(6));
        assert_eq!(add::<u64>(vec![Value::UInt(u64::MAX - 5), decimal.clone()]), Ok(u64::MAX));
        assert_eq!(add::<f64>(vec![0.5.into(), 1.into(), Value::Decimal("1.25".into())]), Ok(2.75));
    }

    #[test]
    fn a_sum_out_of_range_is_an_error() {
        assert!(add::<i64>(vec![i64::MAX.into(), 1.into()]).is_err());
        assert!(add::<u64>(vec![Value::UInt(u64::MAX), 1.into()]).is_err());
        assert!(add::<f64>(vec![f64::MAX.into(), f64::MAX.into()]).is_err());
    }

    #[test]
    fn what_is_no_number_is_an_error() {
        assert!(add::<i64>(vec!["5".into()]).is_err());
        assert!(add::<u64>(vec![(-1).into()]).is_err());
        let row = Row::new(Columns::new(["a", "b"]), vec![1.into(), 2.into()]);
        assert!(add_row(0_i64, &row).is_err());
    }
}
