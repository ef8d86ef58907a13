use std::fmt;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// A secret of 256 random bits that a client shows with each call.
///
/// Only its [digest](Self::digest) is ever stored.
pub(crate) struct Token([u8; Self::BYTES]);

/// The SHA-256 digest of a token. The token has 256 random bits, so a plain
/// hash is enough: there is nothing to guess.
pub(crate) type TokenDigest = [u8; 32];

impl Token {
    const BYTES: usize = 32;

    /// Returns a new token.
    ///
    /// # Errors
    ///
    /// Fails with `Unavailable` if the system has no random bits to give.
    pub(crate) fn random() -> Result<Self> {
        let mut bytes = [0; Self::BYTES];
        fill_random(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// Returns the token that `text` shows, `None` if it is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut digits = text.bytes().map(|digit| char::from(digit).to_digit(16));
        let mut bytes = [0; Self::BYTES];
        for byte in &mut bytes {
            let (high, low) = (digits.next()??, digits.next()??);
            *byte = u8::try_from(high << 4 | low).ok()?;
        }
        digits.next().is_none().then_some(Self(bytes))
    }

    /// Returns what a client shows: 64 hexadecimal digits.
    pub(crate) fn expose(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Returns what is stored.
    pub(crate) fn digest(&self) -> TokenDigest {
        digest(&self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(***)")
    }
}

/// Returns the SHA-256 digest of `bytes`.
pub(crate) fn digest(bytes: &[u8]) -> TokenDigest {
    Sha256::digest(bytes).into()
}

/// Fills `bytes` from the system's generator.
///
/// # Errors
///
/// Fails with `Unavailable` if the system has no random bits to give.
pub(crate) fn fill_random(bytes: &mut [u8]) -> Result<()> {
    getrandom::fill(bytes).map_err(|cause| Error::NoRandomness { cause: cause.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_back_from_what_it_shows() {
        let token = Token::random().unwrap();
        let shown = token.expose();
        assert_eq!(shown.len(), 64);
        assert_eq!(Token::parse(&shown).unwrap().digest(), token.digest());
        assert_ne!(Token::random().unwrap().digest(), token.digest());
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let shown = Token::random().unwrap().expose();
        let (short, long) = (&shown[1..], format!("{shown}0"));
        for text in ["", "z", short, &long, &shown.replace(&shown[..2], "+f"), "é"] {
            assert!(Token::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn debug_hides_the_token() {
        assert_eq!(format!("{:?}", Token::random().unwrap()), "Token(***)");
    }
}
