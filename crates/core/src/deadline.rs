use std::time::Duration;

use tokio::time::{Instant, timeout_at};

/// A moment after which an answer is of no use any more.
///
/// Measured on tokio's clock, so that tests can pause it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Deadline(Instant);

impl Deadline {
    /// Returns the deadline that is `span` away from now.
    #[must_use]
    pub fn after(span: Duration) -> Self {
        let now = Instant::now();
        // An overflowing span means "practically never".
        let far = Duration::from_secs(60 * 60 * 24 * 365 * 30);
        Self(now.checked_add(span).unwrap_or_else(|| now + far))
    }

    /// Returns the deadline at `instant`.
    #[must_use]
    pub fn at(instant: Instant) -> Self {
        Self(instant)
    }

    /// Returns the moment on tokio's clock.
    #[must_use]
    pub fn instant(self) -> Instant {
        self.0
    }

    /// Returns the time that is left, zero once it has passed.
    #[must_use]
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// Tells whether the moment has passed.
    #[must_use]
    pub fn has_passed(self) -> bool {
        Instant::now() >= self.0
    }

    /// Returns the earlier of two deadlines, where the other may be absent.
    #[must_use]
    pub fn or_earlier(self, other: Option<Self>) -> Self {
        other.map_or(self, |other| self.min(other))
    }

    /// Runs `future` until the deadline; `None` if it was dropped unfinished.
    pub async fn limit<F: Future>(self, future: F) -> Option<F::Output> {
        timeout_at(self.0, future).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_cuts_what_takes_longer() {
        let deadline = Deadline::after(Duration::from_millis(10));
        assert_eq!(deadline.limit(async { 1 }).await, Some(1));
        assert_eq!(deadline.limit(std::future::pending::<()>()).await, None);
        assert!(deadline.has_passed());
        assert_eq!(deadline.remaining(), Duration::ZERO);
    }

    #[tokio::test]
    async fn the_largest_span_does_not_overflow() {
        assert!(!Deadline::after(Duration::MAX).has_passed());
    }
}
