mod alone;
mod outcome;
pub(crate) mod prepare;

use std::fmt;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::stream::{self, BoxStream, StreamExt};
use trine_core::{BoxError, CallContext, Deadline, InFlight, Lifecycle, Metrics, Refused};

use crate::backend::{Access, Call, DbBackend, ServerFacts};
use crate::error::At;
use crate::executor::Executors;
use crate::tenant::{Place, TenantLimit};
use crate::transaction::Keeper;
use crate::{
    Capabilities, DatabaseName, DbConfig, Done, Engine, Error, FromRow, IntoParams, PoolStats,
    Procedures, Result, ResultSet, ShardStatus, SqlText, Unavailable,
};

use prepare::{Takes, prepare};

/// One physical database. Cheap to clone; all clones share its connections.
///
/// `query*` reads and `execute*` writes. Each of these is one statement,
/// committed when it returns; several together take a
/// [transaction](Self::transaction) or [`execute_all`](Self::execute_all).
///
/// Every future here is safe to drop: no connection is lost and no reply is
/// handed to another caller. A write that was on its way may still have
/// happened. What a dropped query held is free again as soon as the database
/// has ended it, on MySQL at the latest after `cancel_grace`.
#[derive(Clone)]
pub struct Database {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) name: DatabaseName,
    backend: ArcSwap<Arc<dyn DbBackend>>,
    pub(crate) settings: Settings,
    pub(crate) executors: Executors,
    pub(crate) procedures: Procedures,
    pub(crate) lifecycle: Lifecycle,
    metrics: Metrics,
    pub(crate) status: StatusCell,
    tenants: TenantLimit,
    pub(crate) transactions: Keeper,
}

/// The parts of the configuration that calls need.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) query_timeout: Duration,
    pub(crate) max_rows: u64,
    pub(crate) tenant_in_flight: usize,
    pub(crate) ticket_retention: Duration,
    pub(crate) error_log_retention: Duration,
    migrate_timeout: Duration,
}

impl Settings {
    /// Returns the settings of a database with `pool` connections.
    pub(crate) fn new(config: &DbConfig, pool: u32) -> Self {
        let tenant = config.tenant_in_flight.map_or((pool / 2).max(1), NonZeroU32::get);
        Self {
            query_timeout: config.query_timeout.get(),
            max_rows: config.max_rows.get(),
            tenant_in_flight: usize::try_from(tenant).unwrap_or(usize::MAX),
            ticket_retention: config.ticket_retention.get(),
            error_log_retention: config.error_log_retention.get(),
            migrate_timeout: config.migrate_timeout.get(),
        }
    }
}

impl Shared {
    /// Returns the engine's side: another one after the shard was offline.
    pub(crate) fn backend(&self) -> Arc<dyn DbBackend> {
        Arc::clone(&self.backend.load())
    }

    pub(crate) fn replace_backend(&self, backend: Arc<dyn DbBackend>) {
        self.backend.store(Arc::new(backend));
    }
}

/// The status of a shard as this process last saw it, and whether it was
/// reached and found migrated. A database that is no shard is active and
/// proved.
#[derive(Debug)]
pub(crate) struct StatusCell {
    status: AtomicU8,
    is_proved: AtomicBool,
    /// Why the last proof failed.
    failure: Mutex<Option<Box<str>>>,
}

impl Default for StatusCell {
    fn default() -> Self {
        let (status, is_proved) = (AtomicU8::new(0), AtomicBool::new(true));
        Self { status, is_proved, failure: Mutex::default() }
    }
}

impl StatusCell {
    pub(crate) fn get(&self) -> ShardStatus {
        let index = usize::from(self.status.load(Ordering::Relaxed));
        ShardStatus::ALL.get(index).copied().unwrap_or(ShardStatus::Offline)
    }

    pub(crate) fn set(&self, status: ShardStatus) {
        let index = ShardStatus::ALL.iter().position(|other| *other == status).unwrap_or(4);
        self.status.store(u8::try_from(index).unwrap_or(4), Ordering::Relaxed);
    }

    pub(crate) fn is_proved(&self) -> bool {
        self.is_proved.load(Ordering::Acquire)
    }

    pub(crate) fn set_proved(&self, is_proved: bool) {
        self.is_proved.store(is_proved, Ordering::Release);
        *self.lock() = None;
    }

