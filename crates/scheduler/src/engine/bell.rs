use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use trine_core::{Clock, Moment};

/// What a loop sleeps by: until a moment, or until it is rung for.
#[derive(Debug)]
pub(crate) struct Bell {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    rung: Notify,
}

#[derive(Debug, Default)]
struct State {
    is_rung: bool,
    sleep: Option<Sleep>,
}

/// For how long a loop sleeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sleep {
    pub(crate) until: Moment,
    /// When it expects work, which may be later than when it looks for some.
    pub(crate) due: Option<Moment>,
}

impl Bell {
    pub(crate) fn new(clock: &Arc<dyn Clock>) -> Self {
        Self { clock: Arc::clone(clock), state: Mutex::default(), rung: Notify::new() }
    }

    /// Wakes the loop, or has its next sleep end at once.
    pub(crate) fn ring(&self) {
        self.state().is_rung = true;
        self.rung.notify_one();
    }

    /// Sleeps until `until`, or until it is rung.
    pub(super) async fn sleep(&self, until: Moment, due: Option<Moment>) {
        if self.begin(Sleep { until, due }) {
            let _awake = Awake(self);
            tokio::select! {
                () = self.rung.notified() => {}
                () = self.clock.sleep_until(until) => {}
            }
        }
    }

    /// `false` if it was rung before.
    fn begin(&self, sleep: Sleep) -> bool {
        let mut state = self.state();
        if std::mem::take(&mut state.is_rung) {
            return false;
        }
        state.sleep = Some(sleep);
        true
    }

    /// Returns the sleep that nothing has ended yet; `None` while it works.
    pub(crate) fn asleep(&self) -> Option<Sleep> {
        let state = self.state();
        state.sleep.filter(|sleep| !state.is_rung && sleep.until > self.clock.now())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends a sleep, also one that is dropped.
struct Awake<'a>(&'a Bell);

impl Drop for Awake<'_> {
    fn drop(&mut self) {
        *self.0.state() = State::default();
    }
}
