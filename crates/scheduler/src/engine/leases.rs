use std::sync::Arc;

use async_trait::async_trait;
use trine_core::{BoxFault, Claim, Leases, Renewal};

use crate::{Call, SchedulerBackend};

/// The store as the keeper of the leases sees it.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) backend: Arc<dyn SchedulerBackend>,
}

#[async_trait]
impl Leases for Store {
    async fn renew(&self, batch: &[Claim]) -> Result<Vec<Renewal>, BoxFault> {
        Ok(self.backend.renew(Call::new("renew"), batch).await?)
    }

    /// A run gives its tick back by its end, which says how it went. What is
    /// dropped without one may still have an effect: nobody has it before the
    /// lease is over.
    async fn release(&self, _batch: &[Claim]) -> Result<(), BoxFault> {
        Ok(())
    }
}