    /// Notes why a proof failed, and tells whether that is news.
    pub(crate) fn set_failure(&self, why: &str) -> bool {
        let mut failure = self.lock();
        let is_news = failure.as_deref() != Some(why);
        *failure = Some(why.into());
        is_news
    }

    /// Returns why the last proof failed; `None` once one has succeeded.
    pub(crate) fn failure(&self) -> Option<Box<str>> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Box<str>>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call that was let in: keeps the service open and the tenant's place
/// taken until it is dropped.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) call: Call,
    _in_flight: InFlight,
    _place: Option<Place>,
}

impl Database {
    pub(crate) fn new(
        name: DatabaseName,
        backend: Arc<dyn DbBackend>,
        settings: Settings,
        executors: Executors,
        procedures: Procedures,
        lifecycle: Lifecycle,
        metrics: Metrics,
    ) -> Self {
        let tenants = TenantLimit::new(settings.tenant_in_flight);
        let status = StatusCell::default();
        Self {
            shared: Arc::new(Shared {
                name,
                backend: ArcSwap::from_pointee(backend),
                settings,
                executors,
                procedures,
                lifecycle,
                metrics,
                status,
                tenants,
                transactions: Keeper::default(),
            }),
        }
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Tells whether both are handles of one and the same database of one
    /// service.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Returns the part that this database plays.
    #[must_use]
    pub fn name(&self) -> &DatabaseName {
        &self.shared.name
    }

    /// Returns the engine.
    #[must_use]
    pub fn engine(&self) -> Engine {
        self.shared.backend().engine()
    }

    /// Returns what the engine can do beyond the common operations.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        self.shared.backend().capabilities()
    }

