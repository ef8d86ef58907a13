//! A server that is killed, stopped, cut off, emptied or robbed of its scripts
//! while keys are held.

use std::time::Duration;

use tokio::time::Instant;
use trine_core::{ErrorKind, HealthStatus, LeaseEnd, Span};
use trine_lock::{AcquireOutcome, AfterLoss, LockOptions, ReleaseOutcome};
use trine_testkit::{Door, Proxy, Redis, RedisPersistence};

use crate::support::redis::{Opened, assert_kind, in_time, records, single, take, until};

const TTL: Duration = Duration::from_secs(3);

fn short() -> LockOptions {
    LockOptions::default().with_ttl(TTL)
}

/// Waits until the guard was renewed once more than by now.
async fn until_renewed(guard: &trine_lock::Guard) {
    until("a renewal", async || guard.remaining() < TTL * 3 / 5).await;
    until("a renewal", async || guard.remaining() > TTL * 4 / 5).await;
}

/// LK-08
#[trine_testkit::test]
async fn a_holder_notices_that_the_server_forgot_it() {
    let server = Redis::start().await.unwrap();
    let opened = Opened::new(&single(server.url())).await;
    let guard = opened.acquire("k", short()).await;
    let token = guard.fence().token();
    server.admin(&["FLUSHALL"]).await.unwrap();
    // The overlap, which only the fence covers.
    let next = take(&opened.locks, "k").await.unwrap();
    assert!(next.fence().token() > token);
    let began = Instant::now();
    assert_eq!(in_time(guard.lost()).await, LeaseEnd::Gone);
    assert!(began.elapsed() < TTL * 9 / 10, "{:?}", began.elapsed());
    assert_eq!(guard.release().await.unwrap(), ReleaseOutcome::HeldByOther);
    assert_eq!(next.release().await.unwrap(), ReleaseOutcome::Released);
    opened.close().await;
}

#[trine_testkit::test]
async fn a_server_that_forgot_its_scripts_forgets_no_lock() {
    let server = Redis::start().await.unwrap();
    let opened = Opened::new(&single(server.url())).await;
    let guard = opened.acquire("k", short()).await;
    server.admin(&["SCRIPT", "FLUSH"]).await.unwrap();
    until_renewed(&guard).await;
    assert!(take(&opened.locks, "k").await.is_none());
    server.admin(&["SCRIPT", "FLUSH"]).await.unwrap();
    assert_eq!(guard.release().await.unwrap(), ReleaseOutcome::Released);
    opened.close().await;
}

/// What was granted goes on, and nothing else is granted for the margin.
#[trine_testkit::test]
async fn a_server_that_comes_back_with_its_data_keeps_who_held() {
    const MARGIN: Duration = Duration::from_secs(2);
    let server = Redis::builder().persistence(RedisPersistence::Always).start().await.unwrap();
    let margin = |_: &mut _, store: &mut trine_lock::RedisStoreConfig| {
        store.clock_margin = Span::from(MARGIN);
    };
    let opened = Opened::with(&single(server.url()), margin).await;
    // The first start waits for the margin too, once for all keys.
    let first = assert_kind(opened.locks.try_acquire("k", short()).await, ErrorKind::Unavailable);
    assert!(first.retry_after().is_some_and(|left| left <= MARGIN), "{first:?}");
    let guard = opened.acquire("k", short()).await;
    let began = Instant::now();
    for key in 0..50 {
        drop(opened.acquire(&format!("other:{key}"), short()).await);
    }
    assert!(began.elapsed() < MARGIN * 5, "{:?}", began.elapsed());
    server.kill().await.unwrap();
    server.restart().await.unwrap();
    until_renewed(&guard).await;
    let barred = opened.locks.try_acquire("new", short()).await;
    if let Err(error) = &barred {
        assert!(error.retry_after().is_some_and(|left| left <= MARGIN), "{error:?}");
    }
    let before = guard.fence().token();
    let stolen = loop {
        match opened.locks.steal("k", short()).await {
            Ok(stolen) => break stolen,
            Err(error) => tokio::time::sleep(error.retry_after().unwrap()).await,
        }
    };
    assert!(stolen.fence().token() > before);
    assert_eq!(in_time(guard.lost()).await, LeaseEnd::Gone);
    opened.close().await;
}

