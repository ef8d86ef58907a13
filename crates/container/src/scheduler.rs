use std::time::Duration;

use trine_core::BoxFault;
use trine_scheduler::{Job, SchedulerConfig, SchedulerDeps, SchedulerService};

#[cfg(feature = "db-shard")]
use crate::Need;
use crate::component::DEFAULT;
use crate::{Component, Container, Deps, Handle, Result, Settings};

/// Jobs and when they are due, section `[scheduler]`: in this process, or with
/// `sqlite` or `mysql` in the global database of a `[db]`.
///
/// The scheduler starts after the database that it is on and stops before it.
/// If that is optional (`required = false`), so must the scheduler be. Its
/// tables are those of `trine_scheduler::migrations`, which the host gives to
/// its [`Db`](crate::Db).
///
/// Jobs that need services of the container are registered at
/// [`Container::scheduler`] when it is built; before the start they are kept for
/// it.
///
/// # Example
///
/// ```toml
/// [scheduler]         # scheduler.default
/// backend = { kind = "database" }
///
/// [scheduler.local]   # another one, in this process
/// backend = { kind = "memory" }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Scheduler {
    jobs: Vec<Job>,
}

impl Scheduler {
    /// Returns the component without jobs.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a job that is registered at the start.
    #[must_use]
    pub fn with_job(mut self, job: Job) -> Self {
        self.jobs.push(job);
        self
    }
}

impl Settings for SchedulerConfig {
    fn problems(&self) -> Vec<String> {
        self.validate().map_or_else(|error| error.problems().to_vec(), |()| Vec::new())
    }
}

impl Component for Scheduler {
    const NAME: &'static str = "scheduler";
    type Config = SchedulerConfig;
    type Service = SchedulerService;

    #[cfg(feature = "db-shard")]
    fn needs(&self, config: &SchedulerConfig) -> Vec<Need> {
        let trine_scheduler::BackendConfig::Database(store) = &config.backend else {
            return Vec::new();
        };
        let database = Need::instance::<crate::Db>(&store.database);
        vec![database.with_setting("backend.database").vital()]
    }

    fn start_timeout(&self, config: &SchedulerConfig) -> Option<Duration> {
        Some(config.start_timeout.get())
    }

    fn build(self, config: SchedulerConfig, deps: &Deps<'_>) -> Result<SchedulerService, BoxFault> {
        let own = SchedulerDeps::default().with_name(deps.name());
        let own = self.jobs.into_iter().fold(own, SchedulerDeps::with_job);
        #[cfg(any(feature = "sqlite", feature = "mysql"))]
        let own = match &config.backend {
            trine_scheduler::BackendConfig::Database(store) => {
                let db = deps.instance::<crate::Db>(&store.database)?;
                own.with_database(db.global().clone())
            }
            _ => own,
        };
        Ok(SchedulerService::open(&config, own)?)
    }
}

impl Container {
    /// Returns the default scheduler.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::Missing`](crate::Error::Missing), which names its
    /// key, if none was added.
    pub fn scheduler(&self) -> Result<SchedulerService> {
        self.scheduler_instance(DEFAULT)
    }

    /// Returns a named scheduler.
    ///
    /// # Errors
    ///
    /// As [`scheduler`](Self::scheduler).
    pub fn scheduler_instance(&self, instance: &str) -> Result<SchedulerService> {
        let service = self.get(&Handle::<Scheduler>::of(instance))?;
        Ok((*service).clone())
    }
}
