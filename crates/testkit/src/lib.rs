//! Real servers, real faults and dropped futures for the tests of Rust
//! backends.
//!
//! A test asks for a server of its own or a database on a shared one, puts a
//! proxy between it and its client, breaks things, and compares what it was
//! promised with what it finds.
//!
//! # Example
//!
//! ```no_run
//! use trine_testkit::{Flow, MariaDb, Proxy, Result};
//!
//! #[trine_testkit::test]
//! async fn a_lost_reply_is_noticed() -> Result<()> {
//!     let database = MariaDb::shared().await?.database().await?;
//!     let proxy = Proxy::to(database.addr().await?).await?;
//!     let url = database.url_via(proxy.addr());
//!     // … connect your client to `url` …
//!     proxy.set_replies(Flow::CutAfter(20));
//!     // … and see what it makes of half a reply.
//!     Ok(())
//! }
//! # fn main() {}
//! ```
//!
//! # Guarantees
//!
//! * A test that cannot have its server fails, with what to do about it; none
//!   is skipped. *A URL that leads nowhere fails the test without showing it.*
//! * Servers and children end with the process that started them, and their
//!   folders go, even if it is killed. *The server of a killed process dies with
//!   it and leaves no folder.*
//! * Nothing on a Redis is ever flushed, and no two tests are given the same
//!   prefix. *Tests of one server have namespaces of their own.*
//! * Only databases named `trine_test_` and 16 hex digits are ever dropped.
//!   *Databases of others are never dropped.*
//! * A test ends in time, with its seed, whatever it waits for or blocks.
//!   *A test that blocks its threads fails in time.*
//! * Servers, proxies and children keep real time while tokio's clock is
//!   paused. *A server comes and goes while the clock is paused.*
//! * A drop counts only if the last poll had answered `Pending`. *A future that
//!   is ready at once is never dropped.*
//! * What a [`Ledger`] in a file has recorded survives a kill -9 of its writer.
//!   *A ledger survives kills of its writer.*
//!
//! # Not provided
//!
//! Loss of power (a kill shows what survives a process, not a disk), faults of
//! the network below TCP, and Windows. Servers and children are started on Linux
//! only, where `setpriv` of util-linux ties their lives to ours; elsewhere use
//! Docker or `TRINE_TEST_MARIADB_URL` and `TRINE_TEST_REDIS_URL`. Redis with TLS,
//! with sentinels and in a cluster is not started in Docker, and neither
//! sentinels nor clusters have TLS. [`Flow::Step`] and [`Flow::Packets`] know the
//! packets of MySQL and Redis, and nothing of them under TLS.
//!
//! # Feature flags
//!
//! * `mariadb` (default): [`MariaDb`] and [`TestDatabase`]; adds the MySQL
//!   driver.
//! * `redis` (default): [`Redis`], [`RedisSentinel`] and [`RedisCluster`]; adds
//!   what makes certificates.

#![cfg_attr(
    not(any(feature = "mariadb", feature = "redis")),
    expect(dead_code, reason = "servers are built on more than proxies and children need")
)]

mod account;
mod clock;
mod docker;
mod drops;
mod engine;
mod env;
mod error;
mod ledger;
#[cfg(feature = "mariadb")]
mod mariadb;
mod port;
mod process;
mod proxy;
#[cfg(feature = "redis")]
mod redis;
mod rng;
mod run;
mod scratch;
mod server;
mod settings;
mod soak;
mod user;

pub use drops::{DropFailure, DropPlan, DropPoint, DropReport, Verdict, drop_at_every_await};
pub use error::{BoxError, Error, Result};
pub use ledger::{Ledger, LedgerAudit};
#[cfg(feature = "mariadb")]
pub use mariadb::{MariaDb, MariaDbBuilder, SharedMariaDb, TestDatabase};
pub use process::{Child, ChildBuilder};
pub use proxy::{Door, Flow, Protocol, Proxy, ProxyBytes, Side};
#[cfg(feature = "redis")]
pub use redis::{
    Redis, RedisBuilder, RedisCluster, RedisClusterBuilder, RedisPersistence, RedisReply,
    RedisSentinel, RedisSentinelBuilder, RedisTls, SharedRedis, SharedRedisCluster,
    SharedRedisSentinel, SlotMove,
};
pub use rng::Rng;
pub use settings::check_settings;
pub use soak::{SoakPlan, SoakSize};
pub use trine_macros::test;

/// What the expansion of [`macro@test`] calls; no part of the contract.
#[doc(hidden)]
pub mod __private {
    pub use crate::run::{Settings, run};
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

#[cfg(doctest)]
#[doc = include_str!("../../../docs/guides/testkit.md")]
mod guide {}
