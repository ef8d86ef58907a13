use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, sleep};
use trine::{Adopted, Builder, Loader};
use trine_core::{
    BoxError, BoxFault, Claim, Clock, ErrorKind, Fence, Health, HealthStatus, LeaseKeeper,
    LeaseTerms, Leases, ManualClock, Renewal, Service, State,
};

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

/// A store of leases that always answers.
#[derive(Debug)]
struct Willing;

#[async_trait::async_trait]
impl Leases for Willing {
    async fn renew(&self, batch: &[Claim]) -> Result<Vec<Renewal>, BoxFault> {
        Ok(vec![Renewal::Renewed; batch.len()])
    }

    async fn release(&self, _: &[Claim]) -> Result<(), BoxFault> {
        Ok(())
    }
}

/// What is seen of a process, and when after its beginning.
#[derive(Debug, PartialEq)]
struct Seen {
    /// Renewals, what remains of the lease, and tries to start the service that
    /// is away; one entry a second.
    running: Vec<(u64, Duration, u32)>,
    unready_at: Duration,
    drained_at: Duration,
    ended_at: Duration,
}

/// Runs a process with a lease, a service that is tried again and again and a
/// drain of 5 s, while the wall clock is moved by `jump` every 100 ms.
async fn seen_under(jump: fn(SystemTime, u32) -> SystemTime) -> Seen {
    let log = Log::default();
    let (main, away) = (Fake::new("main", &log), Fake::new("away", &log));
    away.refuse(ErrorKind::Unavailable);
    let clock = ManualClock::with_rate(1.0);
    let mut builder = Builder::new().with_clock(Arc::new(clock.clone()));
    builder.adopt(main);
    builder.adopt(Adopted::from(Arc::clone(&away)).optional());
    let loader = Loader::new().with_defaults("[container]\ndrain_delay = '5s'");
    let container = builder.configure(&loader).unwrap().build().unwrap();
    let keeper = LeaseKeeper::spawn(container.tasks(), Arc::new(Willing), Arc::new(clock.clone()));
    let terms = LeaseTerms::new(SECOND * 3, SECOND / 2).unwrap();
    let lease = keeper.hold(Claim::new(Fence::new("job", 1).unwrap(), terms), clock.now());

    let began = Instant::now();
    let (mut running, mut unready_at, drained_at) = (Vec::new(), None, Cell::new(None));
    let drained = &drained_at;
    let serve = container.serve(sleep(SECOND * 30 + SECOND / 20), |stop| async move {
        stop.cancelled().await;
        drained.set(Some(began.elapsed()));
        Ok::<(), BoxError>(())
    });
    let watch = async {
        for round in 0.. {
            sleep(SECOND / 10).await;
            let wall = clock.wall();
            clock.set_wall(jump(wall, round));
            assert_eq!(clock.wall(), jump(wall, round));
            let is_ready = container.ready().status == UP;
            if is_ready && round % 10 == 0 {
                let starts = away.starts.load(Ordering::Relaxed);
                running.push((keeper.stats().renewed, lease.remaining(), starts));
            }
            if !is_ready && unready_at.is_none() {
                unready_at = Some(began.elapsed());
            }
            assert!(lease.is_held() || container.state() != State::Running);
        }
    };
    tokio::select! {
        ended = serve => ended.unwrap(),
        () = watch => {}
    }
    let ended_at = began.elapsed();
    let (unready_at, drained_at) = (unready_at.unwrap(), drained_at.get().unwrap());
    Seen { running, unready_at, drained_at, ended_at }
}

// CO-18
#[tokio::test(start_paused = true)]
async fn a_jump_of_the_wall_clock_moves_nothing() {
    const HOUR: Duration = Duration::from_secs(3_600);
    let still = seen_under(|wall, _| wall).await;
    assert_eq!(still.running.len(), 30);
    assert!(still.running.last().unwrap().0 >= 20, "{still:?}");
    let drained_in = still.drained_at - (SECOND * 30 + SECOND / 20);
    assert!(drained_in >= SECOND * 5 && drained_in < SECOND * 6, "{still:?}");
    // The waits between the tries have their own chance.
    let timed = |seen: Seen| {
        let running = seen.running.into_iter().map(|(renewed, left, _)| (renewed, left));
        (running.collect::<Vec<_>>(), seen.unready_at, seen.drained_at, seen.ended_at)
    };
    let tries = |seen: &Seen| seen.running.last().unwrap().2;
    let back_and_forth =
        seen_under(|wall, round| if round % 2 == 0 { wall - HOUR } else { wall + HOUR }).await;
    let forward = seen_under(|wall, _| wall + HOUR).await;
    for seen in [&still, &back_and_forth, &forward] {
        // About one a second; a wait that a jump had ended or begun anew would
        // leave hundreds, or two or three.
        assert!((10..=100).contains(&tries(seen)), "{seen:?}");
    }
    let still = timed(still);
    assert_eq!(timed(back_and_forth), still);
    assert_eq!(timed(forward), still);
}

// CO-18
#[tokio::test(start_paused = true)]
async fn an_hour_of_suspend_leaves_the_process_ready() {
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
