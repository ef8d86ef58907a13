mod server;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use trine_core::{BoxError, ErrorKind, Fault};

use crate::{ConfigError, InvalidKey};

pub use server::ServerError;

/// What a Redis operation answers.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Which operation failed, and on which connection of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At {
    operation: &'static str,
    connection: Arc<str>,
}

impl At {
    pub(crate) fn new(operation: &'static str, connection: &Arc<str>) -> Self {
        Self { operation, connection: Arc::clone(connection) }
    }

    /// Returns the operation, such as `"run"`.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        self.operation
    }

    /// Returns the name of the connection, such as `"redis.main"`.
    #[must_use]
    pub fn connection(&self) -> &str {
        &self.connection
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.connection, self.operation)
    }
}

/// Why a Redis operation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration breaks a rule.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A key or a namespace breaks a rule.
    #[error(transparent)]
    Key(#[from] InvalidKey),
    /// The command can never be accepted.
    #[error("{at}: {detail}")]
    Invalid {
        /// Where it failed.
        at: At,
        /// What is wrong, and what was expected.
        detail: Cow<'static, str>,
        /// What the server said, if it was asked.
        #[source]
        cause: Option<BoxError>,
    },
    /// What is stored is in the way: a group that exists already.
    #[error("{at}: the server found a conflict")]
    Conflict {
        /// Where it failed.
        at: At,
        /// What the server said.
        #[source]
        cause: BoxError,
    },
    /// The user may not do this, or was not let in.
    #[error("{at}: access denied")]
    Denied {
        /// Where it failed.
        at: At,
        /// What the server said.
        #[source]
        cause: BoxError,
    },
    /// The answer to a read did not arrive in time, or nothing was sent.
    #[error("{at}: no answer in {after:?} ({limit})")]
    Timeout {
        /// Where it failed.
        at: At,
        /// How long it was given.
        after: Duration,
        /// The setting or deadline that ended it.
        limit: &'static str,
    },
    /// The server is away or refuses work for now; nothing happened.
    #[error("{at}: {reason}")]
    Unavailable {
        /// Where it failed.
        at: At,
        /// Why.
        reason: Unavailable,
        /// What the server or the network said, if it was asked.
        #[source]
        cause: Option<BoxError>,
    },
    /// All dedicated connections stayed taken.
    #[error("{at}: no free connection in {waited:?} ({in_use} of {max} in use; {setting})")]
    Exhausted {
        /// Where it failed.
        at: At,
        /// How long the call waited.
        waited: Duration,
        /// How many are taken.
        in_use: usize,
        /// How many there are.
        max: usize,
        /// The setting that bounds them.
        setting: &'static str,
    },
    /// The server has no memory left for the write.
    #[error("{at}: the server is out of memory")]
    OutOfMemory {
        /// Where it failed.
        at: At,
        /// What the server said.
        #[source]
        cause: BoxError,
    },
    /// The service was shut down.
    #[error("{at}: the service is shut down")]
    Closed {
        /// Where it failed.
        at: At,
    },
    /// This server cannot do that, and never will.
    #[error("{at}: {what}")]
    Unsupported {
        /// Where it failed.
        at: At,
        /// What is missing.
        what: Cow<'static, str>,
        /// What the server said, if it was asked.
        #[source]
        cause: Option<BoxError>,
    },
    /// A write was sent, and nobody knows whether it happened.
    #[error("{at}: outcome unknown")]
    OutcomeUnknown {
        /// Where it failed.
        at: At,
        /// What ended the wait for the answer.
        #[source]
        cause: BoxError,
    },
    /// A reply is not what the caller expects.
    #[error("{at}: expected {expected}, found {found}")]
    Codec {
        /// Where it failed.
        at: At,
        /// The type asked for.
        expected: &'static str,
        /// The kind of value that is there.
        found: &'static str,
    },
    /// A defect in this crate, the driver or the server.
    #[error("{at}: internal error")]
    Internal {
        /// Where it failed.
        at: At,
        /// What the driver said.
        #[source]
        cause: BoxError,
    },
}

/// Why Redis does not take work now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unavailable {
    /// No connection could be made; the next attempt is under way or due.
    Unreachable,
    /// The connection broke before the answer to a read came.
    Broken,
    /// The server refuses: loading, demoted, busy, too many clients.
    Refused,
    /// The service was not started, or a start is still under way.
    NotStarted,
    /// No master is known: a slot without owner, or none that the sentinels
    /// name.
    NoMaster,
    /// The command was sent on more often than is allowed.
    Redirected,
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreachable => "the server is unreachable",
            Self::Broken => "the connection broke",
            Self::Refused => "the server refuses work",
            Self::NotStarted => "the service is not started",
            Self::NoMaster => "no master is known",
            Self::Redirected => "redirected too often",
        })
    }
}

impl Error {
    /// Returns the shared kind to branch on.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Config(_) | Self::Key(_) | Self::Invalid { .. } => ErrorKind::Invalid,
            Self::Conflict { .. } => ErrorKind::Conflict,
            Self::Denied { .. } => ErrorKind::Denied,
            Self::Timeout { .. } => ErrorKind::Timeout,
            Self::Unavailable { .. } => ErrorKind::Unavailable,
            Self::Exhausted { .. } | Self::OutOfMemory { .. } => ErrorKind::Exhausted,
            Self::Closed { .. } => ErrorKind::Closed,
            Self::Unsupported { .. } => ErrorKind::Unsupported,
            Self::OutcomeUnknown { .. } => ErrorKind::OutcomeUnknown,
            Self::Codec { .. } => ErrorKind::Codec,
            Self::Internal { .. } => ErrorKind::Internal,
        }
    }

    /// Tells whether the same call may succeed later without anybody's help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.kind().is_retryable()
    }

    /// Returns where the operation failed, if it got as far as a connection.
    #[must_use]
    pub fn at(&self) -> Option<&At> {
        match self {
            Self::Config(_) | Self::Key(_) => None,
            Self::Invalid { at, .. }
            | Self::Conflict { at, .. }
            | Self::Denied { at, .. }
            | Self::Timeout { at, .. }
            | Self::Unavailable { at, .. }
            | Self::Exhausted { at, .. }
            | Self::OutOfMemory { at, .. }
            | Self::Closed { at }
            | Self::Unsupported { at, .. }
            | Self::OutcomeUnknown { at, .. }
            | Self::Codec { at, .. }
            | Self::Internal { at, .. } => Some(at),
        }
    }

    /// Returns what the server answered, if it did: the code of a script's own
    /// `redis.error_reply` for one.
    #[must_use]
    pub fn server(&self) -> Option<&ServerError> {
        std::error::Error::source(self)?.downcast_ref()
    }

    pub(crate) fn invalid(at: At, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::Invalid { at, detail: detail.into(), cause: None }
    }

    pub(crate) fn unavailable(at: At, reason: Unavailable) -> Self {
        Self::Unavailable { at, reason, cause: None }
    }
}

impl Fault for Error {
    fn kind(&self) -> ErrorKind {
        self.kind()
    }
}
