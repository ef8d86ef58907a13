//! The table of `Schedule`, and corners of other zones.

use crate::{local_times, schedule};

/// Asserts the local times in Berlin on the days the clocks are set.
fn assert_in_berlin(text: &str, spring: &[&str], autumn: &[&str]) {
    let schedule = schedule(text, "Europe/Berlin");
    // From just before midnight until 05:00 of the same day.
    let found = local_times(&schedule, "2026-03-28T22:59:59Z", "2026-03-29T03:00:00Z");
    let expected: Vec<_> = spring.iter().map(|at| format!("29 {at}")).collect();
    assert_eq!(found, expected, "{text} in spring");
    let found = local_times(&schedule, "2026-10-24T21:59:59Z", "2026-10-25T04:00:00Z");
    let expected: Vec<_> = autumn.iter().map(|at| format!("25 {at}")).collect();
    assert_eq!(found, expected, "{text} in autumn");
}

#[test]
fn a_fixed_time_that_the_clocks_skip_is_due_once_when_they_are_set() {
    for text in ["daily 02:30", "cron 30 2 * * *", "weekly sun 02:30", "cron 30 2 * * SUN"] {
        assert_in_berlin(text, &["03:00"], &["02:30"]);
    }
    assert_in_berlin("cron 0,15,30,45 2 * * *", &["03:00"], &["02:00", "02:15", "02:30", "02:45"]);
    assert_in_berlin("monthly 29 02:30", &["03:00"], &[]);
}

#[test]
fn a_fixed_time_that_the_clocks_show_twice_is_due_at_the_first() {
    assert_in_berlin("monthly 25 02:30", &[], &["02:30"]);
    assert_in_berlin(
        "cron 0,30 2,3 * * *",
        &["03:00", "03:30"],
        &["02:00", "02:30", "03:00", "03:30"],
    );
    let daily = schedule("daily 02:30", "Europe/Berlin");
    let first = local_times(&daily, "2026-10-25T00:29:59Z", "2026-10-25T12:00:00Z");
    let second = local_times(&daily, "2026-10-25T00:30:00Z", "2026-10-25T12:00:00Z");
    assert_eq!((first.len(), second.len()), (1, 0));
}

#[test]
fn a_repeating_expression_is_due_whenever_the_clocks_show_a_time_of_it() {
    assert_in_berlin(
        "cron 30 * * * *",
        &["00:30", "01:30", "03:30", "04:30"],
        &["00:30", "01:30", "02:30", "02:30 again", "03:30", "04:30"],
    );
    assert_in_berlin("cron */30 2 * * *", &[], &["02:00", "02:30", "02:00 again", "02:30 again"]);
    assert_in_berlin(
        "cron 0 */2 * * *",
        &["00:00", "04:00"],
        &["00:00", "02:00", "02:00 again", "04:00"],
    );
    assert_in_berlin(
        "cron 0 1-3 * * *",
        &["01:00", "03:00"],
        &["01:00", "02:00", "02:00 again", "03:00"],
    );
}

#[test]
fn an_interval_knows_no_local_time() {
    assert_in_berlin(
        "every 1h",
        &["00:00", "01:00", "03:00", "04:00"],
        &["00:00", "01:00", "02:00", "02:00 again", "03:00", "04:00"],
    );
}

#[test]
fn clocks_are_also_set_by_half_an_hour_at_midnight_and_by_a_day() {
    let (from, to) = ("2026-10-03T12:00:00Z", "2026-10-05T12:00:00Z");
    let lord_howe = schedule("daily 02:15", "Australia/Lord_Howe");
    assert_eq!(local_times(&lord_howe, from, to), ["04 02:30", "05 02:15"]);

    let (from, to) = ("2026-04-03T12:00:00Z", "2026-04-05T12:00:00Z");
    let lord_howe = schedule("daily 01:45", "Australia/Lord_Howe");
    assert_eq!(local_times(&lord_howe, from, to), ["04 01:45", "05 01:45"]);

    // The clocks of Havana skip the first hour of a Sunday.
    let (from, to) = ("2026-03-07T12:00:00Z", "2026-03-09T12:00:00Z");
    let havana = schedule("daily 00:00", "America/Havana");
    assert_eq!(local_times(&havana, from, to), ["08 01:00", "09 00:00"]);

    // Those of Apia skipped 2011-12-30.
    let (from, to) = ("2011-12-29T12:00:00Z", "2012-01-01T12:00:00Z");
    let apia = schedule("daily 02:30", "Pacific/Apia");
    assert_eq!(local_times(&apia, from, to), ["29 02:30", "31 00:00", "31 02:30", "01 02:30"]);
    let apia = schedule("cron 30 */12 * * *", "Pacific/Apia");
    assert_eq!(
        local_times(&apia, from, "2011-12-31T12:00:00Z"),
        ["29 12:30", "31 00:30", "31 12:30", "01 00:30"]
    );
}
