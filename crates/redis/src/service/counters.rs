use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;
use trine_core::{Counter, ErrorKind, Histogram, Metrics};

use crate::Result;

/// What calls and connections are counted by. Cloning shares them.
#[derive(Clone, Debug)]
pub(crate) struct Counters {
    /// Few, and the most frequent first, so that looking through them is cheap.
    operations: Arc<[(&'static str, Operation)]>,
    pub(crate) connects: Counter,
    pub(crate) redirects: Counter,
    pub(crate) script_loads: Counter,
    pub(crate) refreshes: Counter,
    pub(crate) gaps: Counter,
}

#[derive(Debug)]
struct Operation {
    ok: Counter,
    failed: BTreeMap<ErrorKind, Counter>,
    duration: Histogram,
}

const OPERATIONS: [&str; 7] =
    ["run", "run_all", "scan", "on_each_master", "acquire", "dedicated", "subscribe"];

impl Counters {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let operations = OPERATIONS.map(|name| (name, Operation::new(metrics, name)));
        let counter = |name, help| metrics.counter(name, help, &[]);
        Self {
            operations: Arc::new(operations),
            connects: counter("connects_total", "Connections made for commands."),
            redirects: counter("redirects_total", "Refused commands that were sent on."),
            script_loads: counter("script_loads_total", "Scripts sent as a whole."),
            refreshes: counter("topology_reads_total", "Looks at who is master of what."),
            gaps: counter("subscription_gaps_total", "Times that a subscription missed some."),
        }
    }

    /// Begins to time a call.
    pub(crate) fn begin(&self, operation: &'static str) -> Timer<'_> {
        let found = self.operations.iter().find(|(name, _)| *name == operation);
        Timer { operation: found.map(|(_, operation)| operation), began: Instant::now() }
    }
}

impl Operation {
    fn new(metrics: &Metrics, name: &'static str) -> Self {
        let counter = |outcome| {
            let help = "Calls, each command of a batch for itself, by outcome.";
            let labels = [("operation", name), ("outcome", outcome)];
            metrics.counter("operations_total", help, &labels)
        };
        let help = "How long calls took, batches as a whole.";
        Self {
            ok: counter("ok"),
            failed: ErrorKind::ALL.map(|kind| (kind, counter(kind.as_str()))).into(),
            duration: metrics.histogram("operation_duration_seconds", help, &[("operation", name)]),
        }
    }

    fn count<T>(&self, result: &Result<T>) {
        match result {
            Ok(_) => self.ok.add(1),
            Err(error) => {
                if let Some(counter) = self.failed.get(&error.kind()) {
                    counter.add(1);
                }
            }
        }
    }
}

/// One call under way; a dropped one is not counted.
pub(crate) struct Timer<'a> {
    operation: Option<&'a Operation>,
    began: Instant,
}

impl Timer<'_> {
    pub(crate) fn end<T>(self, result: &Result<T>) {
        if let Some(operation) = self.operation {
            operation.count(result);
            operation.duration.record(self.began.elapsed());
        }
    }

    pub(crate) fn end_all<T>(self, results: &[Result<T>]) {
        if let Some(operation) = self.operation {
            for result in results {
                operation.count(result);
            }
            operation.duration.record(self.began.elapsed());
        }
    }
}
