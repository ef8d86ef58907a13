//! How often a store is asked that does not tell by itself.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::poll;
use trine_core::{Jitter, ManualClock, Span};
use trine_lock::{AcquireOutcome, Guard, LockConfig, LockDeps, LockOptions, LockService};

use super::store;
use crate::support::Watched;

/// Locks over a store that tells nobody, which is asked without any jitter.
async fn deaf(claim_timeout: Span) -> (LockService, LockService, Arc<Watched>, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new());
    let backend = Arc::new(Watched::deaf(store(&clock)));
    let mut config = LockConfig::memory().with_ttl(Span::secs(600));
    config.claim_timeout = claim_timeout;
    let open = async || {
        let deps = LockDeps::default().with_clock(Arc::<ManualClock>::clone(&clock));
        let deps = deps.with_jitter(Jitter::none());
        let backend = Arc::<Watched>::clone(&backend);
        let locks = LockService::with_backend(backend, &config, deps).unwrap();
        locks.start().await.unwrap();
        locks
    };
    (open().await, open().await, backend, clock)
}

fn any() -> LockOptions {
    LockOptions::default().with_wait(Duration::from_secs(3_600))
}

async fn acquire(locks: &LockService) -> Guard {
    match locks.acquire("k", any()).await.unwrap() {
        AcquireOutcome::Acquired(guard) => guard,
        AcquireOutcome::TimedOut(holder) => panic!("held by {holder}"),
    }
}

/// Lets so much time go by for a call that waits, and returns how often the
/// store was asked meanwhile.
async fn asked<F: Future + Unpin>(
    call: &mut F,
    span: Duration,
    clock: &ManualClock,
    backend: &Watched,
) -> u64 {
    let (before, step) = (backend.count("acquire"), Duration::from_millis(5));
    for _ in 0..span.as_millis() / step.as_millis() {
        clock.advance(step);
        for _ in 0..3 {
            tokio::task::yield_now().await;
            assert!(poll!(&mut *call).is_pending());
        }
    }
    backend.count("acquire") - before
}

#[tokio::test]
async fn a_key_that_changes_hands_is_asked_for_more_often() {
    let (locks, rival, backend, clock) = deaf(Span::secs(1)).await;
    let held = acquire(&rival).await;
    let mut waiting = Box::pin(locks.acquire("k", any()));
    assert!(poll!(&mut waiting).is_pending());
    let second = Duration::from_secs(1);
    let first = asked(&mut waiting, second, &clock, &backend).await;
    assert!((5..=8).contains(&first), "{first} questions in the first second");
    let later = asked(&mut waiting, second * 2, &clock, &backend).await;
    assert_eq!(later, 4);
    let next = rival.steal("k", any()).await.unwrap();
    asked(&mut waiting, second / 2, &clock, &backend).await;
    let after = asked(&mut waiting, second / 2, &clock, &backend).await;
    assert!((2..=4).contains(&after), "{after} questions after the key changed hands");
    drop((held, next));
}

/// Without any time going by.
#[tokio::test]
async fn a_release_wakes_who_waits_in_the_same_process() {
    let (locks, _rival, backend, _clock) = deaf(Span::secs(1)).await;
    let held = acquire(&locks).await;
    let mut waiting = Box::pin(locks.acquire("k", any()));
    for _ in 0..3 {
        assert!(poll!(&mut waiting).is_pending());
    }
    assert_eq!(backend.count("acquire"), 2);
    held.release().await.unwrap();
    let Poll::Ready(Ok(AcquireOutcome::Acquired(_guard))) = poll!(&mut waiting) else {
        panic!("it is not woken");
    };
    assert_eq!(backend.count("acquire"), 3);
}

/// Else its turn is passed while it waits for its next question.
#[tokio::test]
async fn who_is_next_asks_while_the_key_is_kept_for_it() {
    let claim = Duration::from_millis(100);
    let (locks, rival, backend, clock) = deaf(Span::from(claim)).await;
    let held = acquire(&rival).await;
    let mut waiting = Box::pin(locks.acquire("k", any()));
    assert!(poll!(&mut waiting).is_pending());
    asked(&mut waiting, Duration::from_secs(10), &clock, &backend).await;
    let least = asked(&mut waiting, claim * 10, &clock, &backend).await;
    assert!(least >= 20, "{least} questions in ten times the claim timeout");
    drop(held);
}
