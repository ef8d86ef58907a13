use std::time::Duration;

use tokio::time::sleep;

use super::Shared;
use crate::{Backoff, ErrorKind, Fault, State};

/// Tries until the backend is proved, or until waiting cannot help.
pub(super) async fn attempts<E, F, Fut>(
    backoff: &Backoff,
    mut attempt: F,
    last: &mut Option<E>,
) -> Result<(), E>
where
    E: Fault,
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<(), E>>,
{
    let mut failures = 0;
    loop {
        let Err(error) = attempt().await else {
            return Ok(());
        };
        if !error.is_retryable() && error.kind() != ErrorKind::Unavailable {
            return Err(error);
        }
        let delay = backoff.delay(failures).max(error.retry_after().unwrap_or_default());
        failures = failures.saturating_add(1);
        *last = Some(error);
        sleep(delay).await;
    }
}

/// A start under way: dropped unfinished, it puts the former state back.
pub(super) struct Starting<'a> {
    shared: &'a Shared,
    former: State,
}

impl<'a> Starting<'a> {
    /// Returns `None` if the service runs already or is shut down.
    pub(super) fn begin(shared: &'a Shared) -> Option<Self> {
        let startable = |state| matches!(state, State::Created | State::Failed);
        let former = shared.change(|state| startable(state).then_some(State::Starting))?;
        Some(Self { shared, former })
    }

    /// Returns `false` if a shutdown came first.
    pub(super) fn finish(self, next: State) -> bool {
        self.shared.change(|state| (state == State::Starting).then_some(next)).is_some()
    }
}

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        self.shared.change(|state| (state == State::Starting).then_some(self.former));
    }
}

/// Why a service did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError<E: Fault> {
    /// The backend was not proved in time.
    #[error("{name} start: not ready within {within:?}")]
    TimedOut {
        /// The service.
        name: Box<str>,
        /// The start time-out.
        within: Duration,
        /// The last failure; `None` if no attempt had ended.
        #[source]
        last: Option<E>,
    },
    /// An attempt failed with what waiting does not cure.
    #[error(transparent)]
    Failed(E),
    /// The service was shut down before or meanwhile.
    #[error("{name} start: it was shut down")]
    Closed {
        /// The service.
        name: Box<str>,
    },
}

impl<E: Fault> Fault for StartError<E> {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::TimedOut { .. } => ErrorKind::Unavailable,
            Self::Failed(cause) => cause.kind(),
            Self::Closed { .. } => ErrorKind::Closed,
        }
    }

    fn is_retryable(&self) -> bool {
        match self {
            Self::Failed(cause) => cause.is_retryable(),
            Self::TimedOut { .. } | Self::Closed { .. } => self.kind().is_retryable(),
        }
    }
}
