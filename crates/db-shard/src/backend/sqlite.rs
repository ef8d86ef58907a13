mod connect;
mod encode;
mod failure;
mod group;
mod link;
mod lock;
mod place;
mod reader;
mod session;
mod shared;
mod snapshot;
mod sync;
mod text;
mod transaction;
mod translate;
mod watch;
mod writer;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::sleep_until;
use trine_core::{Deadline, Durability, Tasks};

use super::{
    Access, BackendTransaction, BeginOptions, Call, Capabilities, DbBackend, Isolation, PoolStats,
    Reply, RowStream, ServerFacts, Statement,
};
use crate::{
    ConfigError, DatabaseName, Engine, Error, Result, ResultSet, SqliteConfig, Unavailable,
};

use failure::Failure;
use group::Job;
use link::Item;
use place::{Place, Waiting, place};
use shared::Shared;
use snapshot::Snapshot;
use sync::WalSync;
use transaction::SqliteTransaction;
use writer::{Request, Writer};

/// Returns what an error of the driver's means in a transaction of the host's.
#[cfg(feature = "sqlx-0_9")]
pub(crate) fn host_error(at: crate::At, call: &Call, error: sqlx::Error) -> Error {
    translate::translate(at, call, Arc::new(error), translate::Phase::Write)
}

/// A SQLite database in write-ahead mode: one connection that writes, owned by
/// one task, and some that only read.
///
/// **Writes** wait in a bounded queue. What waits there is committed together,
/// each statement or closed list within a savepoint, and nobody is answered
/// before the commit. If the commit fails, or SQLite rolls the whole
/// transaction back, each is run again alone: an error stays with its owner.
/// A failing statement or list changes nothing, whatever its `OR` clause says.
/// A caller that leaves, or whose deadline passes, before its turn is skipped.
/// While its statement runs it is interrupted, among others after 20 ms only;
/// a call is answered at most 1 s after its deadline.
///
/// **Transactions** that write have the writer alone and take turns with the
/// other writes, first come, first served. One that keeps it longer than
/// `hold_limit` is rolled back whether its holder looks or not. A statement
/// that times out fails alone unless SQLite rolls back with it, as it does for
/// one that writes.
///
/// **Reads** never wait for writes. A dropped or late query is interrupted at
/// once and its reader used again when its thread has confirmed that; a reader
/// that does not within 1 s is left behind and replaced.
///
/// The identity of the last inserted row is the rowid of the first row that
/// the statement itself inserted, seen by SQLite's update hook; an upsert that
/// only updated has none, nor has a table without rowids.
///
/// One handle of one process has a database open, proved by a lock on the file
/// `<path>.lock`, which stays behind and is of no meaning then.
#[derive(Debug)]
pub struct SqliteBackend {
    shared: Arc<Shared>,
    inbox: Mutex<Option<mpsc::Sender<Request>>>,
    tasks: Tasks,
}

impl SqliteBackend {
    /// Prepares the database of `config`; nothing is opened before first use.
    ///
    /// # Errors
    ///
    /// Fails with `Invalid` without a path, and for durability `memory`: the
    /// database is a file.
    pub fn open(name: &DatabaseName, config: &SqliteConfig) -> Result<Self> {
        if config.path.as_os_str().is_empty() || config.durability == Durability::Memory {
            let problem = "expected a path, and durability `synced` or `async`";
            return Err(ConfigError::one(problem.to_owned()).into());
        }
        Ok(Self {
            shared: Arc::new(Shared::new(name, config)),
            inbox: Mutex::default(),
            tasks: Tasks::new(format!("db.{name}")),
        })
    }

    /// Puts a request into the queue of the writer, which it starts if there
    /// is none, or none any more.
    fn request<T>(
        &self,
        call: &Call,
        request: impl FnOnce(Place<T>) -> Request,
    ) -> Result<Waiting<T>> {
        let closed = || Error::Closed { at: self.shared.at(call) };
        if self.shared.closing.is_cancelled() {
            return Err(closed());
        }
        let (place, waiting) = place();
        match self.inbox().try_send(request(place)) {
            Ok(()) => Ok(waiting),
            Err(TrySendError::Full(_)) => {
                let max = queue(&self.shared.config);
                Err(Error::Exhausted {
                    at: self.shared.at(call),
                    what: "place in the queue of the writer",
                    waited: Duration::ZERO,
                    in_use: max,
                    max,
                    waiting: max,
                    setting: "db.connections.*.queue",
                })
            }
            Err(TrySendError::Closed(_)) if self.shared.closing.is_cancelled() => Err(closed()),
            Err(TrySendError::Closed(_)) => {
                Err(Error::unavailable(self.shared.at(call), Unavailable::Unreachable))
            }
        }
    }

    fn inbox(&self) -> mpsc::Sender<Request> {
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        match &*inbox {
            Some(sender) if !sender.is_closed() => sender.clone(),
            _ => {
                let (sender, receiver) = mpsc::channel(queue(&self.shared.config));
                let sync = WalSync::start(self.shared.config.durability, &self.tasks);
                let writer = Writer::new(Arc::clone(&self.shared), receiver, sync);
                drop(self.tasks.spawn("writer", writer.work()));
                *inbox = Some(sender.clone());
                sender
            }
        }
    }

    fn queued(&self) -> usize {
        let inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        inbox.as_ref().map_or(0, |sender| sender.max_capacity() - sender.capacity())
    }

