use std::future::{pending, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use trine::{Adopted, Error};
use trine_core::{BoxError, ErrorKind, Fault, HealthStatus, Intensity, Report, State};

use crate::fake::{Fake, Log, SECOND, container, lines};

async fn quiet(stop: CancellationToken) -> Result<(), BoxError> {
    stop.cancelled().await;
    Ok(())
}

// CO-07
#[tokio::test(start_paused = true)]
async fn readiness_goes_off_before_accepting_ends_and_services_stop_last() {
    let log = Log::default();
    let main = Fake::new("main", &log);
    let container = container([Adopted::from(main)]);
    let (signal, inner, said) = (Arc::new(Notify::new()), container.clone(), Arc::clone(&log));
    let server = |stop: CancellationToken| async move {
        while inner.ready().status == HealthStatus::Up || inner.state() != State::Draining {
            sleep(SECOND / 10).await;
        }
        let unready_at = Instant::now();
        assert!(!stop.is_cancelled(), "still accepting");
        stop.cancelled().await;
        assert!(unready_at.elapsed() >= SECOND * 4, "{:?}", unready_at.elapsed());
        sleep(SECOND * 2).await;
        said.lock().unwrap().push("drained".into());
        Ok::<(), BoxError>(())
    };
    let asked = Arc::clone(&signal);
    let ask = async {
        sleep(SECOND * 10).await;
        assert_eq!(container.ready().status, HealthStatus::Up);
        signal.notify_one();
    };
    let (ended, ()) =
        tokio::join!(container.serve(async move { asked.notified().await }, server), ask);
    ended.unwrap();
    assert_eq!(lines(&log), ["start main", "drained", "stop main"]);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_finishes_while_the_process_drains_does_not_make_it_ready() {
    let log = Log::default();
    let main = Fake::new("main", &log);
    *main.start_takes.lock().unwrap() = SECOND * 2;
    let container = container([Adopted::from(main)]);
    let inner = container.clone();
    let server = |stop: CancellationToken| async move {
        stop.cancelled().await;
        sleep(SECOND * 3).await;
        assert_eq!((inner.state(), inner.ready().status), (State::Draining, HealthStatus::Down));
        Ok::<(), BoxError>(())
    };
    let (started, served) = tokio::join!(container.start(), container.serve(sleep(SECOND), server));
    assert_eq!(started.unwrap_err().kind(), ErrorKind::Closed);
    served.unwrap();
    assert_eq!(lines(&log), ["start main", "stop main"]);
}

// CO-12
#[tokio::test(start_paused = true)]
async fn background_work_that_is_given_up_ends_the_run_with_its_error() {
    let log = Log::default();
    let container = container([Adopted::from(Fake::new("main", &log))]);
    container.tasks().supervise("loop", Intensity::default(), || async { panic!("on purpose") });
    let error = timeout(SECOND * 60, container.run(pending())).await.unwrap().unwrap_err();
    let Error::Task(failure) = &error else { panic!("{error:?}") };
    assert_eq!((&*failure.task, failure.panics), ("loop", 6));
    let report = Report(&error).to_string();
    assert!(report.starts_with("background work was given up: background task loop"), "{report}");
    assert_eq!(lines(&log), ["start main", "stop main"]);
}

// CO-12
#[tokio::test(start_paused = true)]
async fn a_required_service_that_fails_ends_the_run_with_its_reason() {
    let log = Log::default();
    let main = Fake::new("main", &log);
    let container = container([Adopted::from(Arc::clone(&main))]);
    let fails = async {
        sleep(SECOND * 5).await;
        main.set_health(HealthStatus::Down);
        main.enter(State::Failed);
        pending().await
    };
    let error = timeout(SECOND * 60, container.run(fails)).await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "main failed while it ran: the service is failed");
    assert_eq!(lines(&log), ["start main", "stop main"]);
}

#[tokio::test(start_paused = true)]
async fn a_signal_ends_a_start_that_waits() {
    let log = Log::default();
    let (main, late) = (Fake::new("main", &log), Fake::new("late", &log));
    late.refuse(ErrorKind::Unavailable);
    let container = container([Adopted::from(main), Adopted::from(late)]);
    let began = Instant::now();
    container.run(sleep(SECOND * 2)).await.unwrap();
    assert!(began.elapsed() < SECOND * 3, "no drain delay: it was never ready");
    assert_eq!(lines(&log), ["start main", "stop main"]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_start_stops_the_server() {
    let log = Log::default();
    let wrong = Fake::new("wrong", &log);
    wrong.refuse(ErrorKind::Denied);
    let ended = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&ended);
    let server = |stop: CancellationToken| async move {
        stop.cancelled().await;
        told.store(true, Ordering::Relaxed);
        Ok::<(), BoxError>(())
    };
    let error = container([Adopted::from(wrong)]).serve(pending(), server).await.unwrap_err();
    assert_eq!(Report(&error).to_string(), "wrong start: on purpose");
    assert!(ended.load(Ordering::Relaxed));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_ends_by_itself_ends_the_run() {
    let log = Log::default();
    let container = container([Adopted::from(Fake::new("main", &log))]);
    let server = |_| async {
        sleep(SECOND).await;
        Err("port taken")
    };
    let error = container.serve(pending(), server).await.unwrap_err();
    let report = Report(&error).to_string();
    assert_eq!(report, "the server ended before it was asked to: port taken");
    assert_eq!(lines(&log), ["start main", "stop main"]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_end_is_left_behind_after_its_time() {
    let log = Log::default();
    let container = container([Adopted::from(Fake::new("main", &log))]);
    let server = |_| async {
        pending::<()>().await;
        Ok::<(), BoxError>(())
    };
    let began = Instant::now();
    let error = container.serve(sleep(SECOND), server).await.unwrap_err();
    assert_eq!(error.to_string(), "shutdown: server: not stopped in time");
    assert!(began.elapsed() <= SECOND * 38, "{:?}", began.elapsed());
    assert_eq!(lines(&log), ["start main", "stop main"]);
}

#[tokio::test(start_paused = true)]
async fn a_run_without_services_ends_with_the_signal() {
    container([]).serve(ready(()), quiet).await.unwrap();
}

#[cfg(unix)]
#[tokio::test]
async fn the_process_is_asked_by_sigterm() {
    let signals = trine::signals().unwrap();
    let pid = rustix::process::getpid();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    timeout(SECOND * 10, signals).await.unwrap();
}
