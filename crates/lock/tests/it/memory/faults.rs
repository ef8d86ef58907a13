//! Dropped futures, slow answers, a store that grants nothing, and many who
//! wait.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use trine_core::{Deadline, ErrorKind, LeaseEnd, ManualClock};
use trine_lock::{
    AcquireOutcome, Error, Guard, LockBackend, LockOptions, LockService, Permit, Shape,
};
use trine_testkit::{DropPlan, DropPoint};

use super::{start, watched};
use crate::support::Watched;

fn any() -> LockOptions {
    LockOptions::default()
}

async fn acquire(locks: &LockService, name: &str) -> Guard {
    match in_time(locks.acquire(name, any())).await.unwrap() {
        AcquireOutcome::Acquired(guard) => guard,
        AcquireOutcome::TimedOut(holder) => panic!("held by {holder}"),
    }
}

/// Fails what takes longer than anything should.
async fn in_time<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), future).await.unwrap()
}

/// Until nothing is left of anybody in the store.
async fn until_empty(backend: &Watched) {
    let emptied = async {
        while backend.stats().keys > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    in_time(emptied).await;
}

/// Requests and answers take a step each; nothing but time could let go of what
/// is left, and no time goes by.
#[tokio::test]
async fn a_call_that_is_dropped_anywhere_leaves_nothing_behind() {
    for shape in [Shape::Write, Shape::Read] {
        let (locks, backend, _clock) = watched().await;
        let rival = start(&backend, &_clock).await;
        backend.slow_down();
        let call = || {
            let (locks, rival) = (locks.clone(), rival.clone());
            async move {
                let held = acquire(&rival, "k").await;
                let waiting = async {
                    match shape {
                        Shape::Write => drop(locks.acquire("k", any()).await.unwrap()),
                        _ => drop(locks.acquire_read("k", any()).await.unwrap()),
                    }
                };
                let releasing = async { held.release().await.unwrap() };
                tokio::join!(waiting, releasing);
                locks.steal("k", any()).await.unwrap().release().await.unwrap();
                drop(locks.acquire_all(["a", "k"], any()).await.unwrap());
                let body = async |_: &Guard| {
                    tokio::task::yield_now().await;
                    Ok::<(), Error>(())
                };
                locks.with_lock("k").run(body).await.unwrap();
            }
        };
        let check = async |_: DropPoint| {
            backend.answers.add_permits(1_000);
            // What nobody waits for any more is still under way.
            tokio::time::sleep(Duration::from_millis(2)).await;
            until_empty(&backend).await;
            let left = backend.answers.available_permits();
            backend.answers.forget_permits(left);
        };
        // The background takes steps too, and wakes nobody by them.
        let plan = DropPlan::every_await().nudging(Duration::from_millis(1));
        let plan = plan.feeding(|| backend.answers.add_permits(1));
        let report = plan.run(call, check).await.unwrap();
        assert!(report.confirmed > 15, "{report:?}");
        assert_eq!(report.finished, 1);
    }
}

/// LK-16. Beside the release there is one command: who is next asks, and by it
/// the process is registered for the one behind.
#[tokio::test]
async fn a_thousand_waiters_cost_two_commands_each() {
    const CALLS: u64 = 1_000;
    let (locks, backend, _clock) = watched().await;
    let held = acquire(&locks, "k").await;
    let counter = AtomicU64::new(0);
    let call = async |_| {
        let held = acquire(&locks, "k").await;
        // Alone, or an addition is lost.
        let seen = counter.load(Ordering::Relaxed);
        tokio::task::yield_now().await;
        counter.store(seen + 1, Ordering::Relaxed);
        held.release().await.unwrap();
    };
    let calls = futures_util::future::join_all((0..CALLS).map(call));
    let release = async {
        tokio::task::yield_now().await;
        backend.forget_counts();
        held.release().await.unwrap();
    };
    tokio::join!(calls, release);
    assert_eq!(counter.load(Ordering::Relaxed), CALLS);
    let (acquires, releases) = (backend.count("acquire"), backend.count("release"));
    assert_eq!(releases, CALLS + 1);
    assert!(acquires <= CALLS + 1, "{acquires} questions for {CALLS} hand-offs");
    assert_eq!(backend.count("withdraw"), 0);
    until_empty(&backend).await;
}

/// LK-06: eight who each take two keys, and one of them is slow.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_addition_is_lost_under_two_locks() {
    const ROUNDS: u64 = 100;
    let (locks, backend, clock) = watched().await;
    let rival = start(&backend, &clock).await;
    let counters = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
    let tasks = trine_core::Tasks::new("test");
    let mut threads = Vec::new();
    for thread in 0..8_u64 {
        let locks = if thread % 2 == 0 { locks.clone() } else { rival.clone() };
        let counters = Arc::clone(&counters);
        threads.push(tasks.spawn("adds", async move {
            for round in 0..ROUNDS {
                let place = usize::from((thread + round) % 2 == 0);
                let held = acquire(&locks, ["a", "b"][place]).await;
                let seen = counters[place].load(Ordering::Relaxed);
                let pauses = if thread == 0 { 20 } else { 1 };
                for _ in 0..pauses {
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
    until_empty(&backend).await;
}

#[tokio::test]
async fn a_store_that_lost_its_record_is_waited_for() {
    let (locks, backend, clock) = watched().await;
    let second = Duration::from_secs(1);
    backend.bar(Some(second));
    let error = locks.try_acquire("k", any()).await.unwrap_err();
    assert_eq!((error.kind(), error.retry_after()), (ErrorKind::Unavailable, Some(second)));
    let error = locks.steal("k", any()).await.unwrap_err();
    assert_eq!((error.kind(), error.retry_after()), (ErrorKind::Unavailable, Some(second)));
    let opened = async {
        tokio::task::yield_now().await;
        backend.bar(None);
        clock.advance(second);
    };
    let (guard, ()) = tokio::join!(acquire(&locks, "k"), opened);
    assert!(guard.is_held());
    backend.bar(Some(second));
    let timed_out = async {
        tokio::task::yield_now().await;
        clock.advance(second * 2);
    };
    let options = any().with_wait(second);
    let (outcome, ()) = tokio::join!(locks.acquire("other", options), timed_out);
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Timeout);
}

/// Nothing is known of the key; what is granted later is given back.
#[tokio::test]
async fn a_wait_without_any_answer_ends_in_time() {
    let (locks, backend, clock) = watched().await;
    backend.slow_down();
    let wait = Duration::from_secs(3);
    let late = async {
        tokio::task::yield_now().await;
        clock.advance(wait);
    };
    let (outcome, ()) = tokio::join!(locks.acquire("k", any().with_wait(wait)), late);
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Timeout);
    backend.answers.add_permits(1_000);
    let given_back = async {
        while backend.count("release") == 0 {
            tokio::task::yield_now().await;
        }
    };
    in_time(given_back).await;
    until_empty(&backend).await;
}

/// A call whose deadline comes before its wait is over.
#[tokio::test(start_paused = true)]
async fn a_deadline_ends_a_wait() {
    let (locks, _backend, _clock) = watched().await;
    let held = acquire(&locks, "k").await;
    let deadline = Deadline::after(Duration::from_secs(1));
    let context = trine_core::CallContext::default().with_deadline(deadline);
    let outcome = context.scope(locks.acquire("k", any())).await.unwrap();
    assert!(matches!(outcome, AcquireOutcome::TimedOut(_)));
    assert!(held.is_held() && deadline.has_passed());
}

/// One comes while the store is told that another one went.
#[tokio::test]
async fn a_withdrawal_takes_nothing_from_who_comes_after_it() {
    let (locks, backend, _clock) = watched().await;
    let held = acquire(&locks, "k").await;
    let mut first = Box::pin(locks.acquire("k", any()));
    assert!(futures_util::poll!(&mut first).is_pending());
    backend.slow_down();
    drop(first);
    let mut second = Box::pin(locks.acquire("k", any()));
    for _ in 0..20 {
        assert!(futures_util::poll!(&mut second).is_pending());
        tokio::task::yield_now().await;
    }
    assert_eq!((backend.count("acquire"), backend.count("withdraw")), (2, 1));
    // The question of the second comes to the store before the withdrawal, if
    // it was sent.
    backend.answers.add_permits(1_000);
    for _ in 0..20 {
        assert!(futures_util::poll!(&mut second).is_pending());
        tokio::task::yield_now().await;
    }
    held.release().await.unwrap();
    let AcquireOutcome::Acquired(guard) = in_time(second).await.unwrap() else {
        panic!("nobody else has it");
    };
    assert!(guard.is_held());
}

/// Whoever listens to the guard stops before another can begin.
#[tokio::test]
async fn a_guard_is_over_before_its_release_is_sent() {
    let (locks, backend, _clock) = watched().await;
    let held = acquire(&locks, "k").await;
    let (over, lost) = (held.cancellation(), held.lost());
    backend.slow_down();
    let mut release = Box::pin(held.release());
    assert!(futures_util::poll!(&mut release).is_pending());
    assert!(over.is_cancelled());
    assert_eq!(in_time(lost).await, LeaseEnd::Released);
    backend.answers.add_permits(2);
    in_time(release).await.unwrap();
}

/// LK-14: without the time in which another would have been waited for.
#[tokio::test]
async fn who_does_not_listen_any_more_is_skipped_at_once() {
    let (locks, backend, clock) = watched().await;
    let gone = start(&Arc::new(backend.beside()), &clock).await;
    let held = acquire(&locks, "k").await;
    let mut dead = Box::pin(gone.acquire("k", any()));
    assert!(futures_util::poll!(&mut dead).is_pending());
    let mut waiting = Box::pin(locks.acquire("k", any()));
    assert!(futures_util::poll!(&mut waiting).is_pending());
    // Its tasks end, and its call never says so.
    std::mem::forget(dead);
    gone.shutdown(Deadline::after(Duration::from_millis(10))).await.unwrap();
    assert_eq!(backend.stats().waiters, 2);
    held.release().await.unwrap();
    assert!(matches!(in_time(waiting).await.unwrap(), AcquireOutcome::Acquired(_)));
}

/// Its release is under way or not yet sent.
#[tokio::test]
async fn what_is_dropped_while_the_service_closes_is_given_back() {
    let (locks, backend, clock) = watched().await;
    let rival = start(&Arc::new(backend.beside()), &clock).await;
    let guards = [acquire(&locks, "a").await, acquire(&locks, "b").await];
    drop(acquire(&locks, "c").await);
    locks.shutdown(Deadline::after(Duration::from_secs(10))).await.unwrap();
    drop(locks);
    for guard in &guards {
        assert_eq!(guard.lost().await, LeaseEnd::Closed);
    }
    for name in ["a", "b", "c"] {
        let taken = rival.try_acquire(name, any()).await.unwrap();
        assert!(taken.into_guard().is_some(), "{name}");
    }
    drop(guards);
}

/// LK-11 and LK-21: of the processes that hold ten permits, one is cut off.
#[tokio::test]
async fn permits_of_a_process_that_is_cut_off_come_back_after_their_ttl() {
    let ten = NonZeroU32::new(10).unwrap();
    let ttl = Duration::from_secs(60);
    let (locks, backend, clock) = watched().await;
    let cut = Arc::new(backend.beside());
    let gone = start(&cut, &clock).await;
    let mut held = Vec::new();
    for place in 0..10 {
        let process = if place < 3 { &gone } else { &locks };
        let taken = process.try_acquire_permit("k", ten, any()).await.unwrap();
        held.push(taken.into_guard().unwrap());
    }
    let alive = |held: &[Permit]| held.iter().filter(|permit| permit.is_held()).count();
    // Shorter than a lease.
    cut.set_away(true);
    step(&clock, ttl / 2, &backend).await;
    cut.set_away(false);
    step(&clock, ttl / 6, &backend).await;
    in_time(async {
        while held[0].remaining() < ttl / 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(alive(&held), 10);

    cut.set_away(true);
    let error = gone.try_acquire("other", any()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let wait = any().with_wait(ttl * 5);
    let mut waiting: Vec<_> =
        (0..20).map(|_| Box::pin(locks.acquire_permit("k", ten, wait.clone()))).collect();
    for _ in 0..12 {
        step(&clock, ttl / 6, &backend).await;
        for mut call in std::mem::take(&mut waiting) {
            match futures_util::poll!(&mut call) {
                Poll::Ready(outcome) => held.extend(outcome.unwrap().into_guard()),
                Poll::Pending => waiting.push(call),
            }
        }
        assert!(alive(&held) <= 10, "{} permits of ten", alive(&held));
    }
    assert!(held[..3].iter().all(|permit| !permit.is_held()));
    assert_eq!((alive(&held), held.len()), (10, 13));
}

/// Lets time go by, and what is to be renewed be renewed.
async fn step(clock: &ManualClock, span: Duration, backend: &Watched) {
    clock.advance(span);
    let mut seen = 0;
    // Until nothing more is asked for.
    for _ in 0..3 {
        loop {
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            let asked = backend.count("renew") + backend.count("acquire");
            if std::mem::replace(&mut seen, asked) == asked {
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_guard_outlives_the_handles_of_its_service() {
    let (locks, backend, clock) = watched().await;
    let rival = start(&backend, &clock).await;
    let guard = acquire(&locks, "k").await;
    drop(locks);
    let before = backend.count("renew");
    clock.advance(Duration::from_secs(20));
    let renewed = async {
        while backend.count("renew") == before {
            tokio::task::yield_now().await;
        }
    };
    in_time(renewed).await;
    assert!(guard.is_held());
    drop(guard);
    let guard = acquire(&rival, "k").await;
    assert!(guard.is_held());
}

#[tokio::test]
async fn a_guard_that_a_test_takes_away_is_lost_and_given_back() {
    let (locks, backend, _clock) = watched().await;
    let body = async |guard: &Guard| {
        guard.lose();
        std::future::pending::<Result<(), Error>>().await
    };
    let error = locks.with_lock("k").run(body).await.unwrap_err();
    assert!(matches!(error, Error::Lost { .. }), "{error}");
    until_empty(&backend).await;
}

/// LK-17, in this process: leases and waits follow the clock that never jumps.
#[tokio::test]
async fn a_jump_of_the_wall_clock_changes_nothing_and_tokens_grow() {
    use trine_core::Clock;
    let (locks, _backend, clock) = watched().await;
    let held = acquire(&locks, "k").await;
    let (token, remaining) = (held.fence().token(), held.remaining());
    let jump = Duration::from_secs(600);
    for wall in [clock.wall() + jump, clock.wall() - jump] {
        clock.set_wall(wall);
        assert_eq!(held.remaining(), remaining);
        let outcome = locks.try_acquire("k", any()).await.unwrap();
        assert!(outcome.into_guard().is_none());
    }
    held.release().await.unwrap();
    assert!(acquire(&locks, "k").await.fence().token() > token);
}
