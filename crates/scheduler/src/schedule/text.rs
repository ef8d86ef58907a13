use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};
use trine_core::Span;

use crate::pattern::LAST_DAY;
use crate::when::When;
use crate::{InvalidSchedule, Schedule};

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.when {
            When::Every { period, anchor } if *anchor == Timestamp::UNIX_EPOCH => {
                write!(f, "every {}", Span::from(*period))?;
            }
            When::Every { period, anchor } => {
                write!(f, "every {} from {anchor}", Span::from(*period))?;
            }
            When::Delay { delay } => write!(f, "delay {}", Span::from(*delay))?,
            When::Daily { at } => write!(f, "daily {at}")?,
            When::Weekly { days, at } => {
                f.write_str("weekly")?;
                days.iter().try_for_each(|day| write!(f, " {day}"))?;
                write!(f, " {at}")?;
            }
            When::Monthly { day: LAST_DAY, at } => write!(f, "monthly last_day {at}")?,
            When::Monthly { day, at } => write!(f, "monthly {day} {at}")?,
            When::Cron { text, .. } => write!(f, "cron {text}")?,
            When::Once { at } => write!(f, "once {at}")?,
            When::Now => f.write_str("once now")?,
        }
        if !self.zone.is_utc() {
            write!(f, "; zone {}", self.zone)?;
        }
        if !self.jitter.is_zero() {
            write!(f, "; jitter {}", Span::from(self.jitter))?;
        }
        if !self.exclusions.is_none() {
            write!(f, "; except {}", self.exclusions)?;
        }
        Ok(())
    }
}

impl FromStr for Schedule {
    type Err = InvalidSchedule;

    fn from_str(text: &str) -> Result<Self, InvalidSchedule> {
        let mut parts = text.split(';').map(str::trim);
        let mut schedule = read_when(parts.next().unwrap_or_default())?;
        let mut expected = vec!["zone", "jitter", "except"];
        for part in parts {
            let (name, value) = part.split_once(char::is_whitespace).unwrap_or((part, ""));
            let Some(place) = expected.iter().position(|one| *one == name) else {
                let expected = "`zone`, `jitter` and `except`, each once";
                return Err(InvalidSchedule::field("schedule", part, expected));
            };
            expected.swap_remove(place);
            let value = value.trim();
            schedule = match name {
                "zone" => schedule.in_zone(value)?,
                "jitter" => schedule.with_jitter(span("jitter", value)?)?,
                _ => schedule.with_exclusions(value.parse()?),
            };
        }
        Ok(schedule)
    }
}

