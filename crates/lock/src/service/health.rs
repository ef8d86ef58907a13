use std::sync::Arc;
use std::time::Duration;

use trine_core::{Health, Histogram, Metrics, Probe, Report};

use super::{LockService, Shared};

/// Longest check of the store.
const CHECK: Duration = Duration::from_secs(2);

/// Least time between two checks.
const INTERVAL: Duration = Duration::from_secs(1);

pub(super) fn probe() -> Probe {
    Probe::new(CHECK, INTERVAL)
}

/// How long was waited for keys.
pub(super) struct Waits {
    pub(super) acquired: Histogram,
    pub(super) timed_out: Histogram,
}

impl Waits {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let help = "Time from asking for a key to having it, or to giving up.";
        let of = |outcome| metrics.histogram("wait_seconds", help, &[("outcome", outcome)]);
        Self { acquired: of("acquired"), timed_out: of("timed_out") }
    }
}

impl LockService {
    /// Checks the store with one round trip that is bounded and shared by
    /// concurrent callers.
    pub async fn health(&self) -> Health {
        let shared = &self.shared;
        let observe = || async {
            match self.prove("health").await {
                Ok(facts) => Health::up()
                    .with_detail("version", &*facts.version)
                    .with_detail("durability", facts.durability.to_string()),
                Err(error) => Health::down(Report(&error)),
            }
        };
        let numbers = shared.numbers();
        let health = shared.probe.check(observe).await;
        health
            .with_detail("backend", shared.backend.name())
            .with_detail("held", numbers.held)
            .with_detail("waiting", numbers.waiting)
            .with_detail("lost", numbers.lost)
    }
}

/// What this process holds and waits for.
#[derive(Default)]
struct Numbers {
    held: u64,
    waiting: u64,
    lost: u64,
}

impl Shared {
    fn numbers(&self) -> Numbers {
        let leases = self.engine.get().map(|engine| engine.keeper.stats()).unwrap_or_default();
        let (held, waiting) = (leases.held as u64, self.lines.waiting() as u64);
        Numbers { held, waiting, lost: leases.lost }
    }
}

/// Publishes the present numbers of a service; zeros once it is gone.
pub(super) fn publish(shared: &Arc<Shared>) {
    type Reading = (&'static str, &'static str, fn(Numbers) -> u64);
    const READINGS: [Reading; 3] = [
        ("held", "Grants of this process.", |numbers| numbers.held),
        ("waiting", "Calls of this process that wait for a key.", |numbers| numbers.waiting),
        ("lost", "Grants that this process has lost since it began.", |numbers| numbers.lost),
    ];
    let labels = [("backend", shared.backend.name())];
    for (name, help, reading) in READINGS {
        let weak = Arc::downgrade(shared);
        #[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
        let observe = move || {
            let numbers = weak.upgrade().map(|shared| shared.numbers()).unwrap_or_default();
            reading(numbers) as f64
        };
        shared.metrics.gauge_fn(name, help, &labels, Arc::new(observe));
    }
}
