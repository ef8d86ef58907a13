//! What may be registered, and when.

use trine_core::{ErrorKind, State};
use trine_scheduler::{
    AttemptEnd, Error, Job, RegisterOutcome, Registered, SchedulerConfig, SchedulerDeps,
    SchedulerService, TickState,
};

use crate::support::{Log, SECOND, World, config, speaks};

fn idle(id: &str, schedule: &str, revision: u64) -> Job {
    let job = Job::new(id, schedule).with_revision(revision);
    job.run(|_| async { Ok::<(), std::io::Error>(()) }).unwrap()
}

#[tokio::test]
async fn jobs_before_the_start_are_stored_with_it() {
    let (world, log) = (World::new(), Log::default());
    let process = world.open(&config(), vec![speaks("a", "every 10s", &log)]);
    let outcome = process.service.register(speaks("b", "every 10s", &log)).await.unwrap();
    assert_eq!(outcome, RegisterOutcome::AtStart);
    assert!(process.service.remove("b").await.unwrap());
    process.service.register(speaks("c", "every 10s", &log)).await.unwrap();
    process.service.start().await.unwrap();
    let page = process.service.jobs("", None, 10).await.unwrap();
    let names: Vec<_> = page.jobs.iter().map(|job| job.definition.id.as_str()).collect();
    assert_eq!((names, page.next), (vec!["a", "c"], None));
    world.pass(SECOND * 10).await;
    assert!(log.count() >= 2);
}

#[tokio::test]
async fn a_start_that_is_in_conflict_fails_at_once_and_registers_nothing() {
    let world = World::new();
    let first = world.process(vec![idle("a", "every 10s", 1)]).await;
    let jobs = vec![idle("b", "every 10s", 1), idle("a", "every 20s", 1)];
    let second = world.open(&config(), jobs);
    let error = second.service.start().await.unwrap_err();
    assert!(matches!(&error, Error::Conflict { job, .. } if job.as_str() == "a"), "{error}");
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(second.service.state(), State::Failed);
    assert_eq!(second.way.count("plan") + second.way.count("claim"), 0, "nothing was begun");
    assert!(first.service.job("b").await.unwrap().is_none());
    assert!(second.service.remove("a").await.unwrap());
    second.service.start().await.unwrap();
    assert!(first.service.job("b").await.unwrap().is_some());
}

