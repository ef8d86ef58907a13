//! What the tests on Redis share.

pub(crate) mod load;
pub(crate) mod race;

use std::any::Any;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use trine_cache::conformance::Fixture;
use trine_cache::{CacheConfig, CacheDeps, CacheService, Error};
use trine_core::{Deadline, ErrorKind, Secret};
use trine_redis::{RedisConfig, RedisService};

/// Far more than anything takes; a test that waits for so long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Five times what a call may take: connect and response time-out.
pub(crate) const BOUND: Duration = Duration::from_millis(5 * 1_500);

/// Returns a cache on the Redis that `config` leads to.
pub(crate) async fn fixture(config: RedisConfig, keep: impl Any + Send + Sync) -> Fixture {
    let redis = RedisService::connect(&config).await.unwrap();
    let deps = CacheDeps::default().with_redis("main", redis.pool());
    Fixture::new(CacheConfig::redis("main"), deps, (redis, keep))
}

/// A cache with the Redis below it.
pub(crate) struct Opened {
    pub(crate) redis: RedisService,
    pub(crate) cache: CacheService,
}

impl Opened {
    pub(crate) async fn new(config: &RedisConfig) -> Self {
        let redis = RedisService::connect(config).await.unwrap();
        let deps = CacheDeps::default().with_redis("main", redis.pool());
        let cache = CacheService::open(&CacheConfig::redis("main"), deps).unwrap();
        cache.start().await.unwrap();
        Self { redis, cache }
    }

    /// Shuts both down, which would wait for a call that is never over.
    pub(crate) async fn close(self) {
        let began = Instant::now();
        self.cache.shutdown(Deadline::after(PATIENCE)).await.unwrap();
        self.redis.shutdown(Deadline::after(PATIENCE)).await.unwrap();
        assert!(began.elapsed() < PATIENCE, "a call was never over");
    }
}

/// Returns what leads to one server, with short waits between attempts.
pub(crate) fn single(url: impl Into<String>) -> RedisConfig {
    hasty(RedisConfig::single("test:it", Secret::new(url)))
}

pub(crate) fn hasty(config: RedisConfig) -> RedisConfig {
    config.with_reconnect(Duration::from_millis(10), Duration::from_millis(200))
}

/// Waits until the cache answers, and returns how long that took.
pub(crate) async fn until_works(cache: &CacheService) -> Duration {
    let began = Instant::now();
    until("an answer", async || cache.has("any").await.is_ok()).await;
    began.elapsed()
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
pub(crate) fn assert_kind<T: std::fmt::Debug>(result: Result<T, Error>, kind: ErrorKind) -> Error {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), kind, "{error:?}");
    error
}
