use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

use super::Shared;
use crate::{ErrorKind, Fault};

/// Admits calls while it is open, and counts them.
#[derive(Default)]
pub(super) struct Gate {
    /// [`OPEN`] while open; the rest counts the calls in flight. One word, so
    /// that closing and counting cannot pass each other.
    word: AtomicU64,
    idle: Notify,
}

const OPEN: u64 = 1 << 63;

impl Gate {
    pub(super) fn open(&self) {
        self.word.fetch_or(OPEN, Ordering::AcqRel);
    }

    pub(super) fn close(&self) {
        self.word.fetch_and(!OPEN, Ordering::AcqRel);
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.word.load(Ordering::Relaxed) & !OPEN
    }

    /// Tells whether a call was admitted; if so, it has to [`leave`](Self::leave).
    fn admits(&self) -> bool {
        // Looked at first: callers that are refused must not keep the count
        // above zero while a shutdown waits for it.
        if self.word.load(Ordering::Relaxed) & OPEN == 0 {
            return false;
        }
        let is_admitted = self.word.fetch_add(1, Ordering::AcqRel) & OPEN != 0;
        if !is_admitted {
            self.leave();
        }
        is_admitted
    }

    fn leave(&self) {
        if self.word.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.idle.notify_waiters();
        }
    }

    /// Waits until no call is in flight.
    pub(super) async fn drained(&self) {
        loop {
            let idle = self.idle.notified();
            tokio::pin!(idle);
            idle.as_mut().enable();
            if self.word.load(Ordering::Acquire) & !OPEN == 0 {
                return;
            }
            idle.await;
        }
    }
}

/// One admitted call; a shutdown waits until it is dropped.
#[must_use = "a call is in flight only while its guard lives"]
pub struct InFlight {
    shared: Arc<Shared>,
}

impl InFlight {
    /// Returns `None` while the gate is closed.
    pub(super) fn admitted(shared: &Arc<Shared>) -> Option<Self> {
        shared.gate.admits().then(|| Self { shared: Arc::clone(shared) })
    }
}

impl fmt::Debug for InFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InFlight({})", self.shared.name)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.shared.gate.leave();
    }
}

/// Why a call was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The service was not started, or is starting.
    #[error("not started")]
    NotStarted,
    /// The service is draining or closed.
    #[error("shut down")]
    Closed,
    /// The last start failed, or a background task gave up.
    #[error("failed; to be started again")]
    Failed,
}

impl Fault for Refused {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotStarted | Self::Failed => ErrorKind::Unavailable,
            Self::Closed => ErrorKind::Closed,
        }
    }
}
