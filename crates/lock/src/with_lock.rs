use std::fmt;
use std::num::NonZeroU32;

use futures_util::future::BoxFuture;
use trine_core::{Fence, FenceSink};

use crate::guard::held::Grip;
use crate::service::to_key;
use crate::{
    AcquireOutcome, Error, Guard, InvalidKey, Key, LockOptions, LockService, Permit, ReadGuard,
    ReleaseOutcome, Result, Shape,
};

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
        let hold = Hold {
            shape: Shape::Write,
            make: Guard::new,
            grip: Guard::grip,
            fence: |guard| Some(guard.fence()),
            release: |guard| Box::pin(guard.release()),
        };
        let options = LockOptions::default();
        WithLock { locks: self, key: to_key(key), options, sinks: &[], hold }
    }
}

/// Runs a body while it holds a key.
///
/// It is held for writing, unless it is told otherwise by [`read`](Self::read)
/// or [`permit`](Self::permit), of which the last counts.
#[must_use = "nothing happens before `run`"]
pub struct WithLock<'a, G = Guard> {
    locks: &'a LockService,
    key: Result<Key>,
    options: LockOptions,
    sinks: &'a [&'a dyn FenceSink],
    hold: Hold<G>,
}

/// What differs between the guards.
struct Hold<G> {
    shape: Shape,
    make: fn(Grip) -> G,
    grip: fn(&G) -> &Grip,
    fence: fn(&G) -> Option<&Fence>,
    release: fn(G) -> BoxFuture<'static, Result<ReleaseOutcome>>,
}

impl<'a, G> WithLock<'a, G> {
    /// Sets how the key is taken.
    pub fn options(mut self, options: LockOptions) -> Self {
        self.options = options;
        self
    }

    /// Has the fence of the new guard shown to each of these resources before
    /// the body begins: from then on they refuse what an older holder writes,
    /// and what it wrote before is visible. Who reads has no fence: nothing is
    /// shown then.
    pub fn fencing(mut self, sinks: &'a [&'a dyn FenceSink]) -> Self {
        self.sinks = sinks;
        self
    }

    /// Takes the key beside others who read.
    pub fn read(self) -> WithLock<'a, ReadGuard> {
        self.holding(Hold {
            shape: Shape::Read,
            make: ReadGuard::new,
            grip: ReadGuard::grip,
            fence: |_| None,
            release: |guard| Box::pin(guard.release()),
        })
    }

    /// Takes one of `of` permits of the key. All callers of one key should bring
    /// the same number.
    pub fn permit(self, of: NonZeroU32) -> WithLock<'a, Permit> {
        self.holding(Hold {
            shape: Shape::Permit { of },
            make: Permit::new,
            grip: Permit::grip,
            fence: |permit| Some(permit.fence()),
            release: |permit| Box::pin(permit.release()),
        })
    }

    fn holding<H>(self, hold: Hold<H>) -> WithLock<'a, H> {
        let Self { locks, key, options, sinks, hold: _ } = self;
        WithLock { locks, key, options, sinks, hold }
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
        F: AsyncFnOnce(&G) -> Result<T, E>,
    {
        let Self { locks, key, options, sinks, hold } = self;
        let guard = (hold.make)(take(locks, key?, hold.shape, options).await?);
        let grip = (hold.grip)(&guard);
        let work = async {
            if let Some(fence) = (hold.fence)(&guard) {
                raise(locks, grip.key(), fence, sinks).await?;
            }
            body(&guard).await
        };
        let result = tokio::select! {
            biased;
            result = work => Some(result),
            _ = grip.lease().lost() => None,
        };
        let result = result.unwrap_or_else(|| Err(grip.lost(OPERATION).into()));
        let _ = (hold.release)(guard).await;
        result
    }
}

const OPERATION: &str = "with_lock";

async fn take(locks: &LockService, key: Key, shape: Shape, options: LockOptions) -> Result<Grip> {
    match locks.wait(OPERATION, key.clone(), shape, options).await? {
        AcquireOutcome::Acquired(grip) => Ok(grip),
        AcquireOutcome::TimedOut(holder) => {
            let (at, holder) = (locks.shared.at(OPERATION), Box::new(holder));
            Err(Error::TimedOut { at, key, holder })
        }
    }
}

async fn raise(
    locks: &LockService,
    key: &Key,
    fence: &Fence,
    sinks: &[&dyn FenceSink],
) -> Result<()> {
    for sink in sinks {
        sink.raise(fence).await.map_err(|cause| {
            let (at, key) = (locks.shared.at(OPERATION), key.clone());
            Error::NotRaised { at, key, kind: cause.kind(), cause }
        })?;
    }
    Ok(())
}

impl<G> fmt::Debug for WithLock<'_, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WithLock").field("key", &self.key).field("options", &self.options).finish()
    }
}
