mod polled;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;
use trine_core::{
    CallContext, Clock, Deadline, InFlight, Lease, LeaseEnd, Moment, Seed, TraceParent,
};

use self::polled::Polled;
use super::Engine;
use super::handlers::Handler;
use super::runs::Place;
use crate::backend::Effects;
use crate::job::Ended;
use crate::{
    AttemptEnd, Cancelled, ClaimedTick, Finish, FinishOutcome, JobContext, Overlap, TickKind,
};

/// What is left of the grace of runs once the service must close.
const SHUTDOWN_GRACE: Duration = Duration::from_millis(400);

/// One attempt, as its handler, its runner and the operator see it.
pub(crate) struct RunState {
    pub(crate) tick: ClaimedTick,
    pub(crate) call: CallContext,
    pub(crate) is_blocking: bool,
    #[cfg_attr(
        not(any(feature = "mysql", feature = "sqlite")),
        expect(dead_code, reason = "only effects in a database read it")
    )]
    pub(crate) service: Arc<str>,
    #[cfg_attr(
        not(any(feature = "mysql", feature = "sqlite")),
        expect(dead_code, reason = "only effects in a database read it")
    )]
    pub(crate) effects: Effects,
    /// Whether other processes may take the tick over.
    #[cfg_attr(
        not(any(feature = "mysql", feature = "sqlite")),
        expect(dead_code, reason = "only effects in a database read it")
    )]
    pub(crate) is_shared: bool,
    is_complete: AtomicBool,
    clock: Arc<dyn Clock>,
    lease: Lease,
    began: Moment,
    /// When its time is over.
    pub(crate) limit: Option<Moment>,
    cause: OnceLock<Cancelled>,
    token: CancellationToken,
    /// Since when its handler has its thread, in nanoseconds of the clock.
    polled: AtomicU64,
}

impl RunState {
    pub(super) fn new(engine: &Engine, tick: ClaimedTick, lease: Lease, handler: &Handler) -> Self {
        let clock = &engine.clock;
        let (began, timeout) = (clock.now(), handler.definition.terms.timeout);
        let nominal = tick.nominal.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let seed = Seed::from_text(tick.fence.key(), &nominal.as_micros().to_string());
        let call = CallContext::default().with_seed(seed).with_trace(TraceParent::root(true));
        let call = match timeout {
            Some(timeout) => call.with_deadline(Deadline::after(timeout)),
            None => call,
        };
        Self {
            tick,
            call,
            is_blocking: handler.work.is_blocking(),
            service: Arc::clone(&engine.name),
            effects: engine.effects.clone(),
            is_shared: engine.is_shared,
            is_complete: AtomicBool::new(false),
            clock: Arc::clone(clock),
            lease,
            began,
            limit: timeout.map(|timeout| began + timeout),
            cause: OnceLock::new(),
            token: CancellationToken::new(),
            polled: AtomicU64::new(0),
        }
    }

    pub(crate) fn remaining(&self) -> Option<Duration> {
        Some(self.limit?.saturating_since(self.clock.now()))
    }

    pub(crate) fn cause(&self) -> Option<Cancelled> {
        self.cause.get().copied()
    }

    pub(crate) fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    pub(crate) async fn cancelled(&self) -> Cancelled {
        self.token.cancelled().await;
        self.cause().unwrap_or(Cancelled::Lost)
    }

    pub(crate) fn lost(&self) -> impl Future<Output = LeaseEnd> + Send + use<> {
        self.lease.lost()
    }

    /// Returns for how long the handler has had its thread without a pause.
    pub(crate) fn holds_thread(&self) -> Duration {
        polled::since(&self.polled, self.clock.now())
    }

    /// Tells whether it went on for longer than it may after its time-out.
    pub(crate) fn is_stuck(&self, grace: Duration) -> bool {
        self.limit.is_some_and(|limit| self.clock.now() > limit + grace + SHUTDOWN_GRACE)
    }

    /// Notes that the store has its end: what the handler does from now on
    /// changes nothing of it.
    #[cfg_attr(
        not(any(feature = "mysql", feature = "sqlite")),
        expect(dead_code, reason = "only effects in a database read it")
    )]
    pub(crate) fn complete(&self) {
        self.is_complete.store(true, Ordering::SeqCst);
    }

    fn is_complete(&self) -> bool {
        self.is_complete.load(Ordering::SeqCst)
    }

    fn cancel(&self, cause: Cancelled) {
        self.cause.get_or_init(|| cause);
        self.token.cancel();
    }
}

/// One attempt under way.
pub(super) struct Run {
    pub(super) engine: Arc<Engine>,
    pub(super) handler: Handler,
    pub(super) state: Arc<RunState>,
    pub(super) place: Place,
    /// A shutdown waits for it.
    pub(super) in_flight: InFlight,
}

