//! The suite on a cluster, and what becomes of locks when it changes.

use trine_core::Secret;
use trine_lock::conformance::Fixture;
use trine_redis::RedisConfig;
use trine_testkit::RedisCluster;

use crate::support::redis::fixture;

async fn connect() -> Fixture {
    let servers = RedisCluster::shared().await.unwrap();
    let urls = servers.addresses().iter().map(|address| Secret::new(format!("redis://{address}")));
    fixture(RedisConfig::cluster(servers.namespace(), urls), ()).await
}

trine_lock::conformance_tests!(suite, super::connect);
