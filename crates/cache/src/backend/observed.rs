use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use trine_core::{Counter, Deadline, ErrorKind, Histogram, Metrics};

use super::{CacheBackend, Call, Capabilities, Cursor, Page, StoreFacts, StoreStats};
use crate::{Batch, Outcome, Reply, Result};

/// Counts and times every call to the backend it wraps. A call that is dropped
/// before its end counts as interrupted.
#[derive(Debug)]
pub struct Observed<B> {
    inner: B,
    recorder: Recorder,
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
            operations: RwLock::default(),
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
    operations: RwLock<HashMap<&'static str, Arc<Series>>>,
}

/// The handles of one operation, made when it is first used.
#[derive(Debug)]
struct Series {
    duration: Histogram,
    outcomes: [std::sync::OnceLock<Counter>; ErrorKind::ALL.len() + 1],
}

impl Recorder {
    async fn record<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let began = Instant::now();
        let mut pending =
            Pending { recorder: self, operation, began, error: Some(ErrorKind::Interrupted) };
        let result = call.await;
        pending.error = result.as_ref().err().map(crate::Error::kind);
        result
    }

    fn finished(&self, operation: &'static str, elapsed: Duration, error: Option<ErrorKind>) {
        let series = self.series(operation);
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

    fn series(&self, operation: &'static str) -> Arc<Series> {
        let known = self.operations.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(series) = known.get(operation) {
            return Arc::clone(series);
        }
        drop(known);
        let mut operations = self.operations.write().unwrap_or_else(PoisonError::into_inner);
        let series = operations.entry(operation).or_insert_with(|| {
            let labels = [("backend", self.backend), ("operation", operation)];
            let help = "Time from the call to its answer.";
            let duration = self.metrics.histogram("operation_duration_seconds", help, &labels);
            Arc::new(Series { duration, outcomes: Default::default() })
        });
        Arc::clone(series)
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

/// A call under way.
struct Pending<'a> {
    recorder: &'a Recorder,
    operation: &'static str,
    began: Instant,
    error: Option<ErrorKind>,
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
        self.recorder.record("prove", self.inner.prove(call)).await
    }

    async fn run(&self, call: Call, batch: Batch) -> Result<Outcome> {
        let operation = match batch.ops() {
            [op] if !batch.is_atomic() => op.name(),
            [] => "raise",
            _ if batch.is_atomic() => "atomic",
            _ => "pipeline",
        };
        let result = self.recorder.record(operation, self.inner.run(call, batch)).await;
        if let Ok(Outcome::Ran(replies)) = &result {
            self.recorder.found(replies);
        }
        result
    }

    async fn scan(&self, call: Call, prefix: &str, cursor: Cursor, count: u32) -> Result<Page> {
        self.recorder.record("scan", self.inner.scan(call, prefix, cursor, count)).await
    }

    fn stats(&self) -> StoreStats {
        self.inner.stats()
    }

    async fn close(&self, deadline: Deadline) {
        self.inner.close(deadline).await;
    }
}
