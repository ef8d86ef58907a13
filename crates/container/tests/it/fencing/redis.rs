//! The same schedules where the cache is on Redis.

use trine_cache::{CacheConfig, CacheDeps};
use trine_core::Secret;
use trine_redis::{RedisConfig, RedisService};
use trine_testkit::{Redis, SoakPlan};

use super::owners::Owners;
use super::schedules::Without;
use super::sinks::CacheSink;
use super::{assert_sound, schedules};

pub(super) async fn sink() -> (RedisService, CacheSink) {
    let server = Redis::shared().await.unwrap();
    let config = RedisConfig::single(server.namespace(), Secret::new(server.url()));
    let redis = RedisService::connect(&config).await.unwrap();
    let deps = CacheDeps::default().with_redis("main", redis.pool());
    let cache = CacheSink::open(&CacheConfig::redis("main"), deps).await;
    (redis, cache)
}

async fn no_schedule_lets_an_old_owner_write(without: Without, rounds: u64) -> super::Tally {
    let ((_redis, cache), owners) = (sink().await, Owners::memory(3).await);
    let mut plan = SoakPlan::new("lock_fence", rounds).unwrap();
    schedules(&mut plan, &owners, &[&cache], without).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_schedule_lets_an_owner_write_whose_lock_expired() {
    assert_sound(no_schedule_lets_an_old_owner_write(Without::Nothing, 300).await);
    for without in [Without::Raise, Without::Check] {
        let tally = no_schedule_lets_an_old_owner_write(without, 50).await;
        assert!(tally.stale > 0, "{without:?}: {tally}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long form: cargo xtask soak lock_fence"]
async fn soak_lock_fence() {
    assert_sound(no_schedule_lets_an_old_owner_write(Without::Nothing, 300).await);
}
