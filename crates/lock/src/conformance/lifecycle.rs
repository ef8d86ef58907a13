use trine_core::{HealthStatus, LeaseEnd, Service, State};

use super::{
    Deadline, Duration, Error, ErrorKind, Fixture, Key, LockOptions, Shape, acquire, any,
    assert_kind, begin, guard, in_time, is_free, once, pin, until_waiting,
};

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(10))
}

/// A handle that is not running says why.
pub async fn nothing_is_answered_before_start_and_after_shutdown(fixture: Fixture) {
    let locks = fixture.open(&fixture.config());
    assert_eq!(locks.state(), State::Created);
    assert_kind(locks.acquire("k", any()).await, ErrorKind::Unavailable);
    assert_kind(locks.steal("k", any()).await, ErrorKind::Unavailable);
    locks.start().await.unwrap();
    locks.start().await.unwrap();
    drop(acquire(&locks, "k").await);
    locks.shutdown(soon()).await.unwrap();
    locks.shutdown(soon()).await.unwrap();
    assert_eq!(locks.state(), State::Closed);
    assert_kind(locks.acquire("k", any()).await, ErrorKind::Closed);
    assert_kind(locks.try_acquire_read("k", any()).await, ErrorKind::Closed);
    assert_kind(locks.holders("", None, 1).await, ErrorKind::Closed);
    assert_eq!(locks.start().await.unwrap_err().kind(), ErrorKind::Closed);
}

/// And its guards know it.
pub async fn a_shutdown_gives_everything_back_and_ends_the_waits(fixture: Fixture) {
    let (a, b) = (fixture.start().await, fixture.start().await);
    let elsewhere = acquire(&b, "elsewhere").await;
    let held = acquire(&a, "k").await;
    let read = guard(a.acquire_read("r", any()).await);
    let mut waiting = pin!(a.acquire("elsewhere", any()));
    begin(&mut waiting).await;
    let closed = async { a.shutdown(soon()).await.unwrap() };
    let ((), refused) = in_time(async { tokio::join!(closed, waiting) }).await;
    assert_kind(refused, ErrorKind::Closed);
    assert_eq!(in_time(held.lost()).await, LeaseEnd::Closed);
    assert!(!read.is_held());
    for name in ["k", "r"] {
        assert!(is_free(&b, name).await, "{name}");
    }
    assert!(elsewhere.is_held());
    drop((held, read));
}

/// In the order of their keys, page by page.
pub async fn holders_are_listed_with_who_waits(fixture: Fixture) {
    let (a, b) = (fixture.start().await, fixture.start().await);
    let _guards = guard(a.acquire_all(["order:1", "order:3", "other"], any()).await);
    let _read = guard(b.acquire_read("order:2", any().with_label("report")).await);
    let mut waiting = pin!(b.acquire("order:3", any()));
    begin(&mut waiting).await;
    until_waiting(&a, "order:3", 1).await;
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = b.holders("order:", after.as_ref(), 2).await.unwrap();
        assert!(page.keys.len() <= 2);
        found.extend(page.keys);
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    let seen: Vec<_> =
        found.iter().map(|held| (held.key.as_str(), held.holders.len(), held.waiters)).collect();
    assert_eq!(seen, [("order:1", 1, 0), ("order:2", 1, 0), ("order:3", 1, 1)]);
    let read = found.iter().flat_map(|held| &held.holders).find(|holder| holder.label.is_some());
    let read = read.unwrap();
    assert_eq!((&*read.process, read.shape), (b.process(), Shape::Read));
    assert!(b.holders("none", None, 10).await.unwrap().keys.is_empty());
}

/// And the error says which, and why.
pub async fn keys_and_options_that_can_never_be_are_refused(fixture: Fixture) {
    let locks = fixture.start().await;
    let long = "x".repeat(Key::MAX + 1);
    for name in ["", "a#1", "a\n", &long] {
        assert_kind(locks.acquire(name, any()).await, ErrorKind::Invalid);
        assert_kind(
            locks.with_lock(name).run(async |_| Ok::<(), Error>(())).await,
            ErrorKind::Invalid,
        );
    }
    let longest = "x".repeat(Key::MAX);
    let permit = locks.acquire_permit(&longest, std::num::NonZeroU32::MAX, once()).await;
    assert!(guard(permit).fence().key().len() <= trine_core::Fence::MAX_KEY);
    let second = Duration::from_secs(1);
    let day = second * 86_400;
    let text = "x".repeat(LockOptions::MAX_TEXT + 1);
    for (option, options) in [
        ("ttl", any().with_ttl(Duration::ZERO)),
        ("ttl", any().with_ttl(LockOptions::MIN_TTL - Duration::from_nanos(1))),
        ("ttl", any().with_ttl(day)),
        ("at_least", any().with_at_least(day)),
        ("at_least", any().with_at_least(second * 2).with_at_most(second)),
        ("at_most", any().with_at_most(Duration::ZERO)),
        ("owner", any().with_owner("")),
        ("owner", any().with_owner(&*text)),
        ("label", any().with_label("a\u{7}")),
    ] {
        let message = assert_kind(locks.acquire("k", options).await, ErrorKind::Invalid);
        assert!(message.starts_with(&format!("lock.default acquire: {option} ")), "{message}");
    }
    assert!(is_free(&locks, "k").await);
}

/// Without any key, owner or label in it.
pub async fn health_and_metrics_show_the_work(fixture: Fixture) {
    let locks = fixture.start().await;
    let options = any().with_owner("hidden-owner").with_label("hidden-label");
    let held = guard(locks.acquire("hidden-key", options).await);
    let health = locks.health().await;
    assert_eq!(health.status, HealthStatus::Up, "{health:?}");
    for detail in ["backend", "version", "durability", "held", "waiting", "lost"] {
        assert!(health.details.contains_key(detail), "{detail}: {health:?}");
    }
    assert_eq!(health.details.get("held"), Some(&1.into()));
    let text = Service::metrics(&locks).to_prometheus();
    for name in
        ["trine_lock_wait_seconds", "trine_lock_held", "trine_lock_waiting", "trine_lock_lost"]
    {
        assert!(text.contains(name), "{name}: {text}");
    }
    assert!(!format!("{text}{health:?}{locks:?}").contains("hidden"), "{text}");
    held.release().await.unwrap();
}
