use std::fmt;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::service::to_key;
use crate::{CacheService, Error, FieldPage, InvalidKey, Key, Op, PutOutcome, Result, Ttl};

/// The hash under one key: fields by name, each with a value of its own. Made
/// by [`CacheService::hash`]; cheap to clone.
///
/// # Example
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> trine_cache::Result<()> {
/// use trine_cache::{CacheConfig, CacheService};
///
/// let cache = CacheService::connect(&CacheConfig::memory()).await?;
/// let user = cache.hash("user:7")?;
/// user.put("name", "Ada").await?;
/// user.add("visits", 1).await?;
/// assert_eq!(user.get::<String>("name").await?.as_deref(), Some("Ada"));
/// assert_eq!(user.get::<i64>("visits").await?, Some(1));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct CacheHash {
    cache: CacheService,
    key: Key,
    ttl: Ttl,
}

impl CacheService {
    /// Returns the hash under `key`, which need not exist. Does no I/O.
    ///
    /// # Errors
    ///
    /// Fails with `Invalid` if this is no key.
    pub fn hash(&self, key: impl TryInto<Key, Error: Into<InvalidKey>>) -> Result<CacheHash> {
        Ok(CacheHash { cache: self.clone(), key: to_key(key)?, ttl: Ttl::Default })
    }
}

impl CacheHash {
    /// Sets the lifetime that writes give to the hash. Default:
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

    /// Returns the value of a field, decoded.
    ///
    /// # Errors
    ///
    /// Fails with `Codec` if the stored bytes are not a `T`, with `Invalid` if
    /// the key holds no hash, and with the errors of the store.
    pub async fn get<T: DeserializeOwned>(&self, field: impl Into<Bytes>) -> Result<Option<T>> {
        let mut found = self.get_many([field]).await?;
        Ok(found.pop().flatten())
    }

    /// Returns the values of several fields, in their order, as they were at
    /// one moment.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get); `Invalid` also without any field.
    pub async fn get_many<T: DeserializeOwned>(
        &self,
        fields: impl IntoIterator<Item = impl Into<Bytes>>,
    ) -> Result<Vec<Option<T>>> {
        const OPERATION: &str = "hash_get";
        let fields = fields.into_iter().map(Into::into).collect();
        let op = Op::HashGet { key: self.key.clone(), fields };
        let found = self.cache.one(OPERATION, op).await?.into_values()?;
        let decode = |bytes: Option<Bytes>| {
            bytes.map(|bytes| self.cache.decode(OPERATION, &self.key, &bytes)).transpose()
        };
        found.into_iter().map(decode).collect()
    }

    /// Returns every field with its value, in no particular order.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get); `Codec` also if a name is no UTF-8.
    pub async fn all<T: DeserializeOwned>(&self) -> Result<Vec<(String, T)>> {
        const OPERATION: &str = "hash_all";
        let op = Op::HashAll { key: self.key.clone() };
        let pairs = self.cache.one(OPERATION, op).await?.into_pairs()?;
        self.decoded(OPERATION, pairs)
    }

    /// Returns a page of about `count` fields that follows `cursor`, and what
    /// the next one follows; the first page follows the empty cursor.
    ///
    /// A field that is there from the first page to the last is yielded at
    /// least once.
    ///
    /// # Errors
    ///
    /// As [`all`](Self::all), and with `Invalid` if the cursor is of no page.
    pub async fn scan<T: DeserializeOwned>(
        &self,
        cursor: Bytes,
        count: u32,
    ) -> Result<(Vec<(String, T)>, Option<Bytes>)> {
        const OPERATION: &str = "hash_scan";
        let op = Op::HashScan { key: self.key.clone(), cursor, count: count.max(1) };
        let FieldPage { fields, next } = self.cache.one(OPERATION, op).await?.into_fields()?;
        Ok((self.decoded(OPERATION, fields)?, next))
    }

