#[cfg(any(feature = "mysql", feature = "sqlite"))]
pub(crate) mod database;
#[cfg(not(any(feature = "mysql", feature = "sqlite")))]
#[path = "backend/no_database.rs"]
pub(crate) mod database;
mod memory;
mod observed;
#[cfg(any(feature = "mysql", feature = "sqlite"))]
mod sql;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use trine_core::{Claim, Deadline, Durability, Fence, Metrics, Renewal};

use crate::{
    AttemptEnd, BackendConfig, ClaimedTick, Definition, JobFacts, JobId, JobPage, Result,
    SchedulerConfig, SchedulerDeps, TickPage,
};

pub(crate) use database::Effects;
pub use memory::MemoryBackend;
pub use observed::Observed;
#[cfg(any(feature = "mysql", feature = "sqlite"))]
pub use sql::{SqlBackend, once_in};

/// The operations that a store of jobs and ticks must offer. Object-safe on
/// purpose: callers hold one [`SchedulerService`](crate::SchedulerService)
/// whatever the store is.
///
/// Every operation is one atomic step, may be sent again after an unknown
/// outcome, and goes by the store's own clock, which its answers tell. What a
/// step decides is decided by [`planning`](crate::planning), so that all stores
/// decide alike.
///
/// Dropping any of these futures never gives an answer to another caller; what
/// it asked for may still have happened.
#[async_trait]
pub trait SchedulerBackend: fmt::Debug + Send + Sync + 'static {
    /// Returns a short constant name for logs and metrics, such as `"memory"`.
    fn name(&self) -> &'static str;

    /// Returns what this store can do beyond the required operations.
    fn capabilities(&self) -> Capabilities;

    /// Makes sure that the store answers, connecting if necessary. Idempotent;
    /// also what health checks call.
    async fn prove(&self, call: Call) -> Result<StoreFacts>;

    /// Stores the definitions, and that `process` has handlers for them in
    /// these revisions: all of them or none. Answers one [`Registered`] each.
    ///
    /// A new job begins as [`planning::first`](crate::planning::first) says, a
    /// higher revision goes on as
    /// [`planning::replaced`](crate::planning::replaced) says, and a lower one
    /// changes nothing but the handler. One that the store has, or has a higher
    /// one of, goes on as [`planning::refreshed`](crate::planning::refreshed)
    /// says. A job that was removed is new again.
    ///
    /// # Errors
    ///
    /// Fails with `Conflict` for a definition that differs from the stored one
    /// of the same revision, and for a job that is there twice, and with
    /// `NeverDue` for one without a time.
    async fn register(
        &self,
        call: Call,
        process: &Arc<str>,
        definitions: &[Arc<Definition>],
    ) -> Result<Vec<Registered>>;

    /// Forgets the handlers of `process`: of these jobs, or `None` of all.
    async fn withdraw(&self, call: Call, process: &Arc<str>, jobs: Option<&[JobId]>) -> Result<()>;

    /// Says that `process` is there, and its handlers with it, for `ttl`, and
    /// answers how many it has: fewer than it registered if the store forgot it
    /// as one that was gone, and then it is to register again. Before its first
    /// beat no process is there.
    async fn beat(&self, call: Call, process: &Arc<str>, ttl: Duration) -> Result<u64>;

    /// Removes the job and ends its waiting ticks as
    /// [`Removed`](crate::TickState::Removed); a run that goes on may end, and
    /// is kept in the history. It is not tried again: the next claim or sweep
    /// after its lease is over ends it as removed, too. Processes keep their
    /// handlers for a job of this name. `false` if there is no such job.
    async fn remove(&self, call: Call, job: &JobId) -> Result<bool>;

    /// Plans no ticks of the job any more and gives out none but
    /// [triggered](crate::TickKind::Triggered) ones, until it is resumed; runs
    /// that go on may end. A second note replaces the first, the moment stays.
    ///
    /// # Errors
    ///
    /// Fails with `NotFound` if there is no such job.
    async fn pause(&self, call: Call, job: &JobId, note: &str) -> Result<()>;

    /// Goes on with the job as [`planning::resumed`](crate::planning::resumed)
    /// says: times that passed meanwhile are passed over, waiting ticks are
    /// given out. `false` if it was not paused.
    ///
    /// # Errors
    ///
    /// Fails with `NotFound` if there is no such job.
    async fn resume(&self, call: Call, job: &JobId) -> Result<bool>;

    /// Makes a tick of the job for this moment if
    /// [`planning::has_room`](crate::planning::has_room) says so, also of a
    /// paused one. It is due at once, and nothing else moves.
    ///
    /// The nominal time is the moment of the call by the store's clock, or the
    /// first microsecond after it that is neither that of another tick nor the
    /// job's next one.
    ///
    /// # Errors
    ///
    /// Fails with `NotFound` if there is no such job.
    async fn trigger(&self, call: Call, job: &JobId) -> Result<TriggerOutcome>;

    /// Becomes or stays the planner for `ttl`, and makes the ticks of up to
    /// `jobs` jobs that are due, those due first: each as
    /// [`planning::plan`](crate::planning::plan) says, in the same step as the
    /// planner is checked. Of a nominal time that has a tick no other is made.
    ///
    /// Also how a process stays the planner whose lease is over and was not
    /// taken.
    async fn plan(
        &self,
        call: Call,
        process: &Arc<str>,
        ttl: Duration,
        jobs: u32,
    ) -> Result<PlanAnswer>;

    /// Stops to be the planner, if `process` is.
    async fn resign(&self, call: Call, process: &Arc<str>) -> Result<()>;

    /// Gives up to `count` ticks that wait, or whose lease is over, to
    /// `process` for `ttl`: of jobs that it has handlers for, made by no higher
    /// revision than its handler's, and of paused ones only triggered ticks.
    /// Those that could be claimed first go first, of one moment by their
    /// nominal times.
    ///
    /// Of each job no more run at once than
    /// [`concurrency`](crate::Overlap::concurrency) says, retries and takeovers
    /// among them: a tick keeps its place from its first attempt until it is
    /// over, also while it waits for another.
    ///
    /// Each is a new [`Attempt`](crate::Attempt), under a token that is higher
    /// than all before it under the same [fence key](fence_key): the last one of
    /// the job and the store's clock in µs, as [`Fence::next_token`] says. The
    /// attempt before whose lease is over ends as
    /// [`Lost`](crate::AttemptEnd::Lost). A tick that was taken over as often as
    /// its job allows is failed instead, as
    /// [`planning::is_taken_over`](crate::planning::is_taken_over) says.
    async fn claim(
        &self,
        call: Call,
        process: &Arc<str>,
        ttl: Duration,
        count: u32,
    ) -> Result<ClaimAnswer>;

    /// Renews each claim by its ttl and answers one [`Renewal`] each, as
    /// [`Leases::renew`](trine_core::Leases::renew) asks: one whose lease is over
    /// is gone, whether or not the tick was taken over.
    async fn renew(&self, call: Call, claims: &[Claim]) -> Result<Vec<Renewal>>;

    /// Ends attempts, each as far as it still is the tick's last and goes on,
    /// and answers one [`FinishOutcome`] each, whether or not its lease is over.
    /// What the tick is then says [`planning::attempted`](crate::planning::attempted),
    /// what the job learns of its end
    /// [`planning::finished`](crate::planning::finished).
    ///
    /// # Errors
    ///
    /// Fails with `Invalid` for an end as [`Lost`](crate::AttemptEnd::Lost),
    /// and changes nothing.
    async fn finish(&self, call: Call, attempts: &[Finish]) -> Result<Vec<FinishOutcome>>;

    /// Returns one job, as it is now.
    async fn job(&self, call: Call, job: &JobId) -> Result<Option<JobFacts>>;

    /// Returns one page of the jobs whose names begin with `prefix`, which may
    /// be empty, from after `after` on, at most `count` of them, in the order of
    /// their names.
    async fn jobs(
        &self,
        call: Call,
        prefix: &str,
        after: Option<&JobId>,
        count: u32,
    ) -> Result<JobPage>;

    /// Returns one page of the ticks of a job, the latest nominal time first,
    /// from before `before` on, at most `count` of them; also those of a job
    /// that was removed.
    async fn ticks(
        &self,
        call: Call,
        job: &JobId,
        before: Option<SystemTime>,
        count: u32,
    ) -> Result<TickPage>;

    /// Returns what an operator asks first. Bounded work, whatever is stored.
    async fn overview(&self, call: Call) -> Result<Overview>;

    /// Forgets ticks that ended longer than `age` ago, those that are over
    /// beyond the last `runs` of each job, and processes that are gone; at most
    /// `rows` of them. Answers how many there were: less than `rows` means that
    /// nothing is left.
    async fn sweep(&self, call: Call, age: Duration, runs: u32, rows: u32) -> Result<u64>;

    /// Takes no new work and lets go of what it holds. Idempotent.
    async fn close(&self, deadline: Deadline);
}

