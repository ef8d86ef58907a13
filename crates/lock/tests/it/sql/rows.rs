//! What is left in the tables, and what is written there.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use trine_core::{Clock, ErrorKind, LeaseEnd, ManualClock, Tasks};
use trine_lock::{Error, Guard, LockDeps, LockService};
use trine_testkit::{DropPlan, DropPoint};

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

/// Running locks in SQLite on a clock that goes by itself.
async fn on_sqlite(database: &Database, clock: &Arc<ManualClock>) -> LockService {
    let clock = Arc::<ManualClock>::clone(clock);
    let locks = open(database, MINUTE, LockDeps::default().with_clock(clock));
    locks.start().await.unwrap();
    locks
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::with_rate(1.0))
}

/// However many keys were held before; of a process that is gone after a while.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_key_leaves_a_row() {
    let (database, _folder) = sqlite::database().await;
    let clock = clock();
    let locks = on_sqlite(&database, &clock).await;
    for id in 0..100 {
        acquire(&locks, &format!("k{id}")).await.release().await.unwrap();
    }
    assert_eq!(count(&database).await, 0);
    let parts: u64 = database.query_one("SELECT COUNT(*) FROM trine_lock_token", ()).await.unwrap();
    assert_eq!(parts, 256);

    let gone = on_sqlite(&database, &clock).await;
    for id in 0..150 {
        std::mem::forget(acquire(&gone, &format!("g{id}")).await);
    }
    // It waits for two keys, and leaves its places.
    for name in ["g1", "g2"] {
        let mut waiting = Box::pin(locks.acquire(name, any()));
        tokio::select! {
            _ = &mut waiting => panic!("two hold one key"),
            () = eventually(async || {
                let page = gone.holders(name, None, 1).await.unwrap();
                page.keys.first().is_some_and(|held| held.waiters == 1)
            }) => {}
        }
        std::mem::forget(waiting);
    }
    // Every lease is over at once, and none is given back.
    clock.advance(MINUTE * 2);
    assert_eq!(count(&database).await, 150);
    eventually(async || {
        clock.advance(MINUTE);
        count(&database).await == 0
    })
    .await;
}

/// A wait is one read a time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_that_changes_nothing_writes_nothing() {
    let (database, _folder) = sqlite::database().await;
    let clock = clock();
    let (locks, rival) = (on_sqlite(&database, &clock).await, on_sqlite(&database, &clock).await);
    let held = acquire(&locks, "k").await;
    let mut waiting = Box::pin(rival.acquire("k", any()));
    let stamp =
        async || database.query_one::<i64>("SELECT stamp FROM trine_lock", ()).await.unwrap();
    let first = stamp().await;
    let registered = eventually(async || stamp().await != first);
    tokio::select! {
        _ = &mut waiting => panic!("two hold one key"),
        () = registered => {}
    }
    let registered = stamp().await;
    let second = tokio::time::sleep(Duration::from_secs(1));
    tokio::select! {
        _ = &mut waiting => panic!("two hold one key"),
        () = second => {}
    }
    for _ in 0..3 {
        assert!(is_held(&rival, "k").await);
    }
    assert_eq!(stamp().await, registered);
    held.release().await.unwrap();
    assert!(in_time(waiting).await.unwrap().into_guard().is_some());
}

/// More than one transaction changes; one of them was stolen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_keys_are_renewed_together() {
    let (database, _folder) = sqlite::database().await;
    let clock = clock();
    let (locks, thief) = (on_sqlite(&database, &clock).await, on_sqlite(&database, &clock).await);
    let mut guards = Vec::new();
    for id in 0..250 {
        guards.push(acquire(&locks, &format!("k{id}")).await);
    }
    let _stolen = thief.steal("k7", any()).await.unwrap();
    for _ in 0..8 {
        clock.advance(MINUTE / 4);
        let is_renewed = |guard: &Guard| guard.remaining() > MINUTE / 2 || !guard.is_held();
        eventually(async || guards.iter().all(is_renewed)).await;
    }
    let lost: Vec<_> = guards.iter().filter(|guard| !guard.is_held()).collect();
    assert_eq!(lost.len(), 1);
    assert_eq!(in_time(lost[0].lost()).await, LeaseEnd::Gone);
    assert_eq!(lost[0].key().as_str(), "k7");
}

