//! Effects that are done once, over a database.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;
use trine_core::{BoxError, Clock, ErrorKind, ManualClock};
use trine_db_shard::{Database, Once};
use trine_scheduler::{
    AttemptEnd, Job, Retries, SchedulerConfig, SchedulerDeps, SchedulerService, SqlBackend,
    TickState,
};

use crate::sqlite::database;
use crate::support::{Log, SECOND, World, until};

async fn connect(db: &Database, jobs: Vec<Job>) -> (SchedulerService, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new());
    let deps = SchedulerDeps::default().with_clock(clock.clone()).with_database(db.clone());
    let deps = jobs.into_iter().fold(deps, SchedulerDeps::with_job);
    let service = SchedulerService::open(&SchedulerConfig::database(), deps).unwrap();
    service.start().await.unwrap();
    (service, clock)
}

fn twice() -> Retries {
    Retries::new(std::num::NonZeroU32::new(2).unwrap(), SECOND, SECOND)
}

async fn ended(
    service: &SchedulerService,
    clock: &ManualClock,
    job: &str,
) -> trine_scheduler::Tick {
    for _ in 0..20_000 {
        let tick = service.ticks(job, None, 1).await.unwrap().ticks.pop();
        if let Some(tick) = tick.filter(|tick| tick.state.is_over()) {
            return tick;
        }
        clock.advance(SECOND / 10);
        tokio::time::sleep(SECOND / 1_000).await;
    }
    panic!("{job} does not end");
}

#[tokio::test]
async fn a_run_that_is_completed_with_its_effect_has_succeeded_whatever_its_handler_does() {
    let folder = TempDir::new().unwrap();
    let db = database(&folder).await;
    db.execute("CREATE TABLE paid (attempt INTEGER)", ()).await.unwrap();
    let works = db.clone();
    let job = Job::new("pay", "once now").with_retries(twice()).run(move |ctx| {
        let db = works.clone();
        async move {
            db.transaction(|mut tx| {
                let ctx = ctx.clone();
                async move {
                    let attempt = i64::from(ctx.attempt());
                    tx.execute("INSERT INTO paid VALUES (?)", (attempt,)).await?;
                    if ctx.complete_in(&mut tx).await? == Once::Repeated {
                        return Err("done before".into());
                    }
                    Ok::<(), BoxError>(())
                }
            })
            .await?;
            Err::<(), BoxError>("after the commit".into())
        }
    });
    let (service, clock) = connect(&db, vec![job.unwrap()]).await;
    let tick = ended(&service, &clock, "pay").await;
    assert_eq!((tick.state, tick.attempts.len()), (TickState::Succeeded, 1), "{tick:?}");
    for _ in 0..100 {
        clock.advance(SECOND);
        tokio::task::yield_now().await;
    }
    let paid: Vec<i64> = db.query("SELECT attempt FROM paid", ()).await.unwrap();
    assert_eq!(paid, [1]);
}

#[tokio::test]
async fn a_completion_that_is_rolled_back_is_none() {
    let folder = TempDir::new().unwrap();
    let db = database(&folder).await;
    let works = db.clone();
    let job = Job::new("pay", "once now").with_retries(twice()).run(move |ctx| {
        let db = works.clone();
        async move {
            db.transaction(|mut tx| {
                let ctx = ctx.clone();
                async move {
                    assert_eq!(ctx.complete_in(&mut tx).await?, Once::First);
                    if ctx.attempt() == 1 {
                        return Err("rolled back".into());
                    }
                    Ok::<(), BoxError>(())
                }
            })
            .await
        }
    });
    let (service, clock) = connect(&db, vec![job.unwrap()]).await;
    let tick = ended(&service, &clock, "pay").await;
    let ends: Vec<_> = tick.attempts.iter().map(|attempt| attempt.end.clone()).collect();
    let failed = AttemptEnd::Failed { error: "rolled back".into() };
    assert_eq!(ends, [Some(failed), Some(AttemptEnd::Succeeded)]);
}

