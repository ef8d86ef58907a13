use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};
use tokio::time::Instant;
use trine_core::Deadline;

use crate::error::At;
use crate::{Error, Result};

/// Bounds the calls that each tenant has under way on one database, so that a
/// busy tenant cannot take every connection.
#[derive(Debug)]
pub(crate) struct TenantLimit {
    places: usize,
    tenants: Arc<Mutex<HashMap<Arc<str>, Arc<Semaphore>>>>,
}

impl TenantLimit {
    pub(crate) fn new(places: usize) -> Self {
        Self { places: places.max(1), tenants: Arc::default() }
    }

    /// Waits for one of the tenant's places.
    ///
    /// Cancel-safe: dropping the future gives up the place in the queue.
    pub(crate) async fn enter(&self, tenant: &str, at: At, deadline: Deadline) -> Result<Place> {
        let places = self.places_of(tenant);
        let permit = match Arc::clone(&places).try_acquire_owned() {
            Ok(permit) => Some(permit),
            Err(TryAcquireError::NoPermits) => {
                let began = Instant::now();
                let waiting = Arc::clone(&places).acquire_owned();
                let permit = deadline.limit(waiting).await.ok_or_else(|| Error::Exhausted {
                    at,
                    what: "place of the tenant",
                    waited: began.elapsed(),
                    in_use: self.places,
                    max: self.places,
                    // This call, its map entry and the holders share it; the
                    // rest are waiting.
                    waiting: Arc::strong_count(&places).saturating_sub(self.places + 2),
                    setting: "db.tenant_in_flight",
                })?;
                permit.ok()
            }
            Err(TryAcquireError::Closed) => None,
        };
        Ok(Place { tenants: Arc::clone(&self.tenants), tenant: tenant.into(), permit })
    }

    fn places_of(&self, tenant: &str) -> Arc<Semaphore> {
        let mut tenants = lock(&self.tenants);
        if let Some(places) = tenants.get(tenant) {
            return Arc::clone(places);
        }
        let places = Arc::new(Semaphore::new(self.places));
        tenants.insert(tenant.into(), Arc::clone(&places));
        places
    }
}

/// One of a tenant's places, given back on drop.
#[derive(Debug)]
pub(crate) struct Place {
    tenants: Arc<Mutex<HashMap<Arc<str>, Arc<Semaphore>>>>,
    tenant: Box<str>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut tenants = lock(&self.tenants);
        self.permit = None;
        // Only the map holds it: nobody is in and nobody waits.
        if tenants.get(&*self.tenant).is_some_and(|places| Arc::strong_count(places) == 1) {
            tenants.remove(&*self.tenant);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::DatabaseName;

    fn at() -> At {
        At::new("query", &DatabaseName::Global)
    }

    fn soon() -> Deadline {
        Deadline::after(Duration::from_millis(50))
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_tenant_stops_no_other() {
        let limit = TenantLimit::new(2);
        let _first = limit.enter("a", at(), soon()).await.unwrap();
        let second = limit.enter("a", at(), soon()).await.unwrap();
        let error = limit.enter("a", at(), soon()).await.unwrap_err();
        assert!(
            error.to_string().contains("2 of 2 in use, 0 waiting; db.tenant_in_flight"),
            "{error}"
        );
        limit.enter("b", at(), soon()).await.unwrap();
        drop(second);
        limit.enter("a", at(), soon()).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn tenants_that_left_leave_nothing() {
        let limit = TenantLimit::new(1);
        let place = limit.enter("a", at(), soon()).await.unwrap();
        let waiter = limit.enter("a", at(), soon());
        drop(waiter);
        assert!(limit.enter("a", at(), soon()).await.is_err());
        drop(place);
        assert!(lock(&limit.tenants).is_empty());
    }
}
