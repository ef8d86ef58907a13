mod driver;
mod gathered;

use std::fmt;
#[cfg(feature = "sqlx-0_9")]
use std::sync::Arc;
#[cfg(feature = "sqlx-0_9")]
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::stream::BoxStream;
use sqlx::mysql::{MySqlArguments, MySqlConnection, MySqlQueryResult, MySqlRow};
use sqlx::{Either, Executor as _, SqlSafeStr as _, SqlStr};

use self::driver::Driver;
use self::gathered::Gathered;
use super::alarm::Alarm;
#[cfg(feature = "sqlx-0_9")]
use super::connector::Facts;
use super::connector::Server;
use super::encode::{NativeTypes, encode};
use super::translate::number;
use crate::ResultSet;
use crate::backend::{Access, Call, Reply, Statement};
use crate::row::InvalidColumn;

/// "This command is not supported in the prepared statement protocol yet."
const NOT_PREPARABLE: u16 = 1295;
/// "SAVEPOINT does not exist": outside of a transaction none can be set.
pub(super) const NO_SAVEPOINT: u16 = 1305;
/// The longest statement time that both servers accept.
const MAX_STATEMENT_TIME: Duration = Duration::from_secs(30 * 24 * 3600);
/// Rows read and thrown away after too many, before the connection is given up.
const MAX_DRAINED: u64 = 1024;

/// One physical connection and what was learnt when it was made.
pub(super) struct Session {
    driver: Driver,
    id: u64,
    server: Server,
    types: NativeTypes,
    statement_cache: usize,
    limit: StatementLimit,
    pub(super) alarm: Alarm,
    /// A request was sent, and its answer has not been read to the end.
    pub(super) is_busy: bool,
    /// Must not be used again.
    pub(super) is_broken: bool,
    pub(super) work: Work,
    /// After how many seconds without a statement the server ends a
    /// transaction; `None` as it was set up.
    pub(super) idle_limit: Option<u64>,
    /// A procedure ran, which may have changed the session or left work open.
    has_called: bool,
    /// The text for [`restore`](Self::restore).
    restoring: SqlStr,
    /// The generation of the pool in which the connection last answered.
    pub(super) generation: u64,
    pub(super) lifetime: Duration,
    /// When it was made, on a scale that only orders connections.
    pub(super) made: (u64, u64),
}

/// What is known of the session's transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// None is open.
    None,
    /// One is open.
    Open,
    /// The server says that it has ended it, so what ran next would commit by
    /// itself. A `SIGNAL` says so too: it is rolled back all the same.
    Ended,
}

/// How long the server lets a statement run.
#[derive(Clone, Copy, Debug)]
pub(super) struct StatementLimit {
    pub(super) usual: Duration,
    pub(super) present: Duration,
}

/// Why a statement gave no reply.
#[derive(Debug)]
pub(super) enum Failure {
    /// A parameter can never be bound; nothing was sent.
    Parameter(String),
    /// The driver's or the server's error.
    Driver(sqlx::Error),
    /// A value in the result cannot be read.
    Column(Box<InvalidColumn>),
    /// There are more rows than the call may gather.
    TooManyRows,
    /// A procedure ended with a transaction open; it is rolled back.
    LeftOpen,
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Driver(error)
    }
}

type Answers<'a> = BoxStream<'a, sqlx::Result<Either<MySqlQueryResult, MySqlRow>>>;

impl Session {
    pub(super) fn new(
        driver: MySqlConnection,
        id: u64,
        server: Server,
        types: NativeTypes,
        statement_cache: usize,
        limit: Duration,
        restoring: SqlStr,
    ) -> Self {
        Self::over(Driver::Own(driver), id, server, types, statement_cache, limit, restoring)
    }

    fn over(
        driver: Driver,
        id: u64,
        server: Server,
        types: NativeTypes,
        statement_cache: usize,
        limit: Duration,
        restoring: SqlStr,
    ) -> Self {
        Self {
            driver,
            id,
            server,
            types,
            statement_cache,
            limit: StatementLimit { usual: limit, present: limit },
            alarm: Alarm::default(),
            is_busy: false,
            is_broken: false,
            work: Work::None,
            idle_limit: None,
            has_called: false,
            restoring,
            generation: 0,
            lifetime: Duration::MAX,
            made: (0, 0),
        }
    }

    /// Returns a session on a connection of the host's pool, whose statements
    /// and settings are the host's.
    #[cfg(feature = "sqlx-0_9")]
    pub(super) fn of_host(
        connection: sqlx::pool::PoolConnection<sqlx::MySql>,
        facts: &Facts,
        restoring: SqlStr,
        closed: Arc<AtomicU64>,
    ) -> Self {
        let driver = Driver::Host(connection, closed);
        let (server, types) = (facts.server.clone(), facts.types.clone());
        Self::over(driver, facts.id, server, types, 0, Duration::MAX, restoring)
    }

