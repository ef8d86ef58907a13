use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use trine_core::{Clock, ErrorKind, Health, Metrics, Operations, Snapshot, State, Tasks};

use crate::builder::entry::Titled;
use crate::builder::find_section;
use crate::node::Node;
use crate::{Component, ContainerConfig, Error, Handle, Result, Section, Settings};

mod health;
mod keep;
pub(crate) mod pulse;
mod run;
mod start;
pub(crate) mod status;
mod stop;

use self::pulse::Pulse;
use self::status::{ServiceStatus, Status};

/// The services of one process, wired and kept by one owner. Cheap to clone.
#[derive(Clone)]
pub struct Container {
    shared: Arc<Shared>,
}

/// What a builder hands over.
pub(crate) struct Parts {
    pub(crate) nodes: Vec<Node>,
    pub(crate) typed: BTreeMap<Arc<str>, Arc<dyn Any + Send + Sync>>,
    pub(crate) sections: Vec<Box<dyn Titled>>,
    pub(crate) config: ContainerConfig,
    pub(crate) clock: Arc<dyn Clock>,
}

struct Shared {
    parts: Parts,
    state: watch::Sender<State>,
    /// Why the process cannot go on; the first reason stays.
    fatal: watch::Sender<Option<Fatal>>,
    /// One start or stop at a time.
    turn: tokio::sync::Mutex<()>,
    /// The host's background work.
    tasks: Tasks,
    /// Checks, and what brings optional services back.
    upkeep: Tasks,
    /// What watches the runtime itself; the last to end.
    vital: Tasks,
    has_upkeep: AtomicBool,
    /// Told whenever a service came up or failed to.
    settled: watch::Sender<u64>,
    /// Ends a start that is under way.
    stopping: CancellationToken,
    metrics: Metrics,
    runtime: Metrics,
    pulse: Pulse,
}

/// A required service that is lost for good.
#[derive(Clone, Debug)]
struct Fatal {
    service: Box<str>,
    kind: ErrorKind,
    reason: String,
}

impl Container {
    pub(crate) fn new(parts: Parts) -> Self {
        let shared = Shared {
            parts,
            state: watch::Sender::new(State::Created),
            fatal: watch::Sender::new(None),
            turn: tokio::sync::Mutex::default(),
            tasks: Tasks::new("host"),
            upkeep: Tasks::new("container"),
            vital: Tasks::new("container"),
            has_upkeep: AtomicBool::new(false),
            settled: watch::Sender::new(0),
            stopping: CancellationToken::new(),
            metrics: Metrics::new("container"),
            runtime: Metrics::new("runtime"),
            pulse: Pulse::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Returns the service behind a handle.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::Missing`] if the handle is of another builder, or if
    /// the service was left out for want of a table.
    pub fn get<C: Component>(&self, handle: &Handle<C>) -> Result<Arc<C::Service>> {
        let service = self.shared.parts.typed.get(&handle.name);
        let service = service.and_then(|service| Arc::clone(service).downcast().ok());
        service.ok_or_else(|| Error::Missing { key: handle.name().to_owned() })
    }

    /// Returns the settings of a section of the host's.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::Missing`] if the section is of another builder.
    pub fn section<T: Settings>(&self, section: &Section<T>) -> Result<Arc<T>> {
        find_section(&self.shared.parts.sections, section)
    }

    /// Returns the settings of the container itself.
    #[must_use]
    pub fn config(&self) -> &ContainerConfig {
        &self.shared.parts.config
    }

    /// Returns the owner of the host's background work. It is stopped before
    /// the services; a task of it that is given up ends [`run`](Self::run).
    #[must_use]
    pub fn tasks(&self) -> &Tasks {
        &self.shared.tasks
    }

    /// Returns where the container is in its life.
    #[must_use]
    pub fn state(&self) -> State {
        *self.shared.state.borrow()
    }

    /// Returns where each service is, without asking any backend.
    #[must_use]
    pub fn status(&self) -> Status {
        let nodes = &self.shared.parts.nodes;
        let name = |place: &usize| Some(nodes.get(*place)?.name.to_string());
        let services = nodes.iter().map(|node| {
            let run = node.run();
            ServiceStatus {
                name: node.name.to_string(),
                state: node.service.state(),
                is_required: node.is_required,
                needs: node.needs.iter().filter_map(name).collect(),
                health: run.health.as_ref().map(|health| health.status),
                started_in: run.started_in,
                error: run.last_error.clone(),
            }
        });
        Status { state: self.state(), is_ready: self.is_ready(), services: services.collect() }
    }

    /// Returns the counters of every service, with the label `instance`, and
    /// the container's own.
    #[must_use]
    pub fn metrics(&self) -> Snapshot {
        let mut all = self.own_metrics();
        for node in self.nodes() {
            all.merge(node.service.metrics().with_label("instance", node.instance()));
        }
        all
    }

    /// Sets a new baseline for the values of snapshots in every service.
    pub fn reset_metrics(&self) {
        self.nodes().iter().for_each(|node| node.service.reset_metrics());
        self.shared.metrics.reset();
        self.shared.runtime.reset();
    }

    fn nodes(&self) -> &[Node] {
        &self.shared.parts.nodes
    }

    fn own_metrics(&self) -> Snapshot {
        let metrics = &self.shared.metrics;
        metrics
            .gauge("ready", "1 while the process should be given work.", &[])
            .set(self.is_ready().into());
        for node in self.nodes() {
            let labels = [("service", &*node.name)];
            let is_up = node.service.state() == State::Running && !node.is_down();
            metrics.gauge("service_up", "1 while the service works.", &labels).set(is_up.into());
        }
        let mut own = metrics.snapshot();
        own.merge(self.shared.runtime.snapshot());
        own
    }
}

#[async_trait]
impl Operations for Container {
    fn live(&self) -> Health {
        Self::live(self)
    }

    fn ready(&self) -> Health {
        Self::ready(self)
    }

    async fn health(&self) -> Health {
        Self::health(self).await
    }

    fn metrics(&self) -> Snapshot {
        Self::metrics(self)
    }
}

impl fmt::Debug for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Container")
            .field("state", &self.state())
            .field("services", &self.nodes())
            .finish()
    }
}
