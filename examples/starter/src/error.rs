use std::borrow::Cow;
use std::time::Duration;

use trine_core::{BoxError, ErrorKind, Fault};
use trine_db_shard as db;
use uuid::Uuid;

/// What an operation of the starter answers.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation of the starter failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A field of the request breaks a rule.
    #[error("expected {expected}")]
    Invalid { field: &'static str, expected: Cow<'static, str> },
    /// The e-mail address has an account already.
    #[error("this address has an account already")]
    EmailTaken,
    /// The document does not exist, or belongs to somebody else.
    #[error("no such document")]
    NoDocument,
    /// There is no such shard.
    #[error("no shard {id}")]
    NoShard { id: u32 },
    /// There is no such job.
    #[error("no such job")]
    NoJob,
    /// The job is not paused.
    #[error("the job is not paused")]
    JobNotPaused,
    /// The job runs already, or is about to.
    #[error("the job runs already, since {since}")]
    JobRuns { since: String },
    /// Somebody else imports for the account.
    #[error("the account {account} is being imported to by {holder}")]
    ImportHeld { account: Uuid, holder: String },
    /// Somebody else may have begun to import for the account.
    #[error(
        "the import of the account {account} has lost its lock and ended: what was stored stays, \
         and another import may be under way"
    )]
    ImportLost {
        account: Uuid,
        #[source]
        cause: BoxError,
    },
    /// The account does not exist or the password is another one.
    #[error("the e-mail address or the password is wrong")]
    WrongPassword,
    /// The call shows no token, or one that is unknown or expired.
    #[error("{0}")]
    NoSession(NoSession),
    /// The call shows a token that is not the administrator's.
    #[error("this takes the administrator's token")]
    NotAdmin,
    /// The body is larger than a document may be.
    #[error("the body is larger than 8 MiB")]
    TooLarge,
    /// The body ends too early.
    #[error("the body ends too early")]
    CutOff,
    /// The body is no text.
    #[error("the body is no text in UTF-8")]
    NotText,
    /// The body did not arrive in time.
    #[error("the body did not arrive in time")]
    UploadTimedOut,
    /// Too many documents are in memory already.
    #[error("too many documents are on their way at once")]
    NoPlace,
    /// Too many failed logins of this account or from this address.
    #[error("too many failed logins")]
    TooManyFailures { wait: Duration },
    /// The account has as many sessions as it may.
    #[error("this account has as many sessions as it may have; log out of one first")]
    TooManySessions,
    /// Too many registrations from this address.
    #[error("too many registrations from this address")]
    TooManyRegistrations { wait: Duration },
    /// Too many passwords wait to be hashed.
    #[error("too many logins at once")]
    TooManyHashes,
    /// The system has no random bits to give.
    #[error("no random bits")]
    NoRandomness {
        #[source]
        cause: BoxError,
    },
    /// Something that should never fail did.
    #[error("{what} failed")]
    Internal {
        what: &'static str,
        #[source]
        cause: BoxError,
    },
    /// A database operation failed.
    #[error(transparent)]
    Db(#[from] db::Error),
    /// An operation of the cache failed.
    #[error(transparent)]
    Cache(#[from] trine_cache::Error),
    /// A lock could not be taken or given back.
    #[error(transparent)]
    Lock(#[from] trine_lock::Error),
    /// What is done by itself cannot be.
    #[error(transparent)]
    Jobs(trine_scheduler::Error),
}

/// What is wrong with the token of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoSession {
    /// There is none.
    #[error("this takes an `authorization: Bearer` header with the access token of a session")]
    Missing,
    /// Nobody has such a token, or no longer.
    #[error("the access token is unknown or has expired")]
    Unknown,
}

impl Error {
    pub(crate) fn invalid(field: &'static str, expected: impl Into<Cow<'static, str>>) -> Self {
        Self::Invalid { field, expected: expected.into() }
    }
}

impl Fault for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid { .. } | Self::TooLarge | Self::CutOff | Self::NotText => {
                ErrorKind::Invalid
            }
            Self::UploadTimedOut => ErrorKind::Timeout,
            Self::EmailTaken
            | Self::TooManySessions
            | Self::JobNotPaused
            | Self::JobRuns { .. }
            | Self::ImportHeld { .. }
            | Self::ImportLost { .. } => ErrorKind::Conflict,
            Self::NoDocument | Self::NoShard { .. } | Self::NoJob => ErrorKind::NotFound,
            Self::WrongPassword | Self::NoSession(_) | Self::NotAdmin => ErrorKind::Denied,
            Self::TooManyFailures { .. }
            | Self::TooManyRegistrations { .. }
            | Self::TooManyHashes
            | Self::NoPlace => ErrorKind::Exhausted,
            Self::NoRandomness { .. } => ErrorKind::Unavailable,
            Self::Internal { .. } => ErrorKind::Internal,
            Self::Db(error) => kind_of_backend(error.kind()),
            Self::Cache(error) => kind_of_cache(error.kind()),
            Self::Lock(error) => kind_of_backend(error.kind()),
            Self::Jobs(error) => kind_of_backend(error.kind()),
        }
    }

    fn is_retryable(&self) -> bool {
        match self {
            Self::Db(error) => error.is_retryable(),
            Self::Lock(error) => error.is_retryable(),
            Self::Jobs(error) => error.is_retryable(),
            other => other.kind().is_retryable(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TooManyFailures { wait } | Self::TooManyRegistrations { wait } => Some(*wait),
            Self::TooManyHashes | Self::NoPlace => Some(Duration::from_secs(1)),
            Self::Db(error) => error.retry_after(),
            Self::Cache(_) | Self::Jobs(_) if self.kind() == ErrorKind::Unavailable => {
                Some(Duration::from_secs(1))
            }
            _ => None,
        }
    }

    fn public_detail(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Db(error) => error.public_detail(),
            Self::Cache(_)
            | Self::Lock(_)
            | Self::Jobs(_)
            | Self::Internal { .. }
            | Self::NoRandomness { .. } => None,
            // Written for strangers: they repeat nothing that was stored.
            other => Some(other.to_string().into()),
        }
    }

    fn field(&self) -> Option<&str> {
        match self {
            Self::Invalid { field, .. } => Some(field),
            Self::EmailTaken => Some("email"),
            Self::TooLarge | Self::CutOff | Self::NotText | Self::UploadTimedOut => Some("body"),
            Self::Db(error) => error.field(),
            _ => None,
        }
    }
}

