use std::fmt;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::service::to_key;
use crate::{CacheService, End, InvalidKey, Key, Op, Result, Ttl};

/// The list of values under one key. Made by [`CacheService::list`]; cheap to
/// clone.
#[derive(Clone)]
pub struct CacheList {
    cache: CacheService,
    key: Key,
    ttl: Ttl,
}

impl CacheService {
    /// Returns the list under `key`, which need not exist. Does no I/O.
    ///
    /// # Errors
    ///
    /// Fails with `Invalid` if this is no key.
    pub fn list(&self, key: impl TryInto<Key, Error: Into<InvalidKey>>) -> Result<CacheList> {
        Ok(CacheList { cache: self.clone(), key: to_key(key)?, ttl: Ttl::Default })
    }
}

impl CacheList {
    /// Sets the lifetime that writes give to the list. Default:
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

    /// Adds a value at an end and returns how many there are. Never sent twice.
    ///
    /// # Errors
    ///
    /// Fails with `Codec` if the value cannot be encoded, with `Invalid` if it
    /// is larger than `max_value` or the key holds no list, and with the errors
    /// of the store.
    pub async fn push<T: Serialize + ?Sized>(&self, end: End, value: &T) -> Result<u64> {
        self.push_many(end, [value]).await
    }

    /// Adds values at an end, one after the other, in one step, and returns how
    /// many there are. Pushed at the left, the last one is the first afterwards.
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push); `Invalid` also without any value.
    pub async fn push_many<'a, T: Serialize + ?Sized + 'a>(
        &self,
        end: End,
        values: impl IntoIterator<Item = &'a T>,
    ) -> Result<u64> {
        const OPERATION: &str = "list_push";
        let encode = |value| self.cache.encode(OPERATION, &self.key, value);
        let values = values.into_iter().map(encode).collect::<Result<_>>()?;
        let op = Op::ListPush { key: self.key.clone(), end, values, ttl: self.ttl };
        self.cache.one(OPERATION, op).await?.into_count()
    }

    /// Removes the value at an end and returns it. Never sent twice: after
    /// `OutcomeUnknown` a value may be gone.
    ///
    /// # Errors
    ///
    /// Fails with `Codec` if it is no `T`, and gone all the same; with `Invalid`
    /// if the key holds no list, and with the errors of the store.
    pub async fn pop<T: DeserializeOwned>(&self, end: End) -> Result<Option<T>> {
        Ok(self.pop_many(end, 1).await?.pop())
    }

    /// Removes up to `count` values at an end and returns them, the outermost
    /// first.
    ///
    /// # Errors
    ///
    /// As [`pop`](Self::pop).
    pub async fn pop_many<T: DeserializeOwned>(&self, end: End, count: u32) -> Result<Vec<T>> {
        self.values("list_pop", Op::ListPop { key: self.key.clone(), end, count }).await
    }

    /// Returns the values from `start` to `stop`, both included; negative
    /// positions count from the end.
    ///
    /// # Errors
    ///
    /// Fails with `Codec` if one is no `T`, with `Invalid` if the key holds no
    /// list, and with the errors of the store.
    pub async fn range<T: DeserializeOwned>(&self, start: i64, stop: i64) -> Result<Vec<T>> {
        self.values("list_range", Op::ListRange { key: self.key.clone(), start, stop }).await
    }

    /// Returns the value at `index`; negative ones count from the end.
    ///
    /// # Errors
    ///
    /// As [`range`](Self::range).
    pub async fn get<T: DeserializeOwned>(&self, index: i64) -> Result<Option<T>> {
        const OPERATION: &str = "list_get";
        let op = Op::ListIndex { key: self.key.clone(), index };
        let found = self.cache.one(OPERATION, op).await?.into_value()?;
        found.map(|bytes| self.cache.decode(OPERATION, &self.key, &bytes)).transpose()
    }

    /// Keeps only the values from `start` to `stop`, both included.
    ///
    /// # Errors
    ///
    /// Fails with `Invalid` if the key holds no list, and with the errors of
    /// the store.
    pub async fn trim(&self, start: i64, stop: i64) -> Result<()> {
        let op = Op::ListTrim { key: self.key.clone(), start, stop };
        self.cache.one("list_trim", op).await?.into_applied()?;
        Ok(())
    }

    /// Removes values that encode as `value`, up to `count` of them from the
    /// left, or from the right if negative, or all for 0; returns how many.
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push).
    pub async fn remove<T: Serialize + ?Sized>(&self, value: &T, count: i64) -> Result<u64> {
        const OPERATION: &str = "list_remove";
        let value = self.cache.encode(OPERATION, &self.key, value)?;
        let op = Op::ListRemove { key: self.key.clone(), value, count };
        self.cache.one(OPERATION, op).await?.into_count()
    }

    /// Counts the values.
    ///
    /// # Errors
    ///
    /// Fails with `Invalid` if the key holds no list, and with the errors of
    /// the store.
    pub async fn len(&self) -> Result<u64> {
        self.cache.one("list_len", Op::ListLen { key: self.key.clone() }).await?.into_count()
    }

    /// Removes the list.
    ///
    /// # Errors
    ///
    /// Fails with the errors of the store.
    pub async fn clear(&self) -> Result<()> {
        self.cache.remove(&self.key).await?;
        Ok(())
    }

    async fn values<T: DeserializeOwned>(&self, operation: &'static str, op: Op) -> Result<Vec<T>> {
        let found = self.cache.one(operation, op).await?.into_members()?;
        let decode = |bytes: &Bytes| self.cache.decode(operation, &self.key, bytes);
        found.iter().map(decode).collect()
    }
}

impl fmt::Debug for CacheList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CacheList({})", self.key)
    }
}
