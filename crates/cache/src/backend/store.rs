use std::sync::Arc;

#[cfg(feature = "redis")]
use super::RedisBackend;
use super::{CacheBackend, Call, MemoryBackend, Observed};
use crate::{Batch, Outcome, Result};

/// The backend of a service. Ours are known by their types, so that a call
/// needs no box for its future: that costs as much as the call itself.
pub(crate) enum Store {
    Memory(Observed<MemoryBackend>),
    #[cfg(feature = "redis")]
    Redis(Observed<RedisBackend>),
    Other(Arc<dyn CacheBackend>),
}

/// A backend whose calls need no box.
pub trait Inline: CacheBackend {
    /// [`CacheBackend::run`], as the type that it is.
    fn run_inline(&self, call: Call, batch: &Batch)
    -> impl Future<Output = Result<Outcome>> + Send;
}

impl Store {
    pub(crate) async fn run(&self, call: Call, batch: Batch) -> Result<Outcome> {
        match self {
            Self::Memory(backend) => backend.run_inline(call, &batch).await,
            #[cfg(feature = "redis")]
            Self::Redis(backend) => backend.run_inline(call, &batch).await,
            Self::Other(backend) => backend.run(call, batch).await,
        }
    }

    /// For all that is not called often.
    pub(crate) fn backend(&self) -> &dyn CacheBackend {
        match self {
            Self::Memory(backend) => backend,
            #[cfg(feature = "redis")]
            Self::Redis(backend) => backend,
            Self::Other(backend) => &**backend,
        }
    }
}
