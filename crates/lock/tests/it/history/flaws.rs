//! Stores that are wrong now and then.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use trine_core::{Claim, Deadline, Fence, Renewal};
use trine_lock::{
    Answer, Call, Capabilities, Events, HolderState, Key, LockBackend, Mode, Page, ReleaseOutcome,
    Result, StoreFacts, StoreStats, Waiter, Want,
};
use trine_testkit::Rng;

use super::recorder::locked;

/// What is wrong with a store, now and then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// A release frees whoever has the key.
    ReleasesOthers,
    /// A key that is held is granted.
    GrantsHeld,
    /// A grant has the token of the one before.
    RepeatsTokens,
}

/// A store with a flaw.
#[derive(Debug)]
pub(crate) struct Flawed {
    inner: Arc<dyn LockBackend>,
    flaw: Flaw,
    rng: Mutex<Rng>,
    last: AtomicU64,
}

impl Flawed {
    pub(crate) fn new(inner: Arc<dyn LockBackend>, flaw: Flaw, rng: Rng) -> Self {
        Self { inner, flaw, rng: Mutex::new(rng), last: AtomicU64::new(0) }
    }

    /// Whether it is time: one call in so many.
    fn has(&self, flaw: Flaw, calls: u64) -> bool {
        self.flaw == flaw && self.rng.lock().unwrap().one_in(calls)
    }

    /// Frees a key, whoever has it.
    async fn free(&self, call: Call, claim: &Claim) -> Result<()> {
        let page = self.inner.holders(call, locked(claim), None, 1).await?;
        let holder = page.keys.first().and_then(|held| held.holders.first());
        if let Some(HolderState::Holding { token }) = holder.map(|holder| holder.state) {
            let fence = Fence::new(claim.fence().key(), token).unwrap();
            self.inner.release(call, &[Claim::new(fence, claim.terms())]).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl LockBackend for Flawed {
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
        match self.inner.acquire(call, want).await? {
            Answer::Held { .. } if self.has(Flaw::GrantsHeld, 10) => {
                let mut want = want.clone();
                want.mode = Mode::Steal;
                self.inner.acquire(call, &want).await
            }
            Answer::Granted(fence) => {
                let last = self.last.swap(fence.token(), Ordering::Relaxed);
                if last == 0 || !self.has(Flaw::RepeatsTokens, 10) {
                    return Ok(Answer::Granted(fence));
                }
                Ok(Answer::Granted(Fence::new(fence.key(), last).unwrap()))
            }
            answer => Ok(answer),
        }
    }

    async fn renew(&self, call: Call, claims: &[Claim]) -> Result<Vec<Renewal>> {
        self.inner.renew(call, claims).await
    }

    async fn release(&self, call: Call, claims: &[Claim]) -> Result<Vec<ReleaseOutcome>> {
        let mut outcomes = self.inner.release(call, claims).await?;
        for (claim, outcome) in claims.iter().zip(&mut outcomes) {
            if *outcome == ReleaseOutcome::HeldByOther && self.has(Flaw::ReleasesOthers, 2) {
                self.free(call, claim).await?;
                *outcome = ReleaseOutcome::Released;
            }
        }
        Ok(outcomes)
    }

    async fn withdraw(&self, call: Call, key: &Key, waiter: &Waiter) -> Result<()> {
        self.inner.withdraw(call, key, waiter).await
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
