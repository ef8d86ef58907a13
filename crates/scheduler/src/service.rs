mod health;
pub(crate) mod meters;
mod operations;
mod registration;

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use trine_core::{
    Backoff, BoxFault, CallContext, Deadline, Health, InFlight, Lifecycle, Metrics, Probe, Refused,
    Service, Snapshot, StallDetector, StartError, State, SystemClock, Tasks, process_name,
};

use self::health::Stalls;
use self::meters::Meters;
pub use self::registration::RegisterOutcome;
use crate::backend::{Effects, connect, database};
use crate::engine::bell::Bell;
use crate::engine::runs::Runs;
use crate::engine::{Engine, Parts};
use crate::{
    At, Call, Capabilities, Error, MemoryBackend, Observed, Result, SchedulerBackend,
    SchedulerConfig, SchedulerDeps, Scope, StoreFacts, Unavailable,
};

/// Between two attempts to start.
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LONGEST_RETRY: Duration = Duration::from_secs(1);

/// What a shutdown leaves for the store at the end.
const LAST: Duration = Duration::from_millis(200);

/// The scheduler as application code sees it. Cheap to clone.
///
/// Jobs are named by whatever becomes a [`JobId`](crate::JobId): texts, or names
/// made before. A handler may hold the service; a
/// [`shutdown`](Self::shutdown) lets go of the handlers.
#[derive(Clone)]
pub struct SchedulerService {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) name: Arc<str>,
    pub(crate) config: Arc<SchedulerConfig>,
    /// Of jobs that run in one of the processes.
    pub(crate) once: Arc<Engine>,
    /// Of jobs that run in each of them, in the memory of this one.
    pub(crate) every: Arc<Engine>,
    pub(crate) parts: Parts,
    metrics: Metrics,
    tasks: Tasks,
    runs: Tasks,
    /// One change of what is registered at a time; whether it was at the start.
    registered: Arc<tokio::sync::Mutex<bool>>,
    /// What the first start ran in.
    runtime: OnceLock<Handle>,
    /// What the store last said about itself.
    facts: ArcSwapOption<StoreFacts>,
    probe: Probe,
    stalls: Mutex<Stalls>,
}

impl SchedulerService {
    /// Checks the configuration and returns a scheduler that is not started.
    /// Does no I/O.
    ///
    /// # Errors
    ///
    /// Fails with `Invalid` for every broken rule of the configuration, and with
    /// `Conflict` for two jobs of one name.
    pub fn open(config: &SchedulerConfig, deps: SchedulerDeps) -> Result<Self> {
        config.validate()?;
        deps.check()?;
        let metrics = Metrics::new("scheduler");
        let store = connect(config, &deps, &metrics)?;
        Self::assemble(store, config, deps, metrics)
    }

    /// Opens a scheduler and starts it.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open) and [`start`](Self::start).
    pub async fn connect(config: &SchedulerConfig) -> Result<Self> {
        let service = Self::open(config, SchedulerDeps::default())?;
        service.start().await?;
        Ok(service)
    }

