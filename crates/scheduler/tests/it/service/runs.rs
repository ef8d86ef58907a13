//! What becomes of a handler.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use trine_core::{CallContext, Clock, HealthStatus, Service};
use trine_scheduler::{
    AttemptEnd, Cancelled, Error, Job, JobContext, JobState, Retries, TickKind, TickState,
};

use crate::support::{Log, SECOND, World, config, speaks, until};

type Outcome = Result<(), std::io::Error>;

fn three_attempts() -> Retries {
    Retries::new(NonZeroU32::new(3).unwrap(), SECOND, SECOND * 60)
}

#[tokio::test]
async fn a_job_runs_at_its_times_and_its_history_says_so() {
    let (world, log) = (World::new(), Log::default());
    let process = world.process(vec![speaks("a", "every 10s", &log)]).await;
    world.pass(SECOND * 35).await;
    let ticks = process.ticks("a").await;
    assert_eq!(log.count(), ticks.len());
    assert!(ticks.len() >= 4, "{ticks:?}");
    for (tick, next) in ticks.iter().zip(ticks.iter().skip(1)) {
        assert_eq!(next.nominal.duration_since(tick.nominal).unwrap(), SECOND * 10);
        assert_eq!((tick.state, tick.kind), (TickState::Succeeded, TickKind::Planned));
        let [attempt] = tick.attempts.as_slice() else { panic!("{tick:?}") };
        assert_eq!(attempt.end, Some(AttemptEnd::Succeeded));
        assert_eq!(&*attempt.process, process.service.process());
        assert_eq!(attempt.began, tick.nominal, "not a moment late by the clock of the store");
    }
}

#[tokio::test]
async fn how_late_ticks_are_is_not_mixed_with_how_late_timers_are() {
    let (world, log) = (World::new(), Log::default());
    let process = world.process(vec![speaks("a", "once now", &log)]).await;
    let count = |name: &str| {
        process.service.metrics().histogram(name, &[]).map_or(0, |histogram| histogram.count())
    };
    until("timers have fired", || count("trine_scheduler_lateness_seconds") >= 2).await;
    assert_eq!(count("trine_scheduler_tick_lateness_seconds"), 1);
}

#[tokio::test]
async fn a_handler_knows_its_run() {
    let (world, seen) = (World::new(), Arc::new(Mutex::new(None)));
    let sees = Arc::clone(&seen);
    let job = Job::new("a", "once now").with_timeout(SECOND * 40).run(move |ctx: JobContext| {
        *sees.lock().unwrap() = Some((ctx, CallContext::current()));
        async { Outcome::Ok(()) }
    });
    let process = world.process(vec![job.unwrap()]).await;
    let tick = process.ticks("a").await.remove(0);
    let (ctx, call) = seen.lock().unwrap().take().unwrap();
    assert_eq!((ctx.job().as_str(), ctx.nominal(), ctx.due()), ("a", tick.nominal, tick.due));
    assert_eq!((ctx.attempt(), ctx.failures(), ctx.kind()), (1, 0, TickKind::Planned));
    assert_eq!((ctx.fence().key(), ctx.fence().token()), ("job.default/a", tick.attempts[0].token));
    assert_eq!(ctx.remaining(), Some(SECOND * 40), "the clock stands still");
    assert!(!ctx.is_cancelled());
    assert!(call.deadline().is_some_and(|at| at.remaining() <= SECOND * 40));
    assert_eq!((call.seed(), call.trace()), (ctx.call().seed(), ctx.call().trace()));
    assert!(call.seed().is_some() && call.trace().is_some());
}

