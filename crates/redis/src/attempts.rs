use std::time::Duration;

use tokio::time::{Instant, sleep};
use trine_core::Backoff;

/// A connection that lived for less than this was no success.
const SHORT_LIFE: Duration = Duration::from_secs(1);

/// The waits between the attempts of whoever keeps a connection up.
pub(crate) struct Attempts {
    backoff: Backoff,
    failures: u32,
}

impl Attempts {
    pub(crate) fn new(backoff: &Backoff) -> Self {
        Self { backoff: backoff.clone(), failures: 0 }
    }

    /// Notes the end of a connection that was made at `began`, and returns
    /// whether the next attempt need not wait: a server that closes what it has
    /// just accepted is not to be asked without a pause.
    pub(crate) fn have_succeeded(&mut self, began: Instant) -> bool {
        let has_lived = began.elapsed() >= SHORT_LIFE;
        if has_lived {
            self.failures = 0;
        }
        has_lived
    }

    /// Waits after a failure: longer after each.
    pub(crate) async fn wait(&mut self) {
        let delay = self.backoff.delay(self.failures);
        self.failures = self.failures.saturating_add(1);
        sleep(delay).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_a_long_life_ends_the_waits() {
        let mut attempts = Attempts::new(&Backoff::new(SHORT_LIFE, SHORT_LIFE));
        let began = Instant::now();
        assert!(!attempts.have_succeeded(began));
        attempts.wait().await;
        attempts.wait().await;
        assert_eq!(attempts.failures, 2);
        assert!(!attempts.have_succeeded(Instant::now()));
        assert_eq!(attempts.failures, 2);
        tokio::time::advance(SHORT_LIFE).await;
        assert!(attempts.have_succeeded(began));
        assert_eq!(attempts.failures, 0);
    }
}
