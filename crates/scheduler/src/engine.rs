mod beats;
pub(crate) mod bell;
mod claims;
mod finishes;
pub(crate) mod handlers;
mod leases;
mod planner;
pub(crate) mod run;
pub(crate) mod runs;
mod sweeps;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;
use trine_core::{
    Backoff, Clock, Intensity, LeaseKeeper, Lifecycle, Moment, Outage, Report, Tasks, Watermark,
};

use self::bell::Bell;
use self::finishes::Finishes;
use self::handlers::Handlers;
use self::leases::Store;
use self::runs::Runs;
use crate::backend::Effects;
use crate::service::meters::Meters;
use crate::{At, Call, Error, Result, SchedulerBackend, SchedulerConfig, Scope};

/// Between two tries of a loop that the store did not answer.
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LONGEST_RETRY: Duration = Duration::from_secs(1);

/// How often a loop may end by a panic before it is given up.
const RESTARTS: u32 = 20;

/// What plans, claims and runs over one store. The tasks of a service hold it;
/// it holds none of them.
pub(crate) struct Engine {
    pub(crate) name: Arc<str>,
    pub(crate) process: Arc<str>,
    pub(crate) backend: Arc<dyn SchedulerBackend>,
    effects: Effects,
    /// Whether other processes may take its ticks over.
    is_shared: bool,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) handlers: Handlers,
    pub(crate) planner: Loop,
    pub(crate) claims: Loop,
    pub(crate) beats: Loop,
    pub(crate) is_planner: AtomicBool,
    pub(crate) finishes: Finishes,
    parts: Parts,
    keeper: OnceLock<LeaseKeeper>,
    is_started: AtomicBool,
}

/// What the engines of a service share.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) config: Arc<SchedulerConfig>,
    pub(crate) runs: Arc<Runs>,
    pub(crate) meters: Arc<Meters>,
    pub(crate) lifecycle: Lifecycle,
    /// Threads of blocking jobs.
    pub(crate) threads: Tasks,
    /// Ends planning and claiming.
    pub(crate) closing: CancellationToken,
    /// Ends the runs.
    pub(crate) cut: CancellationToken,
}

/// One loop, as others see it.
pub(crate) struct Loop {
    pub(crate) bell: Arc<Bell>,
    pub(crate) watermark: Watermark,
    /// Cancelled when it has said its last word to the store.
    pub(crate) ended: CancellationToken,
}

impl Loop {
    fn new(clock: &Arc<dyn Clock>, bell: Arc<Bell>) -> Self {
        let watermark = Watermark::new(Arc::clone(clock));
        Self { bell, watermark, ended: CancellationToken::new() }
    }
}

impl Engine {
    /// Returns an engine over a store, whose claims wait for `bell`.
    pub(crate) fn new(
        (name, process): (&Arc<str>, &Arc<str>),
        (backend, effects): (Arc<dyn SchedulerBackend>, Effects),
        scope: Scope,
        clock: &Arc<dyn Clock>,
        bell: Arc<Bell>,
        parts: Parts,
    ) -> Self {
        let made = || Loop::new(clock, Arc::new(Bell::new(clock)));
        Self {
            name: Arc::clone(name),
            process: Arc::clone(process),
            backend,
            effects,
            is_shared: scope == Scope::Once,
            clock: Arc::clone(clock),
            handlers: Handlers::default(),
            planner: made(),
            claims: Loop::new(clock, bell),
            beats: made(),
            is_planner: AtomicBool::new(false),
            finishes: Finishes::new(clock),
            parts,
            keeper: OnceLock::new(),
            is_started: AtomicBool::new(false),
        }
    }

