use std::fmt;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use super::book::{BATCH, Book, GiveBack, Plan, Request};
use super::held::{Lease, Signal};
use super::state::{LeaseEnd, LeaseState};
use super::{Claim, LeaseTerms, Leases, Renewal};
use crate::{Clock, Intensity, Moment, Tasks};

/// Renews all leases of one store from one task, in batches. Cloning shares it.
///
/// # Example
///
/// ```
/// # use std::sync::Arc;
/// # use std::time::Duration;
/// use trine_core::{
///     BoxFault, Claim, Clock, Fence, LeaseKeeper, LeaseTerms, Leases, Renewal, SystemClock, Tasks,
/// };
///
/// #[derive(Debug)]
/// struct Store; // renews what it holds under the same key and token
///
/// #[async_trait::async_trait]
/// impl Leases for Store {
///     async fn renew(&self, batch: &[Claim]) -> Result<Vec<Renewal>, BoxFault> {
///         Ok(vec![Renewal::Renewed; batch.len()])
///     }
///     async fn release(&self, _batch: &[Claim]) -> Result<(), BoxFault> {
///         Ok(())
///     }
/// }
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// let (tasks, clock) = (Tasks::new("job.default"), Arc::new(SystemClock));
/// let keeper = LeaseKeeper::spawn(&tasks, Arc::new(Store), clock.clone());
///
/// let terms = LeaseTerms::new(Duration::from_secs(30), Duration::from_secs(3))?;
/// let sent = clock.now(); // before the request that acquires
/// let lease = keeper.hold(Claim::new(Fence::new("job.default/tick", 1)?, terms), sent);
/// tokio::select! {
///     end = lease.lost() => println!("stop: {end:?}"),
///     () = async { /* the work */ } => {}
/// }
/// lease.release().await.map_err(|error| error.to_string())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct LeaseKeeper {
    shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) store: Arc<dyn Leases>,
    pub(super) clock: Arc<dyn Clock>,
    book: Mutex<Book>,
    changed: Notify,
    renewed: AtomicU64,
    /// Gives back what comes after the close, when the task is gone.
    late: Tasks,
    runtime: Handle,
}

/// Most requests under way, so that an answer that does not come holds up one
/// batch and not all.
const REQUESTS: usize = 8;

impl LeaseKeeper {
    /// Starts the task that keeps the leases of `store`, owned by `tasks`.
    ///
    /// When `tasks` are shut down, every lease still held ends as
    /// [`Closed`](crate::LeaseEnd::Closed) and is given back in one go. What
    /// comes after that is given back too, with one try each. When `tasks` are
    /// dropped without a shutdown, leases are renewed no more, and given back as
    /// what comes after it.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    #[must_use]
    pub fn spawn(tasks: &Tasks, store: Arc<dyn Leases>, clock: Arc<dyn Clock>) -> Self {
        let shared = Arc::new(Shared {
            store,
            clock,
            book: Mutex::default(),
            changed: Notify::new(),
            renewed: AtomicU64::new(0),
            late: Tasks::new("lease keeper"),
            runtime: Handle::current(),
        });
        let (last, token) = (Last(Arc::clone(&shared)), tasks.token());
        tasks.supervise("lease keeper", Intensity::default(), move || {
            keep(Arc::clone(&last.0), token.clone())
        });
        Self { shared }
    }

    /// Takes over a claim that was granted: it is renewed until the lease is
    /// released, dropped or lost.
    ///
    /// `sent` is the moment *before* the request that acquired it, on the clock
    /// of this keeper. After a shutdown the lease is over at once, and the claim
    /// is given back.
    pub fn hold(&self, claim: Claim, sent: Moment) -> Lease {
        let state = LeaseState::granted(claim.terms(), sent);
        let signal = Arc::new(Signal::new(state.valid_until(), claim.terms().ttl()));
        let mut book = self.shared.book();
        let is_earlier = book.wakes_after(sent + claim.terms().renewal());
        let id = book.hold(claim.clone(), state, &signal);
        drop(book);
        if id.is_none() {
            signal.finish(LeaseEnd::Closed);
            self.shared.give_back(claim.clone(), state.valid_until());
        } else if is_earlier {
            self.shared.changed.notify_one();
        }
        Lease::new(Arc::clone(&self.shared), id, claim, signal)
    }

    /// Has every lease renewed at once, because the store may have told of the
    /// end of some without being heard. Returns before that is done.
    pub fn renew_all(&self) {
        self.shared.book().renew_all();
        self.shared.changed.notify_one();
    }

    /// Returns the counts as they are now.
    #[must_use]
    pub fn stats(&self) -> LeaseStats {
        let now = self.shared.clock.now();
        let book = self.shared.book();
        LeaseStats {
            held: book.held(),
            releasing: book.releasing(),
            oldest_renewal: now.saturating_since(book.oldest_renewal().unwrap_or(now)),
            renewed: self.shared.renewed.load(Ordering::Relaxed),
            lost: book.lost(),
        }
    }
}

impl fmt::Debug for LeaseKeeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeaseKeeper")
            .field("store", &self.shared.store)
            .field("stats", &self.stats())
            .finish()
    }
}

