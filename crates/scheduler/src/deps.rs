use std::fmt;
use std::sync::Arc;

use trine_core::{Clock, SystemClock};

use crate::backend::database::Given;
use crate::{ConfigError, Job, JobId};

/// What a scheduler needs beside its configuration.
#[derive(Clone)]
#[non_exhaustive]
pub struct SchedulerDeps {
    /// The name of this instance, for health, metrics, the keys of fences and
    /// those of a shared store: processes with the same name share their jobs.
    /// What is after `scheduler.` is 1 to 23 bytes. Default:
    /// `"scheduler.default"`.
    pub name: Arc<str>,
    /// The clock of leases and waits, and of what is kept in this process.
    /// Default: the system's.
    pub clock: Arc<dyn Clock>,
    /// Jobs that are registered at the start. Default: none.
    pub jobs: Vec<Job>,
    #[cfg_attr(
        not(any(feature = "mysql", feature = "sqlite")),
        expect(dead_code, reason = "only effects in a database read it")
    )]
    pub(crate) database: Given,
}

impl Default for SchedulerDeps {
    fn default() -> Self {
        let (name, clock) = ("scheduler.default".into(), Arc::new(SystemClock));
        Self { name, clock, jobs: Vec::new(), database: Given::default() }
    }
}

impl SchedulerDeps {
    /// Longest instance, the name without `scheduler.`, in bytes: with the
    /// longest job it must fit into the name of an inbox's consumer, which has
    /// 128.
    pub const MAX_INSTANCE: usize = 128 - JobId::MAX - "job./".len();

    /// Sets the name of the instance.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets the clock of leases and waits, and of what is kept in this process.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Adds a job that is registered at the start.
    #[must_use]
    pub fn with_job(mut self, job: Job) -> Self {
        self.jobs.push(job);
        self
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let instance = self.name.strip_prefix("scheduler.").unwrap_or(&self.name);
        let (length, max) = (instance.len(), Self::MAX_INSTANCE);
        let is_wrong = |c: char| c == '#' || c == '/' || c.is_control();
        if length == 0 || length > max || instance.chars().any(is_wrong) {
            return Err(ConfigError::one(format!(
                "name: instance of {length} bytes: expected 1 to {max} without `#`, `/` and \
                 control characters"
            )));
        }
        Ok(())
    }
}

impl fmt::Debug for SchedulerDeps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SchedulerDeps")
            .field("name", &self.name)
            .field("clock", &self.clock)
            .field("jobs", &self.jobs.len())
            .finish()
    }
}
