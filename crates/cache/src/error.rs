use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use trine_core::{BoxError, ErrorKind, Fault};

use crate::{ConfigError, InvalidKey, Key, Reply};

/// What a cache operation answers.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Which operation failed, and on which cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At {
    operation: &'static str,
    cache: Arc<str>,
}

impl At {
    /// Returns the place of `operation` on the cache called `cache`, for
    /// backends of one's own.
    #[must_use]
    pub fn new(operation: &'static str, cache: &Arc<str>) -> Self {
        Self { operation, cache: Arc::clone(cache) }
    }

    /// Returns the operation, such as `"get"`.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        self.operation
    }

    /// Returns the name of the cache, such as `"cache.default"`.
    #[must_use]
    pub fn cache(&self) -> &str {
        &self.cache
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.cache, self.operation)
    }
}

/// Why a cache operation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration breaks a rule.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A text is no key.
    #[error("cache: {0}")]
    Key(#[from] InvalidKey),
    /// The operation can never be accepted as it stands.
    #[error("{at}: {detail}")]
    Invalid {
        /// Where it failed.
        at: At,
        /// What is wrong, and what was expected.
        detail: Cow<'static, str>,
        /// What the store said, if it was asked.
        #[source]
        cause: Option<BoxError>,
    },
    /// What is under the key is of another type than the operation needs.
    #[error("{at}: key `{key}` holds {found}, expected {expected}")]
    WrongType {
        /// Where it failed.
        at: At,
        /// The key.
        key: Key,
        /// What the operation needs, such as `a hash`.
        expected: &'static str,
        /// What is there, where the store tells it.
        found: &'static str,
    },
    /// The account may not do this.
    #[error("{at}: access denied")]
    Denied {
        /// Where it failed.
        at: At,
        /// What the store said.
        #[source]
        cause: BoxError,
    },
    /// The answer to a read did not arrive in time.
    #[error("{at}: no answer in {after:?} ({limit})")]
    Timeout {
        /// Where it failed.
        at: At,
        /// How long it was given.
        after: Duration,
        /// The setting or deadline that ended it.
        limit: &'static str,
    },
    /// The store is away or refuses work for now.
    #[error("{at}: {reason}")]
    Unavailable {
        /// Where it failed.
        at: At,
        /// Why.
        reason: Unavailable,
        /// What the store or the connection said, if it was asked.
        #[source]
        cause: Option<BoxError>,
    },
    /// The store is full and may not evict.
    #[error("{at}: the store is full ({used} of {max} bytes; {setting})")]
    Exhausted {
        /// Where it failed.
        at: At,
        /// Bytes in use; 0 if the store does not tell.
        used: u64,
        /// Bytes there may be; 0 if the store does not tell.
        max: u64,
        /// The setting that bounds them.
        setting: &'static str,
    },
    /// The service was shut down.
    #[error("{at}: the service is shut down")]
    Closed {
        /// Where it failed.
        at: At,
    },
    /// A newer token has been shown for the key.
    #[error("{at}: stale fence {token} for `{key}`, {seen} was shown")]
    Fenced {
        /// Where it failed.
        at: At,
        /// The fence key.
        key: Box<str>,
        /// The refused token.
        token: u64,
        /// The highest token so far.
        seen: u64,
    },
    /// The backend cannot do this.
    #[error("{at}: {what} is not supported by {backend}")]
    Unsupported {
        /// Where it failed.
        at: At,
        /// What was asked for.
        what: &'static str,
        /// The backend's name, and its state where that is the reason.
        backend: Cow<'static, str>,
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
    /// Stored bytes are not what the caller expects, or a value cannot be
    /// encoded.
    #[error("{at}: key `{key}`: not {expected}")]
    Codec {
        /// Where it failed.
        at: At,
        /// The key.
        key: Key,
        /// What was expected.
        expected: &'static str,
        /// What the codec said.
        #[source]
        cause: BoxError,
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
    /// The system has no random bytes.
    #[error("cache: no random bytes")]
    Random {
        /// What the system said.
        #[source]
        cause: BoxError,
    },
    /// A backend answered one kind of operation with the reply of another.
    #[error("cache: expected a reply {expected}, found {found}")]
    Reply {
        /// The kind asked for.
        expected: &'static str,
        /// What was there instead, without any stored value.
        found: &'static str,
    },
}

/// Why a cache does not take work now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unavailable {
    /// No connection could be made, or it broke before anything was sent.
    Unreachable,
    /// The server refuses: loading, failing over, too many connections, read
    /// only.
    Refused,
    /// The service was not started, or a start is still under way.
    NotStarted,
    /// Others kept changing what this call was to change.
    Contended,
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreachable => "the store is unreachable",
            Self::Refused => "the store refuses work",
            Self::NotStarted => "the service is not started",
            Self::Contended => "others kept changing it",
        })
    }
}

impl Error {
    /// Returns the shared kind to branch on.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Config(_) | Self::Key(_) | Self::Invalid { .. } | Self::WrongType { .. } => {
                ErrorKind::Invalid
            }
            Self::Denied { .. } => ErrorKind::Denied,
            Self::Timeout { .. } => ErrorKind::Timeout,
            Self::Unavailable { .. } => ErrorKind::Unavailable,
            Self::Exhausted { .. } => ErrorKind::Exhausted,
            Self::Closed { .. } => ErrorKind::Closed,
            Self::Fenced { .. } => ErrorKind::Fenced,
            Self::Unsupported { .. } => ErrorKind::Unsupported,
            Self::OutcomeUnknown { .. } => ErrorKind::OutcomeUnknown,
            Self::Codec { .. } => ErrorKind::Codec,
            Self::Internal { .. } | Self::Random { .. } | Self::Reply { .. } => ErrorKind::Internal,
        }
    }

    /// Tells whether the same call may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.kind().is_retryable()
    }

    pub(crate) fn invalid(at: At, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::Invalid { at, detail: detail.into(), cause: None }
    }

    pub(crate) fn unavailable(at: At, reason: Unavailable) -> Self {
        Self::Unavailable { at, reason, cause: None }
    }

    pub(crate) fn unexpected_reply(expected: &'static str, found: &Reply) -> Self {
        let found = match found {
            Reply::Applied(_) => "Applied",
            Reply::Count(_) => "Count",
            Reply::Int(_) => "Int",
            Reply::Value(_) => "Value",
            Reply::Values(_) => "Values",
            Reply::Members(_) => "Members",
            Reply::Pairs(_) => "Pairs",
            Reply::Fields(_) => "Fields",
            Reply::Flags(_) => "Flags",
            Reply::Score(_) => "Score",
            Reply::Scores(_) => "Scores",
            Reply::Ranked(_) => "Ranked",
            Reply::Scored(_) => "Scored",
            Reply::Lifetime(_) => "Lifetime",
            Reply::Time(_) => "Time",
            Reply::Failed(_) => "Failed",
        };
        Self::Reply { expected, found }
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
