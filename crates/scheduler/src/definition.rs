use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{JobId, Misfire, Overlap, Retries, Schedule};

/// What all processes agree on about a job: when it is due, and how it is run.
///
/// The revision orders definitions of one job: a higher one replaces a lower
/// one, a lower one never a higher one, and two different ones with the same
/// number are a conflict.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Definition {
    /// The job.
    pub id: JobId,
    /// Which version of the definition this is.
    pub revision: u64,
    /// All the rest.
    pub terms: Terms,
}

/// When a job is due, and how it is run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Terms {
    /// When it is due.
    pub schedule: Schedule,
    /// What becomes of times that were missed. Default: one run.
    #[serde(default)]
    pub misfire: Misfire,
    /// A time is missed if it is planned later than so long after it was due.
    /// Default: 1 min.
    pub grace: Duration,
    /// What becomes of a tick beside a run. Default: it is skipped.
    #[serde(default)]
    pub overlap: Overlap,
    /// How long an attempt may take; `None` for ever.
    pub timeout: Option<Duration>,
    /// How often a failed run is tried. Default: once.
    #[serde(default)]
    pub retries: Retries,
    /// How often a run is taken over from a process that is gone before it
    /// counts as failed: one that kills each process must end. Default: 5.
    pub takeovers: u32,
    /// After how many planned ticks that failed in a row the job is paused;
    /// `None` never.
    #[serde(default)]
    pub pause_after: Option<NonZeroU32>,
}

impl Terms {
    /// Returns the defaults for a schedule.
    #[must_use]
    pub fn new(schedule: Schedule) -> Self {
        Self {
            schedule,
            misfire: Misfire::default(),
            grace: Duration::from_secs(60),
            overlap: Overlap::default(),
            timeout: Some(Duration::from_secs(3_600)),
            retries: Retries::default(),
            takeovers: 5,
            pause_after: None,
        }
    }
}

impl Definition {
    /// Returns the definition of a job.
    #[must_use]
    pub fn new(id: JobId, revision: u64, terms: Terms) -> Self {
        Self { id, revision, terms }
    }
}
