use std::sync::Arc;

use trine_db_shard::{Completion, Database, Once, Tx};

use crate::{At, Error, JobContext, Result, SchedulerDeps, once_in};

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
    /// database than that of the scheduler, with `Unsupported` if that was given
    /// none, its ticks are not kept in it or the job runs in every process, and
    /// with the errors of the database.
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
    /// Make it the first statement of the transaction. The inbox of that database
    /// remembers it for [`Inbox::RETENTION`](trine_db_shard::Inbox::RETENTION).
    ///
    /// # Errors
    ///
    /// Fails with `Unsupported` for a job that runs in every process, and with
    /// the errors of the database.
    pub async fn once_in(&self, tx: &mut Tx) -> Result<Once> {
        if !self.state.is_shared {
            let detail = "a job that runs in every process has no ticks that they share";
            return Err(Error::Unsupported { at: self.at("once_in"), detail: detail.into() });
        }
        once_in(&self.state.service, tx, &self.state.tick).await
    }

    fn at(&self, operation: &'static str) -> At {
        At::new(operation, &self.state.service)
    }
}
