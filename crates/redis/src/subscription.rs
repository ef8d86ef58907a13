mod reader;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redis::{PushInfo, PushKind};
use tokio::sync::{mpsc, oneshot};

use crate::service::Counters;
use crate::{Error, RedisPool, Result, Unavailable, Value};

/// What a subscription has to say.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum SubscriptionEvent {
    /// Something was published.
    Message {
        /// Where.
        channel: String,
        /// What.
        payload: Vec<u8>,
    },
    /// Messages were missed: the connection was lost, or the reader too slow.
    Gap {
        /// Whether messages come again from here on; `false` while the
        /// connection is lost, after which another gap follows.
        is_over: bool,
    },
}

/// The messages of some channels, from the moment it was made until it is
/// dropped.
///
/// A lost connection, or one to a node that has left the topology, is made again
/// and subscribed again by itself, with a
/// [`Gap`](SubscriptionEvent::Gap) at its loss and another when messages come
/// again: what was published in between is lost, as Redis keeps nothing.
pub struct Subscription {
    events: mpsc::Receiver<SubscriptionEvent>,
    has_gap: Arc<AtomicBool>,
}

/// Where the connection puts what was pushed: it must not wait.
struct Outbox {
    events: mpsc::Sender<SubscriptionEvent>,
    /// A gap for which there was no room.
    has_gap: Arc<AtomicBool>,
    counters: Counters,
}

impl RedisPool {
    /// Subscribes to channels, on a connection of its own.
    ///
    /// In a cluster every node tells what was published on any. Dropping the
    /// future or the subscription ends it.
    ///
    /// # Errors
    ///
    /// Fails with `Invalid` for no channel, with `Denied` if the user may not
    /// read one of them, and with `Unavailable` if there is no connection to be
    /// had.
    pub async fn subscribe(&self, channels: &[&str]) -> Result<Subscription> {
        const OPERATION: &str = "subscribe";
        let timer = self.shared.counters.begin(OPERATION);
        let result = self.subscribe_to(OPERATION, channels).await;
        timer.end(&result);
        result
    }

    async fn subscribe_to(
        &self,
        operation: &'static str,
        channels: &[&str],
    ) -> Result<Subscription> {
        let _call = self.enter(operation)?;
        if channels.is_empty() {
            return Err(Error::invalid(self.at(operation), "at least one channel is needed"));
        }
        let room = self.shared.config.subscription_buffer.get();
        let (events, receiver) = mpsc::channel(usize::try_from(room).unwrap_or(1));
        let has_gap = Arc::new(AtomicBool::new(false));
        let outbox = Arc::new(Outbox {
            events,
            has_gap: Arc::clone(&has_gap),
            counters: self.shared.counters.clone(),
        });
        let (told, first) = oneshot::channel();
        let reader = reader::Reader {
            channels: channels.iter().map(|channel| (*channel).to_owned()).collect(),
            outbox,
            routes: self.shared.topology.clone(),
            stop: self.shared.tasks.token(),
        };
        self.shared.tasks.spawn("redis subscription", reader.run(told));
        match first.await {
            Ok(Ok(())) => Ok(Subscription { events: receiver, has_gap }),
            Ok(Err(trouble)) => Err(trouble.into_error(self.at(operation), crate::Access::Read)),
            Err(_ended) => Err(Error::unavailable(self.at(operation), Unavailable::Broken)),
        }
    }
}

impl Subscription {
    /// Waits for the next message or gap; `None` once the service is shut down.
    ///
    /// Cancel-safe.
    pub async fn next(&mut self) -> Option<SubscriptionEvent> {
        match self.events.try_recv() {
            Ok(event) => return Some(event),
            Err(mpsc::error::TryRecvError::Disconnected) => return None,
            Err(mpsc::error::TryRecvError::Empty) => {}
        }
        // What there was no room for comes after what there was room for.
        if self.has_gap.swap(false, Ordering::AcqRel) {
            return Some(SubscriptionEvent::Gap { is_over: true });
        }
        self.events.recv().await
    }
}

impl Outbox {
    fn put(&self, event: SubscriptionEvent) {
        if self.has_gap.load(Ordering::Acquire) {
            let gap = SubscriptionEvent::Gap { is_over: true };
            if self.events.try_send(gap).is_err() {
                return;
            }
            self.has_gap.store(false, Ordering::Release);
        }
        if self.events.try_send(event).is_err() && !self.has_gap.swap(true, Ordering::AcqRel) {
            self.counters.gaps.add(1);
        }
    }

    fn gap(&self, is_over: bool) {
        if !is_over {
            self.counters.gaps.add(1);
        }
        if self.events.try_send(SubscriptionEvent::Gap { is_over }).is_err() {
            self.has_gap.store(true, Ordering::Release);
        }
    }

    /// Takes what the server has pushed.
    fn pushed(&self, push: PushInfo) {
        if push.kind != PushKind::Message {
            return;
        }
        let mut parts = push.data.into_iter().map(Value::new);
        let (Some(channel), Some(payload)) = (parts.next(), parts.next()) else { return };
        let channel = channel.as_text().unwrap_or_default().to_owned();
        let payload = payload.into_bytes().unwrap_or_default();
        self.put(SubscriptionEvent::Message { channel, payload });
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("waiting", &self.events.len()).finish_non_exhaustive()
    }
}
