use std::any::Any;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, SqlSafeStr as _, SqlStr};

use super::connector::Product;
use super::held::Held;
use super::session::{Failure, NO_SAVEPOINT, Session, Work};
use super::translate::{Stake, number};
use crate::backend::{
    Access, BackendTransaction, BeginOptions, Call, Isolation, Reply, SavepointStep, Statement,
};
use crate::error::At;
use crate::{DatabaseName, Error, Result, ResultSet};

/// The isolation of a transaction that asks for none: set for every session.
pub(super) const DEFAULT_ISOLATION: Isolation = Isolation::ReadCommitted;

/// A transaction on a connection of its own.
///
/// A deadlock ends it, and so does a lost connection: nothing runs after that,
/// because it would be committed by itself.
#[derive(Debug)]
pub(crate) struct MysqlTransaction {
    held: Held,
    name: DatabaseName,
    isolation: Isolation,
    /// What a statement puts at stake.
    stake: Stake,
    /// Statements of somebody else's may have left an answer on the wire.
    was_lent: bool,
}

impl MysqlTransaction {
    pub(super) async fn begin(
        mut held: Held,
        name: DatabaseName,
        call: &Call,
        options: BeginOptions,
    ) -> Result<Self> {
        let isolation = options.isolation.unwrap_or(DEFAULT_ISOLATION);
        // The sessions of a host's pool have the isolation that the host gave
        // them.
        let is_set = held.is_own() && isolation == DEFAULT_ISOLATION;
        let text = begin_text(isolation, options.access, is_set);
        let idle_limit = idle_limit(&held, options.idle_timeout);
        let text = match idle_limit {
            limit if limit == held.idle_limit => text,
            limit => with_idle_limit(limit, text.as_str()),
        };
        held.command(&name, call, Stake::Nothing, text).await?;
        held.idle_limit = idle_limit;
        held.work = Work::Open;
        let stake = match options.access {
            Access::Read => Stake::Nothing,
            Access::Write => Stake::Uncommitted,
        };
        Ok(Self { held, name, isolation, stake, was_lent: false })
    }

    /// Lends the driver's connection to statements of the host's own.
    ///
    /// A future of the driver's that is dropped there leaves its answer on the
    /// wire: the next statement of the transaction looks for one first.
    #[cfg(feature = "sqlx-0_9")]
    pub(crate) fn driver(&mut self, call: &Call) -> Result<&mut sqlx::MySqlConnection> {
        self.check(call)?;
        self.was_lent = true;
        Ok(self.held.driver())
    }

    fn check(&self, call: &Call) -> Result<()> {
        let reason = if self.held.is_busy {
            "a statement of the transaction was dropped before it ended"
        } else if self.held.work != Work::Open || self.held.is_broken {
            "the database has ended the transaction"
        } else {
            return Ok(());
        };
        Err(Error::Interrupted { at: At::new(call.operation, &self.name), reason })
    }

    /// Checks that the transaction can go on.
    async fn ready(&mut self, call: &Call) -> Result<()> {
        self.check(call)?;
        if std::mem::take(&mut self.was_lent) {
            let in_step = call.deadline.limit(self.held.is_in_step()).await.map(Ok);
            if !self.held.judge(&self.name, call, self.stake, in_step)? {
                self.held.is_busy = true;
                return self.check(call);
            }
        }
        Ok(())
    }

    async fn command(&mut self, call: &Call, stake: Stake, text: SqlStr) -> Result<()> {
        self.ready(call).await?;
        self.held.command(&self.name, call, stake, text).await
    }

    /// Runs one statement. If it fails after it has changed rows, that is
    /// undone with the transaction only.
    pub(super) async fn run_plain(&mut self, call: &Call, statement: &Statement) -> Result<Reply> {
        self.ready(call).await?;
        self.held.run(&self.name, call, self.stake, statement).await
    }

    /// Runs one statement: a failed one changes nothing.
    async fn run(&mut self, call: &Call, statement: &Statement) -> Result<Reply> {
        if !statement.is_returning_write() {
            return self.run_plain(call, statement).await;
        }
        // More rows than wanted fail it after it has changed them.
        self.command(call, self.stake, "SAVEPOINT trine_rows".into_sql_str()).await?;
        let reply = self.held.run(&self.name, call, self.stake, statement).await;
        if self.check(call).is_err() {
            return reply;
        }
        let end = match &reply {
            Ok(_) => "RELEASE SAVEPOINT trine_rows",
            Err(_) => "ROLLBACK TO SAVEPOINT trine_rows; RELEASE SAVEPOINT trine_rows",
        };
        let ended = self.command(call, self.stake, end.into_sql_str()).await;
        reply.and_then(|reply| ended.map(|()| reply))
    }

