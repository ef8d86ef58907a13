use std::io::Error;
use std::path::Path;
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};
use trine_bench::spread;
use trine_core::{Deadline, Service};
use trine_scheduler::{Job, Schedule, SchedulerService};

use super::store::{STORES, scheduler};

/// Callers that trigger at once.
const CALLERS: usize = 256;

/// Until jobs that are due at once are due: by then all are registered.
const LEAD: Duration = Duration::from_secs(3);

const ASKED: [u32; 2] = [10_000, 2_000];

/// Measures triggers per second, from the first one until all have succeeded.
pub(crate) async fn run(folder: &Path, rounds: usize) {
    println!("\nJobs that do nothing, until all have succeeded, {rounds} rounds");
    for ((store, asked), count) in STORES.into_iter().zip(ASKED).zip([20_000, 4_000]) {
        let jobs = (0..count).map(|job| idle(job, "cron 0 0 1 1 *")).collect();
        let service = scheduler(store, folder, jobs).await;
        let mut rates = Vec::new();
        for _ in 0..rounds {
            rates.push(triggered(&service, count).await);
        }
        say(store, "triggered", rates, asked);
        service.shutdown(Deadline::after(Duration::from_secs(5))).await.expect("an end");
        let mut rates = Vec::new();
        for _ in 0..rounds.min(3) {
            rates.push(due_at_once(store, folder, count).await);
        }
        say(store, "due at once", rates, asked);
    }
}

fn say(store: &str, how: &str, rates: Vec<f64>, asked: u32) {
    let (low, middle, high) = spread(rates);
    println!("  {store:<14} {how:<12} {middle:>8.0}/s ({low:.0}-{high:.0}), asked >= {asked}");
}

async fn triggered(service: &SchedulerService, count: usize) -> f64 {
    let before = succeeded(service);
    let began = Instant::now();
    let callers = (0..CALLERS).map(|caller| {
        let service = service.clone();
        tokio::spawn(async move {
            for job in (caller..count).step_by(CALLERS) {
                service.trigger(name(job)).await.expect("a trigger");
            }
        })
    });
    join_all(callers).await;
    all_succeeded(service, before + count as u64).await;
    count as f64 / began.elapsed().as_secs_f64()
}

async fn due_at_once(store: &str, folder: &Path, count: usize) -> f64 {
    let due = SystemTime::now() + LEAD;
    let schedule = Schedule::once(due).expect("a schedule");
    let jobs = (0..count).map(|job| idle(job, schedule.clone())).collect();
    let service = scheduler(store, folder, jobs).await;
    let left = due.duration_since(SystemTime::now()).expect("registered in time");
    sleep(left).await;
    let began = Instant::now();
    all_succeeded(&service, count as u64).await;
    let took = began.elapsed();
    service.shutdown(Deadline::after(Duration::from_secs(5))).await.expect("an end");
    count as f64 / took.as_secs_f64()
}

fn idle<S: TryInto<Schedule, Error: Into<trine_scheduler::InvalidSchedule>>>(
    job: usize,
    schedule: S,
) -> Job {
    Job::new(name(job), schedule).run(|_| async { Ok::<(), Error>(()) }).expect("a job")
}

fn name(job: usize) -> String {
    format!("job:{job:06}")
}

async fn all_succeeded(service: &SchedulerService, count: u64) {
    while succeeded(service) < count {
        sleep(Duration::from_millis(1)).await;
    }
}

fn succeeded(service: &SchedulerService) -> u64 {
    let outcome = [("outcome", "succeeded")];
    service.metrics().counter("trine_scheduler_runs_total", &outcome).unwrap_or_default()
}
