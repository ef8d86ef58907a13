use std::time::Duration;

use tokio::time::{Instant, sleep};
use trine_core::{LeaseEnd, Span};
use trine_lock::LockOptions;
use trine_redis::RedisConfig;

use super::redis::{Opened, PATIENCE, in_time, take};

/// How long a new master grants nothing.
const MARGIN: Duration = Duration::from_secs(3);

/// LK-10 and LK-13: holds a key while `fail_over` has another master take over,
/// and has another process take the key from that one.
pub(crate) async fn hold_over(config: &RedisConfig, fail_over: impl AsyncFnOnce()) {
    let margin = |_: &mut _, store: &mut trine_lock::RedisStoreConfig| {
        store.clock_margin = Span::from(MARGIN);
    };
    let options = LockOptions::default().with_ttl(Duration::from_secs(20));
    let (a, b) = (Opened::with(config, margin).await, Opened::with(config, margin).await);
    let guard = a.acquire("k", options.clone()).await;
    fail_over().await;
    let (began, mut barred) = (Instant::now(), None);
    let stolen = loop {
        assert!(began.elapsed() < PATIENCE, "nobody takes over");
        match b.locks.steal("k", options.clone()).await {
            Ok(stolen) => break stolen,
            Err(error) => barred = error.retry_after().or(barred),
        }
        sleep(Duration::from_millis(20)).await;
    };
    assert!(barred.is_some_and(|left| left <= MARGIN), "it was not waited for: {barred:?}");
    assert!(stolen.fence().token() > guard.fence().token());
    let end = in_time(guard.lost()).await;
    assert!(matches!(end, LeaseEnd::Gone | LeaseEnd::Expired), "{end:?}");
    stolen.release().await.unwrap();
    // Each process is served again.
    for opened in [&a, &b] {
        let again = opened.acquire("k", options.clone()).await;
        assert!(again.is_held() && take(&b.locks, "k").await.is_none());
        again.release().await.unwrap();
    }
    a.close().await;
    b.close().await;
}
