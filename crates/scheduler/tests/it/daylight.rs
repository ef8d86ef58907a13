//! Ten years of clocks being set, in every zone of the database, against the
//! reference.

use std::collections::BTreeMap;
use std::time::SystemTime;

use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp};
use trine_scheduler::{Schedule, Zones};

use crate::reference::{Matcher, walk};

/// Fixed and repeating.
const EXPRESSIONS: [&str; 4] =
    ["30 2 * * *", "15,45 0,1,2,3,23 * * *", "30 * * * *", "*/15 1-2 * * *"];

const PAST: (&str, &str) = ("2007-01-01T00:00:00Z", "2017-01-01T00:00:00Z");
const COMING: (&str, &str) = ("2021-01-01T00:00:00Z", "2031-01-01T00:00:00Z");

/// What the short forms look at.
const SHORT: (&str, &str) = ("2026-01-01T00:00:00Z", "2028-01-01T00:00:00Z");

const SAMPLE: [&str; 12] = [
    "Africa/Cairo",
    "Africa/Casablanca",
    "America/Havana",
    "America/New_York",
    "America/St_Johns",
    "Antarctica/Troll",
    "Asia/Gaza",
    "Australia/Lord_Howe",
    "Europe/Berlin",
    "Europe/Dublin",
    "Pacific/Apia",
    "Pacific/Chatham",
];

/// Compares all answers of ten years; returns how many there were.
fn compare(name: &str, expression: &str, (from, to): (&str, &str)) -> usize {
    let zone = TimeZoneDatabase::bundled().get(name).unwrap();
    let (from, to): (Timestamp, Timestamp) = (from.parse().unwrap(), to.parse().unwrap());
    let matcher = Matcher::new(expression);
    let repeating = matcher.is_repeating();
    let matches = |local| matcher.matches(local);
    let (step, lead) = (step(&zone, from, to), SignedDuration::from_hours(36));
    let expected = walk(&zone, matches, repeating, (from, to), step, lead);

    let schedule = Schedule::cron(expression).unwrap();
    let schedule = schedule.in_zone(Zones::bundled().zone(name).unwrap()).unwrap();
    let end = SystemTime::from(to);
    let before = from.checked_sub(SignedDuration::from_nanos(1)).unwrap();
    let found = schedule.upcoming(before.into()).take_while(|at| *at < end);
    let found: Vec<_> = found.map(|at| Timestamp::try_from(at).unwrap()).collect();
    if let Some(place) =
        (0..expected.len().max(found.len())).find(|place| expected.get(*place) != found.get(*place))
    {
        let (expected, found) = (expected.get(place), found.get(place));
        panic!("{name}, {expression}: expected {expected:?}, found {found:?}");
    }
    found.len()
}

/// A quarter of an hour, or a minute where clocks are set at other times.
fn step(zone: &TimeZone, from: Timestamp, to: Timestamp) -> SignedDuration {
    let changes = zone.following(from).take_while(|change| change.timestamp() < to);
    let mut moments = changes
        .map(|change| (change.timestamp().as_second(), i64::from(change.offset().seconds())));
    let is_odd = |seconds: i64| seconds % 900 != 0;
    let begin = i64::from(zone.to_offset(from).seconds());
    let odd = is_odd(begin) || moments.any(|(at, offset)| is_odd(at) || is_odd(offset));
    SignedDuration::from_mins(if odd { 1 } else { 15 })
}

#[test]
fn two_years_of_sampled_zones_are_as_the_reference_has_them() {
    for name in SAMPLE {
        for expression in EXPRESSIONS {
            assert!(compare(name, expression, SHORT) >= 2 * 365, "{name}, {expression}");
        }
    }
}

#[test]
fn a_daily_time_is_due_once_on_each_day_that_a_zone_has() {
    let names: Vec<_> = Zones::bundled().names().collect();
    assert!(names.len() > 500, "{}", names.len());
    let (from, to): (Timestamp, Timestamp) = (SHORT.0.parse().unwrap(), SHORT.1.parse().unwrap());
    for name in names {
        let zone = TimeZoneDatabase::bundled().get(&name).unwrap();
        let schedule = crate::schedule("daily 02:30", &name);
        let end = SystemTime::from(to);
        let found = schedule.upcoming(from.into()).take_while(|at| *at < end);
        let mut days = found.map(|at| zone.to_datetime(at.try_into().unwrap()).date());
        let mut last = days.next().unwrap();
        for day in days {
            assert_eq!(day, last.tomorrow().unwrap(), "{name}");
            last = day;
        }
        let expected = zone.to_datetime(to).date();
        assert!(last == expected || last.tomorrow().unwrap() == expected, "{name}: {last}");
    }
}

#[test]
#[ignore = "long form: cargo xtask soak daylight"]
fn soak_daylight() {
    let names: Vec<_> = Zones::bundled().names().collect();
    // Zones with the same clocks in these years are compared once.
    let distinct: BTreeMap<_, _> = names.iter().map(|name| (clocks(name), name)).collect();
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let total: usize = std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..threads)
            .map(|lane| {
                let names = distinct.values().skip(lane).step_by(threads);
                scope.spawn(move || names.map(|name| compare_decades(name)).sum::<usize>())
            })
            .collect();
        lanes.into_iter().map(|lane| lane.join().unwrap()).sum()
    });
    let (zones, distinct) = (names.len(), distinct.len());
    println!("{zones} zones, {distinct} of them distinct, twice ten years: {total} times compared");
    assert!(zones > 500 && distinct > 100 && total > distinct * 300_000);
}

/// Returns how a zone's clocks are set in both decades: the offsets at their
/// begin, and each change.
fn clocks(name: &str) -> Vec<(i64, i32)> {
    let zone = TimeZoneDatabase::bundled().get(name).unwrap();
    let mut clocks = Vec::new();
    for (from, to) in [PAST, COMING] {
        let (from, to): (Timestamp, Timestamp) = (from.parse().unwrap(), to.parse().unwrap());
        // The reference begins to walk two days before.
        let from = from.checked_sub(SignedDuration::from_hours(48)).unwrap();
        clocks.push((from.as_second(), zone.to_offset(from).seconds()));
        let changes = zone.following(from).take_while(|change| change.timestamp() < to);
        clocks.extend(changes.map(|at| (at.timestamp().as_second(), at.offset().seconds())));
    }
    clocks
}

fn compare_decades(name: &str) -> usize {
    let decade = |years| EXPRESSIONS.map(|expression| compare(name, expression, years));
    [PAST, COMING].into_iter().flat_map(decade).sum()
}
