//! Days of the Gregorian calendar without a date library, after the formulas of
//! Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms"
//! (<https://howardhinnant.github.io/date_algorithms.html>): years are counted
//! from March, so that a leap day is the last day of one, and in eras of 400
//! years, after which the calendar repeats.

/// Days of an era.
const ERA: i64 = 146_097;

/// Days from the first of March of the year 0 to the Unix epoch.
const EPOCH: i64 = 719_468;

/// A day of the calendar, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Date {
    pub(crate) year: i64,
    /// 1 to 12.
    pub(crate) month: i64,
    /// 1 to 31.
    pub(crate) day: i64,
}

impl Date {
    /// Returns the date `days` after the Unix epoch.
    pub(crate) fn from_days(days: i64) -> Self {
        let shifted = days.saturating_add(EPOCH);
        let (era, in_era) = (shifted.div_euclid(ERA), shifted.rem_euclid(ERA));
        let leap_days = in_era / 1_460 - in_era / 36_524 + in_era / 146_096;
        let years = (in_era - leap_days) / 365;
        let in_year = in_era - (365 * years + years / 4 - years / 100);
        // Months from March on repeat in lengths of 153 days for five.
        let from_march = (5 * in_year + 2) / 153;
        let day = in_year - (153 * from_march + 2) / 5 + 1;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        Self { year: era * 400 + years + i64::from(month <= 2), month, day }
    }

    /// Returns the days from the Unix epoch to this date.
    pub(crate) fn to_days(self) -> i64 {
        let year = self.year - i64::from(self.month <= 2);
        let (era, years) = (year.div_euclid(400), year.rem_euclid(400));
        let from_march = (self.month + 9) % 12;
        let in_year = (153 * from_march + 2) / 5 + self.day - 1;
        era * ERA + years * 365 + years / 4 - years / 100 + in_year - EPOCH
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn date(year: i64, month: i64, day: i64) -> Date {
        Date { year, month, day }
    }

    fn is_leap(year: i64) -> bool {
        year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
    }

    fn length(year: i64, month: i64) -> i64 {
        match month {
            2 => 28 + i64::from(is_leap(year)),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        }
    }

    #[test]
    fn counting_day_by_day_comes_to_the_same_dates() {
        let mut expected = date(0, 1, 1);
        let first = expected.to_days();
        for days in first..first + 3 * ERA {
            assert_eq!(Date::from_days(days), expected);
            assert_eq!(expected.to_days(), days);
            expected.day += 1;
            if expected.day > length(expected.year, expected.month) {
                (expected.month, expected.day) = (expected.month + 1, 1);
            }
            if expected.month > 12 {
                (expected.year, expected.month) = (expected.year + 1, 1);
            }
        }
    }

    #[test]
    fn known_days_have_their_numbers() {
        assert_eq!(date(1970, 1, 1).to_days(), 0);
        assert_eq!(date(1969, 12, 31).to_days(), -1);
        assert_eq!(date(2000, 2, 29).to_days(), 11_016);
        assert_eq!(date(2026, 11, 21).to_days(), 20_778);
    }

    proptest! {
        #[test]
        fn every_day_survives_the_round_trip(days in -4_000_000_i64..4_000_000) {
            prop_assert_eq!(Date::from_days(days).to_days(), days);
        }
    }
}
