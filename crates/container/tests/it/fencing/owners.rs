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

/// Far more than a key is held for.
const PATIENCE: Duration = Duration::from_secs(30);

/// How the grant of an owner ends that is stopped.
enum Lapse {
    /// Time goes by on the clock of store and owners.
    Expiry(Arc<ManualClock>),
    /// The next owner takes the key by force: for stores whose clock nobody
    /// sets.
    Steal,
    /// The same stores let go by themselves: nothing is held for longer than
    /// this, and the next owner waits.
    Wait(Duration),
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
        let open = || LockService::with_backend(backend(), &LockConfig::memory(), deps.clone());
        Self::started((0..count).map(|_| open().unwrap()).collect(), lapse).await
    }

    /// Owners whose keys are stolen, and owners whose keys are let go, over one
    /// store that others share.
    #[cfg_attr(
        not(all(feature = "lock", feature = "redis")),
        expect(dead_code, reason = "only tests with servers need it")
    )]
    pub(crate) async fn shared(count: usize, config: &LockConfig, deps: &LockDeps) -> [Self; 2] {
        let open = || LockService::open(config, deps.clone()).unwrap();
        let processes = || (0..count).map(|_| open()).collect();
        let robbed = Self::started(processes(), Lapse::Steal).await;
        [robbed, Self::started(processes(), Lapse::Wait(LockOptions::MIN_TTL)).await]
    }

    async fn started(processes: Vec<LockService>, lapse: Lapse) -> Self {
        for locks in &processes {
            locks.start().await.unwrap();
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
        let (locks, mut options) = (self.process(owner), LockOptions::default());
        if let Lapse::Wait(most) = self.lapse {
            options = options.with_ttl(most).with_at_most(most).with_wait(PATIENCE);
        }
        match &self.lapse {
            _ if !has_lapsed => {}
            Lapse::Expiry(clock) => clock.advance(Duration::from_secs(61)),
            Lapse::Steal => return Some(locks.steal(key, options).await.unwrap()),
            Lapse::Wait(_) => {
                let outcome = locks.acquire(key, options).await.unwrap();
                return Some(outcome.into_guard().unwrap());
            }
        }
        match locks.try_acquire(key, options).await.unwrap() {
            TryAcquireOutcome::Acquired(guard) => Some(guard),
            TryAcquireOutcome::Held(_) => None,
        }
    }
}
