use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use tokio::time::Instant;
use trine_core::{Counter, Deadline, ErrorKind, Histogram, Metrics};

use super::store::Inline;
use super::{CacheBackend, Call, Capabilities, Cursor, Page, StoreFacts, StoreStats};
use crate::{Batch, Error, Outcome, Reply, Result};

/// Counts and times every call to the backend it wraps. A call that is dropped
/// before its end counts as interrupted.
#[derive(Debug)]
pub struct Observed<B> {
    inner: B,
    recorder: Recorder,
}

impl<B: Inline> Observed<B> {
    /// [`run`](CacheBackend::run) without a box around the future.
    pub(super) async fn run_inline(&self, call: Call, batch: &Batch) -> Result<Outcome> {
        let pending = self.recorder.begin(operation(batch));
        pending.end_run(self.inner.run_inline(call, batch).await)
    }
}

impl<B: CacheBackend> Observed<B> {
    /// Returns the backend with its calls counted in `metrics`.
    #[must_use]
    pub fn new(inner: B, metrics: &Metrics) -> Self {
        let found = |result| {
            let help = "Values asked for, by whether they were there.";
            metrics.counter("reads_total", help, &[("backend", inner.name()), ("result", result)])
        };
        let recorder = Recorder {
            backend: inner.name(),
            metrics: metrics.clone(),
            hits: found("hit"),
            misses: found("miss"),
            operations: ArcSwap::default(),
        };
        Self { inner, recorder }
    }
}

#[derive(Debug)]
struct Recorder {
    backend: &'static str,
    metrics: Metrics,
    hits: Counter,
    misses: Counter,
    /// Few: looking through them is cheaper than a hash.
    operations: ArcSwap<Vec<(&'static str, Arc<Series>)>>,
}

/// The handles of one operation, made when it is first used.
#[derive(Debug)]
struct Series {
    duration: Histogram,
    outcomes: [OnceLock<Counter>; ErrorKind::ALL.len() + 1],
}

impl Recorder {
    /// Begins to time a call. Not by way of its future, which would be held
    /// twice.
    fn begin(&self, operation: &'static str) -> Pending<'_> {
        let error = Some(ErrorKind::Interrupted);
        Pending { recorder: self, operation, began: Instant::now(), error }
    }

    fn finished(&self, operation: &'static str, elapsed: Duration, error: Option<ErrorKind>) {
        let known = self.operations.load();
        match known.iter().find(|(name, _)| *name == operation) {
            Some((_, series)) => self.count(operation, series, elapsed, error),
            None => self.count(operation, &self.series(operation), elapsed, error),
        }
    }

    fn count(
        &self,
        operation: &'static str,
        series: &Series,
        elapsed: Duration,
        error: Option<ErrorKind>,
    ) {
        series.duration.record(elapsed);
        let Some(outcome) = series.outcomes.get(error.map_or(0, |kind| kind as usize + 1)) else {
            return;
        };
        let counter = outcome.get_or_init(|| {
            let outcome = error.map_or("ok", ErrorKind::as_str);
            let labels =
                [("backend", self.backend), ("operation", operation), ("outcome", outcome)];
            self.metrics.counter("operations_total", "Calls to a store.", &labels)
        });
        counter.add(1);
    }

    /// Makes the handles of an operation that was not used before. Should two
    /// calls do so at once, both get handles of the same numbers.
    fn series(&self, operation: &'static str) -> Arc<Series> {
        let labels = [("backend", self.backend), ("operation", operation)];
        let help = "Time from the call to its answer.";
        let duration = self.metrics.histogram("operation_duration_seconds", help, &labels);
        let series = Arc::new(Series { duration, outcomes: Default::default() });
        self.operations.rcu(|known| {
            let mut next = Vec::clone(known);
            if !next.iter().any(|(name, _)| *name == operation) {
                next.push((operation, Arc::clone(&series)));
            }
            next
        });
        series
    }

    /// Counts the values that were asked for.
    fn found(&self, replies: &[Reply]) {
        let (mut hits, mut misses) = (0, 0);
        for reply in replies {
            match reply {
                Reply::Value(Some(_)) => hits += 1,
                Reply::Value(None) => misses += 1,
                Reply::Values(values) => {
                    let present = values.iter().flatten().count();
                    hits += present;
                    misses += values.len() - present;
                }
                _ => {}
            }
        }
        for (counter, count) in [(&self.hits, hits), (&self.misses, misses)] {
            if count > 0 {
                counter.add(u64::try_from(count).unwrap_or(u64::MAX));
            }
        }
    }
}

/// Returns what a batch is counted as.
fn operation(batch: &Batch) -> &'static str {
    match batch.ops() {
        [op] if !batch.is_atomic() => op.name(),
        [] => "raise",
        _ if batch.is_atomic() => "atomic",
        _ => "pipeline",
    }
}

/// An operation by itself failed if its reply says so; those of a batch have
/// replies of their own.
fn failure(outcome: &Outcome) -> Option<ErrorKind> {
    match outcome {
        Outcome::Ran(replies) => match &**replies {
            [Reply::Failed(error)] => Some(error.kind()),
            _ => None,
        },
        Outcome::Refused { .. } => None,
    }
}

/// A call under way.
struct Pending<'a> {
    recorder: &'a Recorder,
    operation: &'static str,
    began: Instant,
    error: Option<ErrorKind>,
}

impl Pending<'_> {
    fn end<T>(mut self, result: Result<T>) -> Result<T> {
        self.error = result.as_ref().err().map(Error::kind);
        result
    }

    /// The outcome of a batch says more.
    fn end_run(mut self, result: Result<Outcome>) -> Result<Outcome> {
        if let Ok(Outcome::Ran(replies)) = &result {
            self.recorder.found(replies);
        }
        self.error = match &result {
            Ok(outcome) => failure(outcome),
            Err(error) => Some(error.kind()),
        };
        result
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.recorder.finished(self.operation, self.began.elapsed(), self.error);
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<B: CacheBackend> CacheBackend for Observed<B> {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn prove(&self, call: Call) -> Result<StoreFacts> {
        let pending = self.recorder.begin("prove");
        pending.end(self.inner.prove(call).await)
    }

    async fn run(&self, call: Call, batch: Batch) -> Result<Outcome> {
        let pending = self.recorder.begin(operation(&batch));
        pending.end_run(self.inner.run(call, batch).await)
    }

    async fn scan(&self, call: Call, prefix: &str, cursor: Cursor, count: u32) -> Result<Page> {
        let pending = self.recorder.begin("scan");
        pending.end(self.inner.scan(call, prefix, cursor, count).await)
    }

    fn stats(&self) -> StoreStats {
        self.inner.stats()
    }

    async fn close(&self, deadline: Deadline) {
        self.inner.close(deadline).await;
    }
}