#[tokio::test]
async fn two_jobs_of_one_name_are_refused() {
    let deps = || SchedulerDeps::default().with_job(idle("a", "every 10s", 1));
    let open = |deps| SchedulerService::open(&SchedulerConfig::memory(), deps);
    let error = open(deps().with_job(idle("a", "every 10s", 1))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    let world = World::new();
    let process = world.process(vec![idle("a", "every 10s", 2)]).await;
    for revision in [1, 2] {
        let error = process.service.register(idle("a", "every 10s", revision)).await.unwrap_err();
        assert!(error.to_string().contains("handler of revision 2"), "{error}");
    }
    let twice = vec![idle("b", "every 10s", 1), idle("b", "every 10s", 1)];
    let error = process.service.register_all(twice).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    let own = Job::new("a", "every 1s").with_revision(3).every_process();
    let own = own.run(|_| async { Ok::<(), std::io::Error>(()) }).unwrap();
    let error = process.service.register(own).await.unwrap_err();
    assert!(error.to_string().contains("another scope"), "{error}");
}

#[tokio::test]
async fn what_would_never_run_is_refused_with_all_that_came_with_it() {
    let world = World::new();
    let process = world.process(Vec::new()).await;
    let jobs = vec![idle("a", "every 10s", 1), idle("b", "once 2020-01-01T00:00:00Z", 1)];
    let error = process.service.register_all(jobs).await.unwrap_err();
    assert!(matches!(&error, Error::NeverDue { job, .. } if job.as_str() == "b"), "{error}");
    assert!(process.service.job("a").await.unwrap().is_none());
    // Its handler went with it.
    let again = process.service.register(idle("a", "every 10s", 1)).await.unwrap();
    assert_eq!(again, RegisterOutcome::Stored(Registered::New));
}

#[tokio::test]
async fn a_higher_revision_replaces_a_job_and_a_run_ends_as_it_began() {
    let (world, log) = (World::new(), Log::default());
    let job = |revision: u64| {
        let log = log.clone();
        let job = Job::new("a", "every 60s").with_revision(revision).run(move |ctx| {
            let log = log.clone();
            async move {
                log.say(format!("{revision} begins"));
                if revision == 1 {
                    ctx.cancelled().await;
                }
                log.say(format!("{revision} ends"));
                Ok::<(), std::io::Error>(())
            }
        });
        job.unwrap()
    };
    let short = Job::new("short", "every 60s").with_timeout(SECOND * 20);
    drop(short);
    let process = world.process(vec![job(1)]).await;
    world.pass(SECOND * 60).await;
    assert_eq!(log.all(), ["1 begins"]);
    let outcome = process.service.register(job(2)).await.unwrap();
    assert_eq!(outcome, RegisterOutcome::Stored(Registered::Replaced { revision: 1 }));
    assert_eq!(process.facts("a").await.definition.revision, 2);
    assert_eq!(process.states("a").await[0], TickState::Running);
    // Its hour is over.
    world.pass_by(SECOND * 3_600, SECOND * 5).await;
    let said = log.all();
    assert_eq!(said[..4], ["1 begins", "1 ends", "2 begins", "2 ends"], "{said:?}");
}

#[tokio::test]
async fn an_old_process_runs_what_was_made_by_its_revision_and_no_later_ticks() {
    let (world, old_log, new_log) = (World::new(), Log::default(), Log::default());
    let job = |revision, log: &Log| {
        let log = log.clone();
        let job = Job::new("a", "every 10s").with_revision(revision).run(move |_| {
            log.say("runs");
            async { Ok::<(), std::io::Error>(()) }
        });
        job.unwrap()
    };
    let _old = world.process(vec![job(1, &old_log)]).await;
    world.pass(SECOND * 10).await;
    let before = old_log.count();
    assert!(before > 0);
    let new = world.process(vec![job(2, &new_log)]).await;
    new.shutdown(SECOND).await;
    world.pass(SECOND * 30).await;
    assert_eq!(old_log.count(), before, "it has no handler for those");
    let again = world.process(vec![job(2, &new_log)]).await;
    world.pass(SECOND * 20).await;
    assert!(new_log.count() > 0);
    assert_eq!(again.facts("a").await.definition.revision, 2);
}

#[tokio::test]
async fn a_removed_job_runs_no_more_and_a_run_of_it_may_end() {
    let (world, log) = (World::new(), Log::default());
    let says = log.clone();
    let clock = world.clock.clone();
    let job = Job::new("a", "every 5s").with_overlap(trine_scheduler::Overlap::QueueOne).run(
        move |ctx| {
            let (says, clock) = (says.clone(), clock.clone());
            async move {
                says.say("begins");
                trine_core::Clock::sleep_until(
                    &*clock,
                    trine_core::Clock::now(&*clock) + SECOND * 12,
                )
                .await;
                says.say(format!("ends {}", ctx.is_cancelled()));
                Ok::<(), std::io::Error>(())
            }
        },
    );
    let process = world.process(vec![job.unwrap()]).await;
    world.pass(SECOND * 11).await;
    let begun = log.count();
    assert!(begun >= 1);
    assert!(process.service.remove("a").await.unwrap());
    assert!(!process.service.remove("a").await.unwrap());
    world.pass(SECOND * 60).await;
    let ends = log.all().iter().filter(|said| *said == "ends false").count();
    let begins = log.all().iter().filter(|said| *said == "begins").count();
    assert_eq!((begins, ends), (1, 1), "{log:?}");
    assert!(process.service.job("a").await.unwrap().is_none());
    let ticks = process.ticks("a").await;
    assert!(ticks.iter().any(|tick| tick.state == TickState::Removed), "{ticks:?}");
    let ended = ticks.iter().find(|tick| tick.state == TickState::Succeeded);
    let ended = ended.unwrap_or_else(|| panic!("{ticks:?}"));
    assert_eq!(ended.attempts[0].end, Some(AttemptEnd::Succeeded));
    // A job of the same name begins anew.
    let again = process.service.register(idle("a", "every 10s", 1)).await.unwrap();
    assert_eq!(again, RegisterOutcome::Stored(Registered::New));
}

#[tokio::test]
async fn a_registration_that_is_dropped_goes_on() {
    let world = World::new();
    let process = world.process(Vec::new()).await;
    let mut registration = Box::pin(process.service.register(idle("a", "every 10s", 1)));
    let first = futures_util::poll!(&mut registration);
    assert!(first.is_pending());
    drop(registration);
    world.turn().await;
    assert!(process.facts("a").await.has_handler);
}

#[tokio::test]
async fn a_registration_that_fails_leaves_the_former_handler() {
    let (world, log) = (World::new(), Log::default());
    let process = world.process(vec![speaks("a", "every 10s", &log)]).await;
    process.way.set_away(true);
    let other = Log::default();
    let new = Job::new("a", "every 10s").with_revision(2).run({
        let other = other.clone();
        move |_| {
            other.say("runs");
            async { Ok::<(), std::io::Error>(()) }
        }
    });
    let error = process.service.register(new.unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    process.way.set_away(false);
    world.pass(SECOND * 30).await;
    assert!(log.count() >= 2 && other.count() == 0);
}
