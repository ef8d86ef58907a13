use trine_core::{Claim, LeaseEnd, Renewal};

use super::{
    Call, Duration, ErrorKind, Fixture, Mode, Shape, TTL, acquire, any, assert_kind, guard,
    in_time, is_free, once, terms,
};
use crate::{AcquireOutcome, HolderState, ReleaseOutcome};

/// LK-04
pub async fn an_expired_key_is_given_on_with_a_higher_token(fixture: Fixture) {
    let locks = fixture.start().await;
    let silent = fixture.silent_fence("k", Shape::Write).await;
    fixture.pass(TTL / 2).await;
    assert!(!is_free(&locks, "k").await);
    fixture.pass(TTL / 2).await;
    let held = guard(locks.acquire("k", once()).await);
    assert!(held.fence().token() > silent.token());
}

/// For many times its ttl.
pub async fn what_is_held_is_renewed(fixture: Fixture) {
    let (a, b) = (fixture.start().await, fixture.start().await);
    let held = acquire(&a, "k").await;
    fixture.pass_slowly(TTL * 4, || held.remaining() > TTL / 3).await;
    assert!(held.is_held() && !is_free(&b, "k").await);
    assert_eq!(held.release().await.unwrap(), ReleaseOutcome::Released);
}

/// LK-05, by the store's clock.
pub async fn a_key_stays_taken_for_its_least_time(fixture: Fixture) {
    let locks = fixture.start().await;
    let held = guard(locks.acquire("k", any().with_at_least(TTL)).await);
    let token = held.fence().token();
    assert_eq!(held.release().await.unwrap(), ReleaseOutcome::Released);
    fixture.pass(TTL / 2).await;
    let AcquireOutcome::TimedOut(holder) = locks.acquire("k", once()).await.unwrap() else {
        return super::panic_with("it was not kept");
    };
    assert_eq!(holder.state, HolderState::Kept { token });
    fixture.pass(TTL / 2).await;
    assert!(is_free(&locks, "k").await);
}

/// Also beyond its ttl.
pub async fn the_key_of_a_holder_that_died_stays_taken_for_its_least_time(fixture: Fixture) {
    let locks = fixture.start().await;
    let mut silent = Fixture::want("silent", Shape::Write, Mode::Try);
    silent.terms = terms(TTL / 2, TTL / 2).unwrap();
    silent.at_least = Some(TTL);
    let answer = (fixture.backend)().acquire(Call::new("acquire"), &silent).await.unwrap();
    assert!(matches!(answer, crate::Answer::Granted(_)), "{answer:?}");
    let mut keys = vec!["silent"];
    let mut held = None;
    // Where time goes by itself, what is held is renewed in time.
    if fixture.clock.is_some() {
        keys.push("k");
        let options = any().with_ttl(TTL / 2).with_at_least(TTL);
        held = Some(guard(locks.acquire("k", options).await));
    }
    // Too late for any renewal.
    fixture.pass(TTL * 3 / 4).await;
    if let Some(held) = &held {
        assert_eq!(in_time(held.lost()).await, LeaseEnd::Expired);
    }
    for key in &keys {
        assert!(!is_free(&locks, key).await, "{key}");
    }
    fixture.pass(TTL / 4).await;
    for key in &keys {
        assert!(is_free(&locks, key).await, "{key}");
    }
}

/// However often it is renewed, for its holder before the store.
pub async fn a_hold_is_over_after_its_most(fixture: Fixture) {
    let locks = fixture.start().await;
    let held = guard(locks.acquire("k", any().with_at_most(TTL * 2)).await);
    fixture.pass_slowly(TTL, || held.remaining() > TTL / 3).await;
    let most = TTL * 2 * 9 / 10;
    assert!(held.is_held() && held.remaining() <= most - TTL, "{:?}", held.remaining());
    fixture.pass(most - TTL).await;
    assert_eq!(in_time(held.lost()).await, LeaseEnd::Expired);

    let backend = (fixture.backend)();
    let mut want = Fixture::want("store", Shape::Write, Mode::Try);
    want.terms = want.terms.with_at_most(TTL * 3 / 2);
    let answer = backend.acquire(Call::new("acquire"), &want).await.unwrap();
    let crate::Answer::Granted(fence) = answer else {
        return super::panic_with("it is not free");
    };
    let claim = Claim::new(fence, want.terms);
    fixture.pass(TTL * 3 / 4).await;
    let renewals = backend.renew(Call::new("renew"), &[claim]).await.unwrap();
    assert_eq!(renewals, [Renewal::Renewed]);
    fixture.pass(TTL / 2).await;
    assert!(!is_free(&locks, "store").await);
    fixture.pass(TTL / 4).await;
    assert!(is_free(&locks, "store").await);
}

/// And what is lost is not extended.
pub async fn an_extension_holds_from_now_on(fixture: Fixture) {
    let locks = fixture.start().await;
    let held = acquire(&locks, "k").await;
    in_time(held.extend(TTL * 10)).await.unwrap();
    assert!(held.remaining() > TTL * 8, "{:?}", held.remaining());
    fixture.pass(TTL * 3).await;
    assert!(held.is_held() && !is_free(&locks, "k").await);
    for ttl in [Duration::ZERO, TTL * 100_000] {
        assert_kind(held.extend(ttl).await, ErrorKind::Invalid);
    }
    let stolen = locks.steal("k", any()).await.unwrap();
    let error = in_time(held.extend(TTL)).await.unwrap_err();
    assert!(matches!(error, crate::Error::Lost { .. }), "{error}");
    assert!(stolen.is_held());
}

/// A renewal with the old ttl that arrives after an extension.
pub async fn a_late_renewal_shortens_nothing(fixture: Fixture) {
    let locks = fixture.start().await;
    let fence = fixture.silent_fence("k", Shape::Write).await;
    let longer = Claim::new(fence.clone(), terms(TTL * 3, TTL * 3).unwrap());
    let shorter = Claim::new(fence, terms(TTL, TTL).unwrap());
    let backend = (fixture.backend)();
    for claim in [longer, shorter] {
        let renewals = backend.renew(Call::new("renew"), &[claim]).await.unwrap();
        assert_eq!(renewals, [Renewal::Renewed]);
    }
    fixture.pass(TTL * 2).await;
    assert!(!is_free(&locks, "k").await);
    fixture.pass(TTL).await;
    assert!(is_free(&locks, "k").await);
}
