use std::fmt;
use std::time::{Duration, SystemTime};

/// Writes a moment as RFC 3339 has it, in UTC.
///
/// With three digits of a second, or as many as the format asks for, up to nine;
/// what is beyond them is cut off.
///
/// # Example
///
/// ```
/// use std::time::{Duration, SystemTime};
///
/// use trine_core::Rfc3339;
///
/// let moment = Rfc3339(SystemTime::UNIX_EPOCH + Duration::from_micros(1_709_251_199_999_999));
/// assert_eq!(moment.to_string(), "2024-02-29T23:59:59.999Z");
/// assert_eq!(format!("{moment:.6}"), "2024-02-29T23:59:59.999999Z");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rfc3339(pub SystemTime);

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, nanos) = since_epoch(self.0);
        let (year, month, day) = civil(seconds.div_euclid(86_400));
        let second = seconds.rem_euclid(86_400);
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        let digits = f.precision().unwrap_or(3).min(9);
        if digits > 0 {
            let nanos = format!("{nanos:09}");
            write!(f, ".{}", nanos.get(..digits).unwrap_or(&nanos))?;
        }
        f.write_str("Z")
    }
}

/// Returns whole seconds since 1970-01-01, negative before, and what is left.
fn since_epoch(moment: SystemTime) -> (i64, u32) {
    let seconds = |span: Duration| i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
    match moment.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => (seconds(after), after.subsec_nanos()),
        Err(error) => match (error.duration(), error.duration().subsec_nanos()) {
            (before, 0) => (-seconds(before), 0),
            (before, nanos) => (-seconds(before) - 1, 1_000_000_000 - nanos),
        },
    }
}

/// Returns year, month and day of the day `days` after 1970-01-01. Years begin
/// with March here, so that the leap day is the last one.
fn civil(days: i64) -> (i64, i64, i64) {
    const CENTURIES: i64 = 146_097;
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(CENTURIES), days.rem_euclid(CENTURIES));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_follow_the_calendar() {
        for (secs, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
            (1_798_761_599, "2026-12-31T23:59:59.000Z"),
            (253_402_300_799, "9999-12-31T23:59:59.000Z"),
        ] {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(secs);
            assert_eq!(Rfc3339(time).to_string(), text);
        }
    }

    #[test]
    fn digits_are_cut_and_moments_before_1970_are_moments() {
        let before = |micros| Rfc3339(SystemTime::UNIX_EPOCH - Duration::from_micros(micros));
        assert_eq!(format!("{:.6}", before(1)), "1969-12-31T23:59:59.999999Z");
        assert_eq!(format!("{:.0}", before(1)), "1969-12-31T23:59:59Z");
        assert_eq!(before(1_000_000).to_string(), "1969-12-31T23:59:59.000Z");
        let nanos = SystemTime::UNIX_EPOCH + Duration::from_nanos(1_999_999_999);
        assert_eq!(format!("{:.99}", Rfc3339(nanos)), "1970-01-01T00:00:01.999999999Z");
        assert_eq!(Rfc3339(nanos).to_string(), "1970-01-01T00:00:01.999Z");
    }
}
