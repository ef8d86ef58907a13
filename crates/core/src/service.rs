use std::fmt;

use async_trait::async_trait;
use serde::Serialize;

use crate::{BoxFault, Deadline, Health, Snapshot};

/// Where a service is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Opened; no I/O has happened.
    Created,
    /// Proving the backend.
    Starting,
    /// Takes calls.
    Running,
    /// Takes no new calls and finishes those in flight.
    Draining,
    /// Over; a closed service never runs again.
    Closed,
    /// The last start failed, or a background task gave up; may be started again.
    Failed,
}

impl State {
    /// Returns the stable name, such as `"running"`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Draining => "draining",
            Self::Closed => "closed",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a container can do with any service, built in or the host's own.
///
/// Object-safe. [`Lifecycle`](crate::Lifecycle) implements the states, so that
/// a service only says how it proves its backend and how it closes.
#[async_trait]
pub trait Service: fmt::Debug + Send + Sync + 'static {
    /// Returns the service and instance, such as `"cache.catalog"`.
    fn name(&self) -> &str;

    /// Returns where the service is in its life.
    fn state(&self) -> State;

    /// Proves the backend and starts background work; `Ok` if it runs already.
    ///
    /// If the future is dropped, the service is as before and no task is left.
    ///
    /// # Errors
    ///
    /// Fails with kind [`Unavailable`](crate::ErrorKind::Unavailable) if the
    /// backend did not answer within the start time-out, with
    /// [`Closed`](crate::ErrorKind::Closed) after a shutdown, and at once with
    /// what cannot get better by waiting. A failed start may be repeated.
    async fn start(&self) -> Result<(), BoxFault>;

    /// Stops taking work, finishes what is in flight until `deadline`, gives
    /// back what was not finished and closes the pool. Idempotent.
    ///
    /// # Errors
    ///
    /// Fails with what went wrong while closing; the service is closed anyway.
    async fn shutdown(&self, deadline: Deadline) -> Result<(), BoxFault>;

    /// Checks the backend by real work, within a bound of its own, and damps
    /// what it sees: [`Probe`](crate::Probe) does both. Nobody damps the answer
    /// again.
    async fn health(&self) -> Health;

    /// Returns the counters as they are now.
    fn metrics(&self) -> Snapshot;

    /// Sets a new baseline for the values of snapshots; totals never go back.
    fn reset_metrics(&self);
}
