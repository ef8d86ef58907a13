use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// When the runtime last ran what was due.
///
/// On tokio's clock, which does not count suspend: a machine that slept is not
/// a process that hangs.
#[derive(Debug)]
pub(crate) struct Pulse {
    began: Instant,
    /// Milliseconds after `began`.
    beat: AtomicU64,
}

impl Default for Pulse {
    fn default() -> Self {
        Self { began: Instant::now(), beat: AtomicU64::new(u64::MAX) }
    }
}

impl Pulse {
    pub(super) const PERIOD: Duration = Duration::from_millis(250);

    /// A few periods: a beat that is a little late is no reason for a restart.
    pub(crate) const LEAST_TIMEOUT: Duration = Self::PERIOD.saturating_mul(4);

    pub(super) fn beat(&self) {
        let millis = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.beat.store(millis, Ordering::Relaxed);
    }

    /// Ends the expectation of further beats.
    pub(super) fn rest(&self) {
        self.beat.store(u64::MAX, Ordering::Relaxed);
    }

    /// Returns how long ago the last beat was; zero while none is expected.
    pub(super) fn age(&self) -> Duration {
        match self.beat.load(Ordering::Relaxed) {
            u64::MAX => Duration::ZERO,
            millis => self.began.elapsed().saturating_sub(Duration::from_millis(millis)),
        }
    }
}
