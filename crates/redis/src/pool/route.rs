use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use trine_core::Deadline;

use super::Shared;
use crate::Command;
use crate::link::{Outcome, Trouble};
use crate::node::Node;
use crate::topology::Redirect;

/// A command is sent on this often at most.
pub(super) const MOST_REDIRECTS: u32 = 5;
/// How long a slot that is half moved is given, each time.
pub(super) const TRY_AGAIN: Duration = Duration::from_millis(50);

/// Tells whether the call ends before a slot that is half moved is tried again.
pub(super) fn is_too_late(until: Option<Deadline>) -> bool {
    until.is_some_and(|until| until.remaining() <= TRY_AGAIN)
}

impl Shared {
    /// Sends a command to where its keys are, and follows them.
    pub(super) async fn route(&self, command: &Command, until: Option<Deadline>) -> Outcome {
        let node = self.topology.node(self.slot(command)?)?;
        let outcome = node.run(&self.tasks, command, false, until).await;
        match outcome {
            Err(trouble) if trouble.is_elsewhere() => {
                // Rare, and deep: callers' futures are not to hold it.
                Box::pin(self.follow(command, node, Err(trouble), until)).await
            }
            outcome => outcome,
        }
    }

    /// Only what was refused is sent again: nothing of it has happened.
    async fn follow(
        &self,
        command: &Command,
        mut node: Arc<Node>,
        mut outcome: Outcome,
        until: Option<Deadline>,
    ) -> Outcome {
        for _ in 0..MOST_REDIRECTS {
            let Err(trouble) = &outcome else { return outcome };
            let mut asks = false;
            match self.redirect(trouble, &node, until).await {
                Redirect::No => return outcome,
                Redirect::To { node: to, asking } => (node, asks) = (to, asking),
                Redirect::Anew => node = self.topology.node(self.slot(command)?)?,
                Redirect::Later => {
                    if is_too_late(until) {
                        return outcome;
                    }
                    sleep(TRY_AGAIN).await;
                    node = self.topology.node(self.slot(command)?)?;
                }
            }
            self.counters.redirects.add(1);
            outcome = node.run(&self.tasks, command, asks, until).await;
        }
        outcome
    }

    /// Asks the topology, which may wait for a successor, for as long as the
    /// caller does.
    pub(super) async fn redirect(
        &self,
        trouble: &Trouble,
        from: &Node,
        until: Option<Deadline>,
    ) -> Redirect {
        let asking = self.topology.redirect(trouble, from);
        match until {
            None => asking.await,
            Some(until) => until.limit(asking).await.unwrap_or(Redirect::No),
        }
    }

    /// Returns the slot of a command where that matters.
    pub(super) fn slot(&self, command: &Command) -> Result<Option<u16>, Trouble> {
        if !self.topology.is_cluster() {
            return Ok(None);
        }
        command.slot().map_err(Trouble::Invalid)
    }
}
