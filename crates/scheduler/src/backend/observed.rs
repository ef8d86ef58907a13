use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use tokio::time::Instant;
use trine_core::{Claim, Counter, Deadline, ErrorKind, Histogram, Metrics, Renewal};

use super::{
    Call, Capabilities, ClaimAnswer, Finish, FinishOutcome, Overview, PlanAnswer, Registered,
    SchedulerBackend, StoreFacts, TriggerOutcome,
};
use crate::{Definition, Error, JobFacts, JobId, JobPage, Result, TickPage};

/// Counts and times every call to the backend it wraps. A call that is dropped
/// before its end counts as interrupted.
#[derive(Debug)]
pub struct Observed<B> {
    inner: B,
    prove: Series,
    register: Series,
    withdraw: Series,
    beat: Series,
    remove: Series,
    pause: Series,
    resume: Series,
    trigger: Series,
    plan: Series,
    resign: Series,
    claim: Series,
    renew: Series,
    finish: Series,
    job: Series,
    jobs: Series,
    ticks: Series,
    overview: Series,
    sweep: Series,
}

impl<B: SchedulerBackend> Observed<B> {
    /// Returns the backend with its calls counted in `metrics`.
    #[must_use]
    pub fn new(inner: B, metrics: &Metrics) -> Self {
        let series = |operation| Series::new(inner.name(), operation, metrics);
        Self {
            prove: series("prove"),
            register: series("register"),
            withdraw: series("withdraw"),
            beat: series("beat"),
            remove: series("remove"),
            pause: series("pause"),
            resume: series("resume"),
            trigger: series("trigger"),
            plan: series("plan"),
            resign: series("resign"),
            claim: series("claim"),
            renew: series("renew"),
            finish: series("finish"),
            job: series("job"),
            jobs: series("jobs"),
            ticks: series("ticks"),
            overview: series("overview"),
            sweep: series("sweep"),
            inner,
        }
    }
}

/// The handles of one operation.
#[derive(Debug)]
struct Series {
    backend: &'static str,
    operation: &'static str,
    metrics: Metrics,
    duration: Histogram,
    /// Made when they are first counted.
    outcomes: [OnceLock<Counter>; ErrorKind::ALL.len() + 1],
}

impl Series {
    fn new(backend: &'static str, operation: &'static str, metrics: &Metrics) -> Self {
        let labels = [("backend", backend), ("operation", operation)];
        let help = "Time from the call to its answer.";
        let duration = metrics.histogram("operation_duration_seconds", help, &labels);
        let metrics = metrics.clone();
        Self { backend, operation, metrics, duration, outcomes: Default::default() }
    }

    fn begin(&self) -> Pending<'_> {
        let error = Some(ErrorKind::Interrupted);
        Pending { series: self, began: Instant::now(), error }
    }

    fn count(&self, error: Option<ErrorKind>) {
        let Some(outcome) = self.outcomes.get(error.map_or(0, |kind| kind as usize + 1)) else {
            return;
        };
        let counter = outcome.get_or_init(|| {
            let outcome = error.map_or("ok", ErrorKind::as_str);
            let labels =
                [("backend", self.backend), ("operation", self.operation), ("outcome", outcome)];
            self.metrics.counter("operations_total", "Calls to a store.", &labels)
        });
        counter.add(1);
    }
}

/// A call under way.
struct Pending<'a> {
    series: &'a Series,
    began: Instant,
    error: Option<ErrorKind>,
}

