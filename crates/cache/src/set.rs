use std::fmt;

use bytes::Bytes;

use crate::service::to_key;
use crate::{CacheService, InvalidKey, Key, Op, Result, Ttl};

/// The set of texts under one key. Made by [`CacheService::set`]; cheap to
/// clone. Members that are no texts can be reached with
/// [`CacheService::run`].
#[derive(Clone)]
pub struct CacheSet {
    cache: CacheService,
    key: Key,
    ttl: Ttl,
}

impl CacheService {
    /// Returns the set under `key`, which need not exist. Does no I/O.
    ///
    /// # Errors
    ///
    /// Fails with `Invalid` if this is no key.
    pub fn set(&self, key: impl TryInto<Key, Error: Into<InvalidKey>>) -> Result<CacheSet> {
        Ok(CacheSet { cache: self.clone(), key: to_key(key)?, ttl: Ttl::Default })
    }
}

impl CacheSet {
    /// Sets the lifetime that writes give to the set. Default:
    /// [`Ttl::Default`].
    #[must_use]
    pub fn with_ttl(mut self, ttl: Ttl) -> Self {
        self.ttl = ttl;
        self
    }

    /// Returns the key.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Adds members in one step and returns how many are new.
    ///
    /// # Errors
    ///
    /// Fails with `Invalid` if the key holds no set, no member was given or one
    /// is larger than `max_value`, and with the errors of the store.
    pub async fn add(&self, members: impl IntoIterator<Item = impl Into<Bytes>>) -> Result<u64> {
        let members = members.into_iter().map(Into::into).collect();
        let op = Op::SetAdd { key: self.key.clone(), members, ttl: self.ttl };
        self.cache.one("set_add", op).await?.into_count()
    }

    /// Removes members in one step and returns how many there were.
    ///
    /// # Errors
    ///
    /// As [`add`](Self::add).
    pub async fn remove(&self, members: impl IntoIterator<Item = impl Into<Bytes>>) -> Result<u64> {
        let members = members.into_iter().map(Into::into).collect();
        let op = Op::SetRemove { key: self.key.clone(), members };
        self.cache.one("set_remove", op).await?.into_count()
    }

    /// Tells whether a member is there.
    ///
    /// # Errors
    ///
    /// As [`add`](Self::add).
    pub async fn has(&self, member: impl Into<Bytes>) -> Result<bool> {
        Ok(self.has_many([member]).await?.into_iter().all(|is_there| is_there))
    }

    /// Tells which members are there, in their order, at one moment.
    ///
    /// # Errors
    ///
    /// As [`add`](Self::add).
    pub async fn has_many(
        &self,
        members: impl IntoIterator<Item = impl Into<Bytes>>,
    ) -> Result<Vec<bool>> {
        let members = members.into_iter().map(Into::into).collect();
        let op = Op::SetHas { key: self.key.clone(), members };
        self.cache.one("set_has", op).await?.into_flags()
    }

    /// Returns every member, in no particular order.
    ///
    /// # Errors
    ///
    /// Fails with `Codec` if a member is no UTF-8, with `Invalid` if the key
    /// holds no set, and with the errors of the store.
    pub async fn all(&self) -> Result<Vec<String>> {
        self.texts("set_all", Op::SetAll { key: self.key.clone() }).await
    }

    /// Returns up to `count` different members, chosen at random.
    ///
    /// # Errors
    ///
    /// As [`all`](Self::all).
    pub async fn random(&self, count: u32) -> Result<Vec<String>> {
        self.texts("set_random", Op::SetRandom { key: self.key.clone(), count }).await
    }

    /// Removes up to `count` members, chosen at random, and returns them.
    ///
    /// # Errors
    ///
    /// As [`all`](Self::all); with `Codec` they are removed all the same.
    pub async fn pop(&self, count: u32) -> Result<Vec<String>> {
        self.texts("set_pop", Op::SetPop { key: self.key.clone(), count }).await
    }

    /// Counts the members.
    ///
    /// # Errors
    ///
    /// Fails with `Invalid` if the key holds no set, and with the errors of the
    /// store.
    pub async fn len(&self) -> Result<u64> {
        self.cache.one("set_len", Op::SetLen { key: self.key.clone() }).await?.into_count()
    }

    /// Removes the set.
    ///
    /// # Errors
    ///
    /// Fails with the errors of the store.
    pub async fn clear(&self) -> Result<()> {
        self.cache.remove(&self.key).await?;
        Ok(())
    }

    async fn texts(&self, operation: &'static str, op: Op) -> Result<Vec<String>> {
        let found = self.cache.one(operation, op).await?.into_members()?;
        found.into_iter().map(|member| self.cache.text(operation, &self.key, member)).collect()
    }
}

impl fmt::Debug for CacheSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CacheSet({})", self.key)
    }
}
