mod memory;
mod observed;
#[cfg(feature = "redis")]
mod redis;
mod store;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use trine_core::{Deadline, Durability, Metrics};

use crate::{BackendConfig, Batch, CacheConfig, CacheDeps, Key, Outcome, Result};

pub use memory::MemoryBackend;
pub use observed::Observed;
#[cfg(feature = "redis")]
pub use redis::RedisBackend;
pub(crate) use store::Store;

/// The operations that a store must offer. Object-safe on purpose: callers hold
/// one [`CacheService`](crate::CacheService) whatever the store is.
///
/// A batch arrives checked ([`Batch::problem`] is `None`), with no
/// [`Ttl::Default`](crate::Ttl::Default) left in it. One that is found there
/// all the same means [`Ttl::Keep`](crate::Ttl::Keep).
///
/// Dropping any of these futures never gives a reply to another caller; a write
/// may still have happened.
#[async_trait]
pub trait CacheBackend: fmt::Debug + Send + Sync + 'static {
    /// Returns a short constant name for logs and metrics, such as `"redis"`.
    fn name(&self) -> &'static str;

    /// Returns what this store can do beyond the required operations.
    fn capabilities(&self) -> Capabilities;

    /// Makes sure that the store answers, connecting if necessary. Idempotent;
    /// also what health checks call.
    async fn prove(&self, call: Call) -> Result<StoreFacts>;

    /// Runs the operations in order, pipelined or as one isolated step: one
    /// reply each, the failed ones among them. An error means that none of them
    /// ran, or, with kind `OutcomeUnknown`, that nothing is known. Never sends
    /// a write twice.
    async fn run(&self, call: Call, batch: Batch) -> Result<Outcome>;

    /// Returns one page of the keys that begin with `prefix`, which may be
    /// empty. A key that is there from the first page to the last is yielded at
    /// least once.
    async fn scan(&self, call: Call, prefix: &str, cursor: Cursor, count: u32) -> Result<Page>;

    /// Returns the present numbers.
    fn stats(&self) -> StoreStats;

    /// Takes no new work and lets go of what it holds. Idempotent.
    async fn close(&self, deadline: Deadline);
}

/// The bounds of one call, and its name for messages.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Call {
    /// The operation as the caller knows it, such as `"get"`.
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
    /// Other processes see what this one writes.
    pub is_shared: bool,
}

/// What a store says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreFacts {
    /// Product and version, such as `Redis 7.0.15`; `memory` in this process.
    pub version: Box<str>,
    /// What changes when another server answers at the same address.
    pub identity: Box<str>,
    /// What survives which failure.
    pub durability: Durability,
    /// Whether it may drop entries that have not expired, to make room.
    pub evicts: bool,
}

/// The present numbers of a store in this process; zeros where only the server
/// knows them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreStats {
    /// Entries, those that have expired and were not met yet included.
    pub entries: u64,
    /// Their size in bytes, keys and bookkeeping included.
    pub bytes: u64,
    /// Most bytes there may be.
    pub max_bytes: u64,
    /// Entries dropped to make room since the start.
    pub evicted: u64,
    /// Entries removed after their life had ended since the start.
    pub expired: u64,
}

/// Where a page of a scan ended. Good for the scan that it came from only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor(pub(crate) Bytes);

impl Cursor {
    /// Returns the cursor of the first page.
    #[must_use]
    pub fn first() -> Self {
        Self::default()
    }

    /// Returns a cursor of a backend's own making.
    #[must_use]
    pub fn new(text: impl Into<Bytes>) -> Self {
        Self(text.into())
    }

    /// Returns what the backend made it of; empty for the first page.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Some of the keys of a scan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Page {
    /// The keys, each in the caller's own form.
    pub keys: Vec<Key>,
    /// What the next page begins with; `None` after the last.
    pub next: Option<Cursor>,
}

impl Page {
    /// Returns a page that `next` follows.
    #[must_use]
    pub fn new(keys: Vec<Key>, next: Option<Cursor>) -> Self {
        Self { keys, next }
    }
}

/// The one place that knows the backends by name.
pub(crate) fn connect(config: &CacheConfig, deps: &CacheDeps, metrics: &Metrics) -> Result<Store> {
    match &config.backend {
        BackendConfig::Memory(memory) => {
            let backend = MemoryBackend::open(&deps.name, memory, Arc::clone(&deps.clock));
            let backend = backend.with_max_value(config.max_value);
            Ok(Store::Memory(Observed::new(backend, metrics)))
        }
        #[cfg(feature = "redis")]
        BackendConfig::Redis(store) => {
            let backend = RedisBackend::open(&deps.name, deps.redis(&store.connection)?, store)?;
            Ok(Store::Redis(Observed::new(backend, metrics)))
        }
        #[cfg(not(feature = "redis"))]
        BackendConfig::Redis(_) => {
            let problem = "backend.kind: \"redis\" needs feature redis of trine-cache";
            Err(crate::ConfigError::one(problem).into())
        }
    }
}
