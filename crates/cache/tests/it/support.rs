use std::any::Any;

use trine_cache::conformance::Fixture;
use trine_cache::{CacheConfig, CacheDeps};
use trine_redis::{RedisConfig, RedisService};

/// Returns a cache on the Redis that `config` leads to.
pub(crate) async fn fixture(config: RedisConfig, keep: impl Any + Send + Sync) -> Fixture {
    let redis = RedisService::connect(&config).await.unwrap();
    let deps = CacheDeps::default().with_redis("main", redis.pool());
    Fixture::new(CacheConfig::redis("main"), deps, (redis, keep))
}