    /// Writes a field.
    ///
    /// # Errors
    ///
    /// Fails with `Codec` if the value cannot be encoded, with `Invalid` if it
    /// is larger than `max_value` or the key holds no hash, and with the errors
    /// of the store.
    pub async fn put<T: Serialize + ?Sized>(
        &self,
        field: impl Into<Bytes>,
        value: &T,
    ) -> Result<()> {
        self.put_many([(field, value)]).await?;
        Ok(())
    }

    /// Writes several fields in one step and returns how many are new.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put); `Invalid` also without any field.
    pub async fn put_many<'a, T: Serialize + ?Sized + 'a>(
        &self,
        fields: impl IntoIterator<Item = (impl Into<Bytes>, &'a T)>,
    ) -> Result<u64> {
        const OPERATION: &str = "hash_put";
        let encode = |(field, value): (_, &T)| {
            Ok((Into::into(field), self.cache.encode(OPERATION, &self.key, value)?))
        };
        let fields = fields.into_iter().map(encode).collect::<Result<_>>()?;
        let op = Op::HashPut { key: self.key.clone(), fields, ttl: self.ttl };
        self.cache.one(OPERATION, op).await?.into_count()
    }

    /// Writes a field if it is absent.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put).
    pub async fn put_new<T: Serialize + ?Sized>(
        &self,
        field: impl Into<Bytes>,
        value: &T,
    ) -> Result<PutOutcome> {
        const OPERATION: &str = "hash_put_new";
        let value = self.cache.encode(OPERATION, &self.key, value)?;
        let (key, field, ttl) = (self.key.clone(), field.into(), self.ttl);
        let op = Op::HashPutNew { key, field, value, ttl };
        self.cache.one(OPERATION, op).await?.into_applied().map(PutOutcome::of)
    }

    /// Adds to the number in a field, 0 if absent, and returns the sum. Never
    /// sent twice.
    ///
    /// # Errors
    ///
    /// Fails with `Invalid` if the field holds no decimal number or the sum
    /// does not fit, and with the errors of the store.
    pub async fn add(&self, field: impl Into<Bytes>, by: i64) -> Result<i64> {
        let (key, field, ttl) = (self.key.clone(), field.into(), self.ttl);
        self.cache.one("hash_add", Op::HashAdd { key, field, by, ttl }).await?.into_int()
    }

    /// Removes fields and returns how many there were.
    ///
    /// # Errors
    ///
    /// Fails with `Invalid` if the key holds no hash or no field was given, and
    /// with the errors of the store.
    pub async fn remove(&self, fields: impl IntoIterator<Item = impl Into<Bytes>>) -> Result<u64> {
        let fields = fields.into_iter().map(Into::into).collect();
        let op = Op::HashRemove { key: self.key.clone(), fields };
        self.cache.one("hash_remove", op).await?.into_count()
    }

    /// Counts the fields.
    ///
    /// # Errors
    ///
    /// Fails with `Invalid` if the key holds no hash, and with the errors of
    /// the store.
    pub async fn len(&self) -> Result<u64> {
        self.cache.one("hash_len", Op::HashLen { key: self.key.clone() }).await?.into_count()
    }

    /// Removes the hash.
    ///
    /// # Errors
    ///
    /// Fails with the errors of the store.
    pub async fn clear(&self) -> Result<()> {
        self.cache.remove(&self.key).await?;
        Ok(())
    }

    fn decoded<T: DeserializeOwned>(
        &self,
        operation: &'static str,
        pairs: Vec<(Bytes, Bytes)>,
    ) -> Result<Vec<(String, T)>> {
        let decode = |(field, value): (Bytes, Bytes)| {
            let field = self.cache.text(operation, &self.key, field)?;
            Ok((field, self.cache.decode(operation, &self.key, &value)?))
        };
        pairs.into_iter().map(decode).collect::<Result<_, Error>>()
    }
}

impl fmt::Debug for CacheHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CacheHash({})", self.key)
    }
}
