mod assign;
mod cache;
mod key_shard;
mod weight;

use std::convert::Infallible;
use std::time::Duration;

use futures_util::FutureExt;
use serde::Deserialize;
use trine_core::{CallContext, Moment};

use crate::backend::Access;
use crate::{
    Database, Error, InvalidShardKey, Result, Routed, ShardId, ShardKey, Sql, Unavailable, Value,
};

pub(crate) use cache::KeyCache;
pub use key_shard::KeyShard;

const READ: Sql =
    Sql::portable("SELECT shard_id, moving_to, epoch FROM trine_shard_key WHERE shard_key = ?");

/// What [`Call::until`](crate::Call::until) calls the deadline of a context.
pub(crate) const CALLER: &str = "the deadline of the call";

/// A key as the global database has it.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct KeyRow {
    pub(crate) shard_id: ShardId,
    pub(crate) moving_to: Option<ShardId>,
    pub(crate) epoch: u64,
}

/// Where a key lives, as the shard map said when it was asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route {
    pub(crate) row: KeyRow,
    /// When the question was sent, by a clock that counts suspend.
    pub(crate) read_at: Moment,
}

impl Route {
    pub(crate) fn is_moving(&self) -> bool {
        self.row.moving_to.is_some()
    }

    /// Tells whether the answer may be used again. The second half of the
    /// lease is left to the statements; a key that is being moved changes its
    /// shard at any moment.
    fn is_fresh(&self, now: Moment, lease: Duration) -> bool {
        !self.is_moving() && now.saturating_since(self.read_at) < lease / 2
    }

    /// Returns how long a statement may take: an eighth less than the lease,
    /// for clocks that do not agree and for ending it on the server.
    fn left(&self, now: Moment, lease: Duration) -> Duration {
        (self.read_at + (lease - lease / 8)).saturating_since(now)
    }
}

impl crate::DbService {
    /// Returns the shard of `key`, or `None` if it was never assigned one.
    ///
    /// While the key is being moved this is the shard it comes from. Answered
    /// from memory for up to half of `map.lease` after it was read.
    ///
    /// # Errors
    ///
    /// Fails with `Invalid` for a text that cannot be a key, and with the
    /// errors of the global database.
    pub async fn shard_of(
        &self,
        key: impl TryInto<ShardKey, Error: Into<InvalidShardKey>>,
    ) -> Result<Option<ShardId>> {
        const OPERATION: &str = "shard_of";
        let key = self.key(OPERATION, key)?;
        Ok(self.route(OPERATION, &key).await?.map(|route| route.row.shard_id))
    }

