use std::time::Duration;

use trine_core::Span;

use crate::cron::{Expression, Item};
use crate::pattern::{Joined, LAST_DAY};
use crate::when::When;
use crate::{CronField, Schedule, TimeOfDay, Weekday};

/// Most times of the day that are told one by one.
const TOLD_TIMES: usize = 6;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

impl Schedule {
    /// Returns in English when it is due, such as `every day at 02:30,
    /// Europe/Berlin`.
    ///
    /// For people to read; the text to compare and to store is that of
    /// [`Display`](std::fmt::Display).
    #[must_use]
    pub fn describe(&self) -> String {
        let (mut text, is_local) = match &self.when {
            When::Every { period, anchor } => {
                let text = format!("every {}", words(*period, "1 "));
                let from = if *anchor == jiff::Timestamp::UNIX_EPOCH {
                    String::new()
                } else {
                    format!(" from {anchor} on")
                };
                (text + &from, false)
            }
            When::Delay { delay } => {
                (format!("{} after the end of the last run", words(*delay, "")), false)
            }
            When::Daily { at } => (format!("every day at {at}"), true),
            When::Weekly { days, at } => {
                let days: Vec<_> = days.iter().map(|day| day.name().to_owned()).collect();
                (format!("every {} at {at}", list(&days)), true)
            }
            When::Monthly { day: LAST_DAY, at } => {
                (format!("on the last day of every month at {at}"), true)
            }
            When::Monthly { day, at } if *day > 28 => {
                (format!("on day {day} of every month that has it at {at}"), true)
            }
            When::Monthly { day, at } => (format!("on day {day} of every month at {at}"), true),
            When::Cron { text, .. } => (cron(text), true),
            When::Once { at } => (format!("once at {at}"), false),
            When::Now => ("once, when it is registered".to_owned(), false),
        };
        if is_local || !self.exclusions.is_none() {
            text = format!("{text}, {}", self.zone);
        }
        if !self.jitter.is_zero() {
            text = format!("{text}, up to {} later", words(self.jitter, ""));
        }
        if !self.exclusions.is_none() {
            let parts: Vec<_> = self.exclusions.parts().iter().map(|part| spell(part)).collect();
            text = format!("{text}, except {}", list(&parts));
        }
        text
    }
}

/// Spells out one part of the text of exclusions.
fn spell(part: &str) -> String {
    match part.parse::<Weekday>() {
        Ok(day) => day.name().to_owned(),
        Err(_) => part.replacen("..", " to ", 1),
    }
}

/// Returns a length such as `5 minutes`, without `one` where it is one.
fn words(length: Duration, one: &str) -> String {
    let text = Span::from(length).to_string();
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = match text.trim_start_matches(digits) {
        "us" => "microsecond",
        "ms" => "millisecond",
        "s" => "second",
        "m" => "minute",
        "h" => "hour",
        _ => "day",
    };
    match digits {
        "1" if !one.is_empty() => unit.to_owned(),
        "1" => format!("1 {unit}"),
        _ => format!("{digits} {unit}s"),
    }
}

fn list(parts: &[String]) -> String {
    match parts {
        [] => String::new(),
        [one] => one.clone(),
        [before @ .., last] => format!("{} and {last}", before.join(", ")),
    }
}

