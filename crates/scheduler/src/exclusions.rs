use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use jiff::civil::{Date as CivilDate, DateTime, Time};

use crate::weekday::Weekdays;
use crate::{Date, InvalidSchedule, TimeOfDay, Weekday};

/// Local times at which nothing is due: a calendar that jobs may share.
///
/// Cheap to clone. The text form lists dates, weekdays and times of the day:
/// `2026-12-24..2026-12-26 sat sun 22:00..06:00`; it is the same for all
/// calendars that exclude the same.
///
/// # Example
///
/// ```
/// use trine_scheduler::{Exclusions, Weekday};
///
/// let quiet = Exclusions::none()
///     .with_date("2026-12-25")?
///     .with_weekdays([Weekday::Saturday, Weekday::Sunday])?
///     .with_times("22:00", "06:00")?;
/// assert_eq!(quiet, "sun sat 22:00..06:00 2026-12-25".parse()?);
/// # Ok::<(), trine_scheduler::InvalidSchedule>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Exclusions(Option<Arc<Excluded>>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Excluded {
    /// First and last day, in order, with a day between them.
    dates: Vec<(Date, Date)>,
    weekdays: Weekdays,
    /// Seconds of the day, the second one not included, in order and apart.
    times: Vec<(u32, u32)>,
}

const DAY: u32 = 24 * 60 * 60;

impl Exclusions {
    /// Most ranges of dates.
    pub const MAX_DATES: usize = 1_000;
    /// Most windows of the day.
    pub const MAX_TIMES: usize = 16;

    /// Returns the calendar that excludes nothing.
    #[must_use]
    pub const fn none() -> Self {
        Self(None)
    }

    /// Excludes one day.
    ///
    /// # Errors
    ///
    /// As [`with_dates`](Self::with_dates).
    pub fn with_date(
        self,
        date: impl TryInto<Date, Error: Into<InvalidSchedule>>,
    ) -> Result<Self, InvalidSchedule> {
        let date = date.try_into().map_err(Into::into)?;
        self.with_dates(date, date)
    }

    /// Excludes the days from `first` to `last`, both included.
    ///
    /// # Errors
    ///
    /// Fails with [`InvalidSchedule::Field`] if one is no day, `last` is before
    /// `first`, or there are more than [`MAX_DATES`](Self::MAX_DATES) ranges.
    pub fn with_dates(
        mut self,
        first: impl TryInto<Date, Error: Into<InvalidSchedule>>,
        last: impl TryInto<Date, Error: Into<InvalidSchedule>>,
    ) -> Result<Self, InvalidSchedule> {
        let first = first.try_into().map_err(Into::into)?;
        let last = last.try_into().map_err(Into::into)?;
        if last < first {
            let found = format!("{first}..{last}");
            return Err(InvalidSchedule::field("excluded dates", found, "the first day first"));
        }
        let dates = &mut self.make_mut().dates;
        merge(dates, (first, last), |end, begin| end.tomorrow().is_none_or(|next| begin <= next));
        if dates.len() > Self::MAX_DATES {
            let found = dates.len().to_string();
            return Err(InvalidSchedule::field("excluded dates", found, "at most 1000 ranges"));
        }
        Ok(self)
    }

    /// Excludes days of every week.
    ///
    /// # Errors
    ///
    /// Fails with [`InvalidSchedule::AllExcluded`] if none is left.
    pub fn with_weekdays(
        mut self,
        days: impl IntoIterator<Item = Weekday>,
    ) -> Result<Self, InvalidSchedule> {
        let days: Weekdays = days.into_iter().collect();
        if days.is_empty() {
            return Ok(self);
        }
        let weekdays = &mut self.make_mut().weekdays;
        *weekdays = Weekdays::of_bits(weekdays.bits() | days.bits());
        if *weekdays == Weekdays::ALL {
            return Err(InvalidSchedule::AllExcluded { what: "all weekdays" });
        }
        Ok(self)
    }