    pub(super) async fn commit(&mut self, call: &Call) -> Result<()> {
        let stake = match self.stake {
            Stake::Nothing => Stake::Nothing,
            _ => Stake::Commit,
        };
        self.command(call, stake, "COMMIT".into_sql_str()).await?;
        self.held.work = Work::None;
        self.tidy(call).await;
        Ok(())
    }

    /// Calls a procedure. If that ends the transaction, nothing runs after it.
    async fn call(&mut self, call: &Call, statement: &Statement) -> Result<Vec<ResultSet>> {
        self.command(call, self.stake, "SAVEPOINT trine_call".into_sql_str()).await?;
        let ended = call.deadline.limit(self.held.call(call, statement)).await;
        let sets = self.held.judge(&self.name, call, self.stake, ended);
        if self.check(call).is_err() {
            return sets;
        }
        let text = "RELEASE SAVEPOINT trine_call".into_sql_str();
        match call.deadline.limit(Session::command(&mut self.held, text)).await {
            Some(Err(error)) if number(&error) == Some(NO_SAVEPOINT) => {
                self.held.work = Work::Ended;
                let at = At::new(call.operation, &self.name);
                sets.and(Err(Error::invalid(at, "the procedure has ended the transaction")))
            }
            released => {
                let released = released.map(|ended| ended.map_err(Failure::from));
                let released = self.held.judge(&self.name, call, self.stake, released);
                sets.and_then(|sets| released.map(|()| sets))
            }
        }
    }

    /// Makes the session fit for the next caller. If that fails, the connection
    /// is closed: the transaction has its answer.
    async fn tidy(&mut self, call: &Call) {
        let _ = call.deadline.limit(self.held.tidy()).await;
    }
}

impl Drop for MysqlTransaction {
    fn drop(&mut self) {
        // Its next answer may be somebody else's, that to a rollback too.
        self.held.is_busy |= self.was_lent;
    }
}

/// Returns the limit that the session gets, where its server knows one and the
/// session is not the host's.
fn idle_limit(held: &Held, asked: Option<Duration>) -> Option<u64> {
    let is_known = held.is_own() && held.server().product == Product::MariaDb;
    asked.filter(|_| is_known).map(|limit| limit.as_secs().max(1))
}

fn with_idle_limit(limit: Option<u64>, begin: &str) -> SqlStr {
    let limit = limit.map_or_else(|| "DEFAULT".to_owned(), |seconds| seconds.to_string());
    let text = format!("SET SESSION idle_transaction_timeout = {limit}; {begin}");
    AssertSqlSafe(text).into_sql_str()
}

fn begin_text(isolation: Isolation, access: Access, is_set: bool) -> SqlStr {
    let level = match isolation {
        Isolation::ReadCommitted => "READ COMMITTED",
        Isolation::RepeatableRead => "REPEATABLE READ",
        Isolation::Serializable => "SERIALIZABLE",
    };
    match (is_set, access) {
        (true, Access::Write) => "START TRANSACTION".into_sql_str(),
        (true, Access::Read) => "START TRANSACTION READ ONLY".into_sql_str(),
        (false, access) => {
            let only = if access == Access::Read { " READ ONLY" } else { "" };
            let text = format!("SET TRANSACTION ISOLATION LEVEL {level}; START TRANSACTION{only}");
            AssertSqlSafe(text).into_sql_str()
        }
    }
}

#[async_trait]
impl BackendTransaction for MysqlTransaction {
    fn isolation(&self) -> Isolation {
        self.isolation
    }

    async fn run(&mut self, call: Call, statement: Statement) -> Result<Reply> {
        Self::run(self, &call, &statement).await
    }

    async fn call(&mut self, call: Call, statement: Statement) -> Result<Vec<ResultSet>> {
        Self::call(self, &call, &statement).await
    }

    async fn savepoint(&mut self, call: Call, step: SavepointStep, number: u32) -> Result<()> {
        let text = match step {
            SavepointStep::Set => format!("SAVEPOINT trine_{number}"),
            SavepointStep::Release => format!("RELEASE SAVEPOINT trine_{number}"),
            SavepointStep::RollBack => {
                format!("ROLLBACK TO SAVEPOINT trine_{number}; RELEASE SAVEPOINT trine_{number}")
            }
        };
        let text = AssertSqlSafe(text).into_sql_str();
        self.command(&call, Stake::Uncommitted, text).await
    }

    async fn commit(mut self: Box<Self>, call: Call) -> Result<()> {
        Self::commit(&mut self, &call).await
    }

    async fn rollback(mut self: Box<Self>, call: Call) -> Result<()> {
        if self.check(&call).is_err() {
            // The server has rolled back, or does so with the connection.
            if !self.held.is_busy && !self.held.is_broken && !self.was_lent {
                self.tidy(&call).await;
            }
            return Ok(());
        }
        let text = "ROLLBACK".into_sql_str();
        self.command(&call, Stake::Uncommitted, text).await?;
        self.held.work = Work::None;
        self.tidy(&call).await;
        Ok(())
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}
