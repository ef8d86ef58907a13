use std::fmt;
use std::sync::Weak;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use trine_core::{Backoff, ErrorKind, Fence, Outage, Report, TaskHandle};

use crate::guard::held::Held;
use crate::service::to_key;
use crate::{AcquireOutcome, Error, Guard, InvalidKey, Key, LockOptions, LockService, Result};

impl LockService {
    /// Begins to stand for the leadership that `key` stands for, in the
    /// background: whoever holds it leads, and others take over in line when it
    /// resigns, is lost or dies. `wait` does not matter: a candidate waits until
    /// it leads, also while the store is away.
    ///
    /// # Errors
    ///
    /// Fails with `Invalid` for a bad key or option, with `Unavailable` before
    /// the start and with `Closed` after a shutdown.
    ///
    /// # Example
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> trine_lock::Result<()> {
    /// # use trine_lock::{LockConfig, LockService};
    /// use trine_lock::LockOptions;
    ///
    /// # let locks = LockService::connect(&LockConfig::memory()).await?;
    /// let election = locks.elect("planner", LockOptions::default())?;
    /// if let Some(leader) = election.lead().await {
    ///     while leader.is_leading() {
    ///         // … one step, showing `leader.fence()` to what it writes to …
    /// #       break;
    ///     }
    /// }
    /// election.resign().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn elect<K>(&self, key: K, options: LockOptions) -> Result<Election>
    where
        K: TryInto<Key, Error: Into<InvalidKey>>,
    {
        const OPERATION: &str = "elect";
        let key = to_key(key)?;
        let options = options.with_wait(self.shared.config.max_ttl.get());
        let _in_flight = self.enter(OPERATION)?;
        self.terms(OPERATION, options.clone())?;
        let (sender, leadership) = watch::channel(Leadership::Follower);
        let stop = CancellationToken::new();
        let candidate = Candidate {
            locks: self.clone(),
            key: key.clone(),
            options,
            stop: stop.clone(),
            leadership: sender,
        };
        let campaign = self.spawn(OPERATION, "lock election", candidate.campaign())?;
        Ok(Election { key, leadership, campaign, stop: stop.drop_guard() })
    }
}

/// A candidate for a leadership. Dropping it resigns in the background.
#[must_use = "an election is left when it is dropped"]
pub struct Election {
    key: Key,
    leadership: watch::Receiver<Leadership>,
    campaign: TaskHandle<()>,
    stop: DropGuard,
}

/// Whether a candidate leads.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Leadership {
    /// It does not.
    Follower,
    /// It does, as long as the leader says so.
    Leader(Leader),
    /// It does not stand any more: it resigned, or the service was shut down.
    Over,
}

impl Election {
    /// Returns the key.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Returns what shows every change. A leader has to be asked before each
    /// act all the same: the change comes after the fact.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    /// Waits until this candidate leads; `None` if it does not stand any more.
    ///
    /// Cancel-safe.
    pub async fn lead(&self) -> Option<Leader> {
        let mut leadership = self.leadership();
        loop {
            match &*leadership.borrow_and_update() {
                Leadership::Leader(leader) if leader.is_leading() => return Some(leader.clone()),
                Leadership::Over => return None,
                Leadership::Leader(_) | Leadership::Follower => {}
            }
            leadership.changed().await.ok()?;
        }
    }

    /// Stands no more, and gives the leadership back if it has it: when this
    /// returns, others were told.
    ///
    /// If the future is dropped, that happens in the background.
    pub async fn resign(self) {
        drop(self.stop);
        // Aborted with the service, there is nothing left to give back.
        let _ = self.campaign.await;
    }
}

impl fmt::Debug for Election {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Election")
            .field("key", &self.key)
            .field("leadership", &*self.leadership.borrow())
            .finish()
    }
}

/// One term of a leader.
///
/// It may act only while [`remaining`](Self::remaining) is more than zero, and
/// shows its fence to what it writes to. Cheap to clone; clones keep nothing.
#[derive(Clone)]
pub struct Leader {
    fence: Fence,
    over: CancellationToken,
    held: Weak<Held>,
}

impl Leader {
    fn new(guard: &Guard) -> Self {
        let (fence, over) = (guard.fence().clone(), guard.cancellation());
        Self { fence, over, held: guard.downgrade() }
    }

    /// Returns what to show to resources; a later leader's token is higher.
    #[must_use]
    pub fn fence(&self) -> &Fence {
        &self.fence
    }

    /// Tells whether it leads at this moment, by the clock.
    #[must_use]
    pub fn is_leading(&self) -> bool {
        !self.remaining().is_zero()
    }

    /// Returns how long it leads without another renewal, zero if it is over:
    /// the trust window of what it does next.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.held.upgrade().map(|held| held.lease().remaining()).unwrap_or_default()
    }

    /// Returns the token that is cancelled when it is over.
    #[must_use]
    pub fn cancellation(&self) -> CancellationToken {
        self.over.clone()
    }
}

impl fmt::Debug for Leader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leader")
            .field("fence", &self.fence)
            .field("remaining", &self.remaining())
            .finish()
    }
}

/// What stands in the background. It keeps the service for as long as its
/// election is there.
struct Candidate {
    locks: LockService,
    key: Key,
    options: LockOptions,
    stop: CancellationToken,
    leadership: watch::Sender<Leadership>,
}

impl Candidate {
    async fn campaign(self) {
        let mut outage = Outage::new();
        while !self.stop.is_cancelled() {
            let asked = tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                asked = self.locks.acquire(&self.key, self.options.clone()) => asked,
            };
            match asked {
                Ok(AcquireOutcome::Acquired(guard)) => self.lead(guard).await,
                Ok(AcquireOutcome::TimedOut(_)) => {}
                Err(error) if error.kind() == ErrorKind::Closed => break,
                Err(error) => {
                    self.wait_after(&error, &mut outage).await;
                    continue;
                }
            }
            if let Some(failures) = outage.over() {
                tracing::warn!(service = self.locks.name(), failures, "candidates stand again");
            }
        }
        self.leadership.send_replace(Leadership::Over);
    }

    /// Leads until that is over.
    async fn lead(&self, guard: Guard) {
        let (service, token) = (self.locks.name(), guard.fence().token());
        tracing::info!(service, token, "leader elected");
        let leader = Leader::new(&guard);
        self.leadership.send_replace(Leadership::Leader(leader));
        tokio::select! {
            () = self.stop.cancelled() => {}
            end = guard.lost() => tracing::info!(service, token, ?end, "leader lost"),
        }
        self.leadership.send_replace(Leadership::Follower);
        // What fails is given back in the background.
        let _ = guard.release().await;
    }

    async fn wait_after(&self, error: &Error, outage: &mut Outage) {
        let delay = Backoff::default().delay(outage.failures());
        if let Some(failures) = outage.failed() {
            let service = self.locks.name();
            tracing::warn!(service, failures, error = %Report(error), "candidates cannot stand");
        }
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = tokio::time::sleep(delay) => {}
        }
    }
}
