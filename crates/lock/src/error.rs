use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use trine_core::{BoxError, ErrorKind, Fault};

use crate::{ConfigError, Holder, InvalidKey, Key};

/// What a lock operation answers.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Which operation failed, and on which service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At {
    operation: &'static str,
    service: Arc<str>,
}

impl At {
    /// Returns the place of `operation` on the locks called `service`, for
    /// backends of one's own.
    #[must_use]
    pub fn new(operation: &'static str, service: &Arc<str>) -> Self {
        Self { operation, service: Arc::clone(service) }
    }

    /// Returns the operation, such as `"acquire"`.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        self.operation
    }

    /// Returns the name of the service, such as `"lock.default"`.
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

/// Why a lock operation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration breaks a rule.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A text is no key.
    #[error("lock: {0}")]
    Key(#[from] InvalidKey),
    /// The operation can never be accepted as it stands.
    #[error("{at}: {detail}")]
    Invalid {
        /// Where it failed.
        at: At,
        /// What is wrong, and what was expected.
        detail: Cow<'static, str>,
    },
    /// The key was somebody's for all of the wait. Only where the body of a
    /// `with_lock` could not begin: the other calls answer it.
    #[error("{at}: key `{key}` is held by {holder}")]
    TimedOut {
        /// Where it failed.
        at: At,
        /// The key.
        key: Key,
        /// Who had it last.
        holder: Box<Holder>,
    },
    /// The lock was lost. What its holder had done stays done.
    #[error("{at}: key `{key}` was lost")]
    Lost {
        /// Where it was noticed.
        at: At,
        /// The key.
        key: Key,
    },
    /// A resource did not accept the fence of a new guard.
    #[error("{at}: the fence of key `{key}` was not raised")]
    NotRaised {
        /// Where it failed.
        at: At,
        /// The key.
        key: Key,
        /// The kind of what the resource said.
        kind: ErrorKind,
        /// What the resource said.
        #[source]
        cause: BoxError,
    },
    /// The account may not do this at the store.
    #[error("{at}: access denied")]
    Denied {
        /// Where it failed.
        at: At,
        /// What the store said.
        #[source]
        cause: BoxError,
    },
    /// The store is full.
    #[error("{at}: the store is full")]
    Exhausted {
        /// Where it failed.
        at: At,
        /// What the store said.
        #[source]
        cause: BoxError,
    },
    /// The store cannot do this.
    #[error("{at}: {what} is not supported by {backend}")]
    Unsupported {
        /// Where it failed.
        at: At,
        /// What was asked for.
        what: &'static str,
        /// The backend's name, and its state where that is the reason.
        backend: Cow<'static, str>,
    },
    /// The store gave no answer in time; nothing is known of the key.
    #[error("{at}: no answer in {after:?} ({limit})")]
    Timeout {
        /// Where it failed.
        at: At,
        /// How long it was given.
        after: Duration,
        /// The setting, option or deadline that ended it.
        limit: &'static str,
    },
    /// The store is away or grants nothing for now.
    #[error("{at}: {reason}")]
    Unavailable {
        /// Where it failed.
        at: At,
        /// Why.
        reason: Unavailable,
        /// How long to wait before the next try, where it is known.
        retry_after: Option<Duration>,
        /// What the store or the connection said, if it was asked.
        #[source]
        cause: Option<BoxError>,
    },
    /// The database has not the tables of locks.
    #[error(
        "{at}: no table `{table}`: apply the migration set `{set}` (`trine_lock::migrations`) \
         with `trine_db_shard::migrate` or `trine-starter migrate`"
    )]
    NoTable {
        /// Where it failed.
        at: At,
        /// The table.
        table: &'static str,
        /// The migration set that makes it.
        set: &'static str,
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

/// Why locks cannot be taken now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unavailable {
    /// The store could not be asked, or its answer was lost.
    Unreachable,
    /// The store refuses work for now.
    Refused,
    /// The store has lost its record of what it granted, and waits until
    /// nobody can hold anything of it.
    Barred,
    /// The service was not started, or a start is still under way.
    NotStarted,
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreachable => "the store is unreachable",
            Self::Refused => "the store refuses work for now",
            Self::Barred => "the store has lost its record and waits",
            Self::NotStarted => "the service is not started",
        })
    }
}

impl Error {
    /// Returns the shared kind to branch on.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Config(_) | Self::Key(_) | Self::Invalid { .. } => ErrorKind::Invalid,
            Self::TimedOut { .. } | Self::Timeout { .. } => ErrorKind::Timeout,
            Self::Lost { .. } | Self::NoTable { .. } => ErrorKind::Conflict,
            Self::NotRaised { kind, .. } => *kind,
            Self::Denied { .. } => ErrorKind::Denied,
            Self::Exhausted { .. } => ErrorKind::Exhausted,
            Self::Unsupported { .. } => ErrorKind::Unsupported,
            Self::Unavailable { .. } => ErrorKind::Unavailable,
            Self::Closed { .. } => ErrorKind::Closed,
            Self::Internal { .. } => ErrorKind::Internal,
        }
    }

    /// Tells whether the same call may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.kind().is_retryable()
    }

    /// Returns how long to wait before the next try, where it is known.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    pub(crate) fn invalid(at: At, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::Invalid { at, detail: detail.into() }
    }

    pub(crate) fn unavailable(at: At, reason: Unavailable, retry_after: Option<Duration>) -> Self {
        Self::Unavailable { at, reason, retry_after, cause: None }
    }
}

impl Fault for Error {
    fn kind(&self) -> ErrorKind {
        self.kind()
    }

    fn is_retryable(&self) -> bool {
        self.is_retryable()
    }

    fn retry_after(&self) -> Option<Duration> {
        self.retry_after()
    }
}
