use std::time::Duration;

use serde::Serialize;
use trine_core::{HealthStatus, State};

/// Where a container and each of its services are.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Status {
    /// Of the container.
    pub state: State,
    /// Whether it should be given work.
    pub is_ready: bool,
    /// In the order in which they were added.
    pub services: Vec<ServiceStatus>,
}

/// Where one service is.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ServiceStatus {
    /// The service and instance, such as `"cache.catalog"`.
    pub name: String,
    /// Where it is in its life.
    pub state: State,
    /// Whether the process cannot do without it.
    pub is_required: bool,
    /// What it stands on.
    pub needs: Vec<String>,
    /// What its last health check said; `None` before the first.
    pub health: Option<HealthStatus>,
    /// How long its last start took.
    pub started_in: Option<Duration>,
    /// Why its last attempt to start failed; `None` once it runs.
    pub error: Option<String>,
}
