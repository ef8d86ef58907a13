use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use futures_util::future::join_all;
use serde_json::Value;
use trine_core::{Health, HealthStatus, State};

use super::Container;
use crate::node::Node;

impl Container {
    /// Tells whether the process makes progress: `down` if the runtime ran
    /// nothing for `container.live_timeout`. Asks no service.
    #[must_use]
    pub fn live(&self) -> Health {
        let (age, bound) = (self.shared.pulse.age(), self.config().live_timeout.get());
        if age <= bound {
            return Health::up();
        }
        Health::down(format_args!(
            "the runtime was held up for {age:?}; at most {bound:?} expected"
        ))
    }

    /// Tells whether the process should be given work: it is started, is not
    /// draining, and no required service is down.
    ///
    /// What a service says of itself counts as it is: each damps its own answer,
    /// as [`Probe`](trine_core::Probe) does with three checks in a row. One that
    /// gives no answer within `container.health_timeout` is down. An optional
    /// one never makes the process unready.
    #[must_use]
    pub fn ready(&self) -> Health {
        match self.state() {
            State::Running => {}
            state => return Health::down(format_args!("the process is {state}")),
        }
        let down = self.nodes().iter().filter(|node| node.is_required && node.is_down());
        let down: Vec<_> = down.map(|node| &*node.name).collect();
        if down.is_empty() {
            return Health::up();
        }
        Health::down(format_args!("down: {}", down.join(", ")))
    }

    pub(super) fn is_ready(&self) -> bool {
        self.ready().status != HealthStatus::Down
    }

    /// Checks every service side by side, each by real work and within
    /// `container.health_timeout`.
    ///
    /// The worst status wins, where an optional service counts as degraded at
    /// most. Each service is a detail, with its own status.
    pub async fn health(&self) -> Health {
        let checks = self.nodes().iter().map(|node| async move { (node, self.check(node).await) });
        let mut whole = Health::up();
        for (node, part) in join_all(checks).await {
            whole = if node.is_required {
                whole.with_part(&*node.name, &part)
            } else {
                whole.with_optional_part(&*node.name, &part)
            };
            if let Some(Value::Object(detail)) = whole.details.get_mut(&*node.name) {
                detail.insert("state".to_owned(), node.service.state().as_str().into());
                detail.insert("required".to_owned(), node.is_required.into());
            }
        }
        whole
    }

    /// Checks one service and notes the answer.
    pub(super) async fn check(&self, node: &Node) -> Health {
        let health = self.observe(node).await;
        let before = node.run().health.replace(health.clone()).map(|before| before.status);
        // Who starts or stops a service says so by itself.
        let is_settled = matches!(node.service.state(), State::Running | State::Failed);
        if is_settled && before.unwrap_or_default() != health.status {
            let (service, status) = (&node.name, health.status);
            match &health.error {
                Some(error) => {
                    tracing::warn!(%service, %status, error, "health of a service changed")
                }
                None => tracing::info!(%service, %status, "health of a service changed"),
            }
        }
        health
    }

    pub(super) async fn observe(&self, node: &Node) -> Health {
        let (probe, last_error) = {
            let run = node.run();
            (run.probe.clone(), run.last_error.clone())
        };
        let state = node.service.state();
        match (state, probe) {
            (State::Running, Some(probe)) => {
                probe
                    .check(|| async {
                        let health = AssertUnwindSafe(node.service.health()).catch_unwind().await;
                        health.unwrap_or_else(|_| Health::down("the health check panicked"))
                    })
                    .await
            }
            _ => Health::down(last_error.unwrap_or_else(|| format!("the service is {state}"))),
        }
    }
}
