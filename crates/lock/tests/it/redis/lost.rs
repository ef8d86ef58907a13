//! Replies that are lost on their way, and calls that are dropped.

use std::time::Duration;

use trine_core::{ErrorKind, Span};
use trine_lock::{Error, Guard, LockOptions, ReleaseOutcome};
use trine_testkit::{DropPlan, DropPoint, Flow, Protocol, Proxy, Redis};

use crate::support::redis::{Opened, PATIENCE, assert_kind, in_time, records, single, take, until};

/// Time lets go of nothing here.
const TTL: Duration = Duration::from_secs(600);

fn long() -> LockOptions {
    LockOptions::default().with_ttl(TTL).with_wait(PATIENCE)
}

/// The question is asked once more, and the server knows it again.
#[trine_testkit::test]
async fn a_grant_whose_reply_was_lost_is_found_again() {
    let server = Redis::start().await.unwrap();
    let proxy = Proxy::to(server.addr()).await.unwrap();
    let opened = Opened::new(&single(server.url_via(proxy.addr()))).await;
    drop(opened.acquire("warm", long()).await);
    until("the first given back", async || records(&server).await == 0).await;
    proxy.set_replies(Flow::CutAfter(1));
    let (taken, ()) = tokio::join!(take(&opened.locks, "k"), async {
        until("the grant", async || records(&server).await == 1).await;
        proxy.set_replies(Flow::Pass);
    });
    let guard = taken.unwrap();
    assert_eq!(records(&server).await, 1);
    assert_eq!(guard.release().await.unwrap(), ReleaseOutcome::Released);
    assert_eq!(records(&server).await, 0);
    opened.close().await;
}

/// Its caller has an error, and holds nothing.
#[trine_testkit::test]
async fn a_grant_that_nobody_knows_of_is_given_back() {
    let server = Redis::start().await.unwrap();
    let proxy = Proxy::to(server.addr()).await.unwrap();
    let opened = Opened::new(&single(server.url_via(proxy.addr()))).await;
    drop(opened.acquire("warm", long()).await);
    until("the first given back", async || records(&server).await == 0).await;
    proxy.set_replies(Flow::Hang);
    let taken = opened.locks.try_acquire("k", long()).await;
    assert!(assert_kind(taken, ErrorKind::Unavailable).is_retryable());
    assert_eq!(records(&server).await, 1, "the question did not come through");
    proxy.set_replies(Flow::Pass);
    until("the grant given back", async || records(&server).await == 0).await;
    assert!(take(&opened.locks, "k").await.is_some());
    opened.close().await;
}

/// The keeper gives it back again, until an answer comes.
#[trine_testkit::test]
async fn a_release_whose_reply_was_lost_leaves_nothing() {
    let server = Redis::start().await.unwrap();
    let proxy = Proxy::to(server.addr()).await.unwrap();
    let opened = Opened::new(&single(server.url_via(proxy.addr()))).await;
    for name in ["a", "b"] {
        let guard = opened.acquire(name, long()).await;
        proxy.set(Flow::Hang);
        assert_kind(guard.release().await, ErrorKind::Unavailable);
        proxy.set(Flow::Pass);
        until("the key given back", async || records(&server).await == 0).await;
    }
    opened.close().await;
}

/// Requests and answers take a step each; nothing but time could let go of what
/// is left, and no ttl ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_dropped_anywhere_leaves_nothing_behind() {
    let server = Redis::start().await.unwrap();
    let proxy = Proxy::to(server.addr()).await.unwrap().speaking(Protocol::Redis);
    let mut config = single(server.url_via(proxy.addr()));
    // No reply is late here, however slow the machine.
    config.response_timeout = Span::from(Duration::from_secs(20));
    let opened = Opened::with(&config, |_, store| store.sweep_interval = Span::secs(3_600)).await;
    let rival = Opened::new(&single(server.url())).await;
    let call = || {
        proxy.set_replies(Flow::Step);
        let (locks, rival) = (&opened.locks, &rival);
        async move {
            let held = rival.acquire("k", long()).await;
            let waiting = async {
                drop(locks.acquire("k", long()).await.unwrap());
            };
            let releasing = async {
                tokio::task::yield_now().await;
                held.release().await.unwrap();
            };
            tokio::join!(waiting, releasing);
            locks.steal("k", long()).await.unwrap().release().await.unwrap();
            drop(locks.acquire_read("k", long()).await.unwrap());
            drop(locks.acquire_all(["a", "k"], long()).await.unwrap());
            let body = async |_: &Guard| {
                tokio::task::yield_now().await;
                Ok::<(), Error>(())
            };
            locks.with_lock("k").options(long()).run(body).await.unwrap();
        }
    };
    let check = async |_: DropPoint| {
        proxy.set_replies(Flow::Pass);
        in_time(until("nothing left", async || records(&server).await == 0)).await;
    };
    let plan = DropPlan::every_await().nudging(Duration::from_millis(1));
    let report = plan.feeding(|| proxy.step()).run(call, check).await.unwrap();
    assert!(report.confirmed > 10, "{report:?}");
    assert_eq!(report.finished, 1);
    opened.close().await;
    rival.close().await;
}
