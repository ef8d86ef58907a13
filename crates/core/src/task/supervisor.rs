use std::borrow::Cow;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Registry;
use crate::Backoff;

/// How often a supervised task may end before it is given up.
#[derive(Clone, Debug)]
pub struct Intensity {
    restarts: u32,
    within: Duration,
    backoff: Backoff,
}

impl Intensity {
    /// Allows `restarts` within any span of `within`.
    #[must_use]
    pub fn new(restarts: u32, within: Duration) -> Self {
        Self { restarts, within, backoff: Backoff::default() }
    }

    /// Replaces the waits before the restarts; they grow with the number of
    /// restarts within the span.
    #[must_use]
    pub fn with_backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }
}

impl Default for Intensity {
    /// Five restarts within 60 s.
    fn default() -> Self {
        Self::new(5, Duration::from_secs(60))
    }
}

/// A supervised task that ended too often and was given up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "background task {task} given up: ended {ends} times in short order, {panics} panics in all"
)]
#[non_exhaustive]
pub struct TaskFailure {
    /// The name of the task.
    pub task: Cow<'static, str>,
    /// How often it ended within the span of its intensity.
    pub ends: u32,
    /// How often it panicked since it was first started.
    pub panics: u32,
}

pub(super) async fn supervised<F, Fut>(
    registry: Arc<Registry>,
    name: Cow<'static, str>,
    intensity: Intensity,
    mut task: F,
) where
    F: FnMut() -> Fut,
    Fut: Future<Output = ()>,
{
    let mut ends = VecDeque::new();
    let mut panics = 0;
    loop {
        if !caught(&mut task).await {
            panics += 1;
            registry.panics.fetch_add(1, Ordering::Relaxed);
        }
        if registry.token.is_cancelled() {
            return;
        }
        let now = Instant::now();
        ends.push_back(now);
        while ends.front().is_some_and(|end| now.duration_since(*end) > intensity.within) {
            ends.pop_front();
        }
        let recent = u32::try_from(ends.len()).unwrap_or(u32::MAX);
        let owner = &registry.owner;
        if recent > intensity.restarts {
            tracing::error!(%owner, task = %name, panics, "background task given up");
            registry.failure.send_if_modified(|failure| {
                let first = failure.is_none();
                failure.get_or_insert(TaskFailure { task: name, ends: recent, panics });
                first
            });
            return;
        }
        if recent == 1 {
            tracing::warn!(%owner, task = %name, panics, "background task ended; restarting it");
        }
        tokio::select! {
            () = registry.token.cancelled() => return,
            () = sleep(intensity.backoff.delay(recent - 1)) => {}
        }
        registry.restarts.fetch_add(1, Ordering::Relaxed);
    }
}

/// Runs the task once; `false` if it panicked.
async fn caught<F, Fut>(task: &mut F) -> bool
where
    F: FnMut() -> Fut,
    Fut: Future<Output = ()>,
{
    let Ok(future) = catch_unwind(AssertUnwindSafe(task)) else {
        return false;
    };
    let mut future = Box::pin(future);
    std::future::poll_fn(|cx| {
        let poll = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx)));
        Poll::Ready(match poll {
            Ok(poll) => {
                ready!(poll);
                true
            }
            Err(_) => false,
        })
    })
    .await
}