    /// Excludes the times from `from` until just before `to` on every day, over
    /// midnight if `to` is the earlier one.
    ///
    /// # Errors
    ///
    /// Fails with [`InvalidSchedule::Field`] if one is no time, both are the
    /// same, or there are more than [`MAX_TIMES`](Self::MAX_TIMES) windows; with
    /// [`InvalidSchedule::AllExcluded`] if no time of the day is left.
    pub fn with_times(
        mut self,
        from: impl TryInto<TimeOfDay, Error: Into<InvalidSchedule>>,
        to: impl TryInto<TimeOfDay, Error: Into<InvalidSchedule>>,
    ) -> Result<Self, InvalidSchedule> {
        let from = from.try_into().map_err(Into::into)?;
        let to = to.try_into().map_err(Into::into)?;
        let found = format!("{from}..{to}");
        let (from, to) = (from.seconds(), to.seconds());
        if from == to {
            return Err(InvalidSchedule::field("excluded times", found, "two different times"));
        }
        let times = &mut self.make_mut().times;
        let touch = |end: u32, begin: u32| begin <= end;
        if from < to {
            merge(times, (from, to), touch);
        } else {
            merge(times, (from, DAY), touch);
            if to > 0 {
                merge(times, (0, to), touch);
            }
        }
        if times.as_slice() == [(0, DAY)] {
            return Err(InvalidSchedule::AllExcluded { what: "all times of the day" });
        }
        if times.len() > Self::MAX_TIMES {
            let found = times.len().to_string();
            return Err(InvalidSchedule::field("excluded times", found, "at most 16 windows"));
        }
        Ok(self)
    }

    /// Tells whether nothing is excluded.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// Returns the last day of the excluded dates that `date` is one of.
    pub(crate) fn last_date(&self, date: CivilDate) -> Option<CivilDate> {
        let dates = &self.0.as_ref()?.dates;
        let place = dates.partition_point(|(_, last)| last.civil() < date);
        let (first, last) = dates.get(place)?;
        (first.civil() <= date).then(|| last.civil())
    }

    /// Returns the first local time after what excludes `local`, none if it is
    /// not excluded. That time may be excluded itself.
    pub(crate) fn end_of(&self, local: DateTime) -> Option<DateTime> {
        let excluded = self.0.as_ref()?;
        let date = local.date();
        let midnight = |date: CivilDate| {
            // After the last day of the calendar there is nothing to find.
            date.tomorrow().map_or(DateTime::MAX, |next| next.to_datetime(Time::MIN))
        };
        if let Some(last) = self.last_date(date) {
            return Some(midnight(last));
        }
        if excluded.weekdays.has(date.weekday()) {
            return Some(midnight(date));
        }
        let second = TimeOfDay::of(local.time()).seconds();
        let (_, end) = excluded.times.iter().find(|(from, to)| (*from..*to).contains(&second))?;
        if *end == DAY {
            return Some(midnight(date));
        }
        Some(date.to_datetime(TimeOfDay::of_seconds(*end).civil()))
    }

    fn make_mut(&mut self) -> &mut Excluded {
        Arc::make_mut(self.0.get_or_insert_default())
    }

    /// Returns each part of the text form: dates, weekdays, times.
    pub(crate) fn parts(&self) -> Vec<String> {
        let Some(excluded) = &self.0 else { return Vec::new() };
        let dates = excluded.dates.iter().map(|(first, last)| {
            if first == last { first.to_string() } else { format!("{first}..{last}") }
        });
        let weekdays = excluded.weekdays.iter().map(|day| day.to_string());
        dates.chain(weekdays).chain(self.windows()).collect()
    }

    /// Returns each window of the day; one over midnight comes last.
    fn windows(&self) -> impl Iterator<Item = String> {
        let times = self.0.as_ref().map_or(&[][..], |excluded| &excluded.times);
        let (mut times, mut over_midnight) = (times, None);
        if let [(0, to), middle @ .., (from, DAY)] = times {
            (times, over_midnight) = (middle, Some((*from, *to)));
        }
        times.iter().copied().chain(over_midnight).map(|(from, to)| {
            format!("{}..{}", TimeOfDay::of_seconds(from), TimeOfDay::of_seconds(to % DAY))
        })
    }
}

