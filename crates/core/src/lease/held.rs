use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::keeper::{Shared, within};
use super::state::LeaseEnd;
use super::{Claim, LeaseTerms, Renewal};
use crate::{BoxFault, ErrorKind, Fault, Fence, Moment};

/// A claim that is held and renewed in the background.
///
/// Dropping it gives the claim back in the background, at the latest when the
/// store's ttl is over. A process that is stopped or suspended between a check
/// and the act it allowed cannot be told: only the [`Fence`] protects there.
#[must_use = "a lease is given back when it is dropped"]
pub struct Lease {
    shared: Arc<Shared>,
    /// `None` if the keeper was closed before.
    id: Option<u64>,
    claim: Claim,
    signal: Arc<Signal>,
    /// Whether the store may still hold the claim.
    is_owed: AtomicBool,
}

impl Lease {
    pub(super) fn new(
        shared: Arc<Shared>,
        id: Option<u64>,
        claim: Claim,
        signal: Arc<Signal>,
    ) -> Self {
        Self { shared, id, claim, signal, is_owed: AtomicBool::new(true) }
    }

    /// Returns what to show to the resources that the lease protects.
    #[must_use]
    pub fn fence(&self) -> &Fence {
        self.claim.fence()
    }

    /// Returns what the store is shown, with the terms of the grant.
    #[must_use]
    pub fn claim(&self) -> &Claim {
        &self.claim
    }

    /// Returns the token that is cancelled when the lease is over.
    ///
    /// It is cancelled by the keeper's task; [`is_held`](Self::is_held) and
    /// [`lost`](Self::lost) look at the clock as well.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.signal.token.clone()
    }

    /// Tells whether the lease is held at this moment, by the clock.
    #[must_use]
    pub fn is_held(&self) -> bool {
        !self.remaining().is_zero()
    }

    /// Returns how long the lease is good for without another renewal, zero if
    /// it is over.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        if self.signal.end().is_some() {
            return Duration::ZERO;
        }
        self.signal.valid_until().saturating_since(self.shared.clock.now())
    }

    /// Resolves when the lease is over, whatever the keeper's task does.
    /// Independent of this handle's life.
    pub fn lost(&self) -> impl Future<Output = LeaseEnd> + Send + use<> {
        let (signal, clock) = (Arc::clone(&self.signal), Arc::clone(&self.shared.clock));
        async move {
            loop {
                if let Some(end) = signal.end() {
                    return end;
                }
                let until = signal.valid_until();
                if clock.now() >= until {
                    signal.finish(LeaseEnd::Expired);
                    continue;
                }
                tokio::select! {
                    () = signal.token.cancelled() => {}
                    () = clock.sleep_until(until) => {}
                }
            }
        }
    }

    /// Renews the lease at once and, if the store confirms, for `terms` from
    /// then on; how long it lasts at most stays as it was granted.
    ///
    /// Waits for a renewal under way, then for its own answer, each for a third
    /// of the ttl at most. [`Unreachable`](Renewal::Unreachable) changes nothing,
    /// and [`Gone`](Renewal::Gone) means that the lease is over. Dropping the
    /// future does not take the request back.
    pub async fn extend(&self, terms: LeaseTerms) -> Renewal {
        let Some(id) = self.id else { return Renewal::Gone };
        self.signal.may_last(terms.ttl());
        self.shared.extend(id, terms).await.unwrap_or(Renewal::Gone)
    }

    /// Ends the lease and gives the claim back, waiting for the store's answer
    /// for a third of the ttl.
    ///
    /// If the future is dropped or fails, the keeper tries again in the
    /// background until the store has surely let go by itself.
    ///
    /// # Errors
    ///
    /// Fails with the store's fault, or with kind
    /// [`Timeout`](ErrorKind::Timeout).
    pub async fn release(self) -> Result<(), BoxFault> {
        self.end(LeaseEnd::Released);
        let shared = Arc::clone(&self.shared);
        let wait = self.claim.terms().renewal();
        let until = shared.clock.now() + wait;
        let request = shared.store.release(std::slice::from_ref(&self.claim));
        let answer = within(&*shared.clock, until, request).await;
        let answer = answer.unwrap_or_else(|| Err(NoAnswer { wait }.into()));
        if answer.is_ok() {
            self.given_back();
        }
        answer
    }

    /// Ends the lease without giving the claim back, because the caller does
    /// that itself, such as in the transaction that completes the work.
    #[must_use]
    pub fn detach(self) -> Claim {
        self.end(LeaseEnd::Released);
        self.given_back();
        self.claim.clone()
    }

    /// Notes that the caller has given the claim back itself, after it had
    /// [ended](Self::end) the lease: it is not given back again.
    pub fn given_back(&self) {
        self.is_owed.store(false, Ordering::Relaxed);
    }

    /// Ends the lease for this reason, unless it is over already: before the
    /// caller gives the claim back itself, or because the store told of its end
    /// by another way than the answer to a renewal.
    ///
    /// The claim is given back when the lease is dropped, except after
    /// [`Gone`](LeaseEnd::Gone) and [`Closed`](LeaseEnd::Closed), when there is
    /// none.
    pub fn end(&self, end: LeaseEnd) {
        self.signal.finish(end);
        if let Some(id) = self.id {
            self.shared.forget(id);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.end(LeaseEnd::Released);
        // The last renewal that may have arrived was sent before the lease was over.
        let moot = self.signal.valid_until() + self.signal.longest();
        // What was closed has been given back by the keeper.
        let is_over = matches!(self.signal.end(), Some(LeaseEnd::Gone | LeaseEnd::Closed));
        if self.is_owed.load(Ordering::Relaxed) && !is_over {
            self.shared.give_back(self.claim.clone(), moot);
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("fence", self.fence())
            .field("remaining", &self.remaining())
            .finish()
    }
}

/// The store did not answer in time.
#[derive(Debug, thiserror::Error)]
#[error("lease release: no answer within {wait:?}")]
struct NoAnswer {
    wait: Duration,
}

impl Fault for NoAnswer {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Timeout
    }
}

/// What a holder sees without asking the keeper's task.
pub(super) struct Signal {
    token: CancellationToken,
    /// Nanoseconds on the clock.
    valid_until: AtomicU64,
    /// Nanoseconds of the longest ttl that was asked for.
    longest: AtomicU64,
    end: OnceLock<LeaseEnd>,
}

impl Signal {
    pub(super) fn new(valid_until: Moment, ttl: Duration) -> Self {
        Self {
            token: CancellationToken::new(),
            valid_until: AtomicU64::new(nanos(valid_until.elapsed())),
            longest: AtomicU64::new(nanos(ttl)),
            end: OnceLock::new(),
        }
    }

    pub(super) fn prolong(&self, valid_until: Moment) {
        self.valid_until.store(nanos(valid_until.elapsed()), Ordering::Release);
    }

    /// Notes that the store may come to hold the claim for so long.
    fn may_last(&self, ttl: Duration) {
        self.longest.fetch_max(nanos(ttl), Ordering::Relaxed);
    }

    fn longest(&self) -> Duration {
        Duration::from_nanos(self.longest.load(Ordering::Relaxed))
    }

    pub(super) fn end(&self) -> Option<LeaseEnd> {
        self.end.get().copied()
    }

    /// Ends the lease for its holder; the first end stays.
    pub(super) fn finish(&self, end: LeaseEnd) {
        self.end.get_or_init(|| end);
        self.token.cancel();
    }

    fn valid_until(&self) -> Moment {
        Moment::from_elapsed(Duration::from_nanos(self.valid_until.load(Ordering::Acquire)))
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
