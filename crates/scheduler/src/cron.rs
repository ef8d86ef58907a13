use std::fmt;

use crate::InvalidCron;
use crate::pattern::Joined;

/// A field of a cron expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "they say themselves what they are")]
pub enum CronField {
    Second,
    Minute,
    Hour,
    DayOfMonth,
    Month,
    DayOfWeek,
}

const MONTHS: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const DAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

impl CronField {
    const ALL: [Self; 6] =
        [Self::Second, Self::Minute, Self::Hour, Self::DayOfMonth, Self::Month, Self::DayOfWeek];

    /// Least and greatest value.
    const fn bounds(self) -> (u8, u8) {
        match self {
            Self::Second | Self::Minute => (0, 59),
            Self::Hour => (0, 23),
            Self::DayOfMonth => (1, 31),
            Self::Month => (1, 12),
            Self::DayOfWeek => (0, 7),
        }
    }

    /// The names of its values from the least one on.
    const fn names(self) -> &'static [&'static str] {
        match self {
            Self::Month => &MONTHS,
            Self::DayOfWeek => &DAYS,
            Self::Second | Self::Minute | Self::Hour | Self::DayOfMonth => &[],
        }
    }

    const fn expected(self) -> &'static str {
        match self {
            Self::Second | Self::Minute => "expected 0 to 59",
            Self::Hour => "expected 0 to 23",
            Self::DayOfMonth => "expected 1 to 31",
            Self::Month => "expected 1 to 12 or JAN to DEC",
            Self::DayOfWeek => "expected 0 to 7 or SUN to SAT",
        }
    }
}

impl fmt::Display for CronField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::DayOfMonth => "day of month",
            Self::Month => "month",
            Self::DayOfWeek => "day of week",
        })
    }
}

/// One entry of a field's list: `7`, `*`, `*/15`, `9-17` or `0-30/10`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) first: u8,
    pub(crate) last: u8,
    pub(crate) step: u8,
    pub(crate) is_star: bool,
}

impl Item {
    fn mask(self) -> u64 {
        (self.first..=self.last)
            .step_by(usize::from(self.step))
            .fold(0, |mask, value| mask | 1 << value)
    }

    /// Tells whether it is every value of its field.
    pub(crate) fn is_all(self) -> bool {
        self.is_star && self.step == 1
    }
}

/// A cron expression, read.
#[derive(Debug)]
pub(crate) struct Expression {
    text: Box<str>,
    fields: [Vec<Item>; 6],
}

impl Expression {
    /// Reads five fields, or six with seconds first.
    pub(crate) fn parse(expression: &str) -> Result<Self, InvalidCron> {
        if expression.len() > InvalidCron::MAX {
            return Err(InvalidCron::Length { length: expression.len() });
        }
        let parts: Vec<_> =
            expression.split_whitespace().map(|part| part.to_ascii_uppercase()).collect();
        let text: Box<str> = parts.join(" ").into();
        let mut fields = [const { Vec::new() }; 6];
        let (skipped, found) = match parts.len() {
            5 => (1, 5),
            6 => (0, 6),
            found => return Err(InvalidCron::Fields { expression: expression.into(), found }),
        };
        if found == 5 {
            let at_zero = Item { first: 0, last: 0, step: 1, is_star: false };
            fields[0] = vec![at_zero];
        }
        let given = CronField::ALL.into_iter().zip(&mut fields).skip(skipped);
        for ((field, items), part) in given.zip(&parts) {
            *items = part
                .split(',')
                .map(|item| {
                    read(field, item).map_err(|problem| InvalidCron::Field {
                        expression: text.clone(),
                        field,
                        found: item.into(),
                        problem: problem.into(),
                    })
                })
                .collect::<Result<_, _>>()?;
        }
        Ok(Self { text, fields })
    }

    /// Returns its text in capitals with one space between fields.
    pub(crate) fn into_text(self) -> Box<str> {
        self.text
    }

