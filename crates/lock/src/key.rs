use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// The name of what is locked.
///
/// It has no `#`, which separates the number of a permit from its key in the
/// key of a fence, so that no two locks show the same one.
///
/// Cheap to clone.
///
/// # Example
///
/// ```
/// use trine_lock::Key;
///
/// assert_eq!(Key::new("order:42")?.as_str(), "order:42");
/// assert!(Key::new("").is_err());
/// # Ok::<(), trine_lock::InvalidKey>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

impl Key {
    /// Longest key in bytes: with the name of the service and the number of a
    /// permit it must fit into the key of a fence.
    pub const MAX: usize = 200;

    /// Returns `text` as a key.
    ///
    /// # Errors
    ///
    /// Fails with [`InvalidKey`] if the text is empty, longer than
    /// [`MAX`](Self::MAX) bytes, or has a `#` or a control character.
    pub fn new(text: impl Into<Arc<str>>) -> Result<Self, InvalidKey> {
        let text = text.into();
        if text.is_empty() || text.len() > Self::MAX {
            return Err(InvalidKey::Length { length: text.len() });
        }
        if text.chars().any(|c| c == '#' || c.is_control()) {
            return Err(InvalidKey::Character { key: text });
        }
        Ok(Self(text))
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<&str> for Key {
    type Error = InvalidKey;

    fn try_from(text: &str) -> Result<Self, InvalidKey> {
        Self::new(text)
    }
}

impl TryFrom<String> for Key {
    type Error = InvalidKey;

    fn try_from(text: String) -> Result<Self, InvalidKey> {
        Self::new(text)
    }
}

impl TryFrom<&String> for Key {
    type Error = InvalidKey;

    fn try_from(text: &String) -> Result<Self, InvalidKey> {
        Self::new(text.as_str())
    }
}

impl From<&Self> for Key {
    fn from(key: &Self) -> Self {
        key.clone()
    }
}

/// Why a text is no [`Key`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidKey {
    /// It is empty or too long.
    #[error("key of {length} bytes: expected 1 to {max}", max = Key::MAX)]
    Length {
        /// Its length in bytes.
        length: usize,
    },
    /// It has a `#` or a control character.
    #[error("key {key:?}: expected no `#` and no control characters")]
    Character {
        /// The refused text.
        key: Arc<str>,
    },
}

impl From<std::convert::Infallible> for InvalidKey {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_short_and_printable() {
        for text in ["a", "order:42", "ключ {x}/y z", &"a".repeat(Key::MAX)] {
            assert!(Key::new(text).is_ok(), "{text}");
        }
        for text in ["a#1", "#", "a\n", "\0"] {
            assert!(matches!(Key::new(text), Err(InvalidKey::Character { .. })), "{text}");
        }
        assert_eq!(Key::new(""), Err(InvalidKey::Length { length: 0 }));
        let refused = Key::new("a".repeat(Key::MAX + 1)).unwrap_err();
        assert_eq!(refused.to_string(), "key of 201 bytes: expected 1 to 200");
    }
}
