use std::fmt;
use std::time::Duration;

use trine_core::{BoxError, BoxFault, ErrorKind, Fault, Report, TaskFailure};

use crate::ConfigError;

/// What the container answers.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why services could not be wired, started or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration has problems; all of them are listed.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The services do not fit together; every reason is listed.
    #[error("services cannot be wired: {}", join(.problems))]
    Wiring {
        /// What does not fit.
        problems: Vec<WiringProblem>,
    },
    /// A component did not make its service.
    #[error("{service} build")]
    Build {
        /// The service.
        service: Box<str>,
        /// Its kind of failure.
        kind: ErrorKind,
        /// What it said.
        #[source]
        cause: BoxError,
    },
    /// There is no such service in the container.
    #[error(
        "no service `{key}`: add it to the builder, and declare it if another service needs it"
    )]
    Missing {
        /// The key of its section and instance.
        key: String,
    },
    /// A service failed to start; what had started was stopped again.
    #[error("{service} start{}", not_stopped(.rollback))]
    Start {
        /// The service.
        service: Box<str>,
        /// Its kind of failure.
        kind: ErrorKind,
        /// What it said.
        #[source]
        cause: BoxError,
        /// What did not stop cleanly meanwhile.
        rollback: Vec<StopFailure>,
    },
    /// A required service was not up in time; what had started was stopped
    /// again.
    #[error("{service} start: not up within {within:?}{}", not_stopped(.rollback))]
    StartTimedOut {
        /// The service.
        service: Box<str>,
        /// How long it was given.
        within: Duration,
        /// Its last failure; `None` if no attempt had ended.
        #[source]
        last: Option<BoxError>,
        /// What did not stop cleanly meanwhile.
        rollback: Vec<StopFailure>,
    },
    /// A required service that ran has failed for good.
    #[error("{service} failed while it ran: {reason}")]
    Failed {
        /// The service.
        service: Box<str>,
        /// What its health says.
        reason: String,
    },
    /// A background task of the host ended too often and was given up.
    #[error("background work was given up")]
    Task(#[source] TaskFailure),
    /// The host's server ended by itself.
    #[error("the server ended before it was asked to")]
    Server {
        /// What it said; `None` if it just ended.
        #[source]
        cause: Option<BoxError>,
    },
    /// Services did not stop cleanly; all are closed anyway.
    #[error("shutdown: {}", join(.failures))]
    Shutdown {
        /// What went wrong, in the order of stopping.
        failures: Vec<StopFailure>,
    },
    /// The container was shut down before or meanwhile.
    #[error("container {operation}: it was shut down")]
    Closed {
        /// What was called.
        operation: &'static str,
    },
}

/// What went wrong while one service stopped.
#[derive(Debug)]
#[non_exhaustive]
pub struct StopFailure {
    /// The service, a background task of the host by its own name, `server`, or
    /// `container` for another call that goes on while no service runs.
    pub service: Box<str>,
    /// What it said; `None` if it did not stop in time and was cut off.
    pub cause: Option<BoxError>,
}

impl StopFailure {
    pub(crate) fn cut(name: &str) -> Self {
        Self { service: name.into(), cause: None }
    }
}

impl fmt::Display for StopFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Some(cause) => write!(f, "{}: {}", self.service, Report(&**cause)),
            None => write!(f, "{}: not stopped in time", self.service),
        }
    }
}

/// One reason why services do not fit together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WiringProblem {
    /// A service needs one that is not there.
    #[error("{service} needs `{need}`, which was not added{}", similar(.suggestion))]
    UnknownNeed {
        /// The service.
        service: String,
        /// What it needs.
        need: String,
        /// A service with a similar name.
        suggestion: Option<String>,
    },
    /// Services need each other in a circle.
    #[error("{} need each other", .path.join(" → "))]
    Cycle {
        /// The services, the first one again at the end.
        path: Vec<String>,
    },
    /// Two services or sections have one name.
    #[error("`{name}` was added twice")]
    Twice {
        /// The name.
        name: String,
    },
    /// A name is empty, is reserved, or is a field of the section.
    #[error("`{name}` cannot be a name: {reason}")]
    BadName {
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

fn similar(suggestion: &Option<String>) -> String {
    suggestion.as_ref().map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

fn join<T: fmt::Display>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn not_stopped(rollback: &[StopFailure]) -> String {
    if rollback.is_empty() {
        return String::new();
    }
    format!(" (and while stopping the others: {})", join(rollback))
}

/// Drops the kind, keeps the chain.
pub(crate) fn source(fault: BoxFault) -> BoxError {
    fault
}

impl Fault for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Config(_) | Self::Wiring { .. } => ErrorKind::Invalid,
            Self::Build { kind, .. } | Self::Start { kind, .. } => *kind,
            Self::Missing { .. } => ErrorKind::NotFound,
            Self::StartTimedOut { .. } => ErrorKind::Unavailable,
            Self::Failed { .. } | Self::Task(_) | Self::Server { .. } | Self::Shutdown { .. } => {
                ErrorKind::Internal
            }
            Self::Closed { .. } => ErrorKind::Closed,
        }
    }
}
