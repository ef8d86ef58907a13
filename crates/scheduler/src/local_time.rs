use std::fmt;
use std::str::FromStr;

use jiff::civil::DateTime;

use crate::{Date, InvalidSchedule, TimeOfDay};

/// What the clocks of a zone show, to the second.
///
/// Reads and writes `2026-07-01T02:30:00`, which sorts as time does until the
/// year 9999.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalTime {
    date: Date,
    time: TimeOfDay,
}

impl LocalTime {
    /// Returns the time `time` of the day `date`.
    #[must_use]
    pub const fn new(date: Date, time: TimeOfDay) -> Self {
        Self { date, time }
    }

    /// Returns the day.
    #[must_use]
    pub const fn date(self) -> Date {
        self.date
    }

    /// Returns the time of the day.
    #[must_use]
    pub const fn time(self) -> TimeOfDay {
        self.time
    }

    /// Cuts `local` to the second.
    pub(crate) fn of(local: DateTime) -> Self {
        Self { date: Date::of(local.date()), time: TimeOfDay::of(local.time()) }
    }

    pub(crate) fn civil(self) -> DateTime {
        self.date.civil().to_datetime(self.time.civil())
    }
}

impl FromStr for LocalTime {
    type Err = InvalidSchedule;

    fn from_str(text: &str) -> Result<Self, InvalidSchedule> {
        let expected = "`YYYY-MM-DDTHH:MM:SS`";
        let invalid = |_| InvalidSchedule::field("local time", text, expected);
        let (date, time) = text.split_once('T').unwrap_or((text, ""));
        Ok(Self::new(date.parse().map_err(invalid)?, time.parse().map_err(invalid)?))
    }
}

impl fmt::Display for LocalTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (hour, minute, second) = (self.time.hour(), self.time.minute(), self.time.second());
        write!(f, "{}T{hour:02}:{minute:02}:{second:02}", self.date)
    }
}

impl fmt::Debug for LocalTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_times_read_what_they_print() {
        for text in ["2026-07-01T02:30:00", "0001-01-01T23:59:59"] {
            assert_eq!(text.parse::<LocalTime>().unwrap().to_string(), text);
        }
        for text in ["", "2026-07-01", "2026-07-01 02:30:00", "2026-07-01T02:30:00Z"] {
            let error = text.parse::<LocalTime>().unwrap_err().to_string();
            assert_eq!(error, format!("local time `{text}`: expected `YYYY-MM-DDTHH:MM:SS`"));
        }
    }
}
