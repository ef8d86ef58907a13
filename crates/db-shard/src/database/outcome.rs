use std::time::{Duration, SystemTime};

use trine_core::{CallContext, Deadline, ErrorKind};

use crate::backend::{Access, BeginOptions, Call, Statement};
use crate::transaction::Taken;
use crate::{Database, Outcome, Result, Sql, Ticket, Timestamp, Value};

/// Rows of committed transactions, and tombstones of those that must never be
/// committed any more.
const COMMITTED: i64 = 1;
const TOMBSTONE: i64 = 0;

const INSERT: Sql = Sql::portable("INSERT INTO trine_ticket (id, state, made_at) VALUES (?, ?, ?)");

/// Answers at once where the transaction still holds its row.
const LOOK: Sql = Sql::per_engine()
    .sqlite("SELECT state FROM trine_ticket WHERE id = ?")
    .mysql("SELECT state FROM trine_ticket WHERE id = ? FOR UPDATE NOWAIT");

/// Between two questions about a transaction that is still running.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// How long the tombstone waits for a transaction that holds the row.
const TOMBSTONE_WAIT: Duration = Duration::from_secs(1);

impl Database {
    /// Tells what became of the transaction that took `ticket`.
    ///
    /// Asking is an answer in itself: a transaction that has not committed by
    /// then, and no longer runs, is made unable to. `Committed` and
    /// `RolledBack` are final.
    ///
    /// # Errors
    ///
    /// Fails with the errors of the database.
    pub async fn outcome(&self, ticket: Ticket) -> Result<Outcome> {
        let age = SystemTime::now().duration_since(ticket.made_at()).unwrap_or_default();
        if age > self.shared().settings.ticket_retention {
            return Ok(Outcome::Expired);
        }
        let admitted = self.admit("outcome", Access::Write).await?;
        let call = admitted.call.until(Some(Deadline::after(TOMBSTONE_WAIT)));
        match self.ask(call, ticket).await {
            Err(error) if is_held(error.kind()) => Ok(Outcome::Running),
            answer => answer,
        }
    }

    /// Asks until the answer is final, the deadline passes or the database is
    /// away for good.
    pub(crate) async fn settle_outcome(
        &self,
        ticket: Ticket,
        deadline: Deadline,
    ) -> Option<Outcome> {
        // The caller's deadline may have passed with the lost reply.
        let asking = CallContext::current().detached().scope(async {
            loop {
                match self.outcome(ticket).await {
                    Ok(Outcome::Running) => {}
                    Ok(outcome) => return Some(outcome),
                    Err(error) if error.is_retryable() => {}
                    Err(_) => return None,
                }
                tokio::time::sleep(ASK_AGAIN).await;
            }
        });
        deadline.limit(asking).await.flatten()
    }

    async fn ask(&self, call: Call, ticket: Ticket) -> Result<Outcome> {
        let id = Value::from(*ticket.as_uuid());
        let backend = self.shared().backend();
        let mut transaction = backend.begin(call, BeginOptions::default()).await?;
        let look = self.own_statement(LOOK, vec![id.clone()], Access::Read);
        let found = transaction.run(call, look).await?.rows.pop();
        let state = match found {
            Some(row) => row.decode::<i64>().map_err(|error| error.at(self.at("outcome")))?,
            None => {
                let made_at = Value::from(Timestamp::from(ticket.made_at()));
                let values = vec![id, TOMBSTONE.into(), made_at];
                let bury = self.own_statement(INSERT, values, Access::Write);
                transaction.run(call, bury).await?;
                TOMBSTONE
            }
        };
        transaction.commit(call).await?;
        Ok(if state == COMMITTED { Outcome::Committed } else { Outcome::RolledBack })
    }

    /// Returns a statement of this crate's own, which has a text for every
    /// engine.
    pub(crate) fn own_statement(&self, sql: Sql, values: Vec<Value>, access: Access) -> Statement {
        Statement::constant(sql.text(self.engine()).unwrap_or_default(), values, access)
    }
}

/// Kinds that say somebody else holds the row or the writer: a lock wait, a
/// deadlock, or an insert of ours that lost its race.
fn is_held(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Timeout | ErrorKind::Exhausted | ErrorKind::Conflict | ErrorKind::OutcomeUnknown
    )
}

impl crate::Tx {
    /// Takes a ticket: one row, written in this transaction, by which
    /// [`Database::outcome`] can tell later whether it was committed. Taking a
    /// second one returns the first.
    ///
    /// # Errors
    ///
    /// Fails with the errors of the database.
    pub async fn ticket(&mut self) -> Result<Ticket> {
        let open = self.open_mut("ticket")?;
        if let Some(taken) = open.ticket {
            return Ok(taken.ticket);
        }
        let (ticket, after) = (Ticket::new(), open.savepoints);
        self.write_ticket(ticket).await?;
        self.open_mut("ticket")?.ticket = Some(Taken { ticket, after });
        Ok(ticket)
    }

    /// Writes the row that is committed with the transaction.
    pub(crate) async fn write_ticket(&mut self, ticket: Ticket) -> Result<()> {
        let open = self.open_mut("ticket")?;
        let call = open.call("ticket")?;
        let made_at = Value::from(Timestamp::from(ticket.made_at()));
        let values = vec![Value::from(*ticket.as_uuid()), COMMITTED.into(), made_at];
        let take = open.database.own_statement(INSERT, values, Access::Write);
        let result = open.expose().run(call, take).await;
        open.settle(result).map(drop)
    }
}