#[tokio::test]
async fn a_backend_of_ones_own_in_the_database_completes_runs_with_their_effects() {
    let folder = TempDir::new().unwrap();
    let db = database(&folder).await;
    let works = db.clone();
    let job = Job::new("pay", "once now").run(move |ctx| {
        let db = works.clone();
        async move {
            db.transaction(|mut tx| {
                let ctx = ctx.clone();
                async move {
                    assert_eq!(ctx.complete_in(&mut tx).await?, Once::First);
                    Ok::<(), BoxError>(())
                }
            })
            .await?;
            Err::<(), BoxError>("after its effect".into())
        }
    });
    let clock = Arc::new(ManualClock::new());
    let of_store: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
    let deps = SchedulerDeps::default().with_clock(clock.clone()).with_job(job.unwrap());
    let store = Arc::new(SqlBackend::with_clock(&deps.name, db.clone(), of_store));
    let deps = deps.with_database(db);
    let config = SchedulerConfig::memory();
    let service = SchedulerService::with_backend(store, &config, deps).unwrap();
    service.start().await.unwrap();
    let tick = ended(&service, &clock, "pay").await;
    assert_eq!((tick.state, tick.attempts.len()), (TickState::Succeeded, 1));
}

#[tokio::test]
async fn an_effect_in_another_database_is_done_once_whatever_attempts_there_are() {
    let (folder, world) = (TempDir::new().unwrap(), World::new());
    let db = database(&folder).await;
    db.execute("CREATE TABLE sent (nominal INTEGER)", ()).await.unwrap();
    let log = Log::default();
    let (works, says) = (db.clone(), log.clone());
    let job = Job::new("send", "once now").with_retries(twice()).run(move |ctx| {
        let (db, log) = (works.clone(), says.clone());
        async move {
            let once = db
                .transaction(|mut tx| {
                    let ctx = ctx.clone();
                    async move {
                        let once = ctx.once_in(&mut tx).await?;
                        if once == Once::First {
                            tx.execute("INSERT INTO sent VALUES (1)", ()).await?;
                        }
                        Ok::<Once, BoxError>(once)
                    }
                })
                .await?;
            log.say(format!("{once:?}"));
            if ctx.attempt() == 1 {
                return Err("after the commit".into());
            }
            let refused = db
                .transaction(|mut tx| {
                    let ctx = ctx.clone();
                    async move { Ok::<_, BoxError>(ctx.complete_in(&mut tx).await.unwrap_err()) }
                })
                .await?;
            assert_eq!(refused.kind(), ErrorKind::Unsupported);
            Ok::<(), BoxError>(())
        }
    });
    let process = world.process(vec![job.unwrap()]).await;
    until("its first attempt", || log.count() == 1).await;
    until("its second attempt", || {
        world.clock.advance(SECOND / 10);
        log.count() == 2
    })
    .await;
    assert_eq!(log.all(), ["First", "Repeated"]);
    let sent: Vec<i64> = db.query("SELECT nominal FROM sent", ()).await.unwrap();
    assert_eq!(sent, [1]);
    let tick = ended(&process.service, &world.clock, "send").await;
    assert_eq!(tick.state, TickState::Succeeded);
}

#[tokio::test]
async fn a_job_of_every_process_has_no_shared_effects() {
    let (folder, seen) = (TempDir::new().unwrap(), Arc::new(AtomicU32::new(0)));
    let db = database(&folder).await;
    let (works, sees) = (db.clone(), Arc::clone(&seen));
    let job = Job::new("own", "once now").every_process().run(move |ctx| {
        let (db, seen) = (works.clone(), Arc::clone(&sees));
        async move {
            let mut tx = db.begin().await?;
            for refused in [ctx.once_in(&mut tx).await, ctx.complete_in(&mut tx).await] {
                assert_eq!(refused.unwrap_err().kind(), ErrorKind::Unsupported);
                seen.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<(), BoxError>(())
        }
    });
    let (_service, clock) = connect(&db, vec![job.unwrap()]).await;
    until("it ran", || {
        clock.advance(SECOND / 10);
        seen.load(Ordering::Relaxed) == 2
    })
    .await;
    assert!(clock.wall() > std::time::UNIX_EPOCH);
}

#[test]
fn a_database_that_is_not_given_is_told() {
    let error = SchedulerService::open(&SchedulerConfig::database(), SchedulerDeps::default());
    assert!(error.unwrap_err().to_string().contains("needs one among the dependencies"));
}
