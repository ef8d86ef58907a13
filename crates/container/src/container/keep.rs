use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::sleep;
use trine_core::{Backoff, Deadline, ErrorKind, Fault, Intensity, Outage, StallDetector, State};

use super::pulse::Pulse;
use super::start::{GRACE, backoff, report};
use super::{Container, Fatal, Shared};
use crate::node::Node;

/// A container as its own background work sees it: it keeps nobody alive.
#[derive(Clone)]
struct Background(Weak<Shared>);

impl Background {
    /// Waits for the end of this task if the container is gone.
    async fn container(&self) -> Container {
        match self.0.upgrade() {
            Some(shared) => Container { shared },
            None => std::future::pending().await,
        }
    }
}

impl Container {
    /// Watches the runtime.
    pub(super) fn spawn_vital(&self) {
        let shared = &self.shared;
        StallDetector::spawn(&shared.vital, &shared.runtime, Arc::clone(&shared.parts.clock));
        let background = Background(Arc::downgrade(shared));
        shared.vital.supervise("pulse", Intensity::default(), move || {
            let background = background.clone();
            async move {
                loop {
                    background.container().await.shared.pulse.beat();
                    sleep(Pulse::PERIOD).await;
                }
            }
        });
    }

    /// Watches the services, and starts the optional ones.
    pub(super) fn spawn_upkeep(&self) {
        for (place, node) in self.nodes().iter().enumerate() {
            let background = Background(Arc::downgrade(&self.shared));
            let watch = move || background.clone().watch(place);
            self.shared.upkeep.supervise(
                format!("watch {}", node.name),
                Intensity::default(),
                watch,
            );
            if !node.is_required {
                let background = Background(Arc::downgrade(&self.shared));
                let keep = move || background.clone().keep(place);
                self.shared.upkeep.supervise(
                    format!("keep {}", node.name),
                    Intensity::default(),
                    keep,
                );
            }
        }
    }

    fn lose(&self, node: &Node, kind: ErrorKind, reason: String) {
        tracing::error!(service = %node.name, reason, "service is lost");
        let fatal = Fatal { service: (*node.name).into(), kind, reason };
        self.shared.fatal.send_if_modified(|known| {
            let is_first = known.is_none();
            known.get_or_insert(fatal);
            is_first
        });
    }
}

impl Background {
    /// Checks one service again and again.
    async fn watch(self, place: usize) {
        loop {
            let container = self.container().await;
            let Some(node) = container.nodes().get(place) else {
                return std::future::pending().await;
            };
            let has_failed = node.run().is_started && node.service.state() == State::Failed;
            if has_failed && node.is_required {
                let health = container.observe(node).await;
                let reason = health.error.unwrap_or_else(|| "no reason given".to_owned());
                container.lose(node, ErrorKind::Internal, reason);
                return std::future::pending().await;
            }
            container.check(node).await;
            let pause = container.config().health_interval.get();
            drop(container);
            sleep(pause).await;
        }
    }

    /// Starts one optional service, as often as it takes, and again if it fails.
    async fn keep(self, place: usize) {
        let mut retries = Retries::new();
        loop {
            let container = self.container().await;
            let Some(node) = container.nodes().get(place) else {
                return std::future::pending().await;
            };
            let mut settled = container.shared.settled.subscribe();
            let is_up = node.run().is_started && node.service.state() != State::Failed;
            let pause = if is_up {
                retries.over(node);
                container.config().health_interval.get()
            } else if container.needs_are_settled(node) {
                container.retry(node, &mut retries).await
            } else {
                drop(container);
                let _ = settled.changed().await;
                continue;
            };
            drop(container);
            sleep(pause).await;
        }
    }
}

impl Container {
    /// Tries to start an optional service; returns how long to wait then.
    async fn retry(&self, node: &Node, retries: &mut Retries) -> Duration {
        let deadline = Deadline::after(node.start_timeout.saturating_add(GRACE));
        let fault = match deadline.limit(self.attempt(node)).await {
            Some(Ok(())) => return self.config().health_interval.get(),
            Some(Err(fault)) => fault,
            None => {
                let fault = NotUp { within: node.start_timeout }.into();
                self.note_failure(node, &fault);
                fault
            }
        };
        if fault.kind() == ErrorKind::Invalid {
            self.lose(node, ErrorKind::Invalid, report(&*fault));
            return std::future::pending().await;
        }
        retries.failed(node, &*fault)
    }
}

/// The failures of one optional service in a row.
struct Retries {
    backoff: Backoff,
    outage: Outage,
}

impl Retries {
    fn new() -> Self {
        Self { backoff: backoff(), outage: Outage::new() }
    }

    fn failed(&mut self, node: &Node, fault: &dyn Fault) -> Duration {
        let delay = self.backoff.delay(self.outage.failures());
        if let Some(failures) = self.outage.failed() {
            let (service, error) = (&node.name, report(fault));
            tracing::warn!(%service, error, failures, "optional service is away");
        }
        delay.max(fault.retry_after().unwrap_or_default())
    }

    fn over(&mut self, node: &Node) {
        if let Some(failures) = self.outage.over() {
            tracing::warn!(service = %node.name, failures, "optional service is back");
        }
    }
}

/// An attempt to start that took too long.
#[derive(Debug, thiserror::Error)]
#[error("not up within {within:?}")]
struct NotUp {
    within: Duration,
}

impl Fault for NotUp {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Unavailable
    }
}
