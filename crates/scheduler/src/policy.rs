use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What becomes of nominal times that nobody planned in time, because no process
/// was there or the store was away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Misfire {
    /// Nothing: the next run is at the next nominal time.
    Skip,
    /// One run for the latest of them, unless another time is due on time by
    /// then.
    #[default]
    Once,
    /// One run each, one after the other in their order.
    All {
        /// Not for times that are longer ago.
        within: Duration,
        /// Not more than so many, the latest, and in any case not more than
        /// [`MAX_STEP`](crate::planning::MAX_STEP).
        at_most: NonZeroU32,
    },
}

/// What becomes of a tick that falls due while an earlier run of its job goes
/// on or waits.
///
/// A run goes on from its first attempt until its tick is over, also while it
/// waits for another. One of 10 s that is due every 3 s:
///
/// | policy | begins at |
/// |---|---|
/// | `Skip` | 0, 12, 24, … |
/// | `QueueOne` | 0, 10, 20, … |
/// | `Allow` of 4 | 0, 3, 6, 9, 12, … |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Overlap {
    /// It is not run.
    #[default]
    Skip,
    /// It waits for the end of the run, unless another waits already.
    QueueOne,
    /// It runs beside the others, up to `at_most` of them in all processes
    /// together; further ones wait.
    Allow {
        /// Most runs of the job at once.
        at_most: NonZeroU32,
    },
}

impl Overlap {
    /// Returns how many runs of a job there are at once at most.
    #[must_use]
    pub fn concurrency(self) -> u32 {
        match self {
            Self::Skip | Self::QueueOne => 1,
            Self::Allow { at_most } => at_most.get(),
        }
    }
}

/// How often a run that failed is tried, and after which waits.
///
/// Default: once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retries {
    attempts: NonZeroU32,
    first: Duration,
    longest: Duration,
}

impl Retries {
    /// Returns one attempt.
    #[must_use]
    pub fn none() -> Self {
        Self { attempts: NonZeroU32::MIN, first: Duration::ZERO, longest: Duration::ZERO }
    }

    /// Returns `attempts` in all, with a wait of `first` after the first
    /// failure, twice as long each time, up to `longest`.
    #[must_use]
    pub fn new(attempts: NonZeroU32, first: Duration, longest: Duration) -> Self {
        Self { attempts, first, longest }
    }

    /// Returns how many attempts there are in all.
    #[must_use]
    pub fn attempts(self) -> NonZeroU32 {
        self.attempts
    }

    /// Returns the wait after the first failure.
    #[must_use]
    pub fn first(self) -> Duration {
        self.first
    }

    /// Returns the longest wait.
    #[must_use]
    pub fn longest(self) -> Duration {
        self.longest
    }

    /// Returns the wait after the failure number `failure`, counted from 1;
    /// `None` after the last.
    #[must_use]
    pub fn wait_after(self, failure: u32) -> Option<Duration> {
        if failure >= self.attempts.get() {
            return None;
        }
        let factor = 1_u32.checked_shl(failure.saturating_sub(1)).unwrap_or(u32::MAX);
        Some(self.first.saturating_mul(factor).min(self.longest))
    }
}

impl Default for Retries {
    fn default() -> Self {
        Self::none()
    }
}
