use super::{
    Answer, Call, ErrorKind, Fixture, Mode, Shape, TTL, acquire, any, assert_kind, begin, guard,
    in_time, is_free, once, pin,
};
use crate::{AcquireOutcome, HolderState, ReleaseOutcome, TryAcquireOutcome};

/// LK-01. And the others are told who.
pub async fn a_key_is_held_by_one_at_a_time(fixture: Fixture) {
    let (a, b) = (fixture.start().await, fixture.start().await);
    let held = guard(a.acquire("k", any().with_label("import")).await);
    assert_eq!(held.fence().key(), "lock.default/k");
    for locks in [&a, &b] {
        let TryAcquireOutcome::Held(holder) = locks.try_acquire("k", any()).await.unwrap() else {
            return super::panic_with("two hold one key");
        };
        assert_eq!((&*holder.process, holder.label.as_deref()), (a.process(), Some("import")));
        assert_eq!(holder.shape, Shape::Write);
        assert_eq!(holder.state, HolderState::Holding { token: held.fence().token() });
        assert!(holder.expires_in > TTL / 2 && holder.expires_in <= TTL, "{holder:?}");
    }
    assert_eq!(held.release().await.unwrap(), ReleaseOutcome::Released);
    let held = acquire(&b, "k").await;
    assert!(held.is_held() && !is_free(&a, "k").await);
}

/// LK-02
pub async fn keys_are_independent(fixture: Fixture) {
    let (a, b) = (fixture.start().await, fixture.start().await);
    let guards = [acquire(&a, "a").await, acquire(&b, "b").await, acquire(&a, "a/b").await];
    assert!(guards.iter().all(super::Guard::is_held));
}

/// LK-03
pub async fn a_release_says_what_the_store_had(fixture: Fixture) {
    let locks = fixture.start().await;
    let first = fixture.silent_fence("k", Shape::Write).await;
    fixture.pass(TTL).await;
    assert_eq!(fixture.release(first.clone()).await, ReleaseOutcome::NotHeld);
    let held = acquire(&locks, "k").await;
    assert_eq!(fixture.release(first).await, ReleaseOutcome::HeldByOther);
    assert!(!is_free(&locks, "k").await);
    assert_eq!(held.release().await.unwrap(), ReleaseOutcome::Released);
    let never = trine_core::Fence::new("lock.default/never", 1).unwrap();
    assert_eq!(fixture.release(never).await, ReleaseOutcome::NotHeld);
}

/// So that nothing is left of an answer that was lost. The second answer counts
/// from when it was asked for.
pub async fn a_request_that_is_asked_again_has_its_grant(fixture: Fixture) {
    let locks = fixture.start().await;
    let backend = (fixture.backend)();
    let want = Fixture::want("k", Shape::Write, Mode::Try);
    let first = backend.acquire(Call::new("acquire"), &want).await.unwrap();
    fixture.pass(TTL / 2).await;
    let again = backend.acquire(Call::new("acquire"), &want).await.unwrap();
    assert!(matches!(&first, Answer::Granted(_)), "{first:?}");
    assert_eq!(first, again);
    let another = Fixture::want("k", Shape::Write, Mode::Try);
    let other = backend.acquire(Call::new("acquire"), &another).await.unwrap();
    assert!(matches!(&other, Answer::Held { .. }), "{other:?}");
    fixture.pass(TTL * 3 / 4).await;
    assert!(!is_free(&locks, "k").await);
    fixture.pass(TTL / 4).await;
    assert!(is_free(&locks, "k").await);
}

/// Release, expiry and steal; under other keys too.
pub async fn tokens_grow_however_a_key_changes_hands(fixture: Fixture) {
    let locks = fixture.start().await;
    let mut tokens = Vec::new();
    for _ in 0..3 {
        let held = acquire(&locks, "k").await;
        tokens.push(held.fence().token());
        held.release().await.unwrap();
    }
    tokens.push(fixture.silent_fence("k", Shape::Write).await.token());
    let stolen = locks.steal("k", any()).await.unwrap();
    tokens.push(stolen.fence().token());
    stolen.release().await.unwrap();
    tokens.push(fixture.silent_fence("k", Shape::Write).await.token());
    fixture.pass(TTL).await;
    tokens.push(acquire(&locks, "k").await.fence().token());
    assert!(tokens.array_windows().all(|[token, next]| token < next), "{tokens:?}");
}

/// At once where losses are pushed, else at the next renewal.
pub async fn a_steal_ends_every_grant_and_tells_its_holder(fixture: Fixture) {
    let (a, b) = (fixture.start().await, fixture.start().await);
    let reads = [guard(a.acquire_read("k", any()).await), guard(b.acquire_read("k", any()).await)];
    let thief = fixture.start().await;
    let stolen = thief.steal("k", any()).await.unwrap();
    if !a.capabilities().push_loss {
        fixture.pass(TTL / 2).await;
    }
    for read in reads {
        assert_eq!(in_time(read.lost()).await, trine_core::LeaseEnd::Gone);
        assert!(!read.is_held());
        assert_eq!(read.release().await.unwrap(), ReleaseOutcome::HeldByOther);
    }
    assert!(stolen.is_held() && !is_free(&a, "k").await);
    let free = thief.steal("free", any()).await.unwrap();
    assert!(free.is_held());
}

/// What was taken before one that is held is given back.
pub async fn several_keys_are_taken_together_or_not_at_all(fixture: Fixture) {
    let (a, b) = (fixture.start().await, fixture.start().await);
    let guards = guard(a.acquire_all(["c", "a", "b"], any()).await);
    let keys: Vec<_> = guards.as_slice().iter().map(|guard| guard.key().as_str()).collect();
    assert_eq!(keys, ["a", "b", "c"]);
    let AcquireOutcome::TimedOut(holder) = b.acquire_all(["0", "b", "d"], once()).await.unwrap()
    else {
        return super::panic_with("two hold one key");
    };
    assert_eq!(&*holder.process, a.process());
    assert!(is_free(&a, "0").await && is_free(&a, "d").await);
    assert_eq!(guards.release().await.unwrap(), [ReleaseOutcome::Released; 3]);
    assert!(guard(b.acquire_all(["a", "b"], once()).await).is_held());
    let none: [&str; 0] = [];
    assert_kind(a.acquire_all(none, once()).await, ErrorKind::Invalid);
    let twice = assert_kind(a.acquire_all(["x", "y", "x"], once()).await, ErrorKind::Invalid);
    assert!(twice.contains("`x` was given twice"), "{twice}");
}

/// Whatever the order in which they name them.
pub async fn two_who_take_several_keys_never_wait_for_each_other(fixture: Fixture) {
    let (a, b) = (fixture.start().await, fixture.start().await);
    let held = fixture.silent_fence("a", Shape::Write).await;
    let mut first = pin!(a.acquire_all(["a", "b"], any()));
    begin(&mut first).await;
    let mut second = pin!(b.acquire_all(["b", "a"], any()));
    begin(&mut second).await;
    assert_eq!(fixture.release(held).await, ReleaseOutcome::Released);
    let both = async {
        let (first, second) = tokio::join!(async { guard(first.await).release().await }, async {
            guard(second.await).release().await
        },);
        (first.unwrap().len(), second.unwrap().len())
    };
    assert_eq!(in_time(both).await, (2, 2));
    // Nobody is left in line.
    let answer = fixture.silent("a", Shape::Write, Mode::Try).await;
    assert!(matches!(answer, crate::Answer::Granted(_)), "{answer:?}");
}
