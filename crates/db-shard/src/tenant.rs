use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
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
    tenants: Arc<Mutex<HashMap<Arc<str>, Arc<Tenant>>>>,
}

#[derive(Debug)]
struct Tenant {
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl TenantLimit {
    pub(crate) fn new(places: usize) -> Self {
        Self { places: places.max(1), tenants: Arc::default() }
    }

    /// Waits for one of the tenant's places.
    ///
    /// Cancel-safe: dropping the future gives up the place in the queue.
    pub(crate) async fn enter(&self, tenant: &str, at: At, deadline: Deadline) -> Result<Place> {
        let known = self.known(tenant);
        let permit = match Arc::clone(&known.places).try_acquire_owned() {
            Ok(permit) => Some(permit),
            Err(TryAcquireError::NoPermits) => {
                let began = Instant::now();
                let waiting = Waiting::new(&known);
                let permit = Arc::clone(&known.places).acquire_owned();
                let permit = deadline.limit(permit).await.ok_or_else(|| Error::Exhausted {
                    at,
                    what: "place of the tenant",
                    waited: began.elapsed(),
                    in_use: self.places,
                    max: self.places,
                    waiting: waiting.others(),
                    setting: "db.tenant_in_flight",
                })?;
                permit.ok()
            }
            Err(TryAcquireError::Closed) => None,
        };
        let tenants = Arc::clone(&self.tenants);
        Ok(Place { tenants, tenant: tenant.into(), places: self.places, permit })
    }

    fn known(&self, tenant: &str) -> Arc<Tenant> {
        let mut tenants = lock(&self.tenants);
        if let Some(known) = tenants.get(tenant) {
            return Arc::clone(known);
        }
        let places = Arc::new(Semaphore::new(self.places));
        let new = Arc::new(Tenant { places, waiting: AtomicUsize::new(0) });
        tenants.insert(tenant.into(), Arc::clone(&new));
        new
    }
}

/// A call that waits for a place, counted until it is dropped.
struct Waiting<'a>(&'a Tenant);

impl<'a> Waiting<'a> {
    fn new(tenant: &'a Tenant) -> Self {
        tenant.waiting.fetch_add(1, Ordering::Relaxed);
        Self(tenant)
    }

    /// Returns how many wait beside this one.
    fn others(&self) -> usize {
        self.0.waiting.load(Ordering::Relaxed).saturating_sub(1)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One of a tenant's places, given back on drop.
#[derive(Debug)]
pub(crate) struct Place {
    tenants: Arc<Mutex<HashMap<Arc<str>, Arc<Tenant>>>>,
    tenant: Box<str>,
    /// How many places a tenant has.
    places: usize,
    permit: Option<OwnedSemaphorePermit>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut tenants = lock(&self.tenants);
        self.permit = None;
        let places = self.places;
        // Whoever waits holds on to it, and whoever is in has its permit.
        let is_left = |known: &Arc<Tenant>| {
            Arc::strong_count(known) == 1 && known.places.available_permits() == places
        };
        if tenants.get(&*self.tenant).is_some_and(is_left) {
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
        let later = Deadline::after(Duration::from_millis(80));
        let waits = [limit.enter("a", at(), soon()), limit.enter("a", at(), later)];
        let [error, other] = futures_util::future::join_all(waits).await.try_into().unwrap();
        assert!(other.unwrap_err().to_string().contains("2 of 2 in use, 0 waiting"));
        let error = error.unwrap_err();
        assert!(
            error.to_string().contains("2 of 2 in use, 1 waiting; db.tenant_in_flight"),
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
