//! Locks for tests of one's own: in memory, on a clock that the test sets.
//!
//! With this feature, guards can also be lost on purpose:
//! [`Guard::lose`](crate::Guard::lose).

use std::sync::Arc;

use trine_core::ManualClock;

use crate::{LockConfig, LockDeps, LockService, Result};

/// Returns running locks, and the clock of their times.
///
/// # Errors
///
/// Never fails with this configuration.
///
/// # Example
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> trine_lock::Result<()> {
/// use trine_lock::{LockOptions, testing};
///
/// let (locks, _clock) = testing::memory().await?;
/// let held = locks.try_acquire("import", LockOptions::default()).await?;
/// let guard = held.into_guard().expect("nobody else has it");
/// guard.lose();
/// assert!(!guard.is_held());
/// # Ok(())
/// # }
/// ```
pub async fn memory() -> Result<(LockService, Arc<ManualClock>)> {
    memory_with(&LockConfig::memory()).await
}

/// Returns running locks of this configuration, and the clock of their times.
///
/// # Errors
///
/// Fails as [`LockService::open`] and [`LockService::start`].
pub async fn memory_with(config: &LockConfig) -> Result<(LockService, Arc<ManualClock>)> {
    let clock = Arc::new(ManualClock::new());
    let deps = LockDeps::default().with_clock(Arc::<ManualClock>::clone(&clock));
    let locks = LockService::open(config, deps)?;
    locks.start().await?;
    Ok((locks, clock))
}