/// LK-10 on one server: nothing is granted for the margin by a server that has
/// lost its data, and then with higher tokens.
#[trine_testkit::test]
async fn a_server_that_lost_its_data_grants_nothing_for_the_margin() {
    const MARGIN: Duration = Duration::from_secs(3);
    let server = Redis::start().await.unwrap();
    let margin = |_: &mut _, store: &mut trine_lock::RedisStoreConfig| {
        store.clock_margin = Span::from(MARGIN);
    };
    let opened = Opened::with(&single(server.url()), margin).await;
    let guard = opened.acquire("k", short()).await;
    let token = guard.fence().token();
    server.restart_empty().await.unwrap();
    let refused = async || match opened.locks.try_acquire("k", short()).await {
        Err(error) => error.retry_after(),
        Ok(outcome) => panic!("{outcome:?}"),
    };
    let mut left = None;
    until("the bar", async || {
        left = refused().await;
        left.is_some()
    })
    .await;
    assert!(left.unwrap() <= MARGIN, "{left:?}");
    assert_eq!(in_time(guard.lost()).await, LeaseEnd::Gone);
    // Who waits is not refused.
    let next = opened.acquire("k", short()).await;
    assert!(next.fence().token() > token);
    opened.close().await;
}

#[trine_testkit::test]
async fn an_exclusive_store_that_lost_its_data_waits_for_every_holder() {
    let server = Redis::start().await.unwrap();
    let exclusive = |config: &mut trine_lock::LockConfig,
                     store: &mut trine_lock::RedisStoreConfig| {
        (config.ttl, config.max_ttl) = (Span::from(TTL), Span::from(TTL));
        store.mode = AfterLoss::Exclusive;
    };
    let opened = Opened::with(&single(server.url()), exclusive).await;
    let guard = opened.acquire("k", short()).await;
    server.restart_empty().await.unwrap();
    // Its holder may believe in it for as long as that.
    let mut left = None;
    until("the bar", async || {
        let asked = opened.locks.try_acquire("k", short()).await;
        left = asked.err().and_then(|error| error.retry_after());
        left.is_some()
    })
    .await;
    assert!(left.is_some_and(|left| left > TTL / 2 && left <= TTL), "{left:?}");
    let next = opened.acquire("k", short()).await;
    assert!(next.is_held() && !guard.is_held());
    opened.close().await;
}

