//! What an operator does to jobs.

use trine_core::{Clock, ErrorKind};
use trine_scheduler::{
    InvalidJob, Job, JobState, SchedulerService, TickKind, TickState, TriggerOutcome,
};

use crate::support::{Log, SECOND, World, speaks};

#[tokio::test]
async fn a_paused_job_begins_nothing_until_it_is_resumed() {
    let (world, log) = (World::new(), Log::default());
    let process = world.process(vec![speaks("a", "every 10s", &log)]).await;
    world.pass(SECOND * 10).await;
    process.service.pause("a", "the bank is closed").await.unwrap();
    let (paused, before) = (world.clock.wall(), log.count());
    let JobState::Paused { note, since } = process.facts("a").await.state else { panic!("active") };
    assert_eq!((&*note, since), ("the bank is closed", paused));
    world.pass(SECOND * 65).await;
    assert_eq!(log.count(), before);
    assert!(process.service.upcoming("a", 3).await.unwrap().is_empty());
    assert!(process.service.resume("a").await.unwrap());
    assert!(!process.service.resume("a").await.unwrap());
    assert_eq!(log.count(), before, "what passed meanwhile is passed over");
    world.pass(SECOND * 10).await;
    assert_eq!(log.count(), before + 1);
}

#[tokio::test]
async fn a_triggered_job_runs_at_once_and_its_schedule_goes_on() {
    let (world, log) = (World::new(), Log::default());
    let process = world.process(vec![speaks("a", "every 1h", &log)]).await;
    world.turn().await;
    let (before, next) = (log.count(), process.facts("a").await.progress.next);
    world.pass(SECOND * 3).await;
    let outcome = process.service.trigger("a").await.unwrap();
    let TriggerOutcome::Triggered { nominal } = outcome else { panic!("{outcome:?}") };
    assert_eq!(nominal, world.clock.wall());
    world.turn().await;
    assert_eq!(log.count(), before + 1);
    let tick = process.ticks("a").await.pop().unwrap();
    assert_eq!((tick.kind, tick.state), (TickKind::Triggered, TickState::Succeeded));
    assert_eq!(process.facts("a").await.progress.next, next);
    process.service.pause("a", "").await.unwrap();
    process.service.trigger("a").await.unwrap();
    world.turn().await;
    assert_eq!(log.count(), before + 2, "also while it is paused");
}

#[tokio::test]
async fn a_job_that_is_not_there_is_not_found() {
    let world = World::new();
    let process = world.process(Vec::new()).await;
    let service = &process.service;
    let errors = [
        service.pause("a", "").await.unwrap_err(),
        service.resume("a").await.unwrap_err(),
        service.trigger("a").await.unwrap_err(),
        service.upcoming("a", 1).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    }
    assert!(service.job("a").await.unwrap().is_none());
    assert!(!service.remove("a").await.unwrap());
    assert!(service.ticks("a", None, 10).await.unwrap().ticks.is_empty());
    for name in ["", "a#b", "a\n"] {
        assert_eq!(service.trigger(name).await.unwrap_err().kind(), ErrorKind::Invalid);
    }
    let note = "x".repeat(SchedulerService::MAX_NOTE + 1);
    assert_eq!(service.pause("a", &note).await.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn the_next_runs_are_told() {
    let (world, log) = (World::new(), Log::default());
    let jobs = vec![speaks("a", "every 10s", &log), speaks("b", "delay 10s", &log)];
    let process = world.process(jobs).await;
    world.pass(SECOND * 5).await;
    let times = process.service.upcoming("a", 3).await.unwrap();
    let from = world.clock.wall();
    let seconds: Vec<_> =
        times.iter().map(|time| time.duration_since(from).unwrap().as_secs()).collect();
    assert_eq!(seconds, [5, 15, 25]);
    assert_eq!(process.service.upcoming("b", 3).await.unwrap().len(), 1);
    let facts = process.facts("a").await;
    assert_eq!(facts.definition.terms.schedule.describe(), "every 10 seconds");
}

#[tokio::test]
async fn jobs_and_history_come_in_pages() {
    let (world, log) = (World::new(), Log::default());
    let jobs = (0..7).map(|number| speaks(&format!("a{number}"), "every 1s", &log));
    let own = Job::new("a3x", "every 1h").every_process();
    let own = own.run(|_| async { Ok::<(), std::io::Error>(()) }).unwrap();
    let other = speaks("b", "every 1h", &log);
    let process = world.process(jobs.chain([own, other]).collect()).await;
    let (mut names, mut after) = (Vec::new(), None);
    loop {
        let page = process.service.jobs("a", after.as_ref(), 3).await.unwrap();
        assert!(page.jobs.len() <= 3);
        names.extend(page.jobs.iter().map(|job| job.definition.id.to_string()));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(names, ["a0", "a1", "a2", "a3", "a3x", "a4", "a5", "a6"]);
    world.pass(SECOND * 10).await;
    let all = process.ticks("a0").await.len();
    let (mut seen, mut before) = (0, None);
    loop {
        let page = process.service.ticks("a0", before, 4).await.unwrap();
        assert!(page.ticks.is_sorted_by(|a, b| a.nominal > b.nominal));
        seen += page.ticks.len();
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(seen, all);
    assert!(all >= 10 && process.states("a0").await.iter().all(|s| *s == TickState::Succeeded));
}

#[test]
fn what_a_job_cannot_be_is_told_with_the_field() {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use trine_scheduler::{JobBuilder, Misfire, Overlap, Retries};

    let many = |count| NonZeroU32::new(count).unwrap();
    type Change = Box<dyn Fn(JobBuilder) -> JobBuilder>;
    let cases: Vec<(&str, Change)> = vec![
        ("timeout 0ns", Box::new(|job| job.with_timeout(Duration::ZERO))),
        ("grace 0ns", Box::new(|job| job.with_grace(Duration::ZERO))),
        ("grace 999ms", Box::new(|job| job.with_grace(Duration::from_millis(999)))),
        (
            "retries of 101 attempts",
            Box::new(move |job| job.with_retries(Retries::new(many(101), SECOND, SECOND))),
        ),
        (
            "retries from 2s up to 1s",
            Box::new(move |job| job.with_retries(Retries::new(many(2), SECOND * 2, SECOND))),
        ),
        ("takeovers 101", Box::new(|job| job.with_takeovers(101))),
        (
            "misfire within 0ns",
            Box::new(move |job| {
                job.with_misfire(Misfire::All { within: Duration::ZERO, at_most: many(1) })
            }),
        ),
        (
            "misfire at_most 101",
            Box::new(move |job| {
                job.with_misfire(Misfire::All { within: SECOND, at_most: many(101) })
            }),
        ),
        (
            "overlap at_most 1001",
            Box::new(move |job| job.with_overlap(Overlap::Allow { at_most: many(1_001) })),
        ),
    ];
    for (expected, change) in cases {
        let job = change(Job::new("a", "every 1s"));
        let error = job.run(|_| async { Ok::<(), std::io::Error>(()) }).unwrap_err();
        assert!(matches!(error, InvalidJob::Field { .. }));
        let text = error.to_string();
        assert!(text.contains(expected) && text.contains(": expected "), "{text}");
    }
    let refused = |id: &str, schedule: &str| {
        Job::new(id, schedule).blocking(|_| Ok::<(), std::io::Error>(())).unwrap_err()
    };
    assert!(matches!(refused("", "every 1s"), InvalidJob::Id(_)));
    let error = trine_scheduler::Error::from(refused("a", "cron 61 * * * *"));
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(trine_core::Report(&error).to_string().contains("minute `61`"), "{error:?}");
}
