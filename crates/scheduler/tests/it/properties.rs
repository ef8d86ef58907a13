//! Schedules made at random against the reference.

use std::time::{Duration, SystemTime};

use jiff::civil::DateTime;
use jiff::tz::TimeZoneDatabase;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use proptest::sample::select;
use trine_scheduler::{Exclusions, Schedule, Zones};

use crate::reference::{Matcher, walk};

const ZONES: [&str; 8] = [
    "UTC",
    "Africa/Casablanca",
    "America/Havana",
    "America/New_York",
    "Antarctica/Troll",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Europe/Berlin",
];

/// Clocks of these zones are set back by two hours at most.
const LEAD: SignedDuration = SignedDuration::from_hours(3);

/// A list of one to three items of a field from `first` to `last`.
fn field(first: u8, last: u8) -> impl Strategy<Value = String> {
    let number = first..=last;
    let range = (first..=last).prop_flat_map(move |low| (Just(low), low..=last));
    let item = prop_oneof![
        4 => number.prop_map(|number| number.to_string()),
        2 => range.clone().prop_map(|(low, high)| format!("{low}-{high}")),
        1 => (range, 1..=last.min(12)).prop_map(|((low, high), step)| format!("{low}-{high}/{step}")),
    ];
    proptest::collection::vec(item, 1..=3).prop_map(|items| items.join(","))
}

fn or_star(weight: u32, field: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    prop_oneof![weight => Just("*".to_owned()), 1 => field]
}

/// Six fields, the days and months of which often match.
fn expression() -> impl Strategy<Value = String> {
    (
        or_star(1, field(0, 59)),
        or_star(1, field(0, 59)),
        or_star(1, field(0, 23)),
        or_star(3, field(1, 31)),
        or_star(9, field(1, 12)),
        or_star(3, field(0, 7)),
    )
        .prop_map(|(second, minute, hour, day, month, weekday)| {
            format!("{second} {minute} {hour} {day} {month} {weekday}")
        })
}

/// A moment near one at which the zone's clocks are set, if they are.
fn begin(zone: &str, years: u32, hours: i64) -> Timestamp {
    let zone = TimeZoneDatabase::bundled().get(zone).unwrap();
    let from: Timestamp = "2020-01-01T00:00:00Z".parse().unwrap();
    let from = from.checked_add(SignedDuration::from_hours(24 * 180 * i64::from(years))).unwrap();
    let change = zone.following(from).next().map_or(from, |change| change.timestamp());
    change.checked_sub(SignedDuration::from_hours(hours)).unwrap()
}

fn answers(schedule: &Schedule, from: Timestamp, to: Timestamp) -> Vec<Timestamp> {
    let before = from.checked_sub(SignedDuration::from_nanos(1)).unwrap();
    let end = SystemTime::from(to);
    let times = schedule.upcoming(before.into()).take_while(|at| *at < end);
    times.map(|at| at.try_into().unwrap()).collect()
}

/// Tells by the words of the text whether `local` is excluded.
fn is_excluded(text: &str, local: DateTime) -> bool {
    let (date, time) = (local.date().to_string(), local.time().strftime("%H:%M:%S").to_string());
    let weekday = local.strftime("%a").to_string().to_lowercase();
    text.split(' ').filter(|part| !part.is_empty()).any(|part| match part.split_once("..") {
        Some((from, to)) if part.contains(':') => {
            let (from, to) = (format!("{from}:00"), format!("{to}:00"));
            if from < to { from <= time && time < to } else { from <= time || time < to }
        }
        Some((first, last)) => *first <= *date && *date <= *last,
        None => part == date || part == weekday,
    })
}