    /// Returns the shard of `key`, for statements on that key's rows.
    ///
    /// A key that this process knows costs no I/O; concurrent questions for
    /// one it does not know share a single read of the shard map.
    ///
    /// # Errors
    ///
    /// Fails with `NotFound` if the key was never assigned, `Unavailable` if
    /// its shard is offline, under maintenance or not reached yet, `Invalid`
    /// for a text that cannot be a key, and with the errors of the global
    /// database. Nothing falls back to another database.
    ///
    /// # Example
    ///
    /// ```
    /// # use trine_db_shard::{DbService, Result};
    /// # async fn example(db: &DbService) -> Result<()> {
    /// db.assign("user:1").await?;
    /// let shard = db.for_key("user:1").await?;
    /// shard.execute("INSERT INTO note (owner, text) VALUES (?, ?)", ("user:1", "hi")).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn for_key(
        &self,
        key: impl TryInto<ShardKey, Error: Into<InvalidShardKey>>,
    ) -> Result<KeyShard> {
        const OPERATION: &str = "for_key";
        let key = self.key(OPERATION, key)?;
        let (database, route) = self.locate(OPERATION, &key).await?;
        Ok(KeyShard::new(self.clone(), key, database, route))
    }

    /// Returns the shard of a session's key, as [`for_key`](Self::for_key)
    /// does.
    ///
    /// # Errors
    ///
    /// As [`for_key`](Self::for_key).
    pub async fn for_session(&self, session: &impl Routed) -> Result<KeyShard> {
        self.for_key(session.shard_key()).await
    }

    pub(crate) fn key(
        &self,
        operation: &'static str,
        key: impl TryInto<ShardKey, Error: Into<InvalidShardKey>>,
    ) -> Result<ShardKey> {
        key.try_into().map_err(|error| {
            let error: InvalidShardKey = error.into();
            Error::invalid(self.global().at(operation), error.to_string())
        })
    }

    /// Returns where `key` lives, from memory if that may still be acted on.
    async fn route(&self, operation: &'static str, key: &ShardKey) -> Result<Option<Route>> {
        let lease = self.shared.config.map.lease.get();
        let known = self.shared.keys.get(key);
        match known.filter(|route| route.is_fresh(self.shared.deps.clock.now(), lease)) {
            Some(route) => {
                self.shared.counters.known_keys.add(1);
                Ok(Some(route))
            }
            None => {
                self.shared.counters.asked_keys.add(1);
                self.ask(operation, key).await
            }
        }
    }

    /// Asks the shard map, together with whoever asks for the same key.
    async fn ask(&self, operation: &'static str, key: &ShardKey) -> Result<Option<Route>> {
        let _in_flight = self.global().enter(operation)?;
        let reading = self.shared.keys.read(key, || {
            let (service, key) = (self.clone(), key.clone());
            // Several callers wait for it, so it has no caller's deadline.
            async move { service.read_route(operation, &key).await.map_err(Into::into) }.boxed()
        });
        self.within(operation, reading).await?.map_err(cache::shared_error)
    }

    /// Waits for what several callers share until this caller's deadline.
    async fn within<F: Future>(&self, operation: &'static str, shared: F) -> Result<F::Output> {
        let Some(deadline) = CallContext::current().deadline() else {
            return Ok(shared.await);
        };
        let after = deadline.remaining();
        deadline.limit(shared).await.ok_or_else(|| Error::Timeout {
            at: self.global().at(operation),
            after,
            limit: CALLER,
        })
    }

    /// Asks the shard map, and remembers what it says.
    pub(crate) async fn read_route(
        &self,
        operation: &'static str,
        key: &ShardKey,
    ) -> Result<Option<Route>> {
        let global = self.global();
        let read_at = self.shared.deps.clock.now();
        let call = global.own_call(operation);
        let values = vec![Value::from(key.as_bytes())];
        let statement = global.own_statement(READ, values, Access::Read);
        let rows = global.shared().backend().run(call, statement).await?.rows;
        let Some(row) = rows.first() else {
            self.shared.keys.forget(key);
            return Ok(None);
        };
        let row = row.decode().map_err(|error| error.at(global.at(operation)))?;
        let route = Route { row, read_at };
        self.shared.keys.remember(key, route);
        Ok(Some(route))
    }

    /// Returns the shard that `key` lives on.
    async fn locate(&self, operation: &'static str, key: &ShardKey) -> Result<(Database, Route)> {
        let route = self.route(operation, key).await?;
        self.located(operation, key, route).await
    }

    async fn located(
        &self,
        operation: &'static str,
        key: &ShardKey,
        route: Option<Route>,
    ) -> Result<(Database, Route)> {
        let Some(route) = route else {
            let at = self.global().at(operation);
            return Err(Error::not_found(at, format!("shard of {key:?}")));
        };
        let database = self.known_shard(operation, route.row.shard_id).await?;
        database.check_status(operation, Access::Read)?;
        Ok((database, route))
    }

    /// Returns a shard that the global database has named, reading the shard
    /// table if this process does not know it yet.
    pub(crate) async fn known_shard(
        &self,
        operation: &'static str,
        id: ShardId,
    ) -> Result<Database> {
        if !self.shared.map.load().knows(id) {
            self.within(operation, self.reload()).await??;
        }
        match self.shard(id) {
            // The key is known, so the answer must not read as if it were not.
            Err(Error::NotFound { at, subject }) => Err(Error::Unavailable {
                at: self.global().at(operation),
                reason: Unavailable::StaleMap,
                cause: Some(Box::new(Error::NotFound { at, subject })),
            }),
            other => other,
        }
    }
}

impl From<Infallible> for InvalidShardKey {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

impl From<&Self> for ShardKey {
    fn from(key: &Self) -> Self {
        key.clone()
    }
}

impl TryFrom<&String> for ShardKey {
    type Error = InvalidShardKey;

    fn try_from(key: &String) -> Result<Self, InvalidShardKey> {
        Self::try_from(key.as_str())
    }
}

impl TryFrom<String> for ShardKey {
    type Error = InvalidShardKey;

    fn try_from(key: String) -> Result<Self, InvalidShardKey> {
        Self::try_from(key.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(moving_to: Option<ShardId>) -> Route {
        let row = KeyRow { shard_id: ShardId::new(0), moving_to, epoch: 1 };
        Route { row, read_at: Moment::from_elapsed(Duration::from_secs(100)) }
    }

    #[test]
    fn a_statement_ends_before_the_lease_does() {
        let lease = Duration::from_secs(8);
        let route = route(None);
        let at = |secs: u64| Moment::from_elapsed(Duration::from_secs(100 + secs));
        assert!(route.is_fresh(at(3), lease));
        assert!(!route.is_fresh(at(4), lease));
        assert_eq!(route.left(at(0), lease), Duration::from_secs(7));
        assert_eq!(route.left(at(7), lease), Duration::ZERO);
        assert_eq!(route.left(at(60), lease), Duration::ZERO);
    }

    #[test]
    fn a_moving_key_is_asked_for_each_time() {
        let lease = Duration::from_secs(8);
        let moving = route(Some(ShardId::new(1)));
        assert!(!moving.is_fresh(moving.read_at, lease));
    }
}
