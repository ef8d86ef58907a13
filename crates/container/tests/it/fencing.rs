//! Locks, databases and caches together: what an old owner can still do.

mod owners;
#[cfg(all(feature = "lock", feature = "mysql", feature = "redis"))]
mod processes;
#[cfg(feature = "redis")]
mod redis;
mod schedules;
#[cfg(all(feature = "lock", feature = "redis"))]
mod shared;
mod sinks;

use std::time::Duration;

use trine_core::{ErrorKind, Fence, FenceSink};
use trine_lock::{Error, Guard, LockOptions};
use trine_testkit::SoakPlan;

use self::owners::Owners;
use self::schedules::{Tally, Without, run};
use self::sinks::{CacheSink, Check, Sink, SqlSink, Taken, Write};

const KEY: &str = "order:42";

/// A database, a cache, and two processes with locks.
struct Shop {
    _folder: tempfile::TempDir,
    service: trine_db_shard::DbService,
    db: SqlSink,
    cache: CacheSink,
    owners: Owners,
}

impl Shop {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (service, db) = SqlSink::sqlite(folder.path()).await;
        let (cache, owners) = (CacheSink::memory().await, Owners::memory(2).await);
        Self { _folder: folder, service, db, cache, owners }
    }

    fn sinks(&self) -> [&dyn Sink; 2] {
        [&self.db, &self.cache]
    }

    async fn write(&self, fence: &Fence, name: &str, check: Check) -> [Taken; 2] {
        let what = Write::Entry(name.to_owned());
        let [db, cache] = self.sinks();
        let cache = cache.write(KEY, fence, &what, check);
        [db.write(KEY, fence, &what, check).await, cache.await]
    }

    /// Takes the key of a first owner that is stopped at once, and returns what
    /// it would write with.
    async fn stopped(&self) -> (Guard, Fence) {
        let guard = self.owners.acquire(0, KEY, false).await.unwrap();
        let fence = guard.fence().clone();
        assert_eq!(self.write(&fence, "first", Check::On).await, [Taken::Yes; 2]);
        (guard, fence)
    }

    /// Takes the key for the second owner, and runs `body` as it does.
    async fn second(
        &self,
        sinks: &[&dyn FenceSink],
        body: impl AsyncFnOnce(&Guard),
    ) -> Result<(), Error> {
        self.owners.acquire(1, KEY, true).await.unwrap().release().await?;
        let options = LockOptions::default().with_wait(Duration::ZERO);
        let second = self.owners.process(1).with_lock(KEY).options(options).fencing(sinks);
        let body = async |guard: &Guard| {
            body(guard).await;
            Ok::<_, Error>(())
        };
        second.run(body).await
    }
}

/// In the global database, a shard and a cache, before the body begins; after
/// that the old owner is refused in each, and what it wrote before is seen.
#[tokio::test]
async fn a_new_owner_is_known_to_each_resource_before_its_body_begins() {
    let shop = Shop::new().await;
    let (_guard, old) = shop.stopped().await;
    let (db, cache) = (&shop.service, shop.cache.cache());
    let scope = cache.guarding(["{order:42}:entries"]).unwrap();
    let shard = db.shard(3_u32).unwrap();
    let body = async |guard: &Guard| {
        assert!(guard.fence().token() > old.token());
        for sink in shop.sinks() {
            assert_eq!(sink.read(KEY).await, ["first"]);
        }
        assert_eq!(shop.write(&old, "late", Check::On).await, [Taken::Fenced; 2]);
        let error = shard.raise(&old).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Fenced);
        assert_eq!(shop.write(guard.fence(), "second", Check::On).await, [Taken::Yes; 2]);
    };
    shop.second(&[&db.global(), &shard, &scope], body).await.unwrap();
    for sink in shop.sinks() {
        assert_eq!(sink.read(KEY).await, ["first", "second"]);
    }
    // Also when the new owner is gone.
    assert_eq!(shop.write(&old, "later", Check::On).await, [Taken::Fenced; 2]);
}

