//! The same schedules where the locks are on Redis and in a database.

use std::path::Path;

use trine_core::{Durability, Secret, Span};
use trine_db_shard::{DbConfig, DbService, migrate};
use trine_lock::{BackendConfig, LockConfig, LockDeps, RedisStoreConfig};
use trine_redis::{RedisConfig, RedisService};
use trine_testkit::{Redis, SoakPlan};

use super::owners::Owners;
use super::schedules::{Tally, Without, run};
use super::{Shop, assert_sound, redis};

/// In one of so many schedules the keys of stopped owners are let go by the
/// store in its own time; in the others they are stolen, which takes none.
const WAITING: u64 = 50;

/// Owners over one store: robbed ones, and ones whose time goes by.
struct Shared {
    owners: [Owners; 2],
    _keep: Box<dyn std::any::Any>,
}

/// Returns the settings of locks on a Redis that grants at once.
pub(super) fn on_redis() -> LockConfig {
    let mut store = RedisStoreConfig::default();
    store.clock_margin = Span::millis(0);
    LockConfig::new(BackendConfig::Redis(store))
}

async fn in_redis() -> Shared {
    let server = Redis::shared().await.unwrap();
    let config = RedisConfig::single(server.namespace(), Secret::new(server.url()));
    let redis = RedisService::connect(&config).await.unwrap();
    let deps = LockDeps::default().with_redis("main", redis.pool());
    let owners = Owners::shared(3, &on_redis(), &deps).await;
    Shared { owners, _keep: Box::new(redis) }
}

async fn in_sqlite(folder: &Path) -> Shared {
    let durability = Durability::Async { window: Span::secs(1) };
    let config = DbConfig::sqlite(folder.join("locks"), 0).with_durability(durability);
    let report = migrate(&config, &trine_lock::migrations()).await.unwrap();
    assert!(report.is_complete(), "{report}");
    let db = DbService::connect(&config).await.unwrap();
    let deps = LockDeps::default().with_database("default", db.global());
    let owners = Owners::shared(3, &LockConfig::sql("default"), &deps).await;
    Shared { owners, _keep: Box::new(db) }
}

/// Over a database, a cache in memory and one on Redis.
async fn schedules(shop: &Shop, locks: &Shared, without: Without, rounds: u64) -> [Tally; 2] {
    let (_redis, cache) = redis::sink().await;
    let [db, memory] = shop.sinks();
    let mut plan = SoakPlan::new("lock_fence", rounds).unwrap();
    let (seed, mut tallies) = (plan.seed(), [Tally::default(); 2]);
    while let Some(round) = plan.next_round() {
        let kind = usize::from(round % WAITING == 0);
        let (owners, tally) = (&locks.owners[kind], &mut tallies[kind]);
        run(seed.wrapping_add(round), owners, &[db, memory, &cache], without, tally).await;
    }
    println!("{without:?} switched off, stolen: {}; expired: {}", tallies[0], tallies[1]);
    tallies
}

async fn no_schedule_lets_an_old_owner_write(shop: &Shop, locks: &Shared) {
    let [robbed, expired] = schedules(shop, locks, Without::Nothing, 100).await;
    assert_sound(robbed);
    assert!(expired.stale == 0 && expired.lapses > 0, "{expired}");
}

/// The same schedules find what the protections keep out.
async fn stale_writes_are_seen(shop: &Shop, locks: &Shared) {
    for without in [Without::Raise, Without::Check] {
        let [robbed, _] = schedules(shop, locks, without, 30).await;
        assert!(robbed.stale > 0, "{without:?}: {robbed}");
    }
}

mod over_redis {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_schedule_lets_an_owner_write_whose_lock_became_another_s() {
        let (shop, locks) = (Shop::new().await, in_redis().await);
        no_schedule_lets_an_old_owner_write(&shop, &locks).await;
        stale_writes_are_seen(&shop, &locks).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "long form: cargo xtask soak lock_fence"]
    async fn soak_lock_fence() {
        no_schedule_lets_an_old_owner_write(&Shop::new().await, &in_redis().await).await;
    }
}

mod over_sqlite {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_schedule_lets_an_owner_write_whose_lock_became_another_s() {
        let (shop, folder) = (Shop::new().await, tempfile::tempdir().unwrap());
        let locks = in_sqlite(folder.path()).await;
        no_schedule_lets_an_old_owner_write(&shop, &locks).await;
        stale_writes_are_seen(&shop, &locks).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "long form: cargo xtask soak lock_fence"]
    async fn soak_lock_fence() {
        let (shop, folder) = (Shop::new().await, tempfile::tempdir().unwrap());
        no_schedule_lets_an_old_owner_write(&shop, &in_sqlite(folder.path()).await).await;
    }
}
