use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use tokio::time::Instant;
use trine_core::{Claim, Counter, Deadline, ErrorKind, Histogram, Metrics, Renewal};

use super::{
    Answer, Call, Capabilities, Events, LockBackend, StoreFacts, StoreStats, Waiter, Want,
};
use crate::{Error, Key, Page, ReleaseOutcome, Result};

/// Counts and times every call to the backend it wraps. A call that is dropped
/// before its end counts as interrupted.
#[derive(Debug)]
pub struct Observed<B> {
    inner: B,
    prove: Series,
    acquire: Series,
    renew: Series,
    release: Series,
    withdraw: Series,
    holders: Series,
}

impl<B: LockBackend> Observed<B> {
    /// Returns the backend with its calls counted in `metrics`.
    #[must_use]
    pub fn new(inner: B, metrics: &Metrics) -> Self {
        let series = |operation| Series::new(inner.name(), operation, metrics);
        Self {
            prove: series("prove"),
            acquire: series("acquire"),
            renew: series("renew"),
            release: series("release"),
            withdraw: series("withdraw"),
            holders: series("holders"),
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
impl<B: LockBackend> LockBackend for Observed<B> {
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

    async fn acquire(&self, call: Call, want: &Want) -> Result<Answer> {
        let pending = self.acquire.begin();
        pending.end(self.inner.acquire(call, want).await)
    }

    async fn renew(&self, call: Call, claims: &[Claim]) -> Result<Vec<Renewal>> {
        let pending = self.renew.begin();
        pending.end(self.inner.renew(call, claims).await)
    }

    async fn release(&self, call: Call, claims: &[Claim]) -> Result<Vec<ReleaseOutcome>> {
        let pending = self.release.begin();
        pending.end(self.inner.release(call, claims).await)
    }

    async fn withdraw(&self, call: Call, key: &Key, waiter: &Waiter) -> Result<()> {
        let pending = self.withdraw.begin();
        pending.end(self.inner.withdraw(call, key, waiter).await)
    }

    async fn holders(
        &self,
        call: Call,
        prefix: &str,
        after: Option<&Key>,
        count: u32,
    ) -> Result<Page> {
        let pending = self.holders.begin();
        pending.end(self.inner.holders(call, prefix, after, count).await)
    }

    fn events(&self, process: &Arc<str>) -> Events {
        self.inner.events(process)
    }

    fn stats(&self) -> StoreStats {
        self.inner.stats()
    }

    async fn close(&self, deadline: Deadline) {
        self.inner.close(deadline).await;
    }
}