fn cron(text: &str) -> String {
    // It was read before, or there would be no schedule.
    let Ok(expression) = Expression::parse(text) else { return text.to_owned() };
    let parts = [time(&expression), days(&expression), months(&expression)];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

fn time(expression: &Expression) -> String {
    if let Some(times) = times(expression) {
        return format!("at {}", list(&times));
    }
    let (seconds, minutes, hours) = (
        expression.items(CronField::Second),
        expression.items(CronField::Minute),
        expression.items(CronField::Hour),
    );
    let mut parts = Vec::new();
    if single(seconds) != Some(0) {
        parts.push(often(seconds, 60, "second"));
    }
    if parts.is_empty() || !is_all(minutes) {
        let minutes = often(minutes, 60, "minute");
        parts.push(if parts.is_empty() { minutes } else { format!("of {}", bare(&minutes)) });
    }
    if !is_all(hours) {
        parts.push(format!("in {}", values(hours, "hour", |hour| hour.to_string())));
    } else if !parts.iter().any(|part| part.starts_with("every")) {
        parts.push("of every hour".to_owned());
    }
    parts.join(" ")
}

/// Returns the few times of a day that are meant, if they are few.
fn times(expression: &Expression) -> Option<Vec<String>> {
    let bits = |field| {
        let mask = expression.mask(field);
        (0..60).filter(move |bit| mask >> bit & 1 == 1)
    };
    if expression.is_repeating() || bits(CronField::Second).count() > 1 {
        return None;
    }
    let seconds = bits(CronField::Hour).flat_map(|hour| {
        bits(CronField::Minute).flat_map(move |minute| {
            bits(CronField::Second).map(move |second| (hour * 60 + minute) * 60 + second)
        })
    });
    let times: Vec<_> =
        seconds.map(|seconds: u32| TimeOfDay::of_seconds(seconds).to_string()).collect();
    (times.len() <= TOLD_TIMES).then_some(times)
}

fn days(expression: &Expression) -> String {
    let (month, week) =
        (expression.items(CronField::DayOfMonth), expression.items(CronField::DayOfWeek));
    let of_month = format!("on {} of the month", values(month, "day", |day| day.to_string()));
    let of_week = format!("on {}", values(week, "day of the week", weekday));
    match (is_all(month), is_all(week)) {
        (true, true) => String::new(),
        (false, true) => of_month,
        (true, false) => of_week,
        (false, false) if expression.joined() == Joined::Either => {
            format!("{of_month} or {of_week}")
        }
        (false, false) => format!("{of_month} that is also {of_week}"),
    }
}

fn months(expression: &Expression) -> String {
    let months = expression.items(CronField::Month);
    if is_all(months) {
        return String::new();
    }
    let name = |month: u8| {
        let name = MONTHS.get(usize::from(month).saturating_sub(1));
        name.copied().unwrap_or_default().to_owned()
    };
    format!("in {}", values(months, "month", name))
}

fn weekday(day: u8) -> String {
    // Monday comes first in the list, and is 1.
    let day = Weekday::ALL.get((usize::from(day) + 6) % 7);
    day.map(|day| day.name()).unwrap_or_default().to_owned()
}

/// Returns `every minute`, `every 15 minutes` or `at minutes 5 and 10`.
fn often(items: &[Item], of: u8, unit: &str) -> String {
    match items {
        [item] if item.is_all() => format!("every {unit}"),
        [item] if item.is_star && of.is_multiple_of(item.step) => {
            format!("every {} {unit}s", item.step)
        }
        _ => format!("at {}", values(items, unit, |value| value.to_string())),
    }
}

/// Returns what `often` says without its `at`.
fn bare(text: &str) -> &str {
    text.strip_prefix("at ").unwrap_or(text)
}

/// Returns `minute 5`, `minutes 5 and 10 to 20`, or `Monday to Friday` of what
/// has names.
fn values(items: &[Item], unit: &str, name: impl Fn(u8) -> String) -> String {
    let told: Vec<_> = items
        .iter()
        .map(|item| {
            let Item { first, last, step, is_star } = *item;
            match (is_star, step) {
                (true, 1) => format!("every {unit}"),
                (true, _) => format!("every {}", ordinal(step, unit)),
                (false, _) if first == last => name(first),
                (false, 1) => format!("{} to {}", name(first), name(last)),
                (false, _) => format!("{} to {} in steps of {step}", name(first), name(last)),
            }
        })
        .collect();
    let has_names = !name(items.first().map_or(0, |item| item.first.max(1)))
        .starts_with(|first: char| first.is_ascii_digit());
    let is_told = has_names || items.iter().any(|item| item.is_star);
    match single(items) {
        _ if is_told => list(&told),
        Some(_) => format!("{unit} {}", list(&told)),
        None => format!("{unit}s {}", list(&told)),
    }
}

/// Returns `2nd day` and `15th minute`.
fn ordinal(number: u8, unit: &str) -> String {
    let ending = match (number % 10, number % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{number}{ending} {unit}")
}

fn is_all(items: &[Item]) -> bool {
    items.iter().any(|item| item.is_all())
}

fn single(items: &[Item]) -> Option<u8> {
    match items {
        [item] if item.first == item.last => Some(item.first),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_says_in_english_when_it_is_due() {
        for (text, expected) in [
            ("every 1m", "every minute"),
            (
                "every 90s from 2026-01-01T00:00:00Z",
                "every 90 seconds from 2026-01-01T00:00:00Z on",
            ),
            ("delay 1h", "1 hour after the end of the last run"),
            ("daily 02:30; zone Europe/Berlin", "every day at 02:30, Europe/Berlin"),
            ("weekly mon wed fri 02:30", "every Monday, Wednesday and Friday at 02:30, UTC"),
            ("monthly 31 04:00", "on day 31 of every month that has it at 04:00, UTC"),
            ("monthly 1 04:00", "on day 1 of every month at 04:00, UTC"),
            ("monthly last_day 04:00", "on the last day of every month at 04:00, UTC"),
            ("once 2026-12-24T18:00:00Z", "once at 2026-12-24T18:00:00Z"),
            ("once now", "once, when it is registered"),
            ("every 5m; jitter 30s", "every 5 minutes, up to 30 seconds later"),
            (
                "every 5m; except sat sun 22:00..06:00",
                "every 5 minutes, UTC, except Saturday, Sunday and 22:00 to 06:00",
            ),
        ] {
            assert_eq!(text.parse::<Schedule>().unwrap().describe(), expected);
        }
    }

    #[test]
    fn a_cron_expression_says_in_english_when_it_is_due() {
        for (text, expected) in [
            ("* * * * *", "every minute"),
            ("* * * * * *", "every second"),
            ("*/10 * * * * *", "every 10 seconds"),
            ("30 2 * * *", "at 02:30"),
            ("15 30 2 * * *", "at 02:30:15"),
            ("0,30 2,14 * * *", "at 02:00, 02:30, 14:00 and 14:30"),
            ("30 * * * *", "at minute 30 of every hour"),
            ("*/15 9-17 * * MON-FRI", "every 15 minutes in hours 9 to 17 on Monday to Friday"),
            ("*/7 * * * *", "at every 7th minute of every hour"),
            ("0 */2 * * *", "at minute 0 in every 2nd hour"),
            ("0 0 13 * FRI", "at 00:00 on day 13 of the month or on Friday"),
            ("0 0 */2 * 1", "at 00:00 on every 2nd day of the month that is also on Monday"),
            (
                "0 0 1,15 JAN,MAR-MAY *",
                "at 00:00 on days 1 and 15 of the month in January and March to May",
            ),
            ("0 0 * * 7", "at 00:00 on Sunday"),
            ("*/5 30 2 * * *", "every 5 seconds of minute 30 in hour 2"),
            ("0 10-50/20 * * * *", "at minutes 10 to 50 in steps of 20 of every hour"),
        ] {
            let schedule = Schedule::cron(text).unwrap();
            assert_eq!(schedule.describe(), format!("{expected}, UTC"), "{text}");
        }
    }
}