/// Adds `range` to those in order, as one with those that `touches` says it
/// follows.
fn merge<T: Ord + Copy>(ranges: &mut Vec<(T, T)>, range: (T, T), touches: impl Fn(T, T) -> bool) {
    let place = ranges.partition_point(|other| other.0 <= range.0);
    ranges.insert(place, range);
    ranges.dedup_by(|later, earlier| {
        let touch = touches(earlier.1, later.0);
        if touch {
            earlier.1 = earlier.1.max(later.1);
        }
        touch
    });
}

impl FromStr for Exclusions {
    type Err = InvalidSchedule;

    fn from_str(text: &str) -> Result<Self, InvalidSchedule> {
        text.split_whitespace().try_fold(Self::none(), |all, part| match part.split_once("..") {
            Some((from, to)) if part.contains(':') => all.with_times(from, to),
            Some((first, last)) => all.with_dates(first, last),
            None if part.starts_with(|first: char| first.is_ascii_digit()) => all.with_date(part),
            None => all.with_weekdays([part.parse()?]),
        })
    }
}

impl fmt::Display for Exclusions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.parts().join(" "))
    }
}

impl fmt::Debug for Exclusions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Exclusions({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Exclusions {
        text.parse().unwrap()
    }

    #[test]
    fn the_text_is_the_same_for_all_that_exclude_the_same() {
        for (text, expected) in [
            ("", ""),
            ("sun sat", "sat sun"),
            ("2026-12-26 2026-12-25", "2026-12-25..2026-12-26"),
            ("2026-12-20..2026-12-31 2026-12-25 2027-01-02", "2026-12-20..2026-12-31 2027-01-02"),
            ("22:00..06:00", "22:00..06:00"),
            ("22:00..00:00 00:00..06:00 12:00..13:00:30", "12:00..13:00:30 22:00..06:00"),
            ("22:00..00:00", "22:00..00:00"),
            ("08:00..10:00 09:00..11:00 11:00..12:00", "08:00..12:00"),
        ] {
            assert_eq!(read(text).to_string(), expected);
            assert_eq!(read(expected), read(text));
        }
    }

    #[test]
    fn what_excludes_nothing_or_everything_is_refused() {
        for (text, expected) in [
            (
                "mon tue wed thu fri sat sun",
                "exclusions: all weekdays are excluded, so nothing is ever due",
            ),
            (
                "00:00..12:00 12:00..00:00",
                "exclusions: all times of the day are excluded, so nothing is ever due",
            ),
            ("12:00..12:00", "excluded times `12:00..12:00`: expected two different times"),
            (
                "2026-02-02..2026-02-01",
                "excluded dates `2026-02-02..2026-02-01`: expected the first day first",
            ),
            ("2026-02-30", "date `2026-02-30`: expected `YYYY-MM-DD`, a day of the calendar"),
            ("holidays", "weekday `holidays`: expected `mon` to `sun`"),
        ] {
            assert_eq!(text.parse::<Exclusions>().unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn calendars_are_bounded() {
        let mut all = Exclusions::none();
        for year in 1..=1_000 {
            all = all.with_date(Date::new(year, 1, 1).unwrap()).unwrap();
        }
        let error = all.with_date("2026-01-01").unwrap_err().to_string();
        assert_eq!(error, "excluded dates `1001`: expected at most 1000 ranges");
    }

    #[test]
    fn what_excludes_a_time_has_an_end() {
        let calendar = read("2026-12-24..2026-12-26 sun 22:00..06:00 12:00..13:00");
        for (local, end) in [
            ("2026-12-23T21:59:59", None),
            ("2026-12-23T22:00:00", Some("2026-12-24T00:00:00")),
            ("2026-12-24T12:30:00", Some("2026-12-27T00:00:00")),
            ("2026-12-27T12:30:00", Some("2026-12-28T00:00:00")),
            ("2026-12-28T05:59:59.9", Some("2026-12-28T06:00:00")),
            ("2026-12-28T06:00:00", None),
            ("2026-12-28T12:00:00", Some("2026-12-28T13:00:00")),
        ] {
            let found = calendar.end_of(local.parse().unwrap());
            assert_eq!(found.map(|end| end.to_string()).as_deref(), end, "{local}");
        }
    }
}
