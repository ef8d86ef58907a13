//! The suite on a master that sentinels watch, and what becomes of locks when it
//! fails over.

use trine_core::Secret;
use trine_lock::conformance::Fixture;
use trine_redis::RedisConfig;
use trine_testkit::RedisSentinel;

use crate::support::failover::hold_over;
use crate::support::redis::{fixture, hasty};

async fn connect() -> Fixture {
    let servers = RedisSentinel::shared().await.unwrap();
    let urls = servers.addresses().iter().map(|address| Secret::new(format!("redis://{address}")));
    let config = RedisConfig::sentinel(servers.namespace(), servers.master_name(), urls);
    fixture(config, ()).await
}

trine_lock::conformance_tests!(suite, super::connect);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_master_grants_nothing_for_the_margin_and_then_higher_tokens() {
    let servers = RedisSentinel::start().await.unwrap();
    let addresses = servers.addresses();
    let urls = addresses.iter().map(|address| Secret::new(format!("redis://{address}")));
    let config = hasty(RedisConfig::sentinel("test:it", servers.master_name(), urls));
    let kill = async || {
        let old = servers.kill_master().await.unwrap();
        servers.wait_for_failover(old).await.unwrap();
    };
    hold_over(&config, kill).await;
}
