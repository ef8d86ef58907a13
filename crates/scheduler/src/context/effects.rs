use std::sync::Arc;

use trine_core::Rfc3339;
use trine_db_shard::{Completion, Database, Inbox, Once, Tx};

use crate::backend::translate;
use crate::{At, Error, JobContext, Result, SchedulerDeps};

impl SchedulerDeps {
    /// Sets the database that jobs and ticks are kept in if the configuration
    /// says so; it has the tables of [`migrations`](crate::migrations).
    #[must_use]
    pub fn with_database(mut self, database: Database) -> Self {
        self.database = Some(database);
        self
    }
}

impl JobContext {
    /// Completes the run in the transaction of its effect: both are committed
    /// or neither. Where it answers [`Repeated`](Once::Repeated), this attempt
    /// has committed its effect already.
    ///
    /// When the transaction commits, the run has succeeded, whatever its handler
    /// does after that; when it is rolled back, it is as if this had not been
    /// called. It locks the job until the end of the transaction: call it last.
    ///
    /// # Errors
    ///
    /// Fails with `Fenced` if the attempt was replaced; the transaction can only
    /// be rolled back then. Fails with `Invalid` for a transaction on another
    /// database than that of the scheduler, with `Unsupported` if that has none
    /// or the job runs in every process, and with the errors of the database.
    ///
    /// # Example
    ///
    /// ```
    /// use trine_core::BoxError;
    /// use trine_db_shard::Database;
    /// use trine_scheduler::JobContext;
    ///
    /// async fn interest(ctx: JobContext, db: Database) -> Result<(), BoxError> {
    ///     db.transaction(|mut tx| {
    ///         let ctx = ctx.clone();
    ///         async move {
    ///             tx.execute("UPDATE account SET money = money * 1.01", ()).await?;
    ///             ctx.complete_in(&mut tx).await?;
    ///             Ok::<(), BoxError>(())
    ///         }
    ///     })
    ///     .await
    /// }
    /// ```
    pub async fn complete_in(&self, tx: &mut Tx) -> Result<Once> {
        let Some(sql) = &self.state.effects else {
            let detail = "ticks are not kept in a database: use `once_in`";
            return Err(Error::Unsupported { at: self.at("complete_in"), detail: detail.into() });
        };
        let once = sql.complete_in(tx, &self.state.tick).await?;
        let state = Arc::clone(&self.state);
        tx.after_completion(move |completion| {
            if completion == Completion::Committed {
                state.complete();
            }
        });
        Ok(once)
    }

    /// Tells whether the effect of this tick is new to the database of the
    /// transaction, which may be any one, and remembers it if that commits: an
    /// effect in the same transaction is done once, whatever attempts there are.
    ///
    /// Make it the first statement of the transaction. What it remembers is kept
    /// for [`Inbox::RETENTION`], or for as long as ticks are if that is longer.
    ///
    /// # Errors
    ///
    /// Fails with `Unsupported` for a job that runs in every process, and with
    /// the errors of the database.
    pub async fn once_in(&self, tx: &mut Tx) -> Result<Once> {
        const OPERATION: &str = "once_in";
        let state = &self.state;
        let Some(consumer) = &state.consumer else {
            let detail = "a job that runs in every process has no ticks that they share";
            return Err(Error::Unsupported { at: self.at(OPERATION), detail: detail.into() });
        };
        let retention = Inbox::RETENTION.max(state.history_age);
        let inbox = Inbox::new(&**consumer).with_retention(retention);
        let nominal = format!("{:.6}", Rfc3339(self.nominal()));
        let once = inbox.once(tx, &nominal).await;
        once.map_err(|error| translate(self.at(OPERATION), error))
    }

    fn at(&self, operation: &'static str) -> At {
        At::new(operation, &self.state.service)
    }
}
