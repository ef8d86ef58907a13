use std::sync::Arc;

use async_trait::async_trait;
use tokio::runtime::Handle;
use trine_core::{BoxFault, Claim, Intensity, LeaseKeeper, Leases, Renewal};

use super::Shared;
use crate::{Call, Event, LockBackend};

/// What runs while a service does. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Engine {
    pub(crate) keeper: LeaseKeeper,
    pub(crate) runtime: Handle,
}

impl Engine {
    /// Begins to renew and to listen. The tasks must not keep the service, which
    /// owns them.
    pub(super) fn start(shared: &Shared) -> Self {
        let store = Arc::new(Store { backend: Arc::clone(&shared.backend) });
        let keeper = LeaseKeeper::spawn(&shared.tasks, store, Arc::clone(&shared.clock));
        listen(shared, &keeper);
        Self { keeper, runtime: Handle::current() }
    }
}

fn listen(shared: &Shared, keeper: &LeaseKeeper) {
    let capabilities = shared.backend.capabilities();
    if !capabilities.push && !capabilities.push_loss {
        return;
    }
    let events = Arc::new(shared.backend.events(&shared.process));
    let (lines, registry) = (Arc::clone(&shared.lines), Arc::clone(&shared.registry));
    let (clock, keeper) = (Arc::clone(&shared.clock), keeper.clone());
    let token = shared.tasks.token();
    shared.tasks.supervise("lock events", Intensity::default(), move || {
        let (events, token) = (Arc::clone(&events), token.clone());
        let (lines, registry) = (Arc::clone(&lines), Arc::clone(&registry));
        let (clock, keeper) = (Arc::clone(&clock), keeper.clone());
        async move {
            let hear = async {
                loop {
                    for event in events.next().await {
                        match event {
                            Event::Free { key, lane } => lines.free(&(key, lane)),
                            Event::Later { key, lane, retry_in } => {
                                lines.later(&(key, lane), clock.now(), retry_in);
                            }
                            Event::Lost(fence) => registry.lost(&fence),
                            Event::Missed => {
                                lines.missed(clock.now());
                                keeper.renew_all();
                            }
                        }
                    }
                }
            };
            tokio::select! {
                () = token.cancelled() => {}
                () = hear => {}
            }
        }
    });
}

/// The store as the keeper of the leases sees it.
#[derive(Debug)]
struct Store {
    backend: Arc<dyn LockBackend>,
}

#[async_trait]
impl Leases for Store {
    async fn renew(&self, batch: &[Claim]) -> Result<Vec<Renewal>, BoxFault> {
        Ok(self.backend.renew(Call::new("renew"), batch).await?)
    }

    async fn release(&self, batch: &[Claim]) -> Result<(), BoxFault> {
        self.backend.release(Call::new("release"), batch).await?;
        Ok(())
    }
}
