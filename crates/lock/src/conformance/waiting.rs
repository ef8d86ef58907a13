use trine_core::Moment;

use super::{
    CLAIM, Duration, Fixture, LockService, Mode, Shape, TTL, acquire, any, begin, guard, in_time,
    is_free, pin, until_waiting,
};
use crate::{AcquireOutcome, Answer, HolderState, ReleaseOutcome, WaitOrder};

/// Of the same process and of another.
pub async fn a_release_wakes_who_waits(fixture: Fixture) {
    let (a, b) = (fixture.start().await, fixture.start().await);
    for locks in [&a, &b] {
        let held = acquire(&a, "k").await;
        let mut waiting = pin!(locks.acquire("k", any()));
        begin(&mut waiting).await;
        until_waiting(&a, "k", 1).await;
        let token = held.fence().token();
        held.release().await.unwrap();
        let next = guard(in_time(waiting).await);
        assert!(next.fence().token() > token);
        next.release().await.unwrap();
    }
    assert!(is_free(&a, "k").await);
}

/// However many there are.
pub async fn waiters_of_a_process_come_in_their_order(fixture: Fixture) {
    let locks = fixture.start().await;
    let held = acquire(&locks, "k").await;
    let calls = [(&locks, 1), (&locks, 1), (&locks, 1), (&locks, 1)];
    let order = come_in_turn(&calls, held).await;
    assert_eq!(order, [0, 1, 2, 3]);
}

/// Two who wait in one process and then one in another: the second goes between.
pub async fn processes_take_turns(fixture: Fixture) {
    let (a, b) = (fixture.start().await, fixture.start().await);
    let held = acquire(&b, "k").await;
    assert_eq!(come_in_turn(&[(&a, 1), (&a, 1), (&b, 2)], held).await, [0, 2, 1]);
}

/// With `order = first_come`.
pub async fn who_came_first_is_first_if_told(fixture: Fixture) {
    let first_come = |config: &mut crate::LockConfig| config.order = WaitOrder::FirstCome;
    let a = fixture.start_with(first_come).await;
    let b = fixture.start_with(first_come).await;
    let held = acquire(&b, "k").await;
    assert_eq!(come_in_turn(&[(&a, 1), (&a, 2), (&b, 3), (&a, 4)], held).await, [0, 1, 2, 3]);
}

/// Lets a call of each of them wait until the store has so many in line, and
/// says in which order they had the key.
async fn come_in_turn(processes: &[(&LockService, u64)], held: crate::Guard) -> Vec<usize> {
    let order = std::sync::Mutex::new(Vec::new());
    let mut calls = Vec::new();
    for (place, (locks, waiters)) in processes.iter().enumerate() {
        let order = &order;
        let mut call = Box::pin(async move {
            let held = acquire(locks, "k").await;
            order.lock().unwrap().push(place);
            held.release().await.unwrap();
        });
        begin(&mut call.as_mut()).await;
        until_waiting(locks, "k", *waiters).await;
        calls.push(call);
    }
    held.release().await.unwrap();
    in_time(futures_util::future::join_all(calls)).await;
    order.into_inner().unwrap()
}

/// And the caller has nothing.
pub async fn a_wait_that_ends_says_who_holds(fixture: Fixture) {
    let (a, b) = (fixture.start().await, fixture.start().await);
    let held = guard(a.acquire("k", any().with_ttl(TTL * 10).with_label("import")).await);
    let wait = TTL / 2;
    let mut calls = Vec::new();
    for _ in 0..2 {
        let mut call = Box::pin(b.acquire("k", any().with_wait(wait)));
        begin(&mut call.as_mut()).await;
        calls.push(call);
    }
    // Without any answer it could not say who.
    let id = (super::key("k"), 0);
    let answered = async {
        while b.shared.lines.holder(&id, Moment::from_elapsed(Duration::ZERO)).is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        biased;
        _ = futures_util::future::join_all(&mut calls) => super::panic_with("it did not wait"),
        () = in_time(answered) => {}
    }
    fixture.pass(wait).await;
    for call in calls {
        let AcquireOutcome::TimedOut(holder) = in_time(call).await.unwrap() else {
            return super::panic_with("two hold one key");
        };
        assert_eq!((&*holder.process, holder.label.as_deref()), (a.process(), Some("import")));
    }
    until_waiting(&a, "k", 0).await;
    held.release().await.unwrap();
    assert!(is_free(&b, "k").await);
}

/// LK-14: one that was told and does not come.
pub async fn a_dead_waiter_is_skipped(fixture: Fixture) {
    let (a, b) = (fixture.start().await, fixture.start().await);
    let held = guard(a.acquire("k", any().with_ttl(TTL * 10)).await);
    let dead = fixture.silent("k", Shape::Write, Mode::Wait { next: None }).await;
    assert!(matches!(dead, Answer::Held { .. }), "{dead:?}");
    let mut waiting = pin!(b.acquire("k", any()));
    begin(&mut waiting).await;
    until_waiting(&a, "k", 2).await;
    held.release().await.unwrap();
    // It asks again when its holder would have expired, or when it polls, and
    // hears of who is next.
    let woken = async {
        loop {
            fixture.pass(CLAIM).await;
            tokio::select! {
                biased;
                held = &mut waiting => return held,
                () = tokio::time::sleep(Duration::from_millis(2)) => {}
            }
        }
    };
    assert!(guard(in_time(woken).await).is_held());
    assert_eq!(super::waiters(&a, "k").await, 0);
}

/// So that nobody is told who is not there.
pub async fn a_dropped_wait_leaves_the_line(fixture: Fixture) {
    let (a, b) = (fixture.start().await, fixture.start().await);
    let held = acquire(&a, "k").await;
    {
        let mut waiting = pin!(b.acquire("k", any()));
        begin(&mut waiting).await;
        until_waiting(&a, "k", 1).await;
    }
    until_waiting(&a, "k", 0).await;
    // The first of two goes, and the second is first.
    let mut second = pin!(b.acquire("k", any()));
    {
        let mut first = pin!(b.acquire("k", any()));
        begin(&mut first).await;
        begin(&mut second).await;
    }
    held.release().await.unwrap();
    guard(in_time(second).await).release().await.unwrap();
    assert!(is_free(&a, "k").await);
}

/// Of a holder that died.
pub async fn an_expiry_that_nobody_tells_is_noticed(fixture: Fixture) {
    let locks = fixture.start().await;
    let silent = fixture.silent_fence("k", Shape::Write).await;
    let mut waiting = pin!(locks.acquire("k", any()));
    begin(&mut waiting).await;
    fixture.pass(TTL).await;
    let held = guard(in_time(waiting).await);
    assert!(held.fence().token() > silent.token());
}

/// For as long as the key is kept for it.
pub async fn nobody_passes_who_was_told(fixture: Fixture) {
    let locks = fixture.start().await;
    let held = acquire(&locks, "k").await;
    let wait = Mode::Wait { next: None };
    fixture.silent("k", Shape::Write, wait).await;
    held.release().await.unwrap();
    let AcquireOutcome::TimedOut(holder) = locks.acquire("k", super::once()).await.unwrap() else {
        return super::panic_with("it was not kept for who is next");
    };
    assert_eq!((&*holder.process, holder.state), ("silent:1:0", HolderState::Next));
    let Answer::Granted(fence) = fixture.silent("k", Shape::Write, wait).await else {
        return super::panic_with("it was not kept for who is next");
    };
    assert_eq!(fixture.release(fence).await, ReleaseOutcome::Released);
    assert!(is_free(&locks, "k").await);
}
