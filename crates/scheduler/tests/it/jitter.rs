//! By how much a run is later than its nominal time.

use std::time::{Duration, SystemTime};

use trine_scheduler::Schedule;

use crate::time;

fn every_minute(jitter: Duration) -> Schedule {
    Schedule::every(Duration::from_secs(60)).unwrap().with_jitter(jitter).unwrap()
}

#[test]
fn a_run_is_later_by_less_than_the_jitter_and_evenly_spread() {
    let jitter = Duration::from_secs(30);
    let schedule = every_minute(jitter);
    let mut thirds = [0; 3];
    for (job, nominal) in (0..30_000).zip(schedule.upcoming(SystemTime::UNIX_EPOCH)) {
        let late = schedule.due(&format!("job:{job}"), nominal).duration_since(nominal).unwrap();
        assert!(late < jitter);
        thirds[usize::try_from(late.as_secs() / 10).unwrap()] += 1;
    }
    // A third of them is ten thousand, by chance within five hundred.
    assert!(thirds.iter().all(|third| (9_500..10_500).contains(third)), "{thirds:?}");
}

#[test]
fn jitter_is_that_of_the_job_and_its_nominal_time_for_ever() {
    let schedule = every_minute(Duration::from_secs(30));
    let nominal = time("2026-11-21T10:00:00Z");
    let late = |job, nominal| schedule.due(job, nominal).duration_since(nominal).unwrap();
    // Other values would let two versions of a process run at two times.
    assert_eq!(late("cleanup", nominal), Duration::from_millis(26_715));
    assert_eq!(late("report", nominal), Duration::from_millis(13_324));
    let next = nominal + Duration::from_secs(60);
    assert_ne!(late("cleanup", nominal), late("cleanup", next));
}

#[test]
fn without_jitter_a_run_is_due_at_its_nominal_time() {
    let nominal = time("2026-11-21T10:00:00Z");
    assert_eq!(every_minute(Duration::ZERO).due("cleanup", nominal), nominal);
    assert_eq!(every_minute(Duration::from_millis(1)).due("cleanup", nominal), nominal);
}
