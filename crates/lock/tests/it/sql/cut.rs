//! Servers that go away, connections that break, answers that are lost.

use std::sync::atomic::{AtomicU32, Ordering};

use trine_core::{Deadline, LeaseEnd, Tasks};
use trine_lock::ReleaseOutcome;
use trine_testkit::{Door, Flow, MariaDb, Proxy, TestDatabase};

use super::*;

/// A database that some reach through a proxy.
struct Behind {
    _own: TestDatabase,
    proxy: Proxy,
    near: Database,
    far: Database,
}

impl Behind {
    async fn new(server: &MariaDb) -> Self {
        let own = server.database().await.unwrap();
        let proxy = Proxy::to(server.addr()).await.unwrap();
        let near = mariadb::open(&own.url());
        near.migrate_with(&trine_lock::migrations()).await.unwrap();
        let far = mariadb::open_far(&own.url_via(proxy.addr()));
        Self { _own: own, proxy, near, far }
    }

    async fn cut(&self) {
        self.proxy.set_door(Door::Refuse).await.unwrap();
        self.proxy.kill_all();
    }

    async fn mend(&self) {
        self.proxy.set(Flow::Pass);
        self.proxy.set_door(Door::Open).await.unwrap();
    }

    /// Waits until a key has been granted at the server, whose answer is on its
    /// way, and loses it.
    async fn lose_the_answer(&self) {
        eventually(async || count(&self.near).await > 0).await;
        self.cut().await;
    }
}

#[trine_testkit::test(timeout = "120s")]
async fn what_is_held_outlives_a_restart_of_its_server() {
    let server = MariaDb::start().await.unwrap();
    let behind = Behind::new(&server).await;
    let ttl = Duration::from_secs(60);
    let (locks, rival) = (start(&behind.near, ttl).await, start(&behind.far, ttl).await);
    let held = acquire(&locks, "k").await;
    let token = held.fence().token();
    server.kill().await.unwrap();
    server.restart().await.unwrap();
    behind.proxy.kill_all();
    eventually(async || held.extend(ttl).await.is_ok()).await;
    assert!(held.is_held());
    eventually(async || rival.try_acquire("k", any()).await.is_ok()).await;
    assert!(is_held(&rival, "k").await);
    assert_eq!(held.release().await.unwrap(), ReleaseOutcome::Released);
    assert!(acquire(&rival, "k").await.fence().token() > token);
}

/// LK-11: the loss is told once.
#[trine_testkit::test(timeout = "120s")]
async fn a_short_cut_is_survived_and_a_long_one_is_told() {
    let server = MariaDb::start().await.unwrap();
    let behind = Behind::new(&server).await;
    let ttl = Duration::from_secs(8);
    let (locks, rival) = (start(&behind.far, ttl).await, start(&behind.near, ttl).await);
    let held = acquire(&locks, "k").await;
    let (tasks, told) = (Tasks::new("test"), Arc::new(AtomicU32::new(0)));
    let lost = held.lost();
    let listener = tasks.spawn("listens", {
        let told = Arc::clone(&told);
        async move {
            let end = lost.await;
            told.fetch_add(1, Ordering::Relaxed);
            end
        }
    });
    behind.cut().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    behind.mend().await;
    eventually(async || held.remaining() > ttl / 2).await;
    assert!(held.is_held() && is_held(&rival, "k").await);
    assert_eq!(told.load(Ordering::Relaxed), 0);

    behind.cut().await;
    assert_eq!(in_time(listener).await.unwrap(), LeaseEnd::Expired);
    // The store lets go later than its holder.
    assert!(is_held(&rival, "k").await);
    let next = acquire(&rival, "k").await;
    assert!(next.fence().token() > held.fence().token());
    behind.mend().await;
    eventually(async || locks.try_acquire("other", any()).await.is_ok()).await;
    assert_eq!(told.load(Ordering::Relaxed), 1);
    assert_eq!(locks.health().await.details.get("lost"), Some(&1.into()));
    assert_eq!(held.release().await.unwrap(), ReleaseOutcome::HeldByOther);
    assert!(next.is_held());
}

/// The caller does not learn of it.
#[trine_testkit::test(timeout = "120s")]
async fn a_grant_whose_answer_was_lost_is_found() {
    let server = MariaDb::start().await.unwrap();
    let behind = Behind::new(&server).await;
    let ttl = Duration::from_secs(300);
    let (locks, rival) = (start(&behind.far, ttl).await, start(&behind.near, ttl).await);
    behind.proxy.set_replies(Flow::Delay(Duration::from_millis(200)));
    let losing = async {
        behind.lose_the_answer().await;
        let page = rival.holders("k", None, 1).await.unwrap();
        behind.mend().await;
        page.keys[0].holders[0].state
    };
    let (held, granted) = tokio::join!(biased; acquire(&locks, "k"), losing);
    let token = held.fence().token();
    assert_eq!(granted, trine_lock::HolderState::Holding { token });
    assert!(is_held(&rival, "k").await);
    assert_eq!(held.release().await.unwrap(), ReleaseOutcome::Released);
    assert_eq!(count(&behind.near).await, 0);
}

/// Long before its ttl.
#[trine_testkit::test(timeout = "120s")]
async fn a_grant_whose_caller_gave_up_is_given_back() {
    let server = MariaDb::start().await.unwrap();
    let behind = Behind::new(&server).await;
    let ttl = Duration::from_secs(300);
    let (locks, rival) = (start(&behind.far, ttl).await, start(&behind.near, ttl).await);
    behind.proxy.set_replies(Flow::Delay(Duration::from_millis(200)));
    let deadline = Deadline::after(Duration::from_secs(4));
    let context = trine_core::CallContext::default().with_deadline(deadline);
    let asking = context.scope(locks.try_acquire("k", any()));
    let (outcome, ()) = tokio::join!(biased; asking, behind.lose_the_answer());
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), trine_core::ErrorKind::Timeout, "{error}");
    assert_eq!(count(&behind.near).await, 1);
    behind.mend().await;
    eventually(async || count(&behind.near).await == 0).await;
    assert!(!is_held(&rival, "k").await);
}

/// What the store had is what it answers, though nobody heard it the first time.
#[trine_testkit::test(timeout = "120s")]
async fn a_release_whose_answer_was_lost_is_told() {
    let server = MariaDb::start().await.unwrap();
    let behind = Behind::new(&server).await;
    let ttl = Duration::from_secs(300);
    let locks = start(&behind.far, ttl).await;
    let held = acquire(&locks, "k").await;
    behind.proxy.set_replies(Flow::Delay(Duration::from_millis(200)));
    let losing = async {
        eventually(async || count(&behind.near).await == 0).await;
        behind.cut().await;
        behind.mend().await;
    };
    let (outcome, ()) = tokio::join!(biased; held.release(), losing);
    assert_eq!(outcome.unwrap(), ReleaseOutcome::Released);
}
