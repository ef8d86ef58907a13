use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use trine_core::Tasks;

/// A request to the store that is brought to its end in the background if its
/// caller drops it: what is answered to nobody is dropped there, and so given
/// back.
pub(crate) struct Request<T: Send + 'static> {
    work: Option<BoxFuture<'static, T>>,
    is_sent: bool,
    tasks: Tasks,
    runtime: Handle,
}

impl<T: Send + 'static> Request<T> {
    pub(crate) fn new(
        tasks: &Tasks,
        runtime: &Handle,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Self {
        let (tasks, runtime) = (tasks.clone(), runtime.clone());
        Self { work: Some(Box::pin(work)), is_sent: false, tasks, runtime }
    }

    /// Leaves it to the background at once.
    pub(crate) fn detach(mut self) {
        self.is_sent = true;
    }
}

impl<T: Send + 'static> Future for Request<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        self.is_sent = true;
        let Some(work) = &mut self.work else {
            // Answered before: whoever polls again waits in vain.
            return Poll::Pending;
        };
        let answer = work.as_mut().poll(cx);
        if answer.is_ready() {
            self.work = None;
        }
        answer
    }
}

impl<T: Send + 'static> Drop for Request<T> {
    fn drop(&mut self) {
        if let Some(work) = self.work.take().filter(|_| self.is_sent) {
            // It may be dropped outside of the runtime.
            let _runtime = self.runtime.enter();
            self.tasks.spawn("lock request", work);
        }
    }
}
