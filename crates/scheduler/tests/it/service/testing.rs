//! What tests of hosts stand on.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use trine_core::Clock;
use trine_scheduler::{AttemptEnd, Job, TickState, testing};

use crate::support::{Log, SECOND, speaks};

const DAY: Duration = Duration::from_secs(86_400);

#[tokio::test]
async fn a_month_passes_and_everything_runs_in_its_order() {
    let log = Log::default();
    let jobs = [
        speaks("daily", "daily 02:00", &log),
        speaks("weekly", "weekly mon 02:30", &log),
        speaks("monthly", "monthly 1 04:00", &log),
    ];
    let scheduler = testing::scheduler(jobs).await.unwrap();
    let began = scheduler.now();
    scheduler.advance(DAY * 31).await;
    assert_eq!(scheduler.now(), began + DAY * 31);
    assert_eq!(scheduler.count("daily", TickState::Succeeded).await.unwrap(), 31);
    assert_eq!(scheduler.count("weekly", TickState::Succeeded).await.unwrap(), 4);
    assert_eq!(scheduler.succeeded("monthly").await.unwrap().len(), 1);
    // Each ran at its time, and in its order.
    for job in ["daily", "weekly", "monthly"] {
        for tick in scheduler.ticks(job).await.unwrap() {
            assert_eq!(tick.attempts[0].began, tick.nominal, "{tick:?}");
        }
    }
    assert_eq!(log.all()[..6], ["daily 1"; 6].map(str::to_owned));
    assert_eq!(log.all()[6], "weekly 1");
}

#[tokio::test]
async fn an_endless_run_meets_its_time_out_while_the_clock_moves() {
    let endless = Job::new("endless", "once now")
        .with_timeout(SECOND * 60)
        .run(|_| std::future::pending::<Result<(), std::io::Error>>());
    let scheduler = testing::scheduler([endless.unwrap()]).await.unwrap();
    scheduler.advance(SECOND * 120).await;
    let tick = scheduler.ticks("endless").await.unwrap().remove(0);
    assert_eq!(tick.attempts[0].end, Some(AttemptEnd::TimedOut));
    assert_eq!(tick.attempts[0].took, Some(SECOND * 65), "and its grace");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_on_other_threads_are_waited_for() {
    let times = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&times);
    let job = Job::new("a", "every 1h").blocking(move |ctx| {
        std::thread::park_timeout(Duration::from_millis(2));
        noted.lock().unwrap().push(ctx.nominal());
        Ok::<(), std::io::Error>(())
    });
    let scheduler = testing::scheduler([job.unwrap()]).await.unwrap();
    let began = scheduler.clock().wall();
    scheduler.advance(DAY).await;
    assert!(times.lock().unwrap().is_sorted());
    assert_eq!(scheduler.succeeded("a").await.unwrap(), *times.lock().unwrap());
    assert!(times.lock().unwrap().len() >= 24 && times.lock().unwrap()[0] >= began);
}
