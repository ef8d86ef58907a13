use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use sqlx::mysql::MySqlRow;
use sqlx::pool::PoolConnection;
use sqlx::{MySql, MySqlPool, SqlStr};

use super::connector::{Facts, HOST_FACTS, Refusal, restoring};
use super::session::Session;
use super::translate::{Stake, timed_out};
use crate::backend::{Call, PoolStats};
use crate::error::At;
use crate::{DatabaseName, Error, Result};

/// A pool that belongs to the host: a connection is borrowed for each call and
/// goes back as it came, or is closed.
#[derive(Debug)]
pub(super) struct HostPool {
    pool: MySqlPool,
    /// What the first connection answered; asked again by every proof.
    facts: ArcSwapOption<Facts>,
    closed: Arc<AtomicU64>,
    /// What a session is sent after a procedure.
    restoring: SqlStr,
}

impl HostPool {
    pub(super) fn new(pool: MySqlPool) -> Self {
        Self {
            pool,
            facts: ArcSwapOption::empty(),
            closed: Arc::default(),
            restoring: restoring(None),
        }
    }

    /// Borrows a connection.
    pub(super) async fn acquire(&self, name: &DatabaseName, call: &Call) -> Result<Box<Session>> {
        let at = || At::new(call.operation, name);
        let borrowing = async {
            let taken = self.pool.acquire().await;
            let connection = taken.map_err(|error| self.refused(at(), error))?;
            match self.facts.load_full() {
                Some(facts) => Ok((connection, facts)),
                None => self.ask(at(), connection).await,
            }
        };
        let borrowed = call.deadline.limit(borrowing).await;
        let (connection, facts) =
            borrowed.unwrap_or_else(|| Err(timed_out(at(), call, Stake::Nothing)))?;
        let (restoring, closed) = (self.restoring.clone(), Arc::clone(&self.closed));
        Ok(Box::new(Session::of_host(connection, &facts, restoring, closed)))
    }

    /// Asks the server again who it is: the next call that borrows a connection
    /// does.
    pub(super) fn forget(&self) {
        self.facts.store(None);
    }

    async fn ask(
        &self,
        at: At,
        connection: PoolConnection<MySql>,
    ) -> Result<(PoolConnection<MySql>, Arc<Facts>)> {
        let mut asked = Asked(Some(connection));
        let rows = asked.rows(HOST_FACTS).await;
        let row = rows.map_err(|error| Refusal::from(error).into_error(at.clone()))?.pop();
        let facts = row.as_ref().and_then(Facts::read).ok_or_else(Refusal::unknown_server);
        let facts = facts.and_then(|facts| facts.server.check().map(|()| facts));
        let facts = Arc::new(facts.map_err(|refusal| refusal.into_error(at.clone()))?);
        if let Some(complaint) = row.as_ref().and_then(Facts::complaint) {
            return Err(Error::invalid(at, complaint));
        }
        self.facts.store(Some(Arc::clone(&facts)));
        let connection = asked.0.take();
        connection.map(|connection| (connection, facts)).ok_or(Error::Closed { at })
    }

    fn refused(&self, at: At, error: sqlx::Error) -> Error {
        match error {
            sqlx::Error::PoolTimedOut => {
                let stats = self.stats();
                Error::Exhausted {
                    at,
                    what: "connection",
                    waited: self.pool.options().get_acquire_timeout(),
                    in_use: stats.size.saturating_sub(stats.idle),
                    max: stats.max,
                    waiting: stats.waiting,
                    setting: "max_connections of the host's pool",
                }
            }
            sqlx::Error::PoolClosed => Error::Closed { at },
            error => Refusal::from(error).into_error(at),
        }
    }

    pub(super) fn stats(&self) -> PoolStats {
        let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        let closed = self.closed.load(Ordering::Relaxed);
        PoolStats {
            max: count(self.pool.options().get_max_connections()),
            size: count(self.pool.size()),
            idle: self.pool.num_idle(),
            // The driver does not tell who waits, or what it has connected.
            waiting: 0,
            connects: 0,
            cancelled: closed,
            abandoned: closed,
        }
    }
}

/// A connection whose answer may not be read yet: closed on drop.
struct Asked(Option<PoolConnection<MySql>>);

impl Asked {
    async fn rows(&mut self, text: &'static str) -> sqlx::Result<Vec<MySqlRow>> {
        match self.0.as_deref_mut() {
            Some(connection) => sqlx::raw_sql(text).fetch_all(connection).await,
            None => Ok(Vec::new()),
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        drop(self.0.take().map(PoolConnection::detach));
    }
}
