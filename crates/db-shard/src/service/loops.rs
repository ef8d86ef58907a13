use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use tokio::time::sleep;
use trine_core::{Outage, Report};

use super::{DbService, Shared};
use crate::{Database, Result};

/// Between two sweeps of inboxes and tickets.
const SWEEP: Duration = Duration::from_secs(10 * 60);

/// Most shards that are proved or swept side by side.
pub(super) const SIDE_BY_SIDE: usize = 8;

/// The service as its own background work sees it: it keeps nobody alive.
#[derive(Clone, Debug)]
pub(super) struct Background(Weak<Shared>);

impl DbService {
    pub(super) fn background(&self) -> Background {
        Background(Arc::downgrade(&self.shared))
    }
}

impl Background {
    /// Waits until the service is gone, which ends this task as well.
    async fn service(&self) -> DbService {
        match self.0.upgrade() {
            Some(shared) => DbService { shared },
            None => std::future::pending().await,
        }
    }

    async fn pause(&self, span: impl FnOnce(&Shared) -> Duration) {
        let span = span(&self.service().await.shared);
        sleep(span).await;
    }

    /// Keeps the copy of the shard map fresh.
    pub(super) async fn refresh_map(self) {
        let mut failures = Failures::new("shard map cannot be read");
        loop {
            self.pause(|shared| shared.config.map.refresh.get()).await;
            let service = self.service().await;
            let result = service.reload().await;
            if result.is_ok() {
                service.shared.map_progress.advance();
            }
            failures.record(&result);
        }
    }

    /// Brings back the shards that could not be reached.
    pub(super) async fn prove_missing(self) {
        loop {
            self.pause(|shared| shared.config.map.refresh.get()).await;
            let service = self.service().await;
            let mut shards = service.online_shards();
            shards.retain(|shard| !shard.shared().status.is_proved());
            let service = &service;
            stream::iter(shards)
                .for_each_concurrent(
                    SIDE_BY_SIDE,
                    |shard| async move { prove(service, &shard).await },
                )
                .await;
        }
    }

    /// Removes what has outlived its retention.
    pub(super) async fn sweep(self) {
        let mut failures = Failures::new("sweep failed");
        loop {
            sleep(SWEEP).await;
            let service = self.service().await;
            let mut databases = service.online_shards();
            databases.retain(|database| {
                let status = &database.shared().status;
                status.is_proved() && status.get().can_write()
            });
            databases.push(service.global().clone());
            // One outage for all: those that work must not end that of another.
            let mut swept = Ok(0);
            for database in databases {
                swept = swept.and(database.sweep().await);
            }
            failures.record(&swept);
        }
    }
}

async fn prove(service: &DbService, shard: &Database) {
    if service.prove_shard(shard).await.is_ok() {
        tracing::info!(shard = %shard.name(), "shard is ready");
    }
}

/// Says when something fails again and again, and when it works again.
struct Failures {
    message: &'static str,
    outage: Outage,
}

impl Failures {
    fn new(message: &'static str) -> Self {
        Self { message, outage: Outage::new() }
    }

    fn record<T>(&mut self, result: &Result<T>) {
        match result {
            Ok(_) => {
                if let Some(failures) = self.outage.over() {
                    tracing::warn!(failures, "recovered: {}", self.message);
                }
            }
            Err(error) => {
                if let Some(failures) = self.outage.failed() {
                    tracing::warn!(error = %Report(error), failures, "{}", self.message);
                }
            }
        }
    }
}
