//! Memory is bounded by what is held and waited for.

use std::time::Duration;

use trine_lock::{LockBackend, LockOptions};

use super::{start, watched};

/// However many keys were held before.
#[tokio::test]
async fn no_key_leaves_a_record() {
    let (locks, backend, clock) = watched().await;
    let kept = locks.try_acquire("kept", LockOptions::default()).await.unwrap().into_guard();
    let mut last = 0;
    for id in 0..10_000 {
        let outcome = locks.try_acquire(format!("k{id}"), LockOptions::default()).await.unwrap();
        let guard = outcome.into_guard().unwrap();
        assert!(guard.fence().token() > last);
        last = guard.fence().token();
        guard.release().await.unwrap();
    }
    assert_eq!((backend.stats().keys, backend.stats().grants), (1, 1));
    assert!(kept.unwrap().is_held());

    // Of a process that is gone: nobody asks for these keys again.
    let gone = start(&backend, &clock).await;
    for id in 0..1_000 {
        let outcome = gone.try_acquire(format!("g{id}"), LockOptions::default()).await.unwrap();
        std::mem::forget(outcome.into_guard());
    }
    clock.advance(Duration::from_secs(3_600));
    for id in 0..2_000 {
        let outcome = locks.try_acquire(format!("n{id}"), LockOptions::default()).await.unwrap();
        outcome.into_guard().unwrap().release().await.unwrap();
    }
    assert!(backend.stats().keys < 200, "{:?}", backend.stats());
}
