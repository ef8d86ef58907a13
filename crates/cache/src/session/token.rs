use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use trine_core::{BoxError, Secret};

use crate::{Error, Key, Result};

/// What a client shows to be taken for a user. Whoever has it is that user, so
/// `Debug` does not show it and the store has only its hash.
///
/// A version, the tag under which the user's sessions live, and 256 random
/// bits, in 60 characters that need no escaping in URLs and cookies.
#[derive(Clone)]
pub struct SessionToken {
    text: Secret,
    tag: Box<str>,
    hash: Hash,
}

/// The name of a session among those of its user: the beginning of the hash of
/// its token, so that it can be shown.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SessionId(Box<str>);

/// What the store knows of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hash([u8; HASH]);

/// Turns users into tags.
pub(super) struct Tagger(Hmac<Sha256>);

const VERSION: &str = "1";
const TAG: usize = 8;
const SECRET: usize = 32;
const HASH: usize = 32;

impl SessionToken {
    /// Returns the text, for the one client that it belongs to.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.text.expose()
    }

    /// Returns the token that `text` is, if it has the form of one.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(VERSION)?;
        let (tag, secret) = rest.split_at_checked(TAG * 2)?;
        let is_tag = tag.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let bytes: [u8; SECRET] = URL_SAFE_NO_PAD.decode(secret).ok()?.try_into().ok()?;
        is_tag.then(|| Self::new(tag, &bytes))
    }

    fn new(tag: &str, secret: &[u8; SECRET]) -> Self {
        let text = Secret::new(format!("{VERSION}{tag}{}", URL_SAFE_NO_PAD.encode(secret)));
        Self { text, tag: tag.into(), hash: Hash(Sha256::digest(secret).into()) }
    }

    pub(super) fn hash(&self) -> Hash {
        self.hash
    }

    /// Returns the key of all sessions of its user.
    pub(super) fn key(&self, prefix: &str) -> Result<Key> {
        key(prefix, &self.tag)
    }
}

fn key(prefix: &str, tag: &str) -> Result<Key> {
    Ok(Key::new(format!("{prefix}{{{tag}}}"))?)
}

impl Hash {
    /// Returns the field that the session has.
    pub(super) fn field(&self) -> Bytes {
        Bytes::copy_from_slice(&self.0)
    }

    /// Returns the hash that is the name of a field, unless it names something
    /// else.
    pub(super) fn of_field(field: &[u8]) -> Option<Self> {
        field.try_into().ok().map(Self)
    }

    pub(super) fn id(&self) -> SessionId {
        let beginning = self.0.first_chunk::<16>().map_or(0, |bytes| u128::from_be_bytes(*bytes));
        SessionId(format!("{beginning:032x}").into())
    }
}

impl SessionId {
    /// Returns the text that [`as_str`](Self::as_str) returned as a name.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// Returns the text: 32 hexadecimal digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Tagger {
    pub(super) fn new(key: &Secret) -> Self {
        // A digest first, so that a key of any length fits.
        let mut block = [0; 64];
        for (to, from) in block.iter_mut().zip(Sha256::digest(key.expose())) {
            *to = from;
        }
        Self(Hmac::new(&block.into()))
    }

    /// Returns the key of all sessions of `user`.
    pub(super) fn key(&self, prefix: &str, user: &str) -> Result<Key> {
        key(prefix, &self.tag(user))
    }

    /// Returns a token that nobody had before.
    pub(super) fn token(&self, user: &str) -> Result<SessionToken> {
        Ok(SessionToken::new(&self.tag(user), &random()?))
    }

    fn tag(&self, user: &str) -> String {
        let mut mac = self.0.clone();
        mac.update(user.as_bytes());
        let bytes = mac.finalize().into_bytes();
        let tag = bytes.first_chunk::<TAG>().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        format!("{tag:016x}")
    }
}

/// Returns bytes that nobody can guess.
pub(super) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|cause| Error::Random { cause: BoxError::from(cause) })?;
    Ok(bytes)
}

impl fmt::Debug for SessionToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionToken(***)")
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tagger() -> Tagger {
        Tagger::new(&Secret::new("k".repeat(32)))
    }

    #[test]
    fn a_token_is_read_back_and_shows_nothing() {
        let token = tagger().token("ada").unwrap();
        assert_eq!(token.expose().len(), 60);
        let read = SessionToken::parse(token.expose()).unwrap();
        assert_eq!(read.hash(), token.hash());
        assert_eq!(read.key("s:").unwrap(), tagger().key("s:", "ada").unwrap());
        assert_eq!(format!("{token:?}"), "SessionToken(***)");
    }

    #[test]
    fn what_is_no_token_is_none() {
        let good = tagger().token("ada").unwrap();
        let good = good.expose();
        let other_version = format!("2{}", &good[1..]);
        let upper = format!("1ABCDEF0123456789{}", &good[17..]);
        let cut = &good[..59];
        for text in ["", "1", "ä".repeat(30).as_str(), &other_version, &upper, cut] {
            assert!(SessionToken::parse(text).is_none(), "{text}");
        }
        assert!(SessionToken::parse(&format!("{good}x")).is_none());
    }

    #[test]
    fn tags_need_the_key() {
        let other = Tagger::new(&Secret::new("K".repeat(32)));
        assert_ne!(tagger().tag("ada"), other.tag("ada"));
        assert_ne!(tagger().tag("ada"), tagger().tag("bob"));
    }
}
