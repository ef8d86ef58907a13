//! How a job goes on after the end of a tick, a pause or another definition.

use std::num::NonZeroU32;
use std::time::{Duration, SystemTime};

use trine_scheduler::planning::{self, Ended};
use trine_scheduler::{AttemptEnd, Progress, Terms, TickKind, TickState};

use super::{HOUR, SECOND};
use crate::{schedule, time};

fn terms(text: &str) -> Terms {
    Terms::new(schedule(text, "UTC"))
}

fn noon() -> SystemTime {
    time("2026-07-01T12:00:00Z")
}

fn failed() -> AttemptEnd {
    AttemptEnd::Failed { error: "no".into() }
}

#[test]
fn failures_of_planned_ticks_in_a_row_pause_a_job() {
    use {TickKind::Planned, TickKind::Triggered, TickState::Failed, TickState::Succeeded};
    let mut terms = terms("every 1h");
    terms.pause_after = NonZeroU32::new(3);
    let progress = planning::first(&terms, noon()).unwrap();
    for (before, kind, state, failures, is_paused) in [
        (0, Planned, Failed, 1, false),
        (1, Planned, Failed, 2, false),
        (2, Planned, Failed, 3, true),
        (u32::MAX, Planned, Failed, u32::MAX, true),
        (2, Planned, Succeeded, 0, false),
        (2, Triggered, Failed, 2, false),
        (2, Triggered, Succeeded, 2, false),
        (3, Triggered, Failed, 3, false),
    ] {
        let ended = Ended { kind, state, open: 0 };
        let finished = planning::finished(&terms, &progress, before, ended, noon());
        assert_eq!((finished.failures, finished.is_paused), (failures, is_paused), "{ended:?}");
        assert_eq!(finished.progress, progress);
    }
    terms.pause_after = None;
    let ended = Ended { kind: Planned, state: Failed, open: 0 };
    assert!(!planning::finished(&terms, &progress, 999, ended, noon()).is_paused);
    assert_eq!(planning::pause_note(1), "it failed once");
    assert_eq!(planning::pause_note(3), "it failed 3 times in a row");
}

#[test]
fn a_delay_goes_on_after_the_last_that_is_open() {
    let terms = terms("delay 10m");
    let waits = Progress::new(Some((noon(), terms.schedule.local_time(noon()))), None);
    let later = noon() + HOUR;
    for (open, kind, progress, next) in [
        (0, TickKind::Planned, waits, Some(later + SECOND * 600)),
        (0, TickKind::Triggered, waits, Some(later + SECOND * 600)),
        (1, TickKind::Planned, waits, None),
        (0, TickKind::Triggered, Progress::new(None, Some(noon())), Some(noon())),
    ] {
        for state in [TickState::Succeeded, TickState::Failed] {
            let ended = Ended { kind, state, open };
            let finished = planning::finished(&terms, &progress, 0, ended, later);
            assert_eq!(finished.progress, Progress::new(progress.last, next), "{ended:?}");
        }
    }
}

#[test]
fn an_attempt_ends_a_tick_or_has_it_wait() {
    use {TickState::Failed, TickState::Removed, TickState::Succeeded, TickState::Waiting};
    let wait = Some(SECOND);
    for (end, retry_in, state, removed) in [
        (AttemptEnd::Succeeded, None, Succeeded, Succeeded),
        (AttemptEnd::Succeeded, wait, Succeeded, Succeeded),
        (failed(), None, Failed, Failed),
        (failed(), wait, Waiting, Failed),
        (AttemptEnd::TimedOut, wait, Waiting, Failed),
        (AttemptEnd::Panicked { message: "".into() }, None, Failed, Failed),
        (AttemptEnd::HandedOver, None, Waiting, Removed),
        (AttemptEnd::HandedOver, wait, Waiting, Removed),
    ] {
        assert_eq!(planning::attempted(&end, retry_in, false), state, "{end:?} {retry_in:?}");
        assert_eq!(planning::attempted(&end, retry_in, true), removed, "{end:?} {retry_in:?}");
    }
}

#[test]
fn a_lost_tick_is_taken_over_so_often() {
    let mut terms = terms("every 1h");
    let ends = [AttemptEnd::Lost, failed(), AttemptEnd::HandedOver, AttemptEnd::Lost];
    for (takeovers, is_taken_over) in [(0, false), (1, false), (2, true), (u32::MAX, true)] {
        terms.takeovers = takeovers;
        assert_eq!(planning::is_taken_over(&terms, &ends), is_taken_over, "{takeovers}");
    }
    terms.takeovers = 0;
    assert!(!planning::is_taken_over(&terms, &ends[..1]));
}

