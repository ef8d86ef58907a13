const MICROS_PER_SECOND: i64 = 1_000_000;
const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;
/// Days from the first of March of year 0 to the Unix epoch.
const EPOCH_DAYS: i64 = 719_468;
/// Days of 400 years, after which the calendar repeats.
const ERA_DAYS: i64 = 146_097;

/// A moment as the wire protocol writes it: Gregorian, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Civil {
    pub(super) year: u16,
    pub(super) month: u8,
    pub(super) day: u8,
    pub(super) hour: u8,
    pub(super) minute: u8,
    pub(super) second: u8,
    pub(super) micros: u32,
}

impl Civil {
    /// Returns the moment, counted in microseconds since the Unix epoch; `None`
    /// outside of the years 1 to 9999.
    pub(super) fn from_micros(micros: i64) -> Option<Self> {
        let days = micros.div_euclid(MICROS_PER_DAY) + EPOCH_DAYS;
        let in_day = micros.rem_euclid(MICROS_PER_DAY);
        let (era, day_of_era) = (days.div_euclid(ERA_DAYS), days.rem_euclid(ERA_DAYS));
        let leaps = day_of_era / 1460 - day_of_era / 36_524 + day_of_era / 146_096;
        let year_of_era = (day_of_era - leaps) / 365;
        // Years begin in March here, so that a leap day is the last of one.
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * march_month + 2) / 5 + 1;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        let year = year_of_era + 400 * era + i64::from(month <= 2);
        let seconds = in_day / MICROS_PER_SECOND;
        Some(Self {
            year: u16::try_from(year).ok().filter(|year| (1..=9999).contains(year))?,
            month: u8::try_from(month).ok()?,
            day: u8::try_from(day).ok()?,
            hour: u8::try_from(seconds / 3600).ok()?,
            minute: u8::try_from(seconds / 60 % 60).ok()?,
            second: u8::try_from(seconds % 60).ok()?,
            micros: u32::try_from(in_day % MICROS_PER_SECOND).ok()?,
        })
    }

    /// Returns the microseconds since the Unix epoch; `None` for what is no
    /// date, such as the zero date.
    pub(super) fn to_micros(self) -> Option<i64> {
        if self.year == 0 || !(1..=12).contains(&self.month) || !(1..=31).contains(&self.day) {
            return None;
        }
        let (month, day) = (i64::from(self.month), i64::from(self.day));
        let year = i64::from(self.year) - i64::from(month <= 2);
        let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
        let march_month = (month + 9) % 12;
        let day_of_year = (153 * march_month + 2) / 5 + day - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let days = era * ERA_DAYS + day_of_era - EPOCH_DAYS;
        let seconds =
            i64::from(self.hour) * 3600 + i64::from(self.minute) * 60 + i64::from(self.second);
        Some(days * MICROS_PER_DAY + seconds * MICROS_PER_SECOND + i64::from(self.micros))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn civil(year: u16, month: u8, day: u8) -> Civil {
        Civil { year, month, day, hour: 0, minute: 0, second: 0, micros: 0 }
    }

    #[test]
    fn known_days_have_their_numbers() {
        for (date, days) in [
            (civil(1970, 1, 1), 0),
            (civil(2000, 2, 29), 11_016),
            (civil(2000, 3, 1), 11_017),
            (civil(1969, 12, 31), -1),
            (civil(1, 1, 1), -719_162),
            (civil(9999, 12, 31), 2_932_896),
        ] {
            assert_eq!(date.to_micros(), Some(days * MICROS_PER_DAY), "{date:?}");
            assert_eq!(Civil::from_micros(days * MICROS_PER_DAY), Some(date));
        }
        assert_eq!(civil(0, 0, 0).to_micros(), None);
        assert_eq!(civil(2024, 0, 1).to_micros(), None);
    }

    proptest! {
        #[test]
        fn every_moment_survives_the_round_trip(
            micros in -719_162 * MICROS_PER_DAY..2_932_897 * MICROS_PER_DAY,
        ) {
            let civil = Civil::from_micros(micros).unwrap();
            prop_assert_eq!(civil.to_micros(), Some(micros));
        }

        #[test]
        fn no_number_panics(micros: i64) {
            let _ = Civil::from_micros(micros);
        }
    }
}
