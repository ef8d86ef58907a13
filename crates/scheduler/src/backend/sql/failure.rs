use trine_core::{BoxError, InvalidFence};
use trine_db_shard as db;

use crate::{At, Error, InvalidSchedule, JobId, Unavailable};

/// Why a step failed, before it is known where.
#[derive(Debug)]
pub(super) enum Failure {
    Database(db::Error),
    /// Known in full already.
    Scheduler(Error),
    /// A row that no version of this crate has written.
    Stored(BoxError),
}

impl Failure {
    /// Returns the failure of a row of `job` that cannot be read.
    pub(super) fn stored(job: &JobId, what: &str, cause: impl std::fmt::Display) -> Self {
        Self::Stored(format!("job `{job}`: stored {what}: {cause}").into())
    }

    /// Tells whether another process made the same row meanwhile, so that the
    /// step sees it if it is run again.
    pub(super) fn is_race(&self) -> bool {
        matches!(self, Self::Database(error) if error.unique_key().is_some())
    }

    pub(super) fn at(self, at: At) -> Error {
        match self {
            Self::Database(error) => translate(at, error),
            Self::Scheduler(error) => error,
            Self::Stored(cause) => Error::Internal { at, cause },
        }
    }
}

impl From<db::Error> for Failure {
    fn from(error: db::Error) -> Self {
        Self::Database(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Scheduler(error)
    }
}

impl From<InvalidSchedule> for Failure {
    fn from(error: InvalidSchedule) -> Self {
        Self::Stored(error.into())
    }
}

impl From<InvalidFence> for Failure {
    fn from(error: InvalidFence) -> Self {
        Self::Stored(error.into())
    }
}

/// | database | scheduler |
/// |---|---|
/// | `Timeout` | `Timeout` |
/// | `Unavailable`, `Exhausted`, `Denied`, `Interrupted`, a deadlock that stays | `Unavailable` |
/// | `OutcomeUnknown`, `Unsupported`, `Closed` | the same |
/// | all others | `Internal`: the statements are this crate's |
fn translate(at: At, error: db::Error) -> Error {
    match error {
        db::Error::Timeout { after, limit, .. } => Error::Timeout { at, after, limit },
        db::Error::Closed { .. } => Error::Closed { at },
        db::Error::OutcomeUnknown { .. } => Error::OutcomeUnknown { at, cause: error.into() },
        db::Error::Unsupported { .. } => {
            Error::Unsupported { at, detail: error.to_string().into() }
        }
        db::Error::Unavailable { reason: db::Unavailable::NotStarted, .. } => {
            let reason = Unavailable::NotStarted;
            Error::Unavailable { at, reason, cause: Some(error.into()) }
        }
        db::Error::Unavailable { .. }
        | db::Error::Exhausted { .. }
        | db::Error::Denied { .. }
        | db::Error::Interrupted { .. }
        | db::Error::Conflict { conflict: db::Conflict::Deadlock, .. } => {
            let reason = Unavailable::Unreachable;
            Error::Unavailable { at, reason, cause: Some(error.into()) }
        }
        error => Error::Internal { at, cause: error.into() },
    }
}
