//! SC-20 and CO-08: health goes by progress, whatever the store answers.

use std::sync::mpsc;

use trine_core::{HealthStatus, Span};
use trine_scheduler::{Job, SchedulerConfig};

use crate::support::{Log, SECOND, World, config, speaks, until};

fn bounds() -> SchedulerConfig {
    let mut config = config();
    config.max_lag = Span::secs(10);
    config
}

#[tokio::test]
async fn all_is_well_while_jobs_run() {
    let (world, log) = (World::new(), Log::default());
    let process = world.process_with(&bounds(), vec![speaks("a", "every 1h", &log)]).await;
    world.pass(SECOND * 60).await;
    let health = process.service.health().await;
    assert_eq!((health.status, &health.error), (HealthStatus::Up, &None), "{health:?}");
    assert_eq!(health.details["jobs"], 1);
    assert_eq!(health.details["planner"], process.service.process());
    assert!(health.details["next_due_ms"].as_u64().unwrap() <= 3_600_000, "{health:?}");
}

#[tokio::test]
async fn a_loop_that_hangs_is_degraded_then_down_although_the_store_answers() {
    for operation in ["plan", "claim"] {
        let (world, log) = (World::new(), Log::default());
        let process = world.process_with(&bounds(), vec![speaks("a", "every 1h", &log)]).await;
        assert_eq!(process.service.health().await.status, HealthStatus::Up);
        process.way.hang(operation);
        world.pass(SECOND * 12).await;
        assert!(process.service.health().await.status >= HealthStatus::Degraded, "{operation}");
        world.pass(SECOND * 10).await;
        let health = process.service.health().await;
        assert_eq!(health.status, HealthStatus::Down, "{operation}: {health:?}");
        assert!(health.error.as_ref().unwrap().contains("no progress"), "{health:?}");
        assert!(process.service.job("a").await.unwrap().is_some(), "the store answers");
    }
}

#[tokio::test]
async fn a_process_that_is_not_heard_of_is_degraded_before_the_store_forgets_it() {
    let (world, log) = (World::new(), Log::default());
    let process = world.process_with(&bounds(), vec![speaks("a", "every 1h", &log)]).await;
    process.way.hang("beat");
    world.pass(SECOND * 42).await;
    let health = process.service.health().await;
    assert!(health.status >= HealthStatus::Degraded, "{health:?}");
    assert!(health.details.contains_key("beats_progress"), "{health:?}");
}

#[tokio::test]
async fn a_job_that_nobody_can_run_is_degraded() {
    let (world, log) = (World::new(), Log::default());
    let first = world.process(vec![speaks("a", "every 1h", &log)]).await;
    first.shutdown(SECOND).await;
    let second = world.process(vec![speaks("b", "every 1h", &log)]).await;
    let health = second.service.health().await;
    assert_eq!(health.status, HealthStatus::Degraded, "{health:?}");
    assert_eq!(health.details["without_handler"], 1);
}

#[tokio::test]
async fn ticks_that_nobody_makes_or_takes_are_seen_by_every_process() {
    let (world, log) = (World::new(), Log::default());
    let planner = world.process_with(&bounds(), vec![speaks("a", "every 1s", &log)]).await;
    let other = world.process_with(&bounds(), Vec::new()).await;
    world.pass(SECOND * 2).await;
    // It stays the planner, and takes nothing any more.
    planner.way.hang("claim");
    world.pass(SECOND * 15).await;
    let health = other.service.health().await;
    assert_eq!(health.status, HealthStatus::Degraded, "{health:?}");
    assert!(health.error.as_ref().unwrap().contains("ready"), "{health:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_holds_up_its_thread_is_named_and_holds_up_no_other() {
    let (world, log) = (World::new(), Log::default());
    let (end, ended) = mpsc::channel::<()>();
    let ended = std::sync::Mutex::new(ended);
    let says = log.clone();
    let hog = Job::new("hog", "once now").run(move |_| {
        says.say("hog");
        // Until the test lets go of it.
        let _ = ended.lock().unwrap().recv();
        async { Ok::<(), std::io::Error>(()) }
    });
    let process = world.process_with(&bounds(), vec![hog.unwrap()]).await;
    until("it has its thread", || log.count() > 0).await;
    world.clock.advance(SECOND * 2);
    let health = process.service.health().await;
    assert_eq!(health.status, HealthStatus::Degraded, "{health:?}");
    assert!(health.details["holding_threads"].to_string().contains("hog"), "{health:?}");
    drop(end);
    until("it ends", || process.way.count("finish") > 0).await;
}
