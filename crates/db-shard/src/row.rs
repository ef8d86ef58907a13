mod decode;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::de::{DeserializeOwned, IntoDeserializer};

use crate::error::At;
use crate::{Error, Result, Value};

/// The names of the columns of one result, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns(Arc<[Box<str>]>);

impl Columns {
    /// Returns columns of these names, in order.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self(names.into_iter().map(Box::from).collect())
    }

    /// Returns the names in order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.0.iter().map(AsRef::as_ref)
    }

    /// Returns the position of the first column called `name`.
    #[must_use]
    pub fn position(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|column| &**column == name)
    }
}

/// One row of a result.
///
/// Most callers let serde turn it into a type of their own:
/// `db.query::<User>(…)`. A struct takes columns by name, a tuple by position,
/// a single value the only column there is; a struct, list or map inside a
/// field is read from JSON text.
#[derive(Clone, PartialEq)]
pub struct Row {
    columns: Columns,
    values: Vec<Value>,
}

impl Row {
    /// Returns a row with one value for each column.
    #[must_use]
    pub fn new(columns: Columns, values: Vec<Value>) -> Self {
        Self { columns, values }
    }

    /// Returns the columns.
    #[must_use]
    pub fn columns(&self) -> &Columns {
        &self.columns
    }

    /// Returns the values in the order of the columns.
    #[must_use]
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// Returns the value of the column called `name`.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&Value> {
        self.values.get(self.columns.position(name)?)
    }

    /// Returns the value of the column called `name`, decoded.
    ///
    /// # Errors
    ///
    /// Fails with [`InvalidColumn`] if there is no such column, or if its value
    /// is not a `T`.
    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Result<T, InvalidColumn> {
        let value = self.value(name).ok_or_else(|| InvalidColumn {
            column: name.into(),
            expected: "a column of this name".into(),
            found: self.columns.names().collect::<Vec<_>>().join(", ").into(),
        })?;
        T::deserialize(value.into_deserializer()).map_err(|error| error.at_column(name))
    }

    /// Decodes the whole row.
    ///
    /// # Errors
    ///
    /// Fails with [`InvalidColumn`] if a column is missing or is not what `T`
    /// expects.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, InvalidColumn> {
        decode::decode(self)
    }
}

/// Shows columns and kinds of values, never the values.
impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.columns.names().zip(&self.values)).finish()
    }
}

/// A column that is absent or holds something else than the caller expects.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column `{column}`: expected {expected}, found {found}")]
pub struct InvalidColumn {
    pub(crate) column: Box<str>,
    pub(crate) expected: Cow<'static, str>,
    pub(crate) found: Cow<'static, str>,
}

impl InvalidColumn {
    pub(crate) fn at(self, at: At) -> Error {
        Error::Codec { at, column: self.column, expected: self.expected, found: self.found }
    }
}

/// What a row can be read as: every [`DeserializeOwned`] type, and [`Row`]
/// itself.
pub trait FromRow: Sized {
    /// Reads one row.
    ///
    /// # Errors
    ///
    /// Fails with [`InvalidColumn`] if the row is not such a value.
    fn from_row(row: Row) -> Result<Self, InvalidColumn>;
}

impl FromRow for Row {
    fn from_row(row: Row) -> Result<Self, InvalidColumn> {
        Ok(row)
    }
}

impl<T: DeserializeOwned> FromRow for T {
    fn from_row(row: Row) -> Result<Self, InvalidColumn> {
        row.decode()
    }
}

/// The rows that one statement of a procedure returned, and its count.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ResultSet {
    /// The rows, in order.
    pub rows: Vec<Row>,
    /// How many rows the statement changed.
    pub affected: u64,
}

impl ResultSet {
    pub(crate) fn new(rows: Vec<Row>, affected: u64) -> Self {
        Self { rows, affected }
    }

    /// Decodes every row.
    ///
    /// # Errors
    ///
    /// Fails with [`InvalidColumn`] at the first row that is not a `T`.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<Vec<T>, InvalidColumn> {
        self.rows.iter().map(Row::decode).collect()
    }
}

/// What a write did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Done {
    /// How many rows it changed. On MySQL an `UPDATE` counts the rows that it
    /// found, whether or not their values are others now, and an upsert counts
    /// two for a row that it changed and one for a row that it left as it was.
    pub affected: u64,
    /// The automatic id that this very statement gave to its first row, from
    /// its own result; `None` if it gave none.
    pub last_insert_id: Option<u64>,
}