    async fn wait<T>(&self, call: &Call, waiting: Waiting<T>) -> Result<T> {
        let acquire = self.shared.config.acquire_timeout.get();
        let answer = waiting.answer(Deadline::after(acquire), call.deadline).await;
        answer.map_err(|failure| match failure {
            Failure::NoTurn => Error::Exhausted {
                at: self.shared.at(call),
                what: "turn to write",
                waited: acquire,
                in_use: 1,
                max: 1,
                waiting: self.queued(),
                setting: "db.connections.*.acquire_timeout",
            },
            // Its queue went away with everything in it.
            Failure::Gone if self.shared.closing.is_cancelled() => {
                Error::Closed { at: self.shared.at(call) }
            }
            failure => failure.into_error(self.shared.at(call), call),
        })
    }

    async fn write(&self, call: Call, items: Vec<Item>) -> Result<Vec<Reply>> {
        let max_rows = call.max_rows;
        let waiting = self.request(&call, |place| Request::Job(Job { place, items, max_rows }))?;
        self.wait(&call, waiting).await
    }

    /// Makes sure that the writer has opened the database: readers cannot.
    async fn ensure_open(&self, call: &Call) -> Result<()> {
        if self.shared.path.get().is_none() {
            let waiting = self.request(call, Request::Prove)?;
            self.wait(call, waiting).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl DbBackend for SqliteBackend {
    fn engine(&self) -> Engine {
        Engine::Sqlite
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            concurrent_writers: false,
            procedures: false,
            transactional_schema: true,
            isolations: &[
                Isolation::ReadCommitted,
                Isolation::RepeatableRead,
                Isolation::Serializable,
            ],
        }
    }

    async fn prove(&self, call: Call) -> Result<ServerFacts> {
        let waiting = self.request(&call, Request::Prove)?;
        self.wait(&call, waiting).await
    }

    async fn run(&self, call: Call, statement: Statement) -> Result<Reply> {
        let access = statement.access;
        let item = item(&self.shared, &call, statement)?;
        match access {
            Access::Read => {
                self.ensure_open(&call).await?;
                self.shared.read(&call, &item).await
            }
            Access::Write => {
                let replies = self.write(call, vec![item]).await?;
                Ok(replies.into_iter().next().unwrap_or_default())
            }
        }
    }

    async fn run_all(&self, call: Call, statements: Vec<Statement>) -> Result<Vec<Reply>> {
        if statements.is_empty() {
            return Ok(Vec::new());
        }
        let items = statements.into_iter().map(|statement| item(&self.shared, &call, statement));
        let items = items.collect::<Result<Vec<_>>>()?;
        self.write(call, items).await
    }

    fn stream(&self, call: Call, statement: Statement) -> RowStream {
        let failed = |error| stream::iter([Err(error)]).boxed();
        let item = match item(&self.shared, &call, statement) {
            Ok(item) => item,
            Err(error) => return failed(error),
        };
        if self.shared.path.get().is_some() {
            return Arc::clone(&self.shared).rows(call, item);
        }
        let waiting = match self.request(&call, Request::Prove) {
            Ok(waiting) => waiting,
            Err(error) => return failed(error),
        };
        let shared = Arc::clone(&self.shared);
        let rows = async move {
            let answer = waiting.answer(call.deadline, call.deadline).await;
            match answer {
                Ok(_) => shared.rows(call, item),
                Err(failure) => {
                    stream::iter([Err(failure.into_error(shared.at(&call), &call))]).boxed()
                }
            }
        };
        stream::once(rows).flatten().boxed()
    }

    async fn call(&self, call: Call, _statement: Statement) -> Result<Vec<ResultSet>> {
        Err(unsupported_call(&self.shared, &call))
    }

    async fn begin(
        &self,
        call: Call,
        options: BeginOptions,
    ) -> Result<Box<dyn BackendTransaction>> {
        match options.access {
            Access::Read => {
                self.ensure_open(&call).await?;
                Ok(Box::new(Snapshot::begin(&self.shared, &call).await?))
            }
            Access::Write => {
                let waiting = self.request(&call, Request::Begin)?;
                let session = self.wait(&call, waiting).await?;
                Ok(Box::new(SqliteTransaction::new(Arc::clone(&self.shared), session)))
            }
        }
    }

    fn stats(&self) -> PoolStats {
        self.shared.stats(self.queued())
    }

    async fn close(&self, deadline: Deadline) {
        self.shared.closing.cancel();
        // A quarter is left for rolling back, the checkpoint and closing.
        let cut = Deadline::after(deadline.remaining() / 4 * 3);
        let cutting = async {
            sleep_until(cut.instant()).await;
            self.shared.cut.cancel();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            _ = self.tasks.shutdown(deadline) => {}
            () = cutting => {}
        }
        self.shared.cut.cancel();
        self.shared.permits.close();
    }
}

fn queue(config: &SqliteConfig) -> usize {
    usize::try_from(config.queue.get()).unwrap_or(usize::MAX)
}

/// Prepares a statement, before anything waits.
fn item(shared: &Shared, call: &Call, statement: Statement) -> Result<Item> {
    let plan = shared.plans.get(&statement.text);
    if let Some(refusal) = plan.refusal(statement.values.len()) {
        return Err(Error::invalid(shared.at(call), refusal));
    }
    match encode::encode(statement.values) {
        Ok(arguments) => Ok(Item { plan, arguments }),
        Err(detail) => Err(Error::invalid(shared.at(call), detail)),
    }
}

fn unsupported_call(shared: &Shared, call: &Call) -> Error {
    Error::Unsupported { at: shared.at(call), what: "a stored procedure", engine: "sqlite" }
}
