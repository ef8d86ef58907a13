//! The suite on a cluster, and what becomes of calls when it changes.

mod faults;

use trine_cache::conformance::Fixture;
use trine_core::Secret;
use trine_redis::RedisConfig;
use trine_testkit::RedisCluster;

use crate::support::fixture;

async fn connect() -> Fixture {
    let servers = RedisCluster::shared().await.unwrap();
    let urls = servers.addresses().iter().map(|address| Secret::new(format!("redis://{address}")));
    fixture(RedisConfig::cluster(servers.namespace(), urls), ()).await
}

trine_cache::conformance_tests!(suite, super::connect);
