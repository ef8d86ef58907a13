use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use trine_core::{Deadline, Lifecycle, State, Tasks};

use super::Container;
use super::start::Panicked;
use crate::error::source;
use crate::node::Node;
use crate::{Error, Result, StopFailure};

/// How long a service may take beyond its deadline to close what it holds.
const GRACE: Duration = Lifecycle::CLOSING_GRACE.saturating_add(Tasks::ABORT_GRACE);

impl Container {
    /// Stops the host's background work, then every service that was started:
    /// first those on which no other one stands. Idempotent.
    ///
    /// Each service has until `deadline`, at most its own `shutdown_timeout`,
    /// and is left behind a moment later. A start under way is ended. If the
    /// future is dropped, the next call carries on.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::Shutdown`], which lists all that did not stop
    /// cleanly; the container is closed anyway. If another call is at it a
    /// moment beyond `deadline`, it lists what that one has not stopped yet, and
    /// that one goes on.
    pub async fn shutdown(&self, deadline: Deadline) -> Result<()> {
        self.begin_draining();
        self.shared.stopping.cancel();
        let until = with_grace(deadline);
        let Some(_turn) = until.limit(self.shared.turn.lock()).await else {
            return Err(Error::Shutdown { failures: self.still_running() });
        };
        if self.state() == State::Closed {
            return Ok(());
        }
        let failures = self.stop_everything(deadline).await;
        self.enter(State::Closed);
        tracing::info!(failures = failures.len(), "services stopped");
        if failures.is_empty() { Ok(()) } else { Err(Error::Shutdown { failures }) }
    }

    /// Makes the process unready; what is in flight goes on.
    pub(super) fn begin_draining(&self) {
        self.change(|state| !matches!(state, State::Draining | State::Closed), State::Draining);
    }

    /// Names what another call has not stopped yet.
    fn still_running(&self) -> Vec<StopFailure> {
        let services = self.nodes().iter().filter(|node| node.run().is_started);
        let mut failures: Vec<_> = services.map(|node| StopFailure::cut(&node.name)).collect();
        if failures.is_empty() {
            failures.push(StopFailure::cut("container"));
        }
        failures
    }

    /// Returns how long stopping may take if each service stands on the next.
    pub(super) fn longest_stop(&self) -> Duration {
        let services = self.nodes().iter().map(|node| node.shutdown_timeout);
        services.fold(self.config().shutdown_timeout.get(), Duration::saturating_add)
    }

    pub(super) async fn stop_everything(&self, deadline: Deadline) -> Vec<StopFailure> {
        let shared = &self.shared;
        let own = deadline.min(Deadline::after(self.config().shutdown_timeout.get()));
        let aborted = shared.tasks.shutdown(own).await;
        let mut failures: Vec<_> =
            aborted.into_iter().map(|task| StopFailure::cut(&task)).collect();
        // Nothing may start or be asked while the services stop.
        shared.upkeep.shutdown(Deadline::after(Duration::ZERO)).await;
        failures.extend(self.stop_services(deadline).await);
        shared.vital.shutdown(Deadline::after(Duration::ZERO)).await;
        shared.pulse.rest();
        failures
    }

    async fn stop_services(&self, deadline: Deadline) -> Vec<StopFailure> {
        let mut waiting: Vec<_> =
            self.nodes().iter().filter(|node| node.run().is_started).collect();
        let (mut stopping, mut failures) = (FuturesUnordered::new(), Vec::new());
        loop {
            waiting.retain(|node| {
                let mut dependents = node.dependents.iter().filter_map(|at| self.nodes().get(*at));
                let is_free = dependents.all(|dependent| !dependent.run().is_started);
                if is_free {
                    stopping.push(stop(node, deadline));
                }
                !is_free
            });
            match stopping.next().await {
                Some(stopped) => failures.extend(stopped),
                None => return failures,
            }
        }
    }
}

/// Returns the end of the grace after `deadline`, or from now on if that has
/// passed.
fn with_grace(deadline: Deadline) -> Deadline {
    let begins = deadline.max(Deadline::after(Duration::ZERO));
    begins.instant().checked_add(GRACE).map_or(begins, Deadline::at)
}

/// Stops one service; returns what went wrong.
async fn stop(node: &Node, deadline: Deadline) -> Option<StopFailure> {
    let deadline = deadline.min(Deadline::after(node.shutdown_timeout));
    let last = with_grace(deadline);
    let stopped =
        last.limit(AssertUnwindSafe(node.service.shutdown(deadline)).catch_unwind()).await;
    node.run().is_started = false;
    let cause = match stopped {
        Some(Ok(Ok(()))) => return None,
        Some(Ok(Err(fault))) => Some(source(fault)),
        Some(Err(_)) => Some(Panicked.into()),
        None => None,
    };
    let failure = StopFailure { service: (*node.name).into(), cause };
    tracing::warn!(%failure, "service did not stop cleanly");
    Some(failure)
}
