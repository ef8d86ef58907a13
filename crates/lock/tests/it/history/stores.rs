//! The stores whose histories are checked, and what goes wrong with each.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use trine_core::{Secret, Span, SystemClock};
use trine_lock::conformance::Fixture;
use trine_lock::{LockBackend, LockConfig, RedisBackend};
use trine_redis::{RedisConfig, RedisService};
use trine_testkit::{Door, Flow, MariaDb, Proxy, Redis, RedisPersistence, Rng};

use super::clients::PROCESSES;
use super::recorder::Log;
use crate::support::redis::{hasty, store};
use crate::{memory, sql};

/// A store, and what is true of it beside its times.
pub(crate) struct Stage {
    pub(crate) fixture: Fixture,
    pub(crate) manners: Manners,
    /// Between two steps of a client; they are as short as can be if this is
    /// zero.
    pub(crate) step: Duration,
    pub(crate) network: Option<Network>,
}

/// How a store goes about what was not answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Manners {
    /// By how much its times may be beside those that are written down.
    pub(crate) slack: Duration,
    /// Whether one call asks again by itself, and gives back what nobody has
    /// heard of.
    pub(crate) insists: bool,
}

impl Stage {
    /// A store to which nothing leads but calls.
    pub(crate) fn near(fixture: Fixture) -> Self {
        let manners = Manners { slack: fixture.slack(), insists: false };
        Self { fixture, manners, step: Duration::ZERO, network: None }
    }

    /// A store that insists, and whose answers take time.
    fn far(fixture: Fixture, network: Option<Network>) -> Self {
        let manners = Manners { slack: fixture.slack(), insists: true };
        Self { fixture, manners, step: Duration::from_micros(500), network }
    }
}

pub(crate) async fn in_memory() -> Stage {
    Stage::near(memory::connect().await)
}

pub(crate) async fn on_sqlite() -> Stage {
    Stage::far(sql::sqlite::connect().await, None)
}

/// One server that keeps what it has answered, and a way to it for each process.
pub(crate) async fn on_redis() -> Stage {
    let server = Redis::builder().persistence(RedisPersistence::Always).start().await.unwrap();
    let (ways, mut services) = (ways(server.addr()).await, Vec::new());
    for way in &ways {
        let url = Secret::new(server.url_via(way.addr()));
        let config = hasty(RedisConfig::single("test:it", url));
        services.push(RedisService::connect(&config).await.unwrap());
    }
    let pools: Vec<_> = services.iter().map(|service| service.pool().clone()).collect();
    let backend = one_for_each(pools, |pool| {
        let (mut limits, name) = (LockConfig::memory(), Fixture::NAME.into());
        limits.claim_timeout = Span::from(Fixture::CLAIM_TIMEOUT);
        Arc::new(RedisBackend::open(&name, pool, &store(), &limits).unwrap())
    });
    let network = Network { ways, server: Some(server), troubles: AtomicUsize::new(0) };
    Stage::far(Fixture::new(backend, services), Some(network))
}

/// A way for each process.
pub(crate) async fn on_mariadb() -> Stage {
    let server = MariaDb::shared().await.unwrap();
    let own = server.database().await.unwrap();
    sql::mariadb::open(&own.url()).migrate_with(&trine_lock::migrations()).await.unwrap();
    let ways = ways(own.addr().await.unwrap()).await;
    let far = ways.iter().map(|way| sql::mariadb::open_far(&own.url_via(way.addr())));
    let backend = one_for_each(far.collect(), |database| {
        Arc::new(sql::store(database, Arc::new(SystemClock)))
    });
    let network = Network { ways, server: None, troubles: AtomicUsize::new(0) };
    Stage::far(Fixture::new(backend, own).with_slow_store(), Some(network))
}

async fn ways(server: std::net::SocketAddr) -> Vec<Proxy> {
    let mut ways = Vec::new();
    for _ in 0..PROCESSES {
        ways.push(Proxy::to(server).await.unwrap());
    }
    ways
}

/// Makes the backend of each process over what it alone has.
fn one_for_each<T: Send + Sync + 'static>(
    all: Vec<T>,
    open: impl Fn(&T) -> Arc<dyn LockBackend> + Send + Sync + 'static,
) -> impl Fn() -> Arc<dyn LockBackend> + Send + Sync + 'static {
    let next = AtomicUsize::new(0);
    move || open(&all[next.fetch_add(1, Ordering::Relaxed)])
}

/// The connections of each process, and the server if it may be killed.
pub(crate) struct Network {
    ways: Vec<Proxy>,
    server: Option<Redis>,
    troubles: AtomicUsize,
}

impl Network {
    /// Returns how often something went wrong.
    pub(crate) fn troubles(&self) -> usize {
        self.troubles.load(Ordering::Relaxed)
    }

    /// Has one thing go wrong for a while, and all is well again.
    pub(crate) async fn trouble(&self, rng: &mut Rng, log: &Log, ttl: Duration) {
        self.troubles.fetch_add(1, Ordering::Relaxed);
        let process = usize::try_from(rng.below(self.ways.len() as u64)).unwrap();
        let way = &self.ways[process];
        let span = ttl * u32::try_from(1 + rng.below(100)).unwrap() / 100;
        let kind = rng.below(12);
        let server = self.server.as_ref().filter(|_| kind == 0);
        let processes = if server.is_some() { 0..self.ways.len() } else { process..process + 1 };
        let trouble = log.trouble(processes);
        if let Some(server) = server {
            server.kill().await.unwrap();
            tokio::time::sleep(span / 4).await;
            server.restart().await.unwrap();
        }
        match kind {
            0 => {}
            1..=2 => way.kill_all(),
            3..=4 => {
                way.set_door(Door::Refuse).await.unwrap();
                way.kill_all();
                tokio::time::sleep(span).await;
                way.set_door(Door::Open).await.unwrap();
            }
            5..=7 => way.set_replies(Flow::CutAfter(rng.below(300))),
            8 => way.set_requests(Flow::CutAfter(rng.below(2_000))),
            9 => way.set_replies(Flow::Delay(span / 4)),
            10 => way.set_requests(Flow::Delay(span / 4)),
            _ => way.set_replies(Flow::Hang),
        }
        if kind >= 5 {
            tokio::time::sleep(span).await;
            way.set(Flow::Pass);
        }
        trouble.end();
    }
}
