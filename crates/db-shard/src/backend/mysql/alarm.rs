use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use tokio::time::{Sleep, sleep_until};
use trine_core::Deadline;

/// A timer that is used for one call after the other.
///
/// Deadlines mostly move forward, and to move a timer that is set already costs
/// next to nothing; to set a new one for each call costs as much as reading the
/// reply. It may go off between two calls, which nobody notices.
#[derive(Debug, Default)]
pub(super) struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Runs `work` until the deadline; `None` if it was dropped unfinished.
    pub(super) async fn limit<F: Future>(
        &mut self,
        deadline: Deadline,
        work: F,
    ) -> Option<F::Output> {
        let mut work = pin!(work);
        // What is ready at once needs no timer.
        let first = poll_fn(|context| Poll::Ready(work.as_mut().poll(context))).await;
        if let Poll::Ready(output) = first {
            return Some(output);
        }
        let instant = deadline.instant();
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(instant)));
        if sleep.deadline() != instant {
            sleep.as_mut().reset(instant);
        }
        let mut was_just_polled = true;
        poll_fn(|context| {
            if !std::mem::take(&mut was_just_polled)
                && let Poll::Ready(output) = work.as_mut().poll(context)
            {
                return Poll::Ready(Some(output));
            }
            sleep.as_mut().poll(context).map(|()| None)
        })
        .await
    }
}

/// Most timers kept for calls that wait.
const MAX_KEPT: usize = 64;

/// The timers of calls that have no connection yet.
#[derive(Debug, Default)]
pub(super) struct Alarms(Mutex<Vec<Alarm>>);

impl Alarms {
    /// Runs `work` until the deadline; `None` if it was dropped unfinished.
    pub(super) async fn limit<F: Future>(&self, deadline: Deadline, work: F) -> Option<F::Output> {
        let mut alarm = self.kept().pop().unwrap_or_default();
        let ended = alarm.limit(deadline, work).await;
        let mut kept = self.kept();
        if kept.len() < MAX_KEPT {
            kept.push(alarm);
        }
        ended
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Alarm>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_deadline_cuts_its_own_work_wherever_the_one_before_was() {
        let mut alarm = Alarm::default();
        for (given, needed) in [(50, 20), (100, 200), (10, 20), (500, 400), (5, 1000), (30, 10)] {
            let started = Instant::now();
            let deadline = Deadline::after(Duration::from_millis(given));
            let ended = alarm.limit(deadline, sleep(Duration::from_millis(needed))).await;
            assert_eq!(ended.is_some(), needed < given, "{given} ms for {needed} ms");
            assert_eq!(started.elapsed(), Duration::from_millis(given.min(needed)));
            // Long enough for the timer of the call to go off unseen.
            sleep(Duration::from_millis(600)).await;
        }
    }

    #[tokio::test]
    async fn what_is_ready_needs_no_time() {
        let mut alarm = Alarm::default();
        let past = Deadline::after(Duration::ZERO);
        assert_eq!(alarm.limit(past, async { 7 }).await, Some(7));
    }
}