/// Returns the store that the configuration names, with its calls counted, and
/// what only some can do. Does no I/O.
pub(crate) fn connect(
    config: &SchedulerConfig,
    deps: &SchedulerDeps,
    metrics: &Metrics,
) -> Result<(Arc<dyn SchedulerBackend>, Effects)> {
    match &config.backend {
        BackendConfig::Memory {} => {
            let memory = MemoryBackend::open(&deps.name, Arc::clone(&deps.clock));
            Ok((Arc::new(Observed::new(memory, metrics)), Effects::default()))
        }
        BackendConfig::Database(_) => database::connect(deps, metrics),
    }
}

/// The bounds of one call, and its name for messages.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Call {
    /// The operation as the caller knows it, such as `"register"`.
    pub operation: &'static str,
    /// When the answer is of no use any more, if the caller said so; the
    /// store's own time-outs hold in any case.
    pub deadline: Option<Deadline>,
}

impl Call {
    /// Returns a call without a deadline of the caller's.
    #[must_use]
    pub fn new(operation: &'static str) -> Self {
        Self { operation, deadline: None }
    }

    /// Returns the call ended by `deadline`.
    #[must_use]
    pub fn until(mut self, deadline: Option<Deadline>) -> Self {
        self.deadline = deadline;
        self
    }
}