#[test]
fn what_passed_in_a_pause_is_passed_over_but_for_the_only_time() {
    let now = noon() + Duration::from_nanos(500);
    for (text, next, expected) in [
        ("every 1h", "2026-07-01T03:00:00Z", "2026-07-01T12:00:00Z"),
        ("every 1h", "2026-07-01T12:00:00Z", "2026-07-01T12:00:00Z"),
        ("every 1h", "2026-07-01T13:00:00Z", "2026-07-01T13:00:00Z"),
        ("daily 11:59", "2026-06-03T11:59:00Z", "2026-07-02T11:59:00Z"),
        ("delay 1h", "2026-07-01T03:00:00Z", "2026-07-01T12:00:00Z"),
        ("delay 1h", "2026-07-01T12:30:00Z", "2026-07-01T12:30:00Z"),
        ("once now", "2026-07-01T03:00:00Z", "2026-07-01T03:00:00Z"),
        ("once 2026-07-01T03:00:00Z", "2026-07-01T03:00:00Z", "2026-07-01T03:00:00Z"),
    ] {
        let terms = terms(text);
        let last = Some((time("2026-06-01T00:00:00Z"), terms.schedule.local_time(noon())));
        let resumed = planning::resumed(&terms, &Progress::new(last, Some(time(next))), now);
        assert_eq!(resumed, Progress::new(last, Some(time(expected))), "{text}");
        let over = Progress::new(last, None);
        assert_eq!(planning::resumed(&terms, &over, now), over);
    }
}

#[test]
fn another_schedule_begins_anew_and_the_same_goes_on() {
    let now = noon() + SECOND;
    let last = |at: &str| {
        let at = time(at);
        Some((at, terms("every 1h").schedule.local_time(at)))
    };
    let missed = Some("2026-07-01T03:00:00Z");
    let ran = "2026-07-01T12:00:00Z";
    for (old, new, next, ran, expected) in [
        ("every 1h", "every 1h", missed, ran, missed),
        ("delay 1h", "delay 1h", None, ran, None),
        ("every 1h", "every 2h", missed, ran, Some("2026-07-01T14:00:00Z")),
        ("every 1h", "daily 12:00", missed, ran, Some("2026-07-02T12:00:00Z")),
        ("every 1h", "every 1h; jitter 1s", missed, ran, Some("2026-07-01T13:00:00Z")),
        ("every 1h", "once now", missed, ran, Some("2026-07-01T12:00:01Z")),
        ("every 1h", "delay 1h", missed, ran, Some("2026-07-01T13:00:01Z")),
        // The run of a delay that goes on is waited for.
        ("delay 1h", "delay 2h", None, ran, None),
        ("delay 1h", "delay 2h", missed, ran, Some("2026-07-01T14:00:01Z")),
        ("delay 1h", "every 1h", None, ran, Some("2026-07-01T13:00:00Z")),
        ("once now", "delay 1h", None, ran, Some("2026-07-01T13:00:01Z")),
        // Of this very moment there is a tick.
        ("once now", "every 1s", None, "2026-07-01T12:00:01Z", Some("2026-07-01T12:00:02Z")),
        (
            "once now",
            "once now; jitter 1s",
            None,
            "2026-07-01T12:00:01Z",
            Some("2026-07-01T12:00:01.000001Z"),
        ),
    ] {
        let progress = Progress::new(last(ran), next.map(time));
        let replaced = planning::replaced(&terms(old), &terms(new), &progress, now).unwrap();
        assert_eq!(replaced.next, expected.map(time), "{old} to {new}");
        assert_eq!(replaced.last, progress.last);
    }
    let past = terms("once 2026-07-01T03:00:00Z");
    let progress = Progress::default();
    assert!(planning::replaced(&terms("every 1h"), &past, &progress, now).is_err());
    assert!(planning::replaced(&past, &past, &progress, now).is_ok());
    assert!(planning::first(&past, now).is_err());
}

#[test]
fn a_job_is_done_when_nothing_comes_and_nothing_is_open() {
    for (text, next, open, is_done) in [
        ("once now", None, 0, true),
        ("once now", None, 1, false),
        ("once now", Some(noon()), 0, false),
        ("delay 1h", None, 0, false),
        ("every 1h", Some(noon()), 0, false),
    ] {
        let progress = Progress::new(None, next);
        assert_eq!(planning::is_done(&terms(text), &progress, open), is_done, "{text} {open}");
    }
}