    /// Begins to plan, claim and run, unless it has. Runs are owned by `runs`,
    /// all the rest by `tasks`.
    pub(crate) fn start(self: &Arc<Self>, tasks: &Tasks, runs: &Tasks) {
        if self.is_started.swap(true, Ordering::SeqCst) {
            return;
        }
        let store = Arc::new(Store { backend: Arc::clone(&self.backend) });
        let spawn = || LeaseKeeper::spawn(tasks, store, Arc::clone(&self.clock));
        self.keeper.get_or_init(spawn);
        for part in [&self.planner, &self.claims, &self.beats] {
            part.watermark.advance();
        }
        let runs = runs.clone();
        self.supervise(tasks, "planner", Self::plan);
        self.supervise(tasks, "claims", move |engine| engine.claim(runs.clone()));
        self.supervise(tasks, "beats", Self::beat);
        self.supervise(tasks, "sweeps", Self::sweep);
        self.supervise(tasks, "finishes", Self::finish_all);
    }

    fn supervise<F, Fut>(self: &Arc<Self>, tasks: &Tasks, name: &'static str, mut part: F)
    where
        F: FnMut(Arc<Self>) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let (engine, token) = (Arc::clone(self), tasks.token());
        let intensity = Intensity::new(RESTARTS, Duration::from_secs(60));
        tasks.supervise(name, intensity, move || {
            let (work, token) = (part(Arc::clone(&engine)), token.clone());
            async move {
                tokio::select! {
                    () = token.cancelled() => {}
                    // One that has nothing to do any more must not be restarted.
                    () = async { work.await; token.cancelled().await } => {}
                }
            }
        });
    }

    /// Waits until a closing has been told to the store.
    pub(crate) async fn farewell(&self) {
        if self.is_started() {
            self.planner.ended.cancelled().await;
            self.claims.ended.cancelled().await;
        }
    }

    pub(crate) fn is_started(&self) -> bool {
        self.is_started.load(Ordering::SeqCst)
    }

    /// Says that this process is there, and registers its jobs if the store does
    /// not know of them, as before the first claim and after it was not heard
    /// of for long. Answers whether it did.
    pub(crate) async fn enrol(&self, operation: &'static str) -> Result<bool> {
        let call = Call::new(operation);
        let known = self.backend.beat(call, &self.process, self.ttl()).await?;
        if self.handlers.count() as u64 <= known {
            return Ok(false);
        }
        let definitions = self.handlers.definitions();
        self.backend.register(call, &self.process, &definitions).await?;
        Ok(true)
    }

    /// Wakes what looks for work.
    pub(crate) fn ring(&self) {
        self.planner.bell.ring();
        self.claims.bell.ring();
    }

    pub(crate) fn at(&self, operation: &'static str) -> At {
        At::new(operation, &self.name)
    }

    /// For how long the store keeps what this process has, without word of it.
    fn ttl(&self) -> Duration {
        self.parts.config.lease.get()
    }

    /// Returns the moment of a time of the store, whose clock showed `now` when
    /// its answer was `received`, at the latest.
    fn moment(&self, now: SystemTime, received: Moment, time: SystemTime) -> Moment {
        received + time.duration_since(now).unwrap_or_default()
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What a loop keeps of a store that does not answer.
struct Trouble {
    part: &'static str,
    outage: Outage,
    backoff: Backoff,
}

impl Trouble {
    fn new(part: &'static str) -> Self {
        let backoff = Backoff::new(FIRST_RETRY, LONGEST_RETRY);
        Self { part, outage: Outage::new(), backoff }
    }

    /// Notes a failure and returns after how long to try again.
    fn failed(&mut self, engine: &Engine, error: &Error) -> Duration {
        let wait = self.backoff.delay(self.outage.failures());
        if let Some(failures) = self.outage.failed() {
            let (service, part, error) = (&*engine.name, self.part, Report(error));
            tracing::warn!(service, part, failures, %error, "scheduler cannot reach its store");
        }
        wait
    }

    fn over(&mut self, engine: &Engine) {
        if let Some(failures) = self.outage.over() {
            let (service, part) = (&*engine.name, self.part);
            tracing::warn!(service, part, failures, "scheduler reaches its store again");
        }
    }
}
