use std::sync::Arc;
use std::time::Duration;

use crate::{Clock, Intensity, Metrics, Tasks};

/// Notices a runtime whose threads are held up by work that does not yield, by
/// measuring how late a timer of 100 ms fires.
///
/// Publishes the histogram `trine_runtime_lateness_seconds` and the counter
/// `trine_runtime_stalls_total` of timers that fired 100 ms late or more. On a
/// runtime of several threads a single held thread is noticed only if it is the
/// one that drives the timers.
#[derive(Clone, Copy, Debug)]
pub struct StallDetector;

impl StallDetector {
    /// Period of the timer, and the lateness from which it counts as a stall.
    pub const PERIOD: Duration = Duration::from_millis(100);

    /// Starts measuring until `tasks` is shut down. One per runtime is enough.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    pub fn spawn(tasks: &Tasks, metrics: &Metrics, clock: Arc<dyn Clock>) {
        let stalls = metrics.counter("stalls_total", "Timers that fired 100 ms late or more.", &[]);
        let lateness = metrics.histogram("lateness_seconds", "How late timers fire.", &[]);
        let token = tasks.token();
        tasks.supervise("stall detector", Intensity::default(), move || {
            let (token, clock) = (token.clone(), Arc::clone(&clock));
            let (stalls, lateness) = (stalls.clone(), lateness.clone());
            async move {
                loop {
                    let due = clock.now() + Self::PERIOD;
                    tokio::select! {
                        () = token.cancelled() => return,
                        () = tokio::time::sleep(Self::PERIOD) => {}
                    }
                    let late = clock.now().saturating_since(due);
                    lateness.record(late);
                    if late >= Self::PERIOD {
                        stalls.add(1);
                    }
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Deadline, ManualClock, SystemClock};

    // CO-17
    #[tokio::test]
    async fn a_held_runtime_is_counted_as_stalled() {
        let (tasks, metrics) = (Tasks::new("t"), Metrics::new("runtime"));
        StallDetector::spawn(&tasks, &metrics, Arc::new(SystemClock));
        tokio::task::yield_now().await;
        let hog = SystemClock.now() + StallDetector::PERIOD * 3;
        while SystemClock.now() < hog {
            std::hint::spin_loop();
        }
        let stalls = || metrics.snapshot().counter("trine_runtime_stalls_total", &[]);
        let seen = async {
            while stalls() != Some(1) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let noticed = Deadline::after(Duration::from_secs(5)).limit(seen).await;
        assert!(noticed.is_some());
        tasks.shutdown(Deadline::after(Duration::from_secs(1))).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_runtime_on_time_is_not_stalled() {
        let (tasks, metrics) = (Tasks::new("t"), Metrics::new("runtime"));
        StallDetector::spawn(&tasks, &metrics, Arc::new(ManualClock::with_rate(1.0)));
        tokio::time::sleep(Duration::from_secs(60)).await;
        let snapshot = metrics.snapshot();
        assert_eq!(snapshot.counter("trine_runtime_stalls_total", &[]), Some(0));
        let lateness = snapshot.histogram("trine_runtime_lateness_seconds", &[]).unwrap();
        assert!(lateness.count() > 100);
    }
}
