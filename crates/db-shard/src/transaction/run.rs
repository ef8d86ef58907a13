use std::future::Future;
use std::time::Duration;

use trine_core::{Backoff, CallContext};

use super::{Doom, Inside, Limit, Tx, TxOptions};
use crate::{Database, Error, Result};

/// Waits between two runs of a body that met a deadlock.
const FIRST_WAIT: Duration = Duration::from_millis(5);
const LONGEST_WAIT: Duration = Duration::from_millis(200);

impl Database {
    /// Begins a transaction. It is never run again by itself; see
    /// [`transaction`](Self::transaction) for one that is.
    ///
    /// # Errors
    ///
    /// Fails with `Exhausted` without a free connection, `Unavailable` if the
    /// status of the shard forbids it, and with the errors of the database.
    pub async fn begin(&self) -> Result<Tx> {
        self.begin_with(&TxOptions::default()).await
    }

    /// Begins a transaction with options.
    ///
    /// # Errors
    ///
    /// As [`begin`](Self::begin), and `Unsupported` for an isolation that the
    /// engine does not have.
    pub async fn begin_with(&self, options: &TxOptions) -> Result<Tx> {
        let admitted = self.admit("begin", options.access()).await?;
        let limit = Limit::new(options.timeout, self);
        let call = limit.apply(admitted.call);
        let backend = self.shared().backend().begin(call, options.begin()).await?;
        let mut tx = Tx::new(self.clone(), backend, admitted, limit);
        if options.ticket {
            tx.ticket().await?;
        }
        Ok(tx)
    }

    /// Runs `body` in a transaction: commits what it returns `Ok` for, rolls
    /// back on `Err`, on a panic and when this future is dropped.
    ///
    /// A body that met a deadlock runs again, whatever error it made of it,
    /// because nothing was committed; so it must have no effects outside of
    /// the transaction. A body that commits or rolls back by itself has the
    /// last word: its result is returned as it is.
    ///
    /// # Errors
    ///
    /// Fails with the body's own error, or with one of the commit's.
    ///
    /// # Example
    ///
    /// ```
    /// # use trine_db_shard::{Database, Result};
    /// # async fn example(db: &Database) -> Result<()> {
    /// let left: i64 = db
    ///     .transaction(|mut tx| async move {
    ///         tx.execute("UPDATE account SET money = money - 5 WHERE id = ?", (1,)).await?;
    ///         tx.query_one("SELECT money FROM account WHERE id = ?", (1,)).await
    ///     })
    ///     .await?;
    /// # let _ = left;
    /// # Ok(())
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

    /// Runs `body` in a transaction with options.
    ///
    /// # Errors
    ///
    /// As [`transaction`](Self::transaction).
    pub async fn transaction_with<T, E, F, Fut>(
        &self,
        options: &TxOptions,
        mut body: F,
    ) -> Result<T, E>
    where
        E: From<Error>,
        F: FnMut(Tx) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        let mut retries = 0;
        loop {
            let (error, is_deadlock) = match self.attempt(options, &mut body).await {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            if !is_deadlock || retries == options.deadlock_retries {
                return Err(error);
            }
            retries += 1;
            let wait = backoff.delay(retries);
            if CallContext::current().deadline().is_some_and(|end| end.remaining() <= wait) {
                return Err(error);
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// Runs the body once. The second part of a failure tells whether the
    /// database ended the transaction to break a deadlock.
    async fn attempt<T, E, F, Fut>(&self, options: &TxOptions, body: &mut F) -> Result<T, (E, bool)>
    where
        E: From<Error>,
        F: FnMut(Tx) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let definite = |error: Error| {
            let is_deadlock = error.is_deadlock();
            (error.into(), is_deadlock)
        };
        let tx = self.begin_with(options).await.map_err(definite)?;
        let (tx, home) = tx.lend();
        let result = body(tx).await;
        let open = match home.close() {
            Inside::Back(open) => open,
            Inside::Ended => return result.map_err(|error| (error, false)),
            Inside::Lent | Inside::Over => {
                let detail = "the transaction was kept beyond the end of its body, rolled back";
                let kept = |_| Err((Error::invalid(self.at("transaction"), detail).into(), false));
                return result.map_or_else(|error| Err((error, false)), kept);
            }
        };
        let is_deadlock = matches!(open.doom, Some(Doom::Deadlock));
        let value = match result {
            Ok(value) => value,
            Err(error) => {
                // Its failure changes nothing: the connection is closed then,
                // which rolls back as well.
                let _rolled_back = Tx::from_open(open).rollback().await;
                return Err((error, is_deadlock));
            }
        };
        match Tx::from_open(open).commit().await {
            Ok(()) => Ok(value),
            Err(error) => Err(definite(error)),
        }
    }
}
