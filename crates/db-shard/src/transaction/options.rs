use std::time::Duration;

use crate::Isolation;
use crate::backend::{Access, BeginOptions};

/// How a transaction runs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TxOptions {
    /// The isolation asked for. Default: the engine's.
    pub isolation: Option<Isolation>,
    /// Whether it only reads; on SQLite it then waits for no writer.
    /// Default: false.
    pub read_only: bool,
    /// Longest time from its beginning to its commit. One that is not ended by
    /// then, whatever its body waits for, is rolled back within a second, and
    /// its next step fails with `Timeout`. Default: the `query_timeout`, for
    /// the whole transaction.
    pub timeout: Option<Duration>,
    /// Longest time between two of its statements, in whole seconds, after which
    /// the server rolls it back and closes its connection: also if this process
    /// is stopped, and cannot do so itself. On MariaDB and connections of our
    /// own; elsewhere it changes nothing. Default: the server's, for ever as a
    /// rule.
    pub idle_timeout: Option<Duration>,
    /// How often [`Database::transaction`](crate::Database::transaction) runs
    /// the body again after a deadlock. Default: 3.
    pub deadlock_retries: u32,
    /// Whether the transaction takes a ticket at its beginning, which makes a
    /// lost commit reply answerable for one insert. Default: false.
    pub ticket: bool,
}

impl Default for TxOptions {
    fn default() -> Self {
        Self {
            isolation: None,
            read_only: false,
            timeout: None,
            idle_timeout: None,
            deadlock_retries: 3,
            ticket: false,
        }
    }
}

impl TxOptions {
    /// Sets the isolation.
    #[must_use]
    pub fn with_isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = Some(isolation);
        self
    }

    /// Promises to read only.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Sets the longest time of the whole transaction.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sets after how long without a statement the server rolls it back.
    #[must_use]
    pub fn with_idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = Some(timeout);
        self
    }

    /// Sets how often a body is run again after a deadlock.
    #[must_use]
    pub fn with_deadlock_retries(mut self, retries: u32) -> Self {
        self.deadlock_retries = retries;
        self
    }

    /// Takes a ticket at the beginning.
    #[must_use]
    pub fn with_ticket(mut self) -> Self {
        self.ticket = true;
        self
    }

    pub(super) fn access(&self) -> Access {
        if self.read_only { Access::Read } else { Access::Write }
    }

    pub(super) fn begin(&self) -> BeginOptions {
        BeginOptions {
            isolation: self.isolation,
            access: self.access(),
            idle_timeout: self.idle_timeout,
        }
    }
}
