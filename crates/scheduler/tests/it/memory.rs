//! The suite over the store in this process, and what is true of it only.

use std::sync::Arc;

use trine_core::{ManualClock, Metrics};
use trine_scheduler::conformance::Fixture;
use trine_scheduler::{MemoryBackend, Observed};

/// A store, and its clock.
fn store(clock: ManualClock) -> (MemoryBackend, Arc<ManualClock>) {
    let clock = Arc::new(clock);
    let clone = Arc::<ManualClock>::clone(&clock);
    (MemoryBackend::open(&Fixture::NAME.into(), clone), clock)
}

async fn connect() -> Fixture {
    let (store, clock) = store(ManualClock::new());
    let metrics = Metrics::new("scheduler");
    let backend = move || Arc::new(Observed::new(store.beside(), &metrics)) as _;
    Fixture::new(backend, ()).with_clock(clock)
}

/// Over a clock that goes by itself, as that of a server does.
async fn connect_real() -> Fixture {
    let (store, _) = store(ManualClock::with_rate(1.0));
    Fixture::new(move || Arc::new(store.beside()) as _, ())
}

trine_scheduler::conformance_tests!(suite, super::connect);
trine_scheduler::conformance_tests!(real, super::connect_real);
