use std::fmt;

use async_trait::async_trait;

use crate::BoxFault;

/// What an exclusive claim proves to the resources it writes to.
///
/// A resource keeps the highest token it was shown per key and refuses a lower
/// one. It can refuse only what it knows to be old, so a new owner shows its
/// token to each resource before it reads there.
///
/// The protocol is the one of Martin Kleppmann, "How to do distributed
/// locking" (2016).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Fence {
    key: Box<str>,
    token: u64,
}

impl Fence {
    /// Tokens stay below 2^53, so that every script language can compare them.
    pub const MAX_TOKEN: u64 = (1 << 53) - 1;

    /// Longest key in bytes.
    pub const MAX_KEY: usize = 255;

    /// Returns the fence of `token` under `key`.
    ///
    /// # Errors
    ///
    /// Fails with [`InvalidFence`] if the key is empty, longer than
    /// [`MAX_KEY`](Self::MAX_KEY) bytes or has control characters, or if the
    /// token is 0 or above [`MAX_TOKEN`](Self::MAX_TOKEN).
    pub fn new(key: impl Into<Box<str>>, token: u64) -> Result<Self, InvalidFence> {
        let key = key.into();
        if key.is_empty() || key.len() > Self::MAX_KEY || key.chars().any(char::is_control) {
            return Err(InvalidFence::Key { length: key.len() });
        }
        if token == 0 || token > Self::MAX_TOKEN {
            return Err(InvalidFence::Token { token });
        }
        Ok(Self { key, token })
    }

    /// Returns the key: issuer, service, instance and name, such as
    /// `lock.default/order:42`.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Returns the token; a later owner's is higher.
    #[must_use]
    pub fn token(&self) -> u64 {
        self.token
    }

    /// Returns the token that follows `last` at an issuer whose server clock
    /// shows `now_micros` (since the Unix epoch): it grows even if the record
    /// of the last one was lost.
    #[must_use]
    pub fn next_token(last: u64, now_micros: u64) -> u64 {
        last.saturating_add(1).max(now_micros).min(Self::MAX_TOKEN)
    }
}

impl fmt::Debug for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fence({}#{})", self.key, self.token)
    }
}

/// Why a fence could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidFence {
    /// The key is empty, too long or has control characters.
    #[error("fence key of {length} bytes: expected 1 to 255 without control characters")]
    Key {
        /// Its length in bytes.
        length: usize,
    },
    /// The token is outside 1 to 2^53 − 1.
    #[error("fence token {token}: expected 1 to 2^53 - 1")]
    Token {
        /// The refused token.
        token: u64,
    },
}

/// A resource, or a named part of one, that refuses old tokens.
#[async_trait]
pub trait FenceSink: fmt::Debug + Send + Sync {
    /// Shows `fence` to the resource: from the moment this returns, lower
    /// tokens of the same key are refused there, and what an older owner wrote
    /// before is visible to the caller.
    ///
    /// Idempotent. If the future is dropped, the token may have been raised.
    ///
    /// # Errors
    ///
    /// Fails with kind [`Fenced`](crate::ErrorKind::Fenced) if a higher token
    /// was shown before.
    async fn raise(&self, fence: &Fence) -> Result<(), BoxFault>;
}

/// So that `&db.global()` is a resource whether it is lent or given.
#[async_trait]
impl<S: FenceSink + ?Sized> FenceSink for &S {
    async fn raise(&self, fence: &Fence) -> Result<(), BoxFault> {
        (**self).raise(fence).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_tokens_are_bounded() {
        assert!(Fence::new("a", 1).is_ok());
        assert!(Fence::new("", 1).is_err());
        assert!(Fence::new("a".repeat(256), 1).is_err());
        assert!(Fence::new("a\n", 1).is_err());
        assert!(Fence::new("a", 0).is_err());
        assert!(Fence::new("a", Fence::MAX_TOKEN + 1).is_err());
    }

    #[test]
    fn tokens_grow_when_the_clock_stands_and_when_the_record_is_lost() {
        assert_eq!(Fence::next_token(7, 3), 8);
        assert_eq!(Fence::next_token(0, 1_700_000_000_000_000), 1_700_000_000_000_000);
        assert_eq!(Fence::next_token(Fence::MAX_TOKEN, 0), Fence::MAX_TOKEN);
    }
}