    /// Tells whether the session is set up by this crate.
    pub(super) fn is_own(&self) -> bool {
        matches!(self.driver, Driver::Own(_))
    }

    /// Closes the connection without a word, at once.
    #[cfg(feature = "sqlx-0_9")]
    pub(super) fn discard(self) {
        if let Driver::Host(connection, closed) = self.driver {
            closed.fetch_add(1, Ordering::Relaxed);
            drop(connection.detach());
        }
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    /// Tells whether the next caller would find the connection as a new one.
    pub(super) fn is_clean(&self) -> bool {
        !self.is_busy && !self.is_broken && !self.has_called && self.work == Work::None
    }

    /// Tells whether it keeps as many prepared statements as it may.
    ///
    /// The driver sends the closing of a statement by itself, which over TCP
    /// holds back the next request until the server's delayed acknowledgement
    /// (40 ms and more). So no statement is closed between two requests: when
    /// there are too many, the connection is replaced.
    pub(super) fn is_full(&self) -> bool {
        use sqlx::Connection as _;
        self.statement_cache > 0 && self.driver.cached_statements_size() >= self.statement_cache
    }

    /// Runs one of our own texts, several statements among them.
    pub(super) async fn command(&mut self, text: SqlStr) -> sqlx::Result<()> {
        self.is_busy = true;
        let ended = self.driver.execute(sqlx::raw_sql(text)).await;
        self.settle(ended.as_ref().err());
        ended.map(drop)
    }

    /// Runs one of our own queries that answers a single row.
    pub(super) async fn ask(&mut self, text: &'static str) -> sqlx::Result<MySqlRow> {
        self.is_busy = true;
        let rows = self.driver.fetch_all(sqlx::raw_sql(text)).await;
        self.settle(rows.as_ref().err());
        rows?.pop().ok_or(sqlx::Error::RowNotFound)
    }

    /// Tells whether the next answer is the one to the next question.
    pub(super) async fn is_in_step(&mut self) -> bool {
        use std::panic::AssertUnwindSafe;

        use futures_util::FutureExt as _;
        use sqlx::Row as _;
        const MARK: &str = "0d1b1f5a-in-step";
        // The driver panics over some answers that belong to another question.
        let asking = AssertUnwindSafe(self.ask("SELECT '0d1b1f5a-in-step'")).catch_unwind();
        let Ok(Ok(row)) = asking.await else { return false };
        row.try_get_unchecked::<&str, _>(0).is_ok_and(|mark| mark == MARK)
    }

    /// Ends the transaction with nothing changed, and makes the session fit
    /// for the next caller.
    pub(super) async fn tidy(&mut self) -> sqlx::Result<()> {
        if self.has_called {
            return self.restore().await.map(drop);
        }
        if self.work != Work::None {
            self.command("ROLLBACK".into_sql_str()).await?;
            self.work = Work::None;
        }
        Ok(())
    }

    /// Undoes what a procedure may have done to the session: settings, locks,
    /// and a transaction left open. Returns whether there was such a one.
    ///
    /// One round trip. Setting a savepoint is how both servers tell whether a
    /// transaction is open: outside of one it cannot be released.
    async fn restore(&mut self) -> sqlx::Result<bool> {
        let was_open = match self.command(self.restoring.clone()).await {
            Ok(()) => true,
            Err(error) if number(&error) == Some(NO_SAVEPOINT) => false,
            Err(error) => {
                self.is_broken = true;
                return Err(error);
            }
        };
        self.limit.present = self.limit.usual;
        self.work = Work::None;
        self.has_called = false;
        Ok(was_open)
    }

    /// Makes one round trip.
    pub(super) async fn ping(&mut self) -> sqlx::Result<()> {
        use sqlx::Connection as _;
        self.is_busy = true;
        let answered = self.driver.ping().await;
        self.settle(answered.as_ref().err());
        answered
    }

    /// Runs a statement and gathers its rows, as many as the call may.
    pub(super) async fn run(
        &mut self,
        call: &Call,
        statement: &Statement,
    ) -> Result<Reply, Failure> {
        // Whoever wrote must know that all of it happened.
        let max_drained = if statement.access == Access::Read { MAX_DRAINED } else { u64::MAX };
        let mut gathered = Gathered::new(call.max_rows, max_drained);
        self.exchange(call, statement, &mut gathered).await?;
        gathered.into_reply()
    }

    /// Calls a procedure and keeps its result sets apart. The session is of no
    /// use to others before it is [tidied](Self::tidy).
    ///
    /// The last answer is the status of the call itself: it counts as a result
    /// only if there is no other.
    pub(super) async fn call(
        &mut self,
        call: &Call,
        statement: &Statement,
    ) -> Result<Vec<ResultSet>, Failure> {
        let mut gathered = Gathered::new(call.max_rows, u64::MAX);
        gathered.keeps_apart = true;
        self.prepare(call).await?;
        let arguments = self.bind(statement)?;
        self.is_busy = true;
        self.has_called = true;
        let ended = gathered.read(self.send(statement, arguments)).await;
        self.settle_with(&ended);
        ended?;
        gathered.into_sets()
    }

    /// Calls a procedure outside of a transaction, and restores the session.
    /// Returns `LeftOpen` if there was something to undo.
    pub(super) async fn call_alone(
        &mut self,
        call: &Call,
        statement: &Statement,
    ) -> Result<Vec<ResultSet>, Failure> {
        let sets = self.call(call, statement).await;
        if !self.has_called || self.is_broken || self.is_busy {
            return sets;
        }
        match (sets, self.restore().await) {
            (Err(failure), _) => Err(failure),
            (Ok(_), Err(error)) => Err(Failure::Driver(error)),
            (Ok(_), Ok(true)) => Err(Failure::LeftOpen),
            (Ok(sets), Ok(false)) => Ok(sets),
        }
    }

    async fn exchange(
        &mut self,
        call: &Call,
        statement: &Statement,
        gathered: &mut Gathered,
    ) -> Result<(), Failure> {
        self.prepare(call).await?;
        let arguments = self.bind(statement)?;
        self.is_busy = true;
        let mut ended = gathered.read(self.send(statement, arguments)).await;
        // Only the server's own refusal to prepare answers so: a procedure, in
        // which a statement may answer it after others, is not run by this.
        if let Err(Failure::Driver(error)) = &ended
            && number(error) == Some(NOT_PREPARABLE)
            && statement.values.is_empty()
        {
            let text = sqlx::raw_sql(statement.text.to_driver());
            ended = Box::pin(gathered.read(self.driver.fetch_many(text))).await;
        }
        self.settle_with(&ended);
        ended
    }

    /// Begins to run a statement, whose rows are read one by one: the caller
    /// tells with [`settle`](Self::settle) how it ended.
    pub(super) async fn rows(
        &mut self,
        call: &Call,
        statement: &Statement,
    ) -> Result<Answers<'_>, Failure> {
        self.prepare(call).await?;
        let arguments = self.bind(statement)?;
        self.is_busy = true;
        Ok(self.send(statement, arguments))
    }

