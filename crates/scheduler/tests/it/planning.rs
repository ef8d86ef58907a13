//! What is planned, against a slow reference that goes from time to time.

mod ends;
mod reference;

use std::num::NonZeroU32;
use std::time::{Duration, SystemTime};

use trine_scheduler::planning::{self, MAX_STEP, Planned};
use trine_scheduler::{Misfire, Overlap, Progress, Schedule, Terms, TickState, Zones};

use crate::zones::{folder_with, set};
use crate::{schedule, time};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);

fn terms(text: &str, misfire: Misfire, overlap: Overlap) -> Terms {
    let mut terms = Terms::new(schedule(text, "UTC"));
    (terms.misfire, terms.overlap) = (misfire, overlap);
    terms
}

fn all(within: Duration, at_most: u32) -> Misfire {
    Misfire::All { within, at_most: NonZeroU32::new(at_most).unwrap() }
}

fn allow(at_most: u32) -> Overlap {
    Overlap::Allow { at_most: NonZeroU32::new(at_most).unwrap() }
}

/// The times of what was planned, with an `x` where it overlapped, and the next.
fn shown(planned: &Planned) -> String {
    let clock = |at: SystemTime| trine_core::Rfc3339(at).to_string()[11..19].to_owned();
    let ticks = planned.ticks.iter().map(|tick| {
        let mark = if tick.state == TickState::Overlapped { "x" } else { "" };
        format!("{}{mark} ", clock(tick.nominal))
    });
    let ticks: String = ticks.collect();
    format!("{ticks}next {}", planned.progress.next.map_or("never".into(), clock))
}

/// Plans a job at `now` that was to be planned from midnight on.
fn planned(terms: &Terms, open: u32, now: &str) -> String {
    let progress = planning::first(terms, time("2026-07-01T00:00:00Z")).unwrap();
    shown(&planning::plan(terms, &progress, open, time(&format!("2026-07-01T{now}Z"))))
}

#[test]
fn times_are_on_time_for_their_grace_and_missed_later() {
    use {Misfire::Once, Misfire::Skip};
    let hourly = |misfire| terms("every 1h", misfire, allow(9));
    for (misfire, now, expected) in [
        (Skip, "00:00:59.999999", "00:00:00 next 01:00:00"),
        (Skip, "00:01:00", "00:00:00 next 01:00:00"),
        (Skip, "00:01:00.000001", "next 01:00:00"),
        (Once, "00:01:00.000001", "00:00:00 next 01:00:00"),
        (Once, "03:59:59", "03:00:00 next 04:00:00"),
        // Another time is due on time.
        (Once, "04:00:00", "04:00:00 next 05:00:00"),
        (Once, "04:01:00.000001", "04:00:00 next 05:00:00"),
        (Skip, "04:01:00.000001", "next 05:00:00"),
        (all(HOUR * 2, 9), "04:30:00", "03:00:00 04:00:00 next 05:00:00"),
        (all(HOUR * 3, 9), "04:00:00", "01:00:00 02:00:00 03:00:00 04:00:00 next 05:00:00"),
        (all(HOUR * 9, 2), "04:30:00", "03:00:00 04:00:00 next 05:00:00"),
        (all(HOUR * 9, 9), "02:30:00", "00:00:00 01:00:00 02:00:00 next 03:00:00"),
        (all(SECOND, 9), "04:30:00", "next 05:00:00"),
        (all(Duration::MAX, 1), "04:30:00", "04:00:00 next 05:00:00"),
    ] {
        assert_eq!(planned(&hourly(misfire), 0, now), expected, "{misfire:?} at {now}");
    }
}