/// And says what is to be done, at once.
#[tokio::test]
async fn a_database_without_the_tables_is_refused() {
    let server = trine_testkit::MariaDb::shared().await.unwrap();
    let own = server.database().await.unwrap();
    let (on_sqlite, _folder) = sqlite::empty().await;
    for database in [on_sqlite, mariadb::open(&own.url())] {
        let locks = open(&database, MINUTE, LockDeps::default());
        let started = tokio::time::timeout(MINUTE / 4, locks.start()).await.unwrap();
        let error = started.unwrap_err();
        assert!(matches!(error, Error::NoTable { table: "trine_lock", .. }), "{error}");
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.to_string().contains("migration set `trine-lock`"), "{error}");
    }
    let missing = LockService::open(&LockConfig::sql("other"), LockDeps::default());
    let error = missing.unwrap_err();
    assert!(error.to_string().contains("backend.database: no database `other`"), "{error}");
}

#[tokio::test]
async fn a_store_says_what_it_is() {
    let server = trine_testkit::MariaDb::shared().await.unwrap();
    let own = server.database().await.unwrap();
    let (on_sqlite, _folder) = sqlite::database().await;
    let on_mariadb = mariadb::open(&own.url());
    on_mariadb.migrate_with(&trine_lock::migrations()).await.unwrap();
    for (database, product) in [(on_sqlite, "SQLite"), (on_mariadb, "MariaDB")] {
        let locks = start(&database, MINUTE).await;
        let facts = locks.facts().unwrap();
        assert!(facts.version.starts_with(product), "{facts:?}");
        assert!(!facts.identity.is_empty());
        assert_ne!(facts.durability, trine_core::Durability::Memory);
    }
}

/// LK-17: leases, tokens and waits are counted by the server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_jump_of_a_clients_clock_changes_nothing() {
    let server = trine_testkit::MariaDb::shared().await.unwrap();
    let own = server.database().await.unwrap();
    let database = mariadb::open(&own.url());
    database.migrate_with(&trine_lock::migrations()).await.unwrap();
    // Its wall clock is years behind.
    let clock = clock();
    let (odd, locks) = (on_sqlite(&database, &clock).await, start(&database, MINUTE).await);
    let micros = |time: SystemTime| {
        u64::try_from(time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros()).unwrap()
    };
    let mut last = micros(SystemTime::now() - MINUTE);
    let jump = MINUTE * 10;
    for wall in [clock.wall(), clock.wall() + jump, clock.wall() - jump] {
        clock.set_wall(wall);
        let held = acquire(&odd, "k").await;
        let token = held.fence().token();
        assert!(token > last && token < micros(SystemTime::now() + MINUTE), "{token} {last}");
        for wall in [wall + jump, wall - jump] {
            clock.set_wall(wall);
            let outcome = locks.try_acquire("k", any()).await.unwrap();
            let trine_lock::TryAcquireOutcome::Held(holder) = outcome else {
                panic!("two hold one key");
            };
            assert!(holder.since > SystemTime::now() - MINUTE, "{holder:?}");
            assert!(holder.expires_in > MINUTE / 2 && holder.expires_in <= MINUTE, "{holder:?}");
            assert!(held.is_held() && held.remaining() > MINUTE / 2);
        }
        held.release().await.unwrap();
        let next = acquire(&locks, "k").await;
        assert!(next.fence().token() > token);
        last = next.fence().token();
        next.release().await.unwrap();
    }
}

/// A clock that was set back, and a row that says more than any clock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_grow_whatever_the_clock_says() {
    let (database, _folder) = sqlite::database().await;
    let clock = clock();
    let locks = on_sqlite(&database, &clock).await;
    let mut last = 0;
    for wall in [clock.wall(), clock.wall() - MINUTE * 60, clock.wall() + MINUTE] {
        clock.set_wall(wall);
        let held = acquire(&locks, "k").await;
        assert!(held.fence().token() > last);
        last = held.fence().token();
        held.release().await.unwrap();
    }
    let high: u64 = 1 << 52;
    database.execute("UPDATE trine_lock_token SET last = ?", (high,)).await.unwrap();
    assert_eq!(acquire(&locks, "k").await.fence().token(), high + 1);
    // As after a restore of an older copy: the rows come back.
    database.execute("DELETE FROM trine_lock_token", ()).await.unwrap();
    assert!(acquire(&locks, "other").await.is_held());
}