impl From<trine_scheduler::Error> for Error {
    fn from(error: trine_scheduler::Error) -> Self {
        match error {
            trine_scheduler::Error::NotFound { .. } => Self::NoJob,
            other => Self::Jobs(other),
        }
    }
}

/// Returns what the kind of a failure of the cache is to a caller. Whether an
/// answer was late or lost makes no difference: what is done with the cache may
/// be done again, and that it is away says nothing about anybody's session.
fn kind_of_cache(kind: ErrorKind) -> ErrorKind {
    match kind {
        ErrorKind::Timeout | ErrorKind::OutcomeUnknown => ErrorKind::Unavailable,
        other => kind_of_backend(other),
    }
}

/// Returns what the kind of a backend's failure is to a caller. Our account's
/// rights, our statements and what they name are none of its faults: where one
/// is, the method that asked answers with a variant of its own.
fn kind_of_backend(kind: ErrorKind) -> ErrorKind {
    match kind {
        ErrorKind::Denied | ErrorKind::Invalid | ErrorKind::NotFound | ErrorKind::Unsupported => {
            ErrorKind::Internal
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use trine_axum::Problem;
    use trine_db_shard::{DbConfig, DbService};

    use super::*;

    /// Statements, rights and settings are the server's own, not the caller's.
    #[tokio::test]
    async fn a_defect_of_our_own_statements_is_no_fault_of_the_caller() {
        let folder = tempfile::tempdir().unwrap();
        let db = DbService::connect(&DbConfig::sqlite(folder.path(), 1)).await.unwrap();
        let unknown = db.global().execute("UPDATE nowhere SET x = 1", ()).await.unwrap_err();
        let missing = db.shard(99).unwrap_err();
        assert_eq!((unknown.kind(), missing.kind()), (ErrorKind::Invalid, ErrorKind::NotFound));
        for error in [unknown, missing] {
            let error = Error::from(error);
            assert_eq!(error.kind(), ErrorKind::Internal, "{error}");
            let problem = Problem::of_fault(&error);
            assert_eq!((problem.status().as_u16(), problem.detail()), (500, None), "{error}");
        }
    }

    #[test]
    fn an_outage_of_the_cache_is_never_an_end_of_a_session() {
        for kind in ErrorKind::ALL {
            assert!(
                !matches!(kind_of_cache(kind), ErrorKind::Denied | ErrorKind::NotFound),
                "{kind}"
            );
        }
        for kind in [ErrorKind::Unavailable, ErrorKind::Timeout, ErrorKind::OutcomeUnknown] {
            assert_eq!(kind_of_cache(kind), ErrorKind::Unavailable);
        }
    }

    #[test]
    fn of_a_database_only_what_passes_or_conflicts_is_told() {
        let told = ErrorKind::ALL.map(kind_of_backend).into_iter().zip(ErrorKind::ALL);
        let hidden: Vec<_> = told.filter(|(told, kind)| told != kind).collect();
        let ours =
            [ErrorKind::Invalid, ErrorKind::NotFound, ErrorKind::Denied, ErrorKind::Unsupported];
        let ours = ours.map(|kind| (ErrorKind::Internal, kind)).to_vec();
        assert_eq!(hidden, ours);
    }
}
