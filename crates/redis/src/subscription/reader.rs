use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use trine_core::Outage;

use super::Outbox;
use crate::dial::{Dialed, Purpose, alongside};
use crate::link::Trouble;
use crate::topology::Topology;

/// A connection that only listens is asked this often whether it is there.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Keeps one subscription up.
pub(super) struct Reader {
    pub(super) channels: Vec<String>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) routes: Arc<Topology>,
    pub(super) stop: CancellationToken,
}

impl Reader {
    /// Subscribes once and tells how that went; from then on for ever, until
    /// nobody listens any more.
    pub(super) async fn run(self, told: oneshot::Sender<Result<(), Trouble>>) {
        let stop = self.stop.clone();
        let ended = stop.run_until_cancelled(async {
            tokio::select! {
                () = self.outbox.events.closed() => {}
                () = self.keep_up(told) => {}
            }
        });
        let _either = ended.await;
    }

    async fn keep_up(&self, told: oneshot::Sender<Result<(), Trouble>>) {
        let mut dialed = match self.subscribed().await {
            Ok(dialed) => dialed,
            Err(trouble) => {
                let _gone = told.send(Err(trouble));
                return;
            }
        };
        if told.send(Ok(())).is_err() {
            return;
        }
        let mut outage = Outage::new();
        loop {
            listen(&mut dialed).await;
            drop(dialed);
            self.outbox.gap(false);
            let mut failures = 0;
            dialed = loop {
                match self.subscribed().await {
                    Ok(dialed) => break dialed,
                    Err(trouble) => {
                        if let Some(failures) = outage.failed() {
                            tracing::warn!(failures, ?trouble, "redis subscription is away");
                        }
                        sleep(self.routes.backoff().delay(failures)).await;
                        failures = failures.saturating_add(1);
                    }
                }
            };
            if let Some(failures) = outage.over() {
                tracing::warn!(failures, "redis subscription is back");
            }
            self.outbox.gap(true);
        }
    }

    async fn subscribed(&self) -> Result<Dialed, Trouble> {
        let node = self.routes.node(None)?;
        let outbox = Arc::clone(&self.outbox);
        let purpose = Purpose::Subscription(Box::new(move |push| outbox.pushed(push)));
        let dialer = self.routes.dialer();
        let mut dialed = dialer.dial(&node.address, purpose).await.map_err(Trouble::Away)?;
        let Dialed { connection, driver, .. } = &mut dialed;
        match alongside(driver, connection.subscribe(&self.channels)).await {
            Some(Ok(())) => Ok(dialed),
            Some(Err(error)) => Err(Trouble::of_driver(error)),
            None => Err(Trouble::broken()),
        }
    }
}

/// Returns when the connection has ended or answers no more.
async fn listen(dialed: &mut Dialed) {
    let Dialed { connection, driver, pulse, .. } = dialed;
    while alongside(driver, sleep(HEARTBEAT)).await.is_some() {
        if !pulse.is_felt(driver, connection).await {
            return;
        }
    }
}
