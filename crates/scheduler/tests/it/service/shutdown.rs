//! What becomes of runs when a process ends.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use trine_core::{Deadline, ErrorKind, State};
use trine_scheduler::{AttemptEnd, Job, TickState};

use crate::support::{Log, SECOND, World, config, speaks, until};

/// A job that ends when it is told to.
fn waits(id: &str, end: &CancellationToken, log: &Log) -> Job {
    let (end, log) = (end.clone(), log.clone());
    let job = Job::new(id, "once now").run(move |ctx| {
        let (end, log) = (end.clone(), log.clone());
        async move {
            log.say(format!("{} begins", ctx.attempt()));
            tokio::select! {
                () = end.cancelled() => {}
                cause = ctx.cancelled() => {
                    log.say(format!("{} {cause:?}", ctx.attempt()));
                    std::future::pending::<()>().await;
                }
            }
            log.say(format!("{} ends", ctx.attempt()));
            Ok::<(), std::io::Error>(())
        }
    });
    job.unwrap()
}

#[tokio::test]
async fn a_shutdown_waits_for_its_runs_and_begins_none() {
    let (world, log, end) = (World::new(), Log::default(), CancellationToken::new());
    let jobs = vec![waits("a", &end, &log), speaks("b", "every 1s", &Log::default())];
    let process = world.process(jobs).await;
    assert_eq!(log.all(), ["1 begins"]);
    let other = world.process(Vec::new()).await;
    let shutdown = process.service.shutdown(Deadline::after(SECOND * 60));
    let rest = async {
        world.turn().await;
        assert_eq!(process.service.state(), State::Draining);
        let claims = process.way.count("claim");
        world.pass(SECOND * 5).await;
        assert_eq!(process.way.count("claim"), claims);
        end.cancel();
    };
    let (done, ()) = tokio::join!(shutdown, rest);
    done.unwrap();
    assert_eq!(log.all(), ["1 begins", "1 ends"]);
    assert_eq!(other.states("a").await, [TickState::Succeeded]);
    assert_eq!(process.service.state(), State::Closed);
    assert_eq!(process.service.trigger("a").await.unwrap_err().kind(), ErrorKind::Closed);
    let late = speaks("c", "every 1s", &log);
    assert_eq!(process.service.register(late).await.unwrap_err().kind(), ErrorKind::Closed);
}

/// SC-14: one end, and a second run only because the first has none.
#[tokio::test]
async fn a_run_that_does_not_end_in_time_is_handed_over_at_once() {
    let (world, log, end) = (World::new(), Log::default(), CancellationToken::new());
    let process = world.process(vec![waits("a", &end, &log)]).await;
    let second = Log::default();
    let other = world.process(vec![waits("a", &end, &second)]).await;
    let twice = Deadline::after(Duration::from_millis(20));
    let (first, again) = tokio::join!(process.service.shutdown(twice), async {
        tokio::task::yield_now().await;
        process.service.shutdown(twice).await
    });
    first.unwrap();
    again.unwrap();
    assert_eq!(log.all(), ["1 begins", "1 ShutDown"]);
    // Not a moment of its lease has passed.
    world.pass(SECOND).await;
    assert_eq!(second.all(), ["2 begins"]);
    end.cancel();
    world.turn().await;
    let tick = other.ticks("a").await.remove(0);
    let ends: Vec<_> = tick.attempts.iter().map(|attempt| attempt.end.clone()).collect();
    assert_eq!(ends, [Some(AttemptEnd::HandedOver), Some(AttemptEnd::Succeeded)]);
    assert!(tick.attempts[1].token > tick.attempts[0].token);
    assert_eq!((other.facts("a").await.failures, other.takeovers()), (0, 0));
}

#[tokio::test]
async fn the_plan_goes_on_elsewhere_at_once() {
    let (world, log) = (World::new(), Log::default());
    let first = world.process(vec![speaks("a", "every 1s", &log)]).await;
    let _second = world.process(vec![speaks("a", "every 1s", &log)]).await;
    world.pass(SECOND * 3).await;
    first.shutdown(SECOND * 10).await;
    let before = log.count();
    world.pass(SECOND * 3).await;
    assert!(log.count() >= before + 2, "before the planner's lease of 10 s is over");
}

#[tokio::test]
async fn a_blocking_run_that_goes_on_is_left_to_its_lease() {
    let (world, log) = (World::new(), Log::default());
    let end = CancellationToken::new();
    // A test that fails must not wait for the thread either.
    let _end = end.clone().drop_guard();
    let (until_end, says) = (end.clone(), log.clone());
    let job = Job::new("a", "once now").blocking(move |ctx| {
        says.say("begins");
        while !until_end.is_cancelled() {
            std::thread::park_timeout(Duration::from_millis(1));
        }
        assert!(ctx.is_cancelled());
        Ok::<(), std::io::Error>(())
    });
    let process = world.process(vec![job.unwrap()]).await;
    until("it begins", || log.count() == 1).await;
    let second = Log::default();
    let other = world.process(vec![speaks("a", "once now", &second)]).await;
    process.shutdown(Duration::from_millis(20)).await;
    world.pass(SECOND * 5).await;
    assert_eq!((other.states("a").await, second.count()), (vec![TickState::Running], 0));
    world.pass(SECOND * 30).await;
    assert_eq!(second.all(), ["a 2"]);
    end.cancel();
}

#[tokio::test]
async fn a_shutdown_returns_although_the_store_does_not() {
    let (world, log, end) = (World::new(), Log::default(), CancellationToken::new());
    let process = world.process(vec![waits("a", &end, &log)]).await;
    for operation in ["finish", "resign"] {
        process.way.hang(operation);
    }
    process.way.set_away(true);
    let bound = Deadline::after(SECOND * 20);
    let done = bound.limit(process.shutdown(Duration::from_millis(20))).await;
    assert!(done.is_some());
    assert_eq!(process.service.state(), State::Closed);
}

#[tokio::test]
async fn handlers_that_hold_the_service_are_let_go() {
    let world = World::new();
    let process = world.process(Vec::new()).await;
    let held = Arc::new(());
    let (service, holds) = (process.service.clone(), Arc::clone(&held));
    let job = Job::new("a", "every 1s").run(move |_| {
        let (service, _held) = (service.clone(), Arc::clone(&holds));
        async move { service.trigger("b").await.map(|_| ()) }
    });
    process.service.register(job.unwrap()).await.unwrap();
    process.service.register(speaks("b", "every 1h", &Log::default())).await.unwrap();
    world.pass(SECOND * 3).await;
    assert!(process.ticks("b").await.len() >= 2);
    process.shutdown(SECOND).await;
    assert_eq!(Arc::strong_count(&held), 1);
}

#[tokio::test]
async fn a_scheduler_that_was_never_started_is_closed_as_well() {
    let world = World::new();
    let process = world.open(&config(), vec![speaks("a", "every 1s", &Log::default())]);
    process.shutdown(SECOND).await;
    assert_eq!(process.service.start().await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(process.way.count("register"), 0);
}
