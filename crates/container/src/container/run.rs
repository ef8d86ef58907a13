use std::pin::pin;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use trine_core::{BoxError, Deadline};

use super::Container;
use super::start::{GRACE, lost};
use crate::{Error, Result, StopFailure};

impl Container {
    /// Starts the services, waits for `signal`, and stops them.
    ///
    /// As [`serve`](Self::serve), without a server.
    ///
    /// # Errors
    ///
    /// As [`serve`](Self::serve).
    pub async fn run(&self, signal: impl Future<Output = ()>) -> Result<()> {
        let server = |stop: CancellationToken| async move {
            stop.cancelled().await;
            Ok::<(), BoxError>(())
        };
        self.serve(signal, server).await
    }

    /// Runs a server beside the services until `signal` ends, such as
    /// [`signals`](crate::signals()), and stops both in good order.
    ///
    /// The server runs from the beginning, so that it can tell that the process
    /// lives and is not ready. On the signal the process becomes unready; after
    /// `container.drain_delay` the token given to `server` is cancelled, on
    /// which it accepts nothing new and finishes what it has, within
    /// `container.drain_timeout`; then the services are
    /// [shut down](Self::shutdown). A signal during the start ends it.
    ///
    /// # Errors
    ///
    /// Stops everything in the same order and fails with the error of
    /// [`start`](Self::start), with [`Error::Server`] if the server ended by
    /// itself, with [`Error::Failed`] if a required service was lost, and with
    /// [`Error::Task`] if background work was given up. Fails with
    /// [`Error::Shutdown`] if all went well until something did not stop
    /// cleanly.
    pub async fn serve<S, F, E>(&self, signal: impl Future<Output = ()>, server: S) -> Result<()>
    where
        S: FnOnce(CancellationToken) -> F,
        F: Future<Output = Result<(), E>>,
        E: Into<BoxError>,
    {
        let stop = CancellationToken::new();
        let mut server = pin!(server(stop.clone()));
        let ended = tokio::select! {
            biased;
            ended = &mut server => Some(ended),
            result = self.until_over(signal) => {
                let result = self.drain(result, &stop, server.as_mut()).await;
                return self.finish(result).await;
            }
        };
        let cause = ended.and_then(Result::err).map(Into::into);
        self.begin_draining();
        self.finish((Err(Error::Server { cause }), Vec::new())).await
    }

    /// Ends with the signal, or with what keeps the process from going on.
    async fn until_over(&self, signal: impl Future<Output = ()>) -> Result<Asked> {
        let mut signal = pin!(signal);
        tokio::select! {
            biased;
            () = &mut signal => return Ok(Asked::WhileStarting),
            started = self.start() => started?,
        }
        let mut fatal = self.shared.fatal.subscribe();
        tokio::select! {
            biased;
            fatal = lost(&mut fatal) => {
                Err(Error::Failed { service: fatal.service, reason: fatal.reason })
            }
            failure = self.shared.tasks.failure() => Err(Error::Task(failure)),
            failure = self.shared.upkeep.failure() => Err(Error::Task(failure)),
            () = signal => Ok(Asked::WhileRunning),
        }
    }

    /// Lets the server finish what it has.
    async fn drain<E: Into<BoxError>>(
        &self,
        result: Result<Asked>,
        stop: &CancellationToken,
        server: impl Future<Output = Result<(), E>>,
    ) -> (Result<()>, Vec<StopFailure>) {
        let config = self.config();
        let was_ready =
            matches!(&result, Ok(Asked::WhileRunning) | Err(Error::Failed { .. } | Error::Task(_)));
        self.begin_draining();
        let delay = if was_ready { config.drain_delay.get() } else { std::time::Duration::ZERO };
        tracing::info!(?delay, "no longer ready; stopping");
        let mut server = pin!(server);
        let early = tokio::select! {
            biased;
            ended = &mut server => Some(ended),
            () = sleep(delay) => None,
        };
        stop.cancel();
        let bound = config.drain_timeout.get().saturating_add(GRACE);
        let ended = match early {
            Some(ended) => Some(ended),
            None => Deadline::after(bound).limit(server).await,
        };
        let failure = match ended {
            Some(Ok(())) => None,
            Some(Err(error)) => Some(Some(error.into())),
            None => Some(None),
        };
        let failure = failure.map(|cause| StopFailure { service: "server".into(), cause });
        (result.map(|_asked| ()), failure.into_iter().collect())
    }

    async fn finish(&self, (result, mut failures): (Result<()>, Vec<StopFailure>)) -> Result<()> {
        let stopped = self.shutdown(Deadline::after(self.longest_stop())).await;
        if let Err(Error::Shutdown { failures: more }) = stopped {
            failures.extend(more);
        }
        result?;
        if failures.is_empty() { Ok(()) } else { Err(Error::Shutdown { failures }) }
    }
}

/// When the signal came.
enum Asked {
    WhileStarting,
    WhileRunning,
}
