use std::sync::Arc;

use tokio::time::{Instant, sleep};
use trine::{Adopted, Builder, Loader};
use trine_core::{Health, HealthStatus, ManualClock, Service, State};

use crate::fake::{Fake, Log, SECOND, container, soon};

const UP: HealthStatus = HealthStatus::Up;
const DEGRADED: HealthStatus = HealthStatus::Degraded;
const DOWN: HealthStatus = HealthStatus::Down;

// CO-09
#[tokio::test(start_paused = true)]
async fn a_storm_of_an_optional_service_never_makes_the_process_unready() {
    let log = Log::default();
    let (cache, main) = (Fake::new("cache", &log), Fake::new("main", &log));
    let container =
        container([Adopted::from(Arc::clone(&cache)).optional(), Arc::clone(&main).into()]);
    container.start().await.unwrap();
    sleep(SECOND).await;
    cache.set_health(DOWN);
    for _ in 0..100 {
        sleep(SECOND / 10).await;
        assert_eq!(container.ready().status, UP);
    }
    let health = container.health().await;
    assert_eq!((health.status, health.error.as_deref()), (DEGRADED, Some("cache: fake is down")));
    assert_eq!(health.details["cache"]["status"], "down");
    assert_eq!(health.details["cache"]["required"], false);
    cache.set_health(UP);
    sleep(SECOND * 4).await;
    assert_eq!(container.health().await.status, UP);
    container.shutdown(soon()).await.unwrap();
}

// CO-09
#[tokio::test(start_paused = true)]
async fn a_required_service_takes_readiness_down_after_three_checks_and_back() {
    let log = Log::default();
    let main = Fake::new("main", &log);
    let container = container([Adopted::from(Arc::clone(&main))]);
    container.start().await.unwrap();
    sleep(SECOND * 2).await;
    main.set_health(DOWN);
    sleep(SECOND * 2).await;
    assert_eq!(container.ready().status, UP, "two checks are no verdict");
    sleep(SECOND * 2).await;
    let ready = container.ready();
    assert_eq!((ready.status, ready.error.as_deref()), (DOWN, Some("down: main")));
    assert_eq!(container.live().status, UP, "a restart would not help");
    main.set_health(UP);
    sleep(SECOND * 4).await;
    assert_eq!(container.ready().status, UP);
    container.shutdown(soon()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_check_that_hangs_delays_no_other_and_is_bounded() {
    let log = Log::default();
    let stuck = ["stuck", "hung"].map(|name| Fake::new(name, &log));
    let main = Fake::new("main", &log);
    let all = stuck.iter().chain([&main]).map(|fake| Adopted::from(Arc::clone(fake)));
    let container = container(all);
    container.start().await.unwrap();
    main.set_health(DEGRADED);
    for fake in &stuck {
        *fake.health_takes.lock().unwrap() = SECOND * 1_000;
    }
    sleep(SECOND * 15).await;
    let began = Instant::now();
    let health = container.health().await;
    assert!(began.elapsed() <= SECOND * 3, "{:?}", began.elapsed());
    assert_eq!(health.status, DOWN);
    assert_eq!(health.details["main"]["status"], "degraded");
    for name in ["stuck", "hung"] {
        assert_eq!(health.details[name]["error"], "no answer within 3s");
    }
    container.shutdown(soon()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn readiness_follows_the_life_of_the_process() {
    let log = Log::default();
    let main = Fake::new("main", &log);
    let container = container([Adopted::from(main)]);
    let seen = |health: Health| (health.status, health.error);
    assert_eq!(seen(container.live()), (UP, None));
    assert_eq!(seen(container.ready()), (DOWN, Some("the process is created".into())));
    assert_eq!(container.health().await.status, DOWN);
    container.start().await.unwrap();
    assert_eq!(seen(container.ready()), (UP, None));
    container.shutdown(soon()).await.unwrap();
    assert_eq!(seen(container.live()), (UP, None));
    assert_eq!(seen(container.ready()), (DOWN, Some("the process is closed".into())));
}

// CO-18
#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_an_hour_changes_nothing() {
    let log = Log::default();
    let (main, clock) = (Fake::new("main", &log), ManualClock::new());
    let mut builder = Builder::new().with_clock(Arc::new(clock.clone()));
    builder.adopt(Adopted::from(Arc::clone(&main)));
    let container = builder.configure(&Loader::new()).unwrap().build().unwrap();
    container.start().await.unwrap();
    for _ in 0..20 {
        clock.advance(SECOND * 3_600);
        sleep(SECOND / 4).await;
        assert_eq!((container.live().status, container.ready().status), (UP, UP));
    }
    assert_eq!(main.state(), State::Running);
    let stalls = container.metrics().counter("trine_runtime_stalls_total", &[]);
    assert!(stalls.unwrap() > 0, "the jump is seen where suspend is meant to count");
    let began = Instant::now();
    container.shutdown(soon()).await.unwrap();
    assert!(began.elapsed() < SECOND);
}

// CO-17
#[tokio::test]
async fn a_runtime_that_is_held_up_is_not_live() {
    let loader = Loader::new().with_defaults("[container]\nlive_timeout = '1s'");
    let container = Builder::new().configure(&loader).unwrap().build().unwrap();
    container.start().await.unwrap();
    sleep(SECOND / 2).await;
    assert_eq!(container.live().status, UP);
    let hog = Instant::now();
    while hog.elapsed() < SECOND * 2 {
        std::hint::spin_loop();
    }
    assert_eq!(container.live().status, DOWN);
    while container.live().status == DOWN {
        sleep(SECOND / 100).await;
    }
    container.shutdown(soon()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn metrics_of_all_services_are_one_snapshot() {
    let log = Log::default();
    let (a, b) = (Fake::new("fake.a", &log), Fake::new("fake", &log));
    a.metrics.counter("calls_total", "Calls.", &[]).add(3);
    b.metrics.counter("calls_total", "Calls.", &[]).add(5);
    let container = container([Adopted::from(a), Adopted::from(b)]);
    container.start().await.unwrap();
    let all = container.metrics();
    let count = |instance| all.counter("trine_fake_calls_total", &[("instance", instance)]);
    assert_eq!((count("a"), count("default")), (Some(3), Some(5)));
    assert_eq!(all.gauge("trine_container_ready", &[]), Some(1.0));
    assert_eq!(all.gauge("trine_container_service_up", &[("service", "fake.a")]), Some(1.0));
    container.reset_metrics();
    let all = container.metrics();
    let labels = [("instance", "a")];
    assert_eq!(all.counter("trine_fake_calls_total", &labels), Some(0));
    assert_eq!(all.counter_total("trine_fake_calls_total", &labels), Some(3));
    container.shutdown(soon()).await.unwrap();
    assert_eq!(container.metrics().gauge("trine_container_ready", &[]), Some(0.0));
}
