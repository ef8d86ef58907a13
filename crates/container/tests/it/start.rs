use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep, timeout};
use trine::{Adopted, Error, Need};
use trine_core::{Deadline, ErrorKind, Fault, HealthStatus, Report, Service, State};

use crate::fake::{Fake, Log, SECOND, container, lines, soon};

fn chain(count: usize, log: &Log) -> (Vec<Arc<Fake>>, Vec<Adopted>) {
    let fakes: Vec<_> = (1..=count).map(|n| Fake::new(&format!("n{n}"), log)).collect();
    let adopted = fakes.iter().enumerate().map(|(place, fake)| {
        let adopted = Adopted::from(Arc::clone(fake));
        match place.checked_sub(1) {
            Some(before) => adopted.needing(need_of(&fakes[before])),
            None => adopted,
        }
    });
    let adopted = adopted.collect();
    (fakes, adopted)
}

fn need_of(fake: &Arc<Fake>) -> Need {
    Adopted::from(Arc::clone(fake)).need()
}

// CO-01
#[tokio::test(start_paused = true)]
async fn a_failure_stops_what_had_started_in_reverse_and_once() {
    let log = Log::default();
    let (fakes, adopted) = chain(10, &log);
    fakes[6].refuse(ErrorKind::Denied);
    let container = container(adopted);
    let error = container.start().await.unwrap_err();
    let Error::Start { service, kind, rollback, .. } = &error else { panic!("{error:?}") };
    assert_eq!((&**service, *kind, rollback.len()), ("n7", ErrorKind::Denied, 0));
    assert_eq!(Report(&error).to_string(), "n7 start: on purpose");
    let up = (1..=6).map(|n| format!("start n{n}"));
    let expected: Vec<_> = up.chain((1..=6).rev().map(|n| format!("stop n{n}"))).collect();
    assert_eq!(lines(&log), expected);
    assert_eq!(container.state(), State::Closed);
    container.shutdown(soon()).await.unwrap();
    assert_eq!(lines(&log), expected, "nothing is stopped twice");
    assert!(fakes[7..].iter().all(|fake| fake.starts.load(Ordering::Relaxed) == 0));
}

