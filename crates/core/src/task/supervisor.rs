use std::borrow::Cow;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::registry::Registry;
use crate::{Backoff, Outage};

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
    let mut outage = Outage::new();
    loop {
        let mut run = pin!(caught(&mut task));
        let is_in_outage = outage.failures() > 0;
        let ended = tokio::select! {
            biased;
            ended = &mut run => ended,
            () = sleep(intensity.within), if is_in_outage => {
                if let Some(failures) = outage.over() {
                    let owner = &registry.owner;
                    tracing::warn!(%owner, task = %name, failures, "background task runs again");
                }
                run.await
            }
        };
        if !ended {
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
        if let Some(failures) = outage.failed() {
            let task = &name;
            tracing::warn!(%owner, %task, failures, panics, "background task ended; restarting it");
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;
    use std::sync::{Mutex, PoisonError};

    use tracing::field::{Field, Visit};
    use tracing::{Event, Level, Metadata, Subscriber, span};

    use super::*;
    use crate::{Jitter, Tasks};

    const SECOND: Duration = Duration::from_secs(1);

    /// Keeps the messages of level WARN, each with its number of failures.
    #[derive(Clone, Default)]
    struct Warnings(Arc<Mutex<Vec<(String, u64)>>>);

    impl Warnings {
        fn taken(&self) -> Vec<(String, u64)> {
            std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
        }
    }

    impl Subscriber for Warnings {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            *metadata.level() == Level::WARN
        }

        fn event(&self, event: &Event<'_>) {
            let mut said = (String::new(), 0);
            event.record(&mut Fields(&mut said));
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(said);
        }

        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }

        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
        fn enter(&self, _: &span::Id) {}
        fn exit(&self, _: &span::Id) {}
    }

    struct Fields<'a>(&'a mut (String, u64));

    impl Visit for Fields<'_> {
        fn record_u64(&mut self, field: &Field, value: u64) {
            if field.name() == "failures" {
                self.0.1 = value;
            }
        }

        fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
            if field.name() == "message" {
                self.0.0 = format!("{value:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_keeps_ending_is_told_once_a_minute_and_when_it_runs_again() {
        let warnings = Warnings::default();
        let _log = tracing::subscriber::set_default(warnings.clone());
        let backoff = Backoff::new(SECOND, SECOND).with_jitter(Jitter::none());
        let intensity = Intensity::new(5, SECOND * 60).with_backoff(backoff);
        let (tasks, runs) = (Tasks::new("t"), Arc::new(AtomicU32::new(0)));
        let count = Arc::clone(&runs);
        tasks.supervise("loop", intensity, move || {
            let run = count.fetch_add(1, Ordering::Relaxed);
            async move {
                // Each run ends after 19 s and is made anew a second later.
                sleep(if run < 9 { SECOND * 19 } else { SECOND * 3_600 }).await;
                panic!("on purpose");
            }
        });
        let ended = |failures| ("background task ended; restarting it".to_owned(), failures);
        sleep(SECOND * 200).await;
        assert_eq!(warnings.taken(), [ended(1), ended(4), ended(7)]);
        sleep(SECOND * 100).await;
        let runs_again = |failures| ("background task runs again".to_owned(), failures);
        assert_eq!(warnings.taken(), [runs_again(9)]);
        sleep(SECOND * 3_600).await;
        assert_eq!(warnings.taken(), [ended(1), runs_again(1)]);
        tasks.shutdown(crate::Deadline::after(SECOND)).await;
    }
}