    pub(crate) fn items(&self, field: CronField) -> &[Item] {
        let [second, minute, hour, day_of_month, month, day_of_week] = &self.fields;
        match field {
            CronField::Second => second,
            CronField::Minute => minute,
            CronField::Hour => hour,
            CronField::DayOfMonth => day_of_month,
            CronField::Month => month,
            CronField::DayOfWeek => day_of_week,
        }
    }

    pub(crate) fn mask(&self, field: CronField) -> u64 {
        self.items(field).iter().fold(0, |mask, item| mask | item.mask())
    }

    /// Tells whether a `*`, a range or a step stands in minutes or hours.
    pub(crate) fn is_repeating(&self) -> bool {
        let more_than_one = |item: &Item| item.is_star || item.step > 1 || item.first < item.last;
        let has = |field| self.items(field).iter().any(more_than_one);
        has(CronField::Minute) || has(CronField::Hour)
    }

    /// Vixie's rule: a day is meant by either field, unless one of them begins
    /// with `*`.
    pub(crate) fn joined(&self) -> Joined {
        let is_open = |field| self.items(field).first().is_some_and(|item| item.is_star);
        if is_open(CronField::DayOfMonth) || is_open(CronField::DayOfWeek) {
            Joined::Both
        } else {
            Joined::Either
        }
    }
}

fn read(field: CronField, item: &str) -> Result<Item, String> {
    let (range, step) = match item.split_once('/') {
        Some((range, step)) => (range, Some(step)),
        None => (item, None),
    };
    let (first, last, is_star) = if range == "*" {
        let (first, last) = field.bounds();
        (first, last, true)
    } else if let Some((first, last)) = range.split_once('-') {
        let first = value(field, first)?;
        // The week that ends with SUN: cron counts it as the first day.
        let last = if field == CronField::DayOfWeek && last == "SUN" && first > 0 {
            7
        } else {
            value(field, last)?
        };
        if first > last {
            return Err("the range runs backwards".to_owned());
        }
        (first, last, false)
    } else {
        let value = value(field, range)?;
        if step.is_some() {
            return Err("a step needs `*` or a range before it".to_owned());
        }
        (value, value, false)
    };
    let step = match step {
        None => 1,
        Some(step) => read_step(field, step)?,
    };
    Ok(Item { first, last, step, is_star })
}

fn read_step(field: CronField, text: &str) -> Result<u8, String> {
    let (_, most) = field.bounds();
    match number(text) {
        Some(step) if (1..=most).contains(&step) => Ok(step),
        _ => Err(format!("step `{text}`: expected 1 to {most}")),
    }
}

fn value(field: CronField, text: &str) -> Result<u8, String> {
    let (least, most) = field.bounds();
    let named = || {
        let place = field.names().iter().position(|name| *name == text)?;
        u8::try_from(place).ok().map(|place| place + least)
    };
    match number(text).or_else(named) {
        Some(value) if (least..=most).contains(&value) => Ok(value),
        _ => Err(field.expected().to_owned()),
    }
}

