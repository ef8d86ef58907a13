mod commit;
mod hooks;
mod keeper;
mod options;
mod run;

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use trine_core::{BoxError, CallContext, Deadline};

use crate::backend::{BackendTransaction, Call, SavepointStep};
use crate::database::prepare::{Takes, prepare};
use crate::database::{Admitted, decode};
use crate::error::At;
use crate::executor::DEFAULT;
use crate::{
    Database, Done, Engine, Error, FromRow, IntoParams, Isolation, Result, ResultSet, SqlText,
    Ticket,
};

use hooks::Hooks;
use keeper::{Kept, Running};

pub use hooks::{Completion, HookFuture};
pub(crate) use keeper::Keeper;
pub use options::TxOptions;

/// A transaction on one database. Dropping it rolls back.
///
/// A call whose future is dropped before it is ready breaks the transaction:
/// whatever follows fails with `Interrupted`, and nothing is committed.
pub struct Tx {
    /// Present until the transaction is finished.
    open: Option<Box<Open>>,
    /// Where a transaction of [`Database::transaction`] goes when the body
    /// drops it.
    home: Option<Home>,
}

/// The state of a transaction that is neither committed nor rolled back.
pub(crate) struct Open {
    pub(crate) database: Database,
    kept: Kept,
    isolation: Isolation,
    pub(crate) hooks: Hooks,
    pub(crate) ticket: Option<Taken>,
    /// What forbids the commit, whatever the caller made of the error.
    pub(crate) doom: Option<Doom>,
    limit: Limit,
    pub(crate) savepoints: u32,
}

/// A ticket, and the number of the last savepoint set before it was taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    pub(crate) ticket: Ticket,
    pub(crate) after: u32,
}

/// When a transaction ends, and why then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    deadline: Deadline,
    after: Duration,
    name: &'static str,
}

/// Why a transaction can only be rolled back.
#[derive(Clone, Debug)]
pub(crate) enum Doom {
    /// The database ended it to break a deadlock.
    Deadlock,
    /// A newer owner has shown its token.
    Fenced { key: Box<str>, token: u64, seen: u64 },
    /// A call was dropped half-way, or a savepoint could not be restored.
    Broken,
}

impl Doom {
    pub(crate) fn error(&self, at: At) -> Error {
        match self {
            Self::Deadlock => {
                Error::Conflict { at, conflict: crate::Conflict::Deadlock, cause: None }
            }
            Self::Fenced { key, token, seen } => {
                Error::Fenced { at, key: key.clone(), token: *token, seen: *seen }
            }
            Self::Broken => {
                Error::Interrupted { at, reason: "a call on the transaction was dropped" }
            }
        }
    }
}

/// Holds a transaction between its body's end and its commit.
#[derive(Clone, Default)]
pub(crate) struct Home(Arc<Mutex<Inside>>);

#[derive(Default)]
pub(crate) enum Inside {
    /// The body has it.
    #[default]
    Lent,
    /// The body dropped it.
    Back(Box<Open>),
    /// The body committed it or rolled it back, and was told how that went.
    Ended,
    /// The body is over; what comes back now is rolled back.
    Over,
}

impl Home {
    /// Ends the body and returns where it left the transaction.
    pub(crate) fn close(&self) -> Inside {
        std::mem::replace(&mut *self.lock(), Inside::Over)
    }

    fn give_back(&self, open: Box<Open>) {
        self.replace_lent(Inside::Back(open));
    }

    fn end(&self) {
        self.replace_lent(Inside::Ended);
    }

