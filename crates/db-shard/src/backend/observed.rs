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
/// statements with their text, never with their values: also those of a list,
/// those whose rows are streamed, and those that were dropped. The time that a
/// caller takes over the rows of a stream does not count.
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

/// A step with no statement of the caller's.
const NONE: [StatementText; 0] = [];

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
    /// Runs one call that sends `texts`.
    async fn record<T>(
        &self,
        step: Step,
        texts: impl AsRef<[StatementText]>,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let mut pending = Pending::new(self, step, texts);
        let result = call.await;
        pending.error = result.as_ref().err().map(crate::Error::kind);
        result
    }

    fn log_slow(&self, texts: &[StatementText], elapsed: Duration, error: Option<ErrorKind>) {
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let statement = texts.iter().map(StatementText::as_str).collect::<Vec<_>>().join(";\n");
        tracing::warn!(
            target: "trine_db_shard::slow",
            database = &*self.0.name,
            elapsed_ms,
            outcome = error.map_or("ok", ErrorKind::as_str),
            statement,
            "slow statement"
        );
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

/// A call under way. One that is dropped before its end counts as interrupted.
struct Pending<'a, T: AsRef<[StatementText]>> {
    recorder: &'a Recorder,
    step: Step,
    texts: T,
    began: Instant,
    /// How long the caller had the rows so far, and since when the last one.
    lent: Duration,
    lent_since: Option<Instant>,
    error: Option<ErrorKind>,
}

impl<'a, T: AsRef<[StatementText]>> Pending<'a, T> {
    fn new(recorder: &'a Recorder, step: Step, texts: T) -> Self {
        Self {
            recorder,
            step,
            texts,
            began: Instant::now(),
            lent: Duration::ZERO,
            lent_since: None,
            error: Some(ErrorKind::Interrupted),
        }
    }

    fn lend(&mut self) {
        self.lent_since = Some(Instant::now());
    }

    fn take_back(&mut self) {
        self.lent += self.lent_since.take().map_or(Duration::ZERO, |since| since.elapsed());
    }
}

impl<T: AsRef<[StatementText]>> Drop for Pending<'_, T> {
    fn drop(&mut self) {
        self.take_back();
        let elapsed = self.began.elapsed().saturating_sub(self.lent);
        self.recorder.finished(self.step, elapsed, self.error);
        let texts = self.texts.as_ref();
        if !texts.is_empty() && elapsed >= self.recorder.0.slow {
            self.recorder.log_slow(texts, elapsed, self.error);
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
        self.recorder.record(Step::Prove, NONE, self.inner.prove(call)).await
    }

    async fn run(&self, call: Call, statement: Statement) -> Result<Reply> {
        let text = [statement.text.clone()];
        self.recorder.record(Step::Run, text, self.inner.run(call, statement)).await
    }

    async fn run_all(&self, call: Call, statements: Vec<Statement>) -> Result<Vec<Reply>> {
        let texts: Vec<_> = statements.iter().map(|statement| statement.text.clone()).collect();
        self.recorder.record(Step::RunAll, texts, self.inner.run_all(call, statements)).await
    }

    fn stream(&self, call: Call, statement: Statement) -> RowStream {
        let recorder = self.recorder.clone();
        let text = [statement.text.clone()];
        let mut rows = self.inner.stream(call, statement);
        async_stream::try_stream! {
            let mut pending = Pending::new(&recorder, Step::Stream, text);
            while let Some(row) = rows.next().await {
                pending.error = row.as_ref().err().map(crate::Error::kind);
                let row = row?;
                pending.lend();
                // Whoever drops the stream here has had enough of it.
                yield row;
                pending.take_back();
                pending.error = Some(ErrorKind::Interrupted);
            }
            pending.error = None;
        }
        .boxed()
    }

    async fn call(&self, call: Call, statement: Statement) -> Result<Vec<ResultSet>> {
        let text = [statement.text.clone()];
        self.recorder.record(Step::Call, text, self.inner.call(call, statement)).await
    }

    async fn begin(
        &self,
        call: Call,
        options: BeginOptions,
    ) -> Result<Box<dyn BackendTransaction>> {
        let inner =
            self.recorder.record(Step::Begin, NONE, self.inner.begin(call, options)).await?;
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
        let text = [statement.text.clone()];
        self.recorder.record(Step::Run, text, self.inner.run(call, statement)).await
    }

    async fn call(&mut self, call: Call, statement: Statement) -> Result<Vec<ResultSet>> {
        let text = [statement.text.clone()];
        self.recorder.record(Step::Call, text, self.inner.call(call, statement)).await
    }

    async fn savepoint(&mut self, call: Call, step: SavepointStep, number: u32) -> Result<()> {
        self.recorder.record(Step::Savepoint, NONE, self.inner.savepoint(call, step, number)).await
    }

    async fn commit(self: Box<Self>, call: Call) -> Result<()> {
        self.recorder.record(Step::Commit, NONE, self.inner.commit(call)).await
    }

    async fn rollback(self: Box<Self>, call: Call) -> Result<()> {
        self.recorder.record(Step::Rollback, NONE, self.inner.rollback(call)).await
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self.inner.as_any_mut()
    }
}
