use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::SubscriptionEvent;
use crate::service::Counters;

/// The events that wait for their reader. Whoever puts them in never waits.
pub(super) struct Inbox {
    waiting: Mutex<Waiting>,
    changed: Notify,
    /// Nobody will read any more.
    pub(super) left: CancellationToken,
    counters: Counters,
}

struct Waiting {
    events: VecDeque<SubscriptionEvent>,
    room: usize,
    /// A gap after the events, for which there was no room.
    has_gap: bool,
    /// Whether there is no connection.
    is_lost: bool,
    has_ended: bool,
}

impl Waiting {
    /// A gap that is told late is told as it is then.
    fn gap(&self) -> SubscriptionEvent {
        SubscriptionEvent::Gap { is_over: !self.is_lost }
    }

    fn tell_gap(&mut self) {
        if self.has_gap || self.events.len() >= self.room {
            self.has_gap = true;
        } else {
            self.events.push_back(self.gap());
        }
    }
}

impl Inbox {
    pub(super) fn new(room: usize, counters: &Counters) -> Self {
        let waiting = Waiting {
            events: VecDeque::new(),
            room,
            has_gap: false,
            is_lost: false,
            has_ended: false,
        };
        Self {
            waiting: Mutex::new(waiting),
            changed: Notify::new(),
            left: CancellationToken::new(),
            counters: counters.clone(),
        }
    }

    /// Returns how many events wait.
    pub(super) fn len(&self) -> usize {
        self.lock().events.len()
    }

    /// Waits for the next event; `None` after the last one.
    pub(super) async fn next(&self) -> Option<SubscriptionEvent> {
        loop {
            {
                let mut waiting = self.lock();
                if let Some(event) = waiting.events.pop_front() {
                    return Some(event);
                }
                if std::mem::take(&mut waiting.has_gap) {
                    return Some(waiting.gap());
                }
                if waiting.has_ended {
                    return None;
                }
            }
            self.changed.notified().await;
        }
    }

    pub(super) fn put(&self, event: SubscriptionEvent) {
        let mut waiting = self.lock();
        let needed = if waiting.has_gap { 2 } else { 1 };
        if waiting.events.len() + needed <= waiting.room {
            if std::mem::take(&mut waiting.has_gap) {
                let gap = waiting.gap();
                waiting.events.push_back(gap);
            }
            waiting.events.push_back(event);
        } else if !std::mem::replace(&mut waiting.has_gap, true) {
            self.counters.gaps.add(1);
        }
        self.changed.notify_one();
    }

    /// The connection is lost.
    pub(super) fn lost(&self) {
        let mut waiting = self.lock();
        waiting.is_lost = true;
        waiting.tell_gap();
        self.counters.gaps.add(1);
        self.changed.notify_one();
    }

    /// There is another connection.
    pub(super) fn found(&self) {
        let mut waiting = self.lock();
        waiting.is_lost = false;
        waiting.tell_gap();
        self.changed.notify_one();
    }

    /// Nothing comes any more.
    pub(super) fn end(&self) {
        self.lock().has_ended = true;
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
