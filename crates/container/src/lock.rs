use std::time::Duration;

use trine_core::BoxFault;
use trine_lock::{LockConfig, LockDeps, LockService};

#[cfg(any(feature = "redis", feature = "db-shard"))]
use crate::Need;
use crate::component::DEFAULT;
use crate::{Component, Container, Deps, Handle, Result, Settings};

/// Locks, section `[lock]`: in this process, with feature `redis` on one of the
/// connections of `[redis]`, or with `sqlite` or `mysql` in the global database
/// of a `[db]`.
///
/// Locks start after what they are on and stop before it. If that is optional
/// (`required = false`), so must the locks be. The tables of locks in a database
/// are those of `trine_lock::migrations`, which the host gives to its
/// [`Db`](crate::Db).
///
/// # Example
///
/// ```toml
/// [redis.main]
/// namespace = "shop:prod"
/// server = { kind = "single", url = "redis://lock.internal" }
///
/// [lock]              # lock.default
/// backend = { kind = "redis", connection = "main" }
///
/// [lock.local]        # another one, in this process
/// backend = { kind = "memory" }
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Lock;

impl Lock {
    /// Returns the component.
    #[must_use]
    pub fn new() -> Self {
        Self
    }
}

impl Settings for LockConfig {
    fn problems(&self) -> Vec<String> {
        self.validate().map_or_else(|error| error.problems().to_vec(), |()| Vec::new())
    }
}

impl Component for Lock {
    const NAME: &'static str = "lock";
    type Config = LockConfig;
    type Service = LockService;

    #[cfg(any(feature = "redis", feature = "db-shard"))]
    fn needs(&self, config: &LockConfig) -> Vec<Need> {
        let need = match &config.backend {
            #[cfg(feature = "redis")]
            trine_lock::BackendConfig::Redis(store) => {
                Need::instance::<crate::Redis>(&store.connection).with_setting("backend.connection")
            }
            #[cfg(feature = "db-shard")]
            trine_lock::BackendConfig::Sql(store) => {
                Need::instance::<crate::Db>(&store.database).with_setting("backend.database")
            }
            _ => return Vec::new(),
        };
        vec![need.vital()]
    }

    fn start_timeout(&self, config: &LockConfig) -> Option<Duration> {
        Some(config.start_timeout.get())
    }

    fn build(self, config: LockConfig, deps: &Deps<'_>) -> Result<LockService, BoxFault> {
        let own = LockDeps::default().with_name(deps.name());
        let own = match &config.backend {
            #[cfg(feature = "redis")]
            trine_lock::BackendConfig::Redis(store) => {
                let redis = deps.instance::<crate::Redis>(&store.connection)?;
                own.with_redis(store.connection.as_str(), redis.pool())
            }
            #[cfg(any(feature = "sqlite", feature = "mysql"))]
            trine_lock::BackendConfig::Sql(store) => {
                let db = deps.instance::<crate::Db>(&store.database)?;
                own.with_database(store.database.as_str(), db.global())
            }
            _ => own,
        };
        Ok(LockService::open(&config, own)?)
    }
}

impl Container {
    /// Returns the default locks.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::Missing`](crate::Error::Missing), which names its
    /// key, if none were added.
    pub fn lock(&self) -> Result<LockService> {
        self.lock_instance(DEFAULT)
    }

    /// Returns named locks.
    ///
    /// # Errors
    ///
    /// As [`lock`](Self::lock).
    pub fn lock_instance(&self, instance: &str) -> Result<LockService> {
        let service = self.get(&Handle::<Lock>::of(instance))?;
        Ok((*service).clone())
    }
}
