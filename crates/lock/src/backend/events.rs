use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};
use trine_core::Fence;

use crate::Key;

/// What a store tells a process without being asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Event {
    /// The key is kept for this lane of the process, for a moment.
    Free {
        /// The key.
        key: Key,
        /// The lane.
        lane: u64,
    },
    /// The grant was ended by another.
    Lost(Fence),
    /// There is nothing to ask before so long, if nothing else is told: another
    /// is next and has so long to come, or has come.
    Later {
        /// The key.
        key: Key,
        /// The lane.
        lane: u64,
        /// When to ask by oneself.
        retry_in: Duration,
    },
    /// What was told for a while was not heard: everything that may have been
    /// is asked again.
    Missed,
}

/// What a store tells one process. The same thing is told once however often it
/// was said before it was heard, so that this is bounded by what is waited for
/// and held.
#[derive(Debug)]
pub struct Events {
    mailbox: Arc<Mailbox>,
    _gone: DropGuard,
}

/// Where a store puts what it tells one process.
#[derive(Clone, Debug)]
pub struct EventSender {
    mailbox: Weak<Mailbox>,
    gone: CancellationToken,
}

#[derive(Debug, Default)]
struct Mailbox {
    events: Mutex<Waiting>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    events: HashSet<Event>,
    /// Of these the last one counts.
    later: HashMap<(Key, u64), Duration>,
}

impl Events {
    /// Returns both ends of one process's events.
    #[must_use]
    pub fn channel() -> (EventSender, Self) {
        let mailbox = Arc::new(Mailbox::default());
        let gone = CancellationToken::new();
        let sender = EventSender { mailbox: Arc::downgrade(&mailbox), gone: gone.clone() };
        (sender, Self { mailbox, _gone: gone.drop_guard() })
    }

    /// Waits for the next events, in no order.
    ///
    /// Cancel-safe: what was not returned stays.
    pub async fn next(&self) -> HashSet<Event> {
        loop {
            let arrived = self.mailbox.arrived.notified();
            let Waiting { mut events, later } = std::mem::take(&mut *self.mailbox.lock());
            let later = later.into_iter();
            events.extend(later.map(|((key, lane), retry_in)| Event::Later {
                key,
                lane,
                retry_in,
            }));
            if !events.is_empty() {
                return events;
            }
            arrived.await;
        }
    }
}

impl EventSender {
    /// Tells the process; `false` if nobody listens any more.
    #[must_use]
    pub fn tell(&self, event: Event) -> bool {
        let Some(mailbox) = self.mailbox.upgrade() else { return false };
        let mut waiting = mailbox.lock();
        match event {
            Event::Later { key, lane, retry_in } => {
                waiting.later.insert((key, lane), retry_in);
            }
            event => {
                waiting.events.insert(event);
            }
        }
        drop(waiting);
        mailbox.arrived.notify_one();
        true
    }

    /// Waits until nobody listens any more.
    pub async fn closed(&self) {
        self.gone.cancelled().await;
    }

    /// Tells whether nobody listens any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.mailbox.strong_count() == 0
    }
}

impl Mailbox {
    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
