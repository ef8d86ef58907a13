use std::sync::Arc;
use std::time::Duration;

use redis::{PushInfo, PushKind};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use trine_core::Outage;

use super::SubscriptionEvent;
use super::inbox::Inbox;
use crate::Value;
use crate::attempts::Attempts;
use crate::dial::{Dialed, Purpose, alongside};
use crate::link::Trouble;
use crate::node::Node;
use crate::topology::Topology;

/// A connection that only listens is asked this often whether it is there.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Keeps one subscription up.
pub(super) struct Reader {
    pub(super) channels: Vec<String>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) routes: Arc<Topology>,
    pub(super) stop: CancellationToken,
}

impl Reader {
    /// Subscribes once and tells how that went; from then on for ever, until
    /// nobody listens any more.
    pub(super) async fn run(self, told: oneshot::Sender<Result<(), Trouble>>) {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => {}
            () = self.inbox.left.cancelled() => {}
            () = self.keep_up(told) => {}
        }
    }

    async fn keep_up(&self, told: oneshot::Sender<Result<(), Trouble>>) {
        let mut listener = match self.subscribed().await {
            Ok(listener) => listener,
            Err(trouble) => {
                let _gone = told.send(Err(trouble));
                return;
            }
        };
        if told.send(Ok(())).is_err() {
            return;
        }
        let mut outage = Outage::new();
        let mut attempts = Attempts::new(self.routes.backoff());
        loop {
            let began = Instant::now();
            listener.listen().await;
            drop(listener);
            self.inbox.lost();
            if !attempts.have_succeeded(began) {
                attempts.wait().await;
            }
            listener = loop {
                match self.subscribed().await {
                    Ok(listener) => break listener,
                    Err(trouble) => {
                        if let Some(failures) = outage.failed() {
                            tracing::warn!(failures, ?trouble, "redis subscription is away");
                        }
                        attempts.wait().await;
                    }
                }
            };
            if let Some(failures) = outage.over() {
                tracing::warn!(failures, "redis subscription is back");
            }
            self.inbox.found();
        }
    }

    async fn subscribed(&self) -> Result<Listener, Trouble> {
        let node = self.routes.node(None)?;
        let inbox = Arc::clone(&self.inbox);
        let pushed = move |push| {
            if let Some(message) = message(push) {
                inbox.put(message);
            }
        };
        let purpose = Purpose::Subscription(Box::new(pushed));
        let dialer = self.routes.dialer();
        let mut dialed = dialer.dial(&node.address, purpose).await.map_err(Trouble::Away)?;
        let Dialed { connection, driver, .. } = &mut dialed;
        match alongside(driver, connection.subscribe(&self.channels)).await {
            Some(Ok(())) => Ok(Listener { node, dialed }),
            Some(Err(error)) => Err(Trouble::of_driver(error)),
            None => Err(Trouble::broken()),
        }
    }
}

/// Whatever ends it, nobody waits for another event.
impl Drop for Reader {
    fn drop(&mut self) {
        self.inbox.end();
    }
}

/// Reads what the server has pushed.
fn message(push: PushInfo) -> Option<SubscriptionEvent> {
    if push.kind != PushKind::Message {
        return None;
    }
    let mut parts = push.data.into_iter().map(Value::new);
    let (channel, payload) = (parts.next()?, parts.next()?);
    let channel = channel.as_text().unwrap_or_default().to_owned();
    let payload = payload.into_bytes().unwrap_or_default();
    Some(SubscriptionEvent::Message { channel, payload })
}

/// A connection that is subscribed, and the node that it leads to.
struct Listener {
    node: Arc<Node>,
    dialed: Dialed,
}

impl Listener {
    /// Returns when the connection has ended or answers no more, and when the
    /// node has left: nobody may publish where it is any more.
    async fn listen(&mut self) {
        let Dialed { connection, driver, pulse, .. } = &mut self.dialed;
        let asking = async {
            while alongside(driver, sleep(HEARTBEAT)).await.is_some() {
                if !pulse.is_felt(driver, connection).await {
                    return;
                }
            }
        };
        tokio::select! {
            () = self.node.left() => {}
            () = asking => {}
        }
    }
}
