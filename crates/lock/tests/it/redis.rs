//! The suite on one Redis server, and as an account with the least rights; and
//! what becomes of locks when the server or the network does not do its part.

mod account;
mod bounds;
mod clock;
mod faults;
mod lost;
mod plain;
mod waits;

use trine_core::Secret;
use trine_lock::conformance::Fixture;
use trine_redis::RedisConfig;
use trine_testkit::Redis;

use crate::support::redis::fixture;

async fn connect() -> Fixture {
    let server = Redis::shared().await.unwrap();
    fixture(RedisConfig::single(server.namespace(), Secret::new(server.url())), ()).await
}

trine_lock::conformance_tests!(suite, super::connect);