/// What a store can do beyond the required operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// Other processes see the same jobs and ticks.
    pub is_shared: bool,
    /// A tick can be completed in a transaction of the caller's.
    pub transactions: bool,
}

impl Capabilities {
    /// Returns the abilities of a store of this process only.
    #[must_use]
    pub fn local() -> Self {
        Self { is_shared: false, transactions: false }
    }

    /// Returns the abilities of a database that processes share.
    #[must_use]
    pub fn shared() -> Self {
        Self { is_shared: true, transactions: true }
    }
}

/// What became of a definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Registered {
    /// The job is new.
    New,
    /// The store had the same definition.
    Same,
    /// It replaced that of a lower revision; a run that goes on ends as it
    /// began, and ticks that wait are run by the new handler.
    Replaced {
        /// The revision it replaced.
        revision: u64,
    },
    /// The store has a higher revision: this process runs ticks that were made
    /// by its own or a lower one, and no others.
    Older {
        /// The stored revision.
        revision: u64,
    },
}

/// What became of a trigger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TriggerOutcome {
    /// There is a tick of this nominal time.
    Triggered {
        /// The nominal time: the moment of the call by the store's clock.
        nominal: SystemTime,
    },
    /// Nothing was made, because of the job's
    /// [`Overlap`](crate::Overlap): another tick goes on or waits.
    Overlaps {
        /// The nominal time of the other.
        nominal: SystemTime,
    },
}

/// What a store answers to a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlanAnswer {
    /// This process is the planner.
    Planned {
        /// The store's clock.
        now: SystemTime,
        /// Ticks that were made, those that are over at once among them.
        ticks: u64,
        /// The next nominal time of any job; at or before `now` if more are due
        /// than were planned. `None` if there is none.
        next_due: Option<SystemTime>,
    },
    /// Another is.
    Other {
        /// The store's clock.
        now: SystemTime,
        /// When its lease is over if it is not renewed.
        retry_in: Duration,
        /// The next nominal time of any job.
        next_due: Option<SystemTime>,
    },
}

