use std::num::NonZeroU32;

use super::{
    Fixture, Mode, PATIENCE, Shape, TTL, acquire, any, begin, guard, in_time, is_free, once, pin,
    until_waiting,
};
use crate::{Answer, ReleaseOutcome};

const TWO: NonZeroU32 = NonZeroU32::MIN.saturating_add(1);

/// Of any number of processes.
pub async fn reads_share_and_exclude_writes(fixture: Fixture) {
    let (a, b) = (fixture.start().await, fixture.start().await);
    let reads =
        [guard(a.acquire_read("k", once()).await), guard(b.acquire_read("k", once()).await)];
    assert!(!is_free(&a, "k").await);
    let permit = a.try_acquire_permit("k", TWO, any()).await.unwrap();
    assert!(permit.into_guard().is_none());
    let [first, second] = reads;
    first.release().await.unwrap();
    assert!(!is_free(&a, "k").await);
    second.release().await.unwrap();
    let write = acquire(&a, "k").await;
    assert!(b.try_acquire_read("k", any()).await.unwrap().into_guard().is_none());
    write.release().await.unwrap();
    assert!(guard(b.acquire_read("k", once()).await).is_held());
}

/// So that readers who come and go do not starve it.
pub async fn who_waits_to_write_goes_before_later_reads(fixture: Fixture) {
    let (a, b) = (fixture.start().await, fixture.start().await);
    let read = guard(a.acquire_read("k", any()).await);
    let mut write = pin!(b.acquire("k", any()));
    begin(&mut write).await;
    until_waiting(&a, "k", 1).await;
    assert!(a.try_acquire_read("k", any()).await.unwrap().into_guard().is_none());
    let mut later = pin!(a.acquire_read("k", any()));
    begin(&mut later).await;
    read.release().await.unwrap();
    let write = guard(in_time(write).await);
    begin(&mut later).await;
    write.release().await.unwrap();
    assert!(guard(in_time(later).await).is_held());
}

/// By the lowest number that is free; the key of the fence ends in it.
pub async fn permits_are_bounded_and_numbered(fixture: Fixture) {
    let (a, b) = (fixture.start().await, fixture.start().await);
    let first = guard(a.acquire_permit("k", TWO, once()).await);
    let second = guard(b.acquire_permit("k", TWO, once()).await);
    let (zero, one) = ("lock.default/k#0", "lock.default/k#1");
    assert_eq!([first.fence().key(), second.fence().key()], [zero, one]);
    assert!(a.try_acquire_permit("k", TWO, any()).await.unwrap().into_guard().is_none());
    assert!(!is_free(&a, "k").await);
    assert!(a.try_acquire_read("k", any()).await.unwrap().into_guard().is_none());
    let mut third = pin!(a.acquire_permit("k", TWO, any()));
    begin(&mut third).await;
    let token = first.fence().token();
    assert_eq!(first.release().await.unwrap(), ReleaseOutcome::Released);
    let third = guard(in_time(third).await);
    assert_eq!(third.fence().key(), zero);
    assert!(third.fence().token() > token);
    // A lock of a name like theirs can never be.
    assert!(crate::Key::new("k#0").is_err());
}

/// LK-21, and it is nobody's twice.
pub async fn an_expired_permit_is_given_on(fixture: Fixture) {
    let locks = fixture.start().await;
    let shape = Shape::Permit { of: TWO };
    let silent = fixture.silent_fence("k", shape).await;
    let longer = any().with_ttl(PATIENCE);
    let held = guard(locks.acquire_permit("k", TWO, longer).await);
    let answer = fixture.silent("k", shape, Mode::Try).await;
    assert!(matches!(answer, Answer::Held { .. }), "{answer:?}");
    fixture.pass(TTL).await;
    let next = guard(locks.acquire_permit("k", TWO, once()).await);
    assert_eq!(next.fence().key(), silent.key());
    assert!(next.fence().token() > silent.token() && held.is_held());
    assert_eq!(fixture.release(silent).await, ReleaseOutcome::HeldByOther);
}
