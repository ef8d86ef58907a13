use jiff::civil::{self, DateTime};

use crate::weekday::Weekdays;
use crate::{TimeOfDay, cron};

/// Which local times are meant, as one bit mask a field.
///
/// 32 bytes without a heap: a hundred thousand of them are three megabytes, and
/// the next time is found by counting zeros. A parsed pattern of the usual
/// library takes 5.8 KiB, and parsing its text again takes 10 µs each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    pub(crate) seconds: u64,
    pub(crate) minutes: u64,
    pub(crate) hours: u32,
    /// Bits 1 to 31; bit 0 is the last day of the month.
    pub(crate) days: u32,
    /// Bits 1 to 12.
    pub(crate) months: u16,
    pub(crate) weekdays: Weekdays,
    pub(crate) joined: Joined,
}

/// How day of month and day of week go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Joined {
    Both,
    Either,
}

pub(crate) const LAST_DAY: u8 = 0;
const ANY_DAY: u32 = !1;
const ANY_MONTH: u16 = 0b1_1111_1111_1110;

impl Pattern {
    /// Returns the pattern of every day at `at`.
    pub(crate) fn daily(at: TimeOfDay) -> Self {
        Self {
            seconds: 1 << at.second(),
            minutes: 1 << at.minute(),
            hours: 1 << at.hour(),
            days: ANY_DAY,
            months: ANY_MONTH,
            weekdays: Weekdays::ALL,
            joined: Joined::Both,
        }
    }

    pub(crate) fn weekly(weekdays: Weekdays, at: TimeOfDay) -> Self {
        Self { weekdays, ..Self::daily(at) }
    }

    /// Returns the pattern of `day` of every month, or of its last day for
    /// [`LAST_DAY`].
    pub(crate) fn monthly(day: u8, at: TimeOfDay) -> Self {
        Self { days: 1 << day, ..Self::daily(at) }
    }

    /// Tells whether any day is meant at all: the calendar repeats itself after
    /// four hundred years.
    pub(crate) fn has_a_day(&self) -> bool {
        self.day_from(civil::date(2000, 1, 1), civil::date(2399, 12, 31)).is_some()
    }

    /// Returns the first local time that is meant from `from` on, a whole
    /// second, until the end of `last`.
    pub(crate) fn next_from(&self, from: DateTime, last: civil::Date) -> Option<DateTime> {
        let today = self.day_from(from.date(), last)?;
        if today > from.date() {
            return Some(today.to_datetime(self.first_time()?));
        }
        if let Some(time) = self.time_from(from.time()) {
            return Some(today.to_datetime(time));
        }
        let later = self.day_from(today.tomorrow().ok()?, last)?;
        Some(later.to_datetime(self.first_time()?))
    }

    fn day_from(&self, from: civil::Date, last: civil::Date) -> Option<civil::Date> {
        let (mut first, mut day) = (from.first_of_month(), bit(from.day()));
        while first <= last {
            if self.months >> bit(first.month()) & 1 == 1
                && let Some(day) = next_bit(u64::from(self.days_of(first)), day)
            {
                let date = first.with().day(i8::try_from(day).ok()?).build().ok()?;
                return (date <= last).then_some(date);
            }
            (first, day) = (first.last_of_month().tomorrow().ok()?, 1);
        }
        None
    }

    /// Returns the days that are meant of the month that begins with `first`.
    fn days_of(&self, first: civil::Date) -> u32 {
        let length = bit(first.days_in_month());
        let real = u32::MAX >> (31 - length) & ANY_DAY;
        let last = (self.days & 1) << length;
        let days = self.days & real | last;

        // One week from the first on, then five of them in a row.
        let (week, begin) =
            (u64::from(self.weekdays.bits()), first.weekday().to_sunday_zero_offset());
        let week = (week >> begin | week << (7 - begin)) & 0x7f;
        let weeks = (0..5).fold(0, |weeks, each| weeks | week << (7 * each)) << 1;
        let by_weekday = u32::try_from(weeks & u64::from(real)).unwrap_or_default();

        match self.joined {
            Joined::Both => days & by_weekday,
            Joined::Either => days | by_weekday,
        }
    }

    fn first_time(&self) -> Option<civil::Time> {
        self.time_from(civil::Time::MIN)
    }

