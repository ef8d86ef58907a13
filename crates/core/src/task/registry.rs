use std::borrow::Cow;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use super::handle::TaskEnd;
use super::supervisor::TaskFailure;

/// The tasks of one owner that are alive, and what became of the others.
pub(super) struct Registry {
    pub(super) owner: Box<str>,
    pub(super) token: CancellationToken,
    live: Mutex<Live>,
    /// Told whenever a task leaves a registry that is closed.
    left: Notify,
    pub(super) panics: AtomicU64,
    pub(super) restarts: AtomicU64,
    pub(super) failure: watch::Sender<Option<TaskFailure>>,
}

#[derive(Default)]
struct Live {
    closed: bool,
    aborting: bool,
    next: u64,
    tasks: HashMap<u64, Entry>,
}

struct Entry {
    name: Cow<'static, str>,
    kind: Kind,
    /// Absent for the moment between registration and spawn.
    abort: Option<AbortHandle>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Async,
    Blocking,
}

/// What may be left when a wait ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    None,
    Blocking,
}

impl Registry {
    pub(super) fn new(owner: Box<str>) -> Self {
        Self {
            owner,
            token: CancellationToken::new(),
            live: Mutex::default(),
            left: Notify::new(),
            panics: AtomicU64::new(0),
            restarts: AtomicU64::new(0),
            failure: watch::Sender::new(None),
        }
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how many tasks have not ended.
    pub(super) fn alive(&self) -> usize {
        self.live().tasks.len()
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.live().tasks.capacity()
    }

    /// Refuses new tasks and asks those that are alive to end.
    pub(super) fn close(&self) {
        self.live().closed = true;
        self.token.cancel();
    }

    /// Returns `None` once closed.
    pub(super) fn enter(self: &Arc<Self>, name: Cow<'static, str>, kind: Kind) -> Option<Place> {
        let mut live = self.live();
        if live.closed {
            return None;
        }
        let id = live.next;
        live.next += 1;
        live.tasks.insert(id, Entry { name, kind, abort: None });
        Some(Place { registry: Arc::clone(self), id })
    }

    /// Notes how to abort a task, unless it has ended meanwhile.
    ///
    /// Not done under the lock of `enter`: a runtime that is shutting down
    /// drops the future inside the spawn, and its place locks.
    pub(super) fn spawned(&self, id: u64, abort: &AbortHandle) {
        let mut live = self.live();
        let aborting = live.aborting;
        if let Some(entry) = live.tasks.get_mut(&id) {
            entry.abort = Some(abort.clone());
        }
        drop(live);
        if aborting {
            abort.abort();
        }
    }

    /// Aborts what is alive and returns the names.
    pub(super) fn abort(&self) -> Vec<Cow<'static, str>> {
        let mut live = self.live();
        live.aborting = true;
        let names = live.tasks.values().map(|entry| entry.name.clone()).collect();
        let handles: Vec<_> = live.tasks.values().filter_map(|entry| entry.abort.clone()).collect();
        // Aborting an idle task drops its future right here, and its place locks.
        drop(live);
        for handle in handles {
            handle.abort();
        }
        names
    }

    /// Waits until no task is left, or none but those that cannot be aborted.
    pub(super) async fn emptied(&self, left: Left) {
        loop {
            let told = self.left.notified();
            tokio::pin!(told);
            told.as_mut().enable();
            let is_waited_for = |entry: &Entry| left == Left::None || entry.kind == Kind::Async;
            if !self.live().tasks.values().any(is_waited_for) {
                return;
            }
            told.await;
        }
    }
}

/// The place of one task in the registry, given up on drop.
pub(super) struct Place {
    registry: Arc<Registry>,
    pub(super) id: u64,
}

impl Place {
    pub(super) fn panicked(&self) -> TaskEnd {
        self.registry.panics.fetch_add(1, Ordering::Relaxed);
        let name = self.registry.live().tasks.get(&self.id).map(|entry| entry.name.clone());
        let name = name.unwrap_or_default();
        tracing::warn!(owner = %self.registry.owner, task = %name, "background task panicked");
        TaskEnd::Panicked { task: name }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut live = self.registry.live();
        let entry = live.tasks.remove(&self.id);
        let closed = live.closed;
        drop(live);
        drop(entry);
        if closed {
            self.registry.left.notify_waiters();
        }
    }
}

/// A task with its panics caught. The future goes before the place, so that a
/// joined task holds nothing any more.
pub(super) struct Running<F> {
    future: Pin<Box<F>>,
    place: Place,
}

impl<F> Running<F> {
    pub(super) fn new(future: F, place: Place) -> Self {
        Self { future: Box::pin(future), place }
    }
}

impl<F: Future> Future for Running<F> {
    type Output = Result<F::Output, TaskEnd>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        match catch_unwind(AssertUnwindSafe(|| this.future.as_mut().poll(cx))) {
            Ok(poll) => poll.map(Ok),
            Err(_) => Poll::Ready(Err(this.place.panicked())),
        }
    }
}
