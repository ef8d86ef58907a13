//! A store that is watched, deaf, slow or forgetful; and what the tests on Redis
//! share.

pub(crate) mod failover;
pub(crate) mod redis;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Semaphore;
use trine_core::{Claim, Deadline, Renewal};
use trine_lock::{
    Answer, At, Call, Capabilities, Error, Events, Key, LockBackend, MemoryBackend, Page,
    ReleaseOutcome, Result, StoreFacts, StoreStats, Unavailable, Waiter, Want,
};

/// A store in memory with what can go wrong on the way to it.
#[derive(Debug)]
pub(crate) struct Watched {
    inner: MemoryBackend,
    counts: Mutex<BTreeMap<&'static str, u64>>,
    /// Tells nobody of anything.
    is_deaf: bool,
    /// Grants nothing for so long.
    barred: Mutex<Option<Duration>>,
    /// Whether nothing comes through to it.
    is_away: AtomicBool,
    /// Whether answers wait for a permit.
    is_slow: AtomicBool,
    pub(crate) answers: Semaphore,
}

impl Watched {
    pub(crate) fn new(inner: MemoryBackend) -> Self {
        Self {
            inner,
            counts: Mutex::default(),
            is_deaf: false,
            barred: Mutex::default(),
            is_away: AtomicBool::new(false),
            is_slow: AtomicBool::new(false),
            answers: Semaphore::new(0),
        }
    }

    pub(crate) fn deaf(inner: MemoryBackend) -> Self {
        Self { is_deaf: true, ..Self::new(inner) }
    }

    /// Another way to the same store.
    pub(crate) fn beside(&self) -> Self {
        Self::new(self.inner.beside())
    }

    /// Has answers and requests wait for a permit of `answers` each.
    pub(crate) fn slow_down(&self) {
        self.is_slow.store(true, Ordering::Relaxed);
    }

    pub(crate) fn set_away(&self, is_away: bool) {
        self.is_away.store(is_away, Ordering::Relaxed);
    }

    /// Fails while it is away.
    fn reach(&self, call: Call) -> Result<()> {
        if !self.is_away.load(Ordering::Relaxed) {
            return Ok(());
        }
        let (reason, retry_after) = (Unavailable::Unreachable, None);
        let at = At::new(call.operation, &"lock.default".into());
        Err(Error::Unavailable { at, reason, retry_after, cause: None })
    }

    pub(crate) fn bar(&self, retry_in: Option<Duration>) {
        *self.barred.lock().unwrap() = retry_in;
    }

    pub(crate) fn count(&self, operation: &str) -> u64 {
        self.counts.lock().unwrap().get(operation).copied().unwrap_or_default()
    }

    pub(crate) fn forget_counts(&self) {
        self.counts.lock().unwrap().clear();
    }

    async fn trip(&self) {
        if self.is_slow.load(Ordering::Relaxed) {
            self.answers.acquire().await.unwrap().forget();
        }
    }

    fn called(&self, operation: &'static str) {
        *self.counts.lock().unwrap().entry(operation).or_default() += 1;
    }
}

#[async_trait]
impl LockBackend for Watched {
    fn name(&self) -> &'static str {
        "watched"
    }

    fn capabilities(&self) -> Capabilities {
        let hears = !self.is_deaf;
        self.inner.capabilities().with_push(hears, hears)
    }

    async fn prove(&self, call: Call) -> Result<StoreFacts> {
        self.inner.prove(call).await
    }

    async fn acquire(&self, call: Call, want: &Want) -> Result<Answer> {
        self.called("acquire");
        self.reach(call)?;
        self.trip().await;
        let barred = *self.barred.lock().unwrap();
        let answer = match barred {
            Some(retry_in) => Ok(Answer::Barred { retry_in }),
            None => self.inner.acquire(call, want).await,
        };
        self.trip().await;
        answer
    }

    async fn renew(&self, call: Call, claims: &[Claim]) -> Result<Vec<Renewal>> {
        self.called("renew");
        self.reach(call)?;
        self.inner.renew(call, claims).await
    }

    async fn release(&self, call: Call, claims: &[Claim]) -> Result<Vec<ReleaseOutcome>> {
        self.called("release");
        self.reach(call)?;
        self.trip().await;
        let outcomes = self.inner.release(call, claims).await;
        self.trip().await;
        outcomes
    }

    async fn withdraw(&self, call: Call, key: &Key, waiter: &Waiter) -> Result<()> {
        self.called("withdraw");
        self.trip().await;
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
        assert!(!self.is_deaf, "nothing is told by a store that says so");
        self.inner.events(process)
    }

    fn stats(&self) -> StoreStats {
        self.inner.stats()
    }

    async fn close(&self, deadline: Deadline) {
        self.inner.close(deadline).await;
    }
}
