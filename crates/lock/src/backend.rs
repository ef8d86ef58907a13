mod events;
mod memory;
mod observed;
mod record;
#[cfg(feature = "redis")]
mod redis;
#[cfg(any(feature = "mysql", feature = "sqlite"))]
mod sql;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use trine_core::{Claim, Deadline, Durability, Fence, LeaseTerms, Metrics, Renewal};

use crate::{
    BackendConfig, Holder, Key, LockConfig, LockDeps, Page, ReleaseOutcome, Result, Shape,
};

pub use events::{Event, EventSender, Events};
pub use memory::MemoryBackend;
pub use observed::Observed;
#[cfg(feature = "redis")]
pub use redis::RedisBackend;
#[cfg(any(feature = "mysql", feature = "sqlite"))]
pub use sql::SqlBackend;

/// The operations that a store must offer. Object-safe on purpose: callers hold
/// one [`LockService`](crate::LockService) whatever the store is.
///
/// A store keeps one record for each key that is held, kept or waited for, and
/// counts its times by its own clock. Every grant, reads among them, has a
/// token of its own that is higher than all before it under that key.
///
/// Dropping any of these futures never gives an answer to another caller; what
/// it asked for may still have happened.
#[async_trait]
pub trait LockBackend: fmt::Debug + Send + Sync + 'static {
    /// Returns a short constant name for logs and metrics, such as `"memory"`.
    fn name(&self) -> &'static str;

    /// Returns what this store can do beyond the required operations.
    fn capabilities(&self) -> Capabilities;

    /// Makes sure that the store answers, connecting if necessary. Idempotent;
    /// also what health checks call.
    async fn prove(&self, call: Call) -> Result<StoreFacts>;

    /// Grants the key, or says who has it. One atomic step.
    ///
    /// While others wait before it, nothing is granted that would make them
    /// wait longer, except to a [steal](Mode::Steal).
    async fn acquire(&self, call: Call, want: &Want) -> Result<Answer>;

    /// Renews each claim by its ttl and answers one [`Renewal`] each, as
    /// [`Leases::renew`](trine_core::Leases::renew) asks.
    async fn renew(&self, call: Call, claims: &[Claim]) -> Result<Vec<Renewal>>;

    /// Gives the claims back as far as the store still has these grants, keeps
    /// each key for what is left of its `at_least`, and tells who is next.
    /// Answers one outcome each. Idempotent.
    async fn release(&self, call: Call, claims: &[Claim]) -> Result<Vec<ReleaseOutcome>>;

    /// Forgets that `waiter` waits for the key. Idempotent.
    async fn withdraw(&self, call: Call, key: &Key, waiter: &Waiter) -> Result<()>;

    /// Returns one page of the keys that begin with `prefix`, which may be
    /// empty, from after `after` on, about `count` of them, in their order.
    async fn holders(
        &self,
        call: Call,
        prefix: &str,
        after: Option<&Key>,
        count: u32,
    ) -> Result<Page>;

    /// Returns what the store tells `process` from now on; nothing if it does
    /// not [push](Capabilities::push). Once they are dropped, the process is
    /// skipped where it is next.
    fn events(&self, process: &Arc<str>) -> Events;

    /// Returns the present numbers.
    fn stats(&self) -> StoreStats;

    /// Takes no new work and lets go of what it holds. Idempotent.
    async fn close(&self, deadline: Deadline);
}

/// The bounds of one call, and its name for messages.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Call {
    /// The operation as the caller knows it, such as `"acquire"`.
    pub operation: &'static str,
    /// When the answer is of no use any more, if the caller said so; the
    /// store's own time-outs hold in any case.
    pub deadline: Option<Deadline>,
}

impl Call {
    /// Returns a call without a deadline of the caller's.
    #[must_use]
    pub fn new(operation: &'static str) -> Self {
        Self { operation, deadline: None }
    }

    /// Returns the call ended by `deadline`.
    #[must_use]
    pub fn until(mut self, deadline: Option<Deadline>) -> Self {
        self.deadline = deadline;
        self
    }
}

/// What a store can do beyond the required operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// Other processes see what this one takes.
    pub is_shared: bool,
    /// It tells who is next when a key becomes free; else it is asked again and
    /// again.
    pub push: bool,
    /// It tells a holder at once whose key was stolen; else the next renewal
    /// does.
    pub push_loss: bool,
}

impl Capabilities {
    /// Returns the abilities of a store of this process only.
    #[must_use]
    pub fn local() -> Self {
        Self { is_shared: false, push: true, push_loss: true }
    }

