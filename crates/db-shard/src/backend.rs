mod observed;

#[cfg(feature = "mysql")]
pub(crate) mod mysql;
#[cfg(feature = "sqlite")]
pub(crate) mod sqlite;

use std::any::Any;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use trine_core::{Deadline, Durability};

use crate::{At, Done, Engine, Error, Result, ResultSet, Row, StatementText, Value};

#[cfg(feature = "mysql")]
pub use mysql::MysqlBackend;
pub use observed::Observed;
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteBackend;

/// What one physical database must offer. Object-safe on purpose: callers hold
/// one [`Database`](crate::Database) whatever the engine is.
///
/// Everything here runs one statement, or a closed list, as it is given: rules
/// about texts, tenants, tickets, hooks and retries stand above.
///
/// Dropping any of these futures never hands a row or a reply to another
/// caller. What it held is given back at once, or within the bound that the
/// engine documents; a write may still have happened.
#[async_trait]
pub trait DbBackend: fmt::Debug + Send + Sync + 'static {
    /// Returns the engine.
    fn engine(&self) -> Engine;

    /// Returns what this engine can do beyond the required operations.
    fn capabilities(&self) -> Capabilities;

    /// Makes sure that the database answers, connecting if necessary.
    /// Idempotent; also what health checks call.
    async fn prove(&self, call: Call) -> Result<ServerFacts>;

    /// Runs one statement on its own: committed when this returns.
    async fn run(&self, call: Call, statement: Statement) -> Result<Reply>;

    /// Runs the statements in order as one transaction: all or none.
    async fn run_all(&self, call: Call, statements: Vec<Statement>) -> Result<Vec<Reply>>;

    /// Runs a query and returns its rows as they arrive. Dropping the stream
    /// ends the query.
    fn stream(&self, call: Call, statement: Statement) -> RowStream;

    /// Calls a stored procedure and keeps its result sets apart.
    async fn call(&self, call: Call, statement: Statement) -> Result<Vec<ResultSet>>;

    /// Begins a transaction.
    async fn begin(&self, call: Call, options: BeginOptions)
    -> Result<Box<dyn BackendTransaction>>;

    /// Returns the present numbers of the pool.
    fn stats(&self) -> PoolStats;

    /// Takes no new work, waits until the deadline for what is under way and
    /// closes every connection. Idempotent.
    async fn close(&self, deadline: Deadline);
}

/// A transaction on one connection. Dropping it rolls back.
///
/// When a future of one of these methods is dropped before it is ready, the
/// transaction is broken: everything after fails with kind `Interrupted`, and
/// nothing is committed.
#[async_trait]
pub trait BackendTransaction: fmt::Debug + Send {
    /// Returns the isolation that is in force.
    fn isolation(&self) -> Isolation;

    /// Runs one statement.
    async fn run(&mut self, call: Call, statement: Statement) -> Result<Reply>;

    /// Calls a stored procedure and keeps its result sets apart.
    async fn call(&mut self, call: Call, statement: Statement) -> Result<Vec<ResultSet>>;

    /// Sets, releases or rolls back to the savepoint with this number.
    async fn savepoint(&mut self, call: Call, step: SavepointStep, number: u32) -> Result<()>;

    /// Commits. When the answer is lost, the error is `OutcomeUnknown`.
    async fn commit(self: Box<Self>, call: Call) -> Result<()>;

    /// Rolls back.
    async fn rollback(self: Box<Self>, call: Call) -> Result<()>;

    /// Returns the transaction as its own type, for versioned interop.
    fn as_any_mut(&mut self) -> &mut dyn Any;
}

/// The rows of a query as they arrive.
pub type RowStream = BoxStream<'static, Result<Row>>;

/// The bounds of one call, and its name for messages.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Call {
    /// The operation as the caller knows it, such as `"query"`.
    pub operation: &'static str,
    /// When the answer is of no use any more.
    pub deadline: Deadline,
    /// What set the deadline, for messages: a setting, or the call's own.
    pub limit: &'static str,
    /// How long the call was given, for messages.
    pub after: Duration,
    /// Most rows to gather; more is an error.
    pub max_rows: u64,
}

impl Call {
    /// Returns a call that may take `timeout` and gather `max_rows` rows.
    #[must_use]
    pub fn new(operation: &'static str, timeout: Duration, max_rows: u64) -> Self {
        Self {
            operation,
            deadline: Deadline::after(timeout),
            limit: "db.query_timeout",
            after: timeout,
            max_rows,
        }
    }

