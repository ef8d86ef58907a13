use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use trine::TelemetryError;
use trine_core::{BoxError, ErrorKind, Fault, Report};

use crate::terminal::complain;

/// Why the program ends without having done what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The command line asks for something that cannot be.
    #[error("{0}")]
    Usage(String),
    /// The data folder cannot be made.
    #[error("data folder {}", .path.display())]
    DataFolder {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    /// The address is taken or not ours.
    #[error("listen on {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        cause: io::Error,
    },
    /// The operating system refuses something that every process gets.
    #[error("{what}")]
    System {
        what: &'static str,
        #[source]
        cause: BoxError,
    },
    /// Configuration, start, run or stop failed.
    #[error(transparent)]
    Container(#[from] trine::Error),
    /// A database operation failed.
    #[error(transparent)]
    Db(#[from] trine_db_shard::Error),
    /// The import or the set-up failed.
    #[error(transparent)]
    Starter(#[from] crate::error::Error),
    /// The log cannot be set up.
    #[error(transparent)]
    Log(#[from] TelemetryError),
}

impl Failure {
    /// Tells the reader what is wrong and returns the exit code: 2 if the
    /// command line or the configuration has to be changed, else 1.
    pub(crate) fn report(&self) -> ExitCode {
        match self {
            Self::Container(trine::Error::Config(error)) => {
                complain("the configuration is wrong:");
                error.problems().iter().for_each(|problem| complain(format_args!("  {problem}")));
                ExitCode::from(2)
            }
            Self::Usage(_) => {
                complain(format_args!("error: {self}"));
                ExitCode::from(2)
            }
            other => {
                complain(format_args!("error: {}", Report(other)));
                ExitCode::from(if other.is_of_configuration() { 2 } else { 1 })
            }
        }
    }

    /// Tells whether trying again is of no use before the configuration was
    /// changed: some of it is only found wrong by what it configures.
    fn is_of_configuration(&self) -> bool {
        match self {
            Self::Container(error) => {
                matches!(error, trine::Error::Build { .. } | trine::Error::Start { .. })
                    && error.kind() == ErrorKind::Invalid
            }
            Self::Db(error) => error.kind() == ErrorKind::Invalid,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use trine_core::Intensity;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn background_work_that_panics_too_often_ends_the_program_with_1() {
        let container = trine::Builder::new().configure(&trine::Loader::new()).unwrap();
        let container = container.build().unwrap();
        let panics = || async { panic!("on purpose") };
        container.tasks().supervise("panics", Intensity::default(), panics);
        let failure = Failure::from(container.run(std::future::pending()).await.unwrap_err());
        assert!(matches!(failure, Failure::Container(trine::Error::Task(_))), "{failure}");
        assert_eq!(failure.report(), ExitCode::from(1));
    }

    #[test]
    fn a_configuration_that_only_the_start_finds_wrong_ends_the_program_with_2() {
        let of = |kind| {
            let cause = || BoxError::from("a setting of the server");
            let service = || "db.default".into();
            let start =
                trine::Error::Start { service: service(), kind, cause: cause(), rollback: vec![] };
            let build = trine::Error::Build { service: service(), kind, cause: cause() };
            [start, build].map(|error| Failure::from(error).report())
        };
        assert_eq!(of(ErrorKind::Invalid), [ExitCode::from(2); 2]);
        assert_eq!(of(ErrorKind::Conflict), [ExitCode::from(1); 2]);
        assert_eq!(of(ErrorKind::Unavailable), [ExitCode::from(1); 2]);
    }
}
