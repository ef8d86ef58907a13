use schemars::JsonSchema;
use serde::Deserialize;
use trine_core::{LeaseTerms, Span};

/// Everything a process needs to open its scheduler.
///
/// # Example
///
/// ```
/// use trine_scheduler::SchedulerConfig;
///
/// let config = SchedulerConfig::memory();
/// config.validate()?;
/// # Ok::<(), trine_scheduler::ConfigError>(())
/// ```
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct SchedulerConfig {
    /// Where jobs and ticks are kept.
    pub backend: BackendConfig,
    /// How long the store keeps a tick for a process that it does not hear of:
    /// it is taken over at most 1s later. 1s to 1h. Default: 30s.
    #[serde(default = "defaults::lease")]
    pub lease: Span,
    /// How long a process is the planner without word from it. 1s to 1h.
    /// Default: 10s.
    #[serde(default = "defaults::planner_lease")]
    pub planner_lease: Span,
    /// Most runs at once in this process. Default: 64.
    #[serde(default = "defaults::max_running")]
    pub max_running: u32,
    /// Longest time between two looks for ticks that another process has
    /// planned, failed or left. 10ms to 10s. Default: 1s.
    #[serde(default = "defaults::poll")]
    pub poll: Span,
    /// How long a run may go on after it was cancelled, before it is dropped.
    /// Default: 5s.
    #[serde(default = "defaults::cancel_grace")]
    pub cancel_grace: Span,
    /// How long ticks that are over are kept. Default: 7d.
    #[serde(default = "defaults::history_age")]
    pub history_age: Span,
    /// Most ticks that are over that are kept of each job. Default: 1000.
    #[serde(default = "defaults::history_runs")]
    pub history_runs: u32,
    /// Work that is due for longer without progress makes the service degraded,
    /// for twice as long down. At least twice `poll`. Default: 30s.
    #[serde(default = "defaults::max_lag")]
    pub max_lag: Span,
    /// Longest time of one start, retries included. Default: 30s.
    #[serde(default = "defaults::start_timeout")]
    pub start_timeout: Span,
}

/// The store behind the scheduler, selected by the `kind` field.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum BackendConfig {
    /// In this process; nothing survives its end.
    Memory {},
    /// In the database that the service is given, which processes may share.
    /// Needs feature `sqlite` or `mysql`.
    Database(DatabaseConfig),
}

/// Jobs and ticks in a database.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct DatabaseConfig {
    /// The database service whose global database the host gives to the
    /// scheduler, which has the tables. Default: `"default"`.
    pub database: String,
}

impl Default for DatabaseConfig {
    fn default() -> Self {
        Self { database: "default".to_owned() }
    }
}

/// Every rule a configuration broke, not only the first.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid scheduler configuration: {}", .problems.join("; "))]
pub struct ConfigError {
    problems: Vec<String>,
}

impl ConfigError {
    pub(crate) fn one(problem: impl Into<String>) -> Self {
        Self { problems: vec![problem.into()] }
    }

    /// Returns each broken rule as `path: what is wrong`.
    #[must_use]
    pub fn problems(&self) -> &[String] {
        &self.problems
    }
}

impl SchedulerConfig {
    /// Returns the configuration of a scheduler in this process with the
    /// defaults.
    #[must_use]
    pub fn memory() -> Self {
        Self::new(BackendConfig::Memory {})
    }

    /// Returns the configuration of a scheduler in the database that it is
    /// given, with the defaults.
    #[must_use]
    pub fn database() -> Self {
        Self::new(BackendConfig::Database(DatabaseConfig::default()))
    }

    /// Returns the configuration of a scheduler over `backend` with the
    /// defaults.
    #[must_use]
    pub fn new(backend: BackendConfig) -> Self {
        Self {
            backend,
            lease: defaults::lease(),
            planner_lease: defaults::planner_lease(),
            max_running: defaults::max_running(),
            poll: defaults::poll(),
            cancel_grace: defaults::cancel_grace(),
            history_age: defaults::history_age(),
            history_runs: defaults::history_runs(),
            max_lag: defaults::max_lag(),
            start_timeout: defaults::start_timeout(),
        }
    }

    /// Sets how long the store keeps a tick for a process that it does not hear
    /// of.
    #[must_use]
    pub fn with_lease(mut self, lease: Span) -> Self {
        self.lease = lease;
        self
    }

    /// Sets how long a process is the planner without word from it.
    #[must_use]
    pub fn with_planner_lease(mut self, lease: Span) -> Self {
        self.planner_lease = lease;
        self
    }

    /// Sets how many runs there are at once in this process.
    #[must_use]
    pub fn with_max_running(mut self, runs: u32) -> Self {
        self.max_running = runs;
        self
    }

    /// Checks the rules that span fields.
    ///
    /// # Errors
    ///
    /// Fails with every broken rule, each with the path of its setting.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut problems = Vec::new();
        let (second, millis) = (Span::secs(1), Span::millis(10));
        let (hour, ten) = (Span::secs(3_600), Span::secs(10));
        for (name, span, least, most) in [
            ("lease", self.lease, second, hour),
            ("planner_lease", self.planner_lease, second, hour),
            ("poll", self.poll, millis, ten),
        ] {
            if span < least || span > most {
                problems.push(format!("{name}: {span} is not between {least} and {most}"));
            }
        }
        debug_assert!(second.get() >= LeaseTerms::MIN_TTL, "the shortest lease can be renewed");
        for (name, number) in
            [("max_running", self.max_running), ("history_runs", self.history_runs)]
        {
            if number == 0 {
                problems.push(format!("{name}: must be more than 0"));
            }
        }
        for (name, span) in [
            ("history_age", self.history_age),
            ("max_lag", self.max_lag),
            ("start_timeout", self.start_timeout),
        ] {
            if span.get().is_zero() {
                problems.push(format!("{name}: must be longer than 0"));
            }
        }
        let least = Span::from(self.poll.get().saturating_mul(2));
        if self.max_lag < least {
            let lag = self.max_lag;
            problems.push(format!("max_lag: {lag} is less than twice the poll ({least})"));
        }
        if problems.is_empty() { Ok(()) } else { Err(ConfigError { problems }) }
    }
}

mod defaults {
    use trine_core::Span;

    pub(super) fn lease() -> Span {
        Span::secs(30)
    }

    pub(super) fn planner_lease() -> Span {
        Span::secs(10)
    }

    pub(super) fn max_running() -> u32 {
        64
    }

    pub(super) fn poll() -> Span {
        Span::secs(1)
    }

    pub(super) fn cancel_grace() -> Span {
        Span::secs(5)
    }

    pub(super) fn history_age() -> Span {
        Span::secs(7 * 24 * 60 * 60)
    }

    pub(super) fn history_runs() -> u32 {
        1_000
    }

    pub(super) fn max_lag() -> Span {
        Span::secs(30)
    }

    pub(super) fn start_timeout() -> Span {
        Span::secs(30)
    }
}
