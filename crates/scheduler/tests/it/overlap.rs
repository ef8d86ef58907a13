//! SC-12: what begins when, as the table of `Overlap` has it.

use std::num::NonZeroU32;
use std::time::{Duration, SystemTime};

use trine_scheduler::planning::{self, Ended};
use trine_scheduler::{Overlap, Progress, Terms, TickKind, TickState};

use crate::time;

/// Runs take 10 s and are planned each second; returns in which seconds they
/// begin.
fn begins(overlap: Overlap, until: u64) -> Vec<u64> {
    let start = time("2026-01-01T00:00:00Z");
    let mut terms = Terms::new("every 3s from 2026-01-01T00:00:00Z".parse().unwrap());
    terms.overlap = overlap;
    let mut progress = planning::first(&terms, start).unwrap();
    let (mut waiting, mut running, mut begun) = (0_u32, Vec::<u64>::new(), Vec::new());
    for second in 0..=until {
        let now = start + Duration::from_secs(second);
        while running.first().is_some_and(|began| began + 10 == second) {
            running.remove(0);
            progress = end(&terms, progress, waiting + running.len() as u32, now);
        }
        let planned = planning::plan(&terms, &progress, waiting + running.len() as u32, now);
        progress = planned.progress;
        let made = planned.ticks.iter().filter(|tick| tick.state == TickState::Waiting).count();
        waiting += made as u32;
        while waiting > 0 && (running.len() as u32) < overlap.concurrency() {
            waiting -= 1;
            running.push(second);
            begun.push(second);
        }
    }
    begun
}

fn end(terms: &Terms, progress: Progress, open: u32, now: SystemTime) -> Progress {
    let ended = Ended { kind: TickKind::Planned, state: TickState::Succeeded, open };
    planning::finished(terms, &progress, 0, ended, now).progress
}

#[test]
fn runs_begin_as_the_table_of_overlap_has_it() {
    let four = NonZeroU32::new(4).unwrap();
    assert_eq!(begins(Overlap::Skip, 40), [0, 12, 24, 36]);
    assert_eq!(begins(Overlap::QueueOne, 40), [0, 10, 20, 30, 40]);
    let all: Vec<u64> = (0..=40).step_by(3).collect();
    assert_eq!(begins(Overlap::Allow { at_most: four }, 40), all);
    // Two at once take half as many, and the others wait.
    let two = Overlap::Allow { at_most: NonZeroU32::new(2).unwrap() };
    assert_eq!(begins(two, 40), [0, 3, 10, 13, 20, 23, 30, 33, 40]);
}

#[test]
fn there_is_room_for_what_overlap_lets_wait() {
    let mut terms = Terms::new("every 3s".parse().unwrap());
    let most = planning::MAX_WAITING;
    for (overlap, room) in [
        (Overlap::Skip, 1),
        (Overlap::QueueOne, 2),
        (Overlap::Allow { at_most: NonZeroU32::MIN }, 1 + most),
        (Overlap::Allow { at_most: NonZeroU32::MAX }, u32::MAX),
    ] {
        terms.overlap = overlap;
        assert!(planning::has_room(&terms, room - 1) && !planning::has_room(&terms, room));
    }
}
