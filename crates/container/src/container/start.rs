use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::{Instant, sleep};
use trine_core::{Backoff, BoxFault, Deadline, ErrorKind, Fault, Hysteresis, Probe, State};

use super::{Container, Fatal};
use crate::error::source;
use crate::node::{Node, Run};
use crate::{Error, Result, StopFailure};

/// Waits between the attempts to start one service.
pub(super) fn backoff() -> Backoff {
    Backoff::new(Duration::from_millis(100), Duration::from_secs(2))
}

/// Added to the bound of what has such a bound of its own, so that it says
/// first what it was waiting for.
pub(super) const GRACE: Duration = Duration::from_secs(1);

impl Container {
    /// Starts every service, those that others need first and independent ones
    /// side by side; `Ok` if it runs already.
    ///
    /// Returns as soon as every required service is up. Optional ones start in
    /// the background and are tried again for as long as it takes; who needs
    /// one waits for its first attempt only.
    ///
    /// If the future is dropped, what has started keeps running; the next call
    /// carries on, and [`shutdown`](Self::shutdown) stops it.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::Start`] or [`Error::StartTimedOut`] for the first
    /// service that failed, after stopping all others in reverse; the container
    /// is closed then. Fails with [`Error::Closed`] after a shutdown.
    pub async fn start(&self) -> Result<()> {
        let closed = || Error::Closed { operation: "start" };
        let shared = &self.shared;
        let stopping = shared.stopping.cancelled();
        let _turn = tokio::select! {
            biased;
            () = stopping => return Err(closed()),
            turn = shared.turn.lock() => turn,
        };
        match self.state() {
            State::Running => return Ok(()),
            State::Created | State::Starting => {}
            State::Draining | State::Closed | State::Failed => return Err(closed()),
        }
        // A drain may begin at any moment, without the turn.
        if !self.change(|state| state != State::Draining, State::Starting) {
            return Err(closed());
        }
        if !shared.has_upkeep.swap(true, Ordering::AcqRel) {
            self.spawn_vital();
            self.spawn_upkeep();
        }
        let began = Instant::now();
        let started = tokio::select! {
            biased;
            () = shared.stopping.cancelled() => return Err(closed()),
            started = self.start_required() => started,
        };
        if let Err(failure) = started {
            let service = &failure.service;
            tracing::error!(%service, kind = %failure.kind(), "service did not start; stopping the others");
            self.enter(State::Draining);
            let rollback = self.stop_everything(Deadline::after(self.longest_stop())).await;
            self.enter(State::Closed);
            return Err(failure.into_error(rollback));
        }
        if !self.change(|state| state == State::Starting, State::Running) {
            return Err(closed());
        }
        let elapsed = began.elapsed();
        tracing::info!(?elapsed, services = self.nodes().len(), "services started");
        Ok(())
    }

    async fn start_required(&self) -> Result<(), StartFailure> {
        let mut settled = self.shared.settled.subscribe();
        let mut fatal = self.shared.fatal.subscribe();
        let mut starting = FuturesUnordered::new();
        let mut waiting: Vec<_> = self.nodes().iter().filter(|node| node.is_required).collect();
        loop {
            waiting.retain(|node| {
                let may_start = self.needs_are_settled(node);
                if may_start {
                    starting.push(self.bring_up(node));
                }
                !may_start
            });
            if waiting.is_empty() && starting.is_empty() {
                return Ok(());
            }
            tokio::select! {
                Some(started) = starting.next() => started?,
                _ = settled.changed() => {}
                fatal = lost(&mut fatal) => return Err(StartFailure::fatal(fatal)),
            }
        }
    }

    /// Tells whether everything that a service stands on is up, or optional and
    /// not up at the first attempt.
    pub(super) fn needs_are_settled(&self, node: &Node) -> bool {
        let mut needs = node.needs.iter().filter_map(|place| self.nodes().get(*place));
        needs.all(|need| {
            let run = need.run();
            run.is_started || (!need.is_required && run.last_error.is_some())
        })
    }

    /// Starts one required service, until its time is over.
    async fn bring_up(&self, node: &Node) -> Result<(), StartFailure> {
        if node.run().is_started {
            return Ok(());
        }
        let deadline = Deadline::after(node.start_timeout.saturating_add(GRACE));
        let (backoff, mut failures) = (backoff(), 0);
        let mut last = None;
        loop {
            let fault = match deadline.limit(self.attempt(node)).await {
                Some(Ok(())) => return Ok(()),
                Some(Err(fault)) => fault,
                None => return Err(StartFailure::timed_out(node, last)),
            };
            if is_definite(&*fault) {
                return Err(StartFailure::definite(node, fault));
            }
            let delay = backoff.delay(failures).max(fault.retry_after().unwrap_or_default());
            failures += 1;
            last = Some(fault);
            if delay >= deadline.remaining() {
                return Err(StartFailure::timed_out(node, last));
            }
            sleep(delay).await;
        }
    }

