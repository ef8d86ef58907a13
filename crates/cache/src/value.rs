use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::service::to_key;
use crate::{
    Batch, CacheService, Error, Expected, InvalidKey, Key, Lifetime, Op, Outcome, PutMode, Reply,
    Result, Ttl,
};

/// Whether anything was found under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Something was there.
    Present,
    /// Nothing was there, and nothing was done.
    Absent,
}

/// What became of a value that was put under a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutOutcome {
    /// It is stored.
    Stored,
    /// The condition did not hold, and what is stored stays.
    Kept,
}

/// Single values.
impl CacheService {
    /// Returns the value under `key`, decoded.
    ///
    /// # Errors
    ///
    /// Fails with `Codec` if the stored bytes are not a `T`, with `Invalid` if
    /// the key holds a collection, and with the errors of the store.
    pub async fn get<T: DeserializeOwned>(
        &self,
        key: impl TryInto<Key, Error: Into<InvalidKey>>,
    ) -> Result<Option<T>> {
        const OPERATION: &str = "get";
        let key = to_key(key)?;
        let found = self.one(OPERATION, Op::get(&key)).await?.into_value()?;
        found.map(|bytes| self.decode(OPERATION, &key, &bytes)).transpose()
    }

    /// Returns the bytes under `key`.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get), without `Codec`.
    pub async fn get_bytes(
        &self,
        key: impl TryInto<Key, Error: Into<InvalidKey>>,
    ) -> Result<Option<Bytes>> {
        let key = to_key(key)?;
        self.one("get", Op::Get { key }).await?.into_value()
    }

    /// Returns the text under `key`.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get); `Codec` if the bytes are no UTF-8.
    pub async fn get_text(
        &self,
        key: impl TryInto<Key, Error: Into<InvalidKey>>,
    ) -> Result<Option<String>> {
        const OPERATION: &str = "get";
        let key = to_key(key)?;
        let found = self.one(OPERATION, Op::get(&key)).await?.into_value()?;
        found.map(|bytes| self.text(OPERATION, &key, bytes)).transpose()
    }

    /// Returns the values under `keys`, in their order, decoded. One round trip
    /// for each server that has some of them. A collection reads as absent.
    ///
    /// # Errors
    ///
    /// Fails with `Codec` if the bytes of one are no `T`, and with the errors of
    /// the store.
    pub async fn get_many<T: DeserializeOwned>(
        &self,
        keys: impl IntoIterator<Item = impl TryInto<Key, Error: Into<InvalidKey>>>,
    ) -> Result<Vec<Option<T>>> {
        const OPERATION: &str = "get_many";
        let keys = gathered(keys.into_iter().map(to_key))?;
        let lookup = |key: &Key| Op::Lookup { key: key.clone() };
        let lookups: Vec<_> = keys.iter().map(lookup).collect();
        let found = self.many(OPERATION, lookups).await?;
        let decode = |(key, reply): (&Key, Reply)| {
            let bytes = reply.into_value()?;
            bytes.map(|bytes| self.decode(OPERATION, key, &bytes)).transpose()
        };
        keys.iter().zip(found).map(decode).collect()
    }

    /// Returns the bytes under `keys`, in their order. One round trip for each
    /// server that has some of them. A collection reads as absent.
    ///
    /// # Errors
    ///
    /// Fails with the errors of the store.
    pub async fn get_many_bytes(
        &self,
        keys: impl IntoIterator<Item = impl TryInto<Key, Error: Into<InvalidKey>>>,
    ) -> Result<Vec<Option<Bytes>>> {
        let ops = keys.into_iter().map(|each| Ok(Op::Lookup { key: to_key(each)? }));
        let ops = gathered(ops)?;
        let found = self.many("get_many", ops).await?;
        found.into_iter().map(Reply::into_value).collect()
    }

    /// Puts `value` under `key`, whatever was there.
    ///
    /// # Errors
    ///
    /// Fails with `Codec` if the value cannot be encoded, with `Invalid` if it
    /// is larger than `max_value`, and with the errors of the store.
    pub async fn put<T: Serialize + ?Sized>(
        &self,
        key: impl TryInto<Key, Error: Into<InvalidKey>>,
        value: &T,
        ttl: Ttl,
    ) -> Result<()> {
        self.put_if(key, value, ttl, PutMode::Always).await?;
        Ok(())
    }

    /// Puts bytes or a text under `key`, whatever was there.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put), without `Codec`.
    pub async fn put_bytes(
        &self,
        key: impl TryInto<Key, Error: Into<InvalidKey>>,
        value: impl Into<Bytes>,
        ttl: Ttl,
    ) -> Result<()> {
        let (key, value, mode) = (to_key(key)?, value.into(), PutMode::Always);
        self.one("put", Op::Put { key, value, ttl, mode }).await?.into_applied()?;
        Ok(())
    }

