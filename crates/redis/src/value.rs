use crate::ServerError;

/// A reply of the server.
///
/// The `to_` and `as_` methods read what commands answer in several forms:
/// numbers come as integers or as text.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// Nothing is there.
    #[default]
    Nil,
    /// `OK`.
    Ok,
    /// An integer.
    Int(i64),
    /// A floating-point number (never on the connections of commands).
    Float(f64),
    /// Bytes, as they are stored.
    Bytes(Vec<u8>),
    /// A word of the server's own, such as `QUEUED`.
    Status(String),
    /// Several replies, maps as keys and values in turn.
    Array(Vec<Self>),
    /// A refusal among several replies, such as a script's.
    Error(ServerError),
}

impl Value {
    /// Tells whether nothing is there.
    #[must_use]
    pub fn is_nil(&self) -> bool {
        matches!(self, Self::Nil)
    }

    /// Tells whether the server said `OK`.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        matches!(self, Self::Ok)
    }

    /// Returns the integer, also where it is text.
    #[must_use]
    pub fn to_int(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(*number),
            _ => self.as_text()?.parse().ok(),
        }
    }

    /// Returns the number, also where it is text or an integer.
    #[must_use]
    pub fn to_float(&self) -> Option<f64> {
        match self {
            Self::Float(number) => Some(*number),
            Self::Int(number) => Some(*number as f64),
            _ => self.as_text()?.parse().ok(),
        }
    }

    /// Returns the bytes.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Status(text) => Some(text.as_bytes()),
            _ => None,
        }
    }

    /// Returns the bytes without a copy.
    #[must_use]
    pub fn into_bytes(self) -> Option<Vec<u8>> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Status(text) => Some(text.into_bytes()),
            _ => None,
        }
    }

    /// Returns the bytes where they are UTF-8 text.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        std::str::from_utf8(self.as_bytes()?).ok()
    }

    /// Returns the replies; `None` for a single one.
    #[must_use]
    pub fn as_array(&self) -> Option<&[Self]> {
        match self {
            Self::Array(values) => Some(values),
            _ => None,
        }
    }

    /// Returns the replies without a copy.
    #[must_use]
    pub fn into_array(self) -> Option<Vec<Self>> {
        match self {
            Self::Array(values) => Some(values),
            _ => None,
        }
    }

    /// Returns what kind of reply it is, for messages.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Nil => "nil",
            Self::Ok => "ok",
            Self::Int(_) => "integer",
            Self::Float(_) => "float",
            Self::Bytes(_) => "bytes",
            Self::Status(_) => "status",
            Self::Array(_) => "array",
            Self::Error(_) => "error",
        }
    }

    pub(crate) fn new(value: redis::Value) -> Self {
        use redis::Value as Driver;
        let pairs = |pairs: Vec<(Driver, Driver)>| {
            let flat = pairs.into_iter().flat_map(|(key, value)| [key, value]);
            Self::Array(flat.map(Self::new).collect())
        };
        match value {
            Driver::Nil => Self::Nil,
            Driver::Okay => Self::Ok,
            Driver::Int(number) => Self::Int(number),
            Driver::Boolean(truth) => Self::Int(truth.into()),
            Driver::Double(number) => Self::Float(number),
            Driver::BulkString(bytes) | Driver::BigNumber(bytes) => Self::Bytes(bytes),
            Driver::VerbatimString { text, .. } => Self::Bytes(text.into_bytes()),
            Driver::SimpleString(text) => Self::Status(text),
            Driver::Array(values) | Driver::Set(values) | Driver::Push { data: values, .. } => {
                Self::Array(values.into_iter().map(Self::new).collect())
            }
            Driver::Map(map) => pairs(map),
            Driver::Attribute { data, .. } => Self::new(*data),
            Driver::ServerError(error) => Self::Error(ServerError::new(&error)),
            // The enum may grow with the protocol; none of it is asked for.
            _ => Self::Nil,
        }
    }
}
