use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use trine_core::Moment;

use super::RunState;

/// Of a handler that does not have its thread.
const IDLE: u64 = 0;

/// The work of a run, which notes since when it has its thread.
pub(super) struct Polled<F> {
    work: Pin<Box<F>>,
    state: Arc<RunState>,
}

impl<F: Future> Polled<F> {
    pub(super) fn new(work: F, state: &Arc<RunState>) -> Self {
        Self { work: Box::pin(work), state: Arc::clone(state) }
    }
}

impl<F: Future> Future for Polled<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let now = nanos(self.state.clock.now()).max(IDLE + 1);
        self.state.polled.store(now, Ordering::Relaxed);
        let poll = self.work.as_mut().poll(cx);
        self.state.polled.store(IDLE, Ordering::Relaxed);
        poll
    }
}

pub(super) fn since(polled: &AtomicU64, now: Moment) -> Duration {
    match polled.load(Ordering::Relaxed) {
        IDLE => Duration::ZERO,
        since => now.saturating_since(Moment::from_elapsed(Duration::from_nanos(since))),
    }
}

fn nanos(moment: Moment) -> u64 {
    u64::try_from(moment.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
