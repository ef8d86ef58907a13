use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use trine_core::Deadline;
use uuid::Uuid;

use crate::error::{Error, Result};

/// Places for texts in memory: a number in all, and no more than a share of
/// them for one account, so that nobody takes all. Cloning shares them.
#[derive(Clone, Debug)]
pub(super) struct Places {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    places: Arc<Semaphore>,
    each: usize,
    /// The shares of the accounts that have a place or wait for one.
    accounts: Mutex<HashMap<Uuid, Arc<Semaphore>>>,
}

/// The right to keep one text in memory, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    _share: Share,
    _place: OwnedSemaphorePermit,
}

/// A part of an account's share, or the wait for one.
#[derive(Debug)]
struct Share {
    shared: Arc<Shared>,
    account: Uuid,
    permit: Option<OwnedSemaphorePermit>,
}

impl Places {
    /// Returns `all` places, at most `each` for one account.
    pub(super) fn new(all: usize, each: usize) -> Self {
        let places = Arc::new(Semaphore::new(all));
        Self { shared: Arc::new(Shared { places, each, accounts: Mutex::default() }) }
    }

    /// Waits for a place of `account`.
    ///
    /// Cancel-safe: dropping the future gives up the place in the queue.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::NoPlace`] if none is free before `deadline`.
    pub(super) async fn take(&self, account: Uuid, deadline: Deadline) -> Result<Place> {
        let taken = deadline.limit(async {
            let share = Share::of(&self.shared, account).await?;
            let place = Arc::clone(&self.shared.places).acquire_owned().await.ok()?;
            Some(Place { _share: share, _place: place })
        });
        // The semaphores are never closed.
        taken.await.flatten().ok_or(Error::NoPlace)
    }
}

impl Share {
    async fn of(shared: &Arc<Shared>, account: Uuid) -> Option<Self> {
        let new = || Arc::new(Semaphore::new(shared.each));
        let places = Arc::clone(shared.lock().entry(account).or_insert_with(new));
        // Made before the wait: a wait that is given up is tidied away too.
        let mut share = Self { shared: Arc::clone(shared), account, permit: None };
        share.permit = Some(places.acquire_owned().await.ok()?);
        Some(share)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut accounts = self.shared.lock();
        // Under the lock, so that nobody takes up the share meanwhile.
        drop(self.permit.take());
        if accounts.get(&self.account).is_some_and(|share| Arc::strong_count(share) == 1) {
            accounts.remove(&self.account);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Arc<Semaphore>>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use trine_axum::Problem;

    use super::*;

    const ANN: Uuid = Uuid::from_u128(1);
    const BOB: Uuid = Uuid::from_u128(2);

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(1))
    }

    #[tokio::test(start_paused = true)]
    async fn an_account_has_its_share_and_leaves_the_rest_to_others() {
        let places = Places::new(3, 2);
        let mut held =
            vec![places.take(ANN, soon()).await.unwrap(), places.take(ANN, soon()).await.unwrap()];
        assert!(matches!(places.take(ANN, soon()).await, Err(Error::NoPlace)));
        held.push(places.take(BOB, soon()).await.unwrap());
        let refused = places.take(BOB, soon()).await.unwrap_err();
        let problem = Problem::of_fault(&refused);
        assert_eq!(problem.status().as_u16(), 503);
        assert!(trine_core::Fault::retry_after(&refused).is_some());
        held.remove(0);
        assert!(places.take(BOB, soon()).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_gets_the_next_place_and_nothing_is_kept_of_who_left() {
        let places = Places::new(2, 1);
        let held = places.take(ANN, soon()).await.unwrap();
        let waiting = places.take(ANN, soon());
        let (next, ()) = tokio::join!(waiting, async { drop(held) });
        drop(next.unwrap());
        let held = places.take(BOB, soon()).await.unwrap();
        assert!(places.take(BOB, soon()).await.is_err());
        assert_eq!(places.shared.lock().len(), 1, "those who hold a place are known");
        drop(held);
        assert!(places.shared.lock().is_empty(), "and nobody else");
        assert_eq!(places.shared.places.available_permits(), 2);
    }
}
