#[cfg(feature = "redis")]
use std::collections::BTreeMap;
use std::sync::Arc;

use trine_core::{Clock, Jitter, SystemClock};

#[cfg(feature = "redis")]
use crate::Result;

/// What a cache needs beside its configuration.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CacheDeps {
    /// The name of this instance, for health, metrics and the keys of a shared
    /// store. Default: `"cache.default"`.
    pub name: Arc<str>,
    /// The clock of lifetimes in this process. Default: the system's.
    pub clock: Arc<dyn Clock>,
    /// What shortens default lifetimes. Default: at random.
    pub jitter: Jitter,
    #[cfg(feature = "redis")]
    redis: BTreeMap<Box<str>, trine_redis::RedisPool>,
}

impl Default for CacheDeps {
    fn default() -> Self {
        Self {
            name: "cache.default".into(),
            clock: Arc::new(SystemClock),
            jitter: Jitter::random(),
            #[cfg(feature = "redis")]
            redis: BTreeMap::new(),
        }
    }
}

impl CacheDeps {
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
    pub(crate) fn redis(&self, connection: &str) -> Result<&trine_redis::RedisPool> {
        self.redis.get(connection).ok_or_else(|| {
            let known = self.redis.keys().map(|name| &**name).collect::<Vec<_>>().join(", ");
            let problem = format!(
                "backend.connection: no Redis `{connection}` was given (there are: {known})"
            );
            crate::ConfigError::one(problem).into()
        })
    }

    /// Sets the clock of lifetimes in this process.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets what shortens default lifetimes.
    #[must_use]
    pub fn with_jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }
}
