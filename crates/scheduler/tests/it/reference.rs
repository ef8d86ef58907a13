//! What a schedule of local times has to answer, found by walking through time
//! step by step and reading the clocks at each.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// A cron expression that is matched field by field, without any mask.
pub(crate) struct Matcher {
    second: Field,
    minute: Field,
    hour: Field,
    day: Field,
    month: Field,
    weekday: Field,
    is_repeating: bool,
}

/// First value, last value and step of each item.
struct Field {
    items: Vec<(i8, i8, i8)>,
    begins_with_star: bool,
}

impl Matcher {
    /// Takes five fields or six, of numbers only.
    pub(crate) fn new(expression: &str) -> Self {
        let mut fields: Vec<_> = expression.split(' ').map(str::to_owned).collect();
        if fields.len() == 5 {
            fields.insert(0, "0".to_owned());
        }
        let is_repeating = fields[1..3].iter().any(|field| field.contains(['*', '-', '/']));
        let fields: Vec<_> = fields.iter().map(|field| Field::new(field)).collect();
        let Ok([second, minute, hour, day, month, weekday]) = <[Field; 6]>::try_from(fields) else {
            panic!("{expression}: five fields or six")
        };
        Self { second, minute, hour, day, month, weekday, is_repeating }
    }

    pub(crate) fn matches(&self, local: DateTime) -> bool {
        let weekday = local.weekday().to_sunday_zero_offset();
        let by_day = self.day.has(local.day());
        let by_weekday = self.weekday.has(weekday) || weekday == 0 && self.weekday.has(7);
        let on_day = if self.day.begins_with_star || self.weekday.begins_with_star {
            by_day && by_weekday
        } else {
            by_day || by_weekday
        };
        self.second.has(local.second())
            && self.minute.has(local.minute())
            && self.hour.has(local.hour())
            && self.month.has(local.month())
            && on_day
    }

    pub(crate) fn is_repeating(&self) -> bool {
        self.is_repeating
    }
}

impl Field {
    fn new(text: &str) -> Self {
        let item = |item: &str| {
            let (range, step) = item.split_once('/').unwrap_or((item, "1"));
            let (first, last) = match range.split_once('-') {
                // With a step that is right for what counts from 0.
                _ if range == "*" => (0, 59),
                Some((first, last)) => (first.parse().unwrap(), last.parse().unwrap()),
                None => (range.parse().unwrap(), range.parse().unwrap()),
            };
            (first, last, step.parse().unwrap())
        };
        Self { items: text.split(',').map(item).collect(), begins_with_star: text.starts_with('*') }
    }

    fn has(&self, value: i8) -> bool {
        let is_in = |(first, last, step): &(i8, i8, i8)| {
            (*first..=*last).contains(&value) && (value - first) % step == 0
        };
        self.items.iter().any(is_in)
    }
}

/// Returns the moments from `from` until just before `to` at which `matches` is
/// due, in steps of `step`, of which the setting of clocks must be a multiple.
///
/// `lead` is how long before it begins to walk: more than clocks are ever set
/// back, so that it knows which local times have been.
pub(crate) fn walk(
    zone: &TimeZone,
    matches: impl Fn(DateTime) -> bool,
    is_repeating: bool,
    (from, to): (Timestamp, Timestamp),
    step: SignedDuration,
    lead: SignedDuration,
) -> Vec<Timestamp> {
    let mut due = Vec::new();
    let before = from.checked_sub(lead).unwrap();
    let (mut at, mut seen) = (before, zone.to_datetime(before));
    while at < to {
        let local = zone.to_datetime(at);
        let is_due = if is_repeating {
            matches(local)
        } else {
            let mut missed = false;
            while seen < local {
                seen = seen.checked_add(step).unwrap();
                missed |= matches(seen);
            }
            missed
        };
        if is_due && at >= from {
            due.push(at);
        }
        at = at.checked_add(step).unwrap();
    }
    due
}
