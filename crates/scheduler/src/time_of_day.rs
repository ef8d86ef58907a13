use std::fmt;
use std::str::FromStr;

use jiff::civil;

use crate::InvalidSchedule;

/// A local time of the day, to the second.
///
/// Reads and writes `02:30` and `02:30:15`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimeOfDay {
    hour: u8,
    minute: u8,
    second: u8,
}

impl TimeOfDay {
    /// Returns the time `hour:minute:second`.
    ///
    /// # Errors
    ///
    /// Fails with [`InvalidSchedule::Field`] beyond 23:59:59.
    pub fn new(hour: u8, minute: u8, second: u8) -> Result<Self, InvalidSchedule> {
        if hour > 23 || minute > 59 || second > 59 {
            let found = format!("{hour:02}:{minute:02}:{second:02}");
            return Err(invalid(&found));
        }
        Ok(Self { hour, minute, second })
    }

    /// Returns the hour, 0 to 23.
    #[must_use]
    pub const fn hour(self) -> u8 {
        self.hour
    }

    /// Returns the minute, 0 to 59.
    #[must_use]
    pub const fn minute(self) -> u8 {
        self.minute
    }

    /// Returns the second, 0 to 59.
    #[must_use]
    pub const fn second(self) -> u8 {
        self.second
    }

    /// Seconds since midnight.
    pub(crate) fn seconds(self) -> u32 {
        (u32::from(self.hour) * 60 + u32::from(self.minute)) * 60 + u32::from(self.second)
    }

    /// Cuts `time` to the second.
    pub(crate) fn of(time: civil::Time) -> Self {
        let part = |value: i8| u8::try_from(value).unwrap_or_default();
        let (hour, minute) = (part(time.hour()), part(time.minute()));
        Self { hour, minute, second: part(time.second()) }
    }

    pub(crate) fn civil(self) -> civil::Time {
        let part = |value: u8| i8::try_from(value).unwrap_or_default();
        civil::time(part(self.hour), part(self.minute), part(self.second), 0)
    }

    /// Returns the time `seconds` after midnight, of less than a day.
    pub(crate) fn of_seconds(seconds: u32) -> Self {
        let part = |value: u32, of: u32| u8::try_from(value % of).unwrap_or_default();
        let (hour, minute) = (part(seconds / 3_600, 24), part(seconds / 60, 60));
        Self { hour, minute, second: part(seconds, 60) }
    }
}

fn invalid(found: &str) -> InvalidSchedule {
    InvalidSchedule::field("time of day", found, "`HH:MM` or `HH:MM:SS`, 00:00:00 to 23:59:59")
}

impl FromStr for TimeOfDay {
    type Err = InvalidSchedule;

    fn from_str(text: &str) -> Result<Self, InvalidSchedule> {
        let part = |part: &str| match part.as_bytes() {
            [b'0'..=b'9', b'0'..=b'9'] => part.parse().map_err(|_| invalid(text)),
            _ => Err(invalid(text)),
        };
        let mut parts = text.splitn(3, ':');
        let mut next = || parts.next().map(part);
        let (Some(hour), Some(minute)) = (next(), next()) else { return Err(invalid(text)) };
        let second = next().unwrap_or(Ok(0));
        Self::new(hour?, minute?, second?).map_err(|_| invalid(text))
    }
}

impl TryFrom<&str> for TimeOfDay {
    type Error = InvalidSchedule;

    fn try_from(text: &str) -> Result<Self, InvalidSchedule> {
        text.parse()
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.hour, self.minute)?;
        if self.second > 0 { write!(f, ":{:02}", self.second) } else { Ok(()) }
    }
}

impl fmt::Debug for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_what_they_print() {
        for text in ["00:00", "02:30", "23:59:59"] {
            let time: TimeOfDay = text.parse().unwrap();
            assert_eq!(time.to_string(), text);
            assert_eq!(TimeOfDay::of_seconds(time.seconds()), time);
        }
        assert_eq!("02:30:00".parse::<TimeOfDay>().unwrap().to_string(), "02:30");
    }

    #[test]
    fn what_is_no_time_of_a_day_is_refused() {
        for text in ["", "2", "2:30", "24:00", "02:60", "02:30:60", "02:30:1:1", "+2:30", "ab:cd"] {
            let error = text.parse::<TimeOfDay>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("time of day `{text}`: ")), "{error}");
        }
    }
}
