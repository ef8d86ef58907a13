mod alarm;
mod calendar;
mod connector;
mod decode;
mod encode;
mod gate;
mod held;
mod manager;
mod session;
mod shield;
mod transaction;
mod translate;

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use deadpool::Runtime;
use deadpool::managed::PoolError;
use futures_util::TryStreamExt;
use tokio::time::Instant;
use trine_core::{Deadline, Durability, Span, Tasks};

use self::alarm::Alarms;
use self::connector::{Connector, Refusal};
use self::decode::Layout;
use self::held::Held;
use self::manager::{Manager, Object, Pool};
use self::session::Failure;
use self::shield::Shield;
use self::translate::{Stake, timed_out};
use super::{
    BackendTransaction, BeginOptions, Call, Capabilities, DbBackend, Isolation, PoolStats, Reply,
    RowStream, ServerFacts, Statement,
};
use crate::error::At;
use crate::{DatabaseName, Engine, Error, MysqlConfig, Result, ResultSet, Unavailable};

pub(crate) use transaction::MysqlTransaction;

/// How long a commit that is not synced may stay in memory: the servers flush
/// their logs once a second.
const FLUSH_INTERVAL: Span = Span::secs(1);

/// A MySQL or MariaDB database, reached over a bounded pool of connections.
///
/// Each session is set up the same way: UTC, utf8mb4, a strict `sql_mode` with
/// `PIPES_AS_CONCAT` and without `ANSI_QUOTES`, read committed (what a
/// transaction gets that asks for nothing else), a statement time of
/// `db.query_timeout` (MySQL bounds only what reads), and a lock wait of half
/// of that.
///
/// Making connections is bounded too: at most four at a time, and while the
/// server is away one attempt now and then, whose failure every other caller
/// gets at once as `Unavailable`. A caller for whom a connection is there does
/// not notice.
#[derive(Clone)]
pub struct MysqlBackend {
    inner: Arc<Inner>,
}

struct Inner {
    name: DatabaseName,
    pool: Pool,
    max: usize,
    acquire_timeout: Duration,
    alarms: Alarms,
    is_closed: AtomicBool,
    tasks: Tasks,
}

impl MysqlBackend {
    /// Checks the configuration; does no I/O.
    ///
    /// # Errors
    ///
    /// Fails with `Invalid` for a URL that leads nowhere.
    pub fn open(
        name: &DatabaseName,
        config: &MysqlConfig,
        query_timeout: Duration,
    ) -> Result<Self> {
        let connector = Arc::new(Connector::new(name, config, query_timeout)?);
        let max = usize::try_from(config.pool.max.get()).unwrap_or(usize::MAX);
        let grace = config.cancel_grace.get();
        let shield = Arc::new(Shield::new(config.cancel, grace, Arc::clone(&connector), max));
        let manager = Manager::new(connector, shield, config.pool.idle_check.get());
        let pool =
            Pool::builder(manager).max_size(max).runtime(Runtime::Tokio1).build().map_err(
                |error| Error::Internal { at: At::new("open", name), cause: error.into() },
            )?;
        Ok(Self {
            inner: Arc::new(Inner {
                name: name.clone(),
                pool,
                max,
                acquire_timeout: config.pool.acquire_timeout.get(),
                alarms: Alarms::default(),
                is_closed: AtomicBool::new(false),
                tasks: Tasks::new(format!("db {name}")),
            }),
        })
    }

    fn at(&self, call: &Call) -> At {
        At::new(call.operation, &self.inner.name)
    }

    fn shield(&self) -> &Arc<Shield> {
        self.inner.pool.manager().shield()
    }

    fn name(&self) -> &DatabaseName {
        &self.inner.name
    }

    /// Takes a connection from the pool. No timer runs if one is free.
    async fn acquire(&self, call: &Call) -> Result<Held> {
        let inner = &self.inner;
        if inner.is_closed.load(Ordering::Acquire) {
            return Err(Error::Closed { at: self.at(call) });
        }
        self.shield().start(&inner.tasks);
        // Boxed: a call's future of more than a kibibyte would cost the
        // allocator's lock each time.
        let mut taking = Box::pin(inner.pool.get());
        let first = poll_fn(|context| Poll::Ready(taking.as_mut().poll(context))).await;
        let object = match first {
            Poll::Ready(taken) => taken.map_err(|error| self.refused(call, error))?,
            Poll::Pending => Box::pin(self.wait(call, taking)).await?,
        };
        let held = Held::new(object);
        if inner.is_closed.load(Ordering::Acquire) {
            return Err(Error::Closed { at: self.at(call) });
        }
        Ok(held)
    }

