use std::ops::Add;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use trine_core::Moment;

/// A time in microseconds on the clock of one store: since the beginning of a
/// clock of this process, or since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(in crate::backend) struct Micros(u64);

impl Micros {
    #[cfg(any(feature = "sqlite", feature = "mysql"))]
    pub(in crate::backend) fn new(micros: u64) -> Self {
        Self(micros)
    }

    pub(in crate::backend) fn get(self) -> u64 {
        self.0
    }

    /// Returns the time from `earlier` on, zero if that is later.
    pub(in crate::backend) fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Micros {
    type Output = Self;

    /// What is shorter than a microsecond counts as one: nothing ends before
    /// its holder thinks so.
    fn add(self, span: Duration) -> Self {
        let micros = span.as_nanos().div_ceil(1_000);
        Self(self.0.saturating_add(u64::try_from(micros).unwrap_or(u64::MAX)))
    }
}

impl From<Moment> for Micros {
    fn from(moment: Moment) -> Self {
        Self(u64::try_from(moment.elapsed().as_micros()).unwrap_or(u64::MAX))
    }
}

impl From<SystemTime> for Micros {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    }
}

impl From<Micros> for SystemTime {
    fn from(time: Micros) -> Self {
        UNIX_EPOCH.checked_add(Duration::from_micros(time.0)).unwrap_or(UNIX_EPOCH)
    }
}
