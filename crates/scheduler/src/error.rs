use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use trine_core::{BoxError, ErrorKind, Fault, Fence};

use crate::{ConfigError, InvalidJob, InvalidJobId, InvalidSchedule, JobId, NeverDue};

/// What an operation of a scheduler answers.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Which operation failed, and on which service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At {
    operation: &'static str,
    service: Arc<str>,
}

impl At {
    /// Returns the place of `operation` on the scheduler called `service`, for
    /// backends of one's own.
    #[must_use]
    pub fn new(operation: &'static str, service: &Arc<str>) -> Self {
        Self { operation, service: Arc::clone(service) }
    }

    /// Returns the operation, such as `"register"`.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        self.operation
    }

    /// Returns the name of the service, such as `"scheduler.default"`.
    #[must_use]
    pub fn service(&self) -> &str {
        &self.service
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.service, self.operation)
    }
}

/// Why an operation of a scheduler failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration breaks a rule.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A text is no name of a job.
    #[error("scheduler: {0}")]
    JobId(#[from] InvalidJobId),
    /// A job cannot be made.
    #[error("scheduler: {0}")]
    Job(#[from] InvalidJob),
    /// A schedule cannot be made.
    #[error("scheduler: {0}")]
    Schedule(#[from] InvalidSchedule),
    /// The job would never run.
    #[error("{at}: job `{job}`: {cause}")]
    NeverDue {
        /// Where it failed.
        at: At,
        /// The job.
        job: JobId,
        /// Why.
        #[source]
        cause: NeverDue,
    },
    /// The operation can never be accepted as it stands.
    #[error("{at}: {detail}")]
    Invalid {
        /// Where it failed.
        at: At,
        /// What is wrong, and what was expected.
        detail: Cow<'static, str>,
    },
    /// There is no such job.
    #[error("{at}: there is no job `{job}`")]
    NotFound {
        /// Where it failed.
        at: At,
        /// The job.
        job: JobId,
    },
    /// Another definition of the job has the same revision, or this process has
    /// a handler for it already.
    #[error("{at}: job `{job}`: {detail}")]
    Conflict {
        /// Where it failed.
        at: At,
        /// The job.
        job: JobId,
        /// What it is in conflict with.
        detail: Cow<'static, str>,
    },
    /// The tick was given to another process: this attempt has no say any more.
    #[error("{at}: `{}` with token {} was replaced", fence.key(), fence.token())]
    Fenced {
        /// Where it was noticed.
        at: At,
        /// What it was held under.
        fence: Fence,
    },
    /// The store gave no answer in time.
    #[error("{at}: no answer in {after:?} ({limit})")]
    Timeout {
        /// Where it failed.
        at: At,
        /// How long it was given.
        after: Duration,
        /// The setting, option or deadline that ended it.
        limit: &'static str,
    },
    /// The store is away.
    #[error("{at}: {reason}")]
    Unavailable {
        /// Where it failed.
        at: At,
        /// Why.
        reason: Unavailable,
        /// What the store said, if it was asked.
        #[source]
        cause: Option<BoxError>,
    },
    /// A write was sent, and nobody knows what became of it. Every operation of
    /// a store may be sent again.
    #[error("{at}: nobody knows what became of it")]
    OutcomeUnknown {
        /// Where it failed.
        at: At,
        /// What the store said.
        #[source]
        cause: BoxError,
    },
    /// This store cannot do that.
    #[error("{at}: {detail}")]
    Unsupported {
        /// Where it failed.
        at: At,
        /// What it cannot do.
        detail: Cow<'static, str>,
    },
    /// The service was shut down.
    #[error("{at}: the service is shut down")]
    Closed {
        /// Where it failed.
        at: At,
    },
    /// A defect in this crate or the store.
    #[error("{at}: internal error")]
    Internal {
        /// Where it failed.
        at: At,
        /// What went wrong.
        #[source]
        cause: BoxError,
    },
}

/// Why a scheduler cannot work now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unavailable {
    /// The store could not be asked.
    Unreachable,
    /// The service was not started, or a start is still under way.
    NotStarted,
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreachable => "the store is unreachable",
            Self::NotStarted => "the service is not started",
        })
    }
}

impl Error {
    /// Returns the shared kind to branch on.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Config(_)
            | Self::JobId(_)
            | Self::Job(_)
            | Self::Schedule(_)
            | Self::NeverDue { .. }
            | Self::Invalid { .. } => ErrorKind::Invalid,
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Conflict { .. } => ErrorKind::Conflict,
            Self::Fenced { .. } => ErrorKind::Fenced,
            Self::Timeout { .. } => ErrorKind::Timeout,
            Self::Unavailable { .. } => ErrorKind::Unavailable,
            Self::OutcomeUnknown { .. } => ErrorKind::OutcomeUnknown,
            Self::Unsupported { .. } => ErrorKind::Unsupported,
            Self::Closed { .. } => ErrorKind::Closed,
            Self::Internal { .. } => ErrorKind::Internal,
        }
    }

    /// Tells whether the same call may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.kind().is_retryable()
    }
}

impl Fault for Error {
    fn kind(&self) -> ErrorKind {
        self.kind()
    }

    fn is_retryable(&self) -> bool {
        self.is_retryable()
    }
}
