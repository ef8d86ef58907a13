use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};

use self::gate::{Gate, InFlight, Refused};
use self::start::{StartError, Starting, attempts};
use crate::{Backoff, Deadline, Fault, State};

pub(crate) mod gate;
pub(crate) mod start;

/// The states of one service, implemented once. Cloning shares them.
///
/// ```text
/// created ──start──▶ starting ──proved──▶ running ──shutdown──▶ draining ──▶ closed
///    ▲                  │ │                  │
///    └──dropped─────────┘ └──▶ failed ◀──fail┘
/// ```
///
/// `failed` may be started again; `shutdown` leads to `closed` from everywhere.
///
/// # Example
///
/// ```
/// # use std::time::Duration;
/// # use trine_core::{Backoff, Deadline, ErrorKind, Fault, Lifecycle, Refused, State};
/// # #[derive(Debug, thiserror::Error)]
/// # #[error("away")]
/// # struct Away;
/// # impl Fault for Away {
/// #     fn kind(&self) -> ErrorKind { ErrorKind::Unavailable }
/// # }
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// let lifecycle = Lifecycle::new("cache.default");
/// assert_eq!(lifecycle.enter().unwrap_err(), Refused::NotStarted);
///
/// let prove = || async { Ok::<_, Away>(()) };
/// lifecycle.start(Duration::from_secs(30), &Backoff::default(), prove).await?;
///
/// let call = lifecycle.enter()?; // held while the call runs
/// drop(call);
///
/// let close = || async { Ok::<_, Away>(()) };
/// lifecycle.shutdown(Deadline::after(Duration::from_secs(10)), close).await?;
/// assert_eq!(lifecycle.state(), State::Closed);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Lifecycle {
    shared: Arc<Shared>,
}

struct Shared {
    name: Box<str>,
    /// Open while running.
    gate: Gate,
    state: watch::Sender<State>,
    starting: Mutex<()>,
    closing: Mutex<()>,
}

impl Lifecycle {
    /// Least time that closing gets, even if the deadline has passed.
    pub const CLOSING_GRACE: Duration = Duration::from_secs(1);

    /// Returns the life cycle of the service `name`, in state `created`.
    #[must_use]
    pub fn new(name: impl Into<Box<str>>) -> Self {
        Self {
            shared: Arc::new(Shared {
                name: name.into(),
                gate: Gate::default(),
                state: watch::Sender::new(State::Created),
                starting: Mutex::new(()),
                closing: Mutex::new(()),
            }),
        }
    }

    /// Returns the life cycle of something that has nothing to start: running
    /// from the beginning.
    #[must_use]
    pub fn running(name: impl Into<Box<str>>) -> Self {
        let lifecycle = Self::new(name);
        lifecycle.shared.gate.open();
        lifecycle.shared.state.send_replace(State::Running);
        lifecycle
    }

    /// Returns the name of the service.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Returns the present state.
    #[must_use]
    pub fn state(&self) -> State {
        *self.shared.state.borrow()
    }

