use std::any::Any;
use std::sync::OnceLock;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use tokio::time::Instant;
use trine_core::{Counter, Deadline, ErrorKind, Histogram, Metrics};

use super::{
    BackendTransaction, BeginOptions, Call, Capabilities, DbBackend, Isolation, PoolStats, Reply,
    RowStream, SavepointStep, ServerFacts, Statement,
};
use crate::{DatabaseName, Engine, Result, ResultSet, StatementText};

/// Counts and times every call to the backend it wraps, and logs slow
/// statements with their text, never with their values.
#[derive(Debug)]
pub struct Observed<B> {
    inner: B,
    recorder: Recorder,
}

impl<B: DbBackend> Observed<B> {
    /// Returns the backend with its calls counted in `metrics`, under the name
    /// of the database.
    #[must_use]
    pub fn new(inner: B, name: &DatabaseName, slow: Duration, metrics: &Metrics) -> Self {
        let engine = inner.engine();
        let recorder = Recorder(std::sync::Arc::new(Shared {
            name: name.to_string().into(),
            engine,
            slow,
            metrics: metrics.clone(),
            steps: Default::default(),
        }));
        Self { inner, recorder }
    }
}

/// What is counted apart, the `operation` label.
#[derive(Clone, Copy, Debug)]
enum Step {
    Prove,
    Run,
    RunAll,
    Stream,
    Call,
    Begin,
    Savepoint,
    Commit,
    Rollback,
}

const STEPS: [&str; 9] =
    ["prove", "run", "run_all", "stream", "call", "begin", "savepoint", "commit", "rollback"];

const OUTCOMES: usize = ErrorKind::ALL.len() + 1;

#[derive(Clone, Debug)]
struct Recorder(std::sync::Arc<Shared>);

#[derive(Debug)]
struct Shared {
    name: Box<str>,
    engine: Engine,
    slow: Duration,
    metrics: Metrics,
    steps: [OnceLock<Series>; STEPS.len()],
}

/// The handles of one operation, made when it is first used.
#[derive(Debug)]
struct Series {
    duration: Histogram,
    outcomes: [OnceLock<Counter>; OUTCOMES],
}

impl Recorder {
    /// Runs one call. A dropped one counts as interrupted.
    async fn record<T>(&self, step: Step, call: impl Future<Output = Result<T>>) -> Result<T> {
        self.timed(step, call).await.0
    }

    /// As [`record`](Self::record), and logs the text of a slow statement.
    async fn record_text<T>(
        &self,
        step: Step,
        text: StatementText,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let (result, elapsed) = self.timed(step, call).await;
        if elapsed >= self.0.slow {
            let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
            let is_ok = result.is_ok();
            tracing::warn!(
                target: "trine_db_shard::slow",
                database = &*self.0.name,
                elapsed_ms,
                is_ok,
                statement = text.as_str(),
                "slow statement"
            );
        }
        result
    }

    async fn timed<T>(
        &self,
        step: Step,
        call: impl Future<Output = Result<T>>,
    ) -> (Result<T>, Duration) {
        let mut pending = Pending { recorder: self, step, began: Instant::now(), is_over: false };
        let result = call.await;
        pending.is_over = true;
        let elapsed = pending.began.elapsed();
        self.finished(step, elapsed, result.as_ref().err().map(crate::Error::kind));
        (result, elapsed)
    }

    fn finished(&self, step: Step, elapsed: Duration, error: Option<ErrorKind>) {
        let Some(series) = self.0.steps.get(step as usize) else { return };
        let Some(operation) = STEPS.get(step as usize) else { return };
        let shared = &self.0;
        let labels = [
            ("database", &*shared.name),
            ("backend", shared.engine.as_str()),
            ("operation", operation),
        ];
        let series = series.get_or_init(|| Series {
            duration: shared.metrics.histogram(
                "operation_duration_seconds",
                "Time from the call to its answer, the wait for a connection included.",
                &labels,
            ),
            outcomes: Default::default(),
        });
        series.duration.record(elapsed);
        let index = error.map_or(0, |kind| kind as usize + 1);
        let Some(outcome) = series.outcomes.get(index) else { return };
        let counter = outcome.get_or_init(|| {
            let [database, backend, operation] = labels;
            let outcome = ("outcome", error.map_or("ok", ErrorKind::as_str));
            shared.metrics.counter(
                "operations_total",
                "Calls to a database.",
                &[database, backend, operation, outcome],
            )
        });
        counter.add(1);
    }
}

