use std::borrow::Cow;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::task::JoinHandle;

/// Waits for the result of a task. Dropping it leaves the task running.
pub struct TaskHandle<T> {
    join: Option<JoinHandle<Result<T, TaskEnd>>>,
}

impl<T> TaskHandle<T> {
    pub(super) fn new(join: JoinHandle<Result<T, TaskEnd>>) -> Self {
        Self { join: Some(join) }
    }

    /// Of a task that is not run at all.
    pub(super) fn refused() -> Self {
        Self { join: None }
    }

    /// Stops the task at its next await, unless it has ended. Blocking work
    /// that runs already is not stopped.
    pub fn abort(&self) {
        if let Some(join) = &self.join {
            join.abort();
        }
    }

    /// Tells whether the task has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.join.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl<T> Future for TaskHandle<T> {
    type Output = Result<T, TaskEnd>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(join) = &mut self.join else {
            return Poll::Ready(Err(TaskEnd::Aborted));
        };
        // Panics are caught inside, so that what is left is an abort.
        Pin::new(join).poll(cx).map(|joined| joined.unwrap_or(Err(TaskEnd::Aborted)))
    }
}

impl<T> fmt::Debug for TaskHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskHandle").field("is_finished", &self.is_finished()).finish()
    }
}

/// Why a task has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TaskEnd {
    /// It panicked.
    #[error("background task {task} panicked")]
    Panicked {
        /// The name of the task.
        task: Cow<'static, str>,
    },
    /// It was aborted, or not run at all because of a shutdown.
    #[error("background task aborted")]
    Aborted,
}
