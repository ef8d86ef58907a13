mod inbox;
mod reader;

use std::fmt;
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio_util::sync::DropGuard;

use crate::{Error, RedisPool, Result, Unavailable};

use inbox::Inbox;
use reader::Reader;

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
    inbox: Arc<Inbox>,
    _left: DropGuard,
}

impl RedisPool {
    /// Subscribes to channels, on a connection of its own.
    ///
    /// In a cluster every node tells what was published on any. Dropping the
    /// future or the subscription ends it. The deadline of the current
    /// [`CallContext`](trine_core::CallContext) bounds the call, not the subscription.
    ///
    /// # Errors
    ///
    /// Fails with `Invalid` for no channel, with `Denied` if the user may not
    /// read one of them, with `Unavailable` if there is no connection to be had,
    /// and with `Timeout` at the deadline.
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
        let room = usize::try_from(room).unwrap_or(1);
        let inbox = Arc::new(Inbox::new(room, &self.shared.counters));
        let subscription =
            Subscription { inbox: Arc::clone(&inbox), _left: inbox.left.clone().drop_guard() };
        let (told, first) = oneshot::channel();
        let reader = Reader {
            channels: channels.iter().map(|channel| (*channel).to_owned()).collect(),
            inbox,
            routes: Arc::clone(&self.shared.topology),
            stop: self.shared.tasks.token(),
        };
        self.shared.tasks.spawn("redis subscription", reader.run(told));
        match self.bounded(operation, first).await? {
            Ok(Ok(())) => Ok(subscription),
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
        self.inbox.next().await
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("waiting", &self.inbox.len()).finish_non_exhaustive()
    }
}