    /// Returns the present numbers of its connections.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        self.shared.backend().stats()
    }

    /// Returns the status of the shard as this process knows it: `active` for
    /// a database that is no shard.
    #[must_use]
    pub fn status(&self) -> ShardStatus {
        self.shared.status.get()
    }

    /// Makes one round trip to the database, whatever the status of the shard.
    ///
    /// # Errors
    ///
    /// Fails with `Unavailable`, `Denied`, `Timeout`, or `Closed`.
    pub async fn ping(&self) -> Result<ServerFacts> {
        let call = self.call("ping", &CallContext::current());
        self.shared.backend().prove(call).await
    }

    /// Runs a query and returns every row, decoded.
    ///
    /// # Errors
    ///
    /// Fails with `Invalid` for a statement that writes or does not fit its
    /// parameters and for more rows than `max_rows`, with `Codec` if a row is
    /// not a `T`, and with the errors of the database, `Timeout` among them.
    pub async fn query<T: FromRow>(
        &self,
        sql: impl Into<SqlText>,
        params: impl IntoParams,
    ) -> Result<Vec<T>> {
        self.read("query", self.shared.settings.max_rows, &sql.into(), params).await
    }

    /// Runs a query and returns its row, if there is one.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query), and `Invalid` for a second row.
    pub async fn query_optional<T: FromRow>(
        &self,
        sql: impl Into<SqlText>,
        params: impl IntoParams,
    ) -> Result<Option<T>> {
        Ok(self.read("query_optional", 1, &sql.into(), params).await?.pop())
    }

    /// Runs a query and returns its row.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query), `NotFound` without a row, and `Invalid` for
    /// a second one.
    pub async fn query_one<T: FromRow>(
        &self,
        sql: impl Into<SqlText>,
        params: impl IntoParams,
    ) -> Result<T> {
        let row = self.read("query_one", 1, &sql.into(), params).await?.pop();
        row.ok_or_else(|| Error::not_found(self.at("query_one"), "row"))
    }

    async fn read<T: FromRow>(
        &self,
        operation: &'static str,
        max_rows: u64,
        sql: &SqlText,
        params: impl IntoParams,
    ) -> Result<Vec<T>> {
        let at = || self.at(operation);
        let statement = prepare(at, self.engine(), Takes::Reads, sql, params)?;
        let mut admitted = self.admit(operation, Access::Read).await?;
        admitted.call.max_rows = max_rows;
        let reply = self.shared.backend().run(admitted.call, statement).await?;
        decode(reply.rows, at)
    }

    /// Runs a query and returns its rows as they arrive, decoded. Nothing is
    /// sent before the stream is polled; dropping it ends the query.
    ///
    /// The number of rows is not bounded, the time is: `query_timeout` holds
    /// from the first poll to the last row.
    pub fn stream<T: FromRow + Send + 'static>(
        &self,
        sql: impl Into<SqlText>,
        params: impl IntoParams,
    ) -> BoxStream<'static, Result<T>> {
        const OPERATION: &str = "stream";
        let prepared =
            prepare(|| self.at(OPERATION), self.engine(), Takes::Reads, &sql.into(), params);
        let database = self.clone();
        let context = CallContext::current();
        let rows = async move {
            let statement = prepared?;
            let mut admitted = database.admit_as(OPERATION, Access::Read, &context).await?;
            admitted.call.max_rows = u64::MAX;
            let rows = database.shared.backend().stream(admitted.call, statement);
            // The place in the pool and the service stays taken with the rows.
            Ok(rows.map(move |row| {
                let _ = &admitted;
                T::from_row(row?).map_err(|error| error.at(database.at(OPERATION)))
            }))
        };
        stream::once(rows).flat_map(flatten).boxed()
    }

    /// Runs one statement and tells what it changed.
    ///
    /// # Errors
    ///
    /// Fails with `Invalid` for a transaction-control word, several statements
    /// or parameters that do not fit, `Conflict` for a unique key,
    /// `OutcomeUnknown` if the answer was lost, and with the errors of the
    /// database.
    pub async fn execute(&self, sql: impl Into<SqlText>, params: impl IntoParams) -> Result<Done> {
        let statement =
            prepare(|| self.at("execute"), self.engine(), Takes::Writes, &sql.into(), params)?;
        let admitted = self.admit("execute", Access::Write).await?;
        Ok(self.shared.backend().run(admitted.call, statement).await?.done)
    }

    /// Runs one statement with a `RETURNING` clause and returns its rows.
    ///
    /// MySQL has no such clause and MariaDB has it for some statements only;
    /// make ids in the client where a statement must run everywhere.
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute), and `Codec` if a row is not a `T`; the
    /// write has happened then.
    pub async fn execute_returning<T: FromRow>(
        &self,
        sql: impl Into<SqlText>,
        params: impl IntoParams,
    ) -> Result<Vec<T>> {
        const OPERATION: &str = "execute_returning";
        let at = || self.at(OPERATION);
        let statement = prepare(at, self.engine(), Takes::Writes, &sql.into(), params)?;
        let admitted = self.admit(OPERATION, Access::Write).await?;
        let reply = self.shared.backend().run(admitted.call, statement).await?;
        decode(reply.rows, at)
    }

    /// Runs a closed list of statements as one transaction: all or none. On
    /// SQLite such lists of many callers share one commit.
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute); the first failing statement decides, and
    /// nothing is changed.
    pub async fn execute_all(&self, batch: Batch) -> Result<Vec<Done>> {
        const OPERATION: &str = "execute_all";
        let takes = if self.capabilities().transactional_schema {
            Takes::Writes
        } else {
            Takes::WritesOfRows
        };
        let prepared = |(sql, params): (SqlText, Vec<crate::Param>)| {
            prepare(|| self.at(OPERATION), self.engine(), takes, &sql, params)
        };
        let statements: Vec<_> = batch.0.into_iter().map(prepared).collect::<Result<_>>()?;
        let admitted = self.admit(OPERATION, Access::Write).await?;
        if statements.is_empty() {
            return Ok(Vec::new());
        }
        let replies = self.shared.backend().run_all(admitted.call, statements).await?;
        Ok(replies.into_iter().map(|reply| reply.done).collect())
    }

    /// Calls a stored procedure, or the twin that the host
    /// [registered](Procedures) for an engine without them, and returns every
    /// result set, kept apart.
    ///
    /// A procedure may write: a lost answer is `OutcomeUnknown`.
    ///
    /// # Errors
    ///
    /// Fails with `Unsupported` on an engine without procedures if no twin is
    /// registered, `Invalid` for a name that is no identifier, and with the
    /// errors of the database; a `SIGNAL` of the procedure's is `Invalid` with
    /// its state, number and message in the chain.
    pub async fn call_procedure(
        &self,
        name: &str,
        params: impl IntoParams,
    ) -> Result<Vec<ResultSet>> {
        crate::procedure::call(self, name, params.into_params()).await
    }

    pub(crate) fn at(&self, operation: &'static str) -> At {
        At::new(operation, &self.shared.name)
    }

    pub(crate) fn call(&self, operation: &'static str, context: &CallContext) -> Call {
        let settings = &self.shared.settings;
        Call::new(operation, settings.query_timeout, settings.max_rows).until(context.deadline())
    }

    /// Returns the call of an internal step: it takes as long as any other, and
    /// reads as many rows as our own tables have.
    pub(crate) fn own_call(&self, operation: &'static str) -> Call {
        let mut call = self.call(operation, &CallContext::current().detached());
        call.max_rows = u64::MAX;
        call
    }

    pub(crate) async fn admit(&self, operation: &'static str, access: Access) -> Result<Admitted> {
        self.admit_as(operation, access, &CallContext::current()).await
    }

    /// Lets a call in, or says why not.
    async fn admit_as(
        &self,
        operation: &'static str,
        access: Access,
        context: &CallContext,
    ) -> Result<Admitted> {
        let in_flight = self.enter(operation)?;
        self.check_status(operation, access)?;
        let call = self.call(operation, context);
        // SQLite's writer takes turns by itself; a place there would only
        // keep a tenant's writes from sharing a commit.
        let is_queued = access == Access::Write && self.engine() == Engine::Sqlite;
        let place = match context.tenant().filter(|_| !is_queued) {
            Some(tenant) => {
                let at = self.at(operation);
                // Boxed, so that calls without a tenant stay small.
                Some(Box::pin(self.shared.tenants.enter(tenant, at, call.deadline)).await?)
            }
            None => None,
        };
        // What is sent too late would only have an outcome that nobody knows.
        if context.deadline().is_some_and(Deadline::has_passed) {
            return Err(call.timed_out(self.at(operation)));
        }
        Ok(Admitted { call, _in_flight: in_flight, _place: place })
    }

    pub(crate) fn enter(&self, operation: &'static str) -> Result<InFlight> {
        self.shared.lifecycle.enter().map_err(|refused| match refused {
            Refused::Closed => Error::Closed { at: self.at(operation) },
            _ => Error::unavailable(self.at(operation), Unavailable::NotStarted),
        })
    }

    pub(crate) fn check_status(&self, operation: &'static str, access: Access) -> Result<()> {
        let status = self.shared.status.get();
        let is_taken = match access {
            Access::Read => status.can_read(),
            Access::Write => status.can_write(),
        };
        if !is_taken {
            return Err(Error::unavailable(self.at(operation), Unavailable::Status(status)));
        }
        if !self.shared.status.is_proved() {
            return Err(Error::Unavailable {
                at: self.at(operation),
                reason: Unavailable::NotProved,
                cause: self.shared.status.failure().map(|why| BoxError::from(String::from(why))),
            });
        }
        Ok(())
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database")
            .field("name", &self.shared.name)
            .field("engine", &self.engine())
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

/// A closed list of statements that belong together.
///
/// # Example
///
/// ```
/// use trine_db_shard::Batch;
///
/// let batch = Batch::new()
///     .with("UPDATE account SET money = money - ? WHERE id = ?", (5, 1))
///     .with("UPDATE account SET money = money + ? WHERE id = ?", (5, 2));
/// assert_eq!(batch.len(), 2);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Batch(Vec<(SqlText, Vec<crate::Param>)>);

impl Batch {
    /// Returns an empty list.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a statement.
    #[must_use]
    pub fn with(mut self, sql: impl Into<SqlText>, params: impl IntoParams) -> Self {
        self.0.push((sql.into(), params.into_params()));
        self
    }

    /// Returns how many statements there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Tells whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

pub(crate) fn decode<T: FromRow>(rows: Vec<crate::Row>, at: impl Fn() -> At) -> Result<Vec<T>> {
    rows.into_iter().map(|row| T::from_row(row).map_err(|error| error.at(at()))).collect()
}

/// Turns a stream that could not begin into one that yields the reason.
fn flatten<T: Send + 'static>(
    rows: Result<impl futures_util::Stream<Item = Result<T>> + Send + 'static>,
) -> BoxStream<'static, Result<T>> {
    match rows {
        Ok(rows) => rows.boxed(),
        Err(error) => stream::iter([Err(error)]).boxed(),
    }
}
