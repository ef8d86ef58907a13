//! Who waits: how many commands that costs, and what becomes of it when what
//! was told is not heard.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use trine_core::{Deadline, LeaseEnd, Span};
use trine_lock::{LockOptions, RedisStoreConfig};
use trine_testkit::{Door, Flow, Proxy, Redis, Side};

use crate::support::redis::{Opened, PATIENCE, acquire, in_time, single, until};

fn long() -> LockOptions {
    LockOptions::default().with_ttl(Duration::from_secs(600)).with_wait(PATIENCE)
}

fn no_sweep(_: &mut trine_lock::LockConfig, store: &mut RedisStoreConfig) {
    store.sweep_interval = Span::secs(3_600);
}

async fn waiters(opened: &Opened, key: &str) -> u64 {
    let page = opened.locks.holders(key, None, 1).await.unwrap();
    page.keys.first().map_or(0, |held| held.waiters)
}

/// How many scripts the server has run that write.
async fn scripts(server: &Redis) -> u64 {
    let stats = server.admin(&["INFO", "commandstats"]).await.unwrap().text().unwrap();
    let of = |name: &str| {
        let line = stats.lines().find_map(|line| line.strip_prefix(name))?;
        line.strip_prefix(":calls=")?.split(',').next()?.parse::<u64>().ok()
    };
    of("cmdstat_evalsha").unwrap_or(0) + of("cmdstat_eval").unwrap_or(0)
}

