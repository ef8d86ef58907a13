use std::fmt;
use std::io;
use std::time::Duration;

use trine_core::Report;

pub use trine_core::BoxError;

/// The result of what this crate does.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the kit could not do what a test asked for.
///
/// Tests show errors by their debug text, so that is the message with its
/// causes, logs included, as people read it.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No server can be had: the text says what was tried and how to get one.
    #[error("{0}")]
    NoServer(String),
    /// A server or child process was started and did not become ready; the
    /// text ends with the last lines of its log.
    #[error("start {program}: {reason}\n{log}")]
    Start {
        /// What was started.
        program: String,
        /// What was missing.
        reason: String,
        /// The end of its log.
        log: String,
    },
    /// The operating system refused.
    #[error("{operation}")]
    Io {
        /// What was tried.
        operation: String,
        /// The refusal.
        #[source]
        source: io::Error,
    },
    /// The server refused a statement or the connection was lost.
    #[error("{operation}")]
    Server {
        /// What was tried.
        operation: &'static str,
        /// The driver's error.
        #[source]
        source: BoxError,
    },
    /// The server answered a command with an error.
    #[error("{command}: {answer}")]
    Refused {
        /// The first word of the command.
        command: String,
        /// The server's answer, which starts with its code, such as `MOVED`.
        answer: String,
    },
    /// A database that was not made by this crate would have been touched.
    #[error("database `{name}`: not named trine_test_<16 hex digits>, so it is left alone")]
    ForeignDatabase {
        /// Its name.
        name: String,
    },
    /// The process has ended and cannot be signalled.
    #[error("{operation} {program}: the process has ended")]
    NotRunning {
        /// What was tried.
        operation: &'static str,
        /// The program.
        program: String,
    },
    /// What was waited for did not happen.
    #[error("{operation}: not done within {after:?}")]
    TimedOut {
        /// What was waited for.
        operation: String,
        /// The bound.
        after: Duration,
    },
    /// A value that cannot be used, such as a malformed URL.
    #[error("{0}")]
    Invalid(String),
}

impl Error {
    pub(crate) fn io(operation: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let operation = operation.into();
        move |source| Self::Io { operation, source }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Report(self), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_is_the_message_with_its_causes() {
        let error = Error::io("open the log")(io::Error::other("no such folder"));
        assert_eq!(format!("{error:?}"), "open the log: no such folder");
    }
}
