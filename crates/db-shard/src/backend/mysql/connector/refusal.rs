use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::backend::mysql::translate::number;
use crate::error::At;
use crate::{Error, Unavailable};

/// Why no connection could be made. Callers that come soon after get the same
/// one without another attempt.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    reason: Reason,
    cause: Option<Arc<sqlx::Error>>,
}

#[derive(Clone, Debug)]
pub(super) enum Reason {
    Unreachable,
    TimedOut(Duration),
    /// The server answered that it takes no more.
    Busy,
    Denied,
    /// The two do not understand each other.
    Misunderstood,
    /// The configuration names what is not there.
    Misnamed,
    Unsupported(Arc<str>),
}

impl Refusal {
    pub(super) fn new(reason: Reason, cause: Option<Arc<sqlx::Error>>) -> Self {
        Self { reason, cause }
    }

    pub(crate) fn unknown_server() -> Self {
        Self::new(Reason::Unsupported("a server that does not tell its version".into()), None)
    }

    /// Returns the error for a call that needed the connection.
    pub(crate) fn into_error(self, at: At) -> Error {
        let reason = match &self.reason {
            Reason::Unreachable | Reason::TimedOut(_) | Reason::Misunderstood => {
                Unavailable::Unreachable
            }
            Reason::Busy => Unavailable::Refused,
            Reason::Denied => return Error::Denied { at, cause: Box::new(self) },
            Reason::Misnamed | Reason::Unsupported(_) => {
                let detail = self.to_string().into();
                let cause = self.cause.map(|cause| Box::new(cause) as _);
                return Error::Invalid { at, detail, cause };
            }
        };
        Error::Unavailable { at, reason, cause: Some(Box::new(self)) }
    }
}

impl From<sqlx::Error> for Refusal {
    fn from(error: sqlx::Error) -> Self {
        let reason = match number(&error) {
            Some(1044 | 1045 | 1698 | 1251 | 1862 | 1820 | 3118 | 4151) => Reason::Denied,
            Some(1049) => Reason::Misnamed,
            Some(_) => Reason::Busy,
            None if matches!(error, sqlx::Error::Io(_)) => Reason::Unreachable,
            None => Reason::Misunderstood,
        };
        Self::new(reason, Some(Arc::new(error)))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            Reason::Unreachable => f.write_str("no connection could be made"),
            Reason::TimedOut(after) => {
                write!(f, "no connection could be made in {after:?} (pool.connect_timeout)")
            }
            Reason::Busy => f.write_str("the server refused the connection"),
            Reason::Denied => f.write_str("the server refused the account"),
            Reason::Misunderstood => f.write_str(
                "the login failed; an account with caching_sha2_password needs TLS or the socket",
            ),
            Reason::Misnamed => f.write_str("the server has no database of this name"),
            Reason::Unsupported(found) => {
                write!(f, "expected MySQL 8.0.1 or MariaDB 10.6 or newer, found {found}")
            }
        }
    }
}

impl std::error::Error for Refusal {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as _)
    }
}