#[tokio::test(start_paused = true)]
async fn independent_services_start_side_by_side_and_others_in_order() {
    let log = Log::default();
    let fakes: Vec<_> = ["a", "b", "c"].map(|name| Fake::new(name, &log)).into();
    fakes.iter().for_each(|fake| *fake.start_takes.lock().unwrap() = SECOND);
    let last = Adopted::from(Arc::clone(&fakes[2])).needing(need_of(&fakes[0]));
    let container = container([last, Arc::clone(&fakes[1]).into(), Arc::clone(&fakes[0]).into()]);
    let began = Instant::now();
    container.start().await.unwrap();
    assert_eq!(began.elapsed(), SECOND * 2);
    assert_eq!(lines(&log).last().unwrap(), "start c");
    container.shutdown(soon()).await.unwrap();
    let stopped = lines(&log);
    let place = |line: &str| stopped.iter().position(|found| found == line).unwrap();
    assert!(place("stop c") < place("stop a"));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_not_up_in_time_is_named() {
    let log = Log::default();
    let slow = Fake::new("slow", &log);
    slow.refuse(ErrorKind::Unavailable);
    let adopted = Adopted::from(Arc::clone(&slow)).with_start_timeout(SECOND * 3);
    let container = container([adopted]);
    let began = Instant::now();
    let error = container.start().await.unwrap_err();
    assert_eq!(Report(&error).to_string(), "slow start: not up within 3s: on purpose");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(began.elapsed() <= SECOND * 4);
    assert!(slow.starts.load(Ordering::Relaxed) > 2, "it is tried again meanwhile");
}

#[tokio::test(start_paused = true)]
async fn a_start_that_hangs_is_cut_off() {
    let log = Log::default();
    let stuck = Fake::new("stuck", &log);
    *stuck.start_takes.lock().unwrap() = SECOND * 1_000;
    let container = container([Adopted::from(stuck).with_start_timeout(SECOND)]);
    let error = timeout(SECOND * 10, container.start()).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::StartTimedOut { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_panics_does_not_keep_the_others_running() {
    let log = Log::default();
    let (fakes, adopted) = chain(2, &log);
    fakes[1].panics.store(true, Ordering::Relaxed);
    let error = container(adopted).start().await.unwrap_err();
    assert_eq!(Report(&error).to_string(), "n2 start: the service panicked");
    assert_eq!(lines(&log), ["start n1", "stop n1"]);
}

// CO-10
#[tokio::test(start_paused = true)]
async fn a_dependency_that_comes_up_late_is_waited_for() {
    let log = Log::default();
    let late = Fake::new("late", &log);
    late.refuse(ErrorKind::Unavailable);
    let container = container([Adopted::from(Arc::clone(&late)).with_start_timeout(SECOND * 90)]);
    let began = Instant::now();
    let comes_up = async {
        sleep(SECOND * 60).await;
        assert_eq!(container.live().status, HealthStatus::Up);
        assert_eq!(container.ready().status, HealthStatus::Down);
        late.accept();
    };
    let (started, ()) = tokio::join!(container.start(), comes_up);
    started.unwrap();
    assert!(began.elapsed() <= SECOND * 62, "{:?}", began.elapsed());
    assert_eq!(container.ready().status, HealthStatus::Up);
}

// CO-10
#[tokio::test(start_paused = true)]
async fn an_optional_service_that_is_away_holds_nothing_up_and_comes_later() {
    let log = Log::default();
    let (away, main) = (Fake::new("away", &log), Fake::new("main", &log));
    away.refuse(ErrorKind::Unavailable);
    let container =
        container([Adopted::from(Arc::clone(&away)).optional(), Arc::clone(&main).into()]);
    container.start().await.unwrap();
    sleep(SECOND * 60).await;
    let health = container.health().await;
    assert_eq!(health.status, HealthStatus::Degraded);
    assert_eq!(health.error.as_deref(), Some("away: on purpose"));
    assert_eq!(container.ready().status, HealthStatus::Up);
    assert_eq!(container.status().services[0].error.as_deref(), Some("on purpose"));

    away.accept();
    let began = Instant::now();
    while away.state() != State::Running && began.elapsed() < SECOND * 60 {
        sleep(SECOND / 100).await;
    }
    assert!(began.elapsed() <= SECOND * 3, "{:?}", began.elapsed());
    assert_eq!(container.health().await.status, HealthStatus::Up);
    container.shutdown(soon()).await.unwrap();
    assert_eq!(lines(&log).iter().filter(|line| *line == "stop away").count(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_needs_an_optional_service_waits_for_its_first_attempt_only() {
    let log = Log::default();
    let (away, main) = (Fake::new("away", &log), Fake::new("main", &log));
    away.refuse(ErrorKind::Unavailable);
    *away.start_takes.lock().unwrap() = SECOND * 2;
    let main = Adopted::from(main).needing(need_of(&away));
    let container = container([Adopted::from(away).optional(), main]);
    let began = Instant::now();
    container.start().await.unwrap();
    assert_eq!(began.elapsed(), SECOND * 2);
}

#[tokio::test(start_paused = true)]
async fn an_optional_service_that_is_misconfigured_is_fatal() {
    let log = Log::default();
    let (wrong, slow) = (Fake::new("wrong", &log), Fake::new("slow", &log));
    wrong.refuse(ErrorKind::Invalid);
    *slow.start_takes.lock().unwrap() = SECOND;
    let container = container([Adopted::from(wrong).optional(), slow.into()]);
    let error = container.start().await.unwrap_err();
    assert_eq!(
        (error.kind(), Report(&error).to_string()),
        (ErrorKind::Invalid, "wrong start: on purpose".into())
    );
}

#[tokio::test(start_paused = true)]
async fn an_optional_service_that_fails_later_is_started_again() {
    let log = Log::default();
    let flaky = Fake::new("flaky", &log);
    let container = container([Adopted::from(Arc::clone(&flaky)).optional()]);
    container.start().await.unwrap();
    sleep(SECOND).await;
    flaky.enter(State::Failed);
    sleep(SECOND * 3).await;
    assert_eq!(flaky.state(), State::Running);
    assert_eq!(flaky.starts.load(Ordering::Relaxed), 2);
    container.shutdown(soon()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_dropped_start_is_carried_on_by_the_next() {
    let log = Log::default();
    let (fakes, adopted) = chain(2, &log);
    *fakes[1].start_takes.lock().unwrap() = SECOND * 2;
    let container = container(adopted);
    assert!(Deadline::after(SECOND).limit(container.start()).await.is_none());
    container.start().await.unwrap();
    assert_eq!(lines(&log), ["start n1", "start n2"]);
    container.shutdown(soon()).await.unwrap();
    assert_eq!(container.start().await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_a_start() {
    let log = Log::default();
    let (fakes, adopted) = chain(2, &log);
    *fakes[1].start_takes.lock().unwrap() = SECOND * 1_000;
    let container = container(adopted);
    let stop = async {
        sleep(SECOND).await;
        container.shutdown(soon()).await
    };
    let (started, stopped) = tokio::join!(container.start(), stop);
    assert_eq!(started.unwrap_err().kind(), ErrorKind::Closed);
    stopped.unwrap();
    assert_eq!(lines(&log), ["start n1", "stop n1"]);
}

#[tokio::test(start_paused = true)]
async fn concurrent_starts_and_stops_happen_once() {
    let log = Log::default();
    let (_, adopted) = chain(3, &log);
    let container = container(adopted);
    let starts = join_all((0..10).map(|_| container.start())).await;
    assert!(starts.into_iter().all(|started| started.is_ok()));
    let stops = join_all((0..10).map(|_| container.shutdown(soon()))).await;
    assert!(stops.into_iter().all(|stopped| stopped.is_ok()));
    assert_eq!(lines(&log), ["start n1", "start n2", "start n3", "stop n3", "stop n2", "stop n1"]);
}

#[tokio::test(start_paused = true)]
async fn failures_while_stopping_are_gathered_and_bounded() {
    let log = Log::default();
    let (fakes, adopted) = chain(3, &log);
    let container = container(adopted);
    container.start().await.unwrap();
    fakes[0].refuse(ErrorKind::Internal);
    *fakes[2].shutdown_takes.lock().unwrap() = SECOND * 1_000;
    let began = Instant::now();
    let error = container.shutdown(soon()).await.unwrap_err();
    assert_eq!(error.to_string(), "shutdown: n3: not stopped in time; n1: on purpose");
    assert!(began.elapsed() <= SECOND * 13, "{:?}", began.elapsed());
    assert_eq!(lines(&log)[3..], ["stop n3", "stop n2", "stop n1"]);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_waits_for_another_no_longer_than_its_deadline() {
    let log = Log::default();
    let (slow, quick) = (Fake::new("slow", &log), Fake::new("quick", &log));
    *slow.shutdown_takes.lock().unwrap() = SECOND * 500;
    let slow = Adopted::from(slow).with_shutdown_timeout(SECOND * 1_000);
    let container = container([slow, quick.into()]);
    container.start().await.unwrap();
    let second = async {
        sleep(SECOND).await;
        let began = Instant::now();
        let error = container.shutdown(Deadline::after(SECOND)).await.unwrap_err();
        assert_eq!(error.to_string(), "shutdown: slow: not stopped in time");
        assert!(began.elapsed() <= SECOND * 5, "{:?}", began.elapsed());
    };
    let (first, ()) = tokio::join!(container.shutdown(Deadline::after(SECOND * 1_000)), second);
    first.unwrap();
    assert_eq!(container.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_whose_deadline_has_passed_still_ends_a_start() {
    let log = Log::default();
    let (fakes, adopted) = chain(2, &log);
    *fakes[1].start_takes.lock().unwrap() = SECOND * 1_000;
    let container = container(adopted);
    let stop = async {
        sleep(SECOND).await;
        container.shutdown(Deadline::after(Duration::ZERO)).await
    };
    let (started, stopped) = tokio::join!(container.start(), stop);
    assert_eq!(started.unwrap_err().kind(), ErrorKind::Closed);
    stopped.unwrap();
    assert_eq!(lines(&log), ["start n1", "stop n1"]);
}

#[tokio::test(start_paused = true)]
async fn the_hosts_own_work_ends_before_the_services() {
    let log = Log::default();
    let main = Fake::new("main", &log);
    let container = container([Adopted::from(main)]);
    container.start().await.unwrap();
    let (token, said) = (container.tasks().token(), Arc::clone(&log));
    let work = async move {
        token.cancelled().await;
        sleep(SECOND).await;
        said.lock().unwrap().push("work ended".into());
    };
    container.tasks().spawn("work", work);
    container.shutdown(soon()).await.unwrap();
    assert_eq!(lines(&log), ["start main", "work ended", "stop main"]);
}
