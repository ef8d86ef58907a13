use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use trine_core::{Health, HealthStatus, Probe, Service};

/// One service in the container.
pub(crate) struct Node {
    pub(crate) name: Arc<str>,
    pub(crate) service: Arc<dyn Service>,
    pub(crate) is_required: bool,
    pub(crate) start_timeout: Duration,
    pub(crate) shutdown_timeout: Duration,
    /// Places of the nodes that this one stands on.
    pub(crate) needs: Vec<usize>,
    /// Places of the nodes that stand on this one.
    pub(crate) dependents: Vec<usize>,
    run: Mutex<Run>,
}

/// What has happened to a node.
#[derive(Debug, Default)]
pub(crate) struct Run {
    /// Started at least once, so that it has to be stopped, once.
    pub(crate) is_started: bool,
    pub(crate) started_in: Option<Duration>,
    /// Why the last attempt to start failed.
    pub(crate) last_error: Option<String>,
    /// Made anew with each start, so that the first check after it counts.
    pub(crate) probe: Option<Probe>,
    /// What was last seen.
    pub(crate) health: Option<Health>,
}

impl Node {
    pub(crate) fn new(name: Arc<str>, service: Arc<dyn Service>, plan: Plan) -> Self {
        Self {
            name,
            service,
            is_required: plan.is_required,
            start_timeout: plan.start_timeout,
            shutdown_timeout: plan.shutdown_timeout,
            needs: plan.needs,
            dependents: Vec::new(),
            run: Mutex::default(),
        }
    }

    /// Notes in every node who stands on it.
    pub(crate) fn linked(mut nodes: Vec<Self>) -> Vec<Self> {
        let needs: Vec<_> = nodes.iter().map(|node| node.needs.clone()).collect();
        for (place, needs) in needs.iter().enumerate() {
            for need in needs {
                if let Some(node) = nodes.get_mut(*need) {
                    node.dependents.push(place);
                }
            }
        }
        nodes
    }

    pub(crate) fn run(&self) -> MutexGuard<'_, Run> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells whether the last check found it down.
    pub(crate) fn is_down(&self) -> bool {
        self.run().health.as_ref().is_some_and(|health| health.status == HealthStatus::Down)
    }

    /// Returns the instance: what follows the first dot of the name.
    pub(crate) fn instance(&self) -> &str {
        self.name.split_once('.').map_or(crate::component::DEFAULT, |(_, instance)| instance)
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("name", &self.name)
            .field("state", &self.service.state())
            .field("is_required", &self.is_required)
            .finish()
    }
}

/// How a node is to be treated.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) is_required: bool,
    pub(crate) start_timeout: Duration,
    pub(crate) shutdown_timeout: Duration,
    pub(crate) needs: Vec<usize>,
}
