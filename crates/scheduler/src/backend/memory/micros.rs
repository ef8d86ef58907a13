use std::time::{Duration, SystemTime};

/// Microseconds since 1970.
pub(super) type Micros = i64;

/// Cuts a time to the microsecond.
pub(super) fn micros(time: SystemTime) -> Micros {
    let far = |span: Duration| i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => far(since),
        Err(before) => -far(before.duration()),
    }
}

pub(super) fn time(micros: Micros) -> SystemTime {
    let span = Duration::from_micros(micros.unsigned_abs());
    let epoch = SystemTime::UNIX_EPOCH;
    let time = if micros < 0 { epoch.checked_sub(span) } else { epoch.checked_add(span) };
    time.unwrap_or(epoch)
}

/// A span that is longer than any time is one of a thousand years.
pub(super) fn span(span: Duration) -> Micros {
    const LONGEST: Micros = 1_000 * 366 * 86_400 * 1_000_000;
    i64::try_from(span.as_micros()).map_or(LONGEST, |span| span.min(LONGEST))
}
