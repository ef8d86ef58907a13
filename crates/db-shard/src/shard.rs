use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The number of a shard. Numbers need not be contiguous, and 0 is valid.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct ShardId(u32);

impl ShardId {
    /// Returns the shard with this number.
    #[must_use]
    pub const fn new(id: u32) -> Self {
        Self(id)
    }

    /// Returns the number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl From<u32> for ShardId {
    fn from(id: u32) -> Self {
        Self(id)
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a shard takes at present. The shard map holds it for all processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ShardStatus {
    /// Everything.
    Active,
    /// Everything but new keys.
    Draining,
    /// Queries.
    ReadOnly,
    /// Migrations and health checks.
    Maintenance,
    /// Nothing: the shard is not connected.
    Offline,
}

impl ShardStatus {
    /// Every status, in the order of declaration.
    pub const ALL: [Self; 5] =
        [Self::Active, Self::Draining, Self::ReadOnly, Self::Maintenance, Self::Offline];

    /// Returns the stable name, such as `"read_only"`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Draining => "draining",
            Self::ReadOnly => "read_only",
            Self::Maintenance => "maintenance",
            Self::Offline => "offline",
        }
    }

    /// Tells whether the shard answers queries.
    #[must_use]
    pub fn can_read(self) -> bool {
        matches!(self, Self::Active | Self::Draining | Self::ReadOnly)
    }

    /// Tells whether the shard takes writes.
    #[must_use]
    pub fn can_write(self) -> bool {
        matches!(self, Self::Active | Self::Draining)
    }

    /// Tells whether the shard takes new keys.
    #[must_use]
    pub fn can_assign(self) -> bool {
        matches!(self, Self::Active)
    }
}

impl fmt::Display for ShardStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ShardStatus {
    type Err = UnknownStatus;

    fn from_str(text: &str) -> Result<Self, UnknownStatus> {
        let found = Self::ALL.into_iter().find(|status| status.as_str() == text);
        found.ok_or_else(|| UnknownStatus { text: text.into() })
    }
}

/// A text that is no shard status.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}`: expected one of active, draining, read_only, maintenance, offline")]
pub struct UnknownStatus {
    text: Box<str>,
}

/// What decides on which shard rows live: an account, a tenant, a customer.
///
/// Keys of different types never collide: each type is stored with a tag of
/// its own.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardKey(Box<[u8]>);

impl ShardKey {
    /// Longest stored form in bytes, the tag included.
    pub const MAX: usize = 128;

    /// Returns the stored form: one byte for the type, then big-endian
    /// numbers, the bytes of the UUID, or UTF-8.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn tagged(tag: u8, bytes: &[u8]) -> Self {
        let mut stored = Vec::with_capacity(bytes.len() + 1);
        stored.push(tag);
        stored.extend_from_slice(bytes);
        Self(stored.into())
    }
}

/// Shows the type and a digest: keys may be personal data.
impl fmt::Debug for ShardKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.0.first().map_or('?', |tag| char::from(*tag));
        let digest = self.0.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        write!(f, "ShardKey({kind}:{:08x})", digest as u32)
    }
}

impl From<u64> for ShardKey {
    fn from(key: u64) -> Self {
        Self::tagged(b'u', &key.to_be_bytes())
    }
}

impl From<i64> for ShardKey {
    fn from(key: i64) -> Self {
        Self::tagged(b'i', &key.to_be_bytes())
    }
}

impl From<Uuid> for ShardKey {
    fn from(key: Uuid) -> Self {
        Self::tagged(b'g', key.as_bytes())
    }
}

impl TryFrom<&str> for ShardKey {
    type Error = InvalidShardKey;

    fn try_from(key: &str) -> Result<Self, InvalidShardKey> {
        if key.is_empty() || key.len() >= Self::MAX {
            return Err(InvalidShardKey { length: key.len() });
        }
        Ok(Self::tagged(b't', key.as_bytes()))
    }
}

/// A text that cannot be a shard key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("shard key of {length} bytes: expected 1 to {}", ShardKey::MAX - 1)]
pub struct InvalidShardKey {
    length: usize,
}

/// Something that knows its shard key, such as a session of the host's.
pub trait Routed {
    /// Returns the key that decides where its rows live.
    fn shard_key(&self) -> ShardKey;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_different_types_differ() {
        let uuid = Uuid::from_u128(5);
        let keys = [
            ShardKey::from(5_u64),
            ShardKey::from(5_i64),
            ShardKey::from(uuid),
            ShardKey::try_from("5").unwrap(),
        ];
        for (index, key) in keys.iter().enumerate() {
            assert!(keys.iter().skip(index + 1).all(|other| other != key));
        }
    }

    #[test]
    fn texts_are_bounded() {
        assert!(ShardKey::try_from("").is_err());
        assert!(ShardKey::try_from("x".repeat(128).as_str()).is_err());
        assert_eq!(ShardKey::try_from("x".repeat(127).as_str()).unwrap().as_bytes().len(), 128);
    }

    #[test]
    fn debug_hides_the_key() {
        let key = ShardKey::try_from("ada@example.org").unwrap();
        assert!(!format!("{key:?}").contains("ada"));
    }

    #[test]
    fn statuses_read_what_they_print() {
        for status in ShardStatus::ALL {
            assert_eq!(status.to_string().parse(), Ok(status));
        }
        assert!("disabled".parse::<ShardStatus>().is_err());
    }
}
