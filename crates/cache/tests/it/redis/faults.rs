//! A server that is killed, stopped, cut off or robbed of its scripts while many
//! callers use it.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use trine_cache::{CacheConfig, CacheDeps, CacheService, Ttl};
use trine_core::{ErrorKind, HealthStatus, Service};
use trine_redis::{RedisDeps, RedisService};
use trine_testkit::{Door, Flow, Proxy, Redis, RedisPersistence, Side, SoakPlan};

use crate::support::load::Load;
use crate::support::{Opened, PATIENCE, assert_kind, single, until, until_works};

const CALLERS: u64 = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// kill -9 and a start.
    Killed,
    /// SIGSTOP for longer than a call waits.
    Stopped,
    /// The server ends every connection.
    Ended,
    /// The server is gone and nobody is told.
    HalfOpen,
    /// Nothing passes in either direction.
    BlackHole,
    /// No script is known any more.
    Flushed,
}

impl Fault {
    const ALL: [Self; 6] =
        [Self::Killed, Self::Stopped, Self::Ended, Self::HalfOpen, Self::BlackHole, Self::Flushed];

    /// Does it, waits until it has bitten, and heals it.
    async fn strike(self, server: &Redis, proxy: &Proxy, load: &Load) {
        match self {
            Self::Killed => {
                server.kill().await.unwrap();
                load.failures(CALLERS).await;
                server.restart().await.unwrap();
            }
            Self::Stopped => {
                server.pause().await.unwrap();
                load.failures(CALLERS * 2).await;
                server.resume().await.unwrap();
            }
            Self::Ended => {
                assert!(server.kill_connections().await.unwrap() > 0);
            }
            Self::HalfOpen => {
                proxy.lose(Side::Server);
                load.failures(CALLERS).await;
            }
            Self::BlackHole => {
                proxy.set(Flow::Hang);
                load.failures(CALLERS * 2).await;
                proxy.set(Flow::Pass);
            }
            Self::Flushed => {
                server.admin(&["SCRIPT", "FLUSH"]).await.unwrap();
            }
        }
    }
}

/// Rounds are faults.
#[expect(clippy::print_stdout, reason = "the harness shows the figures")]
async fn strike_many(persistence: RedisPersistence, short: u64) {
    let mut plan = SoakPlan::new("cache_kill", short).unwrap();
    let server = Redis::builder().persistence(persistence).start().await.unwrap();
    let proxy = Proxy::to(server.addr()).await.unwrap();
    let opened = Opened::new(&single(server.url_via(proxy.addr()))).await;
    let mut load = Load::start(&opened.cache, CALLERS, plan.seed());
    let mut struck = BTreeMap::new();
    load.answers(3).await;
    while let Some(round) = plan.next_round() {
        let at = plan.rng().below(Fault::ALL.len() as u64);
        // The first of them in turn, so that the short form has each.
        let fault = Fault::ALL.get(round as usize).unwrap_or(&Fault::ALL[at as usize]);
        let connects = proxy.accepted();
        fault.strike(&server, &proxy, &load).await;
        load.recovers().await;
        if *fault == Fault::Flushed {
            assert_eq!(proxy.accepted(), connects, "a flush ends no connection");
        }
        *struck.entry(*fault).or_insert(0) += 1;
    }
    until_works(&opened.cache).await;
    let ledger = load.end().await;
    println!("{struck:?} with {persistence:?} (seed {}): {ledger}", plan.seed());
    if persistence == RedisPersistence::Always {
        assert_eq!(ledger.lost, 0, "{ledger}");
    } else {
        assert!(ledger.lost > 0, "a server without persistence lost nothing: {ledger}");
    }
    assert_eq!(opened.cache.health().await.status, HealthStatus::Up);
    opened.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_and_everything_comes_back() {
    strike_many(RedisPersistence::Always, Fault::ALL.len() as u64).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_forgets_is_used_again() {
    strike_many(RedisPersistence::None, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long form: cargo xtask soak cache_kill --count 200"]
async fn soak_cache_kill() {
    strike_many(RedisPersistence::Always, 6).await;
}

/// Health says so, and nobody has to start anything again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_follows_a_server_that_goes_and_comes() {
    let server = Redis::start().await.unwrap();
    let opened = Opened::new(&single(server.url())).await;
    let becomes = async |status| {
        let is_so = async || opened.cache.health().await.status == status;
        until("the health", is_so).await;
    };
    for _ in 0..2 {
        becomes(HealthStatus::Up).await;
        server.kill().await.unwrap();
        becomes(HealthStatus::Down).await;
        server.restart().await.unwrap();
    }
    becomes(HealthStatus::Up).await;
    assert!(until_works(&opened.cache).await < PATIENCE);
    opened.close().await;
}

/// Where nothing is answered, each of several look-ups has failed, and says why.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_look_ups_in_an_outage_are_counted_and_tell_its_cause() {
    let server = Redis::start().await.unwrap();
    let opened = Opened::new(&single(server.url())).await;
    let cache = &opened.cache;
    server.kill().await.unwrap();
    let is_away = async || cache.has("a").await.is_err_and(|e| e.kind() == ErrorKind::Unavailable);
    until("the outage", is_away).await;
    for keys in [["a", "b", "c"], ["{t}a", "{t}b", "{t}c"]] {
        let error = assert_kind(cache.get_many::<u32>(keys).await, ErrorKind::Unavailable);
        assert!(std::error::Error::source(&error).is_some(), "{error:?}");
    }
    let labels = [("backend", "redis"), ("operation", "pipeline"), ("outcome", "unavailable")];
    let counted = Service::metrics(cache).counter("trine_cache_operations_total", &labels);
    assert_eq!(counted, Some(2));
    opened.close().await;
}

// CO-10
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_waits_for_a_server_that_comes_later() {
    let server = Redis::start().await.unwrap();
    let proxy = Proxy::to(server.addr()).await.unwrap();
    proxy.set_door(Door::Refuse).await.unwrap();
    let redis = RedisService::open(&single(server.url_via(proxy.addr())), RedisDeps::default());
    let redis = redis.unwrap();
    let deps = CacheDeps::default().with_redis("main", redis.pool());
    let cache = CacheService::open(&CacheConfig::redis("main"), deps).unwrap();
    let came = async {
        // Both have tried, and more than once.
        let tried = async || redis.health().await.status == HealthStatus::Down;
        until("an attempt", tried).await;
        proxy.set_door(Door::Open).await.unwrap();
        Instant::now()
    };
    let (below, above, came) = tokio::join!(redis.start(), cache.start(), came);
    below.unwrap();
    above.unwrap();
    // Two seconds are stated.
    assert!(came.elapsed() < Duration::from_secs(5 * 2), "{:?}", came.elapsed());
    cache.put("k", "v", Ttl::Never).await.unwrap();
    Opened { redis, cache }.close().await;
}