    fn replace_lent(&self, with: Inside) {
        let mut inside = self.lock();
        if matches!(*inside, Inside::Lent) {
            *inside = with;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tx {
    pub(crate) fn new(
        database: Database,
        backend: Box<dyn BackendTransaction>,
        admitted: Admitted,
        limit: Limit,
    ) -> Self {
        let isolation = backend.isolation();
        let shared = database.shared();
        let running = Running { backend, admitted: Some(admitted) };
        let tasks = shared.executors.tasks();
        let kept = shared.transactions.keep(tasks, &shared.name, limit, running);
        let open = Open {
            database,
            kept,
            isolation,
            hooks: Hooks::default(),
            ticket: None,
            doom: None,
            limit,
            savepoints: 0,
        };
        Self { open: Some(Box::new(open)), home: None }
    }

    pub(crate) fn from_open(open: Box<Open>) -> Self {
        Self { open: Some(open), home: None }
    }

    pub(crate) fn lend(mut self) -> (Self, Home) {
        let home = Home::default();
        self.home = Some(home.clone());
        (self, home)
    }

    /// Takes it from the body for good, if a body has it: whatever fails from
    /// here on rolls back.
    fn leave_home(&mut self) {
        if let Some(home) = self.home.take() {
            home.end();
        }
    }

    pub(crate) fn into_open(mut self) -> Option<Box<Open>> {
        self.open.take()
    }

    /// Returns the database it runs on.
    ///
    /// # Panics
    ///
    /// Never: the transaction is open as long as it can be named.
    #[must_use]
    pub fn database(&self) -> &Database {
        #[expect(clippy::expect_used, reason = "taken by value only, by commit and rollback")]
        let open = self.open.as_ref().expect("an open transaction");
        &open.database
    }

    /// Returns the engine.
    #[must_use]
    pub fn engine(&self) -> Engine {
        self.database().engine()
    }

    /// Returns the isolation that is in force, which may be stronger than the
    /// one asked for: SQLite is always serialisable.
    #[must_use]
    pub fn isolation(&self) -> Isolation {
        self.open.as_ref().map_or(Isolation::Serializable, |open| open.isolation)
    }

    /// Runs a query and returns every row, decoded. It sees what this
    /// transaction has written.
    ///
    /// # Errors
    ///
    /// As [`Database::query`].
    pub async fn query<T: FromRow>(
        &mut self,
        sql: impl Into<SqlText>,
        params: impl IntoParams,
    ) -> Result<Vec<T>> {
        let max_rows = self.database().shared().settings.max_rows;
        self.read("tx.query", max_rows, &sql.into(), params).await
    }

    /// Runs a query and returns its row, if there is one.
    ///
    /// # Errors
    ///
    /// As [`Database::query_optional`].
    pub async fn query_optional<T: FromRow>(
        &mut self,
        sql: impl Into<SqlText>,
        params: impl IntoParams,
    ) -> Result<Option<T>> {
        Ok(self.read("tx.query_optional", 1, &sql.into(), params).await?.pop())
    }

    /// Runs a query and returns its row.
    ///
    /// # Errors
    ///
    /// As [`Database::query_one`].
    pub async fn query_one<T: FromRow>(
        &mut self,
        sql: impl Into<SqlText>,
        params: impl IntoParams,
    ) -> Result<T> {
        const OPERATION: &str = "tx.query_one";
        let row = self.read(OPERATION, 1, &sql.into(), params).await?.pop();
        row.ok_or_else(|| Error::not_found(self.database().at(OPERATION), "row"))
    }

    /// Runs one statement and tells what it changed.
    ///
    /// # Errors
    ///
    /// As [`Database::execute`]; on an engine where a change of the schema
    /// commits, such a statement is `Invalid`.
    pub async fn execute(
        &mut self,
        sql: impl Into<SqlText>,
        params: impl IntoParams,
    ) -> Result<Done> {
        let takes = self.takes_writes();
        Ok(self.run("tx.execute", takes, None, &sql.into(), params).await?.done)
    }

    /// Runs one statement with a `RETURNING` clause and returns its rows.
    ///
    /// # Errors
    ///
    /// As [`Database::execute_returning`].
    pub async fn execute_returning<T: FromRow>(
        &mut self,
        sql: impl Into<SqlText>,
        params: impl IntoParams,
    ) -> Result<Vec<T>> {
        const OPERATION: &str = "tx.execute_returning";
        let takes = self.takes_writes();
        let reply = self.run(OPERATION, takes, None, &sql.into(), params).await?;
        decode(reply.rows, || self.database().at(OPERATION))
    }

    /// Calls a stored procedure or its twin and returns every result set.
    ///
    /// A procedure that commits ends the transaction behind its back; do not
    /// call such a one here.
    ///
    /// # Errors
    ///
    /// As [`Database::call_procedure`].
    pub async fn call_procedure(
        &mut self,
        name: &str,
        params: impl IntoParams,
    ) -> Result<Vec<ResultSet>> {
        crate::procedure::call_in(self, name, params.into_params()).await
    }

    /// Sets a savepoint and returns its number.
    ///
    /// # Errors
    ///
    /// Fails with the errors of the database.
    pub async fn savepoint(&mut self) -> Result<Savepoint> {
        let open = self.open_mut("tx.savepoint")?;
        open.savepoints += 1;
        let number = open.savepoints;
        self.step("tx.savepoint", SavepointStep::Set, number).await?;
        Ok(Savepoint { number })
    }

    /// Undoes what happened since the savepoint, and forgets it and those set
    /// after it. A [ticket](Self::ticket) taken since then stays valid: its row
    /// is written again.
    ///
    /// # Errors
    ///
    /// Fails with the errors of the database; the transaction is broken then.
    pub async fn rollback_to(&mut self, savepoint: Savepoint) -> Result<()> {
        let result = self.undo(savepoint.number).await;
        if result.is_err() {
            self.doom(Doom::Broken);
        }
        result
    }

    async fn undo(&mut self, savepoint: u32) -> Result<()> {
        self.step("tx.rollback_to", SavepointStep::RollBack, savepoint).await?;
        match self.open.as_ref().and_then(|open| open.ticket) {
            Some(taken) if savepoint <= taken.after => self.write_ticket(taken.ticket).await,
            _ => Ok(()),
        }
    }

    /// Keeps what happened since the savepoint, and forgets it and those set
    /// after it.
    ///
    /// # Errors
    ///
    /// Fails with the errors of the database.
    pub async fn release(&mut self, savepoint: Savepoint) -> Result<()> {
        self.step("tx.release", SavepointStep::Release, savepoint.number).await
    }

    /// Runs `hook` as the last thing before the commit. An error of its own
    /// rolls back. Hooks run in the order they were added, and those that a
    /// hook adds run after the others.
    ///
    /// # Example
    ///
    /// ```
    /// # fn example(tx: &mut trine_db_shard::Tx) {
    /// tx.before_commit(|tx| Box::pin(async move {
    ///     tx.execute("UPDATE stock SET seen = seen + 1", ()).await?;
    ///     Ok(())
    /// }));
    /// # }
    /// ```
    pub fn before_commit<F>(&mut self, hook: F)
    where
        F: for<'a> FnOnce(&'a mut Self) -> HookFuture<'a> + Send + 'static,
    {
        if let Some(open) = &mut self.open {
            open.hooks.before_commit(Box::new(hook));
        }
    }

    /// Runs `handler` on the default executor once the commit is certain.
    ///
    /// Handlers run in the background, at most once and in no order; a failed
    /// one is logged and harms no other. One that begins while the service
    /// shuts down finds the service closed. What must not be lost belongs into
    /// the outbox.
    pub fn after_commit<F, E>(&mut self, handler: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        self.add_after_commit(DEFAULT.into(), handler);
    }

    /// Runs `handler` on the executor called `name` once the commit is
    /// certain.
    ///
    /// # Errors
    ///
    /// Fails with `NotFound` if no executor of that name is configured.
    pub fn after_commit_on<F, E>(&mut self, name: &str, handler: F) -> Result<()>
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let executors = &self.database().shared().executors;
        if executors.get(name).is_none() {
            let known = executors.names().collect::<Vec<_>>().join(", ");
            let at = self.database().at("tx.after_commit");
            return Err(Error::not_found(at, format!("executor `{name}` (there are: {known})")));
        }
        self.add_after_commit(name.into(), handler);
        Ok(())
    }

    fn add_after_commit<F, E>(&mut self, executor: Box<str>, handler: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        if let Some(open) = &mut self.open {
            let handler = Box::pin(async move { handler.await.map_err(Into::into) });
            open.hooks.after_commit(executor, handler);
        }
    }

    /// Runs `hook` once the transaction is certainly rolled back, dropped ones
    /// included. It must not block.
    pub fn after_rollback(&mut self, hook: impl FnOnce() + Send + 'static) {
        if let Some(open) = &mut self.open {
            open.hooks.after_completion(Box::new(|completion| {
                if completion == Completion::RolledBack {
                    hook();
                }
            }));
        }
    }

    /// Runs `hook` when the transaction is over, with what is known of it.
    /// It must not block.
    pub fn after_completion(&mut self, hook: impl FnOnce(Completion) + Send + 'static) {
        if let Some(open) = &mut self.open {
            open.hooks.after_completion(Box::new(hook));
        }
    }

    async fn read<T: FromRow>(
        &mut self,
        operation: &'static str,
        max_rows: u64,
        sql: &SqlText,
        params: impl IntoParams,
    ) -> Result<Vec<T>> {
        let reply = self.run(operation, Takes::Reads, Some(max_rows), sql, params).await?;
        decode(reply.rows, || self.database().at(operation))
    }

    fn takes_writes(&self) -> Takes {
        if self.database().capabilities().transactional_schema {
            Takes::Writes
        } else {
            Takes::WritesOfRows
        }
    }

    pub(crate) async fn run(
        &mut self,
        operation: &'static str,
        takes: Takes,
        max_rows: Option<u64>,
        sql: &SqlText,
        params: impl IntoParams,
    ) -> Result<crate::Reply> {
        let open = self.open_mut(operation)?;
        let database = open.database.clone();
        let at = || database.at(operation);
        let statement = prepare(at, database.engine(), takes, sql, params)?;
        let mut call = open.call(operation)?;
        call.max_rows = max_rows.unwrap_or(call.max_rows);
        let result = open.expose().run(call, statement).await;
        open.settle(result)
    }

    async fn step(
        &mut self,
        operation: &'static str,
        step: SavepointStep,
        number: u32,
    ) -> Result<()> {
        let open = self.open_mut(operation)?;
        let call = open.call(operation)?;
        let result = open.expose().savepoint(call, step, number).await;
        open.settle(result)
    }

    pub(crate) fn open_mut(&mut self, operation: &'static str) -> Result<&mut Open> {
        #[expect(clippy::expect_used, reason = "taken by value only, by commit and rollback")]
        let open = self.open.as_mut().expect("an open transaction");
        match &open.doom {
            Some(doom) => Err(doom.error(open.database.at(operation))),
            None => Ok(open),
        }
    }

    pub(crate) fn doom(&mut self, doom: Doom) {
        if let Some(open) = &mut self.open {
            open.doom.get_or_insert(doom);
        }
    }
}

impl Limit {
    pub(crate) fn new(timeout: Option<Duration>, database: &Database) -> Self {
        let usual = database.shared().settings.query_timeout;
        let (after, name) = match timeout {
            Some(timeout) => (timeout, "TxOptions::timeout"),
            None => (usual, "db.query_timeout, for the whole transaction"),
        };
        Self { deadline: Deadline::after(after), after, name }
    }