#[tokio::test]
async fn a_failure_is_tried_again_after_its_waits_also_of_a_job_that_runs_once() {
    let (world, times, seeds) = (World::new(), Log::default(), Log::default());
    let (clock, said, seeded) = (world.clock.clone(), times.clone(), seeds.clone());
    let began = clock.wall();
    let job = Job::new("a", "once now").with_retries(three_attempts()).run(move |ctx| {
        said.say(clock.wall().duration_since(began).unwrap().as_secs().to_string());
        seeded.say(ctx.call().seed().unwrap().to_string());
        async { Err::<(), _>(std::io::Error::other("disk full")) }
    });
    let process = world.process(vec![job.unwrap()]).await;
    world.pass(SECOND * 60).await;
    assert_eq!(times.all(), ["0", "1", "3"]);
    let tick = process.ticks("a").await.remove(0);
    assert_eq!(tick.state, TickState::Failed);
    let failed = Some(AttemptEnd::Failed { error: "disk full".into() });
    assert!(tick.attempts.iter().all(|attempt| attempt.end == failed), "{tick:?}");
    assert!(tick.attempts.is_sorted_by(|a, b| a.token < b.token));
    let seeds = seeds.all();
    assert!(seeds.iter().all(|seed| *seed == seeds[0]), "one step of a tick has one key");
    assert_eq!(process.facts("a").await.state, JobState::Done);
}

#[tokio::test]
async fn a_panic_ends_its_attempt_and_nothing_else() {
    let (world, log) = (World::new(), Log::default());
    let bad = Job::new("bad", "every 10s").run(|_| async {
        assert!(std::hint::black_box(false), "on purpose");
        Outcome::Ok(())
    });
    let worse = Job::new("worse", "every 10s").run(|ctx| {
        assert!(ctx.attempt() > 9, "before its future");
        async { Outcome::Ok(()) }
    });
    let jobs = vec![bad.unwrap(), worse.unwrap(), speaks("good", "every 10s", &log)];
    let process = world.process(jobs).await;
    world.pass(SECOND * 30).await;
    for (job, said) in [("bad", "on purpose"), ("worse", "before its future")] {
        let tick = process.ticks(job).await.remove(0);
        let Some(AttemptEnd::Panicked { message }) = &tick.attempts[0].end else {
            panic!("{tick:?}")
        };
        assert!(message.contains(said), "{message}");
    }
    assert!(log.count() >= 3 && process.states("bad").await.len() >= 3);
}

#[tokio::test]
async fn an_endless_run_is_asked_to_end_then_dropped_and_tried_again() {
    let (world, log) = (World::new(), Log::default());
    let says = log.clone();
    struct Told(Log);
    impl Drop for Told {
        fn drop(&mut self) {
            self.0.say("dropped");
        }
    }
    let endless = Job::new("endless", "once now")
        .with_timeout(SECOND * 10)
        .with_retries(three_attempts())
        .run(move |ctx| {
            let log = says.clone();
            async move {
                let _told = Told(log.clone());
                let cause = ctx.cancelled().await;
                log.say(format!("{} {cause:?}", ctx.attempt()));
                std::future::pending::<Outcome>().await
            }
        });
    let process = world.process(vec![endless.unwrap()]).await;
    world.pass(SECOND * 9).await;
    assert_eq!(log.all(), [""; 0]);
    world.pass(SECOND * 2).await;
    assert_eq!(log.all(), ["1 TimedOut"]);
    world.pass(SECOND * 5).await;
    assert_eq!(log.all(), ["1 TimedOut", "dropped"], "after the grace of 5 s");
    world.pass(SECOND * 60).await;
    let tick = process.ticks("endless").await.remove(0);
    assert_eq!((tick.state, tick.attempts.len()), (TickState::Failed, 3));
    assert!(tick.attempts.iter().all(|attempt| attempt.end == Some(AttemptEnd::TimedOut)));
}

#[tokio::test]
async fn what_a_run_has_done_when_it_is_asked_to_end_is_done() {
    let world = World::new();
    let slow = Job::new("slow", "once now").with_timeout(SECOND * 10).run(|ctx| async move {
        assert_eq!(ctx.cancelled().await, Cancelled::TimedOut);
        Outcome::Ok(())
    });
    let process = world.process(vec![slow.unwrap()]).await;
    world.pass(SECOND * 11).await;
    assert_eq!(process.states("slow").await, [TickState::Succeeded]);
}

