use std::time::Duration;

use crate::backend::Access;
use crate::sql::sqlite_now;
use crate::{Error, Result, Sql, Tx, Value};

/// Takes consumer, id and retention. The row expires by the database's clock,
/// which also sweeps, and at the end of the year 9999 at the latest, the last
/// one that MySQL has.
pub(crate) const REMEMBER: Sql = Sql::per_engine()
    .sqlite(concat!(
        "INSERT INTO trine_inbox (consumer, message_id, expires_at) VALUES (?, ?, ",
        sqlite_now!(),
        " + min(?, 253402300799999999 - ",
        sqlite_now!(),
        ")) ON CONFLICT DO NOTHING"
    ))
    .mysql(
        "INSERT IGNORE INTO trine_inbox (consumer, message_id, expires_at) VALUES (?, ?, \
         UTC_TIMESTAMP(6) + INTERVAL LEAST(?, TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), \
         '9999-12-31 23:59:59.999999')) MICROSECOND)",
    );

/// Remembers which messages a consumer has taken effect for, so that a
/// repeated delivery has its effect once.
///
/// The row is written in the transaction of the effect: both are committed or
/// neither.
///
/// # Example
///
/// ```
/// use trine_db_shard::{Database, Inbox, Once, Result};
///
/// async fn credit(db: &Database, inbox: &Inbox, message: &str) -> Result<()> {
///     db.transaction(|mut tx| async move {
///         if inbox.once(&mut tx, message).await? == Once::First {
///             tx.execute("UPDATE account SET money = money + 5 WHERE id = 1", ()).await?;
///         }
///         Ok(())
///     })
///     .await
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Inbox {
    consumer: Box<str>,
    retention: Duration,
}

/// Whether a message is new to a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a repeated message must have no effect"]
pub enum Once {
    /// It is; the effect belongs into the same transaction.
    First,
    /// Its effect is committed already.
    Repeated,
}

impl Inbox {
    /// How long ids are remembered unless told otherwise: 7 days.
    pub const RETENTION: Duration = Duration::from_secs(7 * 24 * 60 * 60);

    /// Longest consumer name in bytes.
    pub const MAX_CONSUMER: usize = 128;

    /// Longest message id in bytes.
    pub const MAX_ID: usize = 255;

    /// Returns the inbox of `consumer`. Ids are remembered for
    /// [`RETENTION`](Self::RETENTION).
    #[must_use]
    pub fn new(consumer: impl Into<Box<str>>) -> Self {
        Self { consumer: consumer.into(), retention: Self::RETENTION }
    }

    /// Sets how long ids are remembered: longer than the last repeat of a
    /// message can come. Measured by the database's clock; no id is remembered
    /// beyond the year 9999.
    #[must_use]
    pub fn with_retention(mut self, retention: Duration) -> Self {
        self.retention = retention;
        self
    }

    /// Returns the consumer's name.
    #[must_use]
    pub fn consumer(&self) -> &str {
        &self.consumer
    }

    /// Tells whether `id` is new to the consumer, and remembers it if this
    /// transaction commits. Two transactions with the same id wait for each
    /// other: the second one sees what became of the first.
    ///
    /// Make it the first statement of the transaction: a deadlock here is then
    /// retried by [`Database::transaction`](crate::Database::transaction) before
    /// anything was done.
    ///
    /// # Errors
    ///
    /// Fails with `Invalid` for an empty or oversized consumer or id, and with
    /// the errors of the database.
    pub async fn once(&self, tx: &mut Tx, id: &str) -> Result<Once> {
        const OPERATION: &str = "inbox.once";
        if let Err(detail) = self.check(id) {
            return Err(Error::invalid(tx.database().at(OPERATION), detail));
        }
        let open = tx.open_mut(OPERATION)?;
        let call = open.call(OPERATION)?;
        let values = vec![Value::from(&*self.consumer), id.into(), self.retention_micros().into()];
        let remember = open.database.own_statement(REMEMBER, values, Access::Write);
        let result = open.expose().run(call, remember).await;
        let reply = open.settle(result)?;
        Ok(if reply.done.affected == 0 { Once::Repeated } else { Once::First })
    }

    pub(crate) fn retention_micros(&self) -> i64 {
        i64::try_from(self.retention.as_micros()).unwrap_or(i64::MAX)
    }

    pub(crate) fn check(&self, id: &str) -> Result<(), String> {
        let bounds =
            [("consumer", &*self.consumer, Self::MAX_CONSUMER), ("message id", id, Self::MAX_ID)];
        for (what, text, max) in bounds {
            if text.is_empty() || text.len() > max {
                return Err(format!("{what} of {} bytes: expected 1 to {max}", text.len()));
            }
        }
        Ok(())
    }
}
