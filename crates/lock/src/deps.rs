#[cfg(any(feature = "mysql", feature = "redis", feature = "sqlite"))]
use std::collections::BTreeMap;
use std::sync::Arc;

use trine_core::{Clock, Fence, Jitter, SystemClock};

use crate::{ConfigError, Key};

/// What locks need beside their configuration.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LockDeps {
    /// The name of this instance, for health, metrics, the keys of fences and
    /// those of a shared store; 1 to 43 bytes. Default: `"lock.default"`.
    pub name: Arc<str>,
    /// The clock of leases and waits, and of locks in this process. Default:
    /// the system's.
    pub clock: Arc<dyn Clock>,
    /// What spreads the questions to a store that does not tell by itself.
    /// Default: at random.
    pub jitter: Jitter,
    #[cfg(feature = "redis")]
    redis: BTreeMap<Box<str>, trine_redis::RedisPool>,
    #[cfg(any(feature = "mysql", feature = "sqlite"))]
    databases: BTreeMap<Box<str>, trine_db_shard::Database>,
}

impl Default for LockDeps {
    fn default() -> Self {
        Self {
            name: "lock.default".into(),
            clock: Arc::new(SystemClock),
            jitter: Jitter::random(),
            #[cfg(feature = "redis")]
            redis: BTreeMap::new(),
            #[cfg(any(feature = "mysql", feature = "sqlite"))]
            databases: BTreeMap::new(),
        }
    }
}

impl LockDeps {
    /// Longest name in bytes: with the longest key and the number of a permit
    /// it must fit into the key of a fence.
    pub const MAX_NAME: usize = Fence::MAX_KEY - Key::MAX - "/#4294967295".len();

    /// Sets the name of the instance.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = name.into();
        self
    }

    /// Adds the Redis that the configuration calls `connection`. It is shared,
    /// started and shut down by whoever opened it.
    #[cfg(feature = "redis")]
    #[must_use]
    pub fn with_redis(
        mut self,
        connection: impl Into<Box<str>>,
        pool: &trine_redis::RedisPool,
    ) -> Self {
        self.redis.insert(connection.into(), pool.clone());
        self
    }

    #[cfg(feature = "redis")]
    pub(crate) fn redis(&self, connection: &str) -> Result<&trine_redis::RedisPool, ConfigError> {
        self.redis.get(connection).ok_or_else(|| {
            let known = self.redis.keys().map(|name| &**name).collect::<Vec<_>>().join(", ");
            ConfigError::one(format!(
                "backend.connection: no Redis `{connection}` was given (there are: {known})"
            ))
        })
    }

    /// Sets the clock of leases and waits, and of locks in this process.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets what spreads the questions to a store that does not tell by itself.
    #[must_use]
    pub fn with_jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// Adds the database that the configuration calls `name`: the
    /// [global](trine_db_shard::DbService::global) one of a service, or one of
    /// the host's own. It is shared, migrated, started and shut down by whoever
    /// opened it.
    #[cfg(any(feature = "mysql", feature = "sqlite"))]
    #[must_use]
    pub fn with_database(
        mut self,
        name: impl Into<Box<str>>,
        database: &trine_db_shard::Database,
    ) -> Self {
        self.databases.insert(name.into(), database.clone());
        self
    }

    #[cfg(any(feature = "mysql", feature = "sqlite"))]
    pub(crate) fn database(&self, name: &str) -> Result<&trine_db_shard::Database, ConfigError> {
        self.databases.get(name).ok_or_else(|| {
            let known = self.databases.keys().map(|name| &**name).collect::<Vec<_>>().join(", ");
            let problem =
                format!("backend.database: no database `{name}` was given (there are: {known})");
            ConfigError::one(problem)
        })
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let (length, max) = (self.name.len(), Self::MAX_NAME);
        if length == 0 || length > max || self.name.chars().any(|c| c == '#' || c.is_control()) {
            return Err(ConfigError::one(format!(
                "name of {length} bytes: expected 1 to {max} without `#` and control characters"
            )));
        }
        Ok(())
    }
}
