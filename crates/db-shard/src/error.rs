use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use trine_core::{BoxError, ErrorKind, Fault, InvalidMigrations};

use crate::{ConfigError, ShardId, ShardStatus, Ticket};

/// What a database operation answers.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Which operation failed, and on which database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At {
    operation: &'static str,
    database: DatabaseName,
}

impl At {
    /// Returns the place of `operation` on `database`, for engines of one's own.
    #[must_use]
    pub fn new(operation: &'static str, database: &DatabaseName) -> Self {
        Self { operation, database: database.clone() }
    }

    /// Returns the operation, such as `"query"`.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        self.operation
    }

    /// Returns the database it ran on.
    #[must_use]
    pub fn database(&self) -> &DatabaseName {
        &self.database
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "db {} {}", self.operation, self.database)
    }
}

/// The part that a physical database plays.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DatabaseName {
    /// The one that holds the shard map.
    Global,
    /// One of the shards.
    Shard(ShardId),
    /// A database outside a service, by the name that the host gave it.
    Named(Arc<str>),
}

impl fmt::Display for DatabaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Global => f.write_str("global"),
            Self::Shard(id) => write!(f, "shard {id}"),
            Self::Named(name) => f.write_str(name),
        }
    }
}

/// Why a database operation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration breaks a rule.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A migration set breaks a rule.
    #[error(transparent)]
    Migrations(#[from] InvalidMigrations),
    /// The statement or one of its values can never be accepted.
    #[error("{at}: {detail}")]
    Invalid {
        /// Where it failed.
        at: At,
        /// What is wrong, and what was expected.
        detail: Cow<'static, str>,
        /// What the driver said, if it was asked.
        #[source]
        cause: Option<BoxError>,
    },
    /// What the call names does not exist.
    #[error("{at}: no {subject}")]
    NotFound {
        /// Where it failed.
        at: At,
        /// What was looked for.
        subject: Cow<'static, str>,
    },
    /// The write contradicts what is stored, or lost a race.
    #[error("{at}: {conflict}")]
    Conflict {
        /// Where it failed.
        at: At,
        /// Which rule was broken.
        conflict: Conflict,
        /// What the driver said.
        #[source]
        cause: Option<BoxError>,
    },
    /// The account may not do this.
    #[error("{at}: access denied")]
    Denied {
        /// Where it failed.
        at: At,
        /// What the driver said.
        #[source]
        cause: BoxError,
    },
    /// The answer did not arrive in time; a read, or a write that was refused.
    #[error("{at}: no answer in {after:?} ({limit})")]
    Timeout {
        /// Where it failed.
        at: At,
        /// How long it was given.
        after: Duration,
        /// The setting or deadline that ended it.
        limit: &'static str,
    },
    /// The database is away or refuses work for now.
    #[error("{at}: {reason}")]
    Unavailable {
        /// Where it failed.
        at: At,
        /// Why.
        reason: Unavailable,
        /// What the driver said, if it was asked.
        #[source]
        cause: Option<BoxError>,
    },
    /// All connections, or all places of a tenant, stayed taken.
    #[error(
        "{at}: no free {what} in {waited:?} ({in_use} of {max} in use, {waiting} waiting; {setting})"
    )]
    Exhausted {
        /// Where it failed.
        at: At,
        /// What was waited for: `connection`, `place of tenant`.
        what: &'static str,
        /// How long the call waited.
        waited: Duration,
        /// How many are taken.
        in_use: usize,
        /// How many there are.
        max: usize,
        /// How many other calls wait.
        waiting: usize,
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
    /// The engine cannot do this.
    #[error("{at}: {what} is not supported by {engine}")]
    Unsupported {
        /// Where it failed.
        at: At,
        /// What was asked for.
        what: &'static str,
        /// The engine's name.
        engine: &'static str,
    },
    /// The work was stopped before it finished.
    #[error("{at}: {reason}")]
    Interrupted {
        /// Where it failed.
        at: At,
        /// What stopped it.
        reason: &'static str,
    },
    /// A write was sent, and nobody knows whether it happened.
    #[error("{at}: outcome unknown")]
    OutcomeUnknown {
        /// Where it failed.
        at: At,
        /// What [`Database::outcome`](crate::Database::outcome) can be asked
        /// with, if the transaction had a ticket.
        ticket: Option<Ticket>,
        /// What ended the wait for the answer.
        #[source]
        cause: Option<BoxError>,
    },
    /// A stored value is not what the caller expects.
    #[error("{at}: column `{column}`: expected {expected}, found {found}")]
    Codec {
        /// Where it failed.
        at: At,
        /// The column's name.
        column: Box<str>,
        /// The type asked for.
        expected: Cow<'static, str>,
        /// The kind of value that is there.
        found: Cow<'static, str>,
    },
    /// A defect in this crate, the driver or the database.
    #[error("{at}: internal error")]
    Internal {
        /// Where it failed.
        at: At,
        /// What the driver said.
        #[source]
        cause: BoxError,
    },
}

