use std::io::Error;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tokio::time::sleep;
use tokio_cron_scheduler::{Job as PeerJob, JobScheduler};
use trine_core::Deadline;
use trine_scheduler::{Job, Schedule};

use super::store::{STORES, scheduler};

const JOBS: u32 = 1_000;

const SECOND: Duration = Duration::from_secs(1);

/// Until the first time: by then all are registered.
const LEAD: u64 = 4;

/// How late each run began.
#[derive(Clone, Debug, Default)]
struct Late(Arc<Mutex<Vec<Duration>>>);

impl Late {
    fn add(&self, due: SystemTime) {
        let late = SystemTime::now().duration_since(due).unwrap_or_default();
        self.0.lock().expect("a list").push(late);
    }

    fn say(&self, store: &str, how: &str, seconds: u32, asked: &str) {
        let mut late = std::mem::take(&mut *self.0.lock().expect("a list"));
        late.sort_unstable();
        let at = |part: f64| {
            let place = (late.len() as f64 * part) as usize;
            late.get(place.min(late.len().saturating_sub(1))).copied().unwrap_or_default()
        };
        println!(
            "  {store:<22} {how:<18} {:>6} of {:>6} runs: p50 {:>9.2?} p99 {:>9.2?} max {:>9.2?}{asked}",
            late.len(),
            JOBS * seconds,
            at(0.5),
            at(0.99),
            at(1.0),
        );
    }
}

/// Measures how late runs begin of jobs that are due once a second: all of them
/// within each second, and all in the same moment.
pub(crate) async fn run(folder: &Path, seconds: u32) {
    println!("\n{JOBS} jobs that are due once a second, for {seconds} s: how late they begin");
    for store in STORES {
        within(store, folder, seconds).await;
    }
    for store in STORES {
        together(store, folder, seconds).await;
    }
    peer(seconds).await;
}

/// Returns a whole second in some seconds.
fn begin() -> SystemTime {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a time");
    SystemTime::UNIX_EPOCH + Duration::from_secs(now.as_secs() + LEAD)
}

async fn pass(from: SystemTime, seconds: u32) {
    let end = from + SECOND * seconds - SECOND / 20_000;
    sleep(end.duration_since(SystemTime::now()).unwrap_or_default()).await;
}

async fn within(store: &str, folder: &Path, seconds: u32) {
    let (late, from) = (Late::default(), begin());
    let jobs = (0..JOBS).map(|job| {
        let anchor = from + SECOND / JOBS * job;
        let schedule = Schedule::every_from(anchor, SECOND).expect("a schedule");
        late_job(job, schedule, &late, from, seconds)
    });
    let service = scheduler(store, folder, jobs.collect()).await;
    pass(from, seconds).await;
    sleep(SECOND).await;
    service.shutdown(Deadline::after(SECOND * 5)).await.expect("an end");
    late.say(store, "1 ms after another", seconds, ", asked p99 <= 20ms");
}

async fn together(store: &str, folder: &Path, seconds: u32) {
    let (late, from) = (Late::default(), begin());
    let jobs = (0..JOBS).map(|job| {
        let schedule = Schedule::cron("* * * * * *").expect("a schedule");
        late_job(job, schedule, &late, from, seconds)
    });
    let service = scheduler(store, folder, jobs.collect()).await;
    pass(from, seconds).await;
    sleep(SECOND).await;
    service.shutdown(Deadline::after(SECOND * 5)).await.expect("an end");
    late.say(store, "all in one moment", seconds, "");
}

/// Returns a job that tells how late it is, at times from `from` on.
fn late_job(job: u32, schedule: Schedule, late: &Late, from: SystemTime, seconds: u32) -> Job {
    let (late, times) = (late.clone(), from..from + SECOND * seconds);
    let job = Job::new(format!("job:{job:06}"), schedule).run(move |ctx| {
        if times.contains(&ctx.nominal()) {
            late.add(ctx.due());
        }
        async { Ok::<(), Error>(()) }
    });
    job.expect("a job")
}

/// The same jobs, all in one moment: its times are whole seconds.
async fn peer(seconds: u32) {
    let (late, from) = (Late::default(), begin());
    let end = from + SECOND * seconds;
    let mut scheduler = JobScheduler::new().await.expect("a scheduler");
    for _ in 0..JOBS {
        let (late, times) = (late.clone(), from..end);
        let job = PeerJob::new_async("* * * * * *", move |_, _| {
            let now = SystemTime::now();
            let since = now.duration_since(SystemTime::UNIX_EPOCH).expect("a time");
            // It does not tell the time that a run is for.
            let due = SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs());
            if times.contains(&due) {
                late.add(due);
            }
            Box::pin(async {})
        });
        scheduler.add(job.expect("a job")).await.expect("a place");
    }
    scheduler.start().await.expect("a start");
    pass(from, seconds).await;
    sleep(SECOND).await;
    scheduler.shutdown().await.expect("an end");
    late.say("tokio-cron-scheduler", "all in one moment", seconds, "");
}
