//! What schedules and jobs take on the heap, in a process of their own: its
//! allocator counts.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]
#![allow(unsafe_code, reason = "a global allocator is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use trine_core::ManualClock;
use trine_scheduler::{Call, Definition, JobId, MemoryBackend, Schedule, SchedulerBackend, Terms};

struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const JOBS: usize = 100_000;

/// One test at a time: others in this process would be counted with it.
static ALONE: Mutex<()> = Mutex::new(());

/// A cron expression of its own.
fn expression(job: usize) -> String {
    let zone = ["UTC", "Europe/Berlin", "America/New_York"][job % 3];
    let (second, minute, hour) = (job % 60, job / 60 % 60, job / 3_600 % 24);
    let text = format!("{second} {minute},{second} {hour}-23/2 1-7,15 */2 MON-FRI");
    format!("cron {text}; zone {zone}; jitter 30s")
}

#[test]
fn a_hundred_thousand_cron_schedules_fit_into_a_third_of_64_mib() {
    let _alone = ALONE.lock();
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000);
    let before = IN_USE.load(Ordering::Relaxed);
    let schedules: Vec<_> = (0..JOBS)
        .map(|job| (format!("job:{job:028}"), expression(job).parse::<Schedule>().unwrap()))
        .collect();
    for (job, schedule) in &schedules {
        assert!(schedule.due(job, schedule.next_after(now).unwrap()) > now);
    }
    let used = IN_USE.load(Ordering::Relaxed) - before;
    println!("{} bytes a job of a name of 32, with its zones", used / JOBS);
    // The rest of the 64 MiB is for what runs them.
    assert!(used <= 64 * 1024 * 1024 / 3, "{used}");
}

#[test]
fn a_hundred_thousand_stored_cron_jobs_leave_an_eighth_of_64_mib() {
    let _alone = ALONE.lock();
    let before = IN_USE.load(Ordering::Relaxed);
    let clock = Arc::new(ManualClock::new());
    let store = MemoryBackend::open(&"scheduler.default".into(), clock);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (process, call) = (Arc::from("host:1:0"), Call::new("register"));
    let definitions: Vec<_> = (0..JOBS)
        .map(|job| {
            let id = JobId::new(format!("job:{job:028}")).unwrap();
            Arc::new(Definition::new(id, 1, Terms::new(expression(job).parse().unwrap())))
        })
        .collect();
    runtime.block_on(async {
        store.beat(call, &process, Duration::from_secs(60)).await.unwrap();
        let registered = store.register(call, &process, &definitions).await.unwrap();
        assert_eq!(registered.len(), JOBS);
    });
    let used = IN_USE.load(Ordering::Relaxed) - before;
    println!("{} bytes a job of a name of 32, with its definition and handler", used / JOBS);
    // For their handlers.
    assert!(used <= 64 * 1024 * 1024 / 8 * 7, "{used}");
}