/// What a keeper counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeaseStats {
    /// Leases that are renewed.
    pub held: usize,
    /// Claims that are not known to be given back yet.
    pub releasing: usize,
    /// Time since the oldest confirmed acquire or renewal among them was sent:
    /// the watermark of the keeper.
    pub oldest_renewal: Duration,
    /// Renewals confirmed since the start.
    pub renewed: u64,
    /// Leases that expired or were gone, since the start.
    pub lost: u64,
}

/// Goes with the task, also if that is aborted, and leaves to those who send late
/// claims what it had to give back.
struct Last(Arc<Shared>);

impl Drop for Last {
    fn drop(&mut self) {
        let claims = self.0.book().abandon();
        let moot = self.0.clock.now();
        for claim in claims {
            self.0.give_back(claim, moot);
        }
    }
}

async fn keep(shared: Arc<Shared>, token: CancellationToken) {
    // If this task panicked before, its requests are gone without an answer.
    shared.book().forget_requests(shared.clock.now());
    let mut requests = FuturesUnordered::new();
    while !token.is_cancelled() {
        let now = shared.clock.now();
        let Plan { batches, wake } = shared.book().plan(now, REQUESTS - requests.len());
        for batch in batches {
            requests.push(shared.send(batch));
        }
        let time = async {
            match wake {
                Some(moment) => shared.clock.sleep_until(moment).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = token.cancelled() => {}
            () = shared.changed.notified() => {}
            () = time => {}
            Some(()) = requests.next() => {}
        }
    }
    drop(requests);
    shared.close().await;
}

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops renewing a lease whose holder is done with it.
    pub(super) fn forget(&self, id: u64) {
        self.book().forget(id);
    }

    /// Has a lease renewed at once.
    pub(super) fn extend(&self, id: u64, terms: LeaseTerms) -> oneshot::Receiver<Renewal> {
        let answer = self.book().extend(id, terms);
        self.changed.notify_one();
        answer
    }

    /// Gives a claim back in the background: until `moot`, and with one try if
    /// the keeper was closed.
    pub(super) fn give_back(self: &Arc<Self>, claim: Claim, moot: Moment) {
        let due = self.clock.now();
        let give_back = self.book().give_back(claim, due, moot);
        match give_back {
            GiveBack::Noted => self.changed.notify_one(),
            GiveBack::BeginLate => {
                // A lease may be dropped outside of the runtime.
                let _runtime = self.runtime.enter();
                self.late.spawn("late leases", Arc::clone(self).send_late());
            }
        }
    }

    /// Keeps the keeper alive for as long as requests take at most.
    async fn send_late(self: Arc<Self>) {
        loop {
            let claims = self.book().take_late();
            if claims.is_empty() {
                return;
            }
            // A store that panics must not keep later claims from being sent.
            let _ = AssertUnwindSafe(self.release_once(&claims)).catch_unwind().await;
        }
    }

    async fn send(&self, batch: Request) {
        match batch {
            Request::Renew(batch, until) => self.renew(batch, until).await,
            Request::Release(batch, until) => self.release(batch, until).await,
        }
    }

    async fn renew(&self, batch: Vec<(u64, Claim)>, until: Moment) {
        let (ids, claims): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        let request = pin!(self.store.renew(&claims));
        let answers = match within(&*self.clock, until, request).await {
            Some(Ok(answers)) => answers,
            Some(Err(fault)) => {
                tracing::debug!(kind = %fault.kind(), "lease renewal failed");
                Vec::new()
            }
            None => Vec::new(),
        };
        let answers = answers.into_iter().chain(std::iter::repeat(Renewal::Unreachable));
        let now = self.clock.now();
        let mut book = self.book();
        let renewed = ids.into_iter().zip(answers).filter(|(id, a)| book.answered(*id, now, *a));
        let renewed = renewed.count() as u64;
        self.renewed.fetch_add(renewed, Ordering::Relaxed);
    }

    async fn release(&self, batch: Vec<(u64, Claim)>, until: Moment) {
        let (ids, claims): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        let request = pin!(self.store.release(&claims));
        let answer = within(&*self.clock, until, request).await;
        let is_given_back = matches!(answer, Some(Ok(())));
        let now = self.clock.now();
        let mut book = self.book();
        for id in ids {
            if is_given_back {
                book.given_back(id);
            } else {
                book.not_given_back(id, now);
            }
        }
    }

    /// Ends all leases and gives back all claims, each batch once.
    async fn close(&self) {
        let claims = self.book().close();
        let batches = claims.chunks(BATCH).map(|batch| self.release_once(batch));
        let requests: FuturesUnordered<_> = batches.collect();
        requests.collect::<()>().await;
    }

    /// What is not given back expires by itself.
    async fn release_once(&self, claims: &[Claim]) {
        let waits = claims.iter().map(|claim| claim.terms().renewal());
        let until = self.clock.now() + waits.min().unwrap_or_default();
        let request = pin!(self.store.release(claims));
        if let Some(Err(fault)) = within(&*self.clock, until, request).await {
            tracing::debug!(kind = %fault.kind(), "leases not given back");
        }
    }
}

pub(super) async fn within<F: Future>(
    clock: &dyn Clock,
    until: Moment,
    future: F,
) -> Option<F::Output> {
    tokio::select! {
        biased;
        output = future => Some(output),
        () = clock.sleep_until(until) => None,
    }
}