fn number(text: &str) -> Option<u8> {
    let is_short = (1..=2).contains(&text.len());
    (is_short && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(expression: &str, field: CronField) -> Vec<u8> {
        let mask = Expression::parse(expression).unwrap().mask(field);
        (0..64).filter(|bit| mask >> bit & 1 == 1).collect()
    }

    #[test]
    fn lists_ranges_steps_and_names_are_read() {
        let text = "5 0,10-12,40-59/10 */6 1 Jan-mar mon-FRI";
        assert_eq!(mask(text, CronField::Second), [5]);
        assert_eq!(mask(text, CronField::Minute), [0, 10, 11, 12, 40, 50]);
        assert_eq!(mask(text, CronField::Hour), [0, 6, 12, 18]);
        assert_eq!(mask(text, CronField::DayOfMonth), [1]);
        assert_eq!(mask(text, CronField::Month), [1, 2, 3]);
        assert_eq!(mask(text, CronField::DayOfWeek), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn five_fields_run_at_second_zero() {
        assert_eq!(mask("* * * * *", CronField::Second), [0]);
        assert_eq!(mask("* * * * *", CronField::Minute).len(), 60);
    }

    #[test]
    fn a_week_may_end_with_sunday() {
        assert_eq!(mask("0 0 * * FRI-SUN", CronField::DayOfWeek), [5, 6, 7]);
        assert_eq!(mask("0 0 * * 5-7", CronField::DayOfWeek), [5, 6, 7]);
        assert_eq!(mask("0 0 * * SUN-TUE", CronField::DayOfWeek), [0, 1, 2]);
    }

    #[test]
    fn an_expression_repeats_by_its_minutes_and_hours_only() {
        for (text, expected) in [
            ("30 2 * * *", false),
            ("0,30 2,4 1-5 */2 MON-FRI", false),
            ("*/10 30 2 * * *", false),
            ("*/15 1 * * *", true),
            ("0 1-3 * * *", true),
            ("30 * * * *", true),
            ("0,30-40 2 * * *", true),
        ] {
            assert_eq!(Expression::parse(text).unwrap().is_repeating(), expected, "{text}");
        }
    }

    #[test]
    fn both_days_are_asked_where_one_begins_with_a_star() {
        for (text, expected) in [
            ("0 0 13 * 5", Joined::Either),
            ("0 0 13 * *", Joined::Both),
            ("0 0 * * 5", Joined::Both),
            ("0 0 */2 * 5", Joined::Both),
            ("0 0 13 * */2", Joined::Both),
        ] {
            assert_eq!(Expression::parse(text).unwrap().joined(), expected, "{text}");
        }
    }

    #[test]
    fn a_wrong_expression_names_its_field_and_what_is_wrong() {
        for (text, expected) in [
            ("60 * * * *", "cron `60 * * * *`: minute `60`: expected 0 to 59"),
            ("* 24 * * *", "cron `* 24 * * *`: hour `24`: expected 0 to 23"),
            ("* * 0 * *", "cron `* * 0 * *`: day of month `0`: expected 1 to 31"),
            ("* * L * *", "cron `* * L * *`: day of month `L`: expected 1 to 31"),
            ("* * * foo *", "cron `* * * FOO *`: month `FOO`: expected 1 to 12 or JAN to DEC"),
            ("* * * * 8", "cron `* * * * 8`: day of week `8`: expected 0 to 7 or SUN to SAT"),
            ("60 0 0 * * *", "cron `60 0 0 * * *`: second `60`: expected 0 to 59"),
            ("*/0 * * * *", "cron `*/0 * * * *`: minute `*/0`: step `0`: expected 1 to 59"),
            ("*/90 * * * *", "cron `*/90 * * * *`: minute `*/90`: step `90`: expected 1 to 59"),
            ("* 17-9 * * *", "cron `* 17-9 * * *`: hour `17-9`: the range runs backwards"),
            (
                "5/15 * * * *",
                "cron `5/15 * * * *`: minute `5/15`: a step needs `*` or a range before it",
            ),
            ("1,,2 * * * *", "cron `1,,2 * * * *`: minute ``: expected 0 to 59"),
            ("-1 * * * *", "cron `-1 * * * *`: minute `-1`: expected 0 to 59"),
            ("+1 * * * *", "cron `+1 * * * *`: minute `+1`: expected 0 to 59"),
            ("1--2 * * * *", "cron `1--2 * * * *`: minute `1--2`: expected 0 to 59"),
        ] {
            assert_eq!(Expression::parse(text).unwrap_err().to_string(), expected);
        }
        for text in ["", "* * * *", "* * * * * * *", "@daily"] {
            let error = Expression::parse(text).unwrap_err();
            assert!(matches!(error, InvalidCron::Fields { .. }), "{error}");
        }
        let error = Expression::parse(&"1".repeat(513)).unwrap_err().to_string();
        assert_eq!(error, "cron expression of 513 bytes: expected 512 at most");
    }

    #[test]
    fn the_text_is_the_same_however_it_was_written() {
        let text = Expression::parse("  0   2 * *\tmon ").unwrap().into_text();
        assert_eq!(&*text, "0 2 * * MON");
    }
}