fn exclusions() -> impl Strategy<Value = String> {
    let window = (0..24_u8, 0..24_u8, select(vec![0, 15, 30]), select(vec![0, 10, 45]))
        .prop_filter_map("not empty", |(from, to, begin, end)| {
            let (from, to) = (format!("{from:02}:{begin:02}"), format!("{to:02}:{end:02}"));
            (from != to).then(|| format!("{from}..{to}"))
        });
    let weekday = select(vec!["mon", "sat", "sun"]).prop_map(str::to_owned);
    proptest::collection::vec(prop_oneof![window, weekday], 0..=3).prop_map(|parts| parts.join(" "))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_expression_is_due_when_the_reference_has_it(
        expression in expression(), zone in select(&ZONES[..]), years in 0..20_u32, hours in 0..4_i64,
        excluded in exclusions(),
    ) {
        // A day that never comes is refused, which another test is about.
        let Ok(schedule) = Schedule::cron(&expression) else { return Ok(()) };
        let Ok(calendar) = excluded.parse::<Exclusions>() else { return Ok(()) };
        let schedule = schedule.in_zone(Zones::bundled().zone(zone).unwrap()).unwrap();
        let schedule = schedule.with_exclusions(calendar);
        let zone = TimeZoneDatabase::bundled().get(zone).unwrap();
        let from = begin(zone.iana_name().unwrap(), years, hours);
        let to = from.checked_add(SignedDuration::from_hours(7)).unwrap();

        let matcher = Matcher::new(&expression);
        let (matches, repeating) = (|local| matcher.matches(local), matcher.is_repeating());
        let mut expected = walk(&zone, matches, repeating, (from, to), SignedDuration::from_secs(1), LEAD);
        expected.retain(|at| !is_excluded(&excluded, zone.to_datetime(*at)));
        prop_assert_eq!(answers(&schedule, from, to), expected, "{}", schedule);
    }

    #[test]
    fn every_day_is_due_when_the_reference_has_it(
        day in field(1, 31), month in or_star(2, field(1, 12)), weekday in or_star(1, field(0, 7)),
        zone in select(&ZONES[..]), years in 0..20_u32, minute in select(vec![0, 15, 30]), hour in 0..24,
    ) {
        let expression = format!("{minute} {hour} {day} {month} {weekday}");
        let Ok(schedule) = Schedule::cron(&expression) else { return Ok(()) };
        let schedule = schedule.in_zone(Zones::bundled().zone(zone).unwrap()).unwrap();
        let from = begin(zone, years, 0);
        let to = from.checked_add(SignedDuration::from_hours(24 * 90)).unwrap();

        let zone = TimeZoneDatabase::bundled().get(zone).unwrap();
        let matcher = Matcher::new(&expression);
        let matches = |local| matcher.matches(local);
        let expected = walk(&zone, matches, false, (from, to), SignedDuration::from_mins(15), LEAD);
        prop_assert_eq!(answers(&schedule, from, to), expected, "{}", schedule);
    }

    #[test]
    fn an_answer_is_strictly_later_and_none_is_between(
        text in select(vec![
            "every 7s", "every 1ms from 2026-01-01T00:00:00.000001Z", "daily 02:30", "weekly mon 00:00",
            "monthly 31 23:59:59", "monthly last_day 00:00", "cron */7 * * * *", "cron 0 0 29 2 *",
        ]),
        zone in select(&ZONES[..]), after in 0..4_000_000_000_000_000_u64, part in 1..1_000_u64,
    ) {
        let schedule = crate::schedule(text, zone);
        let after = SystemTime::UNIX_EPOCH + Duration::from_micros(after);
        let next = schedule.next_after(after).unwrap();
        prop_assert!(next > after);
        let between = after + next.duration_since(after).unwrap() / 1_000 * u32::try_from(part).unwrap();
        if between < next {
            prop_assert_eq!(schedule.next_after(between), Some(next));
        }
        prop_assert_eq!(schedule.first_from(next), Ok(next));
    }

    #[test]
    fn a_text_is_a_schedule_that_it_is_the_text_of_or_an_error(
        text in prop_oneof![
            "\\PC{0,40}",
            "(every|delay|daily|weekly|monthly|cron|once) [0-9a-z*/,:. -]{0,30}(; (zone|jitter|except) [0-9A-Za-z:./-]{0,12})?",
        ],
    ) {
        if let Ok(schedule) = text.parse::<Schedule>() {
            prop_assert_eq!(schedule.to_string().parse::<Schedule>().unwrap(), schedule.clone());
            prop_assert!(!schedule.describe().is_empty());
            let epoch = SystemTime::UNIX_EPOCH;
            prop_assert!(schedule.next_after(epoch).is_none_or(|next| next > epoch));
        }
    }

    #[test]
    fn an_expression_is_the_schedule_of_its_text(expression in expression()) {
        let Ok(schedule) = Schedule::cron(&expression) else { return Ok(()) };
        prop_assert_eq!(schedule.to_string(), format!("cron {expression}"));
        prop_assert_eq!(schedule.to_string().parse::<Schedule>().unwrap(), schedule.clone());
        prop_assert!(schedule.describe().ends_with(", UTC"));
    }
}
