use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::join_all;
use trine_core::{Deadline, Metrics};

use crate::backend::DbBackend;
use crate::{ConfigError, ConnectionConfig, DatabaseName, DbConfig, Error, PoolStats, Result};

/// The connections of a service: one set for each physical database, opened
/// when the shard map first names it. Cloning shares them.
#[derive(Clone)]
pub struct DbPool {
    shared: Arc<Shared>,
}

struct Shared {
    config: Arc<DbConfig>,
    metrics: Metrics,
    open: Mutex<BTreeMap<Box<str>, Arc<dyn DbBackend>>>,
}

impl DbPool {
    pub(crate) fn new(config: Arc<DbConfig>, metrics: Metrics) -> Self {
        Self { shared: Arc::new(Shared { config, metrics, open: Mutex::default() }) }
    }

    /// Returns the connections called `connection`, opening them for `part`
    /// without any I/O if they are not open yet.
    ///
    /// # Errors
    ///
    /// Fails with `Invalid` if no connection has that name, or if its engine is
    /// not compiled in.
    pub(crate) fn acquire(
        &self,
        connection: &str,
        part: &DatabaseName,
    ) -> Result<Arc<dyn DbBackend>> {
        let mut open = self.lock();
        if let Some(backend) = open.get(connection) {
            return Ok(Arc::clone(backend));
        }
        let Some(config) = self.shared.config.connections.get(connection) else {
            let problem = format!("connections.{connection}: {part} needs it, and it is missing");
            return Err(ConfigError::one(problem).into());
        };
        let backend = connect(part, config, &self.shared.config, &self.shared.metrics)?;
        open.insert(connection.into(), Arc::clone(&backend));
        publish(&self.shared.metrics, part, &backend);
        Ok(backend)
    }

    /// Returns the present numbers of every open database, by the name of its
    /// connection.
    #[must_use]
    pub fn stats(&self) -> BTreeMap<Box<str>, PoolStats> {
        self.lock().iter().map(|(name, backend)| (name.clone(), backend.stats())).collect()
    }

    /// Takes the connections called `connection` out, for the caller to close;
    /// new ones are opened when next asked for.
    pub(crate) fn take(&self, connection: &str) -> Option<Arc<dyn DbBackend>> {
        self.lock().remove(connection)
    }

    /// Takes no new work, waits until the deadline for what is under way and
    /// closes every connection. Idempotent.
    pub async fn close(&self, deadline: Deadline) {
        let open: Vec<_> = self.lock().values().map(Arc::clone).collect();
        join_all(open.iter().map(|backend| backend.close(deadline))).await;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Box<str>, Arc<dyn DbBackend>>> {
        self.shared.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for DbPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.stats()).finish()
    }
}

/// Publishes the present numbers of a database; zeros once it is closed.
fn publish(metrics: &Metrics, part: &DatabaseName, backend: &Arc<dyn DbBackend>) {
    type Reading = (&'static str, &'static str, fn(PoolStats) -> usize);
    const READINGS: [Reading; 4] = [
        ("pool_max", "Most connections there may be.", |stats| stats.max),
        ("pool_size", "Connections there are.", |stats| stats.size),
        ("pool_idle", "Connections that nobody uses.", |stats| stats.idle),
        ("pool_waiting", "Calls that wait for a connection or a turn.", |stats| stats.waiting),
    ];
    let database = part.to_string();
    let labels = [("database", &*database), ("backend", backend.engine().as_str())];
    for (name, help, reading) in READINGS {
        let backend = Arc::downgrade(backend);
        let observe = move || {
            let stats = backend.upgrade().map(|backend| backend.stats()).unwrap_or_default();
            f64::from(u32::try_from(reading(stats)).unwrap_or(u32::MAX))
        };
        metrics.gauge_fn(name, help, &labels, Arc::new(observe));
    }
}

/// Finds what an engine will not take, as the field and the problem.
pub(crate) fn check(config: &ConnectionConfig) -> Result<(), (&'static str, String)> {
    match config {
        #[cfg(feature = "sqlite")]
        ConnectionConfig::Sqlite(_) => Ok(()),
        #[cfg(feature = "mysql")]
        ConnectionConfig::Mysql(config) => {
            crate::backend::mysql::check_url(config).map_err(|problem| ("url", problem.to_owned()))
        }
        #[cfg(not(all(feature = "sqlite", feature = "mysql")))]
        other => {
            let kind = other.engine();
            Err(("kind", format!("\"{kind}\" needs feature {kind} of trine-db-shard")))
        }
    }
}

/// With [`check`], the one place that knows the engines by name.
fn connect(
    part: &DatabaseName,
    config: &ConnectionConfig,
    service: &DbConfig,
    metrics: &Metrics,
) -> Result<Arc<dyn DbBackend>, Error> {
    match config {
        #[cfg(feature = "sqlite")]
        ConnectionConfig::Sqlite(config) => {
            let backend = crate::backend::sqlite::SqliteBackend::open(part, config)?;
            Ok(Arc::new(crate::Observed::new(backend, part, service.slow_query.get(), metrics)))
        }
        #[cfg(feature = "mysql")]
        ConnectionConfig::Mysql(config) => {
            let timeout = service.query_timeout.get();
            let backend = crate::backend::mysql::MysqlBackend::open(part, config, timeout)?;
            Ok(Arc::new(crate::Observed::new(backend, part, service.slow_query.get(), metrics)))
        }
        #[cfg(not(all(feature = "sqlite", feature = "mysql")))]
        other => {
            let _ = (service, metrics);
            let (_, problem) = check(other).err().unwrap_or_default();
            Err(Error::invalid(crate::error::At::new("open", part), problem))
        }
    }
}