    /// Returns the call ended by `deadline`, if that is earlier.
    #[must_use]
    pub fn until(mut self, deadline: Option<Deadline>) -> Self {
        if let Some(deadline) = deadline.filter(|deadline| *deadline < self.deadline) {
            self.deadline = deadline;
            self.limit = "the deadline of the call";
            self.after = deadline.remaining();
        }
        self
    }

    /// Returns the answer to a call whose time was over before it was sent.
    #[must_use]
    pub fn timed_out(&self, at: At) -> Error {
        Error::Timeout { at, after: self.after, limit: self.limit }
    }

    /// Returns the answer to a query with more rows than the call gathers.
    #[must_use]
    pub fn too_many_rows(&self, at: At) -> Error {
        let detail = match self.max_rows {
            1 => "more than one row where at most one was expected".to_owned(),
            max => format!("more than {max} rows (db.max_rows); take them as a stream"),
        };
        Error::invalid(at, detail)
    }
}

/// One statement, ready for the engine.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Statement {
    /// The text, in the engine's own dialect.
    pub text: StatementText,
    /// One value for each question mark.
    pub values: Vec<Value>,
    /// Whether it only reads.
    pub access: Access,
}

impl Statement {
    /// Returns a statement of the program's own.
    #[must_use]
    pub fn constant(text: &'static str, values: Vec<Value>, access: Access) -> Self {
        Self { text: StatementText::constant(text), values, access }
    }

    pub(crate) fn new(text: StatementText, values: Vec<Value>, access: Access) -> Self {
        Self { text, values, access }
    }

    /// Tells whether it changes rows and returns them.
    #[cfg(feature = "mysql")]
    fn is_returning_write(&self) -> bool {
        self.access == Access::Write && {
            let shape = self.text.shape(Engine::Mysql);
            shape.changes_rows && shape.returns_rows
        }
    }
}

/// Whether a statement only reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Access {
    /// It changes nothing: a lost reply is no lost write.
    Read,
    /// It may change something.
    Write,
}

/// What one statement answered.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Reply {
    /// The rows, in order.
    pub rows: Vec<Row>,
    /// What it changed.
    pub done: Done,
}

impl Reply {
    /// Returns the answer of a statement.
    #[must_use]
    pub fn new(rows: Vec<Row>, done: Done) -> Self {
        Self { rows, done }
    }
}

/// How a transaction begins.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct BeginOptions {
    /// The isolation asked for; `None` is the engine's default.
    pub isolation: Option<Isolation>,
    /// Whether it only reads: on SQLite it then takes a reader, not the writer.
    pub access: Access,
    /// Longest time between two statements after which the server rolls it
    /// back by itself, where it can.
    pub idle_timeout: Option<Duration>,
}

impl Default for BeginOptions {
    fn default() -> Self {
        Self { isolation: None, access: Access::Write, idle_timeout: None }
    }
}

/// What concurrent transactions see of each other, by the SQL standard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Isolation {
    /// Each statement sees what was committed before it.
    ReadCommitted,
    /// All statements see what the first one saw.
    RepeatableRead,
    /// As if one ran after the other.
    Serializable,
}

impl Isolation {
    /// Returns the stable name, such as `"read_committed"`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReadCommitted => "read_committed",
            Self::RepeatableRead => "repeatable_read",
            Self::Serializable => "serializable",
        }
    }
}

/// What to do with a savepoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SavepointStep {
    /// Set it.
    Set,
    /// Keep what happened since, and forget it.
    Release,
    /// Undo what happened since, and forget it.
    RollBack,
}

/// What an engine can do beyond the required operations. A call for a missing
/// one fails with kind `Unsupported`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// Several transactions write at the same time.
    pub concurrent_writers: bool,
    /// Stored procedures of the server.
    pub procedures: bool,
    /// A change of the schema can be rolled back.
    pub transactional_schema: bool,
    /// The isolations that [`BeginOptions`] may ask for.
    pub isolations: &'static [Isolation],
}

/// What a database says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerFacts {
    /// Product and version, such as `MariaDB 10.11.6` or `SQLite 3.50.2`.
    pub version: Box<str>,
    /// What changes when another server answers at the same address.
    pub identity: Box<str>,
    /// Whether it refuses writes.
    pub is_read_only: bool,
    /// What survives which failure.
    pub durability: Durability,
}

/// The present numbers of one database's connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// Most connections there may be.
    pub max: usize,
    /// Connections there are.
    pub size: usize,
    /// Connections that nobody uses.
    pub idle: usize,
    /// Calls that wait for a connection, or for their turn to write.
    pub waiting: usize,
    /// Connections made since the start.
    pub connects: u64,
    /// Statements ended because their caller went away.
    pub cancelled: u64,
    /// Of these, how many the server had not confirmed ended in time.
    pub abandoned: u64,
}
