mod health;

#[cfg(feature = "redis")]
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use trine_core::{
    Backoff, BoxFault, CallContext, Clock, Deadline, Health, InFlight, Jitter, Lifecycle, Metrics,
    Probe, Refused, Service, Snapshot, StartError, State, SystemClock,
};

use crate::backend::{Store, connect};
use crate::{
    At, Batch, CacheBackend, CacheConfig, Call, Capabilities, Cursor, Error, InvalidKey, Key, Op,
    Outcome, Page, Reply, Result, StoreFacts, StoreStats, Ttl, Unavailable,
};

/// Between two attempts to start.
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LONGEST_RETRY: Duration = Duration::from_secs(1);

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

/// The cache as application code sees it. Cheap to clone.
///
/// Keys are whatever becomes a [`Key`]: texts, or keys made before. Values are
/// anything that serde can read and write, kept as JSON; methods that end in
/// `bytes` or `text` keep what they are given.
#[derive(Clone)]
pub struct CacheService {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) name: Arc<str>,
    pub(crate) config: CacheConfig,
    lifecycle: Lifecycle,
    metrics: Metrics,
    store: Arc<Store>,
    jitter: Jitter,
    /// What the store last said about itself.
    facts: ArcSwapOption<StoreFacts>,
    probe: Probe,
}

impl CacheService {
    /// Checks the configuration and returns a cache that is not started. Does
    /// no I/O.
    ///
    /// # Errors
    ///
    /// Fails with `Invalid` for every broken rule of the configuration.
    pub fn open(config: &CacheConfig, deps: CacheDeps) -> Result<Self> {
        config.validate()?;
        let metrics = Metrics::new("cache");
        let store = connect(config, &deps, &metrics)?;
        Ok(Self::assemble(store, config, deps, metrics))
    }

    /// Opens a cache and starts it.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open) and [`start`](Self::start).
    pub async fn connect(config: &CacheConfig) -> Result<Self> {
        let service = Self::open(config, CacheDeps::default())?;
        service.start().await?;
        Ok(service)
    }

    /// Returns a cache over a backend of the caller's own; of the configuration
    /// everything counts but `backend`. Its calls are counted if it is
    /// [`Observed`](crate::Observed).
    ///
    /// # Errors
    ///
    /// Fails with `Invalid` for every broken rule of the configuration.
    pub fn with_backend(
        backend: Arc<dyn CacheBackend>,
        config: &CacheConfig,
        deps: CacheDeps,
    ) -> Result<Self> {
        config.validate()?;
        Ok(Self::assemble(Store::Other(backend), config, deps, Metrics::new("cache")))
    }

