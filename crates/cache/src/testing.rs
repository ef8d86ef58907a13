//! A cache for tests of one's own: in memory, on a clock that the test sets.

use std::sync::Arc;

use trine_core::ManualClock;

use crate::{BackendConfig, CacheConfig, CacheDeps, CacheService, MemoryConfig, Result, WhenFull};

/// Returns a running cache that never evicts, and the clock of its lifetimes.
///
/// # Errors
///
/// Never fails with this configuration.
///
/// # Example
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> trine_cache::Result<()> {
/// use std::time::Duration;
///
/// use trine_cache::{Ttl, testing};
///
/// let (cache, clock) = testing::memory().await?;
/// cache.put("code", &1234, Ttl::secs(60)).await?;
/// clock.advance(Duration::from_secs(61));
/// assert_eq!(cache.get::<u32>("code").await?, None);
/// # Ok(())
/// # }
/// ```
pub async fn memory() -> Result<(CacheService, Arc<ManualClock>)> {
    let store = MemoryConfig { when_full: WhenFull::Refuse, ..MemoryConfig::default() };
    memory_with(&CacheConfig::new(BackendConfig::Memory(store))).await
}

/// Returns a running cache of this configuration, and the clock of its
/// lifetimes if it is in memory.
///
/// # Errors
///
/// Fails as [`CacheService::open`] and [`CacheService::start`].
pub async fn memory_with(config: &CacheConfig) -> Result<(CacheService, Arc<ManualClock>)> {
    let clock = Arc::new(ManualClock::new());
    let deps = CacheDeps::default().with_clock(Arc::<ManualClock>::clone(&clock));
    let cache = CacheService::open(config, deps)?;
    cache.start().await?;
    Ok((cache, clock))
}
