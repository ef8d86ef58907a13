use std::time::Duration;

use trine_core::BoxFault;
use trine_redis::{RedisConfig, RedisDeps, RedisService};

use crate::{Component, Container, Deps, Handle, Result, Settings};

/// One Redis connection, section `[redis]`. Services on Redis name the
/// instances of it that they use, so that they share them.
///
/// # Example
///
/// ```toml
/// [redis.main]
/// namespace = "shop:prod"
/// server = { kind = "single", url = "redis://:${REDIS_PASSWORD}@cache.internal" }
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Redis;

impl Redis {
    /// Returns the component.
    #[must_use]
    pub fn new() -> Self {
        Self
    }
}

impl Settings for RedisConfig {
    fn problems(&self) -> Vec<String> {
        self.validate().map_or_else(|error| error.problems().to_vec(), |()| Vec::new())
    }
}

impl Component for Redis {
    const NAME: &'static str = "redis";
    type Config = RedisConfig;
    type Service = RedisService;

    fn start_timeout(&self, config: &RedisConfig) -> Option<Duration> {
        Some(config.start_timeout.get())
    }

    fn build(self, config: RedisConfig, deps: &Deps<'_>) -> Result<RedisService, BoxFault> {
        Ok(RedisService::open(&config, RedisDeps::default().with_name(deps.name()))?)
    }
}

impl Container {
    /// Returns a named Redis connection, such as `"main"`.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::Missing`](crate::Error::Missing), which names its
    /// key, if none was added.
    pub fn redis_instance(&self, instance: &str) -> Result<RedisService> {
        let service = self.get(&Handle::<Redis>::of(instance))?;
        Ok((*service).clone())
    }
}
