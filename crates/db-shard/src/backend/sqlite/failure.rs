use std::io;
use std::sync::Arc;

use super::translate::{Phase, translate};
use crate::backend::Call;
use crate::error::At;
use crate::{Conflict, Error, InvalidColumn, Unavailable};

/// Why a job failed, before it is known for whom: the callers of one group
/// share a failure, and each says where it met it.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    /// What the driver said, and what was going on.
    Driver(Arc<sqlx::Error>, Phase),
    /// Another handle or process has the database.
    Held(Box<str>),
    /// The folder or the lock file cannot be used.
    Io(Arc<io::Error>),
    /// More rows than the call gathers.
    TooManyRows,
    /// A comment or quote of the text does not end.
    OpenEnd,
    /// A stored text is not UTF-8.
    Cell(InvalidColumn),
    /// The deadline passed, or the caller left: nothing was changed.
    Late,
    /// The turn to write did not come in time.
    NoTurn,
    /// The transaction was ended from outside.
    Ended(&'static str),
    /// The handle is closed.
    Closed,
    /// The writer ended before the job began.
    Gone,
    /// The writer ended, or was not heard of, while the job ran.
    Unknown(Option<Arc<sqlx::Error>>),
}

impl Failure {
    pub(super) fn driver(error: sqlx::Error, phase: Phase) -> Self {
        Self::Driver(Arc::new(error), phase)
    }

    /// Tells whether the connection is of no use any more.
    pub(super) fn breaks_connection(&self) -> bool {
        match self {
            Self::Driver(error, _) => super::translate::breaks_connection(error),
            Self::Unknown(_) => true,
            _ => false,
        }
    }

    /// Tells whether the connection's thread ended on it.
    pub(super) fn is_crash(&self) -> bool {
        matches!(self, Self::Driver(error, _) if matches!(**error, sqlx::Error::WorkerCrashed))
    }

    /// Returns the same failure of a statement that only reads.
    pub(super) fn of_read(self) -> Self {
        match self {
            Self::Driver(error, _) => Self::Driver(error, Phase::Read),
            other => other,
        }
    }

    /// Returns the same failure of a step that may have committed.
    pub(super) fn at_commit(self) -> Self {
        match self {
            Self::Driver(error, _) => Self::Driver(error, Phase::Commit),
            other => other,
        }
    }

    /// Returns the error of the caller at `at`. [`NoTurn`](Self::NoTurn) has
    /// numbers that only the backend knows.
    pub(super) fn into_error(self, at: At, call: &Call) -> Error {
        match self {
            Self::Driver(error, phase) => translate(at, call, error, phase),
            Self::Held(holder) => {
                Error::Conflict { at, conflict: Conflict::HeldBy { holder }, cause: None }
            }
            Self::Io(error) => Error::Unavailable {
                at,
                reason: Unavailable::Unreachable,
                cause: Some(Box::new(error)),
            },
            Self::TooManyRows => call.too_many_rows(at),
            Self::OpenEnd => Error::invalid(at, "a comment in the text does not end"),
            Self::Cell(column) => column.at(at),
            Self::Late | Self::NoTurn => {
                Error::Timeout { at, after: call.after, limit: call.limit }
            }
            Self::Ended(reason) => Error::Interrupted { at, reason },
            Self::Closed => Error::Closed { at },
            Self::Gone => Error::unavailable(at, Unavailable::Unreachable),
            Self::Unknown(cause) => Error::OutcomeUnknown {
                at,
                ticket: None,
                cause: cause.map(|cause| Box::new(cause) as _),
            },
        }
    }
}
