use std::fmt;

use trine_core::FenceSink;

use crate::service::to_key;
use crate::{AcquireOutcome, Error, Guard, InvalidKey, Key, LockOptions, LockService, Result};

impl LockService {
    /// Returns what runs a body while it holds `key`.
    ///
    /// # Example
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> trine_lock::Result<()> {
    /// # use trine_lock::{LockConfig, LockService};
    /// # let locks = LockService::connect(&LockConfig::memory()).await?;
    /// let total = locks
    ///     .with_lock("account:7")
    ///     .run(async |guard| {
    ///         println!("writes show {:?}", guard.fence());
    ///         Ok::<_, trine_lock::Error>(40 + 2)
    ///     })
    ///     .await?;
    /// assert_eq!(total, 42);
    /// # Ok(())
    /// # }
    /// ```
    pub fn with_lock<K>(&self, key: K) -> WithLock<'_>
    where
        K: TryInto<Key, Error: Into<InvalidKey>>,
    {
        WithLock { locks: self, key: to_key(key), options: LockOptions::default(), sinks: &[] }
    }
}

/// Runs a body while it holds a key.
#[must_use = "nothing happens before `run`"]
pub struct WithLock<'a> {
    locks: &'a LockService,
    key: Result<Key>,
    options: LockOptions,
    sinks: &'a [&'a dyn FenceSink],
}

impl<'a> WithLock<'a> {
    /// Sets how the key is taken.
    pub fn options(mut self, options: LockOptions) -> Self {
        self.options = options;
        self
    }

    /// Has the fence of the new guard shown to each of these resources before
    /// the body begins: from then on they refuse what an older holder writes,
    /// and what it wrote before is visible.
    pub fn fencing(mut self, sinks: &'a [&'a dyn FenceSink]) -> Self {
        self.sinks = sinks;
        self
    }

    /// Takes the key, runs `body`, gives the key back and returns what the body
    /// did.
    ///
    /// When the lock is lost, the body's future is dropped where it waits: what
    /// it had done stays done. A body that never waits is not stopped. Whether
    /// the key could be given back is no matter of the body's result; if not, it
    /// is tried again in the background.
    ///
    /// # Errors
    ///
    /// Fails with what the body fails with; with [`Error::TimedOut`] if the key
    /// was not to be had, [`Error::NotRaised`] if a resource refused the fence
    /// and [`Error::Lost`] if the lock was lost before the body had ended; and
    /// as [`LockService::acquire`].
    pub async fn run<T, E, F>(self, body: F) -> Result<T, E>
    where
        E: From<Error>,
        F: AsyncFnOnce(&Guard) -> Result<T, E>,
    {
        let Self { locks, key, options, sinks } = self;
        let guard = take(locks, key?, options).await?;
        let work = async {
            raise(locks, &guard, sinks).await?;
            body(&guard).await
        };
        let result = tokio::select! {
            biased;
            result = work => Some(result),
            _ = guard.lost() => None,
        };
        let result = result.unwrap_or_else(|| {
            let (at, key) = (locks.shared.at(OPERATION), guard.key().clone());
            Err(Error::Lost { at, key }.into())
        });
        let _ = guard.release().await;
        result
    }
}

const OPERATION: &str = "with_lock";

async fn take(locks: &LockService, key: Key, options: LockOptions) -> Result<Guard> {
    match locks.acquire(&key, options).await? {
        AcquireOutcome::Acquired(guard) => Ok(guard),
        AcquireOutcome::TimedOut(holder) => {
            let (at, holder) = (locks.shared.at(OPERATION), Box::new(holder));
            Err(Error::TimedOut { at, key, holder })
        }
    }
}

async fn raise(locks: &LockService, guard: &Guard, sinks: &[&dyn FenceSink]) -> Result<()> {
    for sink in sinks {
        sink.raise(guard.fence()).await.map_err(|cause| {
            let (at, key) = (locks.shared.at(OPERATION), guard.key().clone());
            Error::NotRaised { at, key, kind: cause.kind(), cause }
        })?;
    }
    Ok(())
}

impl fmt::Debug for WithLock<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WithLock").field("key", &self.key).field("options", &self.options).finish()
    }
}