    fn assemble(store: Store, config: &CacheConfig, deps: CacheDeps, metrics: Metrics) -> Self {
        let store = Arc::new(store);
        health::publish(&metrics, &store);
        let shared = Shared {
            lifecycle: Lifecycle::new(&*deps.name),
            name: deps.name,
            config: config.clone(),
            metrics,
            store,
            jitter: deps.jitter,
            facts: ArcSwapOption::empty(),
            probe: health::probe(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Proves the store. May be called again after a failure; running, it does
    /// nothing.
    ///
    /// # Errors
    ///
    /// Fails with `Unavailable` after `start_timeout`, and at once with what
    /// can never succeed: `Invalid`, `Denied`.
    pub async fn start(&self) -> Result<()> {
        let shared = &self.shared;
        let backoff = Backoff::new(FIRST_RETRY, LONGEST_RETRY);
        let timeout = shared.config.start_timeout.get();
        let attempt = || async { self.prove("start").await.map(|_facts| ()) };
        let started = shared.lifecycle.start(timeout, &backoff, attempt).await;
        started.map_err(|error| match error {
            StartError::Failed(error) => error,
            StartError::Closed { .. } => Error::Closed { at: self.at("start") },
            StartError::TimedOut { last, .. } => Error::Unavailable {
                at: self.at("start"),
                reason: Unavailable::Unreachable,
                cause: last.map(Into::into),
            },
            _ => Error::unavailable(self.at("start"), Unavailable::NotStarted),
        })
    }

    async fn prove(&self, operation: &'static str) -> Result<Arc<StoreFacts>> {
        let facts = Arc::new(self.shared.store.backend().prove(Call::new(operation)).await?);
        self.shared.facts.store(Some(Arc::clone(&facts)));
        Ok(facts)
    }

    /// Returns the name of the instance, such as `"cache.default"`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Returns what the store can do beyond the required operations.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        self.shared.store.backend().capabilities()
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
        self.shared.store.backend().stats()
    }

    /// Returns the state of the life cycle.
    #[must_use]
    pub fn state(&self) -> State {
        self.shared.lifecycle.state()
    }

    /// Runs operations as one call: one reply for each, the failed ones among
    /// them.
    ///
    /// Writes are never sent twice. Dropping the future may leave writes done,
    /// undone or, if pipelined, partly done.
    ///
    /// # Errors
    ///
    /// Fails with `Invalid` if the batch or one of its values breaks a rule,
    /// with `Fenced` if it is guarded and a newer token was shown, and with the
    /// errors of the store; in all but `OutcomeUnknown` nothing was written.
    pub async fn run(&self, mut batch: Batch) -> Result<Outcome> {
        let operation = batch.operation();
        let _in_flight = self.enter(operation)?;
        self.check(&batch)?;
        for op in &mut batch.ops {
            self.resolve(op);
        }
        self.shared.store.run(self.call(operation), batch).await
    }

    /// Runs one operation.
    pub(crate) async fn one(&self, operation: &'static str, op: Op) -> Result<Reply> {
        let outcome = self.run(Batch::of(operation, op)).await?;
        self.only(operation, outcome)
    }

    /// Returns the reply of a batch of one operation without conditions.
    pub(crate) fn only(&self, operation: &'static str, outcome: Outcome) -> Result<Reply> {
        match outcome {
            Outcome::Ran(mut replies) => match replies.pop() {
                Some(Reply::Failed(error)) => Err(error),
                Some(reply) => Ok(reply),
                None => Err(self.internal(operation, "a batch of one had no reply")),
            },
            Outcome::Refused { .. } => {
                Err(self.internal(operation, "a batch without conditions was refused"))
            }
        }
    }

    /// Returns one page of the keys that begin with `prefix`, about `count` of
    /// them; the cursor of the first page is [`Cursor::first`].
    ///
    /// A key that is there from the first page to the last is yielded at least
    /// once; one that comes or goes meanwhile may be. A page may be empty and
    /// not the last.
    ///
    /// # Errors
    ///
    /// Fails with the errors of the store.
    pub async fn scan(&self, prefix: &str, cursor: Cursor, count: u32) -> Result<Page> {
        const OPERATION: &str = "scan";
        let _in_flight = self.enter(OPERATION)?;
        let count = count.clamp(1, Self::MAX_PAGE);
        self.shared.store.backend().scan(self.call(OPERATION), prefix, cursor, count).await
    }

    /// Most keys that one page of a scan asks for.
    pub const MAX_PAGE: u32 = 10_000;

    /// Removes every key that begins with `prefix`, in bounded steps, and
    /// returns how many there were. Keys that are made meanwhile may stay.
    ///
    /// Dropping the future ends the work between two steps; it may be done
    /// again.
    ///
    /// # Errors
    ///
    /// Fails with the errors of the store; what was removed stays removed.
    pub async fn remove_prefix(&self, prefix: &str) -> Result<u64> {
        const STEP: u32 = 500;
        let (mut removed, mut cursor) = (0, Cursor::first());
        loop {
            let page = self.scan(prefix, cursor, STEP).await?;
            removed += self.remove_many(&page.keys).await?;
            match page.next {
                Some(next) => cursor = next,
                None => return Ok(removed),
            }
        }
    }

    /// Takes no new calls, waits until `deadline` for those under way and lets
    /// go of the store. Idempotent.
    ///
    /// # Errors
    ///
    /// Never fails today.
    pub async fn shutdown(&self, deadline: Deadline) -> Result<()> {
        let shared = &self.shared;
        let closing = || async {
            shared.store.backend().close(deadline).await;
            Ok::<(), Error>(())
        };
        shared.lifecycle.shutdown(deadline, closing).await?;
        Ok(())
    }

    pub(crate) fn at(&self, operation: &'static str) -> At {
        At::new(operation, &self.shared.name)
    }

    pub(crate) fn internal(&self, operation: &'static str, detail: &'static str) -> Error {
        Error::Internal { at: self.at(operation), cause: detail.into() }
    }

    fn call(&self, operation: &'static str) -> Call {
        Call::new(operation).until(CallContext::current().deadline())
    }

    fn enter(&self, operation: &'static str) -> Result<InFlight> {
        self.shared.lifecycle.enter().map_err(|refused| match refused {
            Refused::Closed => Error::Closed { at: self.at(operation) },
            _ => Error::unavailable(self.at(operation), Unavailable::NotStarted),
        })
    }

    /// Refuses what can never be accepted, before anything is sent.
    fn check(&self, batch: &Batch) -> Result<()> {
        if let Some(problem) = batch.problem() {
            return Err(Error::invalid(self.at(batch.operation()), problem));
        }
        let max = self.shared.config.max_value;
        for op in batch.ops() {
            let largest = op.load().largest;
            if largest > max.as_len() {
                let key = op.key();
                let detail = format!(
                    "key `{key}`: value of {largest} bytes, expected at most {max} (max_value)"
                );
                return Err(Error::invalid(self.at(batch.operation()), detail));
            }
        }
        Ok(())
    }

    /// Puts the configured lifetime in the place of the default.
    fn resolve(&self, op: &mut Op) {
        let is_whole = op.is_whole();
        let Some(ttl) = op.ttl_mut() else { return };
        if *ttl != Ttl::Default {
            return;
        }
        *ttl = match (self.default_ttl(), is_whole) {
            (Some(span), true) => Ttl::After(span),
            (Some(span), false) => Ttl::IfNew(span),
            (None, true) => Ttl::Never,
            (None, false) => Ttl::Keep,
        };
    }

    fn default_ttl(&self) -> Option<Duration> {
        let config = &self.shared.config;
        let full = config.default_ttl?.get();
        let shortened = full.mul_f64(config.ttl_jitter.mul_add(-self.shared.jitter.next(), 1.0));
        Some(shortened.max(Ttl::MIN))
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
impl Service for CacheService {
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

impl fmt::Debug for CacheService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheService")
            .field("name", &self.shared.name)
            .field("state", &self.state())
            .field("backend", &self.shared.store.backend().name())
            .finish()
    }
}
