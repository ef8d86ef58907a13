use std::fmt;

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{self, DeserializeOwned, Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

use super::{InvalidColumn, Row};
use crate::Value;

/// Reads `row` as a `T`, and names the column if that fails.
pub(super) fn decode<T: DeserializeOwned>(row: &Row) -> Result<T, InvalidColumn> {
    T::deserialize(RowDeserializer(row)).map_err(|error| {
        // serde does not say where it was, so the columns are listed.
        let columns = || row.columns().names().collect::<Vec<_>>().join(", ");
        let column = error.column.clone().unwrap_or_else(|| columns().into());
        error.at_column(&column)
    })
}

/// Why a value is not what serde asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CellError {
    message: Box<str>,
    expected: Option<Box<str>>,
    found: Option<Box<str>>,
    column: Option<Box<str>>,
}

impl CellError {
    fn mismatch(expected: &str, found: &str) -> Self {
        Self {
            message: format!("expected {expected}, found {found}").into(),
            expected: Some(expected.into()),
            found: Some(found.into()),
            column: None,
        }
    }

    fn in_column(mut self, column: &str) -> Self {
        self.column.get_or_insert_with(|| column.into());
        self
    }

    pub(super) fn at_column(self, column: &str) -> InvalidColumn {
        InvalidColumn {
            column: self.column.unwrap_or_else(|| column.into()),
            expected: self.expected.unwrap_or(self.message).into_string().into(),
            found: self.found.unwrap_or_else(|| "another value".into()).into_string().into(),
        }
    }
}

impl fmt::Display for CellError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for CellError {}

impl de::Error for CellError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { message: message.to_string().into(), expected: None, found: None, column: None }
    }

    // The value itself is left out: messages never carry what is stored.
    fn invalid_type(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::mismatch(&expected.to_string(), kind_of(found))
    }

    fn invalid_value(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let found = format!("{} out of range", kind_of(found));
        Self::mismatch(&expected.to_string(), &found)
    }

    fn missing_field(field: &'static str) -> Self {
        let mut error = Self::mismatch("a column of this name", "none");
        error.column = Some(field.into());
        error
    }

    fn unknown_variant(_: &str, variants: &'static [&'static str]) -> Self {
        Self::mismatch(&format!("one of {}", variants.join(", ")), "another text")
    }
}

fn kind_of(found: de::Unexpected<'_>) -> &'static str {
    match found {
        de::Unexpected::Bool(_) => "boolean",
        de::Unexpected::Unsigned(_) | de::Unexpected::Signed(_) => "integer",
        de::Unexpected::Float(_) => "float",
        de::Unexpected::Char(_) | de::Unexpected::Str(_) => "text",
        de::Unexpected::Bytes(_) => "bytes",
        de::Unexpected::Unit | de::Unexpected::Option => "null",
        de::Unexpected::Seq => "list",
        de::Unexpected::Map => "map",
        _ => "another value",
    }
}

struct RowDeserializer<'a>(&'a Row);

impl<'a> RowDeserializer<'a> {
    /// The value of a row that has one column.
    fn only(&self) -> Result<Cell<'a>, CellError> {
        match self.0.values() {
            [value] => {
                let column = self.0.columns().names().next();
                Ok(Cell { value, column })
            }
            values => Err(CellError::mismatch("one column", &format!("{} columns", values.len()))),
        }
    }

    fn cells(&self) -> impl Iterator<Item = (&'a str, Cell<'a>)> {
        let row = self.0;
        let cell =
            |(column, value): (&'a str, &'a Value)| (column, Cell { value, column: Some(column) });
        row.columns.0.iter().map(AsRef::as_ref).zip(&row.values).map(cell)
    }
}

macro_rules! forward_to_only {
    ($($method:ident)+) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CellError> {
            self.only()?.$method(visitor)
        })+
    };
}