#[test]
fn what_is_due_beside_others_is_planned_as_overlap_says() {
    use {Misfire::Once, Overlap::QueueOne, Overlap::Skip};
    for (overlap, misfire, open, now, expected) in [
        (Skip, Once, 0, "00:00:40", "00:00:00 00:00:20x 00:00:40x next 00:01:00"),
        (Skip, Once, 1, "00:00:20", "00:00:00x 00:00:20x next 00:00:40"),
        (QueueOne, Once, 0, "00:00:40", "00:00:00 00:00:20 00:00:40x next 00:01:00"),
        (QueueOne, Once, 1, "00:00:20", "00:00:00 00:00:20x next 00:00:40"),
        (QueueOne, Once, 2, "00:00:20", "00:00:00x 00:00:20x next 00:00:40"),
        (allow(1), Once, 5, "00:00:20", "00:00:00 00:00:20 next 00:00:40"),
        (allow(1), Once, 1_000, "00:00:20", "00:00:00 00:00:20x next 00:00:40"),
        // Missed ones come one after the other.
        (
            Skip,
            all(HOUR, 2),
            0,
            "00:01:50",
            "00:00:20 00:00:40 00:01:00x 00:01:20x 00:01:40x next 00:02:00",
        ),
        (
            Skip,
            all(HOUR, 9),
            999,
            "00:01:30",
            "00:00:00 00:00:20x 00:00:40x 00:01:00x 00:01:20x next 00:01:40",
        ),
    ] {
        let terms = terms("every 20s", misfire, overlap);
        assert_eq!(planned(&terms, open, now), expected, "{overlap:?} {misfire:?} {open}");
    }
}

#[test]
fn a_job_that_runs_once_is_run_however_late_unless_it_is_skipped() {
    for (text, misfire, now, expected) in [
        ("once now", Misfire::Once, "00:00:00", "00:00:00 next never"),
        ("once now", Misfire::Once, "23:00:00", "00:00:00 next never"),
        ("once now", all(HOUR, 1), "00:30:00", "00:00:00 next never"),
        ("once now", all(HOUR, 1), "02:00:00", "next never"),
        ("once now", Misfire::Skip, "02:00:00", "next never"),
        ("once 2026-07-01T10:00:00Z", Misfire::Once, "09:00:00", "next 10:00:00"),
        ("once 2026-07-01T10:00:00Z", Misfire::Once, "11:00:00", "10:00:00 next never"),
        ("once 2026-07-01T10:00:00Z", all(HOUR, 1), "10:59:59", "10:00:00 next never"),
        ("once 2026-07-01T10:00:00Z", Misfire::Skip, "11:00:00", "next never"),
        // A delay is never missed.
        ("delay 1h", Misfire::Skip, "00:30:00", "next 01:00:00"),
        ("delay 1h", Misfire::Skip, "23:00:00", "01:00:00 next never"),
    ] {
        let terms = terms(text, misfire, Overlap::Skip);
        assert_eq!(planned(&terms, 0, now), expected, "{text} {misfire:?} at {now}");
    }
}

#[test]
fn jitter_moves_no_nominal_time() {
    for text in ["every 1h", "daily 02:30"] {
        let plain = terms(text, all(HOUR * 3, 9), allow(9));
        let mut late = plain.clone();
        late.schedule = late.schedule.with_jitter(HOUR * 24).unwrap();
        for now in ["02:30:00", "04:00:00", "23:30:00"] {
            assert_eq!(planned(&late, 0, now), planned(&plain, 0, now));
        }
    }
}

#[test]
fn a_fixed_time_is_planned_once_on_the_days_the_clocks_are_set() {
    for (day, due) in [("2026-03-29", "01:00:00"), ("2026-10-25", "00:30:00")] {
        let mut terms = Terms::new(schedule("daily 02:30", "Europe/Berlin"));
        terms.grace = HOUR;
        let mut progress = planning::first(&terms, time(&format!("{day}T00:00:00Z"))).unwrap();
        let mut made = Vec::new();
        for minute in 0..24 * 60 {
            let now = time(&format!("{day}T00:00:00Z")) + SECOND * 60 * minute;
            let planned = planning::plan(&terms, &progress, 0, now);
            made.extend(planned.ticks.iter().map(|tick| tick.nominal));
            progress = planned.progress;
        }
        assert_eq!(made, [time(&format!("{day}T{due}Z"))]);
    }
}

