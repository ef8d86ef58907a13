//! A store that is away, slow or forgetful.

use std::sync::Arc;

use trine_core::{Clock, ErrorKind, LeaseEnd, Service, Span, State};
use trine_scheduler::{AttemptEnd, Cancelled, Job, TickState};

use crate::support::{Log, SECOND, World, config, speaks};

#[tokio::test]
async fn a_store_that_is_away_for_20_s_loses_no_run_that_is_done() {
    let (world, log) = (World::new(), Log::default());
    let says = log.clone();
    let clock = world.clock.clone();
    let job = Job::new("a", "once now").run(move |_| {
        let (clock, log) = (clock.clone(), says.clone());
        async move {
            clock.sleep_until(clock.now() + SECOND * 5).await;
            log.say("done");
            Ok::<(), std::io::Error>(())
        }
    });
    let process = world.process(vec![job.unwrap()]).await;
    world.pass(SECOND * 3).await;
    process.way.set_away(true);
    world.pass(SECOND * 20).await;
    assert_eq!(log.count(), 1);
    assert_eq!(process.states("a").await, [TickState::Running]);
    process.way.set_away(false);
    world.pass(SECOND * 3).await;
    assert_eq!(process.states("a").await, [TickState::Succeeded]);
    world.pass(SECOND * 60).await;
    assert_eq!(log.count(), 1);
}

#[tokio::test]
async fn an_end_whose_answer_is_lost_is_told_again_and_counts_once() {
    let (world, log) = (World::new(), Log::default());
    let process = world.process(Vec::new()).await;
    process.way.lose(Some("finish"));
    process.service.register(speaks("a", "once now", &log)).await.unwrap();
    world.pass(SECOND * 3).await;
    assert!(process.way.count("finish") >= 2);
    process.way.lose(None);
    world.pass(SECOND * 5).await;
    let tick = process.ticks("a").await.remove(0);
    assert_eq!((tick.state, tick.attempts.len(), log.count()), (TickState::Succeeded, 1, 1));
    let metrics = process.service.metrics();
    let outcome = &[("outcome", "succeeded")];
    assert_eq!(metrics.counter("trine_scheduler_runs_total", outcome), Some(1));
}

#[tokio::test]
async fn a_tick_whose_claim_is_lost_runs_when_its_lease_is_over() {
    let (world, log) = (World::new(), Log::default());
    let process = world.process(Vec::new()).await;
    process.way.lose(Some("claim"));
    process.service.register(speaks("a", "once now", &log)).await.unwrap();
    world.pass(SECOND * 3).await;
    process.way.lose(None);
    world.pass(SECOND * 33).await;
    let tick = process.ticks("a").await.remove(0);
    assert_eq!(log.all(), ["a 2"]);
    assert_eq!(tick.attempts[0].end, Some(AttemptEnd::Lost));
}

#[tokio::test]
async fn a_lost_lease_cancels_its_run_and_gives_the_tick_back() {
    let (world, log) = (World::new(), Log::default());
    let says = log.clone();
    let job = Job::new("a", "once now").run(move |ctx| {
        let log = says.clone();
        async move {
            if ctx.attempt() == 1 {
                let (lost, cause) = tokio::join!(ctx.lost(), ctx.cancelled());
                assert_eq!((lost, cause), (LeaseEnd::Expired, Cancelled::Lost));
                log.say("lost");
                return Err("given up");
            }
            log.say("again");
            Ok(())
        }
    });
    let process = world.process(vec![job.unwrap()]).await;
    process.way.set_away(true);
    world.pass(SECOND * 29).await;
    assert_eq!(log.all(), ["lost"]);
    process.way.set_away(false);
    world.pass(SECOND * 5).await;
    assert_eq!(log.all(), ["lost", "again"]);
    let tick = process.ticks("a").await.remove(0);
    assert_eq!((tick.state, tick.attempts.len()), (TickState::Succeeded, 2));
}

#[tokio::test]
async fn a_start_without_a_store_fails_in_time_and_may_be_called_again() {
    let (world, log) = (World::new(), Log::default());
    let mut config = config();
    config.start_timeout = Span::millis(200);
    let process = world.open(&config, vec![speaks("a", "every 10s", &log)]);
    process.way.set_away(true);
    let error = process.service.start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert_eq!(process.service.state(), State::Failed);
    let early = process.service.trigger("a").await.unwrap_err();
    assert_eq!(early.kind(), ErrorKind::Unavailable);
    assert_eq!(process.way.count("plan") + process.way.count("claim"), 0);
    process.way.set_away(false);
    process.service.start().await.unwrap();
    world.pass(SECOND * 10).await;
    assert!(log.count() > 0);
}

#[tokio::test]
async fn a_start_that_is_dropped_may_be_called_again() {
    let (world, log) = (World::new(), Log::default());
    let process = world.open(&config(), vec![speaks("a", "every 10s", &log)]);
    process.way.hang("beat");
    let mut start = Box::pin(process.service.start());
    for _ in 0..3 {
        assert!(futures_util::poll!(&mut start).is_pending());
    }
    drop(start);
    assert_eq!(process.service.state(), State::Created);
    process.way.hang("nothing");
    process.service.start().await.unwrap();
    world.pass(SECOND * 10).await;
    assert!(log.count() > 0);
}

#[tokio::test]
async fn loops_go_on_after_an_outage() {
    let (world, log) = (World::new(), Log::default());
    let process = world.process(vec![speaks("a", "every 1s", &log)]).await;
    for _ in 0..3 {
        world.pass(SECOND * 5).await;
        process.way.set_away(true);
        world.pass(SECOND * 20).await;
        process.way.set_away(false);
    }
    let before = log.count();
    world.pass(SECOND * 5).await;
    assert!(log.count() >= before + 4, "{before} {}", log.count());
}

#[tokio::test]
async fn a_service_that_is_dropped_leaves_nothing_behind() {
    let (world, log) = (World::new(), Log::default());
    let held = Arc::new(());
    let holds = Arc::clone(&held);
    let endless = Job::new("endless", "once now").run(move |_| {
        let held = Arc::clone(&holds);
        async move {
            std::future::pending::<()>().await;
            drop(held);
            Ok::<(), std::io::Error>(())
        }
    });
    let process = world.process(vec![endless.unwrap(), speaks("a", "every 1s", &log)]).await;
    world.pass(SECOND * 3).await;
    assert!(Arc::strong_count(&held) > 1);
    drop(process);
    world.turn().await;
    let before = log.count();
    world.pass(SECOND * 5).await;
    assert_eq!((log.count(), Arc::strong_count(&held)), (before, 1));
}
