//! What processes over one store do to each other.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use trine_core::Clock;
use trine_scheduler::{AttemptEnd, Cancelled, Job, TickState};

use crate::support::{Log, SECOND, World, speaks};

/// A job whose runs take so long by the clock of the world.
fn takes(world: &World, id: &str, schedule: &str, span: Duration, log: &Log) -> Job {
    let (clock, log) = (world.clock.clone(), log.clone());
    let job = Job::new(id, schedule).run(move |ctx| {
        let (clock, log) = (clock.clone(), log.clone());
        async move {
            log.say(format!("{} begins", ctx.attempt()));
            let until = clock.now() + span;
            tokio::select! {
                () = clock.sleep_until(until) => log.say(format!("{} ends", ctx.attempt())),
                cause = ctx.cancelled() => {
                    log.say(format!("{} {cause:?}", ctx.attempt()));
                    return Err("cancelled");
                }
            }
            Ok(())
        }
    });
    job.unwrap()
}

#[tokio::test]
async fn each_tick_runs_in_one_of_the_processes() {
    let (world, log) = (World::new(), Log::default());
    let mut processes = Vec::new();
    for _ in 0..3 {
        let jobs = (0..5).map(|job| speaks(&format!("job {job}"), "every 2s", &log));
        processes.push(world.process(jobs.collect()).await);
    }
    world.pass(SECOND * 40).await;
    let mut ticks = 0;
    for job in 0..5 {
        let all = processes[0].ticks(&format!("job {job}")).await;
        assert!(all.iter().all(|tick| tick.attempts.len() == 1), "{all:?}");
        assert!(all.iter().all(|tick| tick.state == TickState::Succeeded), "{all:?}");
        ticks += all.len();
    }
    assert!(ticks >= 5 * 20);
    assert_eq!(log.count(), ticks, "none twice");
    let planned = processes.iter().filter(|process| process.way.count("claim") > 0).count();
    assert_eq!(planned, 3);
}

#[tokio::test]
async fn the_run_of_a_dead_process_is_taken_over_within_its_lease_and_a_second() {
    let (world, log) = (World::new(), Log::default());
    let first = world.process(vec![takes(&world, "a", "once now", SECOND * 900, &log)]).await;
    let second = world.process(vec![takes(&world, "a", "once now", SECOND, &log)]).await;
    world.pass(SECOND * 3).await;
    assert_eq!(log.all(), ["1 begins"]);
    let name = first.service.process().to_owned();
    drop(first);
    world.pass(SECOND * 26).await;
    assert_eq!(log.all(), ["1 begins"], "its lease is not over");
    world.pass(SECOND * 6).await;
    assert_eq!(log.all(), ["1 begins", "2 begins", "2 ends"]);
    let tick = second.ticks("a").await.remove(0);
    let ends: Vec<_> = tick.attempts.iter().map(|attempt| attempt.end.clone()).collect();
    assert_eq!(ends, [Some(AttemptEnd::Lost), Some(AttemptEnd::Succeeded)]);
    assert_eq!((&*tick.attempts[0].process, tick.state), (&*name, TickState::Succeeded));
    assert!(tick.attempts[1].token > tick.attempts[0].token);
    let waited = tick.attempts[1].began.duration_since(tick.attempts[0].began).unwrap();
    // The last renewal was up to a third of the lease before the end.
    assert!(waited <= SECOND * (3 + 30 + 1), "{waited:?}");
    assert_eq!(second.takeovers(), 1);
}

#[tokio::test]
async fn the_plan_of_a_dead_process_goes_on_within_its_lease_and_a_second() {
    let (world, log) = (World::new(), Log::default());
    let first = world.process(vec![speaks("a", "every 1s", &log)]).await;
    let second = world.process(vec![speaks("a", "every 1s", &log)]).await;
    world.pass(SECOND * 5).await;
    drop(first);
    let before = log.count();
    // By the lease of 10 s.
    world.pass(SECOND * 12).await;
    assert!(log.count() > before, "nobody plans");
    world.pass(SECOND * 5).await;
    let ticks = second.ticks("a").await;
    assert!(ticks.is_sorted_by(|a, b| a.nominal < b.nominal));
    assert!(ticks.iter().all(|tick| tick.attempts.len() <= 1), "{ticks:?}");
}