    /// Puts `value` under `key` if `mode` allows it.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put).
    pub async fn put_if<T: Serialize + ?Sized>(
        &self,
        key: impl TryInto<Key, Error: Into<InvalidKey>>,
        value: &T,
        ttl: Ttl,
        mode: PutMode,
    ) -> Result<PutOutcome> {
        const OPERATION: &str = "put";
        let key = to_key(key)?;
        let value = self.encode(OPERATION, &key, value)?;
        let op = Op::Put { key, value, ttl, mode };
        self.one(OPERATION, op).await?.into_applied().map(PutOutcome::of)
    }

    /// Puts values under their keys. Each is put by itself: a failure leaves
    /// the others stored.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put), for the first key that fails.
    pub async fn put_many<'a, T: Serialize + ?Sized + 'a>(
        &self,
        entries: impl IntoIterator<Item = (impl TryInto<Key, Error: Into<InvalidKey>>, &'a T)>,
        ttl: Ttl,
    ) -> Result<()> {
        const OPERATION: &str = "put_many";
        let op = |(name, value): (_, &T)| {
            let key = to_key(name)?;
            let value = self.encode(OPERATION, &key, value)?;
            Ok(Op::Put { key, value, ttl, mode: PutMode::Always })
        };
        let ops = gathered(entries.into_iter().map(op))?;
        let replies = self.many(OPERATION, ops).await?;
        replies.into_iter().try_for_each(|reply| reply.into_applied().map(|_| ()))
    }

    /// Puts `value` under `key` and returns what was there.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put) and [`get`](Self::get); with `Codec` the new value
    /// is stored all the same.
    pub async fn swap<T: Serialize + DeserializeOwned>(
        &self,
        key: impl TryInto<Key, Error: Into<InvalidKey>>,
        value: &T,
        ttl: Ttl,
    ) -> Result<Option<T>> {
        const OPERATION: &str = "swap";
        let key = to_key(key)?;
        let value = self.encode(OPERATION, &key, value)?;
        let op = Op::Swap { key: key.clone(), value, ttl };
        let found = self.one(OPERATION, op).await?.into_value()?;
        found.map(|bytes| self.decode(OPERATION, &key, &bytes)).transpose()
    }

    /// Removes the value under `key` and returns it.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get); with `Codec` the value is removed all the same.
    pub async fn take<T: DeserializeOwned>(
        &self,
        key: impl TryInto<Key, Error: Into<InvalidKey>>,
    ) -> Result<Option<T>> {
        const OPERATION: &str = "take";
        let key = to_key(key)?;
        let found = self.one(OPERATION, Op::Take { key: key.clone() }).await?.into_value()?;
        found.map(|bytes| self.decode(OPERATION, &key, &bytes)).transpose()
    }

    /// Returns the value under `key` and gives it a new lifetime.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get); with `Codec` the lifetime is changed all the same.
    pub async fn touch<T: DeserializeOwned>(
        &self,
        key: impl TryInto<Key, Error: Into<InvalidKey>>,
        ttl: Ttl,
    ) -> Result<Option<T>> {
        const OPERATION: &str = "touch";
        let key = to_key(key)?;
        let found = self.one(OPERATION, Op::Touch { key: key.clone(), ttl }).await?.into_value()?;
        found.map(|bytes| self.decode(OPERATION, &key, &bytes)).transpose()
    }

    /// Puts `value` under `key` if what is there encodes as `expected`, or is
    /// absent for `None`; look and put are one step.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put).
    pub async fn compare_and_put<T: Serialize + ?Sized>(
        &self,
        key: impl TryInto<Key, Error: Into<InvalidKey>>,
        expected: Option<&T>,
        value: &T,
        ttl: Ttl,
    ) -> Result<PutOutcome> {
        const OPERATION: &str = "compare_and_put";
        let key = to_key(key)?;
        let expected = match expected {
            Some(expected) => Expected::Value(self.encode(OPERATION, &key, expected)?),
            None => Expected::Absent,
        };
        let value = self.encode(OPERATION, &key, value)?;
        let put = Op::Put { key: key.clone(), value, ttl, mode: PutMode::Always };
        let batch = Batch::atomic().named(OPERATION).with(put).when(key, expected);
        match self.run(batch).await? {
            Outcome::Ran(replies) => {
                replies.into_iter().try_for_each(|reply| reply.into_applied().map(|_| ()))?;
                Ok(PutOutcome::Stored)
            }
            Outcome::Refused { .. } => Ok(PutOutcome::Kept),
        }
    }

    /// Adds `by` to the number under `key`, which is 0 if absent, and returns
    /// the sum. Never sent twice: after `OutcomeUnknown` the number may have
    /// been added or not.
    ///
    /// # Errors
    ///
    /// Fails with `Invalid` if there is no decimal number or the sum does not
    /// fit an `i64`, and with the errors of the store.
    pub async fn add(
        &self,
        key: impl TryInto<Key, Error: Into<InvalidKey>>,
        by: i64,
        ttl: Ttl,
    ) -> Result<i64> {
        let key = to_key(key)?;
        self.one("add", Op::Add { key, by, ttl }).await?.into_int()
    }

    /// Removes what is under `key`, of whatever type.
    ///
    /// # Errors
    ///
    /// Fails with the errors of the store.
    pub async fn remove(
        &self,
        key: impl TryInto<Key, Error: Into<InvalidKey>>,
    ) -> Result<Presence> {
        let key = to_key(key)?;
        self.one("remove", Op::Remove { key }).await?.into_applied().map(Presence::of)
    }

    /// Removes what is under `keys` and returns how many there were.
    ///
    /// # Errors
    ///
    /// Fails with the errors of the store, for the first key that fails.
    pub async fn remove_many(
        &self,
        keys: impl IntoIterator<Item = impl TryInto<Key, Error: Into<InvalidKey>>>,
    ) -> Result<u64> {
        let ops = keys.into_iter().map(|each| Ok(Op::Remove { key: to_key(each)? }));
        let ops = gathered(ops)?;
        let replies = self.many("remove_many", ops).await?;
        replies.into_iter().try_fold(0, |sum, reply| Ok(sum + u64::from(reply.into_applied()?)))
    }

    /// Tells whether anything is under `key`.
    ///
    /// # Errors
    ///
    /// Fails with the errors of the store.
    pub async fn has(&self, key: impl TryInto<Key, Error: Into<InvalidKey>>) -> Result<bool> {
        let key = to_key(key)?;
        self.one("has", Op::Exists { key }).await?.into_applied()
    }

    /// Gives what is under `key` a new lifetime.
    ///
    /// # Errors
    ///
    /// Fails with `Invalid` if the lifetime is out of range, and with the
    /// errors of the store.
    pub async fn expire(
        &self,
        key: impl TryInto<Key, Error: Into<InvalidKey>>,
        ttl: Ttl,
    ) -> Result<Presence> {
        let key = to_key(key)?;
        self.one("expire", Op::Expire { key, ttl }).await?.into_applied().map(Presence::of)
    }

    /// Returns what is left of the life of what is under `key`.
    ///
    /// # Errors
    ///
    /// Fails with the errors of the store.
    pub async fn lifetime(
        &self,
        key: impl TryInto<Key, Error: Into<InvalidKey>>,
    ) -> Result<Lifetime> {
        let key = to_key(key)?;
        self.one("lifetime", Op::Lifetime { key }).await?.into_lifetime()
    }

    /// Runs independent operations and returns their replies, failures among
    /// them.
    pub(crate) async fn many(&self, operation: &'static str, ops: Vec<Op>) -> Result<Vec<Reply>> {
        let mut batch = Batch::pipelined().named(operation);
        batch.ops = ops.into();
        if batch.ops.is_empty() {
            return Ok(Vec::new());
        }
        match self.run(batch).await? {
            Outcome::Ran(replies) => Ok(replies.into_vec()),
            Outcome::Refused { .. } => {
                Err(self.internal(operation, "a batch without conditions was refused"))
            }
        }
    }

    pub(crate) fn encode<T: Serialize + ?Sized>(
        &self,
        operation: &'static str,
        key: &Key,
        value: &T,
    ) -> Result<Bytes> {
        serde_json::to_vec(value).map(Bytes::from).map_err(|cause| Error::Codec {
            at: self.at(operation),
            key: key.clone(),
            expected: "a value that JSON can hold",
            cause: cause.into(),
        })
    }

    pub(crate) fn decode<T: DeserializeOwned>(
        &self,
        operation: &'static str,
        key: &Key,
        bytes: &[u8],
    ) -> Result<T> {
        serde_json::from_slice(bytes).map_err(|cause| Error::Codec {
            at: self.at(operation),
            key: key.clone(),
            expected: std::any::type_name::<T>(),
            cause: without_the_value(&cause).into(),
        })
    }

    pub(crate) fn text(&self, operation: &'static str, key: &Key, bytes: Bytes) -> Result<String> {
        String::from_utf8(bytes.into()).map_err(|cause| Error::Codec {
            at: self.at(operation),
            key: key.clone(),
            expected: "text in UTF-8",
            cause: cause.utf8_error().into(),
        })
    }
}

/// Collects what is all right, with room for all from the beginning: `collect`
/// has none where an item may fail.
fn gathered<T>(items: impl Iterator<Item = Result<T>>) -> Result<Vec<T>> {
    let mut all = Vec::with_capacity(items.size_hint().0);
    for item in items {
        all.push(item?);
    }
    Ok(all)
}

/// Says where the decoding failed; serde's own message may quote what is
/// stored.
fn without_the_value(cause: &serde_json::Error) -> String {
    let what = match cause.classify() {
        serde_json::error::Category::Data => "another shape",
        serde_json::error::Category::Eof => "cut off",
        _ => "no JSON",
    };
    format!("{what} at line {}, column {}", cause.line(), cause.column())
}

impl PutOutcome {
    pub(crate) fn of(is_stored: bool) -> Self {
        if is_stored { Self::Stored } else { Self::Kept }
    }
}

impl Presence {
    pub(crate) fn of(is_present: bool) -> Self {
        if is_present { Self::Present } else { Self::Absent }
    }
}