    /// Returns the call, ended with the transaction.
    pub(crate) fn apply(&self, mut call: Call) -> Call {
        if self.deadline < call.deadline {
            call.deadline = self.deadline;
            call.limit = self.name;
            call.after = self.after;
        }
        call
    }
}

impl Open {
    /// Returns the bounds of one more step.
    ///
    /// # Errors
    ///
    /// Fails with `Timeout` if the time is over: what is sent then would only
    /// have an outcome that nobody knows.
    pub(crate) fn call(&self, operation: &'static str) -> Result<Call> {
        let call = self.limit.apply(self.database.call(operation, &CallContext::current()));
        if call.deadline.has_passed() {
            return Err(call.timed_out(self.database.at(operation)));
        }
        Ok(call)
    }

    /// Marks the transaction as broken until [`settle`](Self::settle): what
    /// stands if the future is dropped before its step is over.
    pub(crate) fn expose(&mut self) -> &mut dyn BackendTransaction {
        self.doom = Some(Doom::Broken);
        self.kept.expose()
    }

    /// Lends the transaction for longer than a step: until the next one ends.
    #[cfg(all(feature = "sqlx-0_9", feature = "mysql"))]
    pub(crate) fn lend(&mut self) -> &mut dyn BackendTransaction {
        self.kept.expose()
    }

    /// Ends a step and remembers what must keep the transaction from being
    /// committed.
    pub(crate) fn settle<T>(&mut self, result: Result<T>) -> Result<T> {
        self.kept.rest();
        self.doom = match &result {
            Err(error) if error.is_deadlock() => Some(Doom::Deadlock),
            _ => None,
        };
        result
    }
}

impl Drop for Tx {
    fn drop(&mut self) {
        if let (Some(open), Some(home)) = (self.open.take(), &self.home) {
            home.give_back(open);
        }
    }
}

impl fmt::Debug for Tx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = self.open.as_deref();
        f.debug_struct("Tx")
            .field("database", &open.map(|open| open.database.name()))
            .field("ticket", &open.and_then(|open| open.ticket))
            .field("doom", &open.and_then(|open| open.doom.as_ref()))
            .finish_non_exhaustive()
    }
}

/// A point in a transaction that can be gone back to.
#[derive(Debug)]
#[must_use = "release it or roll back to it"]
pub struct Savepoint {
    number: u32,
}
