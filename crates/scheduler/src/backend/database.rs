use std::sync::Arc;

use trine_core::Metrics;
use trine_db_shard::Database;

use super::{Observed, SchedulerBackend, SqlBackend};
use crate::{ConfigError, Result, SchedulerDeps};

/// The database that a service is given.
pub(crate) type Given = Option<Database>;

/// What only a store in a database can do.
pub(crate) type Effects = Option<SqlBackend>;

/// Returns what a store of the caller's own can do with the database that it is
/// kept in.
pub(crate) fn effects(backend: &dyn SchedulerBackend, deps: &SchedulerDeps) -> Effects {
    let database = deps.database.as_ref().filter(|_| backend.capabilities().transactions)?;
    Some(SqlBackend::with_clock(&deps.name, database.clone(), Arc::clone(&deps.clock)))
}

/// Returns the store in the database of the dependencies.
pub(super) fn connect(
    deps: &SchedulerDeps,
    metrics: &Metrics,
) -> Result<(Arc<dyn SchedulerBackend>, Effects)> {
    let Some(database) = &deps.database else {
        let problem = "backend.kind: \"database\" needs one among the dependencies";
        return Err(ConfigError::one(problem).into());
    };
    let sql = SqlBackend::with_clock(&deps.name, database.clone(), Arc::clone(&deps.clock));
    Ok((Arc::new(Observed::new(sql.clone(), metrics)), Some(sql)))
}
