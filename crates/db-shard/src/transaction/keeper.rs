use std::any::Any;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, sleep};
use trine_core::{Intensity, Tasks};

use super::Limit;
use crate::backend::{BackendTransaction, Call, Isolation, SavepointStep, Statement};
use crate::database::Admitted;
use crate::error::At;
use crate::{DatabaseName, Error, Reply, Result, ResultSet};

/// Between two looks at the transactions whose time is over.
const LOOK: Duration = Duration::from_millis(500);

/// Ends the transactions that nobody ends in time: a body that waits for
/// something else keeps no locks, no connection and no tenant's place for
/// longer than it was given.
#[derive(Debug, Default)]
pub(crate) struct Keeper {
    shared: Arc<Shared>,
    is_running: AtomicBool,
}

#[derive(Debug, Default)]
struct Shared {
    kept: Mutex<BTreeMap<Place, Weak<Slot>>>,
    last: AtomicU64,
}

/// Orders the transactions by when their time is over.
type Place = (Instant, u64);

/// Where a transaction rests between two steps.
#[derive(Debug)]
struct Slot {
    name: DatabaseName,
    limit: Limit,
    resting: Mutex<Option<Running>>,
}

/// What a transaction holds on to until it ends.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) backend: Box<dyn BackendTransaction>,
    /// Absent once the transaction was ended.
    pub(crate) admitted: Option<Admitted>,
}

/// A transaction under the eyes of the keeper.
#[derive(Debug)]
pub(crate) struct Kept {
    slot: Arc<Slot>,
    /// During a step, and while the driver's connection is lent.
    out: Option<Running>,
    place: Place,
    shared: Arc<Shared>,
}

impl Keeper {
    /// Watches over a transaction.
    pub(crate) fn keep(
        &self,
        tasks: &Tasks,
        name: &DatabaseName,
        limit: Limit,
        running: Running,
    ) -> Kept {
        self.start(tasks);
        let number = self.shared.last.fetch_add(1, Ordering::Relaxed);
        let place = (limit.deadline.instant(), number);
        let resting = Mutex::new(Some(running));
        let slot = Arc::new(Slot { name: name.clone(), limit, resting });
        lock(&self.shared.kept).insert(place, Arc::downgrade(&slot));
        Kept { slot, out: None, place, shared: Arc::clone(&self.shared) }
    }

    /// Starts the background task, once; needs a runtime.
    fn start(&self, tasks: &Tasks) {
        if self.is_running.load(Ordering::Relaxed) || self.is_running.swap(true, Ordering::AcqRel) {
            return;
        }
        let (shared, token) = (Arc::clone(&self.shared), tasks.token());
        tasks.supervise("db transactions", Intensity::default(), move || {
            let watching = watch(Arc::clone(&shared));
            let watching = token.clone().run_until_cancelled_owned(watching);
            async move {
                watching.await;
            }
        });
    }
}

async fn watch(shared: Arc<Shared>) {
    loop {
        sleep(LOOK).await;
        let now = (Instant::now(), u64::MAX);
        let late: Vec<_> =
            lock(&shared.kept).range(..=now).filter_map(|(_, slot)| slot.upgrade()).collect();
        for slot in late {
            slot.end();
        }
    }
}

impl Slot {
    /// Rolls back what rests here; a step under way has a deadline of its own.
    fn end(&self) {
        let mut resting = lock(&self.resting);
        let is_open = resting.as_ref().is_some_and(|running| running.admitted.is_some());
        if !is_open {
            return;
        }
        let backend = Box::new(Ended { name: self.name.clone(), limit: self.limit });
        let ended = resting.replace(Running { backend, admitted: None });
        drop(resting);
        // Rolls back in the background.
        drop(ended);
        let (database, limit) = (&self.name, self.limit.name);
        tracing::debug!(%database, limit, "transaction not ended in time, rolled back");
    }
}

impl Kept {
    /// Returns the transaction for a step, which [`rest`](Self::rest) ends.
    pub(crate) fn expose(&mut self) -> &mut dyn BackendTransaction {
        let slot = &self.slot;
        let running = self.out.get_or_insert_with(|| slot.take());
        &mut *running.backend
    }

    pub(crate) fn rest(&mut self) {
        if let Some(running) = self.out.take() {
            *lock(&self.slot.resting) = Some(running);
        }
    }

    /// Takes the transaction for good.
    pub(crate) fn into_running(mut self) -> Running {
        self.out.take().unwrap_or_else(|| self.slot.take())
    }
}

impl Slot {
    fn take(&self) -> Running {
        lock(&self.resting).take().unwrap_or_else(|| {
            let backend = Box::new(Ended { name: self.name.clone(), limit: self.limit });
            Running { backend, admitted: None }
        })
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        lock(&self.shared.kept).remove(&self.place);
    }
}

/// What is left of a transaction that was not ended in time.
#[derive(Debug)]
struct Ended {
    name: DatabaseName,
    limit: Limit,
}

impl Ended {
    fn refuse<T>(&self, operation: &'static str) -> Result<T> {
        let Limit { after, name, .. } = self.limit;
        Err(Error::Timeout { at: At::new(operation, &self.name), after, limit: name })
    }
}

#[async_trait]
impl BackendTransaction for Ended {
    fn isolation(&self) -> Isolation {
        Isolation::Serializable
    }

    async fn run(&mut self, call: Call, _: Statement) -> Result<Reply> {
        self.refuse(call.operation)
    }

    async fn call(&mut self, call: Call, _: Statement) -> Result<Vec<ResultSet>> {
        self.refuse(call.operation)
    }

    async fn savepoint(&mut self, call: Call, _: SavepointStep, _: u32) -> Result<()> {
        self.refuse(call.operation)
    }

    async fn commit(self: Box<Self>, call: Call) -> Result<()> {
        self.refuse(call.operation)
    }

    /// It was rolled back.
    async fn rollback(self: Box<Self>, _: Call) -> Result<()> {
        Ok(())
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