/// The new owner has its key, and has shown its token to nobody so far.
#[tokio::test]
async fn who_wakes_between_a_grant_and_its_first_write_is_refused_or_seen() {
    let shop = Shop::new().await;
    let (_guard, old) = shop.stopped().await;
    let guard = shop.owners.acquire(1, KEY, true).await.unwrap();
    assert_eq!(shop.write(&old, "before", Check::On).await, [Taken::Yes; 2]);
    for sink in shop.sinks() {
        assert_eq!(sink.raise(KEY, guard.fence()).await, Taken::Yes);
        assert_eq!(sink.read(KEY).await, ["first", "before"]);
    }
    assert_eq!(shop.write(&old, "after", Check::On).await, [Taken::Fenced; 2]);
    assert_eq!(shop.write(guard.fence(), "second", Check::On).await, [Taken::Yes; 2]);
}

/// Neither a lock without a raise nor a raise without a check protects.
#[tokio::test]
async fn without_a_raise_or_a_check_an_old_owner_writes() {
    let shop = Shop::new().await;
    let (_guard, old) = shop.stopped().await;
    let body = async |_: &Guard| {
        assert_eq!(shop.write(&old, "not raised", Check::On).await, [Taken::Yes; 2]);
    };
    shop.second(&[], body).await.unwrap();
    let scope = shop.cache.cache().guarding(["{order:42}:entries"]).unwrap();
    let body = async |_: &Guard| {
        assert_eq!(shop.write(&old, "not checked", Check::Off).await, [Taken::Yes; 2]);
        assert_eq!(shop.write(&old, "checked", Check::On).await, [Taken::Fenced; 2]);
    };
    shop.second(&[&shop.service.global(), &scope], body).await.unwrap();
}

/// The body of an owner that is already too old.
#[tokio::test]
async fn a_body_whose_fence_is_refused_does_not_begin() {
    let shop = Shop::new().await;
    let (_guard, old) = shop.stopped().await;
    let higher = Fence::new(old.key(), old.token() + 1_000_000_000_000).unwrap();
    shop.service.global().raise(&higher).await.unwrap();
    let body = async |_: &Guard| panic!("it began");
    let error = shop.second(&[shop.service.global()], body).await.unwrap_err();
    assert!(matches!(error, Error::NotRaised { kind: ErrorKind::Fenced, .. }), "{error}");
}

async fn schedules(
    plan: &mut SoakPlan,
    owners: &Owners,
    sinks: &[&dyn Sink],
    without: Without,
) -> Tally {
    let mut tally = Tally::default();
    let seed = plan.seed();
    while let Some(round) = plan.next_round() {
        run(seed.wrapping_add(round), owners, sinks, without, &mut tally).await;
    }
    println!("{without:?} switched off: {tally}");
    tally
}

/// Every kind of thing happened, and nothing stale was accepted.
fn assert_sound(tally: Tally) {
    assert_eq!(tally.stale, 0, "{tally}");
    assert!(tally.between > 0 && tally.refused > 0 && tally.lapses > 0, "{tally}");
}

/// Over a database and a cache.
async fn no_schedule_lets_an_old_owner_write(owners: Owners) {
    let shop = Shop::new().await;
    let mut plan = SoakPlan::new("lock_fence", 400).unwrap();
    assert_sound(schedules(&mut plan, &owners, &shop.sinks(), Without::Nothing).await);
}

/// Whose lock expired while it was stopped.
#[tokio::test]
async fn no_schedule_lets_an_owner_write_whose_lock_expired() {
    no_schedule_lets_an_old_owner_write(Owners::memory(3).await).await;
}

/// Whose lock was taken by force while it was stopped.
#[tokio::test]
async fn no_schedule_lets_an_owner_write_whose_lock_was_stolen() {
    no_schedule_lets_an_old_owner_write(Owners::robbed(3).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long form: cargo xtask soak lock_fence"]
async fn soak_lock_fence() {
    no_schedule_lets_an_old_owner_write(Owners::memory(3).await).await;
}

/// The same schedules find what the protections keep out.
#[tokio::test]
async fn the_schedules_see_stale_writes_without_a_raise_and_without_a_check() {
    let (shop, owners) = (Shop::new().await, Owners::memory(3).await);
    for without in [Without::Raise, Without::Check] {
        let mut plan = SoakPlan::new("lock_fence", 100).unwrap();
        let tally = schedules(&mut plan, &owners, &shop.sinks(), without).await;
        assert!(tally.stale > 0, "{without:?}: {tally}");
    }
}
