use std::sync::Arc;
use std::time::Duration;

use redis::RedisError;
use trine_core::Refused;

use super::Outcome;
use crate::command::Access;
use crate::dial::Refusal;
use crate::error::At;
use crate::{Error, ServerError, Unavailable, Value};

/// Why a command has no reply, before it is known whose call it was.
#[derive(Clone, Debug)]
pub(crate) enum Trouble {
    /// Not sent: there is no connection.
    Away(Arc<Refusal>),
    /// Not sent: no connection was made in time.
    NoConnection { after: Duration, is_callers: bool },
    /// Not sent: nobody knows a node for it.
    NoMaster,
    /// Not sent: the deadline of the call had passed.
    TooLate,
    /// Not sent: the service is shut down.
    Closed,
    /// Not sent: the service was not started.
    NotStarted,
    /// Not sent: the node has left, and the topology knows who has its keys.
    Retired,
    /// Not sent: an earlier part of the batch was lost.
    Skipped,
    /// Not sent: it breaks a rule.
    Invalid(&'static str),
    /// Sent, and no reply in time.
    Late { after: Duration, limit: &'static str },
    /// Sent, or about to be, when the connection broke.
    Lost(RedisError),
    /// Refused by the server.
    Server(ServerError),
}

impl Trouble {
    /// Keeps a reply apart from a refusal.
    pub(crate) fn checked(value: Value) -> Outcome {
        match value {
            Value::Error(error) => Err(Self::Server(error)),
            value => Ok(value),
        }
    }

    /// The service takes no calls.
    pub(crate) fn of_life(refused: Refused) -> Self {
        match refused {
            Refused::Closed => Self::Closed,
            Refused::NotStarted | Refused::Failed => Self::NotStarted,
        }
    }

    /// The connection ended without a word.
    pub(crate) fn broken() -> Self {
        Self::Lost(std::io::Error::from(std::io::ErrorKind::BrokenPipe).into())
    }

    /// Of what the driver asks by itself.
    pub(crate) fn of_driver(error: RedisError) -> Self {
        match error.code() {
            Some(code) => Self::Server(ServerError::said(code, error.detail().unwrap_or_default())),
            None => Self::Lost(error),
        }
    }

    /// Tells whether another node, or the same one later, may carry the command
    /// out: nothing of it has happened.
    pub(crate) fn is_elsewhere(&self) -> bool {
        match self {
            Self::Server(error) => error.is_redirect(),
            Self::Retired => true,
            _ => false,
        }
    }

    /// Tells whether the server takes no writes any more.
    pub(crate) fn is_demotion(&self) -> bool {
        matches!(self, Self::Server(error) if error.code() == "READONLY")
    }

    /// Tells whether the reply may have been lost on the way.
    pub(crate) fn is_lost(&self) -> bool {
        matches!(self, Self::Late { .. } | Self::Lost(_))
    }

    pub(crate) fn into_error(self, at: At, access: Access) -> Error {
        match self {
            Self::Away(refusal) => refusal.to_error(at),
            Self::NoConnection { after, is_callers: true } => {
                Error::Timeout { at, after, limit: "deadline of the call" }
            }
            Self::NoConnection { .. } => Error::unavailable(at, Unavailable::Unreachable),
            Self::NoMaster | Self::Retired => Error::unavailable(at, Unavailable::NoMaster),
            Self::TooLate => {
                let limit = "deadline of the call, which had passed";
                Error::Timeout { at, after: Duration::ZERO, limit }
            }
            Self::Closed => Error::Closed { at },
            Self::NotStarted => Error::unavailable(at, Unavailable::NotStarted),
            Self::Skipped => Error::unavailable(at, Unavailable::Broken),
            Self::Invalid(detail) => Error::invalid(at, detail),
            Self::Late { after, limit } => match access {
                Access::Read => Error::Timeout { at, after, limit },
                Access::Write => {
                    let cause = format!("no answer in {after:?} ({limit})").into();
                    Error::OutcomeUnknown { at, cause }
                }
            },
            Self::Lost(error) => match access {
                Access::Read => Error::Unavailable {
                    at,
                    reason: Unavailable::Broken,
                    cause: Some(error.into()),
                },
                Access::Write => Error::OutcomeUnknown { at, cause: error.into() },
            },
            Self::Server(error) => error.into_error(at),
        }
    }
}
