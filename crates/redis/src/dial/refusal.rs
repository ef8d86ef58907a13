use std::borrow::Cow;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use redis::RedisError;
use trine_core::ErrorKind;

use crate::error::At;
use crate::{Error, ServerError, Unavailable};

/// Why there is no connection to a node.
#[derive(Debug)]
pub(crate) struct Refusal {
    address: Arc<str>,
    reason: Reason,
}

/// What happened on the way to a connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Reason {
    #[error("no connection")]
    Network(#[source] io::Error),
    #[error("no connection in {after:?} (phase {phase}{}; connect_timeout)", hint(phase, *.tls))]
    TimedOut { phase: &'static str, after: Duration, tls: bool },
    #[error("no TLS: the port answers in plain text; use redis:// or another port")]
    PlainPort,
    #[error("TLS failed")]
    Tls(#[source] io::Error),
    #[error("the answer to the login is no Redis protocol; if the port speaks TLS, use rediss://")]
    Protocol,
    #[error("closed by the server during the login; if the port speaks TLS, use rediss://")]
    Closed,
    #[error("broken during the login; if the port speaks TLS, use rediss://")]
    Broken(#[source] RedisError),
    #[error("no answer to the login in time")]
    Late,
    #[error("refused: {0}")]
    Server(ServerError),
    #[error("version {0}, and at least 7.0 is needed")]
    Version(Box<str>),
    #[error("{0}")]
    Invalid(Cow<'static, str>),
    #[error("{0}")]
    NoMaster(Cow<'static, str>),
    #[error("closed soon after it was made")]
    ShortLived,
}

fn hint(phase: &str, tls: bool) -> &'static str {
    match (phase, tls) {
        ("tls", _) => ", which a port without TLS never answers",
        ("login", false) => ", which a port with TLS never answers",
        _ => "",
    }
}

impl Reason {
    pub(super) fn of_tls(error: io::Error) -> Self {
        let is_plain = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref())
            .is_some_and(|inner| matches!(inner, rustls::Error::InvalidMessage(_)));
        if is_plain { Self::PlainPort } else { Self::Tls(error) }
    }

    fn kind(&self) -> ErrorKind {
        match self {
            Self::Server(error) => error.kind(),
            Self::Version(_) => ErrorKind::Unsupported,
            Self::Invalid(_) | Self::PlainPort | Self::Protocol => ErrorKind::Invalid,
            Self::Tls(error) if is_about_certificates(error) => ErrorKind::Invalid,
            _ => ErrorKind::Unavailable,
        }
    }
}

fn is_about_certificates(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    matches!(inner, Some(rustls::Error::InvalidCertificate(_)))
}

impl Refusal {
    pub(crate) fn new(address: &Arc<str>, reason: Reason) -> Self {
        Self { address: Arc::clone(address), reason }
    }

    /// Tells whether the credentials are wrong.
    pub(crate) fn is_denial(&self) -> bool {
        self.reason.kind() == ErrorKind::Denied
    }

    /// Tells whether the server has said so, rather than nothing.
    pub(crate) fn is_word(&self) -> bool {
        matches!(self.reason, Reason::NoMaster(_) | Reason::Server(_))
    }

    /// Nothing of the caller's was sent.
    pub(crate) fn to_error(self: &Arc<Self>, at: At) -> Error {
        let cause = Arc::clone(self).into_cause();
        match self.reason.kind() {
            ErrorKind::Denied => Error::Denied { at, cause },
            ErrorKind::Unsupported => {
                let what = "the server is too old".into();
                Error::Unsupported { at, what, cause: Some(cause) }
            }
            ErrorKind::Invalid => {
                let detail = "the configuration does not fit the server".into();
                Error::Invalid { at, detail, cause: Some(cause) }
            }
            _ => {
                let reason = match self.reason {
                    Reason::NoMaster(_) => Unavailable::NoMaster,
                    Reason::Server(_) => Unavailable::Refused,
                    _ => Unavailable::Unreachable,
                };
                Error::Unavailable { at, reason, cause: Some(cause) }
            }
        }
    }

    fn into_cause(self: Arc<Self>) -> trine_core::BoxError {
        Box::new(self)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connect to {}: {}", self.address, self.reason)
    }
}

impl std::error::Error for Refusal {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.reason)
    }
}
