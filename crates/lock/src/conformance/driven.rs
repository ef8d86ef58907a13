use std::sync::Arc;

use async_trait::async_trait;
use trine_core::{Claim, Deadline, Renewal, Tasks};

use crate::{
    Answer, Call, Capabilities, Events, Key, LockBackend, Page, ReleaseOutcome, Result, StoreFacts,
    StoreStats, Waiter, Want,
};

/// A store whose calls go on while nobody polls them.
#[derive(Debug)]
pub(super) struct Driven {
    inner: Arc<dyn LockBackend>,
    tasks: Tasks,
}

impl Driven {
    pub(super) fn new(inner: Arc<dyn LockBackend>) -> Self {
        Self { inner, tasks: Tasks::new("conformance") }
    }

    async fn drive<T: Send + 'static>(
        &self,
        call: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        match self.tasks.spawn("call", call).await {
            Ok(answer) => answer,
            Err(end) => super::panic_with(&format!("a call of the store ended: {end}")),
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl LockBackend for Driven {
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
        self.drive(async move { inner.acquire(call, &want).await }).await
    }

    async fn renew(&self, call: Call, claims: &[Claim]) -> Result<Vec<Renewal>> {
        self.inner.renew(call, claims).await
    }

    async fn release(&self, call: Call, claims: &[Claim]) -> Result<Vec<ReleaseOutcome>> {
        let (inner, claims) = (Arc::clone(&self.inner), claims.to_vec());
        self.drive(async move { inner.release(call, &claims).await }).await
    }

    async fn withdraw(&self, call: Call, key: &Key, waiter: &Waiter) -> Result<()> {
        let (inner, key, waiter) = (Arc::clone(&self.inner), key.clone(), waiter.clone());
        self.drive(async move { inner.withdraw(call, &key, &waiter).await }).await
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