    /// Tries to start a service once, and notes how that went.
    pub(super) async fn attempt(&self, node: &Node) -> Result<(), BoxFault> {
        let began = Instant::now();
        let started = AssertUnwindSafe(node.service.start()).catch_unwind().await;
        let result = started.unwrap_or_else(|_| Err(Panicked.into()));
        match &result {
            Ok(()) => self.note_start(node, began.elapsed()),
            Err(fault) => self.note_failure(node, fault),
        }
        result
    }

    fn note_start(&self, node: &Node, elapsed: Duration) {
        let config = self.config();
        let (timeout, interval) = (config.health_timeout.get(), config.health_interval.get());
        // A service damps its own answers.
        let probe = Probe::with_hysteresis(timeout, interval, Hysteresis::new(1));
        *node.run() = Run {
            is_started: true,
            started_in: Some(elapsed),
            probe: Some(probe),
            ..Run::default()
        };
        tracing::info!(service = %node.name, ?elapsed, "service started");
        self.shared.settled.send_modify(|count| *count = count.wrapping_add(1));
    }

    pub(super) fn note_failure(&self, node: &Node, fault: &BoxFault) {
        node.run().last_error = Some(report(&**fault));
        self.shared.settled.send_modify(|count| *count = count.wrapping_add(1));
    }

    pub(super) fn enter(&self, state: State) {
        self.shared.state.send_replace(state);
    }

    /// Enters a state if `from` accepts the present one; tells whether it did.
    pub(super) fn change(&self, from: impl FnOnce(State) -> bool, to: State) -> bool {
        self.shared.state.send_if_modified(|state| {
            let is_accepted = from(*state);
            if is_accepted {
                *state = to;
            }
            is_accepted
        })
    }
}

/// Tells whether waiting cannot help.
pub(super) fn is_definite(fault: &dyn Fault) -> bool {
    !fault.is_retryable() && fault.kind() != ErrorKind::Unavailable
}

pub(super) fn report(fault: &dyn Fault) -> String {
    trine_core::Report(fault).to_string()
}

/// Waits until a service is lost for good.
pub(super) async fn lost(fatal: &mut tokio::sync::watch::Receiver<Option<Fatal>>) -> Fatal {
    loop {
        if let Some(fatal) = fatal.borrow_and_update().clone() {
            return fatal;
        }
        if fatal.changed().await.is_err() {
            // Cannot happen: the container owns the sender.
            std::future::pending::<()>().await;
        }
    }
}

/// A service whose own code panicked.
#[derive(Debug, thiserror::Error)]
#[error("the service panicked")]
pub(super) struct Panicked;

impl Fault for Panicked {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Internal
    }
}

/// The service that keeps the others from starting.
struct StartFailure {
    service: Box<str>,
    reason: Reason,
}

enum Reason {
    Definite(BoxFault),
    TimedOut { within: Duration, last: Option<BoxFault> },
    Lost(Fatal),
}

impl StartFailure {
    fn definite(node: &Node, fault: BoxFault) -> Self {
        Self { service: (*node.name).into(), reason: Reason::Definite(fault) }
    }

    fn timed_out(node: &Node, last: Option<BoxFault>) -> Self {
        let reason = Reason::TimedOut { within: node.start_timeout, last };
        Self { service: (*node.name).into(), reason }
    }

    fn fatal(fatal: Fatal) -> Self {
        Self { service: fatal.service.clone(), reason: Reason::Lost(fatal) }
    }

    fn kind(&self) -> ErrorKind {
        match &self.reason {
            Reason::Definite(fault) => fault.kind(),
            Reason::TimedOut { .. } => ErrorKind::Unavailable,
            Reason::Lost(fatal) => fatal.kind,
        }
    }

    fn into_error(self, rollback: Vec<StopFailure>) -> Error {
        let (service, kind) = (self.service.clone(), self.kind());
        match self.reason {
            Reason::Definite(fault) => {
                Error::Start { service, kind, cause: source(fault), rollback }
            }
            Reason::TimedOut { within, last } => {
                Error::StartTimedOut { service, within, last: last.map(source), rollback }
            }
            Reason::Lost(fatal) => {
                Error::Start { service, kind, cause: fatal.reason.into(), rollback }
            }
        }
    }
}
