mod acquire;
mod engine;
mod health;
mod place;
mod question;

use std::fmt;
use std::hash::RandomState;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use trine_core::{
    Backoff, BoxFault, CallContext, Clock, Deadline, Health, InFlight, Lifecycle, Metrics, Probe,
    Refused, Service, Snapshot, StartError, State, TaskHandle, Tasks, process_name,
};

use self::engine::Engine;
use self::health::Waits;
use crate::backend::connect;
use crate::guard::held::Registry;
use crate::lines::Lines;
use crate::{
    At, Call, Capabilities, Error, InvalidKey, Key, LockBackend, LockConfig, LockDeps, Page,
    Result, StoreFacts, StoreStats, Unavailable,
};

/// Between two attempts to start.
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LONGEST_RETRY: Duration = Duration::from_secs(1);

/// Between two questions to a store that does not tell by itself.
const FIRST_POLL: Duration = Duration::from_millis(25);
const LONGEST_POLL: Duration = Duration::from_millis(500);

/// The locks as application code sees them. Cheap to clone.
///
/// Keys are whatever becomes a [`Key`]: texts, or keys made before. Guards keep
/// what they need: they are renewed also when every handle of the service is
/// gone.
#[derive(Clone)]
pub struct LockService {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) name: Arc<str>,
    pub(crate) config: LockConfig,
    pub(crate) backend: Arc<dyn LockBackend>,
    pub(crate) registry: Arc<Registry>,
    clock: Arc<dyn Clock>,
    /// This process, as others see it.
    process: Arc<str>,
    pub(crate) lines: Arc<Lines>,
    /// What makes the numbers of requests random.
    nonces: RandomState,
    lifecycle: Lifecycle,
    metrics: Metrics,
    waits: Waits,
    tasks: Tasks,
    /// Ends every wait.
    closing: CancellationToken,
    /// Runs from the first proof of the store on.
    engine: OnceLock<Engine>,
    /// What the store last said about itself.
    facts: ArcSwapOption<StoreFacts>,
    probe: Probe,
}

impl LockService {
    /// Checks the configuration and returns locks that are not started. Does no
    /// I/O.
    ///
    /// # Errors
    ///
    /// Fails with `Invalid` for every broken rule of the configuration.
    pub fn open(config: &LockConfig, deps: LockDeps) -> Result<Self> {
        config.validate()?;
        deps.check()?;
        let metrics = Metrics::new("lock");
        let backend = connect(config, &deps, &metrics)?;
        Ok(Self::assemble(backend, config, deps, metrics))
    }

    /// Opens locks and starts them.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open) and [`start`](Self::start).
    pub async fn connect(config: &LockConfig) -> Result<Self> {
        let service = Self::open(config, LockDeps::default())?;
        service.start().await?;
        Ok(service)
    }

    /// Returns locks over a backend of the caller's own; of the configuration
    /// everything counts but `backend`. Its calls are counted if it is
    /// [`Observed`](crate::Observed).
    ///
    /// # Errors
    ///
    /// Fails with `Invalid` for every broken rule of the configuration.
    pub fn with_backend(
        backend: Arc<dyn LockBackend>,
        config: &LockConfig,
        deps: LockDeps,
    ) -> Result<Self> {
        config.validate()?;
        deps.check()?;
        Ok(Self::assemble(backend, config, deps, Metrics::new("lock")))
    }

    fn assemble(
        backend: Arc<dyn LockBackend>,
        config: &LockConfig,
        deps: LockDeps,
        metrics: Metrics,
    ) -> Self {
        // Who is next must ask while the key is kept for it.
        let longest = LONGEST_POLL.min(config.claim_timeout.get() / 2);
        let polling = Backoff::new(FIRST_POLL, longest).with_jitter(deps.jitter);
        let polling = (!backend.capabilities().push).then_some(polling);
        let shared = Arc::new(Shared {
            lifecycle: Lifecycle::new(&*deps.name),
            tasks: Tasks::new(&*deps.name),
            waits: Waits::new(&metrics),
            name: deps.name,
            config: config.clone(),
            backend,
            registry: Arc::default(),
            clock: deps.clock,
            process: process_name(),
            lines: Arc::new(Lines::new(polling)),
            nonces: RandomState::new(),
            metrics,
            closing: CancellationToken::new(),
            engine: OnceLock::new(),
            facts: ArcSwapOption::empty(),
            probe: health::probe(),
        });
        health::publish(&shared);
        Self { shared }
    }