/// LK-16, of four processes.
#[trine_testkit::test]
async fn a_thousand_waiters_cost_two_commands_each() {
    const CALLS: u64 = 1_000;
    const PROCESSES: u64 = 4;
    let server = Redis::start().await.unwrap();
    let mut opened = Vec::new();
    for _ in 0..PROCESSES {
        opened.push(Opened::with(&single(server.url()), no_sweep).await);
    }
    let held = opened[0].acquire("k", long()).await;
    let counter = AtomicU64::new(0);
    let call = async |turn: u64| {
        let guard = opened[(turn % PROCESSES) as usize].acquire("k", long()).await;
        // Alone, or an addition is lost.
        let seen = counter.load(Ordering::Relaxed);
        tokio::task::yield_now().await;
        counter.store(seen + 1, Ordering::Relaxed);
        guard.release().await.unwrap();
    };
    let mut calls = pin!(futures_util::future::join_all((0..CALLS).map(call)));
    let begun = async {
        while waiters(&opened[0], "k").await < PROCESSES {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        _ = &mut calls => panic!("it was not held"),
        () = begun => {}
    }
    let before = scripts(&server).await;
    held.release().await.unwrap();
    in_time(calls).await;
    let sent = scripts(&server).await - before;
    assert_eq!(counter.load(Ordering::Relaxed), CALLS);
    // The release that began it, and room for what a slow machine asks twice.
    assert!(sent <= 2 * CALLS + 1 + 20, "{sent} commands for {CALLS} hand-offs");
    for opened in &opened {
        opened.close().await;
    }
}

/// LK-14: it does not even hear.
#[trine_testkit::test]
async fn a_process_that_is_gone_is_skipped_at_once() {
    let server = Redis::start().await.unwrap();
    let long_claim = |config: &mut trine_lock::LockConfig, store: &mut RedisStoreConfig| {
        config.claim_timeout = Span::from(PATIENCE);
        no_sweep(config, store);
    };
    let holder = Opened::with(&single(server.url()), long_claim).await;
    let proxy = Proxy::to(server.addr()).await.unwrap();
    let dead = Opened::with(&single(server.url_via(proxy.addr())), long_claim).await;
    let next = Opened::with(&single(server.url()), long_claim).await;
    let held = holder.acquire("k", long()).await;
    hears(&server, 3).await;
    let mut gone = pin!(dead.locks.acquire("k", long()));
    let mut waiting = pin!(next.locks.acquire("k", long()));
    for (count, call) in [(1, &mut gone), (2, &mut waiting)] {
        tokio::select! {
            _ = call => panic!("it was not held"),
            () = until("the line", async || waiters(&holder, "k").await == count) => {}
        }
    }
    proxy.set_door(Door::Refuse).await.unwrap();
    proxy.kill_all();
    until("the end of its subscription", async || channels(&server).await == 2).await;
    let began = Instant::now();
    held.release().await.unwrap();
    let guard = in_time(waiting).await.unwrap().into_guard().unwrap();
    assert!(began.elapsed() < PATIENCE / 2, "{:?}", began.elapsed());
    drop(guard);
    holder.close().await;
    next.close().await;
}

async fn channels(server: &Redis) -> usize {
    let found = server.admin(&["PUBSUB", "CHANNELS", "*:lock.default:*"]).await.unwrap();
    found.items().len()
}

/// Waits until so many processes hear what they are told.
async fn hears(server: &Redis, count: usize) {
    until("the subscriptions", async || channels(server).await == count).await;
}

/// A key became free and another was stolen while nothing was heard.
#[trine_testkit::test]
async fn what_was_missed_is_asked_for() {
    let server = Redis::start().await.unwrap();
    let proxy = Proxy::to(server.addr()).await.unwrap();
    let deaf = Opened::with(&single(server.url_via(proxy.addr())), no_sweep).await;
    let other = Opened::with(&single(server.url()), no_sweep).await;
    hears(&server, 2).await;
    let (held, robbed) = (other.acquire("k", long()).await, deaf.acquire("r", long()).await);
    let mut waiting = pin!(deaf.locks.acquire("k", long()));
    tokio::select! {
        _ = &mut waiting => panic!("it was not held"),
        () = until("the line", async || waiters(&other, "k").await == 1) => {}
    }
    proxy.set_door(Door::Refuse).await.unwrap();
    proxy.kill_all();
    until("the end of its subscription", async || channels(&server).await == 1).await;
    held.release().await.unwrap();
    let thief = other.locks.steal("r", long()).await.unwrap();
    proxy.set_door(Door::Open).await.unwrap();
    let (guard, end) = in_time(async { tokio::join!(waiting, robbed.lost()) }).await;
    assert!(guard.unwrap().into_guard().unwrap().is_held());
    assert_eq!(end, LeaseEnd::Gone);
    assert!(thief.is_held());
    drop(thief);
    deaf.close().await;
    other.close().await;
}

/// A half-open connection: nobody tells that nothing is heard any more.
#[trine_testkit::test]
async fn who_is_told_on_a_dead_connection_is_passed_over() {
    let server = Redis::start().await.unwrap();
    let proxy = Proxy::to(server.addr()).await.unwrap();
    let dead = Opened::with(&single(server.url_via(proxy.addr())), no_sweep).await;
    let next = Opened::with(&single(server.url()), no_sweep).await;
    hears(&server, 2).await;
    let held = next.acquire("k", long()).await;
    let mut gone = Box::pin(dead.locks.acquire("k", long()));
    let mut waiting = pin!(acquire(&next.locks, "k", long()));
    for count in [1, 2] {
        let line = until("the line", async || waiters(&next, "k").await == count);
        if count == 1 {
            tokio::select! {
                _ = &mut gone => panic!("it was not held"),
                () = line => {}
            }
        } else {
            tokio::select! {
                _ = &mut waiting => panic!("it was not held"),
                () = line => {}
            }
        }
    }
    proxy.lose(Side::Client);
    proxy.set(Flow::Hang);
    let began = Instant::now();
    held.release().await.unwrap();
    // Far from its holder's expiry, after the time of a claim.
    assert!(in_time(waiting).await.is_held());
    assert!(began.elapsed() < PATIENCE / 2, "{:?}", began.elapsed());
    drop(gone);
    let _ = dead.locks.shutdown(Deadline::after(Duration::from_millis(10))).await;
    next.close().await;
}
