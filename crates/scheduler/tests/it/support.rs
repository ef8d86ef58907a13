//! Processes over one store, on a clock that the test moves.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use tokio::sync::Semaphore;
use tokio::task::yield_now;
use trine_core::{Claim, Deadline, ManualClock, Renewal, Service, Span};
use trine_scheduler::{
    At, Call, Capabilities, ClaimAnswer, Definition, Error, Finish, FinishOutcome, Job, JobFacts,
    JobId, JobPage, MemoryBackend, Overview, PlanAnswer, Registered, Result, SchedulerBackend,
    SchedulerConfig, SchedulerDeps, SchedulerService, StoreFacts, Tick, TickPage, TickState,
    TriggerOutcome, Unavailable,
};

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// A store and its clock.
pub(crate) struct World {
    pub(crate) clock: Arc<ManualClock>,
    store: MemoryBackend,
}

/// One process over the store of its world.
pub(crate) struct Process {
    pub(crate) service: SchedulerService,
    pub(crate) way: Arc<Watched>,
}

/// Short, so that what takes over does so within some steps.
pub(crate) fn config() -> SchedulerConfig {
    let config = SchedulerConfig::memory().with_lease(Span::secs(30));
    config.with_planner_lease(Span::secs(10))
}

impl World {
    pub(crate) fn new() -> Self {
        let clock = Arc::new(ManualClock::new());
        let store = MemoryBackend::open(&"scheduler.default".into(), clock.clone());
        Self { clock, store }
    }

    /// Returns a process that is not started.
    pub(crate) fn open(&self, config: &SchedulerConfig, jobs: Vec<Job>) -> Process {
        let way = Arc::new(Watched::new(self.store.beside()));
        let deps = SchedulerDeps::default().with_clock(self.clock.clone());
        let deps = jobs.into_iter().fold(deps, SchedulerDeps::with_job);
        let service = SchedulerService::with_backend(way.clone(), config, deps).unwrap();
        Process { service, way }
    }

    pub(crate) async fn process(&self, jobs: Vec<Job>) -> Process {
        self.process_with(&config(), jobs).await
    }

    pub(crate) async fn process_with(&self, config: &SchedulerConfig, jobs: Vec<Job>) -> Process {
        let process = self.open(config, jobs);
        process.service.start().await.unwrap();
        self.turn().await;
        process
    }

    /// Lets everything run that can at this moment.
    pub(crate) async fn turn(&self) {
        for _ in 0..200 {
            yield_now().await;
        }
    }

    /// Moves the clock in steps, each with its turn.
    pub(crate) async fn pass(&self, span: Duration) {
        self.pass_by(span, SECOND / 2).await;
    }

    pub(crate) async fn pass_by(&self, span: Duration, step: Duration) {
        let mut left = span;
        while !left.is_zero() {
            let step = step.min(left);
            self.clock.advance(step);
            left -= step;
            self.turn().await;
        }
    }
}

impl Process {
    pub(crate) async fn ticks(&self, job: &str) -> Vec<Tick> {
        let mut ticks = self.service.ticks(job, None, 1_000).await.unwrap().ticks;
        ticks.reverse();
        ticks
    }

    pub(crate) async fn states(&self, job: &str) -> Vec<TickState> {
        self.ticks(job).await.iter().map(|tick| tick.state).collect()
    }

    pub(crate) async fn facts(&self, job: &str) -> JobFacts {
        self.service.job(job).await.unwrap().unwrap()
    }

    pub(crate) fn takeovers(&self) -> u64 {
        let metrics = self.service.metrics();
        metrics.counter("trine_scheduler_takeovers_total", &[]).unwrap()
    }

    pub(crate) async fn shutdown(&self, within: Duration) {
        self.service.shutdown(Deadline::after(within)).await.unwrap();
    }
}

/// What handlers tell the test, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub(crate) fn say(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

/// A job that says its name and attempt, and succeeds.
pub(crate) fn speaks(id: &str, schedule: &str, log: &Log) -> Job {
    let log = log.clone();
    let job = Job::new(id, schedule).run(move |ctx| {
        log.say(format!("{} {}", ctx.job(), ctx.attempt()));
        async { Ok::<(), Error>(()) }
    });
    job.unwrap()
}

