//! Connections that are cut, and a server that is killed.

use trine_core::{HealthStatus, Span};
use trine_scheduler::{Job, SchedulerConfig, SchedulerDeps, SchedulerService};
use trine_testkit::{Door, MariaDb, Proxy};

use super::*;

/// QU-21: nobody plans beside another, whatever the old one thinks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planner_that_is_cut_off_is_followed_by_one_other() {
    let mut fleet = Fleet::new(each_second(10)).await;
    let proxy = Proxy::to(fleet.database.addr().await.unwrap()).await.unwrap();
    let url = fleet.database.url_via(proxy.addr());
    fleet.join_with(&url, 0).await;
    assert_eq!(fleet.planner().await, 0);
    fleet.join().await;
    let old = fleet.leave(0);
    proxy.set_door(Door::Refuse).await.unwrap();
    proxy.kill_all();
    fleet.planner_but(&old.process).await;
    let until = fleet.now().await + Duration::from_secs(2);
    fleet.until("two seconds", async || fleet.now().await > until).await;
    proxy.set_door(Door::Open).await.unwrap();
    let accepted = proxy.accepted();
    fleet.until("it is back", async || proxy.accepted() > accepted).await;
    let until = fleet.now().await + Duration::from_secs(2);
    fleet.until("two seconds", async || fleet.now().await > until).await;
    let audit = fleet.audit().await;
    audit.assert_clean();
    assert_eq!((audit.changes, audit.planners.len()), (1, 2), "{}", audit.line());
}

/// All that was due while it was away is done, and nothing twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_while_jobs_run_loses_and_doubles_nothing() {
    let server = MariaDb::start().await.unwrap();
    let task = Task { before: Duration::from_millis(200), ..each_second(10) };
    let mut fleet = Fleet::over(server.database().await.unwrap(), task).await;
    for _ in 0..3 {
        fleet.join().await;
    }
    fleet.until("they run", async || fleet.ticks(&member::job(0)).await.len() > 1).await;
    for _ in 0..2 {
        fleet.members[0].says("begins").await;
        server.kill().await.unwrap();
        sleep(Duration::from_millis(500)).await;
        server.restart().await.unwrap();
        fleet.planner().await;
    }
    let audit = fleet.audit().await;
    audit.assert_clean();
    assert!(fleet.members.iter().all(|member| member.child.is_running()));
}

/// CO-08: its planning hangs at a lock, and the server is fine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planner_that_hangs_is_down_within_two_periods_although_the_server_answers() {
    let fleet = Fleet::new(each_second(1)).await;
    let mut config = SchedulerConfig::database().with_planner_lease(Span::secs(1));
    (config.poll, config.max_lag) = (Span::millis(100), Span::secs(2));
    let job = Job::new("a", "every 1s").run(async |_| Ok::<(), std::io::Error>(())).unwrap();
    let deps = SchedulerDeps::default().with_database(fleet.db().clone()).with_job(job);
    let service = SchedulerService::open(&config, deps).unwrap();
    service.start().await.unwrap();
    let status = async || service.health().await.status;
    fleet.until("it is well", async || status().await == HealthStatus::Up).await;
    let mut lock = fleet.db().begin().await.unwrap();
    let text = "SELECT process FROM trine_job_planner FOR UPDATE";
    let _: Vec<String> = lock.query(text, ()).await.unwrap();
    let began = tokio::time::Instant::now();
    fleet.until("it is down", async || status().await == HealthStatus::Down).await;
    let took = began.elapsed();
    println!("down after {took:?}");
    assert!(took < config.max_lag.get() * 2 * 5, "{took:?}");
    assert!(service.job("a").await.unwrap().is_some(), "the server answers");
    lock.rollback().await.unwrap();
    fleet.until("it is well again", async || status().await == HealthStatus::Up).await;
}
