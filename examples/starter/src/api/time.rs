use trine_db_shard::Timestamp;

/// Returns a moment as RFC 3339 has it, in UTC with microseconds.
pub(super) fn rfc3339(moment: Timestamp) -> String {
    const DAY: i64 = 86_400_000_000;
    let (days, micros) = (moment.as_micros().div_euclid(DAY), moment.as_micros().rem_euclid(DAY));
    let (year, month, day) = civil(days);
    let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
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
    fn moments_read_as_people_write_them() {
        let moments = [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_400_000_000, "2000-02-29T00:00:00.000000Z"),
            (1_709_251_199_999_999, "2024-02-29T23:59:59.999999Z"),
            (1_735_689_600_000_001, "2025-01-01T00:00:00.000001Z"),
            (-1, "1969-12-31T23:59:59.999999Z"),
        ];
        for (micros, expected) in moments {
            assert_eq!(rfc3339(Timestamp::from_micros(micros)), expected);
        }
    }
}
