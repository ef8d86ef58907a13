use std::sync::Arc;
use std::time::Duration;

use trine_core::{Health, Metrics, Probe, Report};

use super::CacheService;
use crate::StoreStats;
use crate::backend::Store;

/// Longest check of the store.
const CHECK: Duration = Duration::from_secs(2);

/// Least time between two checks.
const INTERVAL: Duration = Duration::from_secs(1);

pub(super) fn probe() -> Probe {
    Probe::new(CHECK, INTERVAL)
}

impl CacheService {
    /// Checks the store with one round trip that is bounded and shared by
    /// concurrent callers.
    pub async fn health(&self) -> Health {
        let backend = self.shared.store.backend();
        let observe = || async {
            match self.prove("health").await {
                Ok(facts) => Health::up()
                    .with_detail("version", &*facts.version)
                    .with_detail("durability", facts.durability.to_string())
                    .with_detail("evicts", facts.evicts),
                Err(error) => Health::down(Report(&error)),
            }
        };
        let health = self.shared.probe.check(observe).await;
        let stats = backend.stats();
        let health = health.with_detail("backend", backend.name());
        if stats == StoreStats::default() {
            return health;
        }
        health
            .with_detail("entries", stats.entries)
            .with_detail("bytes", stats.bytes)
            .with_detail("max_bytes", stats.max_bytes)
    }
}

/// Publishes the present numbers of a store; zeros once it is gone.
pub(super) fn publish(metrics: &Metrics, store: &Arc<Store>) {
    type Reading = (&'static str, &'static str, fn(StoreStats) -> u64);
    const READINGS: [Reading; 3] = [
        ("entries", "Entries in this process.", |stats| stats.entries),
        ("bytes", "Bytes of the entries in this process.", |stats| stats.bytes),
        ("max_bytes", "Bytes that entries in this process may have.", |stats| stats.max_bytes),
    ];
    let labels = [("backend", store.backend().name())];
    for (name, help, reading) in READINGS {
        let store = Arc::downgrade(store);
        #[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
        let observe = move || {
            let stats = store.upgrade().map(|store| store.backend().stats()).unwrap_or_default();
            reading(stats) as f64
        };
        metrics.gauge_fn(name, help, &labels, Arc::new(observe));
    }
}