    /// Waits until a connection is free, or one is made.
    async fn wait(
        &self,
        call: &Call,
        taking: impl Future<Output = Result<Object, PoolError<Refusal>>>,
    ) -> Result<Object> {
        let inner = &self.inner;
        let started = Instant::now();
        let until = call.deadline.min(Deadline::after(inner.acquire_timeout));
        if let Some(taken) = inner.alarms.limit(until, taking).await {
            return taken.map_err(|error| self.refused(call, error));
        }
        // With fewer connections than there may be, the wait was for one to
        // be made.
        let stats = self.stats();
        let is_connecting = stats.size < stats.max;
        if is_connecting && call.deadline.has_passed() {
            return Err(timed_out(self.at(call), call, Stake::Nothing));
        }
        if let Some(refusal) = inner.pool.manager().gate().refusal() {
            return Err(refusal.into_error(self.at(call)));
        }
        if is_connecting {
            return Err(Error::unavailable(self.at(call), Unavailable::Unreachable));
        }
        Err(Error::Exhausted {
            at: self.at(call),
            what: "connection",
            waited: started.elapsed(),
            in_use: stats.size.saturating_sub(stats.idle),
            max: stats.max,
            waiting: stats.waiting,
            setting: "db.connections.<name>.pool.max",
        })
    }

    fn refused(&self, call: &Call, error: PoolError<Refusal>) -> Error {
        let at = self.at(call);
        match error {
            PoolError::Backend(refusal) => refusal.into_error(at),
            PoolError::Closed => Error::Closed { at },
            other => Error::Internal { at, cause: other.to_string().into() },
        }
    }

    async fn facts(&self, call: &Call) -> Result<ServerFacts> {
        const FACTS: &str = "SELECT @@read_only, @@innodb_read_only, \
                             @@innodb_flush_log_at_trx_commit, @@log_bin, @@sync_binlog";
        let mut held = self.acquire(call).await?;
        let row = call.deadline.limit(held.ask(FACTS)).await;
        let row = row.map(|row| row.map_err(Failure::from));
        let row = held.judge(self.name(), call, Stake::Nothing, row)?;
        let is = |column: usize, values: &[&str]| {
            use sqlx::Row as _;
            row.try_get_unchecked::<&str, _>(column).is_ok_and(|value| values.contains(&value))
        };
        let off = ["0", "OFF"];
        // 3 is MariaDB's: the same, in a group.
        let flushes = is(2, &["1", "3"]) && (is(3, &off) || is(4, &["1"]));
        Ok(ServerFacts {
            version: held.server().version().into(),
            identity: held.server().identity.clone(),
            is_read_only: !is(0, &off) || !is(1, &off),
            durability: if flushes {
                Durability::Synced
            } else {
                Durability::Async { window: FLUSH_INTERVAL }
            },
        })
    }

    fn rows(self, call: Call, statement: Statement) -> RowStream {
        Box::pin(async_stream::try_stream! {
            let mut held = self.acquire(&call).await?;
            let mut ended = Some(Ok(()));
            match call.deadline.limit(held.rows(&call, &statement)).await {
                Some(Ok(mut answers)) => {
                    let mut layout = None;
                    loop {
                        let answer = match call.deadline.limit(answers.try_next()).await {
                            Some(Ok(Some(sqlx::Either::Right(row)))) => row,
                            Some(Ok(Some(sqlx::Either::Left(_)))) => continue,
                            Some(Ok(None)) => break,
                            Some(Err(error)) => {
                                ended = Some(Err(Failure::Driver(error)));
                                break;
                            }
                            None => {
                                ended = None;
                                break;
                            }
                        };
                        let layout = layout
                            .get_or_insert_with(|| Layout::of(sqlx::Row::columns(&answer)));
                        match layout.read(&answer) {
                            Ok(row) => yield row,
                            Err(column) => {
                                ended = Some(Err(Failure::Column(Box::new(column))));
                                break;
                            }
                        }
                    }
                }
                Some(Err(failure)) => ended = Some(Err(failure)),
                None => ended = None,
            }
            match &ended {
                Some(Ok(())) => held.settle(None),
                Some(Err(Failure::Driver(error))) => held.settle(Some(error)),
                _ => {}
            }
            held.judge(self.name(), &call, Stake::of(statement.access), ended)?;
        })
    }
}

