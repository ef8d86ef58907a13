use std::fmt;
use std::future::Future;
use std::sync::Mutex;

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use trine_core::{CallContext, Clock, Deadline, Moment};

use super::{CALLER, Route};
use crate::backend::Access;
use crate::relocation::epoch::{self, Gate, Refusal};
use crate::{
    Batch, Database, DbService, Done, Error, FromRow, IntoParams, Result, ResultSet, ShardId,
    ShardKey, SqlText, Tx, TxOptions, Unavailable,
};

/// The shard of one key, for statements on that key's rows. Cheap to clone.
///
/// It follows the key: after a [move](DbService::move_key) the same handle
/// leads to the new shard. While the key is being moved, writes and
/// transactions that may write answer `Unavailable`, and reads go to the shard
/// it comes from.
///
/// **Plain statements** look at the age of what is known about the key just
/// before they are sent, ask the shard map again if it is older than half of
/// `map.lease`, and end before the lease does; a move waits for one lease
/// before it copies. So by default one of them may take between 1.9 and 4.4
/// seconds, less than `query_timeout`; what needs longer belongs into a
/// transaction, or into a [stream](Self::stream), which has to yield only its
/// first row by then. A write that is answered after its lease all the same is
/// `OutcomeUnknown`.
///
/// **Transactions** have no such bound: their first statement locks the key's
/// epoch row in the shard, which a move has to change before it copies.
///
/// # The window that remains
///
/// A process that is stopped after a plain statement looked at the clock and
/// before its bytes are sent (by SIGSTOP, a suspended machine, a very long
/// pause), or whose network delivers those bytes late, may run that one
/// statement on the former shard after a move. Such a write is lost with the
/// old rows. Where that must not happen, write in a transaction: it is refused.
#[derive(Clone)]
pub struct KeyShard {
    service: DbService,
    key: ShardKey,
    database: Database,
    route: Route,
}

/// The setting that ends plain statements.
const LEASE: &str = "db.map.lease";

/// What one statement may act on, and until when.
struct Bound {
    database: Database,
    context: CallContext,
    /// Whether the lease ends it, rather than the caller.
    is_lease: bool,
    /// When the lease is over.
    over_at: Moment,
}

impl Bound {
    async fn read<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let result = self.context.clone().scope(call).await;
        result.map_err(|error| self.named(error))
    }

    /// Runs a write. One that is done when the lease is over, because it waited
    /// or this process was stopped, may have been written behind a move.
    async fn write<T>(
        &self,
        clock: &dyn Clock,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let done = self.read(call).await?;
        if clock.now() < self.over_at {
            return Ok(done);
        }
        let at = self.database.at("write within the lease");
        let late = "the write was answered after db.map.lease; a move may have left it behind";
        Err(Error::OutcomeUnknown { at, ticket: None, cause: Some(late.into()) })
    }

    /// Says that the lease was the limit, where it was.
    fn named(&self, error: Error) -> Error {
        match error {
            Error::Timeout { at, after, limit: CALLER } if self.is_lease => {
                Error::Timeout { at, after, limit: LEASE }
            }
            other => other,
        }
    }
}

impl KeyShard {
    pub(super) fn new(service: DbService, key: ShardKey, database: Database, route: Route) -> Self {
        Self { service, key, database, route }
    }

    /// Returns the key.
    #[must_use]
    pub fn key(&self) -> &ShardKey {
        &self.key
    }

    /// Returns the shard that the key was on when this handle was made.
    #[must_use]
    pub fn shard_id(&self) -> ShardId {
        self.route.row.shard_id
    }

    /// Runs a query and returns every row, as [`Database::query`] does.
    ///
    /// # Errors
    ///
    /// As [`Database::query`], and with what [`DbService::for_key`] fails with
    /// if the shard map has to be asked again.
    pub async fn query<T: FromRow>(
        &self,
        sql: impl Into<SqlText>,
        params: impl IntoParams,
    ) -> Result<Vec<T>> {
        let bound = self.bound("query", Access::Read).await?;
        bound.read(bound.database.query(sql, params)).await
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
        let bound = self.bound("query_optional", Access::Read).await?;
        bound.read(bound.database.query_optional(sql, params)).await
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
        let bound = self.bound("query_one", Access::Read).await?;
        bound.read(bound.database.query_one(sql, params)).await
    }

