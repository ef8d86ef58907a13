use std::fmt;
use std::str::FromStr;

use crate::InvalidSchedule;

/// A day of the week.
///
/// Reads `mon` and `Monday` in any case, and writes `mon`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "they say themselves what they are")]
pub enum Weekday {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

impl Weekday {
    /// All seven, Monday first.
    pub const ALL: [Self; 7] = [
        Self::Monday,
        Self::Tuesday,
        Self::Wednesday,
        Self::Thursday,
        Self::Friday,
        Self::Saturday,
        Self::Sunday,
    ];

    /// Returns its English name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Monday => "Monday",
            Self::Tuesday => "Tuesday",
            Self::Wednesday => "Wednesday",
            Self::Thursday => "Thursday",
            Self::Friday => "Friday",
            Self::Saturday => "Saturday",
            Self::Sunday => "Sunday",
        }
    }

    /// Days since Sunday, as cron counts.
    const fn number(self) -> u8 {
        match self {
            Self::Sunday => 0,
            Self::Monday => 1,
            Self::Tuesday => 2,
            Self::Wednesday => 3,
            Self::Thursday => 4,
            Self::Friday => 5,
            Self::Saturday => 6,
        }
    }
}

impl fmt::Display for Weekday {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Monday => "mon",
            Self::Tuesday => "tue",
            Self::Wednesday => "wed",
            Self::Thursday => "thu",
            Self::Friday => "fri",
            Self::Saturday => "sat",
            Self::Sunday => "sun",
        })
    }
}

impl FromStr for Weekday {
    type Err = InvalidSchedule;

    fn from_str(text: &str) -> Result<Self, InvalidSchedule> {
        let is_meant = |day: &Self| {
            text.eq_ignore_ascii_case(day.name()) || text.eq_ignore_ascii_case(&day.to_string())
        };
        Self::ALL
            .into_iter()
            .find(is_meant)
            .ok_or_else(|| InvalidSchedule::field("weekday", text, "`mon` to `sun`"))
    }
}

/// A set of weekdays: bit 0 is Sunday.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Weekdays(u8);

impl Weekdays {
    pub(crate) const ALL: Self = Self(0b111_1111);

    /// Returns the set whose bit 0 is Sunday and bit 6 Saturday.
    pub(crate) const fn of_bits(bits: u8) -> Self {
        Self(bits & Self::ALL.0)
    }

    pub(crate) const fn bits(self) -> u8 {
        self.0
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn has(self, day: jiff::civil::Weekday) -> bool {
        self.0 >> day.to_sunday_zero_offset() & 1 == 1
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = Weekday> {
        Weekday::ALL.into_iter().filter(move |day| self.0 >> day.number() & 1 == 1)
    }
}

impl FromIterator<Weekday> for Weekdays {
    fn from_iter<I: IntoIterator<Item = Weekday>>(days: I) -> Self {
        Self(days.into_iter().fold(0, |bits, day| bits | 1 << day.number()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weekdays_read_what_they_print_and_their_names() {
        for day in Weekday::ALL {
            assert_eq!(day.to_string().parse::<Weekday>().unwrap(), day);
            assert_eq!(day.name().to_uppercase().parse::<Weekday>().unwrap(), day);
        }
        let error = "mo".parse::<Weekday>().unwrap_err().to_string();
        assert_eq!(error, "weekday `mo`: expected `mon` to `sun`");
    }

    #[test]
    fn a_set_keeps_its_days_from_monday_on() {
        let set: Weekdays = [Weekday::Sunday, Weekday::Monday].into_iter().collect();
        assert_eq!(set.iter().collect::<Vec<_>>(), [Weekday::Monday, Weekday::Sunday]);
        assert!(set.has(jiff::civil::Weekday::Sunday) && !set.has(jiff::civil::Weekday::Saturday));
    }
}