/// SC-13.
#[tokio::test]
async fn a_process_that_is_silent_for_less_than_its_lease_loses_nothing() {
    let (world, log) = (World::new(), Log::default());
    let first = world.process(vec![takes(&world, "a", "once now", SECOND * 60, &log)]).await;
    let second = world.process(vec![takes(&world, "a", "once now", SECOND, &log)]).await;
    world.pass(SECOND * 11).await;
    first.way.set_away(true);
    world.pass(SECOND * 14).await;
    first.way.set_away(false);
    world.pass(SECOND * 60).await;
    assert_eq!(log.all(), ["1 begins", "1 ends"]);
    let tick = second.ticks("a").await.remove(0);
    assert_eq!((tick.state, tick.attempts.len()), (TickState::Succeeded, 1));
}

/// SC-13.
#[tokio::test]
async fn a_process_that_is_silent_for_its_lease_is_told_and_its_end_counts_no_more() {
    let (world, log) = (World::new(), Log::default());
    // It notices, and says that it has succeeded nevertheless.
    let stubborn = {
        let log = log.clone();
        let job = Job::new("a", "once now").run(move |ctx| {
            let log = log.clone();
            async move {
                assert_eq!(ctx.cancelled().await, Cancelled::Lost);
                log.say(format!("{} is told", ctx.attempt()));
                Ok::<(), std::io::Error>(())
            }
        });
        job.unwrap()
    };
    let first = world.process(vec![stubborn]).await;
    let second = world.process(vec![takes(&world, "a", "once now", SECOND * 20, &log)]).await;
    world.pass(SECOND * 2).await;
    first.way.set_away(true);
    world.pass(SECOND * 24).await;
    assert_eq!(log.all(), [""; 0]);
    world.pass(SECOND * 2).await;
    assert_eq!(log.all(), ["1 is told"], "before another can have it");
    world.pass(SECOND * 5).await;
    assert_eq!(log.all(), ["1 is told", "2 begins"]);
    first.way.set_away(false);
    world.pass(SECOND * 30).await;
    assert_eq!(log.all(), ["1 is told", "2 begins", "2 ends"]);
    let tick = second.ticks("a").await.remove(0);
    let ends: Vec<_> = tick.attempts.iter().map(|attempt| attempt.end.clone()).collect();
    assert_eq!(ends, [Some(AttemptEnd::Lost), Some(AttemptEnd::Succeeded)]);
    let lost = &[("outcome", "lost")];
    let metrics = trine_core::Service::metrics(&first.service);
    assert_eq!(metrics.counter("trine_scheduler_runs_total", lost), Some(1));
}

#[tokio::test]
async fn a_process_that_was_forgotten_registers_again() {
    let (world, log) = (World::new(), Log::default());
    let first = world.process(vec![speaks("a", "every 10s", &log)]).await;
    let other = Log::default();
    let second = world.process(vec![speaks("b", "every 10s", &other)]).await;
    world.pass(SECOND * 12).await;
    first.way.set_away(true);
    // The other sweeps once a minute.
    world.pass(SECOND * 150).await;
    assert!(!second.facts("a").await.has_handler);
    let before = log.count();
    first.way.set_away(false);
    world.pass(SECOND * 40).await;
    assert!(second.facts("a").await.has_handler);
    assert!(log.count() > before);
}

/// Skewed wall clocks change nothing: only that of the store counts.
#[tokio::test]
async fn a_wall_clock_that_is_set_moves_no_lease_and_no_retry() {
    let (world, times) = (World::new(), Arc::new(Mutex::new(Vec::new())));
    let (noted, clock) = (Arc::clone(&times), world.clock.clone());
    let job = Job::new("a", "once now")
        .with_retries(trine_scheduler::Retries::new(
            std::num::NonZeroU32::new(3).unwrap(),
            SECOND * 10,
            SECOND * 10,
        ))
        .run(move |_| {
            noted.lock().unwrap().push(clock.now());
            async { Err::<(), _>("no") }
        });
    let process = world.process(vec![job.unwrap()]).await;
    for ahead in [SECOND * 300, SECOND * 3_000] {
        world.clock.set_wall(world.clock.wall() + ahead);
        world.turn().await;
        world.pass(SECOND * 10).await;
    }
    let times = times.lock().unwrap().clone();
    let waits: Vec<_> =
        times.windows(2).map(|pair| pair[1].saturating_since(pair[0]).as_secs()).collect();
    assert_eq!(waits, [10, 10]);
    assert_eq!(process.states("a").await, [TickState::Failed]);
}
