use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use trine_bench::spread;
use trine_core::{Clock, ManualClock};
use trine_scheduler::{Call, Definition, JobId, PlanAnswer, SchedulerBackend, SqlBackend, Terms};

use super::store::database;

const JOBS: usize = 100_000;

const MINUTE: Duration = Duration::from_secs(60);

/// Measures how long the planner takes to make ticks that are all due at once.
pub(crate) async fn run(folder: &Path, rounds: usize) {
    let mut took = Vec::new();
    for _ in 0..rounds {
        took.push(plan(folder).await.as_secs_f64());
    }
    let (least, middle, most) = spread(took);
    println!("\n{JOBS} ticks that are due at once, made by the planner, {rounds} rounds");
    println!("  sqlite synced  {middle:.2} s ({least:.2}-{most:.2}), asked <= 8 s");
}

async fn plan(folder: &Path) -> Duration {
    let clock = Arc::new(ManualClock::new());
    let of_store: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
    let name = "scheduler.default".into();
    let store = SqlBackend::with_clock(&name, database(folder).await, of_store);
    let process: Arc<str> = "a".into();
    let definitions: Vec<_> = (0..JOBS)
        .map(|job| {
            let id = JobId::new(format!("job:{job:06}")).expect("a name");
            let schedule = "cron 30 * * * * *".parse().expect("a schedule");
            Arc::new(Definition::new(id, 1, Terms::new(schedule)))
        })
        .collect();
    let registered = store.register(Call::new("register"), &process, &definitions).await;
    assert_eq!(registered.expect("the jobs").len(), JOBS);
    clock.advance(MINUTE);
    let (began, mut planned) = (Instant::now(), 0);
    while planned < JOBS as u64 {
        let answer = store.plan(Call::new("plan"), &process, MINUTE, 1_000).await;
        let Ok(PlanAnswer::Planned { ticks, .. }) = answer else { panic!("{answer:?}") };
        assert!(ticks > 0, "{planned} planned");
        planned += ticks;
    }
    began.elapsed()
}
