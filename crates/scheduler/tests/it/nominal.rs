//! Which nominal times each kind of schedule has.

use std::time::{Duration, SystemTime};

use trine_scheduler::{InvalidSchedule, NeverDue, Schedule, Weekday};

use crate::{local_times, schedule, time};

#[test]
fn an_interval_keeps_its_grid_however_late_it_is_asked() {
    let five = Schedule::every(Duration::from_secs(300)).unwrap();
    for (after, expected) in [
        ("2026-11-21T10:02:03.5Z", "2026-11-21T10:05:00Z"),
        ("2026-11-21T10:04:59.999999999Z", "2026-11-21T10:05:00Z"),
        ("2026-11-21T10:05:00Z", "2026-11-21T10:10:00Z"),
        ("1969-06-01T00:00:00Z", "1970-01-01T00:00:00Z"),
    ] {
        assert_eq!(five.next_after(time(after)), Some(time(expected)), "{after}");
    }
    let anchor = time("2026-11-21T10:00:01.25Z");
    let odd = Schedule::every_from(anchor, Duration::from_millis(1_500)).unwrap();
    assert_eq!(odd.first_from(time("2000-01-01T00:00:00Z")), Ok(anchor));
    assert_eq!(odd.first_from(anchor), Ok(anchor));
    assert_eq!(odd.next_after(anchor), Some(time("2026-11-21T10:00:02.75Z")));
}

#[test]
fn a_delay_counts_from_the_end_of_the_last_run() {
    let delay = Schedule::delay(Duration::from_secs(60)).unwrap();
    let end = time("2026-11-21T10:00:07.0000001Z");
    let next = time("2026-11-21T10:01:07.000001Z");
    assert_eq!(delay.next_after(end), Some(next));
    assert_eq!(delay.first_from(end), Ok(next));
    assert_eq!(delay.upcoming(end).collect::<Vec<_>>(), [next]);
}

#[test]
fn once_is_due_once() {
    let at = time("2026-12-24T18:00:00Z");
    let once = Schedule::once(at).unwrap();
    let before = at - Duration::from_nanos(1);
    assert_eq!(once.first_from(before), Ok(at));
    assert_eq!(once.first_from(at), Ok(at));
    assert_eq!(once.upcoming(before).collect::<Vec<_>>(), [at]);
    assert_eq!(once.next_after(at), None);
    let error = once.first_from(at + Duration::from_millis(1)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "schedule `once 2026-12-24T18:00:00Z`: its time is over, it is 2026-12-24T18:00:00.001Z"
    );
    assert!(matches!(error, NeverDue::Past { .. }));

    let now = Schedule::once_now();
    assert_eq!(now.first_from(at), Ok(at));
    assert_eq!(now.next_after(at), None);
}

#[test]
fn nominal_times_are_whole_microseconds() {
    let odd = time("2026-12-24T18:00:00.123456789Z");
    let even = time("2026-12-24T18:00:00.123456Z");
    assert_eq!(Schedule::once(odd).unwrap().first_from(even), Ok(even));
    let now = Schedule::once_now().first_from(odd).unwrap();
    assert_eq!(now, time("2026-12-24T18:00:00.123457Z"));
    let grid = Schedule::every_from(odd, Duration::from_secs(1)).unwrap();
    assert_eq!(grid.first_from(SystemTime::UNIX_EPOCH), Ok(even));
}

#[test]
fn days_of_week_and_month_are_those_of_the_zone() {
    let (from, to) = ("2026-02-01T00:00:00Z", "2026-06-01T00:00:00Z");
    let times = |text| local_times(&schedule(text, "Pacific/Auckland"), from, to);
    assert_eq!(times("monthly 31 04:00"), ["31 04:00", "31 04:00"]);
    assert_eq!(times("monthly last_day 04:00"), ["28 04:00", "31 04:00", "30 04:00", "31 04:00"]);
    let weekly = times("weekly mon thu 00:00");
    assert_eq!(weekly[..4], ["02 00:00", "05 00:00", "09 00:00", "12 00:00"]);
    assert_eq!(times("cron 0 0 13 * FRI")[..3], ["06 00:00", "13 00:00", "20 00:00"]);
    assert_eq!(times("cron 0 0 1-31/2 4 *").len(), 15);
    assert_eq!(times("cron 0 0 * * 0"), times("cron 0 0 * * 7"));
}