    /// Returns a receiver that sees every change of the state.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<State> {
        self.shared.state.subscribe()
    }

    /// Returns how many calls are in flight.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.shared.gate.in_flight()
    }

    /// Admits one call: a shutdown waits until the guard is dropped.
    ///
    /// Neither locks nor waits.
    ///
    /// # Errors
    ///
    /// Fails with [`Refused`] unless the service is running.
    pub fn enter(&self) -> Result<InFlight, Refused> {
        if let Some(call) = InFlight::admitted(&self.shared) {
            return Ok(call);
        }
        Err(match self.state() {
            State::Draining | State::Closed => Refused::Closed,
            State::Failed => Refused::Failed,
            // Running: started a moment after it was found not to be.
            State::Created | State::Starting | State::Running => Refused::NotStarted,
        })
    }

    /// Runs `attempt` until the backend is proved, and opens the service.
    ///
    /// Faults that are retryable or `Unavailable` are retried with `backoff`
    /// until `start_timeout` has passed; an attempt that hangs is dropped then.
    /// Concurrent calls run one at a time, and all are satisfied by the first
    /// success. Dropping the future puts the state back as it was.
    ///
    /// # Errors
    ///
    /// Fails with [`StartError`]; except after a shutdown, it may be called
    /// again.
    pub async fn start<E, F, Fut>(
        &self,
        start_timeout: Duration,
        backoff: &Backoff,
        attempt: F,
    ) -> Result<(), StartError<E>>
    where
        E: Fault,
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<(), E>>,
    {
        let deadline = Deadline::after(start_timeout);
        let name = || self.shared.name.clone();
        let timed_out = |last| StartError::TimedOut { name: name(), within: start_timeout, last };
        let Some(_turn) = deadline.limit(self.shared.starting.lock()).await else {
            return Err(timed_out(None));
        };
        let mut states = self.watch();
        let Some(starting) = Starting::begin(&self.shared) else {
            return match self.state() {
                State::Running => Ok(()),
                _ => Err(StartError::Closed { name: name() }),
            };
        };
        let mut last = None;
        let proved = tokio::select! {
            biased;
            _ = states.wait_for(|state| *state != State::Starting) => {
                return Err(StartError::Closed { name: name() });
            }
            proved = deadline.limit(attempts(backoff, attempt, &mut last)) => proved,
        };
        let next = if matches!(proved, Some(Ok(()))) { State::Running } else { State::Failed };
        if !starting.finish(next) {
            return Err(StartError::Closed { name: name() });
        }
        proved.map_or_else(|| Err(timed_out(last)), |proved| proved.map_err(StartError::Failed))
    }

    /// Turns a running service into a failed one, as when a background task
    /// has given up. Does nothing in any other state.
    pub fn fail(&self) {
        self.shared.change(|state| (state == State::Running).then_some(State::Failed));
    }

    /// Refuses new calls, waits until `deadline` for those in flight, runs
    /// `closing` and ends in `closed`, whatever `closing` answers.
    ///
    /// `closing` may run until the deadline and for at least
    /// [`CLOSING_GRACE`](Self::CLOSING_GRACE), then it is dropped. Idempotent:
    /// a second call waits for the first, its own deadline at most; if the first
    /// is dropped, the next one carries on, with its own `closing`.
    ///
    /// # Errors
    ///
    /// Fails with the error of `closing`.
    pub async fn shutdown<E, F, Fut>(&self, deadline: Deadline, closing: F) -> Result<Shutdown, E>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<(), E>>,
    {
        let shared = &self.shared;
        shared.change(|state| (state != State::Closed).then_some(State::Draining));
        let Some(_turn) = deadline.limit(shared.closing.lock()).await else {
            return Ok(Shutdown { abandoned: self.in_flight(), cut: true });
        };
        if self.state() == State::Closed {
            return Ok(Shutdown { abandoned: 0, cut: false });
        }
        deadline
            .limit(async {
                // A start under way sees the state and lets go.
                drop(shared.starting.lock().await);
                shared.gate.drained().await;
            })
            .await;
        let abandoned = self.in_flight();
        let until = deadline.max(Deadline::after(Self::CLOSING_GRACE));
        let closed = until.limit(closing()).await;
        shared.change(|_| Some(State::Closed));
        let cut = closed.is_none();
        closed.unwrap_or(Ok(())).map(|()| Shutdown { abandoned, cut })
    }
}

impl fmt::Debug for Lifecycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lifecycle")
            .field("name", &self.name())
            .field("state", &self.state())
            .field("in_flight", &self.in_flight())
            .finish()
    }
}

impl Shared {
    /// Moves to the state that `next` answers for the present one, and returns
    /// the former. The gate changes under the same lock.
    fn change(&self, next: impl FnOnce(State) -> Option<State>) -> Option<State> {
        let mut former = None;
        self.state.send_if_modified(|state| {
            let Some(next) = next(*state).filter(|next| next != state) else {
                return false;
            };
            former = Some(std::mem::replace(state, next));
            if next == State::Running {
                self.gate.open();
            } else {
                self.gate.close();
            }
            true
        });
        former
    }
}

