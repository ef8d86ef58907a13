//! Several processes on MariaDB, and what goes wrong between them.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use trine_core::{Claim, LeaseTerms, Renewal};
use trine_db_shard::{Once, Timestamp};
use trine_scheduler::{
    AttemptEnd, Call, ClaimedTick, Definition, Finish, FinishOutcome, JobId, PlanAnswer,
    Registered::{New, Same},
    SchedulerBackend, Terms, TickState,
};
use trine_testkit::{Flow, MariaDb, Proxy, TestDatabase};

use crate::complete::{LONG, Peer, SHORT};
use crate::mariadb::{database, handle};

const FAR: &str = "once 9000-01-01T00:00:00Z";
const BOUND: Duration = Duration::from_secs(30);

async fn peers(database: &TestDatabase) -> (Peer, Peer) {
    let url = database.url();
    (Peer::new("a", handle(&url)).await, Peer::new("b", handle(&url)).await)
}

async fn plan(peer: &Peer, ttl: Duration) -> PlanAnswer {
    peer.store.plan(Call::new("plan"), &peer.process, ttl, 100).await.unwrap()
}

async fn renew(peer: &Peer, tick: &ClaimedTick) -> Renewal {
    let claim = Claim::new(tick.fence.clone(), LeaseTerms::new(LONG, SHORT).unwrap());
    peer.store.renew(Call::new("renew"), &[claim]).await.unwrap()[0]
}

/// Until a statement that begins so is under way.
async fn somebody_runs(peer: &Peer, statement: &str) {
    let text = "SELECT COUNT(*) FROM information_schema.processlist \
                WHERE db = DATABASE() AND info LIKE ?";
    let running =
        async || -> u64 { peer.db().query_one(text, (format!("{statement}%"),)).await.unwrap() };
    while running().await == 0 {
        sleep(Duration::from_millis(10)).await;
    }
}

/// It hangs with its ticks made and not committed; who follows it has them to
/// make itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planner_that_hangs_beyond_its_lease_inserts_nothing() {
    let database = database().await;
    let (a, b) = peers(&database).await;
    a.register("x", "once now").await;
    assert!(matches!(plan(&b, LONG).await, PlanAnswer::Planned { ticks: 1, .. }));
    b.store.resign(Call::new("resign"), &b.process).await.unwrap();
    a.register("y", "once now").await;

    let mut lock = b.db().begin().await.unwrap();
    let text = "SELECT process FROM trine_job_planner FOR UPDATE";
    let _: Vec<String> = lock.query(text, ()).await.unwrap();
    let overtaken = async {
        timeout(BOUND, somebody_runs(&b, "UPDATE trine_job_planner")).await.unwrap();
        let until = Timestamp::from(std::time::SystemTime::now() + LONG);
        let text = "UPDATE trine_job_planner SET process = 'b', expires_at = ?";
        lock.execute(text, (until,)).await.unwrap();
        lock.commit().await.unwrap();
    };
    let (answer, ()) = tokio::join!(timeout(BOUND, plan(&a, SHORT)), overtaken);
    let answer = answer.unwrap();
    assert!(matches!(answer, PlanAnswer::Other { .. }), "{answer:?}");
    assert_eq!(b.states("y").await, []);
    assert!(matches!(plan(&b, LONG).await, PlanAnswer::Planned { ticks: 1, .. }));
    assert_eq!(b.states("y").await, [TickState::Waiting]);
}