    fn time_from(&self, from: civil::Time) -> Option<civil::Time> {
        let (hour, minute, second) = (bit(from.hour()), bit(from.minute()), bit(from.second()));
        let hours = u64::from(self.hours);
        let (first_minute, first_second) = (next_bit(self.minutes, 0)?, next_bit(self.seconds, 0)?);
        let this_hour = next_bit(hours, hour)?;
        let (hour, minute, second) = if this_hour > hour {
            (this_hour, first_minute, first_second)
        } else if next_bit(self.minutes, minute) == Some(minute)
            && let Some(second) = next_bit(self.seconds, second)
        {
            (hour, minute, second)
        } else if let Some(minute) = next_bit(self.minutes, minute + 1) {
            (hour, minute, first_second)
        } else {
            (next_bit(hours, hour + 1)?, first_minute, first_second)
        };
        let part = |value: u32| i8::try_from(value).ok();
        civil::Time::new(part(hour)?, part(minute)?, part(second)?, 0).ok()
    }
}

impl From<&cron::Expression> for Pattern {
    fn from(expression: &cron::Expression) -> Self {
        let mask = |field| expression.mask(field);
        let low = |mask: u64| u32::try_from(mask & u64::from(u32::MAX)).unwrap_or_default();
        let weekdays = mask(crate::CronField::DayOfWeek);
        // Sunday is 0 and 7.
        let weekdays = (weekdays | weekdays >> 7) & 0x7f;
        Self {
            seconds: mask(crate::CronField::Second),
            minutes: mask(crate::CronField::Minute),
            hours: low(mask(crate::CronField::Hour)),
            days: low(mask(crate::CronField::DayOfMonth)),
            months: u16::try_from(mask(crate::CronField::Month)).unwrap_or_default(),
            weekdays: Weekdays::of_bits(u8::try_from(weekdays).unwrap_or_default()),
            joined: expression.joined(),
        }
    }
}

/// A part of a calendar time as the number of its bit.
fn bit(part: i8) -> u32 {
    u32::try_from(part).unwrap_or_default()
}

/// Returns the lowest bit of `mask` from `from` on.
fn next_bit(mask: u64, from: u32) -> Option<u32> {
    let rest = mask.checked_shr(from)?;
    (rest != 0).then(|| from + rest.trailing_zeros())
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    const END: civil::Date = date(2100, 1, 1);

    fn at(text: &str) -> TimeOfDay {
        text.parse().unwrap()
    }

    fn days(pattern: Pattern, from: civil::Date, count: usize) -> Vec<String> {
        let mut from = from.to_datetime(civil::Time::MIN);
        let mut found = Vec::new();
        while found.len() < count {
            let next = pattern.next_from(from, END).unwrap();
            found.push(next.strftime("%m-%d").to_string());
            from = next.checked_add(jiff::Span::new().seconds(1)).unwrap();
        }
        found
    }

    #[test]
    fn a_day_that_a_month_lacks_is_skipped() {
        let found = days(Pattern::monthly(31, at("04:00")), date(2026, 1, 1), 4);
        assert_eq!(found, ["01-31", "03-31", "05-31", "07-31"]);
        let found = days(Pattern::monthly(29, at("04:00")), date(2027, 2, 1), 3);
        assert_eq!(found, ["03-29", "04-29", "05-29"]);
    }

    #[test]
    fn the_last_day_is_that_of_each_month() {
        let found = days(Pattern::monthly(LAST_DAY, at("04:00")), date(2028, 1, 1), 4);
        assert_eq!(found, ["01-31", "02-29", "03-31", "04-30"]);
    }

    #[test]
    fn a_time_that_is_over_comes_with_the_next_day() {
        let daily = Pattern::daily(at("02:30:15"));
        let next = |from: &str| daily.next_from(from.parse().unwrap(), END).unwrap().to_string();
        assert_eq!(next("2026-12-31T02:30:15"), "2026-12-31T02:30:15");
        assert_eq!(next("2026-12-31T02:30:16"), "2027-01-01T02:30:15");
        let none = daily.next_from("2100-01-01T02:30:16".parse().unwrap(), END);
        assert_eq!(none, None);
    }

    #[test]
    fn weekdays_hold_over_every_month() {
        let monday = Pattern::weekly(Weekdays::of_bits(0b10), at("00:00"));
        let mut from = date(2000, 1, 1).to_datetime(civil::Time::MIN);
        for _ in 0..5_000 {
            let next = monday.next_from(from, END).unwrap();
            assert_eq!(next.weekday(), civil::Weekday::Monday);
            assert!(next.duration_since(from).as_hours() <= 7 * 24);
            from = next.checked_add(jiff::Span::new().seconds(1)).unwrap();
        }
    }
}