/// How a shutdown went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shutdown {
    /// Calls that were still in flight at the deadline.
    pub abandoned: u64,
    /// Whether closing was dropped unfinished, or not waited for.
    pub cut: bool,
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::pending;
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::time::sleep;

    use super::*;
    use crate::{ErrorKind, Jitter};

    #[derive(Debug, PartialEq, thiserror::Error)]
    #[error("{0}")]
    struct Failure(ErrorKind);

    impl Fault for Failure {
        fn kind(&self) -> ErrorKind {
            self.0
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    fn backoff() -> Backoff {
        Backoff::new(SECOND, SECOND).with_jitter(Jitter::none())
    }

    fn within(span: Duration) -> Deadline {
        Deadline::after(span)
    }

    async fn start(lifecycle: &Lifecycle) -> Result<(), StartError<Failure>> {
        lifecycle.start(SECOND * 30, &backoff(), || async { Ok(()) }).await
    }

    async fn close(lifecycle: &Lifecycle, deadline: Deadline) -> Shutdown {
        lifecycle.shutdown(deadline, || async { Ok::<_, Failure>(()) }).await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_nothing_to_start_runs_until_it_is_shut_down() {
        let lifecycle = Lifecycle::running("lent");
        assert_eq!(lifecycle.state(), State::Running);
        drop(lifecycle.enter().unwrap());
        let closing = || async { Ok::<(), Failure>(()) };
        lifecycle.shutdown(Deadline::after(Duration::from_secs(1)), closing).await.unwrap();
        assert!(matches!(lifecycle.enter(), Err(Refused::Closed)));
    }

    #[tokio::test(start_paused = true)]
    async fn calls_are_admitted_while_running_only() {
        let lifecycle = Lifecycle::new("db");
        assert_eq!(lifecycle.enter().unwrap_err(), Refused::NotStarted);
        start(&lifecycle).await.unwrap();
        drop(lifecycle.enter().unwrap());
        lifecycle.fail();
        assert_eq!(lifecycle.enter().unwrap_err(), Refused::Failed);
        start(&lifecycle).await.unwrap();
        drop(lifecycle.enter().unwrap());
        close(&lifecycle, within(SECOND)).await;
        assert_eq!(lifecycle.enter().unwrap_err(), Refused::Closed);
        lifecycle.fail();
        assert_eq!(lifecycle.state(), State::Closed);
        assert!(matches!(start(&lifecycle).await, Err(StartError::Closed { .. })));
    }

    #[tokio::test(start_paused = true)]
    async fn an_absent_backend_is_retried_until_it_comes() {
        let lifecycle = Lifecycle::new("db");
        let calls = Cell::new(0);
        let attempt = || {
            calls.set(calls.get() + 1);
            let answer =
                if calls.get() < 20 { Err(Failure(ErrorKind::Unavailable)) } else { Ok(()) };
            std::future::ready(answer)
        };
        lifecycle.start(SECOND * 30, &backoff(), attempt).await.unwrap();
        assert_eq!((calls.get(), lifecycle.state()), (20, State::Running));
    }

    #[tokio::test(start_paused = true)]
    async fn a_start_gives_up_at_its_time_out_with_the_last_error_and_may_be_repeated() {
        let lifecycle = Lifecycle::new("db");
        let attempt = || async { Err(Failure(ErrorKind::Unavailable)) };
        let error = lifecycle.start(SECOND * 3, &backoff(), attempt).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        let last = Some(Failure(ErrorKind::Unavailable));
        assert!(matches!(error, StartError::TimedOut { last: found, .. } if found == last));
        assert_eq!(lifecycle.state(), State::Failed);
        start(&lifecycle).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_that_hangs_is_dropped_at_the_time_out() {
        let lifecycle = Lifecycle::new("db");
        let attempt = || pending::<Result<(), Failure>>();
        let error = lifecycle.start(SECOND * 3, &backoff(), attempt).await.unwrap_err();
        assert!(matches!(error, StartError::TimedOut { last: None, .. }));
        assert_eq!(lifecycle.state(), State::Failed);
    }

    #[tokio::test(start_paused = true)]
    async fn what_waiting_does_not_cure_fails_at_once() {
        for kind in [ErrorKind::Invalid, ErrorKind::Denied, ErrorKind::Conflict] {
            let lifecycle = Lifecycle::new("db");
            let attempt = || async { Err(Failure(kind)) };
            let error = lifecycle.start(SECOND, &backoff(), attempt).await.unwrap_err();
            assert!(matches!(error, StartError::Failed(Failure(found)) if found == kind));
            assert_eq!(lifecycle.state(), State::Failed);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn concurrent_starts_run_one_attempt() {
        let lifecycle = Lifecycle::new("db");
        let calls = Cell::new(0);
        let attempt = || async {
            calls.set(calls.get() + 1);
            sleep(SECOND).await;
            Ok::<_, Failure>(())
        };
        let backoff = backoff();
        let both = tokio::join!(
            lifecycle.start(SECOND * 9, &backoff, attempt),
            lifecycle.start(SECOND * 9, &backoff, attempt),
        );
        assert!(both.0.is_ok() && both.1.is_ok());
        assert_eq!(calls.get(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_start_leaves_the_former_state() {
        let lifecycle = Lifecycle::new("db");
        let hang = || pending::<Result<(), Failure>>();
        for former in [State::Created, State::Failed] {
            let backoff = backoff();
            let start = lifecycle.start(SECOND * 30, &backoff, hang);
            assert!(start.await_for(SECOND).await.is_none());
            assert_eq!(lifecycle.state(), former);
            let _ = lifecycle.start(SECOND, &backoff, hang).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_shutdown_ends_a_start_under_way_before_it_closes() {
        let lifecycle = Lifecycle::new("db");
        let proving = Arc::new(());
        let attempt = || {
            let proving = Arc::clone(&proving);
            async move {
                let _proving = proving;
                pending::<Result<(), Failure>>().await
            }
        };
        let closing = || async {
            assert_eq!(Arc::strong_count(&proving), 1, "closed under an attempt");
            Ok::<_, Failure>(())
        };
        let (backoff, began) = (backoff(), tokio::time::Instant::now());
        let (started, closed) = tokio::join!(
            lifecycle.start(SECOND * 30, &backoff, attempt),
            lifecycle.shutdown(within(SECOND), closing),
        );
        assert!(matches!(started, Err(StartError::Closed { .. })));
        assert_eq!(closed.unwrap(), Shutdown { abandoned: 0, cut: false });
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert_eq!(lifecycle.state(), State::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_shutdown_waits_for_calls_in_flight_before_it_closes() {
        let lifecycle = Lifecycle::new("db");
        start(&lifecycle).await.unwrap();
        let (first, second) = (lifecycle.enter().unwrap(), lifecycle.enter().unwrap());
        assert_eq!(lifecycle.in_flight(), 2);
        let returned = AtomicBool::new(false);
        let closing = || async {
            assert!(returned.load(Ordering::Relaxed), "closed under a running call");
            Ok::<_, Failure>(())
        };
        let (outcome, ()) = tokio::join!(lifecycle.shutdown(within(SECOND * 9), closing), async {
            drop(first);
            sleep(SECOND).await;
            assert_eq!(lifecycle.state(), State::Draining);
            returned.store(true, Ordering::Relaxed);
            drop(second);
        });
        assert_eq!(outcome.unwrap(), Shutdown { abandoned: 0, cut: false });
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_abandons_calls_and_cuts_a_closing_that_hangs() {
        let lifecycle = Lifecycle::new("db");
        start(&lifecycle).await.unwrap();
        let _stuck = lifecycle.enter().unwrap();
        let began = tokio::time::Instant::now();
        let closing = || pending::<Result<(), Failure>>();
        let outcome = lifecycle.shutdown(within(SECOND * 5), closing).await.unwrap();
        assert_eq!(outcome, Shutdown { abandoned: 1, cut: true });
        assert_eq!(began.elapsed(), SECOND * 5 + Lifecycle::CLOSING_GRACE);
        assert_eq!(lifecycle.state(), State::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn shutdowns_run_closing_once_even_if_never_started() {
        let lifecycle = Lifecycle::new("db");
        let closed = Cell::new(0);
        let closing = || async {
            closed.set(closed.get() + 1);
            sleep(SECOND).await;
            Err(Failure(ErrorKind::Internal))
        };
        let (first, second) = tokio::join!(
            lifecycle.shutdown(within(SECOND * 9), closing),
            lifecycle.shutdown(within(SECOND * 9), closing),
        );
        assert_eq!(first, Err(Failure(ErrorKind::Internal)));
        assert!(second.is_ok());
        assert_eq!((closed.get(), lifecycle.state()), (1, State::Closed));
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_shutdown_is_carried_on_by_the_next() {
        let lifecycle = Lifecycle::new("db");
        start(&lifecycle).await.unwrap();
        let stuck = lifecycle.enter().unwrap();
        assert!(close(&lifecycle, within(SECOND * 9)).await_for(SECOND).await.is_none());
        assert_eq!(lifecycle.state(), State::Draining);
        drop(stuck);
        assert_eq!(close(&lifecycle, within(SECOND)).await.abandoned, 0);
        assert_eq!(lifecycle.state(), State::Closed);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn no_call_is_admitted_after_draining_saw_none() {
        for _ in 0..200 {
            let lifecycle = Lifecycle::new("db");
            start(&lifecycle).await.unwrap();
            let closed = Arc::new(AtomicBool::new(false));
            let callers: Vec<_> = (0..4)
                .map(|_| {
                    let (lifecycle, closed) = (lifecycle.clone(), Arc::clone(&closed));
                    std::thread::spawn(move || {
                        loop {
                            match lifecycle.enter() {
                                Ok(_call) => assert!(!closed.load(Ordering::SeqCst)),
                                Err(refused) => return assert_eq!(refused, Refused::Closed),
                            }
                        }
                    })
                })
                .collect();
            let closing = || async {
                closed.store(true, Ordering::SeqCst);
                Ok::<_, Failure>(())
            };
            let outcome = lifecycle.shutdown(within(SECOND * 30), closing).await.unwrap();
            assert_eq!(outcome.abandoned, 0);
            for caller in callers {
                caller.join().unwrap();
            }
            assert_eq!(lifecycle.in_flight(), 0);
        }
    }

    trait AwaitFor: Future + Sized {
        async fn await_for(self, span: Duration) -> Option<Self::Output> {
            within(span).limit(self).await
        }
    }

    impl<F: Future> AwaitFor for F {}
}