/// What a store answers to a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClaimAnswer {
    /// The store's clock.
    pub now: SystemTime,
    /// What is given to the process.
    pub ticks: Vec<ClaimedTick>,
    /// When the next tick can be claimed by this process unless something
    /// happens before: a retry, or the end of a lease; at or before `now` if
    /// more wait than were asked for. `None` if there is none.
    pub next_ready: Option<SystemTime>,
}

impl ClaimAnswer {
    /// Returns an answer.
    #[must_use]
    pub fn new(now: SystemTime, ticks: Vec<ClaimedTick>, next_ready: Option<SystemTime>) -> Self {
        Self { now, ticks, next_ready }
    }
}

/// The end of an attempt, as its process tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finish {
    /// The job.
    pub job: JobId,
    /// The tick's nominal time.
    pub nominal: SystemTime,
    /// What it was held under.
    pub fence: Fence,
    /// How it ended; never [`Lost`](AttemptEnd::Lost), which a store finds out.
    pub end: AttemptEnd,
    /// After how long it is tried again, after a failure that is not the last.
    pub retry_in: Option<Duration>,
}

impl Finish {
    /// Returns the end of the attempt at `tick`.
    #[must_use]
    pub fn new(tick: &ClaimedTick, end: AttemptEnd, retry_in: Option<Duration>) -> Self {
        let (job, nominal) = (tick.job.clone(), tick.nominal);
        Self { job, nominal, fence: tick.fence.clone(), end, retry_in }
    }
}

/// What became of the end of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FinishOutcome {
    /// The tick is over.
    Finished,
    /// The tick waits for another attempt; also if that was said before.
    Waiting,
    /// The tick was over under this very fence: it was said before.
    Repeated,
    /// The tick was given to another, which alone has a say, or failed as one
    /// that was lost too often, or is not there any more.
    Replaced,
}

/// What an operator asks first.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Overview {
    /// The store's clock.
    pub now: SystemTime,
    /// Jobs.
    pub jobs: u64,
    /// Jobs that are paused.
    pub paused: u64,
    /// Active jobs that no process has a handler for that is there.
    pub without_handler: u64,
    /// The oldest nominal time that is over and nobody has planned.
    pub oldest_due: Option<SystemTime>,
    /// Since when the oldest tick waits that could be claimed by a process that
    /// is there: none that waits for its job's other runs, or to be resumed.
    pub oldest_ready: Option<SystemTime>,
    /// Ticks that run, those whose lease is over among them.
    pub running: u64,
    /// Who plans.
    pub planner: Option<Arc<str>>,
}

impl Overview {
    /// Returns the overview of an empty store.
    #[must_use]
    pub fn new(now: SystemTime) -> Self {
        Self {
            now,
            jobs: 0,
            paused: 0,
            without_handler: 0,
            oldest_due: None,
            oldest_ready: None,
            running: 0,
            planner: None,
        }
    }
}

/// What a store says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreFacts {
    /// Product and version; `memory` in this process.
    pub version: Box<str>,
    /// What survives which failure.
    pub durability: Durability,
}

impl StoreFacts {
    /// Returns the facts of a store.
    #[must_use]
    pub fn new(version: impl Into<Box<str>>, durability: Durability) -> Self {
        Self { version: version.into(), durability }
    }
}

/// Returns the key of the fence of a tick: that of its job where one tick runs
/// at a time, so that a later tick ends an earlier attempt too, else its own.
///
/// `service` is the name of the scheduler, such as `scheduler.default`, whose
/// fences begin with `job.default/`.
#[must_use]
pub fn fence_key(service: &str, definition: &Definition, nominal: SystemTime) -> String {
    let instance = service.strip_prefix("scheduler.").unwrap_or(service);
    let job = &definition.id;
    match definition.terms.overlap.concurrency() {
        1 => format!("job.{instance}/{job}"),
        _ => {
            let since = nominal.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            format!("job.{instance}/{job}#{}", since.as_micros())
        }
    }
}