impl<'de> Deserializer<'de> for RowDeserializer<'de> {
    type Error = CellError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CellError> {
        self.deserialize_map(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CellError> {
        visitor.visit_map(MapDeserializer::new(self.cells()))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, CellError> {
        self.deserialize_map(visitor)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CellError> {
        visitor.visit_seq(SeqDeserializer::new(self.cells().map(|(_, cell)| cell)))
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, CellError> {
        if self.0.values().len() != length {
            let found = format!("{} columns", self.0.values().len());
            return Err(CellError::mismatch(&format!("{length} columns"), &found));
        }
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, CellError> {
        self.deserialize_tuple(length, visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, CellError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CellError> {
        match self.0.values() {
            [Value::Null] => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CellError> {
        visitor.visit_unit()
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, CellError> {
        self.only()?.deserialize_enum(name, variants, visitor)
    }

    forward_to_only! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_i128 deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
        deserialize_u128 deserialize_f32 deserialize_f64 deserialize_char deserialize_str deserialize_string
        deserialize_bytes deserialize_byte_buf
    }

    forward_to_deserialize_any! { unit_struct identifier ignored_any }
}

impl<'de> IntoDeserializer<'de, CellError> for &'de Value {
    type Deserializer = Cell<'de>;

    fn into_deserializer(self) -> Cell<'de> {
        Cell { value: self, column: None }
    }
}

/// One value on its way to serde.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell<'a> {
    value: &'a Value,
    column: Option<&'a str>,
}

impl Cell<'_> {
    fn named(self, error: CellError) -> CellError {
        match self.column {
            Some(column) => error.in_column(column),
            None => error,
        }
    }
}

impl<'de> IntoDeserializer<'de, CellError> for Cell<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Cell<'de> {
    fn any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CellError> {
        match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Int(value) => visitor.visit_i64(*value),
            Value::UInt(value) => visitor.visit_u64(*value),
            Value::Float(value) => visitor.visit_f64(*value),
            Value::Decimal(text) | Value::Text(text) => visitor.visit_borrowed_str(text),
            Value::Bytes(bytes) => visitor.visit_borrowed_bytes(bytes),
            Value::Time(time) => visitor.visit_i64(time.as_micros()),
            Value::Uuid(uuid) => visitor.visit_borrowed_bytes(uuid.as_bytes()),
            Value::Json(json) => json
                .as_ref()
                .clone()
                .into_deserializer()
                .deserialize_any(visitor)
                .map_err(|error| json_error(&error)),
        }
    }

    /// Reads a list, map or struct from JSON, whether the engine has a type
    /// for it or keeps it as text.
    fn json<V: Visitor<'de>>(
        self,
        read: impl FnOnce(serde_json::Value) -> serde_json::Result<V::Value>,
    ) -> Result<V::Value, CellError> {
        let json = match self.value {
            Value::Json(json) => json.as_ref().clone(),
            Value::Text(text) => serde_json::from_str(text).map_err(|error| json_error(&error))?,
            Value::Bytes(bytes) => {
                serde_json::from_slice(bytes).map_err(|error| json_error(&error))?
            }
            other => return Err(CellError::mismatch("json", other.kind())),
        };
        read(json).map_err(|error| json_error(&error))
    }

    /// Reads a whole number, also from a decimal without a fraction: sums of
    /// integers are decimals on some engines.
    fn integer<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CellError> {
        let Value::Decimal(text) = self.value else {
            return self.any(visitor);
        };
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        if fraction.bytes().any(|digit| digit != b'0') {
            let expected = (&visitor as &dyn de::Expected).to_string();
            return Err(CellError::mismatch(&expected, "decimal with a fraction"));
        }
        if let Ok(value) = whole.parse() {
            return visitor.visit_i64(value);
        }
        if let Ok(value) = whole.parse() {
            return visitor.visit_u64(value);
        }
        match whole.parse() {
            Ok(value) => visitor.visit_i128(value),
            Err(_) => Err(de::Error::invalid_value(de::Unexpected::Other("decimal"), &visitor)),
        }
    }

    fn text(self) -> Option<&'de str> {
        match self.value {
            Value::Text(text) | Value::Decimal(text) => Some(text),
            Value::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
            Value::Json(json) => json.as_str(),
            _ => None,
        }
    }
}

fn json_error(error: &serde_json::Error) -> CellError {
    // serde_json quotes the value at fault; its category says enough.
    let found = match error.classify() {
        serde_json::error::Category::Data => "json of another shape",
        _ => "text that is not json",
    };
    CellError::mismatch("json of the type asked for", found)
}

macro_rules! integers {
    ($($method:ident)+) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CellError> {
            self.integer(visitor).map_err(|error| self.named(error))
        })+
    };
}

