use crate::calendar::Date;

const MICROS_PER_SECOND: i64 = 1_000_000;
const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;

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
        let Date { year, month, day } = Date::from_days(micros.div_euclid(MICROS_PER_DAY));
        let in_day = micros.rem_euclid(MICROS_PER_DAY);
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
        let date = Date { year: self.year.into(), month: self.month.into(), day: self.day.into() };
        let seconds =
            i64::from(self.hour) * 3600 + i64::from(self.minute) * 60 + i64::from(self.second);
        Some(date.to_days() * MICROS_PER_DAY + seconds * MICROS_PER_SECOND + i64::from(self.micros))
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
