//! What goes wrong on the way to a store.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use trine_core::{Claim, Clock, Deadline, Renewal, Tasks};
use trine_lock::{
    Answer, At, Call, Capabilities, Error, Events, Key, LockBackend, LockDeps, Page,
    ReleaseOutcome, Result, StoreFacts, StoreStats, Unavailable, Waiter, Want,
};
use trine_testkit::Rng;

/// The way of one process to the store: requests and answers are late, lost, or
/// arrive when nobody waits for them any more.
#[derive(Debug)]
pub(crate) struct Lossy {
    inner: Arc<dyn LockBackend>,
    clock: Arc<dyn Clock>,
    ttl: Duration,
    tasks: Tasks,
    rng: Mutex<Rng>,
    is_cut: AtomicBool,
}

/// What happens to one call.
enum Fate {
    Arrives { before: u64, after: u64 },
    Lost,
    AnswerLost,
    Late,
}

impl Lossy {
    pub(crate) fn new(
        inner: Arc<dyn LockBackend>,
        clock: Arc<dyn Clock>,
        ttl: Duration,
        rng: Rng,
    ) -> Self {
        let (tasks, rng) = (Tasks::new("late requests"), Mutex::new(rng));
        Self { inner, clock, ttl, tasks, rng, is_cut: AtomicBool::new(false) }
    }

    /// Lets nothing through, or all as before.
    pub(crate) fn set_cut(&self, is_cut: bool) {
        self.is_cut.store(is_cut, Ordering::Relaxed);
    }

    fn fate(&self) -> Fate {
        let mut rng = self.rng.lock().unwrap();
        if self.is_cut.load(Ordering::Relaxed) {
            return if rng.one_in(2) { Fate::Lost } else { Fate::AnswerLost };
        }
        match rng.below(100) {
            0..=3 => Fate::Lost,
            4..=7 => Fate::AnswerLost,
            8..=9 => Fate::Late,
            _ => Fate::Arrives { before: rng.below(6), after: rng.below(6) },
        }
    }

    async fn send<T, F>(&self, call: Call, request: F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        match self.fate() {
            Fate::Arrives { before, after } => {
                steps(before).await;
                let answer = request.await;
                steps(after).await;
                return answer;
            }
            Fate::Lost => {}
            Fate::AnswerLost => {
                request.await?;
            }
            Fate::Late => {
                let part = self.rng.lock().unwrap().below(1_000);
                let delay = self.ttl * u32::try_from(part).unwrap() / 500;
                let (clock, due) = (Arc::clone(&self.clock), self.clock.now() + delay);
                self.tasks.spawn("late request", async move {
                    clock.sleep_until(due).await;
                    // Whatever it answers, nobody hears it.
                    let _ = request.await;
                });
            }
        }
        let at = At::new(call.operation, &LockDeps::default().name);
        let (reason, retry_after) = (Unavailable::Unreachable, None);
        Err(Error::Unavailable { at, reason, retry_after, cause: None })
    }
}

/// Lets others go on.
pub(crate) async fn steps(count: u64) {
    for _ in 0..count {
        tokio::task::yield_now().await;
    }
}

#[async_trait]
impl LockBackend for Lossy {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn prove(&self, call: Call) -> Result<StoreFacts> {
        self.inner.prove(call).await
    }

    async fn acquire(&self, call: Call, want: &Want) -> Result<Answer> {
        let (inner, want) = (Arc::clone(&self.inner), want.clone());
        self.send(call, async move { inner.acquire(call, &want).await }).await
    }

    async fn renew(&self, call: Call, claims: &[Claim]) -> Result<Vec<Renewal>> {
        let (inner, claims) = (Arc::clone(&self.inner), claims.to_vec());
        self.send(call, async move { inner.renew(call, &claims).await }).await
    }

    async fn release(&self, call: Call, claims: &[Claim]) -> Result<Vec<ReleaseOutcome>> {
        let (inner, claims) = (Arc::clone(&self.inner), claims.to_vec());
        self.send(call, async move { inner.release(call, &claims).await }).await
    }

    async fn withdraw(&self, call: Call, key: &Key, waiter: &Waiter) -> Result<()> {
        let (inner, key, waiter) = (Arc::clone(&self.inner), key.clone(), waiter.clone());
        self.send(call, async move { inner.withdraw(call, &key, &waiter).await }).await
    }

    async fn holders(
        &self,
        call: Call,
        prefix: &str,
        after: Option<&Key>,
        count: u32,
    ) -> Result<Page> {
        self.inner.holders(call, prefix, after, count).await
    }

    fn events(&self, process: &Arc<str>) -> Events {
        self.inner.events(process)
    }

    fn stats(&self) -> StoreStats {
        self.inner.stats()
    }

    async fn close(&self, deadline: Deadline) {
        self.inner.close(deadline).await;
    }
}
