use std::time::Duration;

use tokio::time::sleep;
use trine_core::{Deadline, ErrorKind, Report};
use uuid::Uuid;

use crate::backend::{Access, BackendTransaction, BeginOptions, Call};
use crate::{Conflict, Database, Error, Result, Sql, Value};

const OPERATION: &str = "migrate";

/// Between two looks at a lease that another process has.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

const SHORTEST_TERM: Duration = Duration::from_secs(1);
const LONGEST_TERM: Duration = Duration::from_secs(15);

/// Answers at once where the holder works in a transaction.
const LOOK: Sql = Sql::per_engine().mysql(
    "SELECT holder, token, expires_at <= UTC_TIMESTAMP(6) FROM trine_migration_lease \
     WHERE id = 1 FOR UPDATE NOWAIT",
);

const WHO: Sql =
    Sql::per_engine().mysql("SELECT holder, token, 0 FROM trine_migration_lease WHERE id = 1");

const LOCK: Sql = Sql::per_engine()
    .mysql("SELECT holder, token, 0 FROM trine_migration_lease WHERE id = 1 FOR UPDATE");

/// The host is the one that the server sees.
const TAKE: Sql = Sql::per_engine().mysql(
    "UPDATE trine_migration_lease \
     SET holder = CONCAT(SUBSTRING_INDEX(USER(), '@', -1), ':', ?), token = ?, \
     expires_at = UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND WHERE id = 1",
);

const RENEW: Sql = Sql::per_engine().mysql(
    "UPDATE trine_migration_lease SET expires_at = UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND \
     WHERE id = 1 AND token = ?",
);

const RELEASE: Sql = Sql::per_engine().mysql(
    "UPDATE trine_migration_lease SET expires_at = UTC_TIMESTAMP(6), token = '' \
     WHERE id = 1 AND token = ?",
);

/// The right to migrate one database: a row with an expiry by the database's
/// own clock, renewed while working.
///
/// Only engines that cannot roll back a change of the schema have one: the
/// others run a whole step, its record included, as one transaction.
#[derive(Debug)]
pub(super) struct Lease<'a> {
    database: &'a Database,
    token: Box<str>,
    term: Duration,
}

/// Holder, token, and whether the lease has expired.
type Seen = (Box<str>, Box<str>, i64);

impl<'a> Lease<'a> {
    /// Waits until nobody has the lease and takes it.
    ///
    /// # Errors
    ///
    /// Fails with `Conflict` once `timeout` is over and somebody still has it.
    pub(super) async fn take(database: &'a Database, timeout: Duration) -> Result<Self> {
        let deadline = Deadline::after(timeout);
        let lease = Self {
            database,
            token: Uuid::new_v4().simple().to_string().into(),
            // Whoever waits for as long outlives a holder that died.
            term: (timeout / 4).clamp(SHORTEST_TERM, LONGEST_TERM),
        };
        loop {
            let Some(holder) = lease.try_take().await? else {
                return Ok(lease);
            };
            if deadline.has_passed() {
                return Err(lease.held_by(holder));
            }
            sleep(LOOK_AGAIN.min(deadline.remaining())).await;
        }
    }

    /// Takes the lease if it is free, or returns who has it.
    async fn try_take(&self) -> Result<Option<Box<str>>> {
        let backend = self.database.shared().backend();
        let mut tx = backend.begin(self.call(), BeginOptions::default()).await?;
        let seen = match self.look(&mut *tx, LOOK).await {
            Ok(seen) => seen,
            // The holder has the row locked.
            Err(error) if matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Conflict) => {
                // A lock wait may have ended the transaction already.
                let _rolled_back = tx.rollback(self.call()).await;
                let who = self.database.own_statement(WHO, Vec::new(), Access::Read);
                let row = backend.run(self.call(), who).await?.rows.pop();
                return Ok(Some(self.seen(row)?.0));
            }
            Err(error) => return Err(error),
        };
        let (holder, _, has_expired) = seen;
        if has_expired == 0 {
            tx.rollback(self.call()).await?;
            return Ok(Some(holder));
        }
        let values =
            vec![Value::from(std::process::id()), Value::from(&*self.token), self.term_value()];
        let take = self.database.own_statement(TAKE, values, Access::Write);
        tx.run(self.call(), take).await?;
        tx.commit(self.call()).await?;
        if !holder.is_empty() {
            tracing::debug!(%holder, "migration lease taken over");
        }
        Ok(None)
    }

    async fn look(&self, tx: &mut dyn BackendTransaction, sql: Sql) -> Result<Seen> {
        let look = self.database.own_statement(sql, Vec::new(), Access::Read);
        let row = tx.run(self.call(), look).await?.rows.pop();
        self.seen(row)
    }

    fn seen(&self, row: Option<crate::Row>) -> Result<Seen> {
        let at = || self.database.at(OPERATION);
        let row = row.ok_or_else(|| Error::not_found(at(), "row in trine_migration_lease"))?;
        row.decode().map_err(|error| error.at(at()))
    }

    fn held_by(&self, holder: Box<str>) -> Error {
        let conflict = Conflict::HeldBy { holder };
        Error::Conflict { at: self.database.at(OPERATION), conflict, cause: None }
    }

    fn term_value(&self) -> Value {
        Value::from(u64::try_from(self.term.as_micros()).unwrap_or(u64::MAX))
    }

    /// Begins a transaction that nobody can take the lease over in, and
    /// prolongs the lease with it.
    ///
    /// # Errors
    ///
    /// Fails with `Conflict` if somebody has taken it over.
    pub(super) async fn guard(&self) -> Result<Box<dyn BackendTransaction>> {
        let backend = self.database.shared().backend();
        let mut tx = backend.begin(self.call(), BeginOptions::default()).await?;
        let (holder, token, _) = self.look(&mut *tx, LOCK).await?;
        if token != self.token {
            tx.rollback(self.call()).await?;
            return Err(self.held_by(holder));
        }
        tx.run(self.call(), self.renewal()).await?;
        Ok(tx)
    }

    /// Runs `work` and prolongs the lease meanwhile.
    ///
    /// A lease that is lost all the same does not stop the work: the next
    /// [`guard`](Self::guard) tells.
    pub(super) async fn keep_while<F: Future>(&self, work: F) -> F::Output {
        let renewals = async {
            loop {
                sleep(self.term / 3).await;
                let call = self.call().until(Some(Deadline::after(self.term / 3)));
                if let Err(error) = self.database.shared().backend().run(call, self.renewal()).await
                {
                    tracing::debug!(error = %Report(&error), "migration lease not renewed");
                }
            }
        };
        tokio::select! {
            biased;
            output = work => output,
            never = renewals => never,
        }
    }

    /// Gives the lease up; if that fails, it expires.
    pub(super) async fn release(self) {
        let values = vec![Value::from(&*self.token)];
        let release = self.database.own_statement(RELEASE, values, Access::Write);
        if let Err(error) = self.database.shared().backend().run(self.call(), release).await {
            tracing::debug!(error = %Report(&error), "migration lease not released");
        }
    }

    fn renewal(&self) -> crate::Statement {
        let values = vec![self.term_value(), Value::from(&*self.token)];
        self.database.own_statement(RENEW, values, Access::Write)
    }

    /// Returns the bounds of one short statement.
    fn call(&self) -> Call {
        self.database.own_call(OPERATION)
    }
}
