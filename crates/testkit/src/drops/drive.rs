//! Polls one future by hand.

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tokio::sync::Notify;

use crate::engine::real_sleep;

/// How one future ended.
#[derive(Clone, Copy, Debug)]
pub(super) enum Driven {
    Finished { pending: u64 },
    Dropped { pending: u64 },
    Stalled { pending: u64 },
}

/// How long a future is left alone that nothing wakes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Until it counts as stalled.
    pub(super) stall: Duration,
    /// Until it is polled all the same.
    pub(super) nudge: Option<Duration>,
}

impl Patience {
    fn step(self) -> Duration {
        self.nudge.unwrap_or(self.stall).min(self.stall)
    }
}

/// Polls `future` until it is ready, or has answered `Pending` `target` times
/// and is dropped right there.
pub(super) async fn drive<F: Future>(
    future: F,
    target: u64,
    patience: Patience,
    feed: &mut (dyn FnMut() + '_),
) -> Driven {
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut future = Box::pin(future);
    let mut pending = 0;
    let mut unwoken = Duration::ZERO;
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            drop(output);
            return Driven::Finished { pending };
        }
        pending += 1;
        if pending >= target {
            drop(future);
            return Driven::Dropped { pending };
        }
        feed();
        tokio::select! {
            biased;
            () = woken.0.notified() => unwoken = Duration::ZERO,
            () = real_sleep(patience.step()) => {
                unwoken += patience.step();
                if unwoken >= patience.stall {
                    return Driven::Stalled { pending };
                }
            }
        }
    }
}

/// Remembers one wake-up, also one that comes before anybody waits for it.
#[derive(Default)]
struct Woken(Notify);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.notify_one();
    }
}
