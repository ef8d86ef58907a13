//! What stays on the server is bounded by what is held and waited for.

use std::time::Duration;

use trine_core::Span;
use trine_lock::{Key, LockOptions};
use trine_testkit::{Door, Proxy, Redis};

use crate::support::redis::{Opened, records, single, take, until};

/// However many keys were held before.
#[trine_testkit::test]
async fn no_key_leaves_a_record() {
    let server = Redis::start().await.unwrap();
    let opened = Opened::new(&single(server.url())).await;
    let kept = take(&opened.locks, "kept").await.unwrap();
    for round in 0..20 {
        let keys = (0..50).map(|id| format!("k{round}:{id}"));
        let options = LockOptions::default();
        let guards = opened.locks.acquire_all(keys, options).await.unwrap().into_guard().unwrap();
        guards.release().await.unwrap();
    }
    assert_eq!(records(&server).await, 1);
    assert!(kept.is_held());
    opened.close().await;
}

/// Nobody asks for these keys again.
#[trine_testkit::test]
async fn what_the_dead_have_held_is_swept() {
    let server = Redis::start().await.unwrap();
    let fast = |_: &mut _, store: &mut trine_lock::RedisStoreConfig| {
        store.sweep_interval = Span::millis(10);
    };
    let proxy = Proxy::to(server.addr()).await.unwrap();
    let gone = Opened::new(&single(server.url_via(proxy.addr()))).await;
    let living = Opened::with(&single(server.url()), fast).await;
    let options = LockOptions::default().with_ttl(Duration::from_millis(300));
    let mut held = Vec::new();
    for id in 0..300 {
        let taken = gone.locks.try_acquire(format!("g{id}"), options.clone()).await.unwrap();
        held.push(taken.into_guard().unwrap());
    }
    assert!(records(&server).await >= 300);
    // Nothing comes to the server any more.
    proxy.set_door(Door::Refuse).await.unwrap();
    proxy.kill_all();
    until("everything swept", async || records(&server).await == 0).await;
    drop(held);
    living.close().await;
}

/// In the order of their keys, each once, whatever tag they are in.
#[trine_testkit::test]
async fn pages_of_holders_have_every_key_once() {
    let server = Redis::start().await.unwrap();
    let opened = Opened::new(&single(server.url())).await;
    let keys: Vec<_> = (0..700).map(|id| format!("p[*]{id:04}")).collect();
    let other = take(&opened.locks, "pppp").await.unwrap();
    let options = LockOptions::default();
    let guards = opened.locks.acquire_all(&keys, options).await.unwrap().into_guard().unwrap();
    let (mut found, mut after): (Vec<String>, Option<Key>) = (Vec::new(), None);
    loop {
        let page = opened.locks.holders("p[*]", after.as_ref(), 150).await.unwrap();
        assert!(page.keys.len() <= 150);
        found.extend(page.keys.iter().map(|held| held.key.to_string()));
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    assert_eq!(found, keys);
    guards.release().await.unwrap();
    drop(other);
    opened.close().await;
}