    /// Sets whether the store tells by itself who is next and who has lost.
    #[must_use]
    pub fn with_push(mut self, push: bool, push_loss: bool) -> Self {
        (self.push, self.push_loss) = (push, push_loss);
        self
    }
}

/// What is asked of a store.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Want {
    /// The key.
    pub key: Key,
    /// What is left to others.
    pub shape: Shape,
    /// How long, and at most how long.
    pub terms: LeaseTerms,
    /// How long the key stays taken at least.
    pub at_least: Option<Duration>,
    /// Who asks.
    pub waiter: Waiter,
    /// What others are told of it.
    pub label: Option<Arc<str>>,
    /// What to do if it cannot be granted.
    pub mode: Mode,
    /// Tells this request from all others of the process, however often it is
    /// asked: what it was granted is not granted again, but answered again, with
    /// its times from then on.
    pub nonce: u64,
}

/// What a store does with what it cannot grant now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// Nothing.
    Try,
    /// Registers the waiter at the end of the key's line, or leaves it where it
    /// is there.
    Wait {
        /// What another of the same waiter wants that waits behind this one: if
        /// this one is granted, the waiter is registered again for that, at the
        /// end.
        next: Option<Shape>,
    },
    /// Ends every grant of the key and grants it.
    Steal,
}

/// Who waits for a key: a place in line is a process's own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Waiter {
    /// The process.
    pub process: Arc<str>,
    /// Which of its lines: 0 if all its calls share one.
    pub lane: u64,
}

impl Waiter {
    /// Returns the waiter of a lane.
    #[must_use]
    pub fn new(process: &Arc<str>, lane: u64) -> Self {
        Self { process: Arc::clone(process), lane }
    }
}

/// What a store answers to a [`Want`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// It is granted under this fence: its key is the service's name, a `/`,
    /// the locked key, and for a permit a `#` and the lowest number that was
    /// free.
    Granted(Fence),
    /// It is somebody's.
    Held {
        /// Whose.
        holder: Holder,
        /// When it is worth asking again though nothing was told: the holder's
        /// expiry, or the end of what is kept for who is next.
        retry_in: Duration,
    },
    /// The store has lost its record and grants nothing for so long.
    Barred {
        /// When to ask again.
        retry_in: Duration,
    },
}

/// What a store says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreFacts {
    /// Product and version; `memory` in this process.
    pub version: Box<str>,
    /// What changes when another server answers at the same address.
    pub identity: Box<str>,
    /// What survives which failure.
    pub durability: Durability,
}

impl StoreFacts {
    /// Returns the facts of a store.
    #[must_use]
    pub fn new(
        version: impl Into<Box<str>>,
        identity: impl Into<Box<str>>,
        durability: Durability,
    ) -> Self {
        Self { version: version.into(), identity: identity.into(), durability }
    }
}

/// The present numbers of a store in this process; zeros where only the server
/// knows them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreStats {
    /// Keys with a record, those not met since they expired included.
    pub keys: u64,
    /// Grants, those not met since they expired included.
    pub grants: u64,
    /// Registered waiters.
    pub waiters: u64,
}

/// The one place that knows the backends by name.
pub(crate) fn connect(
    config: &LockConfig,
    deps: &LockDeps,
    metrics: &Metrics,
) -> Result<Arc<dyn LockBackend>> {
    let claim_timeout = config.claim_timeout.get();
    let clock = || Arc::clone(&deps.clock);
    Ok(match &config.backend {
        BackendConfig::Memory {} => {
            let backend = MemoryBackend::open(&deps.name, claim_timeout, clock());
            Arc::new(Observed::new(backend, metrics))
        }
        #[cfg(feature = "redis")]
        BackendConfig::Redis(store) => {
            let pool = deps.redis(&store.connection)?;
            let backend = RedisBackend::open(&deps.name, pool, store, config)?;
            Arc::new(Observed::new(backend, metrics))
        }
        #[cfg(not(feature = "redis"))]
        BackendConfig::Redis(_) => {
            let problem = "backend.kind: \"redis\" needs feature redis of trine-lock";
            return Err(crate::ConfigError::one(problem).into());
        }
        #[cfg(any(feature = "mysql", feature = "sqlite"))]
        BackendConfig::Sql(store) => {
            let database = deps.database(&store.database)?.clone();
            let backend = SqlBackend::open(&deps.name, claim_timeout, clock(), database);
            Arc::new(Observed::new(backend, metrics))
        }
        #[cfg(not(any(feature = "mysql", feature = "sqlite")))]
        BackendConfig::Sql(_) => {
            let problem = "backend.kind: \"sql\" needs feature mysql or sqlite of trine-lock";
            return Err(crate::ConfigError::one(problem).into());
        }
    })
}