impl Run {
    pub(super) async fn run(self) {
        let held = Held(&self.state.lease);
        let end = self.attempt().await;
        let took = self.state.clock.now().saturating_since(self.state.began);
        let Some(end) = end else { return };
        let (end, outcome) = if self.state.is_complete() {
            (AttemptEnd::Succeeded, Some(FinishOutcome::Finished))
        } else {
            let outcome = self.finish(end.clone()).await;
            (end, outcome)
        };
        self.engine.parts.meters.ended(&end, outcome, took);
        drop(held);
        let frees_others = self.frees_others(outcome);
        let Self { engine, handler, mut place, in_flight, .. } = self;
        if frees_others {
            place.ring(&engine.claims.bell);
        }
        if handler.definition.terms.schedule.is_delay() {
            place.ring(&engine.planner.bell);
        }
        drop(place);
        drop(in_flight);
    }

    /// Runs the handler; `None` if it goes on when its process must end.
    async fn attempt(&self) -> Option<AttemptEnd> {
        let (engine, state) = (&self.engine, &self.state);
        let context = JobContext { state: Arc::clone(state) };
        let work = self.handler.work.begin(context, &engine.parts.threads);
        let work = state.call.clone().scope(work);
        let mut work = Box::pin(Polled::new(work, state));
        let cause = tokio::select! {
            biased;
            ended = &mut work => return Some(end_of(ended)),
            cause = self.cause() => cause,
        };
        state.cancel(cause);
        tokio::select! {
            biased;
            ended = &mut work => return Some(end_after(cause, &ended)),
            () = self.grace() => {}
        }
        if state.is_blocking {
            tokio::select! {
                biased;
                ended = &mut work => return Some(end_after(cause, &ended)),
                () = engine.parts.cut.cancelled() => return None,
            }
        }
        // What a handler does when it is dropped may panic too.
        let _ = catch_unwind(AssertUnwindSafe(move || drop(work)));
        Some(given_up(cause))
    }

    async fn cause(&self) -> Cancelled {
        let (state, clock) = (&self.state, &self.state.clock);
        let limit = async {
            match state.limit {
                Some(limit) => clock.sleep_until(limit).await,
                None => std::future::pending().await,
            }
        };
        let lost = async {
            state.lost().await;
            if state.is_complete() {
                // The store let go of what is done.
                std::future::pending().await
            }
        };
        tokio::select! {
            biased;
            () = limit => Cancelled::TimedOut,
            () = lost => Cancelled::Lost,
            () = self.engine.parts.cut.cancelled() => Cancelled::ShutDown,
        }
    }

    async fn grace(&self) {
        let parts = &self.engine.parts;
        let clock = &self.state.clock;
        let grace = parts.config.cancel_grace.get();
        let cut = async {
            parts.cut.cancelled().await;
            tokio::time::sleep(SHUTDOWN_GRACE.min(grace)).await;
        };
        tokio::select! {
            () = clock.sleep_until(clock.now() + grace) => {}
            () = cut => {}
        }
    }

    async fn finish(&self, end: AttemptEnd) -> Option<FinishOutcome> {
        let tick = &self.state.tick;
        let failure = tick.failures.saturating_add(1);
        let retries = self.handler.definition.terms.retries;
        let retry_in = end.is_failure().then(|| retries.wait_after(failure)).flatten();
        let finish = Finish::new(tick, end, retry_in);
        self.engine.finishes.send(finish, &self.state.lease.token()).await
    }

    /// Tells whether its end may have made another tick ready.
    fn frees_others(&self, outcome: Option<FinishOutcome>) -> bool {
        let is_alone = self.handler.definition.terms.overlap == Overlap::Skip;
        let is_planned = self.state.tick.kind == TickKind::Planned;
        outcome != Some(FinishOutcome::Finished) || !is_alone || !is_planned
    }
}

/// Ends a lease that nobody needs any more, also of a run that is dropped.
struct Held<'l>(&'l Lease);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.end(LeaseEnd::Released);
        self.0.given_back();
    }
}

/// Returns the end of a handler that nobody had asked to end.
fn end_of(ended: Ended) -> AttemptEnd {
    match ended {
        Ended::Done => AttemptEnd::Succeeded,
        Ended::Failed(error) => AttemptEnd::Failed { error },
        Ended::Panicked(message) => AttemptEnd::Panicked { message },
    }
}

/// Returns the end of a handler that was asked to end: what it has done is
/// done, and an error is due to that.
fn end_after(cause: Cancelled, ended: &Ended) -> AttemptEnd {
    match ended {
        Ended::Done => AttemptEnd::Succeeded,
        Ended::Failed(_) | Ended::Panicked(_) => given_up(cause),
    }
}

fn given_up(cause: Cancelled) -> AttemptEnd {
    match cause {
        Cancelled::TimedOut => AttemptEnd::TimedOut,
        Cancelled::Lost | Cancelled::ShutDown => AttemptEnd::HandedOver,
    }
}