/// Which rule a write broke.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Conflict {
    /// Another row has the same value under a unique key.
    UniqueKey {
        /// The key's name, where the engine tells it.
        key: Option<Box<str>>,
    },
    /// Two transactions waited for each other and this one was chosen to end.
    Deadlock,
    /// Another process has the database or a migration.
    HeldBy {
        /// Who holds what.
        holder: Box<str>,
    },
    /// Migrations are pending, and `migrate = "check"` applies none.
    PendingMigrations {
        /// `owner 3 name` of each; those of further databases after their
        /// names.
        listed: Box<str>,
    },
    /// The operation contradicts the state of what it names.
    State {
        /// The state that is in the way.
        found: Cow<'static, str>,
    },
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UniqueKey { key: Some(key) } => {
                write!(f, "duplicate value for unique key `{key}`")
            }
            Self::UniqueKey { key: None } => f.write_str("duplicate value for a unique key"),
            Self::Deadlock => f.write_str("deadlock, rolled back"),
            Self::HeldBy { holder } => write!(f, "held by {holder}"),
            Self::PendingMigrations { listed } => write!(
                f,
                "pending migrations: {listed}; \
                 apply them with `trine_db_shard::migrate` or `trine-starter migrate`"
            ),
            Self::State { found } => f.write_str(found),
        }
    }
}

/// Why a database does not take work now.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unavailable {
    /// No connection could be made, or it broke before anything was sent.
    Unreachable,
    /// The server refuses: too many connections, shutting down, read only.
    Refused,
    /// The service was not started, or a start is still under way.
    NotStarted,
    /// The status of the shard forbids the call.
    Status(ShardStatus),
    /// The key is being moved to another shard.
    Moving,
    /// No shard takes new keys; the chain says why for each.
    NoShard,
    /// What this process knows of the shard map is too old to act on.
    StaleMap,
    /// The shard has not been proved since this process knows it; the chain
    /// says why.
    NotProved,
    /// The shard map has the shard, and this process cannot use what the map
    /// says of it; the chain says why.
    LeftOut,
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable => f.write_str("the database is unreachable"),
            Self::Refused => f.write_str("the server refuses work"),
            Self::NotStarted => f.write_str("the service is not started"),
            Self::Status(status) => write!(f, "the shard is {status}"),
            Self::Moving => f.write_str("the key is being moved"),
            Self::NoShard => f.write_str("no shard takes new keys"),
            Self::StaleMap => f.write_str("the shard map is older than its lease"),
            Self::NotProved => f.write_str("the shard is not ready yet"),
            Self::LeftOut => f.write_str("this process cannot use the shard"),
        }
    }
}

impl Error {
    /// Returns the shared kind to branch on.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Config(_) | Self::Migrations(_) | Self::Invalid { .. } => ErrorKind::Invalid,
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Conflict { .. } => ErrorKind::Conflict,
            Self::Denied { .. } => ErrorKind::Denied,
            Self::Timeout { .. } => ErrorKind::Timeout,
            Self::Unavailable { .. } => ErrorKind::Unavailable,
            Self::Exhausted { .. } => ErrorKind::Exhausted,
            Self::Closed { .. } => ErrorKind::Closed,
            Self::Fenced { .. } => ErrorKind::Fenced,
            Self::Unsupported { .. } => ErrorKind::Unsupported,
            Self::Interrupted { .. } => ErrorKind::Interrupted,
            Self::OutcomeUnknown { .. } => ErrorKind::OutcomeUnknown,
            Self::Codec { .. } => ErrorKind::Codec,
            Self::Internal { .. } => ErrorKind::Internal,
        }
    }

    /// Tells whether the same call may succeed later: what is
    /// [retryable by kind](ErrorKind::is_retryable), and a deadlock.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.is_deadlock() || self.kind().is_retryable()
    }

    /// Tells whether the database ended the transaction to break a deadlock.
    #[must_use]
    pub fn is_deadlock(&self) -> bool {
        matches!(self, Self::Conflict { conflict: Conflict::Deadlock, .. })
    }

    /// Tells whether a unique key refused the write, and returns the key's
    /// name where the engine tells it.
    #[must_use]
    pub fn unique_key(&self) -> Option<Option<&str>> {
        match self {
            Self::Conflict { conflict: Conflict::UniqueKey { key }, .. } => Some(key.as_deref()),
            _ => None,
        }
    }

    /// Returns where the operation failed, if it got as far as a database.
    #[must_use]
    pub fn at(&self) -> Option<&At> {
        match self {
            Self::Config(_) | Self::Migrations(_) => None,
            Self::Invalid { at, .. }
            | Self::NotFound { at, .. }
            | Self::Conflict { at, .. }
            | Self::Denied { at, .. }
            | Self::Timeout { at, .. }
            | Self::Unavailable { at, .. }
            | Self::Exhausted { at, .. }
            | Self::Closed { at }
            | Self::Fenced { at, .. }
            | Self::Unsupported { at, .. }
            | Self::Interrupted { at, .. }
            | Self::OutcomeUnknown { at, .. }
            | Self::Codec { at, .. }
            | Self::Internal { at, .. } => Some(at),
        }
    }

    pub(crate) fn invalid(at: At, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::Invalid { at, detail: detail.into(), cause: None }
    }

    pub(crate) fn not_found(at: At, subject: impl Into<Cow<'static, str>>) -> Self {
        Self::NotFound { at, subject: subject.into() }
    }

    pub(crate) fn unavailable(at: At, reason: Unavailable) -> Self {
        Self::Unavailable { at, reason, cause: None }
    }

    pub(crate) fn state(at: At, found: impl Into<Cow<'static, str>>) -> Self {
        Self::Conflict { at, conflict: Conflict::State { found: found.into() }, cause: None }
    }
}

impl Fault for Error {
    fn kind(&self) -> ErrorKind {
        self.kind()
    }

    fn is_retryable(&self) -> bool {
        self.is_retryable()
    }

    fn public_detail(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Unavailable { reason: Unavailable::Status(status), .. } => {
                Some(format!("the shard is {status}").into())
            }
            Self::Unavailable { reason: Unavailable::Moving, .. } => {
                Some("the account is being moved".into())
            }
            _ => None,
        }
    }
}
