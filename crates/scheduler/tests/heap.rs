//! What a schedule takes on the heap, in a process of its own: its allocator
//! counts.
#![allow(clippy::unwrap_used)]
#![allow(unsafe_code, reason = "a global allocator is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use trine_scheduler::Schedule;

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

// One test: others in this process would be counted with it.
#[test]
fn a_hundred_thousand_cron_schedules_fit_into_a_third_of_64_mib() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000);
    let before = IN_USE.load(Ordering::Relaxed);
    let schedules: Vec<_> = (0..JOBS)
        .map(|job| {
            let zone = ["UTC", "Europe/Berlin", "America/New_York"][job % 3];
            let (second, minute, hour) = (job % 60, job / 60 % 60, job / 3_600 % 24);
            let text = format!("{second} {minute},{second} {hour}-23/2 1-7,15 */2 MON-FRI");
            let text = format!("cron {text}; zone {zone}; jitter 30s");
            (format!("job:{job:028}"), text.parse::<Schedule>().unwrap())
        })
        .collect();
    for (job, schedule) in &schedules {
        assert!(schedule.due(job, schedule.next_after(now).unwrap()) > now);
    }
    let used = IN_USE.load(Ordering::Relaxed) - before;
    println!("{} bytes a job of a name of 32, with its zones", used / JOBS);
    // The rest of the 64 MiB is for what runs them.
    assert!(used <= 64 * 1024 * 1024 / 3, "{used}");
}
