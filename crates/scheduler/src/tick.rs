use std::sync::Arc;
use std::time::{Duration, SystemTime};

use trine_core::Fence;

use crate::JobId;

/// One nominal time of one job: made once, completed once.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tick {
    /// The job.
    pub job: JobId,
    /// What it is for.
    pub nominal: SystemTime,
    /// Why there is one.
    pub kind: TickKind,
    /// The revision of the job that it was made by.
    pub revision: u64,
    /// When it is due: the nominal time, and the jitter.
    pub due: SystemTime,
    /// What has become of it.
    pub state: TickState,
    /// What was tried, in order.
    pub attempts: Vec<Attempt>,
}

impl Tick {
    /// Returns a tick that nobody has tried, for backends of one's own.
    #[must_use]
    pub fn new(
        job: JobId,
        nominal: SystemTime,
        kind: TickKind,
        revision: u64,
        due: SystemTime,
        state: TickState,
    ) -> Self {
        Self { job, nominal, kind, revision, due, state, attempts: Vec::new() }
    }

    /// Sets what was tried.
    #[must_use]
    pub fn with_attempts(mut self, attempts: Vec<Attempt>) -> Self {
        self.attempts = attempts;
        self
    }
}

/// Why there is a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TickKind {
    /// The schedule says so.
    Planned,
    /// Somebody asked for it; the nominal time is that moment.
    Triggered,
}

/// What has become of a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TickState {
    /// It waits for a process, a retry or the end of another run.
    Waiting,
    /// A process has it under a lease.
    Running,
    /// Its effect is done.
    Succeeded,
    /// Its last attempt failed, or it was taken over too often.
    Failed,
    /// It was not run, because another run went on.
    Overlapped,
    /// It was not run, because its job was removed.
    Removed,
}

impl TickState {
    /// Tells whether nothing more happens to it.
    #[must_use]
    pub fn is_over(self) -> bool {
        !matches!(self, Self::Waiting | Self::Running)
    }
}

/// One try of a tick.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attempt {
    /// Counted from 1.
    pub number: u32,
    /// Whose it was: host, process id and a random part.
    pub process: Arc<str>,
    /// The token of its fence: higher than all before it under the same key.
    pub token: u64,
    /// When it was given to the process, by the store's clock.
    pub began: SystemTime,
    /// How long it took by the store's clock, once it is over.
    pub took: Option<Duration>,
    /// How it ended; `None` while it goes on.
    pub end: Option<AttemptEnd>,
}

impl Attempt {
    /// Returns an attempt that begins, for backends of one's own.
    #[must_use]
    pub fn new(number: u32, process: Arc<str>, token: u64, began: SystemTime) -> Self {
        Self { number, process, token, began, took: None, end: None }
    }

    /// Returns it with its end.
    #[must_use]
    pub fn ended(mut self, took: Duration, end: AttemptEnd) -> Self {
        (self.took, self.end) = (Some(took), Some(end));
        self
    }
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AttemptEnd {
    /// Its effect is done.
    Succeeded,
    /// The handler answered an error.
    Failed {
        /// Its text, cut to [`MAX_ERROR`](Self::MAX_ERROR) bytes.
        error: Box<str>,
    },
    /// The handler panicked.
    Panicked {
        /// What it said, cut as an error is.
        message: Box<str>,
    },
    /// It did not end within the job's time-out.
    TimedOut,
    /// Its process was not heard of for a lease.
    Lost,
    /// Its process was shut down and gave it back.
    HandedOver,
}

impl AttemptEnd {
    /// Longest text of an error in bytes.
    pub const MAX_ERROR: usize = 1_000;

    /// Tells whether it counts as a failure of the handler, which retries are
    /// for.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        matches!(self, Self::Failed { .. } | Self::Panicked { .. } | Self::TimedOut)
    }
}

/// A tick that was given to a process.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClaimedTick {
    /// The job.
    pub job: JobId,
    /// What it is for.
    pub nominal: SystemTime,
    /// Why there is one.
    pub kind: TickKind,
    /// The revision of the job that it was made by.
    pub revision: u64,
    /// When it was due.
    pub due: SystemTime,
    /// Which attempt this is, counted from 1.
    pub attempt: u32,
    /// Attempts before it that failed.
    pub failures: u32,
    /// Whether the attempt just before it is [`Lost`](AttemptEnd::Lost): this one
    /// takes the tick over.
    pub was_lost: bool,
    /// What it is held under.
    pub fence: Fence,
}

impl ClaimedTick {
    /// Returns the first attempt of a tick, for backends of one's own.
    #[must_use]
    pub fn new(job: JobId, nominal: SystemTime, revision: u64, fence: Fence) -> Self {
        let (kind, due) = (TickKind::Planned, nominal);
        Self { job, nominal, kind, revision, due, attempt: 1, failures: 0, was_lost: false, fence }
    }
}
