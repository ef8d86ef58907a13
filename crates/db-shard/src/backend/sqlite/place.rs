use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;
use trine_core::Deadline;

use super::failure::Failure;

/// How long a caller whose deadline has passed waits for its statement to be
/// ended, before it answers that the outcome is unknown.
pub(super) const GRACE: Duration = Duration::from_secs(1);

/// Where a caller stands in the queue of the writer.
#[derive(Debug, Default)]
pub(super) struct Turn(AtomicU8);

const WAITING: u8 = 0;
const TAKEN: u8 = 1;
const LEFT: u8 = 2;

impl Turn {
    /// Takes it out of the queue, if that was not done before; `false` if the
    /// caller has left.
    pub(super) fn take(&self) -> bool {
        self.swap_waiting(TAKEN) || !self.has_left()
    }

    /// Notes that the caller is gone; `true` if nothing was or will be run.
    pub(super) fn leave(&self) -> bool {
        self.0.swap(LEFT, Ordering::AcqRel) == WAITING
    }

    /// Notes that the caller is gone, unless it has been taken.
    fn leave_queue(&self) -> bool {
        self.swap_waiting(LEFT)
    }

    pub(super) fn has_left(&self) -> bool {
        self.0.load(Ordering::Acquire) == LEFT
    }

    fn swap_waiting(&self, to: u8) -> bool {
        self.0.compare_exchange(WAITING, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// A caller's place in the queue, as the writer sees it.
#[derive(Debug)]
pub(super) struct Place<T> {
    pub(super) turn: Arc<Turn>,
    answer: oneshot::Sender<Result<T, Failure>>,
}

impl<T> Place<T> {
    /// Answers; gives the answer back if nobody waits for it.
    pub(super) fn answer(self, answer: Result<T, Failure>) -> Result<(), Result<T, Failure>> {
        self.answer.send(answer)
    }
}

/// A caller's place in the queue, as the caller sees it. Dropping it leaves.
#[derive(Debug)]
pub(super) struct Waiting<T> {
    turn: Arc<Turn>,
    answer: oneshot::Receiver<Result<T, Failure>>,
}

pub(super) fn place<T>() -> (Place<T>, Waiting<T>) {
    let turn = Arc::new(Turn::default());
    let (sender, receiver) = oneshot::channel();
    (Place { turn: Arc::clone(&turn), answer: sender }, Waiting { turn, answer: receiver })
}

impl<T> Waiting<T> {
    /// Waits for the answer: in the queue until `turn`, in all until
    /// `deadline`, and no longer than the grace for what runs then.
    pub(super) async fn answer(mut self, turn: Deadline, deadline: Deadline) -> Result<T, Failure> {
        let mut received = turn.min(deadline).limit(&mut self.answer).await;
        if received.is_none() && turn < deadline {
            if self.turn.leave_queue() {
                return Err(Failure::NoTurn);
            }
            received = deadline.limit(&mut self.answer).await;
        }
        if received.is_none() {
            if self.turn.leave() {
                return Err(Failure::Late);
            }
            received = timeout(GRACE, &mut self.answer).await.ok();
        }
        match received {
            Some(Ok(answer)) => answer,
            Some(Err(_)) if self.turn.leave() => Err(Failure::Gone),
            Some(Err(_)) | None => Err(Failure::Unknown(None)),
        }
    }
}

impl<T> Drop for Waiting<T> {
    fn drop(&mut self) {
        self.turn.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(millis: u64) -> Deadline {
        Deadline::after(Duration::from_millis(millis))
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_never_taken_is_told_so() {
        let (queued, waiting) = place::<()>();
        assert!(matches!(waiting.answer(after(5), after(9)).await, Err(Failure::NoTurn)));
        assert!(!queued.turn.take());

        let (queued, waiting) = place::<()>();
        assert!(matches!(waiting.answer(after(9), after(5)).await, Err(Failure::Late)));
        assert!(!queued.turn.take());

        let (queued, waiting) = place::<()>();
        drop(queued);
        assert!(matches!(waiting.answer(after(9), after(5)).await, Err(Failure::Gone)));
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_taken_waits_for_the_truth_and_no_longer_than_the_grace() {
        let (queued, waiting) = place::<u8>();
        assert!(queued.turn.take());
        let turn = Arc::clone(&queued.turn);
        let (answer, ()) = tokio::join!(waiting.answer(after(5), after(9)), async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert!(turn.has_left());
            queued.answer(Ok(3)).unwrap();
        });
        assert_eq!(answer.unwrap(), 3);

        let (queued, waiting) = place::<u8>();
        assert!(queued.turn.take());
        assert!(matches!(waiting.answer(after(5), after(9)).await, Err(Failure::Unknown(_))));
        drop(queued);

        let (queued, waiting) = place::<u8>();
        assert!(queued.turn.take());
        drop(queued);
        assert!(matches!(waiting.answer(after(5), after(9)).await, Err(Failure::Unknown(_))));
    }
}