impl Pending<'_> {
    fn end<T>(mut self, result: Result<T>) -> Result<T> {
        self.error = result.as_ref().err().map(Error::kind);
        result
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.series.duration.record(self.began.elapsed());
        self.series.count(self.error);
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<B: SchedulerBackend> SchedulerBackend for Observed<B> {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn prove(&self, call: Call) -> Result<StoreFacts> {
        let pending = self.prove.begin();
        pending.end(self.inner.prove(call).await)
    }

    async fn register(
        &self,
        call: Call,
        process: &Arc<str>,
        definitions: &[Arc<Definition>],
    ) -> Result<Vec<Registered>> {
        let pending = self.register.begin();
        pending.end(self.inner.register(call, process, definitions).await)
    }

    async fn withdraw(&self, call: Call, process: &Arc<str>, jobs: Option<&[JobId]>) -> Result<()> {
        let pending = self.withdraw.begin();
        pending.end(self.inner.withdraw(call, process, jobs).await)
    }

    async fn beat(&self, call: Call, process: &Arc<str>, ttl: Duration) -> Result<u64> {
        let pending = self.beat.begin();
        pending.end(self.inner.beat(call, process, ttl).await)
    }

    async fn remove(&self, call: Call, job: &JobId) -> Result<bool> {
        let pending = self.remove.begin();
        pending.end(self.inner.remove(call, job).await)
    }

    async fn pause(&self, call: Call, job: &JobId, note: &str) -> Result<()> {
        let pending = self.pause.begin();
        pending.end(self.inner.pause(call, job, note).await)
    }

    async fn resume(&self, call: Call, job: &JobId) -> Result<bool> {
        let pending = self.resume.begin();
        pending.end(self.inner.resume(call, job).await)
    }

    async fn trigger(&self, call: Call, job: &JobId) -> Result<TriggerOutcome> {
        let pending = self.trigger.begin();
        pending.end(self.inner.trigger(call, job).await)
    }

    async fn plan(
        &self,
        call: Call,
        process: &Arc<str>,
        ttl: Duration,
        jobs: u32,
    ) -> Result<PlanAnswer> {
        let pending = self.plan.begin();
        pending.end(self.inner.plan(call, process, ttl, jobs).await)
    }

    async fn resign(&self, call: Call, process: &Arc<str>) -> Result<()> {
        let pending = self.resign.begin();
        pending.end(self.inner.resign(call, process).await)
    }

    async fn claim(
        &self,
        call: Call,
        process: &Arc<str>,
        ttl: Duration,
        count: u32,
    ) -> Result<ClaimAnswer> {
        let pending = self.claim.begin();
        pending.end(self.inner.claim(call, process, ttl, count).await)
    }

    async fn renew(&self, call: Call, claims: &[Claim]) -> Result<Vec<Renewal>> {
        let pending = self.renew.begin();
        pending.end(self.inner.renew(call, claims).await)
    }

    async fn finish(&self, call: Call, attempts: &[Finish]) -> Result<Vec<FinishOutcome>> {
        let pending = self.finish.begin();
        pending.end(self.inner.finish(call, attempts).await)
    }

    async fn job(&self, call: Call, job: &JobId) -> Result<Option<JobFacts>> {
        let pending = self.job.begin();
        pending.end(self.inner.job(call, job).await)
    }

    async fn jobs(
        &self,
        call: Call,
        prefix: &str,
        after: Option<&JobId>,
        count: u32,
    ) -> Result<JobPage> {
        let pending = self.jobs.begin();
        pending.end(self.inner.jobs(call, prefix, after, count).await)
    }

    async fn ticks(
        &self,
        call: Call,
        job: &JobId,
        before: Option<SystemTime>,
        count: u32,
    ) -> Result<TickPage> {
        let pending = self.ticks.begin();
        pending.end(self.inner.ticks(call, job, before, count).await)
    }

    async fn overview(&self, call: Call) -> Result<Overview> {
        let pending = self.overview.begin();
        pending.end(self.inner.overview(call).await)
    }

    async fn sweep(&self, call: Call, age: Duration, runs: u32, rows: u32) -> Result<u64> {
        let pending = self.sweep.begin();
        pending.end(self.inner.sweep(call, age, runs, rows).await)
    }

    async fn close(&self, deadline: Deadline) {
        self.inner.close(deadline).await;
    }
}
