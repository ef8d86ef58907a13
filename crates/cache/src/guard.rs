use async_trait::async_trait;
use trine_core::{BoxFault, Fence, FenceSink};

use crate::service::to_key;
use crate::{
    Batch, CacheService, InvalidKey, Key, Op, Outcome, Presence, PutMode, Reply, Result, Ttl,
};

/// A part of a cache that refuses old owners: what lives together with each of
/// some keys. Made by [`CacheService::guarding`].
///
/// A token that was shown is remembered beside the keys, also after they end or
/// are removed, for `fence_retention`; it is lost when the store loses its data.
/// Beside a value that never ends it is remembered as long as that lives; under
/// a tag it then stays for good, as others of the tag may never end.
#[derive(Clone, Debug)]
pub struct GuardedKeys {
    cache: CacheService,
    keys: Vec<Key>,
}

/// A cache as one owner writes to it. Made by [`CacheService::fenced`].
#[derive(Clone, Copy, Debug)]
pub struct Fenced<'a> {
    cache: &'a CacheService,
    fence: &'a Fence,
}

impl CacheService {
    /// Returns the part of the cache that lives together with each of `keys`,
    /// for the issuer of a claim to show new tokens to.
    ///
    /// # Errors
    ///
    /// Fails with `Invalid` if one is no key.
    pub fn guarding(
        &self,
        keys: impl IntoIterator<Item = impl TryInto<Key, Error: Into<InvalidKey>>>,
    ) -> Result<GuardedKeys> {
        let keys = keys.into_iter().map(to_key).collect::<Result<_>>()?;
        Ok(GuardedKeys { cache: self.clone(), keys })
    }

    /// Returns the cache as the holder of `fence` writes to it.
    #[must_use]
    pub fn fenced<'a>(&'a self, fence: &'a Fence) -> Fenced<'a> {
        Fenced { cache: self, fence }
    }
}

impl Fenced<'_> {
    /// Puts `value` under `key`, whatever was there, and shows the fence to what
    /// lives together with it; both are one step.
    ///
    /// # Errors
    ///
    /// Fails with `Fenced`, changing nothing, if a higher token was shown there,
    /// with `Unsupported` on a store that may evict, and as
    /// [`CacheService::put`].
    pub async fn put<T: serde::Serialize + ?Sized>(
        &self,
        key: impl TryInto<Key, Error: Into<InvalidKey>>,
        value: &T,
        ttl: Ttl,
    ) -> Result<()> {
        const OPERATION: &str = "guarded_put";
        let key = to_key(key)?;
        let value = self.cache.encode(OPERATION, &key, value)?;
        self.one(OPERATION, Op::Put { key, value, ttl, mode: PutMode::Always }).await?;
        Ok(())
    }

    /// Removes what is under `key` and shows the fence to what lives together
    /// with it; both are one step.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put).
    pub async fn remove(
        &self,
        key: impl TryInto<Key, Error: Into<InvalidKey>>,
    ) -> Result<Presence> {
        let op = Op::Remove { key: to_key(key)? };
        self.one("guarded_remove", op).await?.into_applied().map(Presence::of)
    }

    /// Reads the value under `key` and shows the fence to what lives together
    /// with it: what is read holds until a newer owner shows its token.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put) and [`CacheService::get`].
    pub async fn get<T: serde::de::DeserializeOwned>(
        &self,
        key: impl TryInto<Key, Error: Into<InvalidKey>>,
    ) -> Result<Option<T>> {
        const OPERATION: &str = "guarded_get";
        let key = to_key(key)?;
        let found = self.one(OPERATION, Op::get(&key)).await?.into_value()?;
        found.map(|bytes| self.cache.decode(OPERATION, &key, &bytes)).transpose()
    }

    /// Runs an atomic batch and shows the fence to what its keys live together
    /// with.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put) and [`CacheService::run`].
    pub async fn run(&self, batch: Batch) -> Result<Outcome> {
        self.cache.run(batch.guarded(self.fence)).await
    }

    async fn one(&self, operation: &'static str, op: Op) -> Result<Reply> {
        let outcome = self.run(Batch::atomic().named(operation).with(op)).await?;
        self.cache.only(operation, outcome)
    }
}

#[async_trait]
impl FenceSink for GuardedKeys {
    async fn raise(&self, fence: &Fence) -> Result<(), BoxFault> {
        for key in &self.keys {
            self.cache.run(Batch::raise(fence, key)).await?;
        }
        Ok(())
    }
}