    fn bind(&self, statement: &Statement) -> Result<MySqlArguments, Failure> {
        encode(&statement.values, &self.types).map_err(Failure::Parameter)
    }

    fn send(&mut self, statement: &Statement, arguments: MySqlArguments) -> Answers<'_> {
        self.driver.fetch_many(sqlx::query_with(statement.text.to_driver(), arguments))
    }

    /// Makes the session fit for a statement of this call.
    async fn prepare(&mut self, call: &Call) -> sqlx::Result<()> {
        if self.is_full() {
            Box::pin(self.make_room()).await?;
        }
        let limit = self.limit_for(call.after);
        if limit != self.limit.present {
            let text = self.server.product.statement_limit(limit);
            Box::pin(self.command(text)).await?;
            self.limit.present = limit;
        }
        Ok(())
    }

    /// Closes the statements that a long transaction has left, a bound for
    /// what the server keeps.
    async fn make_room(&mut self) -> sqlx::Result<()> {
        use sqlx::Connection as _;
        self.is_busy = true;
        let cleared = self.driver.clear_cached_statements().await;
        self.settle(cleared.as_ref().err());
        cleared
    }

    /// Returns how long the server lets a statement run that is given `span`:
    /// as long as any, unless that is not enough.
    fn limit_for(&self, span: Duration) -> Duration {
        let mut limit = self.limit.usual;
        while limit < span && limit < MAX_STATEMENT_TIME {
            limit = limit.saturating_mul(2);
        }
        limit
    }

    /// Notes how an exchange ended: in order, even if with an error of the
    /// server, or with a connection that is of no use any more.
    pub(super) fn settle(&mut self, error: Option<&sqlx::Error>) {
        self.is_busy = false;
        self.is_broken |= error.is_some_and(|error| number(error).is_none());
    }

    fn settle_with(&mut self, ended: &Result<(), Failure>) {
        match ended {
            Err(Failure::TooManyRows | Failure::Column(_)) => {}
            Err(Failure::Driver(error)) => self.settle(Some(error)),
            Err(Failure::Parameter(_) | Failure::LeftOpen) | Ok(()) => self.settle(None),
        }
    }

    /// Returns the driver's connection for statements of somebody else's.
    #[cfg(feature = "sqlx-0_9")]
    pub(super) fn driver(&mut self) -> &mut MySqlConnection {
        &mut self.driver
    }

    /// Says good-bye to the server.
    pub(super) async fn close(self) {
        use sqlx::Connection as _;
        // The server notices the end of the connection anyway.
        let _ = match self.driver {
            Driver::Own(connection) => connection.close().await,
            #[cfg(feature = "sqlx-0_9")]
            Driver::Host(connection, _) => connection.close().await,
        };
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("id", &self.id).field("server", &self.server).finish()
    }
}