impl<'de> Deserializer<'de> for Cell<'de> {
    type Error = CellError;

    integers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CellError> {
        self.any(visitor).map_err(|error| self.named(error))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CellError> {
        match self.value {
            Value::Int(0) => visitor.visit_bool(false),
            Value::Int(1) => visitor.visit_bool(true),
            Value::Int(_) => Err(self.named(CellError::mismatch("0 or 1", "another integer"))),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CellError> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    // UUIDs and other self-describing types ask for text or bytes by the
    // format's nature; a row is a binary format, and text passes as bytes.
    fn is_human_readable(&self) -> bool {
        !matches!(self.value, Value::Uuid(_) | Value::Bytes(_))
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CellError> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CellError> {
        match self.value {
            Value::Decimal(text) => match text.parse() {
                Ok(value) => visitor.visit_f64(value),
                Err(_) => Err(self.named(CellError::mismatch("float", "decimal"))),
            },
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CellError> {
        match (self.value, self.text()) {
            (Value::Bytes(_), Some(text)) => visitor.visit_borrowed_str(text),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CellError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, CellError> {
        let result = match self.value {
            Value::Json(_) => self.json::<V>(|json| json.deserialize_enum(name, variants, visitor)),
            _ => match self.text() {
                Some(text) => visitor.visit_enum(text.into_deserializer()),
                None => Err(CellError::mismatch("text", self.value.kind())),
            },
        };
        result.map_err(|error| self.named(error))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, CellError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CellError> {
        self.json::<V>(|json| json.deserialize_seq(visitor)).map_err(|error| self.named(error))
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, CellError> {
        self.json::<V>(|json| json.deserialize_tuple(length, visitor))
            .map_err(|error| self.named(error))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CellError> {
        self.json::<V>(|json| json.deserialize_map(visitor)).map_err(|error| self.named(error))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, CellError> {
        self.json::<V>(|json| json.deserialize_struct(name, fields, visitor))
            .map_err(|error| self.named(error))
    }

    forward_to_deserialize_any! {
        char bytes byte_buf unit unit_struct
        tuple_struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use uuid::Uuid;

    use super::*;
    use crate::Timestamp;
    use crate::row::Columns;

    fn row(cells: &[(&str, Value)]) -> Row {
        let columns = Columns::new(cells.iter().map(|(name, _)| *name));
        Row::new(columns, cells.iter().map(|(_, value)| value.clone()).collect())
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Level {
        Free,
        Paid,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct User {
        id: u64,
        name: String,
        level: Level,
        active: bool,
        score: Option<f64>,
        tags: Vec<String>,
        token: Uuid,
        seen: Timestamp,
    }

    #[test]
    fn a_struct_takes_columns_by_name() {
        let token = Uuid::from_u128(7);
        let user: User = row(&[
            ("name", "Ada".into()),
            ("id", 7_u64.into()),
            ("level", "paid".into()),
            ("active", true.into()),
            ("score", Value::Null),
            ("tags", "[\"a\",\"b\"]".into()),
            ("token", token.as_bytes().into()),
            ("seen", Timestamp::from_micros(5).into()),
        ])
        .decode()
        .unwrap();
        assert_eq!(user.tags, ["a", "b"]);
        assert_eq!((user.id, user.level, user.token), (7, Level::Paid, token));
        assert_eq!((user.active, user.score, user.seen.as_micros()), (true, None, 5));
    }

    #[test]
    fn tuples_go_by_position_and_single_values_by_the_only_column() {
        let pair = row(&[("a", 1.into()), ("b", "x".into())]);
        assert_eq!(pair.decode::<(i64, String)>().unwrap(), (1, "x".to_owned()));
        assert!(pair.decode::<(i64, String, i64)>().is_err());
        assert!(pair.decode::<i64>().is_err());
        assert_eq!(row(&[("n", 3.into())]).decode::<u8>().unwrap(), 3);
        assert_eq!(row(&[("n", Value::Null)]).decode::<Option<u8>>().unwrap(), None);
        assert_eq!(row(&[("u", Value::from(Uuid::nil()))]).decode::<Uuid>().unwrap(), Uuid::nil());
        let text = Uuid::from_u128(9).to_string();
        let uuid = row(&[("u", text.into())]).decode::<Uuid>().unwrap();
        assert_eq!(uuid, Uuid::from_u128(9));
    }

    #[test]
    fn a_decimal_is_read_as_the_number_that_it_is() {
        let decimal = |text: &str| row(&[("sum", Value::Decimal(text.into()))]);
        assert_eq!(decimal("6").decode::<i64>().unwrap(), 6);
        assert_eq!(decimal("-6.000").decode::<i8>().unwrap(), -6);
        assert_eq!(decimal("18446744073709551615").decode::<u64>().unwrap(), u64::MAX);
        assert_eq!(decimal("-18446744073709551616").decode::<i128>().unwrap(), -(1 << 64));
        assert_eq!(decimal("2.5").decode::<f64>().unwrap(), 2.5);
        assert_eq!(decimal("2.5").decode::<f32>().unwrap(), 2.5);
        assert_eq!(decimal("2.5").decode::<Option<String>>().unwrap().as_deref(), Some("2.5"));
        let error = decimal("2.5").get::<i64>("sum").unwrap_err().to_string();
        assert_eq!(error, "column `sum`: expected i64, found decimal with a fraction");
        for (text, wide) in [("300", false), ("-1", false), (&*"9".repeat(60), true)] {
            let error = decimal(text).get::<u8>("sum").unwrap_err().to_string();
            assert!(error.contains("`sum`: expected u8") && !error.contains(text), "{error}");
            assert_eq!(decimal(text).decode::<i64>().is_err(), wide);
        }
    }

    #[test]
    fn a_mismatch_names_the_column_and_hides_the_value() {
        let user = row(&[("id", "secret".into())]);
        let error = user.get::<u64>("id").unwrap_err();
        assert_eq!(error.to_string(), "column `id`: expected u64, found text");
        let error = user.decode::<(u64,)>().unwrap_err().to_string();
        assert!(error.contains("`id`") && !error.contains("secret"), "{error}");
        let error = row(&[("id", Value::Int(-1))]).get::<u64>("id").unwrap_err();
        assert!(error.to_string().contains("out of range"), "{error}");
    }

    #[test]
    fn a_missing_column_is_named() {
        #[derive(Debug, Deserialize)]
        struct Named {
            #[serde(rename = "title")]
            _title: String,
        }
        let error = row(&[("id", 1.into())]).decode::<Named>().unwrap_err();
        assert_eq!(error.to_string(), "column `title`: expected a column of this name, found none");
        assert!(row(&[("id", 1.into())]).get::<i64>("idd").unwrap_err().to_string().contains("id"));
    }

    #[test]
    fn an_unreadable_document_does_not_print_itself() {
        let error = row(&[("tags", "secret".into())]).get::<Vec<i64>>("tags").unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
