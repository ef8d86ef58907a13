use std::sync::Arc;
use std::time::SystemTime;

use crate::{Definition, JobId, Progress, Tick};

/// A job, as its store has it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobFacts {
    /// When it is due and how it is run.
    pub definition: Arc<Definition>,
    /// Whether it goes on.
    pub state: JobState,
    /// How far its planning has come.
    pub progress: Progress,
    /// Planned ticks that failed in a row, up to now or since it was resumed.
    pub failures: u32,
    /// Ticks that wait or run.
    pub open: u32,
    /// Its latest tick that is over.
    pub last: Option<Tick>,
    /// Whether a process that is there has a handler for it.
    pub has_handler: bool,
}

impl JobFacts {
    /// Returns a job that was just registered, for backends of one's own.
    #[must_use]
    pub fn new(definition: Arc<Definition>, progress: Progress) -> Self {
        let (state, last) = (JobState::Active, None);
        Self { definition, state, progress, failures: 0, open: 0, last, has_handler: true }
    }
}

/// Whether a job goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JobState {
    /// It is run when it is due.
    Active,
    /// It is not, until it is resumed.
    Paused {
        /// Why.
        note: Box<str>,
        /// Since when, by the store's clock.
        since: SystemTime,
    },
    /// It has no further time, and all its ticks are over.
    Done,
}

/// Some of the jobs, in the order of their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobPage {
    /// The jobs.
    pub jobs: Vec<JobFacts>,
    /// The job after which the next page begins; `None` after the last.
    pub next: Option<JobId>,
}

impl JobPage {
    /// Returns a page that the jobs after `next` follow.
    #[must_use]
    pub fn new(jobs: Vec<JobFacts>, next: Option<JobId>) -> Self {
        Self { jobs, next }
    }
}

/// Some of the ticks of a job, the latest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TickPage {
    /// The ticks.
    pub ticks: Vec<Tick>,
    /// The nominal time before which the next page begins; `None` after the
    /// first tick.
    pub next: Option<SystemTime>,
}

impl TickPage {
    /// Returns a page that the ticks before `next` follow.
    #[must_use]
    pub fn new(ticks: Vec<Tick>, next: Option<SystemTime>) -> Self {
        Self { ticks, next }
    }
}