/// Both have them, whoever was first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_register_the_same_jobs_at_once() {
    let database = database().await;
    let (a, b) = peers(&database).await;
    for round in 0..20 {
        let definitions: Vec<_> = (0..40)
            .map(|job| {
                let id = JobId::new(format!("{round}-{job}")).unwrap();
                Arc::new(Definition::new(id, 1, Terms::new(FAR.parse().unwrap())))
            })
            .collect();
        let call = Call::new("register");
        let (one, other) = tokio::join!(
            a.store.register(call, &a.process, &definitions),
            b.store.register(call, &b.process, &definitions)
        );
        for (one, other) in one.unwrap().into_iter().zip(other.unwrap()) {
            assert!(matches!((one, other), (New, Same) | (Same, New)), "{one:?} {other:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_completes_a_tick_is_in_nobodys_way() {
    let database = database().await;
    let (a, b) = peers(&database).await;
    for peer in [&a, &b] {
        peer.register("x", "every 10ms").await;
        peer.register("y", FAR).await;
    }
    sleep(Duration::from_millis(10)).await;
    plan(&a, LONG).await;
    let held = a.claim(LONG).await.remove(0);
    let mut tx = a.db().begin().await.unwrap();
    assert_eq!(a.store.complete_in(&mut tx, &held).await.unwrap(), Once::First);
    sleep(Duration::from_millis(10)).await;

    let others = async {
        a.register("z", "once now").await;
        assert!(matches!(plan(&a, LONG).await, PlanAnswer::Planned { ticks: 1, .. }));
        b.trigger("y").await;
        assert_eq!(b.claim_one(LONG).await.job.as_str(), "y");
        assert_eq!(renew(&a, &held).await, Renewal::Unreachable);
    };
    timeout(Duration::from_secs(5), others).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(renew(&a, &held).await, Renewal::Gone);
    assert!(matches!(plan(&a, LONG).await, PlanAnswer::Planned { ticks: 1.., .. }));
    let done = |states: Vec<TickState>| {
        states.into_iter().filter(|state| *state == TickState::Succeeded).count()
    };
    assert_eq!(done(a.states("x").await), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_outlives_a_restart_of_the_server() {
    let server = MariaDb::start().await.unwrap();
    let database = server.database().await.unwrap();
    handle(&database.url()).migrate_with(&trine_scheduler::migrations()).await.unwrap();
    let (a, _) = peers(&database).await;
    a.register("x", FAR).await;
    a.trigger("x").await;
    let tick = a.claim_one(LONG).await;
    server.kill().await.unwrap();
    let end = [Finish::new(&tick, AttemptEnd::Succeeded, None)];
    let away = a.store.finish(Call::new("finish"), &end).await.unwrap_err();
    assert!(away.is_retryable(), "{away}");
    server.restart().await.unwrap();
    let told = async {
        loop {
            match a.store.finish(Call::new("finish"), &end).await {
                Ok(told) => return told,
                Err(error) => assert!(error.is_retryable(), "{error}"),
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    assert_eq!(timeout(BOUND, told).await.unwrap(), [FinishOutcome::Finished]);
    assert_eq!(a.states("x").await, [TickState::Succeeded]);
}

/// Wherever the connection breaks, a tick is given to one at a time, and to
/// another once the lease is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_whose_reply_is_lost_is_known_or_taken_over() {
    let database = database().await;
    let (_, b) = peers(&database).await;
    let proxy = Proxy::to(database.addr().await.unwrap()).await.unwrap();
    let a = Peer::new("a", handle(&database.url_via(proxy.addr()))).await;
    for peer in [&a, &b] {
        peer.register("x", FAR).await;
    }
    let mut unknown = 0;
    for bytes in (0..8_000).step_by(400) {
        b.trigger("x").await;
        // A connection is there that is cut under way.
        while a.store.overview(Call::new("overview")).await.is_err() {}
        proxy.set_replies(Flow::CutAfter(bytes));
        let (store, process) = (&a.store, &a.process);
        let cut = store.claim(Call::new("claim"), process, SHORT, 10);
        let whole = async {
            sleep(Duration::from_millis(60)).await;
            proxy.set_replies(Flow::Pass);
        };
        let (claimed, ()) = tokio::join!(cut, whole);
        let tick = match claimed.map(|answer| answer.ticks) {
            Ok(ticks) if !ticks.is_empty() => ticks[0].clone(),
            _ => {
                unknown += 1;
                sleep(SHORT + SHORT / 10).await;
                b.claim_one(LONG).await
            }
        };
        let end = [Finish::new(&tick, AttemptEnd::Succeeded, None)];
        let told = loop {
            match a.store.finish(Call::new("finish"), &end).await {
                Ok(told) => break told,
                Err(error) => assert!(error.is_retryable(), "{error}"),
            }
        };
        assert!(matches!(told[0], FinishOutcome::Finished | FinishOutcome::Repeated), "{told:?}");
    }
    assert!(unknown > 0);
}
