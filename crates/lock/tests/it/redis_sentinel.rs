//! The suite on a master that sentinels watch, and what becomes of locks when it
//! fails over.

use trine_core::Secret;
use trine_lock::conformance::Fixture;
use trine_redis::RedisConfig;
use trine_testkit::RedisSentinel;

use crate::support::redis::fixture;

async fn connect() -> Fixture {
    let servers = RedisSentinel::shared().await.unwrap();
    let urls = servers.addresses().iter().map(|address| Secret::new(format!("redis://{address}")));
    let config = RedisConfig::sentinel(servers.namespace(), servers.master_name(), urls);
    fixture(config, ()).await
}

trine_lock::conformance_tests!(suite, super::connect);
