mod counters;
mod health;
mod loops;
mod reload;
mod start;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use trine_core::{
    BoxFault, Clock, Deadline, Health, Lifecycle, Metrics, MigrationSet, Service, Snapshot, State,
    SystemClock, Tasks, Watermark,
};

use crate::database::Settings;
use crate::error::At;
use crate::executor::Executors;
use crate::map::{self, ShardMap};
use crate::routing::KeyCache;
use crate::{
    Database, DatabaseName, DbConfig, DbPool, Error, PoolStats, Procedures, Result, ShardConfig,
    ShardId, ShardStatus, Sql, Unavailable,
};

use counters::Counters;
use health::Probes;
use reload::Reloads;

/// What a service needs beside its configuration.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DbDeps {
    /// The name of this instance, for health and metrics. Default: `"db"`.
    pub name: Box<str>,
    /// The host's own tables, after Trine's. Default: none.
    pub migrations: Vec<MigrationSet>,
    /// Twins of stored procedures. Default: none.
    pub procedures: Procedures,
    /// The clock of leases. Default: the system's.
    pub clock: Arc<dyn Clock>,
}

impl Default for DbDeps {
    fn default() -> Self {
        Self {
            name: "db".into(),
            migrations: Vec::new(),
            procedures: Procedures::new(),
            clock: Arc::new(SystemClock),
        }
    }
}

impl DbDeps {
    /// Sets the name of the instance.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<Box<str>>) -> Self {
        self.name = name.into();
        self
    }

    /// Adds tables of the host's.
    #[must_use]
    pub fn with_migrations(mut self, set: MigrationSet) -> Self {
        self.migrations.push(set);
        self
    }

    /// Sets the twins of stored procedures.
    #[must_use]
    pub fn with_procedures(mut self, procedures: Procedures) -> Self {
        self.procedures = procedures;
        self
    }

    /// Sets the clock of leases.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }
}

/// The global database and the shards as application code sees them. Cheap to
/// clone.
#[derive(Clone)]
pub struct DbService {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) config: Arc<DbConfig>,
    pub(crate) deps: DbDeps,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) tasks: Tasks,
    pub(crate) metrics: Metrics,
    pub(crate) counters: Counters,
    pub(crate) pool: DbPool,
    pub(crate) executors: Executors,
    pub(crate) global: Database,
    pub(crate) map: ArcSwap<ShardMap>,
    pub(crate) keys: KeyCache,
    reloads: Reloads,
    pub(crate) map_progress: Watermark,
    has_loops: AtomicBool,
    probes: Probes,
}

/// A shard as this process knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShardFacts {
    /// Its number.
    pub id: ShardId,
    /// The connection that leads to it.
    pub connection: Box<str>,
    /// Its share of new keys.
    pub weight: u32,
    /// What it takes at present.
    pub status: ShardStatus,
    /// Whether this process has reached it.
    pub is_proved: bool,
}

