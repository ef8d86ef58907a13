//! The suite on one Redis server, and as an account with the least rights; and
//! what becomes of calls when the server or the network does not do its part.

mod account;
mod drops;
mod faults;
mod fences;
mod full;
mod lost;
mod wrong;

use trine_cache::conformance::Fixture;
use trine_core::Secret;
use trine_redis::RedisConfig;
use trine_testkit::Redis;

use crate::support::fixture;

async fn connect() -> Fixture {
    let server = Redis::shared().await.unwrap();
    fixture(RedisConfig::single(server.namespace(), Secret::new(server.url())), ()).await
}

trine_cache::conformance_tests!(suite, super::connect);
