use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use trine_core::{BoxFault, Fence, FenceSink};

use super::{
    Error, ErrorKind, Fixture, acquire, any, assert_kind, begin, guard, in_time, is_free, once, pin,
};
use crate::ReleaseOutcome;

/// With the same token, in one process only, and the last release frees.
pub async fn an_owner_takes_its_key_again(fixture: Fixture) {
    let (a, b) = (fixture.start().await, fixture.start().await);
    let owned = || once().with_owner("request-7");
    let outer = guard(a.acquire("k", owned()).await);
    let inner = guard(a.acquire("k", owned()).await);
    let read = guard(a.acquire_read("k", owned()).await);
    assert_eq!(outer.fence(), inner.fence());
    assert!(
        a.try_acquire("k", any().with_owner("request-8")).await.unwrap().into_guard().is_none()
    );
    assert!(a.try_acquire("k", any()).await.unwrap().into_guard().is_none());
    assert!(b.try_acquire("k", owned()).await.unwrap().into_guard().is_none());
    assert_eq!(outer.release().await.unwrap(), ReleaseOutcome::StillHeld);
    drop(inner);
    assert!(read.is_held() && !is_free(&b, "k").await);
    assert_eq!(read.release().await.unwrap(), ReleaseOutcome::Released);
    let read = guard(b.acquire_read("k", owned()).await);
    let refused = assert_kind(b.acquire("k", owned()).await, ErrorKind::Invalid);
    assert!(refused.contains("request-7") && read.is_held(), "{refused}");
}

/// When another one has been given the key.
pub async fn a_waiting_call_of_the_owner_is_let_in(fixture: Fixture) {
    let (a, b) = (fixture.start().await, fixture.start().await);
    let held = acquire(&b, "k").await;
    let owned = || any().with_owner("request-7");
    let mut first = pin!(a.acquire("k", owned()));
    begin(&mut first).await;
    let mut other = pin!(a.acquire("k", any()));
    begin(&mut other).await;
    let mut second = pin!(a.acquire("k", owned()));
    begin(&mut second).await;
    held.release().await.unwrap();
    let first = guard(in_time(first).await);
    let second = guard(in_time(second).await);
    assert_eq!(first.fence(), second.fence());
    begin(&mut other).await;
    first.release().await.unwrap();
    begin(&mut other).await;
    second.release().await.unwrap();
    assert!(guard(in_time(other).await).is_held());
}

/// Whatever it answers.
pub async fn a_body_runs_with_the_key_and_gives_it_back(fixture: Fixture) {
    let (a, b) = (fixture.start().await, fixture.start().await);
    let body = async |guard: &crate::Guard| {
        assert!(guard.is_held() && !is_free(&b, "k").await);
        Ok::<_, Error>(guard.key().clone())
    };
    assert_eq!(a.with_lock("k").run(body).await.unwrap().as_str(), "k");
    assert!(is_free(&b, "k").await);
    let failing = async |_: &crate::Guard| Err::<(), _>(Failed::Body);
    assert!(matches!(a.with_lock("k").run(failing).await, Err(Failed::Body)));
    assert!(is_free(&b, "k").await);
    let held = acquire(&b, "k").await;
    let never = async |_: &crate::Guard| Ok::<(), Failed>(());
    let Err(Failed::Lock(error)) = a.with_lock("k").options(once()).run(never).await else {
        return super::panic_with("two hold one key");
    };
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(matches!(&error, Error::TimedOut { holder, .. } if *holder.process == *b.process()));
    drop(held);
}

#[derive(Debug)]
enum Failed {
    Body,
    Lock(Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Lock(error)
    }
}

/// Where it waits.
pub async fn a_body_is_dropped_when_the_lock_is_lost(fixture: Fixture) {
    struct Dropped<'a>(&'a AtomicBool);
    impl Drop for Dropped<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let (a, b) = (fixture.start().await, fixture.start().await);
    let dropped = AtomicBool::new(false);
    let began = tokio::sync::Notify::new();
    let body = async |_: &crate::Guard| {
        let _dropped = Dropped(&dropped);
        began.notify_one();
        std::future::pending::<Result<(), Error>>().await
    };
    let mut running = pin!(a.with_lock("k").run(body));
    tokio::select! {
        ended = &mut running => super::panic_with(&format!("{ended:?}")),
        () = in_time(began.notified()) => {}
    }
    let stolen = b.steal("k", any()).await.unwrap();
    if !a.capabilities().push_loss {
        fixture.pass(super::TTL / 2).await;
    }
    let error = in_time(running).await.unwrap_err();
    assert!(matches!(error, Error::Lost { .. }), "{error}");
    assert!(dropped.load(Ordering::Relaxed) && stolen.is_held());
}

#[derive(Debug, Default)]
struct Sink {
    seen: Mutex<u64>,
}

#[async_trait]
impl FenceSink for Sink {
    async fn raise(&self, fence: &Fence) -> Result<(), BoxFault> {
        let mut seen = self.seen.lock().unwrap();
        if fence.token() < *seen {
            return Err(Stale.into());
        }
        *seen = fence.token();
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
#[error("a newer token was shown")]
struct Stale;

impl trine_core::Fault for Stale {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Fenced
    }
}

/// In each of the resources.
pub async fn a_body_does_not_begin_before_its_fence_is_raised(fixture: Fixture) {
    let locks = fixture.start().await;
    let (first, second) = (Arc::new(Sink::default()), Sink::default());
    let body = async |guard: &crate::Guard| {
        assert_eq!(*first.seen.lock().unwrap(), guard.fence().token());
        assert_eq!(*second.seen.lock().unwrap(), guard.fence().token());
        Ok::<(), Error>(())
    };
    locks.with_lock("k").fencing(&[&*first, &second]).run(body).await.unwrap();
    *second.seen.lock().unwrap() = Fence::MAX_TOKEN;
    let never = async |_: &crate::Guard| super::panic_with::<Result<(), Error>>("it began");
    let refused = locks.with_lock("k").fencing(&[&*first, &second]).run(never).await;
    assert_kind(refused, ErrorKind::Fenced);
    assert!(is_free(&locks, "k").await);
}