#[tokio::test]
async fn a_job_is_paused_after_so_many_failures_and_says_why() {
    let world = World::new();
    let job = Job::new("a", "every 10s")
        .with_pause_after(NonZeroU32::new(2).unwrap())
        .run(|_| async { Err::<(), _>("no") });
    let process = world.process(vec![job.unwrap()]).await;
    world.pass(SECOND * 60).await;
    let facts = process.facts("a").await;
    let JobState::Paused { note, .. } = &facts.state else { panic!("{facts:?}") };
    assert_eq!((&**note, facts.failures), ("it failed 2 times in a row", 2));
    assert_eq!(process.states("a").await, [TickState::Failed; 2]);
}

#[tokio::test]
async fn a_blocking_run_holds_up_no_other_and_keeps_its_place_after_its_time() {
    let (world, log) = (World::new(), Log::default());
    let (may_end, has_begun) = (CancellationToken::new(), CancellationToken::new());
    // A test that fails must not wait for the thread either.
    let _end = may_end.clone().drop_guard();
    let (end, begun, says) = (may_end.clone(), has_begun.clone(), log.clone());
    let blocking =
        Job::new("blocking", "every 60s").with_timeout(SECOND * 10).blocking(move |ctx| {
            begun.cancel();
            while !end.is_cancelled() {
                std::thread::park_timeout(Duration::from_millis(1));
            }
            says.say(format!("{}", ctx.is_cancelled()));
            Err::<(), _>("too late")
        });
    let other = Log::default();
    let jobs = vec![blocking.unwrap(), speaks("other", "every 10s", &other)];
    let process = world.process(jobs).await;
    until("it begins", || has_begun.is_cancelled()).await;
    world.pass(SECOND * 50).await;
    assert!(other.count() >= 5, "{other:?}");
    assert_eq!(process.states("blocking").await, [TickState::Running], "nobody took it over");
    let health = process.service.health().await;
    assert_eq!(health.status, HealthStatus::Degraded, "{health:?}");
    assert!(health.details["stuck"].to_string().contains("blocking"), "{health:?}");
    may_end.cancel();
    until("it ends", || log.count() == 1).await;
    until("its end is stored", || process.way.count("finish") > 0).await;
    world.turn().await;
    assert_eq!(log.all(), ["true"], "it was asked to end");
    let ends: Vec<_> = process.ticks("blocking").await.remove(0).attempts;
    assert_eq!(ends[0].end, Some(AttemptEnd::TimedOut));
}

#[tokio::test]
async fn a_process_runs_no_more_at_once_than_it_may() {
    let (world, log) = (World::new(), Log::default());
    let clock = world.clock.clone();
    let jobs = (0..5).map(|number| {
        let (clock, log) = (clock.clone(), log.clone());
        let job = Job::new(format!("job {number}"), "once now").run(move |_| {
            let (clock, log) = (clock.clone(), log.clone());
            async move {
                log.say("begins");
                clock.sleep_until(clock.now() + SECOND * 10).await;
                Outcome::Ok(())
            }
        });
        job.unwrap()
    });
    let process = world.process_with(&config().with_max_running(2), jobs.collect()).await;
    for most in [2, 4, 5] {
        world.turn().await;
        assert_eq!(log.count(), most);
        world.pass(SECOND * 10).await;
    }
    for number in 0..5 {
        let states = process.states(&format!("job {number}")).await;
        assert_eq!(states, [TickState::Succeeded]);
    }
}

/// The text of an error is for people: it has its sources.
#[tokio::test]
async fn the_history_has_the_sources_of_an_error() {
    #[derive(Debug, thiserror::Error)]
    #[error("import")]
    struct Import(#[source] std::io::Error);
    let world = World::new();
    let job = Job::new("a", "once now")
        .run(|_| async { Err::<(), _>(Import(std::io::Error::other("disk full"))) });
    let process = world.process(vec![job.unwrap()]).await;
    world.turn().await;
    let tick = process.ticks("a").await.remove(0);
    let failed = AttemptEnd::Failed { error: "import: disk full".into() };
    assert_eq!(tick.attempts[0].end, Some(failed));
    let _: fn(Import) -> Box<dyn std::error::Error + Send + Sync> = Into::into;
    let _: fn(Error) -> Box<dyn std::error::Error + Send + Sync> = Into::into;
}
