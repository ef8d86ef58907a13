use std::fmt;
use std::str::FromStr;

use jiff::civil;

use crate::InvalidSchedule;

/// A day of the calendar, in whichever zone it is used.
///
/// Reads and writes `2026-12-25`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date(civil::Date);

impl Date {
    /// Returns the day.
    ///
    /// # Errors
    ///
    /// Fails with [`InvalidSchedule::Field`] if the calendar of the years 1 to
    /// 9999 has no such day.
    pub fn new(year: i16, month: u8, day: u8) -> Result<Self, InvalidSchedule> {
        let found = || invalid(&format!("{year:04}-{month:02}-{day:02}"));
        let (Ok(month), Ok(day)) = (i8::try_from(month), i8::try_from(day)) else {
            return Err(found());
        };
        match civil::Date::new(year, month, day) {
            Ok(date) if year > 0 => Ok(Self(date)),
            _ => Err(found()),
        }
    }

    pub(crate) const fn of(date: civil::Date) -> Self {
        Self(date)
    }

    pub(crate) const fn civil(self) -> civil::Date {
        self.0
    }

    /// Returns the day after, none after the last.
    pub(crate) fn tomorrow(self) -> Option<Self> {
        self.0.tomorrow().ok().map(Self)
    }
}

fn invalid(found: &str) -> InvalidSchedule {
    InvalidSchedule::field("date", found, "`YYYY-MM-DD`, a day of the calendar")
}

impl FromStr for Date {
    type Err = InvalidSchedule;

    fn from_str(text: &str) -> Result<Self, InvalidSchedule> {
        let number = |part: Option<&str>, digits: usize| {
            let is_number = |part: &&str| {
                part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit())
            };
            part.filter(is_number).and_then(|part| part.parse::<i16>().ok())
        };
        let mut parts = text.splitn(3, '-');
        let (year, month, day) =
            (number(parts.next(), 4), number(parts.next(), 2), number(parts.next(), 2));
        let small = |part: Option<i16>| part.and_then(|part| u8::try_from(part).ok());
        match (year, small(month), small(day)) {
            (Some(year), Some(month), Some(day)) => {
                Self::new(year, month, day).map_err(|_| invalid(text))
            }
            _ => Err(invalid(text)),
        }
    }
}

impl TryFrom<&str> for Date {
    type Error = InvalidSchedule;

    fn try_from(text: &str) -> Result<Self, InvalidSchedule> {
        text.parse()
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.0.year(), self.0.month(), self.0.day())
    }
}

impl fmt::Debug for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_read_what_they_print() {
        for text in ["0001-01-01", "2028-02-29", "9999-12-31"] {
            assert_eq!(text.parse::<Date>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_day_is_refused() {
        for text in
            ["", "2026", "2026-2-1", "2026-02-29", "0000-01-01", "2026-13-01", "2026-01-011"]
        {
            let error = text.parse::<Date>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("date `{text}`: ")), "{error}");
        }
    }
}
