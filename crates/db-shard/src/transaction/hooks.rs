use std::fmt;
use std::future::Future;
use std::pin::Pin;

use crate::error::At;
use crate::executor::{Executors, Handled, Reservation};
use crate::{Error, Result, Tx};

/// What a before-commit hook returns.
pub type HookFuture<'a> = Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;

type BeforeCommit = Box<dyn for<'a> FnOnce(&'a mut Tx) -> HookFuture<'a> + Send>;
type AfterCompletion = Box<dyn FnOnce(Completion) + Send>;

/// How a transaction ended, as far as this process knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Completion {
    /// It is committed.
    Committed,
    /// It is rolled back, or will be: it can never be committed.
    RolledBack,
    /// The reply to the commit was lost; a ticket can tell later.
    Unknown,
}

/// What the caller wants to happen around the end of a transaction.
pub(crate) struct Hooks {
    before_commit: Vec<BeforeCommit>,
    after_commit: Vec<(Box<str>, Handled)>,
    after_completion: Vec<AfterCompletion>,
    /// What a drop means: nothing was sent, or the commit was.
    if_dropped: Completion,
}

impl Default for Hooks {
    fn default() -> Self {
        Self {
            before_commit: Vec::new(),
            after_commit: Vec::new(),
            after_completion: Vec::new(),
            if_dropped: Completion::RolledBack,
        }
    }
}

impl Hooks {
    pub(super) fn before_commit(&mut self, hook: BeforeCommit) {
        self.before_commit.push(hook);
    }

    pub(super) fn after_commit(&mut self, executor: Box<str>, handler: Handled) {
        self.after_commit.push((executor, handler));
    }

    pub(super) fn after_completion(&mut self, hook: AfterCompletion) {
        self.after_completion.push(hook);
    }

    pub(super) fn take_before_commit(&mut self) -> Vec<BeforeCommit> {
        std::mem::take(&mut self.before_commit)
    }

    /// Tells whether the end of the transaction concerns more than its caller.
    pub(super) fn is_followed(&self) -> bool {
        !self.after_commit.is_empty() || !self.after_completion.is_empty()
    }

    /// Takes a place for every handler, the last thing before the commit.
    /// Places of handlers that do not run are given back with their
    /// reservation.
    pub(super) fn reserve(&mut self, executors: &Executors, at: At) -> Result<Vec<Reserved>> {
        let mut reserved = Vec::with_capacity(self.after_commit.len());
        for (name, handler) in std::mem::take(&mut self.after_commit) {
            // Checked when the handler was added.
            let Some(executor) = executors.get(&name) else { continue };
            let Some(reservation) = executor.reserve() else {
                let capacity = executor.capacity();
                return Err(Error::Exhausted {
                    at,
                    what: "place for an after-commit handler",
                    waited: std::time::Duration::ZERO,
                    in_use: capacity,
                    max: capacity,
                    waiting: 0,
                    setting: "db.executors",
                });
            };
            reserved.push(Reserved { reservation, handler });
        }
        Ok(reserved)
    }

    pub(super) fn commit_is_sent(&mut self) {
        self.if_dropped = Completion::Unknown;
    }

    pub(super) fn complete(&mut self, completion: Completion) {
        for hook in std::mem::take(&mut self.after_completion) {
            hook(completion);
        }
    }
}

impl Drop for Hooks {
    fn drop(&mut self) {
        self.complete(self.if_dropped);
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks")
            .field("before_commit", &self.before_commit.len())
            .field("after_commit", &self.after_commit.len())
            .field("after_completion", &self.after_completion.len())
            .finish_non_exhaustive()
    }
}

/// A handler and where it will run.
pub(super) struct Reserved {
    reservation: Reservation,
    handler: Handled,
}

impl Reserved {
    pub(super) async fn run(self) {
        self.reservation.run(self.handler).await;
    }
}
