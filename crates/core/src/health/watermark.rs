use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::{Clock, Health, HealthStatus, Moment};

/// The proof of a background loop that it makes progress. Cloning shares it.
///
/// The mark is the moment since which work has been waiting. The loop moves it
/// with [`advance`](Self::advance) each time it has looked for work or done
/// some, or sets it to the age of the oldest waiting item with
/// [`waiting_since`](Self::waiting_since). A loop that dies stops moving it.
#[derive(Clone, Debug)]
pub struct Watermark {
    clock: Arc<dyn Clock>,
    /// Nanoseconds on the clock, or [`IDLE`].
    mark: Arc<AtomicU64>,
}

const IDLE: u64 = u64::MAX;

impl Watermark {
    /// Returns a watermark whose age counts from now on `clock`.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let watermark = Self { clock, mark: Arc::new(AtomicU64::new(IDLE)) };
        watermark.advance();
        watermark
    }

    /// Notes that all work that was due until now is done.
    pub fn advance(&self) {
        self.waiting_since(self.clock.now());
    }

    /// Notes that the oldest work that is not done was due at `moment`.
    pub fn waiting_since(&self, moment: Moment) {
        let nanos = u64::try_from(moment.elapsed().as_nanos()).unwrap_or(IDLE);
        self.mark.store(nanos.min(IDLE - 1), Ordering::Relaxed);
    }

    /// Notes that nothing is waiting and the loop sleeps until it is woken: the
    /// age stays zero until the next other note.
    pub fn idle(&self) {
        self.mark.store(IDLE, Ordering::Relaxed);
    }

    /// Returns how long the oldest work has been waiting.
    #[must_use]
    pub fn age(&self) -> Duration {
        match self.mark.load(Ordering::Relaxed) {
            IDLE => Duration::ZERO,
            nanos => {
                let mark = Moment::from_elapsed(Duration::from_nanos(nanos));
                self.clock.now().saturating_since(mark)
            }
        }
    }

    /// Returns `up` while the age is at most `bound`, `degraded` while it is at
    /// most twice the bound, `down` beyond. The detail `age_ms` has the age.
    #[must_use]
    pub fn health(&self, bound: Duration) -> Health {
        let age = self.age();
        let status = match age {
            _ if age <= bound => HealthStatus::Up,
            _ if age <= bound.saturating_mul(2) => HealthStatus::Degraded,
            _ => HealthStatus::Down,
        };
        let millis = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        let health = Health::new(status).with_detail("age_ms", millis);
        if status == HealthStatus::Up {
            return health;
        }
        health.with_error(format_args!("no progress for {age:?}; at most {bound:?} expected"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ManualClock;

    const SECOND: Duration = Duration::from_secs(1);

    // CO-08
    #[tokio::test]
    async fn a_loop_that_stops_goes_down_after_twice_its_bound() {
        let clock = ManualClock::new();
        let watermark = Watermark::new(Arc::new(clock.clone()));
        let status = || watermark.health(SECOND).status;
        clock.advance(SECOND);
        assert_eq!(status(), HealthStatus::Up);
        clock.advance(Duration::from_nanos(1));
        assert_eq!(status(), HealthStatus::Degraded);
        clock.advance(SECOND);
        assert_eq!(status(), HealthStatus::Down);
        assert!(watermark.health(SECOND).error.is_some());
        watermark.advance();
        assert_eq!(status(), HealthStatus::Up);
    }

    #[tokio::test]
    async fn an_idle_loop_does_not_age_and_old_work_does() {
        let clock = ManualClock::new();
        let watermark = Watermark::new(Arc::new(clock.clone()));
        watermark.idle();
        clock.advance(SECOND * 9);
        assert_eq!(watermark.age(), Duration::ZERO);
        watermark.waiting_since(clock.now() - SECOND * 3);
        assert_eq!(watermark.age(), SECOND * 3);
    }
}