    /// Returns a scheduler over a backend of the caller's own; of the
    /// configuration everything counts but `backend`. Its calls are counted if
    /// it is [`Observed`].
    ///
    /// Runs can be completed in transactions (`JobContext::complete_in`) if the
    /// backend is capable of [`transactions`](Capabilities::transactions) under
    /// the name of the dependencies and these have the database that it is kept
    /// in.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn with_backend(
        backend: Arc<dyn SchedulerBackend>,
        config: &SchedulerConfig,
        deps: SchedulerDeps,
    ) -> Result<Self> {
        config.validate()?;
        deps.check()?;
        let effects = database::effects(&*backend, &deps);
        Self::assemble((backend, effects), config, deps, Metrics::new("scheduler"))
    }

    fn assemble(
        store: (Arc<dyn SchedulerBackend>, Effects),
        config: &SchedulerConfig,
        deps: SchedulerDeps,
        metrics: Metrics,
    ) -> Result<Self> {
        let SchedulerDeps { name, clock, jobs, .. } = deps;
        let process = process_name();
        let bell = || Arc::new(Bell::new(&clock));
        let (once, every) = (bell(), bell());
        let parts = Parts {
            config: Arc::new(config.clone()),
            runs: Arc::new(Runs::new(config.max_running, vec![once.clone(), every.clone()])),
            meters: Arc::new(Meters::new(&metrics)),
            lifecycle: Lifecycle::new(&*name),
            threads: Tasks::new(&*name),
            closing: CancellationToken::new(),
            cut: CancellationToken::new(),
        };
        // Its fences must not end those of other processes.
        let random = process.rsplit(':').next().unwrap_or_default();
        let own: Arc<str> = format!("{name}@{random}").into();
        let memory = Observed::new(MemoryBackend::open(&own, Arc::clone(&clock)), &metrics);
        let own_store = (Arc::new(memory) as Arc<dyn SchedulerBackend>, Effects::default());
        let engine = |name, store, scope, bell| {
            Arc::new(Engine::new((name, &process), store, scope, &clock, bell, parts.clone()))
        };
        let shared = Arc::new(Shared {
            once: engine(&name, store, Scope::Once, once),
            every: engine(&own, own_store, Scope::EveryProcess, every),
            tasks: Tasks::new(&*name),
            runs: Tasks::new(&*name),
            config: Arc::clone(&parts.config),
            name,
            parts,
            metrics,
            registered: Arc::default(),
            runtime: OnceLock::new(),
            facts: ArcSwapOption::empty(),
            probe: health::probe(),
            stalls: Mutex::default(),
        });
        health::publish(&shared);
        let service = Self { shared };
        service.admit(&jobs, "open")?;
        Ok(service)
    }

    /// Proves the store, registers the jobs that are there, and begins to plan
    /// and to run. May be called again after a failure; running, it does
    /// nothing.
    ///
    /// # Errors
    ///
    /// Fails with `Unavailable` after `start_timeout`, and at once with what can
    /// never succeed, such as a job that is in `Conflict` with the stored one:
    /// then none is registered.
    pub async fn start(&self) -> Result<()> {
        let shared = &self.shared;
        let backoff = Backoff::new(FIRST_RETRY, LONGEST_RETRY);
        let timeout = shared.config.start_timeout.get();
        let attempt = || async {
            self.prove("start").await?;
            let mut is_registered = shared.registered.lock().await;
            shared.once.enrol("start").await?;
            shared.every.enrol("start").await?;
            shared.runtime.get_or_init(Handle::current);
            if !shared.once.is_started() {
                StallDetector::spawn(&shared.tasks, &shared.metrics, Arc::new(SystemClock));
            }
            shared.once.start(&shared.tasks, &shared.runs);
            if !shared.every.handlers.is_empty() {
                shared.every.start(&shared.tasks, &shared.runs);
            }
            *is_registered = true;
            Ok(())
        };
        let started = shared.parts.lifecycle.start(timeout, &backoff, attempt).await;
        started.map_err(|error| match error {
            StartError::Failed(error) => error,
            StartError::Closed { .. } => Error::Closed { at: shared.at("start") },
            StartError::TimedOut { last, .. } => Error::Unavailable {
                at: shared.at("start"),
                reason: Unavailable::Unreachable,
                cause: last.map(Into::into),
            },
            _ => shared.not_started("start"),
        })
    }

    async fn prove(&self, operation: &'static str) -> Result<Arc<StoreFacts>> {
        let facts = Arc::new(self.shared.once.backend.prove(Call::new(operation)).await?);
        self.shared.facts.store(Some(Arc::clone(&facts)));
        Ok(facts)
    }

    /// Returns the name of the instance, such as `"scheduler.default"`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Returns this process as [`Attempt`](crate::Attempt)s name it: host,
    /// process id and a random part, made once per service.
    #[must_use]
    pub fn process(&self) -> &str {
        &self.shared.once.process
    }

    /// Returns what the store can do beyond the required operations.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        self.shared.once.backend.capabilities()
    }

    /// Returns what the store last said about itself, at the start or in a
    /// check of its health; `None` before the first start.
    #[must_use]
    pub fn facts(&self) -> Option<Arc<StoreFacts>> {
        self.shared.facts.load_full()
    }

    /// Returns the state of the life cycle.
    #[must_use]
    pub fn state(&self) -> State {
        self.shared.parts.lifecycle.state()
    }

    /// Plans and takes no more, and waits for the runs until `deadline`. Those
    /// that are left then are asked to end, dropped, and handed over: another
    /// process runs them at once. Idempotent.
    ///
    /// Work that blocks cannot be dropped. What of it goes on is left to its
    /// lease.
    ///
    /// # Errors
    ///
    /// Never fails today.
    pub async fn shutdown(&self, deadline: Deadline) -> Result<()> {
        let shared = &self.shared;
        shared.parts.closing.cancel();
        let closing = || async {
            let least = Deadline::after(Lifecycle::CLOSING_GRACE - LAST);
            let until = deadline.max(least);
            shared.parts.cut.cancel();
            let runs = shared.parts.runs.emptied();
            let farewells = async { tokio::join!(shared.once.farewell(), shared.every.farewell()) };
            until.limit(async { tokio::join!(runs, farewells) }).await;
            let until = until.max(Deadline::after(LAST / 2));
            shared.runs.shutdown(until).await;
            shared.tasks.shutdown(until).await;
            for engine in [&shared.once, &shared.every] {
                engine.handlers.clear();
                engine.backend.close(deadline).await;
            }
            // What it leaves behind goes on by itself.
            shared.parts.threads.shutdown(Deadline::after(Duration::ZERO)).await;
            Ok::<(), Error>(())
        };
        shared.parts.lifecycle.shutdown(deadline, closing).await?;
        Ok(())
    }

    pub(crate) fn call(&self, operation: &'static str) -> Call {
        Call::new(operation).until(CallContext::current().deadline())
    }

    pub(crate) fn enter(&self, operation: &'static str) -> Result<InFlight> {
        self.shared.parts.lifecycle.enter().map_err(|refused| match refused {
            Refused::Closed => Error::Closed { at: self.shared.at(operation) },
            _ => self.shared.not_started(operation),
        })
    }
}

impl Shared {
    pub(crate) fn at(&self, operation: &'static str) -> At {
        At::new(operation, &self.name)
    }

    fn not_started(&self, operation: &'static str) -> Error {
        let reason = Unavailable::NotStarted;
        Error::Unavailable { at: self.at(operation), reason, cause: None }
    }

    fn engine(&self, scope: Scope) -> &Arc<Engine> {
        match scope {
            Scope::Once => &self.once,
            Scope::EveryProcess => &self.every,
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("name", &self.name).finish_non_exhaustive()
    }
}

#[async_trait]
impl Service for SchedulerService {
    fn name(&self) -> &str {
        Self::name(self)
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

impl fmt::Debug for SchedulerService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SchedulerService")
            .field("name", &self.shared.name)
            .field("state", &self.state())
            .field("backend", &self.shared.once.backend.name())
            .finish()
    }
}
