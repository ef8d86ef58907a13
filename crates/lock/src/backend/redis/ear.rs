use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use trine_core::{Backoff, Outage, Report};
use trine_redis::{Command, Subscription, SubscriptionEvent};

use super::Store;
use super::place::Word;
use crate::{Event, EventSender};

/// Between two attempts to subscribe.
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LONGEST_RETRY: Duration = Duration::from_secs(2);

/// Which processes of this store hear what they are told just now.
#[derive(Debug, Default)]
pub(super) struct Hearing {
    of: Mutex<HashSet<Arc<str>>>,
}

impl Hearing {
    pub(super) fn has(&self, process: &Arc<str>) -> bool {
        self.of.lock().unwrap_or_else(PoisonError::into_inner).contains(process)
    }

    fn set(&self, process: &Arc<str>, hears: bool) {
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if hears {
            of.insert(Arc::clone(process));
        } else {
            of.remove(process);
        }
    }
}

/// Passes on what is published to one process, until nobody listens.
pub(super) struct Ear {
    pub(super) store: Arc<Store>,
    pub(super) process: Arc<str>,
    pub(super) sender: EventSender,
    pub(super) stop: CancellationToken,
}

impl Ear {
    pub(super) async fn listen(self) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = self.sender.closed() => {}
            () = self.keep_up() => {}
        }
        self.store.hearing.set(&self.process, false);
    }

    async fn keep_up(&self) {
        let channel = self.store.channel(&self.process);
        let backoff = Backoff::new(FIRST_RETRY, LONGEST_RETRY);
        let (mut outage, mut failures) = (Outage::new(), 0);
        loop {
            match self.store.pool.subscribe(&[&channel]).await {
                Ok(subscription) => {
                    if let Some(failures) = outage.over() {
                        tracing::warn!(failures, "locks hear again what they are told");
                    }
                    failures = 0;
                    self.follow(subscription).await;
                }
                Err(error) => {
                    if let Some(failures) = outage.failed() {
                        let error = Report(&error).to_string();
                        tracing::warn!(failures, error, "locks hear nothing and ask by themselves");
                    }
                    failures += 1;
                }
            }
            sleep(backoff.delay(failures)).await;
        }
    }

    /// Returns when the connection is gone for good.
    async fn follow(&self, mut subscription: Subscription) {
        self.hears(true).await;
        while let Some(event) = subscription.next().await {
            match event {
                SubscriptionEvent::Message { payload, .. } => {
                    match Word::read(&self.store.name, &payload) {
                        Some(Word::Free { key, lane }) => self.tell(Event::Free { key, lane }),
                        Some(Word::Later { key, lane, retry_in }) => {
                            self.tell(Event::Later { key, lane, retry_in });
                        }
                        Some(Word::Lost(fence)) => self.tell(Event::Lost(fence)),
                        None => tracing::debug!("a process was told what it does not know"),
                    }
                }
                SubscriptionEvent::Gap { is_over } => self.hears(is_over).await,
                _ => {}
            }
        }
        self.hears(false).await;
    }

    /// What was published before it heard, it has missed.
    async fn hears(&self, hears: bool) {
        self.store.hearing.set(&self.process, hears);
        if hears {
            self.until_reached().await;
            self.tell(Event::Missed);
        }
    }

    /// Commands have a connection of their own, which may come back later:
    /// whoever asks before that has asked in vain.
    async fn until_reached(&self) {
        let (ping, backoff) = (Command::read("PING"), Backoff::new(FIRST_RETRY, LONGEST_RETRY));
        let mut failure = 0;
        while self.store.pool.run(&ping).await.is_err_and(|error| error.is_retryable()) {
            sleep(backoff.delay(failure)).await;
            failure += 1;
        }
    }

    fn tell(&self, event: Event) {
        // Nobody listens any more: the end is near.
        let _ = self.sender.tell(event);
    }
}
