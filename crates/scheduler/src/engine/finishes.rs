use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use trine_core::{Clock, ErrorKind, Report};

use super::bell::Bell;
use super::{Engine, Trouble};
use crate::{Call, Error, Finish, FinishOutcome};

/// Most ends that one call tells.
const BATCH: usize = 256;

/// The ends of attempts that the store has not heard of.
pub(crate) struct Finishes {
    waiting: Mutex<VecDeque<Waiting>>,
    bell: Bell,
    clock: Arc<dyn Clock>,
}

struct Waiting {
    finish: Finish,
    /// Cancelled when it is not the process' to tell any more.
    over: CancellationToken,
    outcome: oneshot::Sender<Option<FinishOutcome>>,
}

impl Waiting {
    fn answer(self, outcome: Option<FinishOutcome>) {
        // A run that was dropped needs not be told.
        let _ = self.outcome.send(outcome);
    }
}

impl Finishes {
    pub(super) fn new(clock: &Arc<dyn Clock>) -> Self {
        Self { waiting: Mutex::default(), bell: Bell::new(clock), clock: Arc::clone(clock) }
    }

    /// Tells the store of the end of an attempt, with those of others and until
    /// it has heard: `None` if it refused that after `over`. Dropping the future
    /// does not take it back.
    pub(super) async fn send(
        &self,
        finish: Finish,
        over: &CancellationToken,
    ) -> Option<FinishOutcome> {
        let (outcome, told) = oneshot::channel();
        self.waiting().push_back(Waiting { finish, over: over.clone(), outcome });
        self.bell.ring();
        told.await.ok().flatten()
    }

    /// Tells whether the store has heard of all of them.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting().is_empty()
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine {
    /// Tells the store of ends, those of one time in one call.
    pub(super) async fn finish_all(self: Arc<Self>) {
        let finishes = &self.finishes;
        let mut trouble = Trouble::new("finishes");
        // One refused end must not hold up the others.
        let mut most = BATCH;
        loop {
            if finishes.is_empty() {
                finishes.bell.sleep(finishes.clock.now() + self.ttl(), None).await;
                continue;
            }
            let batch: Vec<Finish> =
                finishes.waiting().iter().take(most).map(|one| one.finish.clone()).collect();
            match self.backend.finish(Call::new("finish"), &batch).await {
                Ok(outcomes) => {
                    trouble.over(&self);
                    most = BATCH;
                    let outcomes = outcomes.into_iter().map(Some).chain(std::iter::repeat(None));
                    let told: Vec<_> = finishes.waiting().drain(..batch.len()).collect();
                    told.into_iter().zip(outcomes).for_each(|(one, outcome)| one.answer(outcome));
                }
                Err(error) if !is_passing(&error) && batch.len() > 1 => most = 1,
                Err(error) => {
                    self.drop_refused(&error);
                    let wait = trouble.failed(&self, &error);
                    finishes.bell.sleep(finishes.clock.now() + wait, None).await;
                }
            }
        }
    }

    /// Lets go of the end that the store refuses for good.
    fn drop_refused(&self, error: &Error) {
        let mut waiting = self.finishes.waiting();
        let is_refused = |one: &mut Waiting| !is_passing(error) && one.over.is_cancelled();
        let Some(refused) = waiting.pop_front_if(is_refused) else { return };
        drop(waiting);
        let (service, job, error) = (&*self.name, &refused.finish.job, Report(error));
        tracing::error!(service, %job, %error, "the end of a run is not stored");
        refused.answer(None);
    }
}

/// Tells whether the same call may succeed later: each of a store's may be sent
/// again.
fn is_passing(error: &Error) -> bool {
    let kind = error.kind();
    kind.is_retryable() || matches!(kind, ErrorKind::OutcomeUnknown | ErrorKind::Conflict)
}
