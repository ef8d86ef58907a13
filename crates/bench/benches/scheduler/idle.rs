use std::io::Error;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_cron_scheduler::{Job as PeerJob, JobScheduler};
use trine_scheduler::{Job, Schedule};

use super::store::{STORES, scheduler};

/// What a process of its own is asked to measure.
pub(crate) const SUBJECT: &str = "--subject=";

const PEER: &str = "tokio-cron-scheduler";

const JOBS: usize = 100_000;

/// Longest time to register them.
const PATIENCE: Duration = Duration::from_secs(60);

/// What wakes after a registration is over by then.
const SETTLED: Duration = Duration::from_secs(3);

/// Measures what jobs take that are never due, each store in a process of its
/// own.
pub(crate) fn run(is_quick: bool) {
    println!("\n{JOBS} registered cron jobs, none of them due");
    let program = std::env::current_exe().expect("this program");
    for subject in STORES.into_iter().chain([PEER]) {
        let mut command = Command::new(&program);
        command.arg(format!("{SUBJECT}{subject}"));
        if is_quick {
            command.arg("--quick");
        }
        let status = command.status().expect("a process");
        assert!(status.success(), "{subject}: {status}");
    }
}

/// Measures one of them in this process.
pub(crate) async fn measure(subject: &str) {
    let is_quick = std::env::args().any(|arg| arg == "--quick");
    let span = Duration::from_secs(if is_quick { 5 } else { 20 });
    if subject == PEER {
        return measure_peer(span).await;
    }
    let folder = tempfile::tempdir_in(".").expect("a folder on the device under test");
    let service = scheduler(subject, folder.path(), vec![sample()]).await;
    let (before, began) = (resident(), Instant::now());
    for first in (0..JOBS).step_by(1_000) {
        let jobs = (first..first + 1_000).map(|number| {
            let schedule = format!("cron {}", expression(number));
            let schedule: Schedule = schedule.parse().expect("a schedule");
            let zone = ["UTC", "Europe/Berlin", "America/New_York"][number % 3];
            let schedule = schedule.in_zone(zone).expect("a zone");
            let job = Job::new(format!("job:{number:028}"), schedule);
            job.run(|_| async { Ok::<(), Error>(()) }).expect("a job")
        });
        service.register_all(jobs.collect()).await.expect("the jobs");
    }
    say(subject, JOBS, before, began.elapsed(), span, ", asked <= 64 MiB and <= 1 %").await;
}

async fn measure_peer(span: Duration) {
    let scheduler = JobScheduler::new().await.expect("a scheduler");
    scheduler.start().await.expect("a start");
    let (before, began) = (resident(), Instant::now());
    let mut count = 0;
    while count < JOBS && began.elapsed() < PATIENCE {
        let job = PeerJob::new_async(expression(count), |_, _| Box::pin(async {}));
        scheduler.add(job.expect("a job")).await.expect("a place");
        count += 1;
    }
    say(PEER, count, before, began.elapsed(), span, "").await;
}

async fn say(
    subject: &str,
    count: usize,
    before: u64,
    took: Duration,
    span: Duration,
    asked: &str,
) {
    sleep(SETTLED).await;
    let (used, began) = (processor_time(), Instant::now());
    sleep(span).await;
    let used = (processor_time() - used).as_secs_f64() / began.elapsed().as_secs_f64();
    let (now, mib) = (resident(), |bytes: u64| bytes as f64 / f64::from(1 << 20));
    println!(
        "  {subject:<22} {count} jobs in {:.1} s: resident {:.1} MiB more than {:.1}, {:.2} % of a core{asked}",
        took.as_secs_f64(),
        mib(now.saturating_sub(before)),
        mib(before),
        used * 100.0,
    );
}

fn sample() -> Job {
    let job = Job::new("sample", "cron 0 0 1 1 *; zone Europe/Berlin");
    job.run(|_| async { Ok::<(), Error>(()) }).expect("a job")
}

/// A cron expression of its own, in the first days of a year.
fn expression(job: usize) -> String {
    let (second, minute, hour) = (job % 60, job / 60 % 60, job / 3_600 % 24);
    format!("{second} {minute} {hour} 1-7 1 *")
}

/// Returns what of this process is in memory, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib * 1024
}

/// Returns for how long threads of this process have run.
fn processor_time() -> Duration {
    let threads = std::fs::read_dir("/proc/self/task").expect("threads");
    let ran = |thread: &Path| {
        let text = std::fs::read_to_string(thread.join("schedstat")).unwrap_or_default();
        text.split_whitespace().next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0)
    };
    Duration::from_nanos(threads.flatten().map(|thread| ran(&thread.path())).sum())
}