fn read_when(text: &str) -> Result<Schedule, InvalidSchedule> {
    let (kind, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let rest = rest.trim();
    let (before, last) = rest.rsplit_once(char::is_whitespace).unwrap_or(("", rest));
    match kind {
        "every" => match rest.split_once(" from ") {
            Some((period, anchor)) => {
                let anchor = time("anchor", anchor.trim())?;
                Schedule::every_from(anchor, span("interval", period.trim())?)
            }
            None => Schedule::every(span("interval", rest)?),
        },
        "delay" => Schedule::delay(span("delay", rest)?),
        "daily" => Schedule::daily(rest),
        "weekly" => {
            let days = before.split_whitespace().map(str::parse);
            Schedule::weekly(days.collect::<Result<Vec<_>, _>>()?, last)
        }
        "monthly" if before == "last_day" => Schedule::last_day(last),
        "monthly" => {
            let day = before.parse().map_err(|_| {
                InvalidSchedule::field("day of month", before, "1 to 31, or `last_day`")
            })?;
            Schedule::monthly(day, last)
        }
        "cron" => Schedule::cron(rest),
        "once" if rest == "now" => Ok(Schedule::once_now()),
        "once" => Schedule::once(time("time", rest)?),
        _ => {
            let expected =
                "`every`, `delay`, `daily`, `weekly`, `monthly`, `cron` or `once` at its begin";
            Err(InvalidSchedule::field("schedule", text, expected))
        }
    }
}

fn span(field: &'static str, text: &str) -> Result<Duration, InvalidSchedule> {
    let expected = "a whole number with a unit, one of us, ms, s, m, h, d";
    let span: Span = text.parse().map_err(|_| InvalidSchedule::field(field, text, expected))?;
    Ok(span.get())
}

fn time(field: &'static str, text: &str) -> Result<SystemTime, InvalidSchedule> {
    let expected = "a time such as `2026-12-24T18:00:00Z`";
    let time: Timestamp =
        text.parse().map_err(|_| InvalidSchedule::field(field, text, expected))?;
    Ok(time.into())
}

impl TryFrom<&str> for Schedule {
    type Error = InvalidSchedule;

    fn try_from(text: &str) -> Result<Self, InvalidSchedule> {
        text.parse()
    }
}

impl Serialize for Schedule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Schedule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Schedule;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a schedule, such as \"daily 02:30; zone Europe/Berlin\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Schedule, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

impl JsonSchema for Schedule {
    fn schema_name() -> Cow<'static, str> {
        "Schedule".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^(every|delay|daily|weekly|monthly|cron|once) ",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_reads_what_it_prints() {
        for text in [
            "every 5m",
            "every 1500ms from 2026-01-01T00:00:00.5Z",
            "delay 10m",
            "daily 02:30",
            "weekly mon fri 02:30:15",
            "monthly 31 04:00",
            "monthly last_day 04:00",
            "cron */15 9-17 * * MON-FRI",
            "once 2026-12-24T18:00:00Z",
            "once now",
            "daily 02:30; zone Europe/Berlin; jitter 30s; except 2026-12-25 sat sun 22:00..06:00",
        ] {
            let schedule: Schedule = text.parse().unwrap();
            assert_eq!(schedule.to_string(), text);
            let json = serde_json::to_string(&schedule).unwrap();
            assert_eq!(json, format!("{text:?}"));
            assert_eq!(serde_json::from_str::<Schedule>(&json).unwrap(), schedule);
        }
    }

    #[test]
    fn equal_schedules_have_equal_texts() {
        for (text, expected) in [
            ("every 300s", "every 5m"),
            ("every  5m  from  1970-01-01T01:00:00+01:00", "every 5m"),
            ("weekly Friday MON 02:30:00", "weekly mon fri 02:30"),
            ("cron  0 2 *  * mon;zone europe/berlin", "cron 0 2 * * MON; zone Europe/Berlin"),
            ("daily 02:30; zone UTC; jitter 0s; except ", "daily 02:30"),
            ("daily 02:30; except sun; zone UTC; jitter 5s", "daily 02:30; jitter 5s; except sun"),
        ] {
            let schedule: Schedule = text.parse().unwrap();
            assert_eq!(schedule.to_string(), expected);
            assert_eq!(schedule, expected.parse().unwrap());
        }
    }

    #[test]
    fn a_wrong_text_names_its_field() {
        for (text, expected) in [
            ("", "schedule ``: expected `every`, "),
            ("hourly", "schedule `hourly`: expected `every`, "),
            ("every 5", "interval `5`: expected a whole number with a unit"),
            ("every 0s", "interval `0ns`: expected whole milliseconds, 1ms to 3650d"),
            ("every 5us", "interval `5µs`: expected whole milliseconds"),
            ("every 3651d", "interval `315446400s`: expected whole milliseconds"),
            ("every 5m from monday", "anchor `monday`: expected a time such as"),
            ("delay 0ms", "delay `0ns`: expected whole milliseconds"),
            ("daily 25:00", "time of day `25:00`: expected `HH:MM`"),
            ("weekly 02:30", "weekdays ``: expected one day at least"),
            ("weekly mon someday 02:30", "weekday `someday`: expected `mon` to `sun`"),
            ("monthly 0 02:30", "day of month `0`: expected 1 to 31, or `last_day`"),
            ("monthly 32 02:30", "day of month `32`: expected 1 to 31, or `last_day`"),
            ("monthly last 02:30", "day of month `last`: expected 1 to 31, or `last_day`"),
            ("cron 61 * * * *", "cron `61 * * * *`: minute `61`: expected 0 to 59"),
            (
                "cron 0 0 30 2 *",
                "cron `0 0 30 2 *`: day of month, month and day of week never meet",
            ),
            ("once yesterday", "time `yesterday`: expected a time such as"),
            ("daily 02:30; zone Mars/Base", "zone `Mars/Base`: expected a name"),
            (
                "daily 02:30; jitter 25h",
                "jitter `90000s`: expected whole milliseconds, 24h at most",
            ),
            ("daily 02:30; at noon", "schedule `at noon`: expected `zone`, `jitter`"),
            ("daily 02:30; zone UTC; zone UTC", "schedule `zone UTC`: expected `zone`, `jitter`"),
            ("daily 02:30; except someday", "weekday `someday`: expected `mon` to `sun`"),
        ] {
            let error = text.parse::<Schedule>().unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
        let error = serde_json::from_str::<Schedule>("5").unwrap_err().to_string();
        assert!(error.contains("a schedule, such as"), "{error}");
    }
}
