use std::num::NonZeroU32;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use trine::Settings;
use trine_db_shard::Database;
use trine_scheduler::{Job, JobBuilder, Retries, Schedule, maintenance};

use crate::error::{Error, Result};
use crate::statistics::Statistics;

/// Settings of what the starter does by itself, section `[jobs]`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct JobsConfig {
    /// Removes statistics that are older than 400 days.
    pub(crate) cleanup: JobConfig,
    /// Counts accounts, documents and their bytes, for the day.
    pub(crate) statistics: JobConfig,
}

/// When something is done.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct JobConfig {
    /// When it is due, such as `"daily 03:30; zone Europe/Berlin"`.
    pub(crate) schedule: Schedule,
    /// To be raised with every other schedule: what is stored is replaced by a
    /// higher one only, and processes do not fight. Default: 1.
    #[serde(default = "first")]
    pub(crate) revision: NonZeroU32,
}

fn first() -> NonZeroU32 {
    NonZeroU32::MIN
}

impl Settings for JobsConfig {}

/// Rows that are removed at a time.
const STEP: NonZeroU32 = NonZeroU32::MIN.saturating_add(499);

/// Longest time of one attempt.
const TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// Returns the jobs with their handlers.
///
/// # Errors
///
/// Never fails: the schedules were checked when they were read.
pub(crate) fn jobs(
    config: &JobsConfig,
    global: &Database,
    statistics: &Statistics,
) -> Result<Vec<Job>> {
    let cleanup = builder("cleanup", &config.cleanup);
    let cleanup = maintenance::expired_rows(cleanup, global.clone(), Statistics::EXPIRED, STEP);
    let statistics = statistics.clone();
    let counting = builder("statistics", &config.statistics).run(move |ctx| {
        let statistics = statistics.clone();
        async move { statistics.count(ctx.nominal()).await }
    });
    [cleanup, counting]
        .into_iter()
        .map(|job| job.map_err(|error| Error::Jobs(error.into())))
        .collect()
}

/// A database that is away for a moment costs no day.
fn builder(id: &str, config: &JobConfig) -> JobBuilder {
    let attempts = NonZeroU32::MIN.saturating_add(4);
    Job::new(id, config.schedule.clone())
        .with_revision(config.revision.get().into())
        .with_timeout(TIMEOUT)
        .with_retries(Retries::new(attempts, Duration::from_secs(5), Duration::from_secs(5 * 60)))
}