struct Pending<'a> {
    recorder: &'a Recorder,
    step: Step,
    began: Instant,
    is_over: bool,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            let elapsed = self.began.elapsed();
            self.recorder.finished(self.step, elapsed, Some(ErrorKind::Interrupted));
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<B: DbBackend> DbBackend for Observed<B> {
    fn engine(&self) -> Engine {
        self.inner.engine()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn prove(&self, call: Call) -> Result<ServerFacts> {
        self.recorder.record(Step::Prove, self.inner.prove(call)).await
    }

    async fn run(&self, call: Call, statement: Statement) -> Result<Reply> {
        let text = statement.text.clone();
        self.recorder.record_text(Step::Run, text, self.inner.run(call, statement)).await
    }

    async fn run_all(&self, call: Call, statements: Vec<Statement>) -> Result<Vec<Reply>> {
        self.recorder.record(Step::RunAll, self.inner.run_all(call, statements)).await
    }

    fn stream(&self, call: Call, statement: Statement) -> RowStream {
        let recorder = self.recorder.clone();
        let mut rows = self.inner.stream(call, statement);
        async_stream::try_stream! {
            let began = Instant::now();
            while let Some(row) = rows.next().await {
                if let Err(error) = &row {
                    recorder.finished(Step::Stream, began.elapsed(), Some(error.kind()));
                }
                yield row?;
            }
            recorder.finished(Step::Stream, began.elapsed(), None);
        }
        .boxed()
    }

    async fn call(&self, call: Call, statement: Statement) -> Result<Vec<ResultSet>> {
        let text = statement.text.clone();
        self.recorder.record_text(Step::Call, text, self.inner.call(call, statement)).await
    }

    async fn begin(
        &self,
        call: Call,
        options: BeginOptions,
    ) -> Result<Box<dyn BackendTransaction>> {
        let inner = self.recorder.record(Step::Begin, self.inner.begin(call, options)).await?;
        Ok(Box::new(ObservedTransaction { inner, recorder: self.recorder.clone() }))
    }

    fn stats(&self) -> PoolStats {
        self.inner.stats()
    }

    async fn close(&self, deadline: Deadline) {
        self.inner.close(deadline).await;
    }
}

#[derive(Debug)]
struct ObservedTransaction {
    inner: Box<dyn BackendTransaction>,
    recorder: Recorder,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl BackendTransaction for ObservedTransaction {
    fn isolation(&self) -> Isolation {
        self.inner.isolation()
    }

    async fn run(&mut self, call: Call, statement: Statement) -> Result<Reply> {
        let text = statement.text.clone();
        self.recorder.record_text(Step::Run, text, self.inner.run(call, statement)).await
    }

    async fn call(&mut self, call: Call, statement: Statement) -> Result<Vec<ResultSet>> {
        let text = statement.text.clone();
        self.recorder.record_text(Step::Call, text, self.inner.call(call, statement)).await
    }

    async fn savepoint(&mut self, call: Call, step: SavepointStep, number: u32) -> Result<()> {
        self.recorder.record(Step::Savepoint, self.inner.savepoint(call, step, number)).await
    }

    async fn commit(self: Box<Self>, call: Call) -> Result<()> {
        self.recorder.record(Step::Commit, self.inner.commit(call)).await
    }

    async fn rollback(self: Box<Self>, call: Call) -> Result<()> {
        self.recorder.record(Step::Rollback, self.inner.rollback(call)).await
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self.inner.as_any_mut()
    }
}
