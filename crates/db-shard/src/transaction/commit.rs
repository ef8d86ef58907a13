use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::oneshot;
use trine_core::{Deadline, ErrorKind};

use super::hooks::{Completion, Reserved};
use super::keeper::Running;
use super::{Open, Tx};
use crate::backend::Call;
use crate::{Error, Outcome, Result};

/// How long a lost commit reply is asked after before the caller is told.
const ASK_AFTER_LOST_REPLY: Duration = Duration::from_secs(5);

impl Tx {
    /// Commits, and starts the after-commit handlers.
    ///
    /// When the reply is lost and the transaction has a [ticket](Self::ticket),
    /// the database is asked what became of it before the caller is told.
    /// Dropping the future while the commit is on its way leaves the outcome
    /// open; handlers and hooks are then run all the same, by what the reply
    /// says.
    ///
    /// # Errors
    ///
    /// Fails with what made the transaction impossible to commit, its time-out
    /// among them, in which case it is rolled back, or with `OutcomeUnknown`.
    pub async fn commit(mut self) -> Result<()> {
        self.leave_home();
        loop {
            let hooks = self.open_mut("commit")?.hooks.take_before_commit();
            if hooks.is_empty() {
                break;
            }
            for hook in hooks {
                hook(&mut self).await?;
            }
        }
        let open = self.open_mut("commit")?;
        let at = open.database.at("commit");
        let executors = open.database.shared().executors.clone();
        let reserved = open.hooks.reserve(&executors, at)?;
        let call = open.call("commit")?;
        let Some(open) = self.into_open() else { return Ok(()) };
        if reserved.is_empty() && !open.hooks.is_followed() {
            return finish(open, call, reserved).boxed().await;
        }
        // The end of the commit concerns others too, so it does not depend on
        // the caller's patience.
        let (answer, answered) = oneshot::channel();
        let lost = Error::OutcomeUnknown {
            at: open.database.at("commit"),
            ticket: open.ticket.map(|taken| taken.ticket),
            cause: None,
        };
        executors.tasks().spawn("commit", async move {
            // A caller that went away needs no answer.
            let _gone = answer.send(finish(open, call, reserved).await);
        });
        answered.await.unwrap_or(Err(lost))
    }

    /// Rolls back, also when the time of the transaction is over.
    ///
    /// # Errors
    ///
    /// Fails if the database could not be told; it rolls back by itself then,
    /// because the connection is closed.
    pub async fn rollback(mut self) -> Result<()> {
        self.leave_home();
        let Some(open) = self.into_open() else { return Ok(()) };
        let call = open.database.own_call("rollback");
        let Open { kept, mut hooks, .. } = *open;
        let Running { backend, admitted: _admitted } = kept.into_running();
        let result = backend.rollback(call).await;
        hooks.complete(Completion::RolledBack);
        result
    }
}

/// Sends the commit and does what its reply asks for.
async fn finish(open: Box<Open>, call: Call, reserved: Vec<Reserved>) -> Result<()> {
    let Open { database, kept, mut hooks, ticket, .. } = *open;
    let Running { backend, admitted } = kept.into_running();
    let ticket = ticket.map(|taken| taken.ticket);
    hooks.commit_is_sent();
    let mut result = backend.commit(call).await;
    // The connection is back; the place is no longer needed.
    drop(admitted);
    if let Err(Error::OutcomeUnknown { ticket: of, .. }) = &mut result {
        *of = ticket;
        if let Some(ticket) = ticket {
            let deadline = Deadline::after(ASK_AFTER_LOST_REPLY);
            match database.settle_outcome(ticket, deadline).await {
                Some(Outcome::Committed) => result = Ok(()),
                Some(Outcome::RolledBack) => {
                    result = Err(Error::Interrupted {
                        at: database.at("commit"),
                        reason: "the connection broke before the commit, rolled back",
                    });
                }
                _ => {}
            }
        }
    }
    hooks.complete(match &result {
        Ok(()) => Completion::Committed,
        Err(error) if error.kind() == ErrorKind::OutcomeUnknown => Completion::Unknown,
        Err(_) => Completion::RolledBack,
    });
    result?;
    for handler in reserved {
        handler.run().await;
    }
    Ok(())
}
