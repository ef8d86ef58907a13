mod alarm;
mod calendar;
mod connector;
mod decode;
mod encode;
mod gate;
mod held;
#[cfg(feature = "sqlx-0_9")]
mod host_pool;
mod manager;
mod own_pool;
mod session;
mod shield;
mod transaction;
mod translate;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::TryStreamExt;
use trine_core::{Deadline, Durability, Span};

use self::decode::Layout;
use self::held::Held;
#[cfg(feature = "sqlx-0_9")]
use self::host_pool::HostPool;
use self::own_pool::OwnPool;
use self::session::Failure;
use self::translate::Stake;
use super::{
    BackendTransaction, BeginOptions, Call, Capabilities, DbBackend, Isolation, PoolStats, Reply,
    RowStream, ServerFacts, Statement,
};
use crate::error::At;
use crate::{DatabaseName, Engine, Error, MysqlConfig, Result, ResultSet};

pub(crate) use transaction::MysqlTransaction;

/// Returns what an error of the driver's means in a transaction of the host's.
#[cfg(feature = "sqlx-0_9")]
pub(crate) fn host_error(at: At, call: &Call, error: sqlx::Error) -> Error {
    translate::translate(at, call, Stake::Uncommitted, error).error
}

/// Says what is wrong with the URL of a database.
pub(crate) fn check_url(config: &MysqlConfig) -> Result<(), &'static str> {
    connector::options(config).map(drop)
}

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

#[derive(Debug)]
struct Inner {
    name: DatabaseName,
    source: Source,
    is_closed: AtomicBool,
}

/// Whose connections they are.
#[derive(Debug)]
enum Source {
    Own(OwnPool),
    #[cfg(feature = "sqlx-0_9")]
    Host(HostPool),
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
        Ok(Self::new(name, Source::Own(OwnPool::open(name, config, query_timeout)?)))
    }

    /// Returns a database that borrows the connections of a host's pool.
    #[cfg(feature = "sqlx-0_9")]
    pub(crate) fn borrow(name: &DatabaseName, pool: sqlx::MySqlPool) -> Self {
        Self::new(name, Source::Host(HostPool::new(pool)))
    }

    fn new(name: &DatabaseName, source: Source) -> Self {
        let inner = Inner { name: name.clone(), source, is_closed: AtomicBool::new(false) };
        Self { inner: Arc::new(inner) }
    }

    fn at(&self, call: &Call) -> At {
        At::new(call.operation, &self.inner.name)
    }

    fn name(&self) -> &DatabaseName {
        &self.inner.name
    }

    /// Takes a connection, set up as every other.
    async fn acquire(&self, call: &Call) -> Result<Held> {
        let inner = &self.inner;
        let at = || self.at(call);
        if inner.is_closed.load(Ordering::Acquire) {
            return Err(Error::Closed { at: at() });
        }
        let held = match &inner.source {
            Source::Own(pool) => Held::new(pool.acquire(&inner.name, call).await?),
            #[cfg(feature = "sqlx-0_9")]
            Source::Host(pool) => Held::lent(Box::pin(pool.acquire(&inner.name, call)).await?),
        };
        if inner.is_closed.load(Ordering::Acquire) {
            return Err(Error::Closed { at: at() });
        }
        Ok(held)
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
        match &self.inner.source {
            Source::Own(pool) => {
                let facts = self.facts(&call).await?;
                pool.prove(self.name(), &call).await?;
                Ok(facts)
            }
            #[cfg(feature = "sqlx-0_9")]
            Source::Host(pool) => {
                pool.forget();
                self.facts(&call).await
            }
        }
    }

    async fn run(&self, call: Call, statement: Statement) -> Result<Reply> {
        if statement.is_returning_write() {
            // It has changed its rows when it turns out that there are too many.
            let mut replies = self.run_all(call, vec![statement]).await?;
            return Ok(replies.pop().unwrap_or_default());
        }
        let mut held = self.acquire(&call).await?;
        held.run(self.name(), &call, Stake::of(statement.access), &statement).await
    }

    async fn run_all(&self, call: Call, statements: Vec<Statement>) -> Result<Vec<Reply>> {
        let held = self.acquire(&call).await?;
        let name = self.name().clone();
        let mut work = MysqlTransaction::begin(held, name, &call, BeginOptions::default()).await?;
        let mut replies = Vec::with_capacity(statements.len());
        for statement in &statements {
            match work.run_plain(&call, statement).await {
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
        let ended = call.deadline.limit(held.call_alone(&call, &statement)).await;
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
        match &self.inner.source {
            Source::Own(pool) => pool.stats(),
            #[cfg(feature = "sqlx-0_9")]
            Source::Host(pool) => pool.stats(),
        }
    }

    async fn close(&self, deadline: Deadline) {
        self.inner.is_closed.store(true, Ordering::Release);
        match &self.inner.source {
            Source::Own(pool) => pool.close(deadline).await,
            // The host closes what is its own.
            #[cfg(feature = "sqlx-0_9")]
            Source::Host(_) => {}
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
