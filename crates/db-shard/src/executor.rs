use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use trine_core::{BoxError, Counter, Deadline, Metrics, Report, Tasks};

use crate::{ExecutorConfig, WhenFull};

/// The name of the executor that always exists.
pub(crate) const DEFAULT: &str = "default";

/// What a handler returns.
pub(crate) type Handled = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

/// The named executors of after-commit handlers. Each is bounded on its own,
/// so that slow handlers of one kind stop no others.
#[derive(Clone, Debug)]
pub(crate) struct Executors {
    by_name: Arc<BTreeMap<Box<str>, Executor>>,
    tasks: Tasks,
}

#[derive(Clone, Debug)]
pub(crate) struct Executor {
    name: Arc<str>,
    when_full: WhenFull,
    capacity: usize,
    /// Places for handlers that run or wait.
    places: Arc<Semaphore>,
    /// Turns for handlers that run.
    turns: Arc<Semaphore>,
    tasks: Tasks,
    handlers: Handlers,
}

/// How often a handler ended well or badly, or found no place.
#[derive(Clone, Debug)]
struct Handlers {
    ok: Counter,
    failed: Counter,
    full: Counter,
}

impl Handlers {
    fn new(metrics: &Metrics, executor: &str) -> Self {
        let counter = |outcome: &str| {
            metrics.counter(
                "after_commit_handlers_total",
                "After-commit handlers by how they ended, or that found no place.",
                &[("executor", executor), ("outcome", outcome)],
            )
        };
        Self { ok: counter("ok"), failed: counter("failed"), full: counter("full") }
    }
}

/// Where a handler will run.
#[derive(Debug)]
pub(crate) enum Reservation {
    Place(Executor, OwnedSemaphorePermit),
    Caller(Executor),
}

impl Executors {
    pub(crate) fn new(
        config: &BTreeMap<String, ExecutorConfig>,
        tasks: &Tasks,
        metrics: &Metrics,
    ) -> Self {
        let mut by_name = BTreeMap::new();
        let default = (DEFAULT.to_owned(), ExecutorConfig::default());
        let configured = config.iter().map(|(name, config)| (name.clone(), config.clone()));
        for (name, config) in [default].into_iter().chain(configured) {
            let running = usize::try_from(config.running.get()).unwrap_or(usize::MAX);
            let waiting = usize::try_from(config.waiting).unwrap_or(usize::MAX);
            let places = running.saturating_add(waiting).min(Semaphore::MAX_PERMITS);
            let executor = Executor {
                name: name.as_str().into(),
                when_full: config.when_full,
                capacity: places,
                places: Arc::new(Semaphore::new(places)),
                turns: Arc::new(Semaphore::new(running.min(Semaphore::MAX_PERMITS))),
                tasks: tasks.clone(),
                handlers: Handlers::new(metrics, &name),
            };
            by_name.insert(name.into_boxed_str(), executor);
        }
        Self { by_name: Arc::new(by_name), tasks: tasks.clone() }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Executor> {
        self.by_name.get(name)
    }

    pub(crate) fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// Ends the tasks that the handlers run in, and those beside them, within
    /// half of what is left: connections can be closed in order then, even if
    /// a handler hangs.
    pub(crate) async fn end(&self, service: &str, deadline: Deadline) {
        let half = Deadline::after(deadline.remaining() / 2);
        let aborted = self.tasks.shutdown(half).await;
        if !aborted.is_empty() {
            tracing::warn!(service, ?aborted, "tasks aborted");
        }
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(AsRef::as_ref)
    }
}

impl Executor {
    /// Takes a place, to be used or dropped; `None` where a full executor
    /// refuses.
    pub(crate) fn reserve(&self) -> Option<Reservation> {
        match Arc::clone(&self.places).try_acquire_owned() {
            Ok(place) => Some(Reservation::Place(self.clone(), place)),
            Err(_) => {
                self.handlers.full.add(1);
                match self.when_full {
                    WhenFull::CallerRuns => Some(Reservation::Caller(self.clone())),
                    WhenFull::Reject => None,
                }
            }
        }
    }

    /// Returns how many handlers run or wait at most.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    async fn run(&self, handler: Handled) {
        // Counts a panic too, which the owner of the task catches.
        let mut ending = Ending { handlers: &self.handlers, is_ok: false };
        let result = handler.await;
        ending.is_ok = result.is_ok();
        if let Err(error) = result {
            let error = Report(&*error);
            tracing::warn!(executor = &*self.name, %error, "after-commit handler failed");
        }
    }
}

struct Ending<'a> {
    handlers: &'a Handlers,
    is_ok: bool,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let counter = if self.is_ok { &self.handlers.ok } else { &self.handlers.failed };
        counter.add(1);
    }
}

impl Reservation {
    /// Runs the handler: in the background, or here if there was no place.
    /// Its failure stays with it.
    pub(crate) async fn run(self, handler: Handled) {
        match self {
            Self::Place(executor, place) => {
                let tasks = executor.tasks.clone();
                tasks.spawn("after_commit", async move {
                    let _place = place;
                    // The semaphore is never closed.
                    let _turn = executor.turns.acquire().await;
                    executor.run(handler).await;
                });
            }
            Self::Caller(executor) => {
                let tasks = executor.tasks.clone();
                // In a task of its own all the same: a panic must not reach
                // the caller, and a dropped caller must not end the handler.
                let (done, is_done) = tokio::sync::oneshot::channel::<()>();
                tasks.spawn("after_commit", async move {
                    let _done = done;
                    executor.run(handler).await;
                });
                // Ready when the sender is dropped, however the task ends.
                let _ended = is_done.await;
            }
        }
    }
}
