use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use trine_core::{Deadline, Metrics, Secret, Span};
use trine_lock::conformance::Fixture;
use trine_lock::{
    AcquireOutcome, BackendConfig, Error, Guard, LockBackend, LockConfig, LockDeps, LockOptions,
    LockService, Observed, RedisBackend, RedisStoreConfig,
};
use trine_redis::{RedisConfig, RedisPool, RedisService};

/// Far more than anything takes; a test that waits for so long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Returns the settings of a store that grants at once.
pub(crate) fn store() -> RedisStoreConfig {
    let mut store = RedisStoreConfig::default();
    store.clock_margin = Span::millis(0);
    store
}

fn backend(pool: &RedisPool, store: &RedisStoreConfig, config: &LockConfig) -> RedisBackend {
    RedisBackend::open(&Fixture::NAME.into(), pool, store, config).unwrap()
}

/// Returns locks on the Redis that `config` leads to.
pub(crate) async fn fixture(config: RedisConfig, keep: impl Any + Send + Sync) -> Fixture {
    let redis = RedisService::connect(&config).await.unwrap();
    let pool = redis.pool().clone();
    let mut limits = LockConfig::memory();
    limits.claim_timeout = Span::from(Fixture::CLAIM_TIMEOUT);
    let make = move || -> Arc<dyn LockBackend> {
        Arc::new(Observed::new(backend(&pool, &store(), &limits), &Metrics::new("lock")))
    };
    Fixture::new(make, (redis, keep))
}

/// Locks with the Redis below them, as one process has them.
pub(crate) struct Opened {
    pub(crate) redis: RedisService,
    pub(crate) locks: LockService,
}

impl Opened {
    pub(crate) async fn new(config: &RedisConfig) -> Self {
        Self::with(config, |_, _| {}).await
    }

    pub(crate) async fn with(
        config: &RedisConfig,
        change: impl FnOnce(&mut LockConfig, &mut RedisStoreConfig),
    ) -> Self {
        let opened = Self::open(config, change).await;
        opened.locks.start().await.unwrap();
        opened
    }

    pub(crate) async fn open(
        config: &RedisConfig,
        change: impl FnOnce(&mut LockConfig, &mut RedisStoreConfig),
    ) -> Self {
        let redis = RedisService::connect(config).await.unwrap();
        let (mut limits, mut store) = (LockConfig::redis("main"), store());
        change(&mut limits, &mut store);
        limits.backend = BackendConfig::Redis(store);
        let deps = LockDeps::default().with_redis("main", redis.pool());
        let locks = LockService::open(&limits, deps).unwrap();
        Self { redis, locks }
    }

    pub(crate) async fn acquire(&self, key: &str, options: LockOptions) -> Guard {
        acquire(&self.locks, key, options).await
    }

    /// Shuts both down, which would wait for a call that is never over.
    pub(crate) async fn close(&self) {
        let began = Instant::now();
        self.locks.shutdown(Deadline::after(PATIENCE)).await.unwrap();
        self.redis.shutdown(Deadline::after(PATIENCE)).await.unwrap();
        assert!(began.elapsed() < PATIENCE, "a call was never over");
    }
}

pub(crate) async fn acquire(locks: &LockService, key: &str, options: LockOptions) -> Guard {
    match in_time(locks.acquire(key, options)).await.unwrap() {
        AcquireOutcome::Acquired(guard) => guard,
        AcquireOutcome::TimedOut(holder) => panic!("held by {holder}"),
    }
}

/// Returns the guard of a key that can be had at once.
pub(crate) async fn take(locks: &LockService, key: &str) -> Option<Guard> {
    let taken = locks.try_acquire(key, LockOptions::default()).await;
    taken.unwrap().into_guard()
}

/// Returns what leads to one server, with short waits between attempts.
pub(crate) fn single(url: impl Into<String>) -> RedisConfig {
    hasty(RedisConfig::single("test:it", Secret::new(url)))
}

pub(crate) fn hasty(config: RedisConfig) -> RedisConfig {
    config.with_reconnect(Duration::from_millis(10), Duration::from_millis(200))
}

/// Fails what takes longer than anything should.
pub(crate) async fn in_time<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.unwrap()
}

/// Waits until `is_so` holds.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < PATIENCE, "{what} never came");
        sleep(Duration::from_millis(5)).await;
    }
}

#[track_caller]
pub(crate) fn assert_kind<T: std::fmt::Debug>(
    result: Result<T, Error>,
    kind: trine_core::ErrorKind,
) -> Error {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), kind, "{error:?}");
    error
}

/// Returns how many keys have a record on the server.
pub(crate) async fn records(server: &trine_testkit::Redis) -> i64 {
    const COUNT: &str = "local count = 0
        for _, hash in ipairs(redis.call('KEYS', '*:lock.default:{*')) do
          for _, field in ipairs(redis.call('HKEYS', hash)) do
            if string.sub(field, 1, 2) == 'k:' then count = count + 1 end
          end
        end
        return count";
    server.admin(&["EVAL", COUNT, "0"]).await.unwrap().integer().unwrap()
}