/// LK-11
#[trine_testkit::test]
async fn a_short_cut_loses_nothing_and_a_long_one_is_told_once() {
    let server = Redis::start().await.unwrap();
    let proxy = Proxy::to(server.addr()).await.unwrap();
    let opened = Opened::new(&single(server.url_via(proxy.addr()))).await;
    let guard = opened.acquire("k", short()).await;
    let cut = async |span: Duration| {
        proxy.set_door(Door::Refuse).await.unwrap();
        proxy.kill_all();
        tokio::time::sleep(span).await;
    };
    cut(TTL / 15).await;
    proxy.set_door(Door::Open).await.unwrap();
    until_renewed(&guard).await;
    assert!(guard.is_held());
    let lost = guard.lost();
    cut(TTL * 4 / 3).await;
    assert_eq!(in_time(lost).await, LeaseEnd::Expired);
    proxy.set_door(Door::Open).await.unwrap();
    // It comes back by itself, and the loss is counted once.
    let next = in_time(async {
        loop {
            match opened.locks.acquire("k", short()).await {
                Ok(AcquireOutcome::Acquired(next)) => break next,
                Ok(AcquireOutcome::TimedOut(holder)) => panic!("{holder}"),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert!(next.fence().token() > guard.fence().token());
    assert_eq!(in_time(guard.lost()).await, LeaseEnd::Expired);
    let health = opened.locks.health().await;
    assert_eq!((health.status, health.details.get("lost")), (HealthStatus::Up, Some(&1.into())));
    opened.close().await;
}

/// Of a holder that is told nothing, as the server does not answer.
#[trine_testkit::test]
async fn a_stopped_server_loses_a_lock_before_it_could_give_it_on() {
    let server = Redis::start().await.unwrap();
    let (a, b) =
        (Opened::new(&single(server.url())).await, Opened::new(&single(server.url())).await);
    let guard = a.acquire("k", short()).await;
    server.pause().await.unwrap();
    assert_eq!(in_time(guard.lost()).await, LeaseEnd::Expired);
    server.resume().await.unwrap();
    let next = in_time(async {
        loop {
            match b.locks.acquire("k", short()).await {
                Ok(outcome) => break outcome.into_guard().unwrap(),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}"),
            }
        }
    })
    .await;
    assert!(next.is_held() && !guard.is_held());
    drop((guard, next));
    until("everything given back", async || records(&server).await == 0).await;
    a.close().await;
    b.close().await;
}

/// LK-21, scaled: of those that die no permit stays beyond its ttl.
#[trine_testkit::test]
async fn permits_of_processes_that_die_come_back_after_their_ttl() {
    const OF: u32 = 10;
    let server = Redis::start().await.unwrap();
    let proxy = Proxy::to(server.addr()).await.unwrap();
    let dying = Opened::new(&single(server.url_via(proxy.addr()))).await;
    let living = Opened::new(&single(server.url())).await;
    let of = OF.try_into().unwrap();
    let mut lost = Vec::new();
    for _ in 0..3 {
        let permit = in_time(dying.locks.acquire_permit("k", of, short())).await.unwrap();
        lost.push(permit.into_guard().unwrap());
    }
    proxy.set_door(Door::Refuse).await.unwrap();
    proxy.kill_all();
    let (alive, most) =
        (std::sync::atomic::AtomicU32::new(0), std::sync::atomic::AtomicU32::new(0));
    let client = async |_| {
        let permit = in_time(living.locks.acquire_permit("k", of, short())).await.unwrap();
        let permit = permit.into_guard().unwrap();
        let dead = lost.iter().filter(|permit| permit.is_held()).count() as u32;
        let now = alive.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
        most.fetch_max(now + dead, std::sync::atomic::Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(50)).await;
        alive.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
        permit.release().await.unwrap();
    };
    futures_util::future::join_all((0..100).map(client)).await;
    assert!(most.into_inner() <= OF);
    for permit in &lost {
        assert_eq!(in_time(permit.lost()).await, LeaseEnd::Expired);
    }
    // All of them can be had again.
    let mut all = Vec::new();
    for _ in 0..OF {
        let permit = in_time(living.locks.acquire_permit("k", of, short())).await.unwrap();
        all.push(permit.into_guard().unwrap());
    }
    assert!(
        living.locks.try_acquire_permit("k", of, short()).await.unwrap().into_guard().is_none()
    );
    drop(all);
    living.close().await;
    drop(lost);
    dying.close().await;
}

#[trine_testkit::test]
async fn a_server_that_may_evict_is_refused_unless_told() {
    let server = Redis::builder().max_memory("100mb", "allkeys-lru").start().await.unwrap();
    let refused = Opened::open(&single(server.url()), |_, _| {}).await;
    let error = assert_kind(refused.locks.start().await, ErrorKind::Unsupported);
    assert!(error.to_string().contains("allow_eviction"), "{error}");
    let allowed = |_: &mut _, store: &mut trine_lock::RedisStoreConfig| {
        store.allow_eviction = true;
    };
    let opened = Opened::with(&single(server.url()), allowed).await;
    assert!(take(&opened.locks, "k").await.is_some());
    opened.close().await;
    refused.close().await;
}

/// A full server grants nothing, and what is held is renewed and given back.
#[trine_testkit::test]
async fn a_full_server_takes_what_is_given_back() {
    let server = Redis::start().await.unwrap();
    let opened = Opened::new(&single(server.url())).await;
    let guard = opened.acquire("k", short()).await;
    server.admin(&["CONFIG", "SET", "maxmemory", "1"]).await.unwrap();
    assert_kind(opened.locks.try_acquire("other", short()).await, ErrorKind::Exhausted);
    until_renewed(&guard).await;
    assert_eq!(guard.release().await.unwrap(), ReleaseOutcome::Released);
    assert_eq!(records(&server).await, 0);
    opened.close().await;
}
