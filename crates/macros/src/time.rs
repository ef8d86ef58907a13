use std::time::Duration;

/// Milliseconds of each unit of a time.
pub(crate) const UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Reads a whole number with one of `units`, such as `"250ms"`.
pub(crate) fn parse(text: &str, units: &[(&str, u64)]) -> Option<Duration> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let number: u64 = number.parse().ok()?;
    let (_, size) = units.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*size).map(Duration::from_millis)
}
