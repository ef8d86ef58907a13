//! The suite on a master that sentinels watch, and what becomes of calls when it fails
//! over.

mod faults;

use trine_cache::conformance::Fixture;
use trine_core::Secret;
use trine_redis::RedisConfig;
use trine_testkit::RedisSentinel;

use crate::support::fixture;

async fn connect() -> Fixture {
    let servers = RedisSentinel::shared().await.unwrap();
    let urls = servers.addresses().iter().map(|address| Secret::new(format!("redis://{address}")));
    let config = RedisConfig::sentinel(servers.namespace(), servers.master_name(), urls);
    fixture(config, ()).await
}

trine_cache::conformance_tests!(suite, super::connect);