    /// Runs a query and returns its rows as they arrive, as
    /// [`Database::stream`] does. The lease bounds the time to the first row;
    /// from there on the rows are those of one moment.
    pub fn stream<T: FromRow + Send + 'static>(
        &self,
        sql: impl Into<SqlText>,
        params: impl IntoParams,
    ) -> BoxStream<'static, Result<T>> {
        const OPERATION: &str = "stream";
        let (this, sql, params) = (self.clone(), sql.into(), params.into_params());
        let context = CallContext::current();
        let rows = async move {
            let bound = context.clone().scope(this.bound(OPERATION, Access::Read)).await?;
            let (database, lease) = (bound.database.clone(), bound.context.deadline());
            let mut rows = context.scope(async move { database.stream(sql, params) }).await;
            let first = match lease {
                Some(lease) => lease.limit(rows.next()).await,
                None => Some(rows.next().await),
            };
            let Some(first) = first else {
                let at = bound.database.at(OPERATION);
                let limit = if bound.is_lease { LEASE } else { CALLER };
                let after = this.service.shared.config.map.lease.get();
                return Err(Error::Timeout { at, after, limit });
            };
            Ok(stream::iter(first).chain(rows))
        };
        let flat = |rows: Result<_>| match rows {
            Ok(rows) => futures_util::future::Either::Left(rows),
            Err(error) => futures_util::future::Either::Right(stream::iter([Err(error)])),
        };
        stream::once(rows).flat_map(flat).boxed()
    }

    /// Runs one statement and tells what it changed.
    ///
    /// # Errors
    ///
    /// As [`Database::execute`], with `Unavailable` while the key is being
    /// moved, and with what [`DbService::for_key`] fails with.
    pub async fn execute(&self, sql: impl Into<SqlText>, params: impl IntoParams) -> Result<Done> {
        let bound = self.bound("execute", Access::Write).await?;
        bound.write(self.clock(), bound.database.execute(sql, params)).await
    }

    /// Runs one statement with a `RETURNING` clause and returns its rows.
    ///
    /// # Errors
    ///
    /// As [`Database::execute_returning`] and [`execute`](Self::execute).
    pub async fn execute_returning<T: FromRow>(
        &self,
        sql: impl Into<SqlText>,
        params: impl IntoParams,
    ) -> Result<Vec<T>> {
        let bound = self.bound("execute_returning", Access::Write).await?;
        bound.write(self.clock(), bound.database.execute_returning(sql, params)).await
    }

    /// Runs a closed list of statements as one transaction: all or none.
    ///
    /// # Errors
    ///
    /// As [`Database::execute_all`] and [`execute`](Self::execute).
    pub async fn execute_all(&self, batch: Batch) -> Result<Vec<Done>> {
        let bound = self.bound("execute_all", Access::Write).await?;
        bound.write(self.clock(), bound.database.execute_all(batch)).await
    }

    /// Calls a stored procedure, or its twin, as one that may write.
    ///
    /// # Errors
    ///
    /// As [`Database::call_procedure`] and [`execute`](Self::execute).
    pub async fn call_procedure(
        &self,
        name: &str,
        params: impl IntoParams,
    ) -> Result<Vec<ResultSet>> {
        let bound = self.bound("call_procedure", Access::Write).await?;
        bound.write(self.clock(), bound.database.call_procedure(name, params)).await
    }

    /// Begins a transaction that keeps the key where it is until it ends. It
    /// is never run again by itself; see [`transaction`](Self::transaction).
    ///
    /// # Errors
    ///
    /// As [`Database::begin`], with `Unavailable` while the key is being
    /// moved, and with what [`DbService::for_key`] fails with.
    pub async fn begin(&self) -> Result<Tx> {
        self.begin_with(&TxOptions::default()).await
    }

    /// Begins a transaction with options.
    ///
    /// A read-only one also runs while the key is being moved, on the shard it
    /// comes from. At `read_committed` it may see the key's rows go if it
    /// outlasts two leases.
    ///
    /// # Errors
    ///
    /// As [`begin`](Self::begin) and [`Database::begin_with`].
    pub async fn begin_with(&self, options: &TxOptions) -> Result<Tx> {
        const OPERATION: &str = "begin";
        let mut attempt = Attempt::new(self, options);
        loop {
            let (database, gate) = attempt.next(OPERATION).await?;
            let mut tx = database.begin_with(options).await?;
            let passed = gate.pass(&mut tx).await;
            let Some(refusal) = gate.refusal() else {
                return passed.map(|()| tx);
            };
            // Its failure changes nothing: nothing was written.
            let _rolled_back = tx.rollback().await;
            attempt.refused(&database, refusal).await?;
        }
    }

    /// Runs `body` in a transaction that keeps the key where it is until it
    /// ends, as [`Database::transaction`] does.
    ///
    /// A transaction that finds the key gone is tried once more where the
    /// shard map says it is now, before `body` was called.
    ///
    /// # Errors
    ///
    /// Fails with the body's own error, with one of the commit's, and as
    /// [`begin`](Self::begin).
    ///
    /// # Example
    ///
    /// ```
    /// # use trine_db_shard::{DbService, Result};
    /// # async fn example(db: &DbService) -> Result<()> {
    /// db.for_key(7_u64)
    ///     .await?
    ///     .transaction(|mut tx| async move {
    ///         tx.execute("UPDATE account SET money = money - 5 WHERE id = ?", (7,)).await?;
    ///         Ok(())
    ///     })
    ///     .await
    /// # }
    /// ```
    pub async fn transaction<T, E, F, Fut>(&self, body: F) -> Result<T, E>
    where
        E: From<Error>,
        F: FnMut(Tx) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        self.transaction_with(&TxOptions::default(), body).await
    }

    /// Runs `body` in a transaction with options; see
    /// [`begin_with`](Self::begin_with) for read-only ones.
    ///
    /// # Errors
    ///
    /// As [`transaction`](Self::transaction).
    pub async fn transaction_with<T, E, F, Fut>(&self, options: &TxOptions, body: F) -> Result<T, E>
    where
        E: From<Error>,
        F: FnMut(Tx) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let body = Mutex::new(body);
        let mut attempt = Attempt::new(self, options);
        loop {
            let (database, gate) = attempt.next("transaction").await?;
            let result = gate.transaction(&database, options, &body).await;
            match gate.refusal() {
                Some(refusal) => attempt.refused(&database, refusal).await?,
                None => return result,
            }
        }
    }

    fn clock(&self) -> &dyn Clock {
        &*self.service.shared.deps.clock
    }

    /// Returns where the key is, as far as it is known or can be asked.
    async fn current(&self, operation: &'static str) -> Result<(Database, Route)> {
        let shared = &self.service.shared;
        let is_fresh = self.route.is_fresh(shared.deps.clock.now(), shared.config.map.lease.get());
        if is_fresh {
            return Ok((self.database.clone(), self.route));
        }
        self.service.locate(operation, &self.key).await
    }

    /// Returns what one plain statement may act on.
    async fn bound(&self, operation: &'static str, access: Access) -> Result<Bound> {
        let (database, route) = self.current(operation).await?;
        if access == Access::Write && route.is_moving() {
            return Err(moving(&database, operation));
        }
        let shared = &self.service.shared;
        let left = route.left(shared.deps.clock.now(), shared.config.map.lease.get());
        if left.is_zero() {
            return Err(Error::unavailable(database.at(operation), Unavailable::StaleMap));
        }
        let context = CallContext::current();
        let (lease, own) = (Deadline::after(left), context.deadline());
        let is_lease = own.is_none_or(|own| lease < own);
        let context = context.with_deadline(lease.or_earlier(own));
        let over_at = route.read_at + shared.config.map.lease.get();
        Ok(Bound { database, context, is_lease, over_at })
    }
}

