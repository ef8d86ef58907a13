//! The suite on a cluster, and what becomes of locks when it changes.

use trine_core::Secret;
use trine_lock::conformance::Fixture;
use trine_redis::RedisConfig;
use trine_testkit::RedisCluster;

use crate::support::failover::hold_over;
use crate::support::redis::{fixture, hasty};

async fn connect() -> Fixture {
    let servers = RedisCluster::shared().await.unwrap();
    let urls = servers.addresses().iter().map(|address| Secret::new(format!("redis://{address}")));
    fixture(RedisConfig::cluster(servers.namespace(), urls), ()).await
}

trine_lock::conformance_tests!(suite, super::connect);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_master_grants_nothing_for_the_margin_and_then_higher_tokens() {
    let cluster = RedisCluster::start().await.unwrap();
    let addresses = cluster.addresses();
    let urls = addresses.iter().map(|address| Secret::new(format!("redis://{address}")));
    let config = hasty(RedisConfig::cluster("test:it", urls));
    let kill = async || {
        let hash = "test:it:lock.default:{96}";
        let slot = cluster.slot_of(hash).await.unwrap();
        let master = cluster.master_of(slot).await.unwrap();
        let held = master.admin(&["HEXISTS", hash, "k:k"]).await.unwrap();
        assert_eq!(held.integer(), Some(1), "the key is elsewhere");
        master.kill().await.unwrap();
    };
    hold_over(&config, kill).await;
}
