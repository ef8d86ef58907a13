mod counters;
mod health;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use trine_core::{
    Backoff, BoxFault, Deadline, Health, Lifecycle, Metrics, Probe, Service, Snapshot, StartError,
    State, Tasks,
};

use crate::config::Credentials;
use crate::dial::Dialer;
use crate::error::At;
use crate::node::NodeMaker;
use crate::pool::Shared;
use crate::topology::Topology;
use crate::{Error, RedisConfig, RedisPool, Result, Unavailable};

pub(crate) use counters::Counters;

/// Least time between two checks.
const HEALTH_INTERVAL: Duration = Duration::from_secs(1);

/// What a service needs beside its configuration.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RedisDeps {
    /// The name of this connection, for errors, health, metrics and the
    /// server's list of clients. Default: `"redis"`.
    pub name: Box<str>,
}

impl Default for RedisDeps {
    fn default() -> Self {
        Self { name: "redis".into() }
    }
}

impl RedisDeps {
    /// Sets the name of the connection.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<Box<str>>) -> Self {
        self.name = name.into();
        self
    }
}

/// One named Redis connection of a process: starts it, watches it and ends it.
/// Cheap to clone.
#[derive(Clone)]
pub struct RedisService {
    pool: RedisPool,
    metrics: Metrics,
    probe: Probe,
}

impl RedisService {
    /// Checks the configuration and returns a service that is not started.
    /// Does no I/O.
    ///
    /// # Errors
    ///
    /// Fails with `Invalid` for every broken rule of the configuration.
    pub fn open(config: &RedisConfig, deps: RedisDeps) -> Result<Self> {
        let targets = config.targets()?;
        let name: Arc<str> = deps.name.into();
        let tasks = Tasks::new(&*name);
        let metrics = Metrics::new("redis");
        let counters = Counters::new(&metrics);
        let in_url = targets.first().and_then(|target| target.credentials.clone());
        let apart = config.password.clone().map(|password| Credentials {
            username: config.username.as_deref().map(Into::into),
            password,
        });
        let tls = targets.iter().any(|target| target.tls);
        let dialer = Dialer::new(&name, config, apart.or(in_url), tls);
        let maker = NodeMaker::new(config, dialer, &counters, tasks.token());
        let topology = Arc::new(Topology::new(config, &targets, &maker));
        observe(&metrics, &topology);
        let shared = Shared {
            lifecycle: Lifecycle::new(&*name),
            name,
            config: Arc::new(config.clone()),
            tasks,
            counters,
            topology: Arc::clone(&topology),
        };
        let bound = config.connect_timeout.get() + config.response_timeout.get() * 2;
        let probe = Probe::new(bound, HEALTH_INTERVAL);
        Ok(Self { pool: RedisPool { shared: Arc::new(shared) }, metrics, probe })
    }

    /// Opens a service and starts it.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open) and [`start`](Self::start).
    pub async fn connect(config: &RedisConfig) -> Result<Self> {
        let service = Self::open(config, RedisDeps::default())?;
        service.start().await?;
        Ok(service)
    }

    /// Connects, and proves that the server is what the configuration says.
    ///
    /// From then on connections come back by themselves, for ever. May be
    /// called again after a failure; running, it does nothing.
    ///
    /// # Errors
    ///
    /// Fails with `Unavailable` after `start_timeout`, and at once with what
    /// waiting does not cure: `Denied` for the wrong password, `Invalid` for a
    /// server of another kind or one that speaks no TLS, `Unsupported` for a
    /// version before 7.0.
    pub async fn start(&self) -> Result<()> {
        let shared = &self.pool.shared;
        let config = &shared.config;
        let at = || At::new("start", &shared.name);
        let backoff = Backoff::new(config.reconnect.first.get(), config.reconnect.cap.get());
        // Boxed: what a start awaits is deep, and callers' futures hold it.
        let attempt = || self.attempt().boxed();
        let started = shared.lifecycle.start(config.start_timeout.get(), &backoff, attempt).await;
        started.map_err(|error| match error {
            StartError::Failed(error) => error,
            StartError::Closed { .. } => Error::Closed { at: at() },
            StartError::TimedOut { last, .. } => Error::Unavailable {
                at: at(),
                reason: Unavailable::Unreachable,
                cause: last.map(Into::into),
            },
            _ => Error::unavailable(at(), Unavailable::NotStarted),
        })
    }

    async fn attempt(&self) -> Result<()> {
        let shared = &self.pool.shared;
        let proved = shared.topology.prove(&shared.tasks).await;
        proved.map_err(|refusal| refusal.to_error(At::new("start", &shared.name)))
    }

    /// Returns the connections.
    #[must_use]
    pub fn pool(&self) -> &RedisPool {
        &self.pool
    }

    /// Returns the state of the life cycle.
    #[must_use]
    pub fn state(&self) -> State {
        self.pool.shared.lifecycle.state()
    }

    /// Takes no new calls, waits until `deadline` for those under way and
    /// closes every connection. Idempotent.
    ///
    /// # Errors
    ///
    /// Never fails today.
    pub async fn shutdown(&self, deadline: Deadline) -> Result<()> {
        let shared = &self.pool.shared;
        let closing = || async {
            shared.tasks.shutdown(deadline).await;
            Ok::<(), Error>(())
        };
        shared.lifecycle.shutdown(deadline, closing).await?;
        Ok(())
    }

    /// Returns the counters as they are now.
    #[must_use]
    pub fn metrics(&self) -> Snapshot {
        self.metrics.snapshot()
    }

    /// Sets a new baseline for the values of snapshots.
    pub fn reset_metrics(&self) {
        self.metrics.reset();
    }
}

/// Has snapshots tell how many connections there are.
fn observe(metrics: &Metrics, topology: &Arc<Topology>) {
    let gauge = |name, help, read: fn(&Topology) -> usize| {
        let topology = Arc::clone(topology);
        metrics.gauge_fn(name, help, &[], Arc::new(move || read(&topology) as f64));
    };
    gauge("masters", "Nodes that take writes.", |it| it.masters().len());
    let help = "Nodes that take writes and are connected.";
    gauge("masters_connected", help, Topology::connected);
    let help = "Dedicated connections on loan.";
    gauge("dedicated_in_use", help, |it| it.dedicated().in_use);
    gauge("dedicated_idle", "Dedicated connections at rest.", |it| it.dedicated().idle);
    gauge("dedicated_waiting", "Callers that wait for one.", |it| it.dedicated().waiting);
}

#[async_trait]
impl Service for RedisService {
    fn name(&self) -> &str {
        &self.pool.shared.name
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
        Self::metrics(self)
    }

    fn reset_metrics(&self) {
        Self::reset_metrics(self);
    }
}

impl fmt::Debug for RedisService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisService")
            .field("state", &self.state())
            .field("pool", &self.pool)
            .finish_non_exhaustive()
    }
}