/// LK-06, of two services over one database.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_addition_is_lost_under_two_locks() {
    const ROUNDS: u64 = 25;
    let (database, _folder) = sqlite::database().await;
    let services = [start(&database, MINUTE).await, start(&database, MINUTE).await];
    let counters = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
    let (tasks, mut threads) = (Tasks::new("test"), Vec::new());
    for thread in 0..8_u64 {
        let locks = services[usize::from(thread % 2 == 0)].clone();
        let counters = Arc::clone(&counters);
        threads.push(tasks.spawn("adds", async move {
            for round in 0..ROUNDS {
                let place = usize::from((thread + round) % 2 == 0);
                let held = acquire(&locks, ["a", "b"][place]).await;
                let seen = counters[place].load(Ordering::Relaxed);
                for _ in 0..if thread == 0 { 20 } else { 1 } {
                    tokio::task::yield_now().await;
                }
                counters[place].store(seen + 1, Ordering::Relaxed);
                held.release().await.unwrap();
            }
        }));
    }
    for thread in threads {
        thread.await.unwrap();
    }
    let sum: u64 = counters.iter().map(|counter| counter.load(Ordering::Relaxed)).sum();
    assert_eq!(sum, 8 * ROUNDS);
    eventually(async || count(&database).await == 0).await;
}

/// Nothing but giving back could let go of what is left: no ttl is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_dropped_anywhere_leaves_nothing_behind() {
    let (database, _folder) = sqlite::database().await;
    let (locks, rival) = (start(&database, MINUTE * 5).await, start(&database, MINUTE * 5).await);
    let permits = NonZeroU32::new(3).unwrap();
    let call = || {
        let (locks, rival) = (locks.clone(), rival.clone());
        async move {
            let held = acquire(&rival, "k").await;
            let waiting = async { drop(locks.acquire("k", any()).await.unwrap()) };
            let releasing = async { held.release().await.unwrap() };
            tokio::join!(waiting, releasing);
            locks.steal("k", any()).await.unwrap().release().await.unwrap();
            drop(locks.acquire_all(["a", "k"], any()).await.unwrap());
            drop(locks.acquire_permit("p", permits, any()).await.unwrap());
        }
    };
    let check = async |_: DropPoint| eventually(async || count(&database).await == 0).await;
    let report = DropPlan::every_await().run(call, check).await.unwrap();
    assert!(report.confirmed > 10, "{report:?}");
    assert_eq!(report.finished, 1);
}

/// What all of them have read is true for the first of them only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn permits_that_are_asked_for_at_once_are_never_too_many() {
    let server = trine_testkit::MariaDb::shared().await.unwrap();
    let own = server.database().await.unwrap();
    let (on_sqlite, _folder) = sqlite::database().await;
    let on_mariadb = mariadb::open(&own.url());
    on_mariadb.migrate_with(&trine_lock::migrations()).await.unwrap();
    let three = NonZeroU32::new(3).unwrap();
    for database in [on_sqlite, on_mariadb] {
        let locks = start(&database, MINUTE).await;
        for _ in 0..30 {
            let first = locks.try_acquire_permit("k", three, any()).await.unwrap();
            let calls = (0..8).map(|_| locks.try_acquire_permit("k", three, any()));
            let permits: Vec<_> = in_time(futures_util::future::join_all(calls))
                .await
                .into_iter()
                .filter_map(|permit| permit.unwrap().into_guard())
                .chain(first.into_guard())
                .collect();
            let keys: std::collections::BTreeSet<_> =
                permits.iter().map(|permit| permit.fence().key()).collect();
            assert_eq!((permits.len(), keys.len()), (3, 3), "{keys:?}");
            for permit in permits {
                let released = permit.release().await.unwrap();
                assert_eq!(released, trine_lock::ReleaseOutcome::Released);
            }
        }
    }
}