#[test]
fn a_leap_day_is_waited_for() {
    let leap = schedule("cron 0 0 29 2 *", "UTC");
    let after = |text| leap.next_after(time(text)).unwrap();
    assert_eq!(after("2096-03-01T00:00:00Z"), time("2104-02-29T00:00:00Z"));
    // The first or the 29th that is also a Sunday: the fields begin with stars.
    let sunday = schedule("cron 0 0 */28 2 */7", "UTC");
    let after = |text| sunday.next_after(time(text)).unwrap();
    assert_eq!(after("2026-02-02T00:00:00Z"), time("2032-02-01T00:00:00Z"));
    assert_eq!(after("2032-02-01T00:00:00Z"), time("2032-02-29T00:00:00Z"));
}

#[test]
fn a_time_that_never_comes_is_refused() {
    for text in ["0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 31 2 */2", "*/5 * 30-31 2 *"] {
        let error = Schedule::cron(text).unwrap_err();
        let expected = format!("cron `{text}`: day of month, month and day of week never meet");
        assert_eq!(error.to_string(), expected);
    }
    // Or Monday, which comes.
    assert!(Schedule::cron("0 0 30 2 1").is_ok());
    // The second Sunday of March, between two and three, in New York.
    let skipped = schedule("cron * 2 8-14 3 */7", "America/New_York");
    let now = time("2026-01-01T00:00:00Z");
    assert_eq!(skipped.next_after(now), None);
    let error = skipped.first_from(now).unwrap_err();
    assert_eq!(
        error.to_string(),
        "schedule `cron * 2 8-14 3 */7; zone America/New_York`: no such time from \
         2026-01-01T00:00:00.000Z on"
    );
}

#[test]
fn the_calendar_ends() {
    let (end, never) = (time("9999-12-30T12:00:00Z"), Duration::MAX);
    for text in ["every 300d", "delay 300d", "monthly 1 00:00", "cron * * 1 * *", "once now"] {
        assert_eq!(schedule(text, "UTC").next_after(end), None, "{text}");
    }
    assert!(SystemTime::UNIX_EPOCH.checked_add(never).is_none());
    let beyond = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 40);
    for text in ["every 1s", "delay 1s", "daily 00:00", "cron * * * * *", "once now"] {
        assert_eq!(schedule(text, "UTC").next_after(beyond), None, "{text}");
    }
    let error = Schedule::once(beyond).unwrap_err().to_string();
    assert!(error.starts_with("time `"), "{error}");
    let before = SystemTime::UNIX_EPOCH - Duration::from_secs(1 << 40);
    for text in ["every 1s", "daily 00:00", "cron * * * * *"] {
        assert!(schedule(text, "Europe/Berlin").next_after(before).is_some(), "{text}");
    }
}

#[test]
fn constructors_name_the_field_that_is_wrong() {
    fn is_about<T>(made: Result<T, InvalidSchedule>, expected: &str) {
        match made {
            Err(InvalidSchedule::Field { field, .. }) => assert_eq!(field, expected),
            other => panic!("{expected}: {:?}", other.map(drop)),
        }
    }
    is_about(Schedule::every(Duration::ZERO), "interval");
    is_about(Schedule::every(Duration::MAX), "interval");
    is_about(Schedule::delay(Duration::from_nanos(1)), "delay");
    is_about(Schedule::daily("2:30"), "time of day");
    is_about(Schedule::weekly([], "02:30"), "weekdays");
    is_about(Schedule::weekly([Weekday::Monday], "24:00"), "time of day");
    is_about(Schedule::monthly(0, "02:30"), "day of month");
    is_about(Schedule::monthly(32, "02:30"), "day of month");
    let daily = || Schedule::daily("02:30").unwrap();
    is_about(daily().with_jitter(Duration::from_secs(86_401)), "jitter");
    is_about(daily().with_jitter(Duration::from_micros(1)), "jitter");
    assert!(matches!(daily().in_zone("Mars/Base"), Err(InvalidSchedule::Zone { .. })));
}

#[test]
fn schedules_are_shared_between_threads() {
    fn is_shared<T: Clone + std::fmt::Debug + Send + Sync + 'static>() {}
    is_shared::<Schedule>();
    is_shared::<trine_scheduler::Exclusions>();
    is_shared::<trine_scheduler::Zones>();
}
