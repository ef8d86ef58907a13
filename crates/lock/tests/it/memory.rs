//! The suite in this process, over a store that tells and over one that does
//! not, and what is true of memory only.

mod bounds;
mod faults;
mod polling;
mod schedules;

use std::sync::Arc;

use trine_core::{ManualClock, Metrics, SystemClock};
use trine_lock::conformance::Fixture;
use trine_lock::{LockBackend, LockConfig, LockDeps, LockService, MemoryBackend, Observed};

use crate::support::Watched;

fn store(clock: &Arc<ManualClock>) -> MemoryBackend {
    let clock = Arc::<ManualClock>::clone(clock);
    MemoryBackend::open(&Fixture::NAME.into(), Fixture::CLAIM_TIMEOUT, clock)
}

fn fixture(
    clock: Arc<ManualClock>,
    backend: impl Fn(&MemoryBackend) -> Arc<dyn LockBackend> + Send + Sync + 'static,
) -> Fixture {
    let store = store(&clock);
    Fixture::new(move || backend(&store), ()).with_clock(clock)
}

pub(crate) async fn connect() -> Fixture {
    fixture(Arc::new(ManualClock::new()), |store| {
        Arc::new(Observed::new(store.beside(), &Metrics::new("lock")))
    })
}

/// Its clock goes by itself, so that what is asked again is asked in time.
pub(crate) async fn connect_deaf() -> Fixture {
    let clock = Arc::new(ManualClock::with_rate(1.0));
    fixture(clock, |store| Arc::new(Watched::deaf(store.beside())))
}

/// On the clock of the machine.
pub(crate) async fn connect_real() -> Fixture {
    let clock = Arc::new(SystemClock);
    let store = MemoryBackend::open(&Fixture::NAME.into(), Fixture::CLAIM_TIMEOUT, clock);
    Fixture::new(move || Arc::new(store.beside()), ())
}

trine_lock::conformance_tests!(suite, super::connect);
trine_lock::conformance_tests!(polled, super::connect_deaf);

/// Running locks over a watched store, and its clock.
async fn watched() -> (LockService, Arc<Watched>, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new());
    let backend = Arc::new(Watched::new(store(&clock)));
    let locks = start(&backend, &clock).await;
    (locks, backend, clock)
}

async fn start(backend: &Arc<Watched>, clock: &Arc<ManualClock>) -> LockService {
    let clock = Arc::<ManualClock>::clone(clock);
    let deps = LockDeps::default().with_clock(clock);
    let backend = Arc::<Watched>::clone(backend);
    let locks = LockService::with_backend(backend, &LockConfig::memory(), deps).unwrap();
    locks.start().await.unwrap();
    locks
}
