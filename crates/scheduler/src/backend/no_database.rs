use std::sync::Arc;

use trine_core::Metrics;

use super::SchedulerBackend;
use crate::{ConfigError, Result, SchedulerDeps};

/// No database can be given.
pub(crate) type Given = ();

/// What only a store in a database can do: nothing.
pub(crate) type Effects = ();

/// Nothing can be done in a database.
pub(crate) fn effects(_backend: &dyn SchedulerBackend, _deps: &SchedulerDeps) -> Effects {}

/// Says what is missing.
pub(super) fn connect(
    _deps: &SchedulerDeps,
    _metrics: &Metrics,
) -> Result<(Arc<dyn SchedulerBackend>, Effects)> {
    let problem = "backend.kind: \"database\" needs feature sqlite or mysql of trine-scheduler";
    Err(ConfigError::one(problem).into())
}