fn moving(database: &Database, operation: &'static str) -> Error {
    Error::unavailable(database.at(operation), Unavailable::Moving)
}

impl fmt::Debug for KeyShard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyShard")
            .field("key", &self.key)
            .field("database", &self.database)
            .finish_non_exhaustive()
    }
}

/// The way of one transaction to its shard.
struct Attempt<'a> {
    handle: &'a KeyShard,
    read_only: bool,
    /// What to use instead of what the handle knows.
    at: Option<(Database, Route)>,
    was_elsewhere: bool,
    was_prepared: bool,
}

impl<'a> Attempt<'a> {
    fn new(handle: &'a KeyShard, options: &TxOptions) -> Self {
        let read_only = options.read_only;
        Self { handle, read_only, at: None, was_elsewhere: false, was_prepared: false }
    }

    async fn next(&mut self, operation: &'static str) -> Result<(Database, Gate)> {
        let (database, route) = match self.at.take() {
            Some(at) => at,
            None => self.handle.current(operation).await?,
        };
        if route.is_moving() && !self.read_only {
            return Err(moving(&database, operation));
        }
        let gate = Gate::serving(&self.handle.key, route, self.read_only);
        self.at = Some((database.clone(), route));
        Ok((database, gate))
    }

    /// Does what a refusal asks for, or says that it is final.
    async fn refused(&mut self, database: &Database, refusal: Refusal) -> Result<()> {
        const OPERATION: &str = "transaction";
        let KeyShard { service, key, .. } = self.handle;
        match (refusal, &self.at) {
            (Refusal::Missing, Some((_, route))) if !self.was_prepared => {
                self.was_prepared = true;
                epoch::prepare(database, key, route.row.epoch).await
            }
            (Refusal::Elsewhere, _) if !self.was_elsewhere => {
                self.was_elsewhere = true;
                service.shared.keys.forget(key);
                let route = service.read_route(OPERATION, key).await?;
                self.at = Some(service.located(OPERATION, key, route).await?);
                Ok(())
            }
            _ => Err(moving(database, OPERATION)),
        }
    }
}
