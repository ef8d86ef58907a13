use std::borrow::Cow;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::handle::TaskHandle;
use self::registry::{Kind, Left, Registry, Running};
use self::supervisor::{Intensity, TaskFailure, supervised};
use crate::Deadline;

pub(crate) mod handle;
mod registry;
pub(crate) mod stall;
pub(crate) mod supervisor;

/// The owner of background tasks: the only place that spawns them.
///
/// Cloning shares the owner; dropping the last clone aborts everything. A task
/// must not keep a clone of its own owner, or that drop never comes: give it
/// the [`token`](Self::token).
///
/// Memory is bounded by the tasks that are alive, however many ran before.
///
/// # Example
///
/// ```
/// # use std::time::Duration;
/// use trine_core::{Deadline, Intensity, Tasks};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// let tasks = Tasks::new("cache.default");
/// let token = tasks.token();
/// tasks.supervise("refresh", Intensity::default(), move || {
///     let token = token.clone();
///     async move { token.cancelled().await }
/// });
/// assert_eq!(tasks.spawn("sum", async { 1 + 1 }).await?, 2);
///
/// let aborted = tasks.shutdown(Deadline::after(Duration::from_secs(5))).await;
/// assert!(aborted.is_empty());
/// # Ok::<(), trine_core::TaskEnd>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Tasks {
    owner: Arc<Owner>,
}

/// Aborts on drop; the tasks themselves hold the registry only.
struct Owner {
    registry: Arc<Registry>,
}

impl Tasks {
    /// How long a shutdown waits for tasks that it has aborted: one that never
    /// yields cannot be stopped.
    pub const ABORT_GRACE: Duration = Duration::from_secs(1);

    /// Returns the owner of the tasks of `owner`, such as `"cache.default"`.
    #[must_use]
    pub fn new(owner: impl Into<Box<str>>) -> Self {
        let registry = Registry::new(owner.into());
        Self { owner: Arc::new(Owner { registry: Arc::new(registry) }) }
    }

    /// Returns the token that a shutdown cancels first.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.registry().token.clone()
    }

    /// Runs `future` once in the background. A panic is caught and counted.
    ///
    /// Dropping the handle does not stop the task. After a shutdown has begun,
    /// nothing is run and the handle answers
    /// [`TaskEnd::Aborted`](crate::TaskEnd::Aborted).
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    pub fn spawn<F>(&self, name: impl Into<Cow<'static, str>>, future: F) -> TaskHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let Some(place) = self.registry().enter(name.into(), Kind::Async) else {
            return TaskHandle::refused();
        };
        let id = place.id;
        let running = Running::new(future, place);
        #[expect(clippy::disallowed_methods, reason = "the owner of every task is here")]
        let join = tokio::spawn(running);
        self.registry().spawned(id, &join.abort_handle());
        TaskHandle::new(join)
    }

    /// Runs `work` once on a thread for blocking work. A panic is caught and
    /// counted.
    ///
    /// Blocking work cannot be aborted once it runs: a shutdown waits for it
    /// until its deadline, then names it and leaves it behind. After a shutdown
    /// has begun, nothing is run and the handle answers
    /// [`TaskEnd::Aborted`](crate::TaskEnd::Aborted).
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    pub fn spawn_blocking<T, F>(&self, name: impl Into<Cow<'static, str>>, work: F) -> TaskHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let Some(place) = self.registry().enter(name.into(), Kind::Blocking) else {
            return TaskHandle::refused();
        };
        let id = place.id;
        let join = tokio::task::spawn_blocking(move || {
            let result = catch_unwind(AssertUnwindSafe(work));
            result.map_err(|_| place.panicked())
        });
        self.registry().spawned(id, &join.abort_handle());
        TaskHandle::new(join)
    }

    /// Keeps `task` running until the token is cancelled: whenever its future
    /// ends or panics, it is made anew after a wait.
    ///
    /// If it ends more often than `intensity` allows, it is given up and
    /// [`failure`](Self::failure) resolves. Does nothing after a shutdown has
    /// begun.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    pub fn supervise<F, Fut>(
        &self,
        name: impl Into<Cow<'static, str>>,
        intensity: Intensity,
        task: F,
    ) where
        F: FnMut() -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let name = name.into();
        let registry = Arc::clone(self.registry());
        self.spawn(name.clone(), supervised(registry, name, intensity, task));
    }

    /// Resolves when the first supervised task is given up, at once if that has
    /// happened already. Independent of this handle's life.
    pub fn failure(&self) -> impl Future<Output = TaskFailure> + Send + use<> {
        let registry = Arc::clone(self.registry());
        async move {
            let mut failures = registry.failure.subscribe();
            loop {
                if let Some(failure) = failures.borrow_and_update().clone() {
                    return failure;
                }
                if failures.changed().await.is_err() {
                    // Cannot happen: `registry` owns the sender.
                    std::future::pending::<()>().await;
                }
            }
        }
    }

    /// Returns the counts as they are now.
    #[must_use]
    pub fn stats(&self) -> TaskStats {
        let registry = self.registry();
        TaskStats {
            alive: registry.alive(),
            panics: registry.panics.load(Ordering::Relaxed),
            restarts: registry.restarts.load(Ordering::Relaxed),
        }
    }

    /// Cancels the token, waits for all tasks until `deadline`, aborts those
    /// that are left and joins them.
    ///
    /// Returns the sorted names of what had to be aborted, blocking work that
    /// goes on by itself among them. Idempotent; if dropped, the next call
    /// carries on. New tasks are refused from the first call on.
    pub async fn shutdown(&self, deadline: Deadline) -> Vec<Cow<'static, str>> {
        let registry = self.registry();
        registry.close();
        if deadline.limit(registry.emptied(Left::None)).await.is_some() {
            return Vec::new();
        }
        let mut names = registry.abort();
        names.sort_unstable();
        // An aborted task ends at its next await; blocking work ends when it likes.
        let joined = registry.emptied(Left::Blocking);
        let _ = timeout(Self::ABORT_GRACE, joined).await;
        names
    }

    fn registry(&self) -> &Arc<Registry> {
        &self.owner.registry
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks")
            .field("owner", &self.registry().owner)
            .field("stats", &self.stats())
            .finish()
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.registry.close();
        self.registry.abort();
    }
}

