//! LK-17: clocks that jump.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use trine_core::{LeaseEnd, ManualClock};
use trine_lock::{LockConfig, LockDeps, LockOptions, LockService, ReleaseOutcome};
use trine_redis::RedisService;
use trine_testkit::Redis;

use crate::support::redis::{Opened, acquire, in_time, single, take, until};

const TTL: Duration = Duration::from_secs(3);
const JUMP: i64 = 600;

fn short() -> LockOptions {
    LockOptions::default().with_ttl(TTL)
}

/// Two may believe that they hold the key, until the first one asks: only the
/// fence tells them apart.
#[trine_testkit::test]
async fn a_server_that_jumps_ahead_gives_a_key_on_with_a_higher_token() {
    let server = Redis::builder().own_clock().start().await.unwrap();
    let opened = Opened::new(&single(server.url())).await;
    let guard = opened.acquire("k", short()).await;
    server.set_clock(JUMP).unwrap();
    let next = take(&opened.locks, "k").await.unwrap();
    assert!(next.fence().token() > guard.fence().token() + 500_000_000);
    assert_eq!(in_time(guard.lost()).await, LeaseEnd::Gone);
    assert_eq!(next.release().await.unwrap(), ReleaseOutcome::Released);
    opened.close().await;
}

#[trine_testkit::test]
async fn a_server_that_jumps_back_ends_nothing_early_and_no_token_falls() {
    let server = Redis::builder().own_clock().start().await.unwrap();
    let margin = |_: &mut _, store: &mut trine_lock::RedisStoreConfig| {
        store.clock_margin = trine_core::Span::millis(100);
    };
    let a = Opened::with(&single(server.url()), margin).await;
    let b = Opened::with(&single(server.url()), margin).await;
    let guard = a.acquire("k", short()).await;
    let first = guard.fence().token();
    server.set_clock(-JUMP).unwrap();
    for _ in 0..2 {
        until("a renewal", async || guard.remaining() < TTL * 3 / 5).await;
        until("a renewal", async || guard.remaining() > TTL * 4 / 5).await;
    }
    assert!(take(&b.locks, "k").await.is_none());
    let (waiting, released) =
        tokio::join!(b.acquire("k", short()), async { guard.release().await.unwrap() });
    assert_eq!(released, ReleaseOutcome::Released);
    assert_eq!(waiting.fence().token(), first + 1);
    // A holder that dies has its ttl and the jump.
    assert_eq!(waiting.release().await.unwrap(), ReleaseOutcome::Released);
    let third = a.acquire("k", short()).await;
    assert_eq!(third.fence().token(), first + 2);
    a.close().await;
    b.close().await;
}

#[trine_testkit::test]
async fn a_client_that_jumps_changes_nothing() {
    let server = Redis::start().await.unwrap();
    let other = Opened::new(&single(server.url())).await;
    let redis = RedisService::connect(&single(server.url())).await.unwrap();
    let clock = Arc::new(ManualClock::with_rate(1.0));
    let deps = LockDeps::default()
        .with_redis("main", redis.pool())
        .with_clock(Arc::<ManualClock>::clone(&clock));
    let locks = LockService::open(&LockConfig::redis("main"), deps).unwrap();
    locks.start().await.unwrap();
    let jump = Duration::from_secs(JUMP.unsigned_abs());
    let mut last = 0;
    for wall in [SystemTime::now() + jump, SystemTime::now() - jump] {
        let guard = acquire(&locks, "k", short()).await;
        clock.set_wall(wall);
        until("a renewal", async || guard.remaining() < TTL * 3 / 5).await;
        until("a renewal", async || guard.remaining() > TTL * 4 / 5).await;
        assert!(take(&other.locks, "k").await.is_none());
        assert!(guard.fence().token() > last);
        last = guard.fence().token();
        assert_eq!(guard.release().await.unwrap(), ReleaseOutcome::Released);
        let theirs = take(&other.locks, "k").await.unwrap();
        assert!(theirs.fence().token() > last);
        // By the server's clock, give or take what the test took.
        let token = SystemTime::UNIX_EPOCH + Duration::from_micros(theirs.fence().token());
        let off = token.duration_since(SystemTime::now()).unwrap_or_default();
        assert!(off < Duration::from_secs(30), "{off:?}");
        last = theirs.fence().token();
        theirs.release().await.unwrap();
    }
    locks.shutdown(trine_core::Deadline::after(Duration::from_secs(10))).await.unwrap();
    other.close().await;
}