    /// Proves the store and begins to renew and to listen. May be called again
    /// after a failure; running, it does nothing.
    ///
    /// # Errors
    ///
    /// Fails with `Unavailable` after `start_timeout`, and at once with what can
    /// never succeed.
    pub async fn start(&self) -> Result<()> {
        let shared = &self.shared;
        let backoff = Backoff::new(FIRST_RETRY, LONGEST_RETRY);
        let timeout = shared.config.start_timeout.get();
        let attempt = || async {
            self.prove("start").await?;
            shared.engine.get_or_init(|| Engine::start(shared));
            Ok(())
        };
        let started = shared.lifecycle.start(timeout, &backoff, attempt).await;
        started.map_err(|error| match error {
            StartError::Failed(error) => error,
            StartError::Closed { .. } => Error::Closed { at: shared.at("start") },
            StartError::TimedOut { last, .. } => Error::Unavailable {
                at: shared.at("start"),
                reason: Unavailable::Unreachable,
                retry_after: None,
                cause: last.map(Into::into),
            },
            _ => Error::unavailable(shared.at("start"), Unavailable::NotStarted, None),
        })
    }

    async fn prove(&self, operation: &'static str) -> Result<Arc<StoreFacts>> {
        let facts = Arc::new(self.shared.backend.prove(Call::new(operation)).await?);
        self.shared.facts.store(Some(Arc::clone(&facts)));
        Ok(facts)
    }

    /// Returns the name of the instance, such as `"lock.default"`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Returns this process as [`Holder`](crate::Holder)s name it: host, process
    /// id and a random part, made once per service.
    #[must_use]
    pub fn process(&self) -> &str {
        &self.shared.process
    }

    /// Returns what the store can do beyond the required operations.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        self.shared.backend.capabilities()
    }

    /// Returns what the store last said about itself, at the start or in a
    /// check of its health; `None` before the first start.
    #[must_use]
    pub fn facts(&self) -> Option<Arc<StoreFacts>> {
        self.shared.facts.load_full()
    }

    /// Returns the present numbers of the store.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        self.shared.backend.stats()
    }

    /// Returns the state of the life cycle.
    #[must_use]
    pub fn state(&self) -> State {
        self.shared.lifecycle.state()
    }

    /// Most keys that one page of holders asks for.
    pub const MAX_PAGE: u32 = 10_000;

    /// Returns one page of the keys that begin with `prefix`, which may be
    /// empty, and are held or waited for: at most `count` of them, from after
    /// `after` on, in their order.
    ///
    /// # Errors
    ///
    /// Fails with the errors of the store.
    pub async fn holders(&self, prefix: &str, after: Option<&Key>, count: u32) -> Result<Page> {
        const OPERATION: &str = "holders";
        let _in_flight = self.enter(OPERATION)?;
        let count = count.clamp(1, Self::MAX_PAGE);
        self.shared.backend.holders(self.call(OPERATION), prefix, after, count).await
    }

    /// Takes no new calls, ends every wait with `Closed`, and gives back
    /// whatever is held: every guard is lost. Idempotent.
    ///
    /// # Errors
    ///
    /// Never fails today.
    pub async fn shutdown(&self, deadline: Deadline) -> Result<()> {
        let shared = &self.shared;
        shared.closing.cancel();
        let closing = || async {
            // What is held is given back also if the waits took all the time.
            let least = Deadline::after(Lifecycle::CLOSING_GRACE / 2);
            shared.tasks.shutdown(deadline.max(least)).await;
            shared.backend.close(deadline).await;
            Ok::<(), Error>(())
        };
        shared.lifecycle.shutdown(deadline, closing).await?;
        Ok(())
    }

    pub(crate) fn call(&self, operation: &'static str) -> Call {
        Call::new(operation).until(CallContext::current().deadline())
    }

    /// Runs `work` in the background, until the service is shut down.
    pub(crate) fn spawn<F>(
        &self,
        operation: &'static str,
        name: &'static str,
        work: F,
    ) -> Result<TaskHandle<F::Output>>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        let engine = self.engine(operation)?;
        let _runtime = engine.runtime.enter();
        Ok(self.shared.tasks.spawn(name, work))
    }

    fn engine(&self, operation: &'static str) -> Result<&Engine> {
        self.shared.engine.get().ok_or_else(|| {
            let reason = Unavailable::NotStarted;
            Error::unavailable(self.shared.at(operation), reason, None)
        })
    }

    pub(crate) fn enter(&self, operation: &'static str) -> Result<InFlight> {
        self.shared.lifecycle.enter().map_err(|refused| match refused {
            Refused::Closed => Error::Closed { at: self.shared.at(operation) },
            _ => Error::unavailable(self.shared.at(operation), Unavailable::NotStarted, None),
        })
    }
}

impl Shared {
    pub(crate) fn at(&self, operation: &'static str) -> At {
        At::new(operation, &self.name)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What a caller has for a key; the error says why it is none.
pub(crate) fn to_key<K>(key: K) -> Result<Key>
where
    K: TryInto<Key, Error: Into<InvalidKey>>,
{
    key.try_into().map_err(|refused| Error::Key(refused.into()))
}

#[async_trait]
impl Service for LockService {
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

impl fmt::Debug for LockService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockService")
            .field("name", &self.shared.name)
            .field("state", &self.state())
            .field("backend", &self.shared.backend.name())
            .finish()
    }
}
