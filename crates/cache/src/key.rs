use std::fmt;
use std::sync::Arc;

/// The name of one entry inside the cache's own part of the store.
///
/// A key may have one tag in braces, such as `{user:7}:cart`. Keys of one tag
/// live together, which is what an [atomic batch](crate::Batch::atomic) needs;
/// a key without a tag lives with itself only. That holds on every backend, so
/// that what works in this process works in a cluster.
///
/// Cheap to clone.
///
/// # Example
///
/// ```
/// use trine_cache::Key;
///
/// assert_eq!(Key::new("{user:7}:cart")?.tag(), "user:7");
/// assert_eq!(Key::new("user:7")?.tag(), "user:7");
/// assert!(Key::new("user:{7").is_err());
/// # Ok::<(), trine_cache::InvalidKey>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

impl Key {
    /// Longest key in bytes.
    pub const MAX: usize = 512;

    /// Returns `text` as a key.
    ///
    /// # Errors
    ///
    /// Fails with [`InvalidKey`] if the text is empty, longer than
    /// [`MAX`](Self::MAX) bytes, or has a brace that is not part of its one,
    /// non-empty tag.
    pub fn new(text: impl Into<Arc<str>>) -> Result<Self, InvalidKey> {
        let text = text.into();
        if text.is_empty() || text.len() > Self::MAX {
            return Err(InvalidKey::Length { length: text.len() });
        }
        if !has_sound_braces(&text) {
            return Err(InvalidKey::Brace { key: text });
        }
        Ok(Self(text))
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns what decides which keys it lives with: the text in braces, else
    /// the whole key.
    #[must_use]
    pub fn tag(&self) -> &str {
        let tag = self.0.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
        tag.map_or(&self.0, |(tag, _)| tag)
    }
}

/// No brace at all, or one pair around something.
fn has_sound_braces(text: &str) -> bool {
    // Most have none, and one walk over the bytes finds that out.
    if !text.bytes().any(|byte| matches!(byte, b'{' | b'}')) {
        return true;
    }
    let Some((before, rest)) = text.split_once('{') else { return false };
    let Some((tag, after)) = rest.split_once('}') else { return false };
    let stray = |part: &str| part.contains(['{', '}']);
    !tag.is_empty() && !stray(before) && !stray(tag) && !stray(after)
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
    /// A brace is not part of one non-empty `{tag}`.
    #[error("key `{key}`: stray brace; expected none, or one `{{tag}}`")]
    Brace {
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
    fn a_key_has_no_brace_or_one_tag() {
        for text in ["a", "a:b", "{a}", "{a}b", "a{b}c", "ä {x}"] {
            assert!(Key::new(text).is_ok(), "{text}");
        }
        for text in ["{", "}", "{}", "{}a", "a{", "a}b", "{a", "}a{", "{{a}}", "{a}{b}", "{a}}"] {
            assert!(matches!(Key::new(text), Err(InvalidKey::Brace { .. })), "{text}");
        }
    }

    #[test]
    fn a_key_is_neither_empty_nor_endless() {
        assert_eq!(Key::new(""), Err(InvalidKey::Length { length: 0 }));
        assert!(Key::new("a".repeat(Key::MAX)).is_ok());
        let refused = Key::new("a".repeat(Key::MAX + 1)).unwrap_err();
        assert_eq!(refused.to_string(), "key of 513 bytes: expected 1 to 512");
    }
}
