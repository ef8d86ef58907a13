use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::Sessions;
use super::record::Record;
use super::token::{Hash, random};
use crate::{Batch, Error, Expected, Key, Op, Outcome, Reply, Result, Ttl};

/// Changes with every step that makes or ends sessions of a user. Its name is
/// of another length than those of sessions.
pub(super) const VERSION: Bytes = Bytes::from_static(b"v");

/// The sessions of one user as they were read.
pub(super) struct Found {
    pub(super) now: Duration,
    pub(super) version: Option<Bytes>,
    pub(super) live: Vec<Live>,
    /// Those that are over, or that are no records.
    pub(super) over: Vec<Bytes>,
}

/// A session whose data nobody has looked at: that of a process with another
/// `T` counts and can be revoked all the same.
pub(super) struct Live {
    pub(super) hash: Hash,
    pub(super) used: Duration,
    pub(super) value: Bytes,
}

/// What is kept for a user, and the steps that change it.
impl<T: Serialize + DeserializeOwned> Sessions<T> {
    /// Reads everything that is stored for a user, with the store's time.
    pub(super) async fn found(
        &self,
        operation: &'static str,
        key: &Key,
        user: &str,
    ) -> Result<Found> {
        let ops = vec![Op::Time { key: key.clone() }, Op::HashAll { key: key.clone() }];
        let mut replies = self.shared.cache.many(operation, ops).await?.into_iter();
        let now = since_epoch(replies.next())?;
        let pairs = replies.next().map_or(Ok(Vec::new()), Reply::into_pairs)?;
        let mut found = Found { now, version: None, live: Vec::new(), over: Vec::new() };
        for (field, value) in pairs {
            let Some(hash) = Hash::of_field(&field) else {
                found.version = Some(value);
                continue;
            };
            match serde_json::from_slice::<Record<IgnoredAny>>(&value) {
                Ok(record) if self.is_over(&record, now) => found.over.push(field),
                Ok(Record { user: owner, used, .. }) if owner == user => {
                    found.live.push(Live { hash, used, value });
                }
                // Another user with the same tag.
                Ok(_) => {}
                Err(_) => found.over.push(field),
            }
        }
        Ok(found)
    }

    /// Reads one session as it is stored, with the store's time. Also `None`
    /// for one that was made with another key of the configuration: nobody who
    /// lists or revokes the user's sessions would find it.
    pub(super) async fn live(
        &self,
        operation: &'static str,
        key: &Key,
        hash: &Hash,
    ) -> Result<Option<(Duration, Bytes, Record<T>)>> {
        let look = Op::HashGet { key: key.clone(), fields: vec![hash.field()] };
        let ops = vec![Op::Time { key: key.clone() }, look];
        let mut replies = self.shared.cache.many(operation, ops).await?.into_iter();
        let now = since_epoch(replies.next())?;
        let mut values = replies.next().map_or(Ok(Vec::new()), Reply::into_values)?;
        let Some(value) = values.pop().flatten() else { return Ok(None) };
        let record: Record<T> = self.decode(operation, key, &value)?;
        let home = self.shared.tagger.key(&self.shared.config.prefix, &record.user)?;
        let is_live = home == *key && !self.is_over(&record, now);
        Ok(is_live.then_some((now, value, record)))
    }

    /// Returns the step that ends sessions and adds one, if nothing was made or
    /// ended since `version` was read.
    pub(super) fn step(
        &self,
        key: &Key,
        version: Option<Bytes>,
        removed: Vec<Bytes>,
        added: Option<(Bytes, Bytes)>,
    ) -> Result<Batch> {
        let mut batch = Batch::atomic();
        if !removed.is_empty() {
            batch.push(Op::HashRemove { key: key.clone(), fields: removed });
        }
        let fields = added.into_iter().chain([(VERSION, nonce()?)]).collect();
        batch.push(Op::HashPut { key: key.clone(), fields, ttl: self.idle() });
        let expected = Expected::Field { field: VERSION, value: version };
        Ok(batch.when(key, expected))
    }

    /// Returns the step that changes one session, if it is still as it was
    /// read.
    pub(super) fn change(
        &self,
        key: &Key,
        hash: &Hash,
        old: Bytes,
        written: Vec<(Bytes, Bytes)>,
        removed: Vec<Bytes>,
    ) -> Result<Batch> {
        let mut batch = Batch::atomic();
        if !removed.is_empty() {
            batch.push(Op::HashRemove { key: key.clone(), fields: removed });
        }
        batch.push(Op::HashPut { key: key.clone(), fields: written, ttl: self.idle() });
        let expected = Expected::Field { field: hash.field(), value: Some(old) };
        Ok(batch.when(key, expected))
    }

    pub(super) async fn took_place(
        &self,
        operation: &'static str,
        step: Result<Batch>,
    ) -> Result<bool> {
        match self.shared.cache.run(step?.named(operation)).await? {
            Outcome::Ran(replies) => {
                for reply in replies {
                    if let Reply::Failed(error) = reply {
                        return Err(error);
                    }
                }
                Ok(true)
            }
            Outcome::Refused { .. } => Ok(false),
        }
    }

    /// Ends sessions without a look at them first.
    pub(super) async fn ended(&self, operation: &'static str, gone: Op, key: Key) -> Result<u64> {
        let fields = vec![(VERSION, nonce()?)];
        let mark = Op::HashPut { key: key.clone(), fields, ttl: Ttl::IfNew(Ttl::MIN) };
        let batch = Batch::atomic().named(operation).with(gone).with(mark);
        // Where there is nothing, nothing is to be ended, nor made.
        let batch = batch.when(key, Expected::Present);
        match self.shared.cache.run(batch).await? {
            Outcome::Ran(replies) => replies.into_iter().next().map_or(Ok(0), Reply::into_count),
            Outcome::Refused { .. } => Ok(0),
        }
    }
}

fn since_epoch(reply: Option<Reply>) -> Result<Duration> {
    match reply {
        Some(Reply::Time(since_epoch)) => Ok(since_epoch),
        Some(Reply::Failed(error)) => Err(error),
        Some(other) => Err(Error::unexpected_reply("Time", &other)),
        None => Err(Error::Reply { expected: "Time", found: "none" }),
    }
}

/// Returns a text that nobody used before.
pub(super) fn nonce() -> Result<Bytes> {
    Ok(Bytes::copy_from_slice(&random::<8>()?))
}