impl DbService {
    /// Checks the configuration and returns a service that is not started.
    /// Does no I/O.
    ///
    /// # Errors
    ///
    /// Fails with `Invalid` for every broken rule of the configuration and of
    /// the migration sets.
    pub fn open(config: &DbConfig, deps: DbDeps) -> Result<Self> {
        config.validate()?;
        for set in &deps.migrations {
            set.validate()?;
        }
        let config = Arc::new(config.clone());
        let lifecycle = Lifecycle::new(deps.name.clone());
        let tasks = Tasks::new(deps.name.clone());
        let metrics = Metrics::new("db");
        let pool = DbPool::new(Arc::clone(&config), metrics.clone());
        let executors = Executors::new(&config.executors, &tasks, &metrics);
        let backend = pool.acquire(&config.global, &DatabaseName::Global)?;
        let global = Database::new(
            DatabaseName::Global,
            backend,
            settings(&config, &config.global),
            executors.clone(),
            deps.procedures.clone(),
            lifecycle.clone(),
            metrics.clone(),
        );
        let map_progress = Watermark::new(Arc::clone(&deps.clock));
        let keys = KeyCache::new(config.map.cached_keys);
        let shared = Shared {
            config,
            deps,
            lifecycle,
            tasks,
            counters: Counters::new(&metrics),
            metrics,
            pool,
            executors,
            global,
            map: ArcSwap::default(),
            keys,
            reloads: Reloads::default(),
            map_progress,
            has_loops: AtomicBool::new(false),
            probes: Probes::default(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Opens a service and starts it.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open) and [`start`](Self::start).
    pub async fn connect(config: &DbConfig) -> Result<Self> {
        let service = Self::open(config, DbDeps::default())?;
        service.start().await?;
        Ok(service)
    }

    /// Returns the global database.
    #[must_use]
    pub fn global(&self) -> &Database {
        &self.shared.global
    }

    /// Returns the shard with this number.
    ///
    /// # Errors
    ///
    /// Fails with `NotFound` if the shard map has no such shard, and with
    /// `Unavailable` while it is offline or if this process cannot use it.
    pub fn shard(&self, id: impl Into<ShardId>) -> Result<Database> {
        const OPERATION: &str = "shard";
        let id = id.into();
        let map = self.shared.map.load();
        if let Some(left_out) = map.left_out.get(&id) {
            let at = At::new(OPERATION, &DatabaseName::Shard(id));
            let (reason, cause) = (Unavailable::LeftOut, Some(left_out.why.to_string().into()));
            return Err(Error::Unavailable { at, reason, cause });
        }
        let Some(shard) = map.get(id) else {
            let at = self.global().at(OPERATION);
            return Err(Error::not_found(at, format!("shard {id}")));
        };
        if shard.status == ShardStatus::Offline {
            let reason = Unavailable::Status(ShardStatus::Offline);
            return Err(Error::unavailable(shard.database.at(OPERATION), reason));
        }
        Ok(shard.database.clone())
    }

    /// Returns the shards that this process can use, in the order of their
    /// numbers.
    #[must_use]
    pub fn shards(&self) -> Vec<ShardFacts> {
        let map = self.shared.map.load();
        let facts = |shard: &map::Shard| ShardFacts {
            id: shard.id,
            connection: shard.connection.clone(),
            weight: shard.weight,
            status: shard.status,
            is_proved: shard.database.shared().status.is_proved(),
        };
        map.shards.values().map(facts).collect()
    }

    /// Adds a shard to the shard map, or leaves it as it is if the map knows
    /// its number. Every process finds it within `map.refresh`, this one now.
    ///
    /// # Errors
    ///
    /// Fails with `Invalid` if this process has no such connection or it is
    /// the global database's, with `Conflict` if another shard has it, and with
    /// the errors of the global database.
    pub async fn add_shard(&self, shard: &ShardConfig) -> Result<()> {
        let _in_flight = self.global().enter("add_shard")?;
        if let Err(why) = self.shared.config.check_shard_connection(&shard.connection) {
            return Err(Error::invalid(self.global().at("add_shard"), why));
        }
        map::register(self.global(), std::slice::from_ref(shard)).await?;
        self.reload().await?;
        self.prove_now(shard.id).await;
        Ok(())
    }

    /// Sets what a shard takes. This process acts on it when this returns, the
    /// others within `map.refresh`. A shard that comes back and does not answer
    /// is tried again every `map.refresh`.
    ///
    /// # Errors
    ///
    /// Fails with `NotFound` if the map has no such shard, and with the errors
    /// of the global database.
    pub async fn set_shard_status(
        &self,
        id: impl Into<ShardId>,
        status: ShardStatus,
    ) -> Result<()> {
        const SET: Sql =
            Sql::portable("UPDATE trine_shard SET status = ?, epoch = epoch + 1 WHERE id = ?");
        let id = id.into();
        let done = self.global().execute(SET, (status.as_str(), id.get())).await?;
        if done.affected == 0 {
            let at = self.global().at("set_shard_status");
            return Err(Error::not_found(at, format!("shard {id}")));
        }
        self.reload().await?;
        self.prove_now(id).await;
        Ok(())
    }

    /// Returns the connections.
    #[must_use]
    pub fn pool(&self) -> &DbPool {
        &self.shared.pool
    }

    /// Returns the present numbers of every database's connections, by the
    /// name of the connection.
    #[must_use]
    pub fn stats(&self) -> std::collections::BTreeMap<Box<str>, PoolStats> {
        self.shared.pool.stats()
    }

    /// Returns the state of the life cycle.
    #[must_use]
    pub fn state(&self) -> State {
        self.shared.lifecycle.state()
    }

    /// Takes no new calls, waits until `deadline` for those under way, ends
    /// the background work and closes every connection. Idempotent.
    ///
    /// # Errors
    ///
    /// Never fails today; what had to be cut off is logged.
    pub async fn shutdown(&self, deadline: Deadline) -> Result<()> {
        let shared = &self.shared;
        let closing = || async {
            shared.executors.end(&shared.deps.name, deadline).await;
            shared.pool.close(deadline).await;
            Ok::<(), Error>(())
        };
        shared.lifecycle.shutdown(deadline, closing).await?;
        Ok(())
    }

    pub(crate) fn new_shard(&self, id: ShardId, connection: &str) -> Result<Database> {
        let shared = &self.shared;
        let name = DatabaseName::Shard(id);
        let backend = shared.pool.acquire(connection, &name)?;
        Ok(Database::new(
            name,
            backend,
            settings(&shared.config, connection),
            shared.executors.clone(),
            shared.deps.procedures.clone(),
            shared.lifecycle.clone(),
            shared.metrics.clone(),
        ))
    }
}

fn settings(config: &DbConfig, connection: &str) -> Settings {
    let pool = config.connections.get(connection).map_or(1, crate::ConnectionConfig::pool_size);
    Settings::new(config, pool)
}

#[async_trait]
impl Service for DbService {
    fn name(&self) -> &str {
        &self.shared.deps.name
    }

    fn state(&self) -> State {
        Self::state(self)
    }

    async fn start(&self) -> Result<(), BoxFault> {
        Ok(Self::start(self).await?)
    }

    async fn shutdown(&self, deadline: Deadline) -> Result<(), BoxFault> {
        Ok(Self::shutdown(self, deadline).await?)
    }

    async fn health(&self) -> Health {
        Self::health(self).await
    }

    fn metrics(&self) -> Snapshot {
        self.shared.metrics.snapshot()
    }

    fn reset_metrics(&self) {
        self.shared.metrics.reset();
    }
}

impl fmt::Debug for DbService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DbService")
            .field("name", &self.shared.deps.name)
            .field("state", &self.state())
            .field("global", &self.shared.global)
            .field("shards", &self.shards())
            .finish()
    }
}
