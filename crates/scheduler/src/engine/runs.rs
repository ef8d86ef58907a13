use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::bell::Bell;
use super::run::RunState;

/// What runs in this process, over all of its stores: never more than so many.
pub(crate) struct Runs {
    places: Arc<Semaphore>,
    max: usize,
    running: Mutex<Running>,
    /// Told when the last one has ended.
    emptied: Notify,
    /// Rung when one ends while all places were taken.
    claims: Vec<Arc<Bell>>,
}

#[derive(Default)]
struct Running {
    next: u64,
    of: HashMap<u64, Arc<RunState>>,
}

/// Places that are reserved for what a call may bring.
pub(super) struct Slots(OwnedSemaphorePermit);

impl Slots {
    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.0.num_permits()).unwrap_or(u32::MAX)
    }

    pub(super) fn take(&mut self) -> Option<OwnedSemaphorePermit> {
        self.0.split(1)
    }
}

impl Runs {
    pub(crate) fn new(max: u32, claims: Vec<Arc<Bell>>) -> Self {
        let max = usize::try_from(max).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        let (places, running) = (Arc::new(Semaphore::new(max)), Mutex::default());
        Self { places, max, running, emptied: Notify::new(), claims }
    }

    /// Reserves what is free, up to `most` places; `None` if there is none.
    pub(super) fn reserve(&self, most: u32) -> Option<Slots> {
        let free = u32::try_from(self.places.available_permits()).unwrap_or(u32::MAX);
        let many = free.min(most);
        if many == 0 {
            return None;
        }
        Arc::clone(&self.places).try_acquire_many_owned(many).ok().map(Slots)
    }

    pub(super) fn begin(
        self: &Arc<Self>,
        state: &Arc<RunState>,
        slot: OwnedSemaphorePermit,
    ) -> Place {
        let mut running = self.running();
        let id = running.next;
        running.next += 1;
        running.of.insert(id, Arc::clone(state));
        Place { id, runs: Arc::clone(self), slot: Some(slot), bells: Vec::new() }
    }

    pub(crate) fn count(&self) -> usize {
        self.running().of.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.count() >= self.max
    }

    /// Returns what runs now.
    pub(crate) fn all(&self) -> Vec<Arc<RunState>> {
        self.running().of.values().cloned().collect()
    }

    /// Waits until nothing runs.
    pub(crate) async fn emptied(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.count() == 0 {
                return;
            }
            emptied.await;
        }
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of one run; free again when it is dropped.
pub(super) struct Place {
    id: u64,
    runs: Arc<Runs>,
    slot: Option<OwnedSemaphorePermit>,
    bells: Vec<Arc<Bell>>,
}

impl Place {
    /// Has a loop woken when the place is free.
    pub(super) fn ring(&mut self, bell: &Arc<Bell>) {
        self.bells.push(Arc::clone(bell));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let runs = &self.runs;
        drop(self.slot.take());
        let mut running = runs.running();
        let was_full = running.of.len() >= runs.max;
        let claims = if was_full { &*runs.claims } else { &[] };
        // Before it is seen to be over: nobody must take that for the end of all
        // work.
        for bell in claims.iter().chain(&self.bells) {
            bell.ring();
        }
        let state = running.of.remove(&self.id);
        let is_empty = running.of.is_empty();
        drop(running);
        // What it holds may do anything in its own drop.
        drop(state);
        if is_empty {
            runs.emptied.notify_waiters();
        }
    }
}