/// Waits for what other threads do.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Deadline::after(SECOND * 20);
    while !is_so() {
        assert!(!deadline.has_passed(), "{what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A way to a store on which things go wrong.
#[derive(Debug)]
pub(crate) struct Watched {
    inner: MemoryBackend,
    counts: Mutex<BTreeMap<&'static str, u64>>,
    is_away: AtomicBool,
    /// Whose answers never come.
    hung: Mutex<Option<&'static str>>,
    /// Whose answers are lost on their way.
    lost: Mutex<Option<&'static str>>,
    never: Semaphore,
}

impl Watched {
    pub(crate) fn new(inner: MemoryBackend) -> Self {
        Self {
            inner,
            counts: Mutex::default(),
            is_away: AtomicBool::new(false),
            hung: Mutex::default(),
            lost: Mutex::default(),
            never: Semaphore::new(0),
        }
    }

    pub(crate) fn set_away(&self, is_away: bool) {
        self.is_away.store(is_away, Ordering::SeqCst);
    }

    pub(crate) fn hang(&self, operation: &'static str) {
        *self.hung.lock().unwrap() = Some(operation);
    }

    pub(crate) fn lose(&self, operation: Option<&'static str>) {
        *self.lost.lock().unwrap() = operation;
    }

    pub(crate) fn count(&self, operation: &str) -> u64 {
        self.counts.lock().unwrap().get(operation).copied().unwrap_or_default()
    }

    async fn reach(&self, call: Call, operation: &'static str) -> Result<()> {
        *self.counts.lock().unwrap().entry(operation).or_default() += 1;
        if *self.hung.lock().unwrap() == Some(operation) {
            // Nobody adds a permit.
            let _ = self.never.acquire().await;
        }
        if !self.is_away.load(Ordering::SeqCst) {
            return Ok(());
        }
        Err(self.unreachable(call))
    }

    fn unreachable(&self, call: Call) -> Error {
        let at = At::new(call.operation, &"scheduler.default".into());
        Error::Unavailable { at, reason: Unavailable::Unreachable, cause: None }
    }

    /// Loses an answer.
    fn answer<T>(&self, call: Call, operation: &'static str, answer: Result<T>) -> Result<T> {
        if *self.lost.lock().unwrap() == Some(operation) {
            return Err(self.unreachable(call));
        }
        answer
    }
}

#[async_trait]
impl SchedulerBackend for Watched {
    fn name(&self) -> &'static str {
        "watched"
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn prove(&self, call: Call) -> Result<StoreFacts> {
        self.reach(call, "prove").await?;
        self.inner.prove(call).await
    }

    async fn register(
        &self,
        call: Call,
        process: &Arc<str>,
        definitions: &[Arc<Definition>],
    ) -> Result<Vec<Registered>> {
        self.reach(call, "register").await?;
        let answer = self.inner.register(call, process, definitions).await;
        self.answer(call, "register", answer)
    }

    async fn withdraw(&self, call: Call, process: &Arc<str>, jobs: Option<&[JobId]>) -> Result<()> {
        self.reach(call, "withdraw").await?;
        self.inner.withdraw(call, process, jobs).await
    }

    async fn beat(&self, call: Call, process: &Arc<str>, ttl: Duration) -> Result<u64> {
        self.reach(call, "beat").await?;
        self.inner.beat(call, process, ttl).await
    }

    async fn remove(&self, call: Call, job: &JobId) -> Result<bool> {
        self.reach(call, "remove").await?;
        self.inner.remove(call, job).await
    }

    async fn pause(&self, call: Call, job: &JobId, note: &str) -> Result<()> {
        self.reach(call, "pause").await?;
        self.inner.pause(call, job, note).await
    }

    async fn resume(&self, call: Call, job: &JobId) -> Result<bool> {
        self.reach(call, "resume").await?;
        self.inner.resume(call, job).await
    }

    async fn trigger(&self, call: Call, job: &JobId) -> Result<TriggerOutcome> {
        self.reach(call, "trigger").await?;
        self.inner.trigger(call, job).await
    }

    async fn plan(
        &self,
        call: Call,
        process: &Arc<str>,
        ttl: Duration,
        jobs: u32,
    ) -> Result<PlanAnswer> {
        self.reach(call, "plan").await?;
        self.inner.plan(call, process, ttl, jobs).await
    }

    async fn resign(&self, call: Call, process: &Arc<str>) -> Result<()> {
        self.reach(call, "resign").await?;
        self.inner.resign(call, process).await
    }

    async fn claim(
        &self,
        call: Call,
        process: &Arc<str>,
        ttl: Duration,
        count: u32,
    ) -> Result<ClaimAnswer> {
        self.reach(call, "claim").await?;
        let answer = self.inner.claim(call, process, ttl, count).await;
        self.answer(call, "claim", answer)
    }

    async fn renew(&self, call: Call, claims: &[Claim]) -> Result<Vec<Renewal>> {
        self.reach(call, "renew").await?;
        self.inner.renew(call, claims).await
    }

    async fn finish(&self, call: Call, attempts: &[Finish]) -> Result<Vec<FinishOutcome>> {
        self.reach(call, "finish").await?;
        let answer = self.inner.finish(call, attempts).await;
        self.answer(call, "finish", answer)
    }

    async fn job(&self, call: Call, job: &JobId) -> Result<Option<JobFacts>> {
        self.inner.job(call, job).await
    }

    async fn jobs(
        &self,
        call: Call,
        prefix: &str,
        after: Option<&JobId>,
        count: u32,
    ) -> Result<JobPage> {
        self.inner.jobs(call, prefix, after, count).await
    }

    async fn ticks(
        &self,
        call: Call,
        job: &JobId,
        before: Option<SystemTime>,
        count: u32,
    ) -> Result<TickPage> {
        self.inner.ticks(call, job, before, count).await
    }

    async fn overview(&self, call: Call) -> Result<Overview> {
        self.inner.overview(call).await
    }

    async fn sweep(&self, call: Call, age: Duration, runs: u32, rows: u32) -> Result<u64> {
        self.reach(call, "sweep").await?;
        self.inner.sweep(call, age, runs, rows).await
    }

    async fn close(&self, deadline: Deadline) {
        self.inner.close(deadline).await;
    }
}
