use std::time::Duration;

use trine_cache::{CacheConfig, CacheDeps, CacheService, SessionsConfig};
use trine_core::BoxFault;

#[cfg(feature = "redis")]
use crate::Need;
use crate::component::DEFAULT;
use crate::{Component, Container, Deps, Handle, Result, Settings};

/// A cache, section `[cache]`: in this process or, with feature `redis`, on one
/// of the connections of `[redis]`.
///
/// A cache on Redis starts after its connection and stops before it. If the
/// connection is optional (`required = false`), so must the cache be.
///
/// # Example
///
/// ```toml
/// [redis.main]
/// namespace = "shop:prod"
/// server = { kind = "single", url = "redis://cache.internal" }
///
/// [cache]             # cache.default
/// backend = { kind = "redis", connection = "main" }
///
/// [cache.catalog]     # another one, in this process
/// backend = { kind = "memory", max_bytes = "16MiB" }
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Cache;

impl Cache {
    /// Returns the component.
    #[must_use]
    pub fn new() -> Self {
        Self
    }
}

impl Settings for CacheConfig {
    fn problems(&self) -> Vec<String> {
        self.validate().map_or_else(|error| error.problems().to_vec(), |()| Vec::new())
    }
}

/// Sessions are the host's own: their settings are a
/// [section](crate::Builder::section) of its choice.
impl Settings for SessionsConfig {
    fn problems(&self) -> Vec<String> {
        self.validate().map_or_else(|error| error.problems().to_vec(), |()| Vec::new())
    }
}

impl Component for Cache {
    const NAME: &'static str = "cache";
    type Config = CacheConfig;
    type Service = CacheService;

    #[cfg(feature = "redis")]
    fn needs(&self, config: &CacheConfig) -> Vec<Need> {
        let connection = connection(config).map(Need::instance::<crate::Redis>);
        connection.map(|need| need.with_setting("backend.connection").vital()).into_iter().collect()
    }

    fn start_timeout(&self, config: &CacheConfig) -> Option<Duration> {
        Some(config.start_timeout.get())
    }

    fn build(self, config: CacheConfig, deps: &Deps<'_>) -> Result<CacheService, BoxFault> {
        let own = CacheDeps::default().with_name(deps.name());
        #[cfg(feature = "redis")]
        let own = match connection(&config) {
            Some(name) => own.with_redis(name, deps.instance::<crate::Redis>(name)?.pool()),
            None => own,
        };
        Ok(CacheService::open(&config, own)?)
    }
}

/// Returns the Redis that the cache is on.
#[cfg(feature = "redis")]
fn connection(config: &CacheConfig) -> Option<&str> {
    match &config.backend {
        trine_cache::BackendConfig::Redis(redis) => Some(&redis.connection),
        _ => None,
    }
}

impl Container {
    /// Returns the default cache.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::Missing`](crate::Error::Missing), which names its
    /// key, if none was added.
    pub fn cache(&self) -> Result<CacheService> {
        self.cache_instance(DEFAULT)
    }

    /// Returns a named cache.
    ///
    /// # Errors
    ///
    /// As [`cache`](Self::cache).
    pub fn cache_instance(&self, instance: &str) -> Result<CacheService> {
        let service = self.get(&Handle::<Cache>::of(instance))?;
        Ok((*service).clone())
    }
}
