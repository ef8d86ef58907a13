//! What exclusions skip.

use trine_scheduler::{Exclusions, NeverDue};

use crate::{local_times, schedule, time};

#[test]
fn an_excluded_time_is_skipped() {
    let (from, to) = ("2026-12-22T00:00:00Z", "2026-12-30T00:00:00Z");
    let times = |text| local_times(&schedule(text, "UTC"), from, to);
    assert_eq!(
        times("daily 12:00; except 2026-12-24..2026-12-26 sun"),
        ["22 12:00", "23 12:00", "28 12:00", "29 12:00"]
    );
    assert_eq!(
        times("every 6h; except 2026-12-23..2026-12-29 18:00..06:00"),
        ["22 06:00", "22 12:00"]
    );
    assert_eq!(
        times("cron 0 */8 * * *; except 2026-12-23..2026-12-29 00:00..08:00"),
        ["22 08:00", "22 16:00"]
    );
}

#[test]
fn exclusions_are_read_in_the_zone() {
    // Midnight in Auckland is noon of the day before in UTC.
    let daily = schedule("daily 00:30; except 2026-07-02 sat", "Pacific/Auckland");
    let times = local_times(&daily, "2026-06-30T00:00:00Z", "2026-07-05T00:00:00Z");
    assert_eq!(times, ["01 00:30", "03 00:30", "05 00:30"]);
    // A skipped time is due when the clocks are set, and that is not excluded.
    let berlin = schedule("daily 02:30; except 02:00..03:00", "Europe/Berlin");
    let next = berlin.next_after(time("2026-01-01T00:00:00Z"));
    assert_eq!(next, Some(time("2026-03-29T01:00:00Z")));
}

#[test]
fn what_the_clocks_show_again_before_the_end_of_an_exclusion_is_not_skipped() {
    let cron = schedule("cron */15 * * * *; except 00:00..02:00 02:30..04:00", "Europe/Berlin");
    let times = local_times(&cron, "2026-10-24T22:00:00Z", "2026-10-25T03:15:00Z");
    assert_eq!(times, ["25 02:00", "25 02:15", "25 02:00 again", "25 02:15 again", "25 04:00"]);
}

#[test]
fn a_delay_that_ends_in_an_exclusion_ends_with_it() {
    let delay = schedule("delay 10m; except 22:00..06:00 sun", "Europe/Berlin");
    let next = |after| delay.next_after(time(after)).unwrap();
    assert_eq!(next("2026-11-20T20:49:00Z"), time("2026-11-20T20:59:00Z"));
    assert_eq!(next("2026-11-20T20:50:00Z"), time("2026-11-21T05:00:00Z"));
    assert_eq!(next("2026-11-21T20:55:00Z"), time("2026-11-23T05:00:00Z"));
}

#[test]
fn what_is_excluded_for_ever_is_never_due() {
    let now = time("2026-01-01T00:00:00Z");
    for text in [
        "daily 02:30; except 02:00..03:00",
        "weekly sat 02:30; except sat",
        "cron * * * * * *; except 0001-01-01..9999-12-31",
        "cron 0 0 1 1 *; except 2026-01-01..9999-12-31",
        "every 1d; except 00:00..00:01",
        "every 1ms; except 2026-01-01..9999-12-31",
        "delay 1h; except 2026-01-01..9999-12-31",
        "once 2026-12-24T18:00:00Z; except 2026-12-24",
        "once now; except 2026-01-01",
    ] {
        let schedule = schedule(text, "UTC");
        assert_eq!(schedule.next_after(now), None, "{text}");
        let error = schedule.first_from(now).unwrap_err();
        let expected =
            format!("schedule `{text}`: every time from 2026-01-01T00:00:00.000Z on is excluded");
        assert_eq!(error.to_string(), expected);
        assert!(matches!(error, NeverDue::Excluded { .. }));
    }
}

#[test]
fn a_search_ends_whatever_is_excluded() {
    // Sixteen windows a day around all times that are meant.
    let mut calendar: Exclusions = "mon wed fri".parse().unwrap();
    for hour in 0..16_u8 {
        let at = |minute| trine_scheduler::TimeOfDay::new(hour, minute, 0).unwrap();
        calendar = calendar.with_times(at(10), at(20)).unwrap();
    }
    let cron = schedule("cron * 10-19 0-15 * * *", "Europe/Berlin").with_exclusions(calendar);
    assert_eq!(cron.next_after(time("2026-01-01T00:00:00Z")), None);
}

#[test]
fn what_comes_after_a_long_exclusion_is_found() {
    let daily = schedule("daily 12:00; except 2026-01-01..2199-12-31", "UTC");
    assert_eq!(daily.next_after(time("2026-01-01T00:00:00Z")), Some(time("2200-01-01T12:00:00Z")));
    let leap = schedule("cron 0 0 29 2 *; except mon tue wed thu fri sat", "UTC");
    // The next 29 February that is a Sunday.
    assert_eq!(leap.next_after(time("2032-03-01T00:00:00Z")), Some(time("2060-02-29T00:00:00Z")));
}
