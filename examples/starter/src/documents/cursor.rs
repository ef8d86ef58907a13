use std::fmt;

use uuid::Uuid;

use crate::error::{Error, Result};

/// A place in a listing of documents: after the one with this id.
///
/// To clients it is a text without a meaning, version and id within. It tells
/// nothing about anybody's documents, so it needs no signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cursor(Uuid);

impl Cursor {
    const VERSION: &str = "d1";

    /// Returns the place after the document with this id.
    pub(crate) fn after(id: Uuid) -> Self {
        Self(id)
    }

    /// Reads what [`Display`](fmt::Display) wrote.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::Invalid`] for the field `cursor`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let id = text.strip_prefix(Self::VERSION).filter(|digits| digits.len() == 32);
        let id = id.and_then(|digits| Uuid::try_parse(digits).ok());
        let expected = "the `next_cursor` of an earlier page";
        id.map(Self).ok_or_else(|| Error::invalid("cursor", expected))
    }

    /// Returns the id of the last document before this place.
    pub(crate) fn last(self) -> Uuid {
        self.0
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", Self::VERSION, self.0.simple())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_back_and_nothing_else_is() {
        let cursor = Cursor::after(Uuid::from_u128(7));
        assert_eq!(Cursor::parse(&cursor.to_string()).unwrap(), cursor);
        let dashed = format!("d1{}", cursor.0.hyphenated());
        for text in ["", "d1", "x", "d2d1", &dashed, &cursor.to_string()[1..], "d1é"] {
            assert!(Cursor::parse(text).is_err(), "{text}");
        }
    }
}
