use std::time::Duration;

use tokio::time::Instant;

/// The failures in a row of work that has no caller, and when to say something
/// about them: at the first, then once a minute with their count, and when they
/// are over.
///
/// # Example
///
/// ```
/// use trine_core::Outage;
///
/// let mut outage = Outage::new();
/// for result in [Err("away"), Err("away"), Ok(()), Ok(())] {
///     match result {
///         Ok(()) => {
///             if let Some(failures) = outage.over() {
///                 println!("works again after {failures} failures");
///             }
///         }
///         Err(error) => {
///             if let Some(failures) = outage.failed() {
///                 println!("failed {failures} times: {error}");
///             }
///         }
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Outage {
    failures: u32,
    said_at: Option<Instant>,
}

impl Outage {
    /// Least time between two messages about one outage.
    pub const REMINDER: Duration = Duration::from_secs(60);

    /// Returns one without any failure.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts a failure; returns how many there are in a row if that is to be
    /// said now.
    #[must_use = "it tells when to say something"]
    pub fn failed(&mut self) -> Option<u32> {
        self.failures = self.failures.saturating_add(1);
        if self.said_at.is_some_and(|at| at.elapsed() < Self::REMINDER) {
            return None;
        }
        self.said_at = Some(Instant::now());
        Some(self.failures)
    }

    /// Ends the outage; returns how many failures it had, `None` if there was
    /// none.
    #[must_use = "it tells when to say something"]
    pub fn over(&mut self) -> Option<u32> {
        let ended = std::mem::take(self);
        (ended.failures > 0).then_some(ended.failures)
    }

    /// Returns how many failures there were in a row.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_failure_is_said_then_one_a_minute_and_the_end() {
        let mut outage = Outage::new();
        assert_eq!(outage.over(), None);
        let mut said = Vec::new();
        for _ in 0..150 {
            said.extend(outage.failed());
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(said, [1, 61, 121]);
        assert_eq!((outage.over(), outage.over()), (Some(150), None));
        assert_eq!((outage.failed(), outage.failures()), (Some(1), 1));
    }
}