#[async_trait]
impl DbBackend for MysqlBackend {
    fn engine(&self) -> Engine {
        Engine::Mysql
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            concurrent_writers: true,
            procedures: true,
            transactional_schema: false,
            isolations: &[
                Isolation::ReadCommitted,
                Isolation::RepeatableRead,
                Isolation::Serializable,
            ],
        }
    }

    async fn prove(&self, call: Call) -> Result<ServerFacts> {
        let facts = self.facts(&call).await?;
        match call.deadline.limit(self.shield().prove()).await {
            Some(Ok(())) => Ok(facts),
            Some(Err(refusal)) => Err(refusal.into_error(self.at(&call))),
            None => Err(timed_out(self.at(&call), &call, Stake::Nothing)),
        }
    }

    async fn run(&self, call: Call, statement: Statement) -> Result<Reply> {
        let mut held = self.acquire(&call).await?;
        held.run(self.name(), &call, Stake::of(statement.access), &statement).await
    }

    async fn run_all(&self, call: Call, statements: Vec<Statement>) -> Result<Vec<Reply>> {
        let held = self.acquire(&call).await?;
        let name = self.name().clone();
        let mut work = MysqlTransaction::begin(held, name, &call, BeginOptions::default()).await?;
        let mut replies = Vec::with_capacity(statements.len());
        for statement in &statements {
            match work.run(&call, statement).await {
                Ok(reply) => replies.push(reply),
                Err(error) => {
                    // Dropping the work would roll back as well, but later.
                    let _ = Box::new(work).rollback(call).await;
                    return Err(error);
                }
            }
        }
        work.commit(&call).await?;
        Ok(replies)
    }

    fn stream(&self, call: Call, statement: Statement) -> RowStream {
        self.clone().rows(call, statement)
    }

    async fn call(&self, call: Call, statement: Statement) -> Result<Vec<ResultSet>> {
        let mut held = self.acquire(&call).await?;
        let ended = call.deadline.limit(held.call(&call, &statement)).await;
        held.judge(self.name(), &call, Stake::of(statement.access), ended)
    }

    async fn begin(
        &self,
        call: Call,
        options: BeginOptions,
    ) -> Result<Box<dyn BackendTransaction>> {
        let held = self.acquire(&call).await?;
        let name = self.name().clone();
        Ok(Box::new(MysqlTransaction::begin(held, name, &call, options).await?))
    }

    fn stats(&self) -> PoolStats {
        let status = self.inner.pool.status();
        let (cancelled, abandoned) = self.shield().counts();
        PoolStats {
            max: self.inner.max,
            size: status.size,
            idle: status.available,
            waiting: status.waiting,
            connects: self.inner.pool.manager().connector().connects(),
            cancelled,
            abandoned,
        }
    }

    async fn close(&self, deadline: Deadline) {
        let inner = &self.inner;
        inner.is_closed.store(true, Ordering::Release);
        // Waiting callers are refused; connections that are given back from
        // now on leave the pool.
        let idle = inner.pool.retain(|_, _| false).removed;
        inner.pool.close();
        let farewell = async {
            for session in idle {
                session.close().await;
            }
        };
        deadline.limit(farewell).await;
        deadline.limit(self.emptied()).await;
        inner.tasks.shutdown(deadline).await;
        self.shield().close().await;
    }
}

impl MysqlBackend {
    async fn emptied(&self) {
        let pool = &self.inner.pool;
        loop {
            let left = pool.manager().left.notified();
            tokio::pin!(left);
            left.as_mut().enable();
            if pool.status().size == 0 {
                return;
            }
            left.await;
        }
    }
}

impl fmt::Debug for MysqlBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MysqlBackend")
            .field("name", &self.inner.name)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