#[test]
fn a_year_of_missed_seconds_is_planned_in_bounded_time() {
    let year = HOUR * 24 * 365;
    let start = time("2026-01-01T00:00:00Z");
    let now = start + year;
    let began = tokio::time::Instant::now();
    for text in ["every 1s", "cron * * * * * *", "every 1ms", "cron */7 * * * * *; except sat sun"]
    {
        for misfire in [Misfire::Skip, Misfire::Once, all(year * 2, 100), all(year, u32::MAX)] {
            let terms = terms(text, misfire, allow(9));
            let mut progress = planning::first(&terms, start).unwrap();
            let (mut steps, mut made) = (0, 0);
            while progress.next.unwrap() <= now {
                let planned = planning::plan(&terms, &progress, 0, now);
                assert!(planned.ticks.len() <= MAX_STEP);
                (progress, steps, made) = (planned.progress, steps + 1, made + planned.ticks.len());
            }
            // Those in the minute of grace, and what is left of the others.
            assert!(steps <= 60_001 / MAX_STEP + 3 && made <= 60_001 + 100, "{text} {steps}");
        }
    }
    assert!(began.elapsed() < SECOND * 60, "{:?}", began.elapsed());
}

#[test]
fn all_takes_exactly_the_latest_within_its_window_and_cap() {
    let now = time("2026-07-01T12:00:00.000001Z");
    let start = now - HOUR * 24 * 30;
    for (text, period) in [("every 7s", 7), ("cron * * * * *", 60), ("cron 0 */5 * * * *", 300)] {
        for (within, at_most) in [(600, 50), (86_400, 99), (3_600, 3), (30 * 86_400, 100)] {
            let terms = terms(text, all(SECOND * within, at_most), allow(900));
            let progress = planning::first(&terms, start).unwrap();
            let planned = planning::plan(&terms, &progress, 0, now);
            let on_time = now - terms.grace;
            let missed = planned.ticks.iter().map(|tick| tick.nominal);
            let missed: Vec<_> = missed.filter(|at| *at < on_time).collect();
            let is_missed = |at: &SystemTime| *at < on_time;
            let times = terms.schedule.upcoming(now - SECOND * within);
            let expected: Vec<_> = times.take_while(is_missed).collect();
            let many = expected.len().saturating_sub(at_most as usize);
            assert_eq!(missed, expected[many..], "{text} {within} {at_most}");
            assert!(missed.windows(2).all(|two| two[1] - SECOND * period == two[0]));
        }
    }
}

// SC-10
#[test]
fn a_new_rule_moves_the_next_time_and_makes_none_twice() {
    for (rule, second, third) in [
        ("Africa/Lagos", "2026-07-02T01:30:00Z", "2026-07-03T01:30:00Z"),
        ("Europe/Moscow", "2026-07-01T23:30:00Z", "2026-07-02T23:30:00Z"),
    ] {
        for is_registered_again in [true, false] {
            let folder = folder_with("Europe/Berlin");
            let zones = Zones::in_folder(folder.path()).unwrap();
            let zone = zones.zone("Test/Zone").unwrap();
            let mut terms = Terms::new(Schedule::daily("02:30").unwrap().in_zone(zone).unwrap());
            terms.grace = HOUR * 2;
            let mut progress = planning::first(&terms, time("2026-06-30T12:00:00Z")).unwrap();
            let mut made = Vec::new();
            let mut now = time("2026-07-01T00:00:00Z");
            let mut changed = false;
            while now < time("2026-07-03T02:30:00Z") {
                if !changed && now >= time("2026-07-01T00:40:00Z") {
                    set(folder.path(), rule);
                    zones.reload();
                    changed = true;
                    if is_registered_again {
                        progress = planning::refreshed(&terms, &progress);
                        assert_eq!(progress.next, Some(time(second)));
                    }
                }
                let planned = planning::plan(&terms, &progress, 0, now);
                made.extend(planned.ticks.iter().map(|tick| tick.nominal));
                progress = planned.progress;
                now += SECOND * 600;
            }
            let expected = ["2026-07-01T00:30:00Z", second, third].map(time);
            assert_eq!(made, expected, "{rule} {is_registered_again}");
        }
    }
}

