//! The suite over the store in this process, and what is true of it only.

use std::sync::Arc;
use std::time::Duration;

use trine_core::{Claim, Clock, LeaseTerms, ManualClock, Metrics, Renewal};
use trine_scheduler::conformance::Fixture;
use trine_scheduler::{
    AttemptEnd, Call, Capabilities, Definition, Finish, FinishOutcome, JobId, MemoryBackend,
    Observed, PlanAnswer, SchedulerBackend, Terms,
};

const SECOND: Duration = Duration::from_secs(1);

/// A store, and its clock.
fn store(clock: ManualClock) -> (MemoryBackend, Arc<ManualClock>) {
    let clock = Arc::new(clock);
    let clone = Arc::<ManualClock>::clone(&clock);
    (MemoryBackend::open(&Fixture::NAME.into(), clone), clock)
}

async fn connect() -> Fixture {
    let (store, clock) = store(ManualClock::new());
    let metrics = Metrics::new("scheduler");
    let backend = move || Arc::new(Observed::new(store.beside(), &metrics)) as _;
    Fixture::new(backend, ()).with_clock(clock)
}

/// Over a clock that goes by itself, as that of a server does.
async fn connect_real() -> Fixture {
    let (store, _) = store(ManualClock::with_rate(1.0));
    Fixture::new(move || Arc::new(store.beside()) as _, ())
}

trine_scheduler::conformance_tests!(suite, super::connect);
trine_scheduler::conformance_tests!(real, super::connect_real);

fn call() -> Call {
    Call::new("test")
}

fn job(name: &str, schedule: &str) -> Arc<Definition> {
    let terms = Terms::new(schedule.parse().unwrap());
    Arc::new(Definition::new(JobId::new(name).unwrap(), 1, terms))
}

// CO-18
#[tokio::test]
async fn a_wall_clock_that_is_set_moves_schedules_and_no_lease() {
    for hours in [-30_i32, 30] {
        let (store, clock) = store(ManualClock::new());
        let (a, b) = (Arc::from("a"), Arc::from("b"));
        let jobs = [job("x", "once now"), job("y", "every 1h")];
        for process in [&a, &b] {
            store.beat(call(), process, SECOND * 20).await.unwrap();
            store.register(call(), process, &jobs).await.unwrap();
        }
        store.plan(call(), &a, SECOND * 10, 9).await.unwrap();
        let held = store.claim(call(), &a, SECOND * 10, 1).await.unwrap().ticks;
        let jump = SECOND * 3_600 * hours.unsigned_abs();
        let wall = clock.wall();
        clock.set_wall(if hours < 0 { wall - jump } else { wall + jump });
        clock.advance(SECOND * 9);

        assert!(
            store
                .claim(call(), &b, SECOND, 9)
                .await
                .unwrap()
                .ticks
                .iter()
                .all(|tick| { tick.job != jobs[0].id })
        );
        let other = store.plan(call(), &b, SECOND, 9).await.unwrap();
        let PlanAnswer::Other { retry_in, now, .. } = other else { panic!("{other:?}") };
        assert_eq!((retry_in, now), (SECOND, clock.wall()));
        assert_eq!(store.overview(call()).await.unwrap().without_handler, 0);
        let terms = LeaseTerms::new(SECOND, SECOND / 10).unwrap();
        let claim = Claim::new(held[0].fence.clone(), terms);
        assert_eq!(store.renew(call(), &[claim]).await.unwrap(), [Renewal::Renewed]);
        clock.advance(SECOND);
        let planned = store.plan(call(), &b, SECOND, 9).await.unwrap();
        let PlanAnswer::Planned { ticks, .. } = planned else { panic!("{planned:?}") };
        assert_eq!(ticks, u64::from(hours > 0), "the hourly one, by the new time");
        let taken = store.claim(call(), &b, SECOND, 9).await.unwrap().ticks;
        assert_eq!(taken.iter().find(|tick| tick.job == jobs[0].id).unwrap().attempt, 2);
        clock.advance(SECOND * 10);
        assert_eq!(store.overview(call()).await.unwrap().without_handler, 2);
    }
}

#[tokio::test]
async fn ten_thousand_triggers_take_a_second() {
    const JOBS: usize = 1_000;
    let (store, clock) = store(ManualClock::new());
    let process = Arc::from("a");
    store.beat(call(), &process, SECOND * 60).await.unwrap();
    let jobs: Vec<_> = (0..JOBS).map(|number| job(&format!("job:{number}"), "every 1s")).collect();
    store.register(call(), &process, &jobs).await.unwrap();
    let began = tokio::time::Instant::now();
    for _ in 0..10 {
        let planned = store.plan(call(), &process, SECOND * 60, 5_000).await.unwrap();
        assert!(matches!(planned, PlanAnswer::Planned { ticks, .. } if ticks as usize == JOBS));
        for _ in 0..JOBS / 100 {
            let held = store.claim(call(), &process, SECOND * 60, 100).await.unwrap().ticks;
            let end = |tick| Finish::new(tick, AttemptEnd::Succeeded, None);
            let ends: Vec<_> = held.iter().map(end).collect();
            let outcomes = store.finish(call(), &ends).await.unwrap();
            assert_eq!(outcomes, vec![FinishOutcome::Finished; 100]);
        }
        clock.advance(SECOND);
    }
    let took = began.elapsed();
    println!("{:.0} triggers a second", (JOBS * 10) as f64 / took.as_secs_f64());
    assert!(took < SECOND * 5, "{took:?}");
}

#[tokio::test]
async fn calls_are_counted_with_their_outcomes() {
    let (store, _) = store(ManualClock::new());
    let metrics = Metrics::new("scheduler");
    let store = Observed::new(store, &metrics);
    let process = Arc::from("a");
    store.beat(call(), &process, SECOND).await.unwrap();
    store.beat(call(), &process, SECOND).await.unwrap();
    store.trigger(call(), &JobId::new("secret").unwrap()).await.unwrap_err();
    drop(store.claim(call(), &process, SECOND, 1));
    let text = metrics.snapshot().to_prometheus();
    for (operation, outcome, count) in [("beat", "ok", 2), ("trigger", "not_found", 1)] {
        let line = format!(
            "operations_total{{backend=\"memory\",operation=\"{operation}\",outcome=\"{outcome}\"}} {count}\n"
        );
        assert!(text.contains(&line), "{line}{text}");
    }
    assert!(text.contains("operation_duration_seconds") && !text.contains("secret"), "{text}");
    assert_eq!(store.capabilities(), Capabilities::local());
    assert_eq!(store.name(), "memory");
}