/// What an owner counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TaskStats {
    /// Tasks that have not ended, blocking ones included.
    pub alive: usize,
    /// Panics caught since the owner was made.
    pub panics: u64,
    /// Restarts of supervised tasks since the owner was made.
    pub restarts: u64,
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::runtime::Handle;

    use tokio::time::{Instant, sleep};

    use super::handle::TaskEnd;
    use super::*;
    use crate::{Backoff, Jitter};

    const SECOND: Duration = Duration::from_secs(1);

    fn soon() -> Deadline {
        Deadline::after(SECOND)
    }

    fn intensity() -> Intensity {
        Intensity::new(5, SECOND * 60)
            .with_backoff(Backoff::new(SECOND, SECOND).with_jitter(Jitter::none()))
    }

    #[tokio::test]
    async fn a_one_shot_task_answers_and_leaves() {
        let tasks = Tasks::new("t");
        assert_eq!(tasks.spawn("one", async { 1 }).await, Ok(1));
        assert_eq!(tasks.spawn_blocking("two", || 2).await, Ok(2));
        assert_eq!(tasks.stats(), TaskStats::default());
    }

    #[tokio::test]
    async fn a_panic_is_caught_counted_and_named() {
        let tasks = Tasks::new("t");
        let panicked = |task: &'static str| Err(TaskEnd::Panicked { task: task.into() });
        assert_eq!(
            tasks.spawn("bad", async { panic!("on purpose") }).await,
            panicked("bad") as Result<(), _>
        );
        let work = || panic!("on purpose");
        assert_eq!(tasks.spawn_blocking("worse", work).await, panicked("worse") as Result<(), _>);
        assert_eq!(tasks.stats(), TaskStats { alive: 0, panics: 2, restarts: 0 });
    }

    // CO-12
    #[tokio::test(start_paused = true)]
    async fn a_supervised_task_is_restarted_until_its_intensity_is_passed() {
        let tasks = Tasks::new("t");
        let began = Instant::now();
        tasks.supervise("loop", intensity(), || async { panic!("on purpose") });
        let failure = tasks.failure().await;
        assert_eq!(failure, TaskFailure { task: "loop".into(), ends: 6, panics: 6 });
        assert_eq!(began.elapsed(), SECOND * 5);
        assert_eq!(tasks.failure().await, failure);
        tokio::task::yield_now().await;
        assert_eq!(tasks.stats(), TaskStats { alive: 0, panics: 6, restarts: 5 });
    }

    #[tokio::test(start_paused = true)]
    async fn rare_panics_are_survived_for_ever() {
        let tasks = Tasks::new("t");
        tasks.supervise("loop", intensity(), || async {
            sleep(SECOND * 20).await;
            panic!("on purpose");
        });
        sleep(SECOND * 3_600).await;
        let stats = tasks.stats();
        assert_eq!(stats.alive, 1);
        assert!(stats.panics > 100 && stats.restarts > 100, "{stats:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_returns_or_cannot_be_made_is_restarted_too() {
        let tasks = Tasks::new("t");
        tasks.supervise("returns", intensity(), || async {});
        assert_eq!(tasks.failure().await.panics, 0);
        let tasks = Tasks::new("t");
        tasks.supervise("unmade", intensity(), || -> std::future::Ready<()> {
            panic!("on purpose")
        });
        assert_eq!(tasks.failure().await.panics, 6);
    }

    #[tokio::test(start_paused = true)]
    async fn a_shutdown_lets_tasks_end_and_names_what_it_had_to_abort() {
        let tasks = Tasks::new("t");
        let token = tasks.token();
        tasks.spawn("polite", async move { token.cancelled().await });
        let deaf = tasks.spawn("deaf", pending::<()>());
        tasks.supervise("deaf loop", intensity(), pending);
        tokio::task::yield_now().await;
        let began = Instant::now();
        assert_eq!(tasks.shutdown(soon()).await, ["deaf", "deaf loop"]);
        assert_eq!(began.elapsed(), SECOND);
        assert_eq!(deaf.await, Err(TaskEnd::Aborted));
        assert_eq!(tasks.stats().alive, 0);
        assert!(tasks.shutdown(soon()).await.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_waiting_for_its_restart_ends_at_once() {
        let tasks = Tasks::new("t");
        let slow = Intensity::new(5, SECOND)
            .with_backoff(Backoff::new(SECOND * 60, SECOND * 60).with_jitter(Jitter::none()));
        tasks.supervise("loop", slow, || async { panic!("on purpose") });
        tokio::task::yield_now().await;
        let began = Instant::now();
        assert!(tasks.shutdown(soon()).await.is_empty());
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test]
    async fn after_a_shutdown_nothing_is_run() {
        let tasks = Tasks::new("t");
        tasks.shutdown(soon()).await;
        assert_eq!(tasks.spawn("late", async {}).await, Err(TaskEnd::Aborted));
        assert_eq!(tasks.spawn_blocking("late", || ()).await, Err(TaskEnd::Aborted));
        tasks.supervise("late", intensity(), pending);
        assert_eq!(tasks.stats().alive, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn dropping_the_last_owner_aborts_everything() {
        let tasks = Tasks::new("t");
        let clone = tasks.clone();
        let task = tasks.spawn("deaf", pending::<()>());
        drop(tasks);
        tokio::task::yield_now().await;
        assert!(!task.is_finished());
        drop(clone);
        assert_eq!(task.await, Err(TaskEnd::Aborted));
    }

    #[tokio::test]
    async fn blocking_work_that_hangs_is_named_and_left() {
        let tasks = Tasks::new("t");
        let (release, wait) = std::sync::mpsc::channel::<()>();
        let work = tasks.spawn_blocking("stuck", move || wait.recv().is_err());
        let deadline = Deadline::after(Duration::from_millis(20));
        assert_eq!(tasks.shutdown(deadline).await, ["stuck"]);
        drop(release);
        // Aborting has no effect on work that runs; it may not have begun.
        assert!(matches!(work.await, Ok(true) | Err(TaskEnd::Aborted)));
    }

    #[tokio::test]
    async fn a_joined_task_holds_nothing_any_more() {
        let tasks = Tasks::new("t");
        let held = Arc::new(());
        let own = Arc::clone(&held);
        tasks.spawn("holder", async move {
            let _own = own;
            pending::<()>().await;
        });
        tokio::task::yield_now().await;
        tasks.shutdown(Deadline::after(Duration::ZERO)).await;
        assert_eq!(Arc::strong_count(&held), 1);
    }

    // CO-13
    #[tokio::test(start_paused = true)]
    async fn a_thousand_starts_and_stops_leave_no_task() {
        let alive = Handle::current().metrics().num_alive_tasks();
        for round in 0..1_000 {
            let tasks = Tasks::new("t");
            let token = tasks.token();
            tasks.spawn("polite", async move { token.cancelled().await });
            tasks.supervise("deaf", intensity(), pending);
            if round % 2 == 0 {
                tokio::task::yield_now().await;
            }
            if round % 3 == 0 {
                drop(tasks);
            } else {
                tasks.shutdown(Deadline::after(Duration::from_millis(1))).await;
            }
        }
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert_eq!(Handle::current().metrics().num_alive_tasks(), alive);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn many_short_tasks_leave_no_memory_behind() {
        let tasks = Tasks::new("t");
        for _ in 0..100 {
            let batch: Vec<_> = (0..1_000).map(|_| tasks.spawn("short", async {})).collect();
            for task in batch {
                task.await.unwrap();
            }
        }
        assert_eq!(tasks.stats().alive, 0);
        assert!(tasks.owner.registry.capacity() < 10_000);
    }

    #[test]
    fn a_runtime_that_goes_away_blocks_nobody() {
        let tasks = Tasks::new("t");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let handle = runtime.handle().clone();
        runtime.block_on(async { drop(tasks.spawn("deaf", pending::<()>())) });
        drop(runtime);
        assert_eq!(tasks.stats().alive, 0);
        let _guard = handle.enter();
        tasks.spawn("late", pending::<()>());
        assert_eq!(tasks.stats().alive, 0);
    }
}
