use std::fmt;

use async_trait::async_trait;

use crate::{Health, Snapshot};

/// What those who operate a process ask it: orchestrators, monitors, people.
///
/// The container implements it and `trine-axum` serves it over HTTP, so that
/// neither depends on the other.
#[async_trait]
pub trait Operations: fmt::Debug + Send + Sync + 'static {
    /// Tells whether the process makes progress; one that is `down` should be
    /// restarted. Never waits, and asks no backend.
    fn live(&self) -> Health;

    /// Tells whether the process should be given work: anything but `down`
    /// means yes. Never waits.
    fn ready(&self) -> Health;

    /// Checks every part by real work, side by side and each within a bound.
    async fn health(&self) -> Health;

    /// Returns the counters of every part as they are now.
    fn metrics(&self) -> Snapshot;
}