#[test]
fn a_new_rule_brings_back_nothing_from_before_the_job() {
    let folder = folder_with("Europe/Berlin");
    let zones = Zones::in_folder(folder.path()).unwrap();
    let zone = zones.zone("Test/Zone").unwrap();
    let daily = Terms::new(Schedule::daily("02:30").unwrap().in_zone(zone).unwrap());
    let progress = planning::first(&daily, time("2026-07-01T00:45:00Z")).unwrap();
    set(folder.path(), "Africa/Lagos");
    zones.reload();
    let refreshed = planning::refreshed(&daily, &progress);
    assert_eq!(refreshed, Progress::new(None, Some(time("2026-07-02T01:30:00Z"))));
    // What knows no clocks stays.
    for text in ["every 90s", "delay 10m", "once 2027-01-01T00:00:00Z", "once now"] {
        let mut other = daily.clone();
        other.schedule = text.parse().unwrap();
        let odd = Progress::new(None, Some(time("2026-07-02T00:00:01Z")));
        assert_eq!(planning::refreshed(&other, &odd), odd, "{text}");
    }
}

#[test]
fn a_new_rule_repeats_no_time_of_a_list() {
    let folder = folder_with("Europe/Berlin");
    let zones = Zones::in_folder(folder.path()).unwrap();
    let zone = zones.zone("Test/Zone").unwrap();
    let list = Schedule::cron("0,30 1,2 * * *").unwrap().in_zone(zone.clone()).unwrap();
    let hourly = Schedule::cron("0,30 * * * *").unwrap().in_zone(zone).unwrap();
    let plan = |schedule: &Schedule, progress: &Progress, now: &str| {
        planning::plan(&Terms::new(schedule.clone()), progress, 0, time(now))
    };
    let ran = |schedule: &Schedule| {
        let first = Progress::new(None, Some(time("2026-06-30T23:30:00Z")));
        plan(schedule, &first, "2026-06-30T23:30:00Z").progress
    };
    let (list_ran, hourly_ran) = (ran(&list), ran(&hourly));
    assert_eq!(list_ran.next, Some(time("2026-07-01T00:00:00Z")));
    // Half past one was; now the clocks show one o'clock again.
    set(folder.path(), "Africa/Lagos");
    zones.reload();
    let planned = plan(&list, &list_ran, "2026-07-01T00:00:00Z");
    assert_eq!(shown(&planned), "next 01:00:00");
    let planned = plan(&list, &planned.progress, "2026-07-01T01:00:00Z");
    assert_eq!(shown(&planned), "01:00:00 next 01:30:00");
    // What goes by elapsed time goes on.
    let planned = plan(&hourly, &hourly_ran, "2026-07-01T00:00:00Z");
    assert_eq!(shown(&planned), "00:00:00 next 00:30:00");
}

#[test]
fn what_clocks_of_another_zone_showed_holds_nothing_back() {
    let tokyo = Terms::new(schedule("daily 08:00", "Asia/Tokyo"));
    let berlin = Terms::new(schedule("daily 08:00", "Europe/Berlin"));
    let ran = time("2026-06-30T23:00:00Z");
    let progress = Progress::new(Some((ran, tokyo.schedule.local_time(ran))), None);
    let replaced = planning::replaced(&tokyo, &berlin, &progress, ran + SECOND).unwrap();
    let planned = planning::plan(&berlin, &replaced, 0, time("2026-07-01T06:00:00Z"));
    assert_eq!(shown(&planned), "06:00:00 next 06:00:00");
}
