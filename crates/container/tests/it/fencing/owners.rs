//! Owners of keys that a schedule stops wherever it likes.

use std::sync::Arc;
use std::time::Duration;

use trine_core::ManualClock;
use trine_lock::{
    Guard, LockBackend, LockConfig, LockDeps, LockOptions, LockService, MemoryBackend,
    TryAcquireOutcome,
};

/// Locks of several processes over one store.
pub(crate) struct Owners {
    processes: Vec<LockService>,
    lapse: Lapse,
}

const CLAIM_TIMEOUT: Duration = Duration::from_secs(1);

/// How the grant of an owner ends that is stopped.
enum Lapse {
    /// Time goes by on the clock of store and owners.
    Expiry(Arc<ManualClock>),
    /// The next owner takes the key by force: for stores whose clock nobody
    /// sets.
    Steal,
}

impl Owners {
    /// Owners in this process whose grants expire.
    pub(crate) async fn memory(count: usize) -> Self {
        let clock = Arc::new(ManualClock::new());
        let deps = LockDeps::default().with_clock(Arc::<ManualClock>::clone(&clock));
        let store = MemoryBackend::open(&deps.name, CLAIM_TIMEOUT, Arc::clone(&deps.clock));
        Self::over(count, deps, Lapse::Expiry(clock), || Arc::new(store.beside())).await
    }

    /// Owners in this process whose keys are stolen.
    pub(crate) async fn robbed(count: usize) -> Self {
        let deps = LockDeps::default();
        let store = MemoryBackend::open(&deps.name, CLAIM_TIMEOUT, Arc::clone(&deps.clock));
        Self::over(count, deps, Lapse::Steal, || Arc::new(store.beside())).await
    }

    async fn over(
        count: usize,
        deps: LockDeps,
        lapse: Lapse,
        backend: impl Fn() -> Arc<dyn LockBackend>,
    ) -> Self {
        let mut processes = Vec::new();
        for _ in 0..count {
            let locks = LockService::with_backend(backend(), &LockConfig::memory(), deps.clone());
            let locks = locks.unwrap();
            locks.start().await.unwrap();
            processes.push(locks);
        }
        Self { processes, lapse }
    }

    pub(crate) fn len(&self) -> usize {
        self.processes.len()
    }

    pub(crate) fn process(&self, owner: usize) -> &LockService {
        &self.processes[owner]
    }

    /// Asks once; `has_lapsed` if whoever has the key is stopped for good.
    pub(crate) async fn acquire(&self, owner: usize, key: &str, has_lapsed: bool) -> Option<Guard> {
        let (locks, options) = (self.process(owner), LockOptions::default());
        if has_lapsed {
            match &self.lapse {
                Lapse::Expiry(clock) => clock.advance(Duration::from_secs(61)),
                Lapse::Steal => return Some(locks.steal(key, options).await.unwrap()),
            }
        }
        match locks.try_acquire(key, options).await.unwrap() {
            TryAcquireOutcome::Acquired(guard) => Some(guard),
            TryAcquireOutcome::Held(_) => None,
        }
    }
}
