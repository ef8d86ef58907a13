use std::time::SystemTime;

use async_trait::async_trait;
use trine_core::Fence;

use crate::backend::Call;
use crate::error::At;
use crate::transaction::Doom;
use crate::{DatabaseName, Error, Inbox, Once, Result, Timestamp};

/// A connection of the host's own driver, in a transaction that the host began
/// and will end.
///
/// Guards and inboxes take part in that transaction. Outside of one they
/// protect nothing: each statement would commit by itself. The tables must be
/// there: a service makes them, or `Database::migrate_with`.
///
/// # Example
///
/// ```no_run
/// use sqlx::{Connection as _, SqliteConnection};
/// use trine_db_shard::{HostConnection as _, Inbox, Once};
/// # use trine_core::Fence;
///
/// # async fn example(connection: &mut SqliteConnection, fence: &Fence) -> Result<(), Box<dyn std::error::Error>> {
/// let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
/// tx.guard(fence).await?;
/// if Inbox::new("billing").once_on(&mut *tx, "message-7").await? == Once::First {
///     sqlx::query("UPDATE account SET money = money + 5").execute(&mut *tx).await?;
/// }
/// tx.commit().await?;
/// # Ok(())
/// # }
/// ```
#[async_trait]
pub trait HostConnection: sealed::Host {
    /// Shows `fence` to the database and makes the transaction depend on it,
    /// as [`Tx::guard`](crate::Tx::guard) does.
    ///
    /// # Errors
    ///
    /// Fails with `Fenced` if a higher token was shown before: roll back, and
    /// commit nothing that the caller was about to write.
    async fn guard(&mut self, fence: &Fence) -> Result<()> {
        const OPERATION: &str = "guard";
        let seen = self.show(OPERATION, fence.key(), fence.token(), now()).await?;
        if seen > fence.token() {
            let doom = Doom::Fenced { key: fence.key().into(), token: fence.token(), seen };
            return Err(doom.error(at(OPERATION)));
        }
        Ok(())
    }
}

impl<T: sealed::Host> HostConnection for T {}

impl Inbox {
    /// As [`once`](Self::once), in a transaction of the host's own driver.
    ///
    /// # Errors
    ///
    /// As [`once`](Self::once).
    pub async fn once_on<C: HostConnection>(&self, connection: &mut C, id: &str) -> Result<Once> {
        const OPERATION: &str = "inbox.once";
        self.check(id).map_err(|detail| Error::invalid(at(OPERATION), detail))?;
        let expires = now().plus(self.retention);
        let is_first = connection.remember(OPERATION, self.consumer(), id, expires).await?;
        Ok(if is_first { Once::First } else { Once::Repeated })
    }
}

fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

fn at(operation: &'static str) -> At {
    At::new(operation, &DatabaseName::Named("of the host".into()))
}

fn call(operation: &'static str) -> Call {
    Call::new(operation, std::time::Duration::MAX, 1)
}

mod sealed {
    use async_trait::async_trait;

    use crate::{Result, Timestamp};

    #[async_trait]
    pub trait Host: Send {
        /// Keeps the higher token and returns it, the row locked.
        async fn show(
            &mut self,
            operation: &'static str,
            key: &str,
            token: u64,
            now: Timestamp,
        ) -> Result<u64>;

        /// Returns whether the message is new.
        async fn remember(
            &mut self,
            operation: &'static str,
            consumer: &str,
            id: &str,
            expires: Timestamp,
        ) -> Result<bool>;
    }
}

#[cfg(feature = "mysql")]
#[async_trait]
impl sealed::Host for sqlx::MySqlConnection {
    async fn show(
        &mut self,
        operation: &'static str,
        key: &str,
        token: u64,
        now: Timestamp,
    ) -> Result<u64> {
        const SHOW: &str = "INSERT INTO trine_fence (fence_key, token, shown_at) \
             VALUES (?, ?, TIMESTAMPADD(MICROSECOND, ?, '1970-01-01 00:00:00.000000')) \
             ON DUPLICATE KEY UPDATE token = GREATEST(token, VALUES(token)), \
             shown_at = VALUES(shown_at)";
        const SEEN: &str = "SELECT token FROM trine_fence WHERE fence_key = ? FOR UPDATE";
        let failed =
            |error| crate::backend::mysql::host_error(at(operation), &call(operation), error);
        let show = sqlx::query(SHOW).bind(key).bind(token).bind(now.as_micros());
        show.execute(&mut *self).await.map_err(failed)?;
        sqlx::query_scalar(SEEN).bind(key).fetch_one(self).await.map_err(failed)
    }

    async fn remember(
        &mut self,
        operation: &'static str,
        consumer: &str,
        id: &str,
        expires: Timestamp,
    ) -> Result<bool> {
        const REMEMBER: &str = "INSERT IGNORE INTO trine_inbox (consumer, message_id, expires_at) \
             VALUES (?, ?, TIMESTAMPADD(MICROSECOND, ?, '1970-01-01 00:00:00.000000'))";
        let failed =
            |error| crate::backend::mysql::host_error(at(operation), &call(operation), error);
        let remember = sqlx::query(REMEMBER).bind(consumer).bind(id).bind(expires.as_micros());
        Ok(remember.execute(self).await.map_err(failed)?.rows_affected() == 1)
    }
}

#[cfg(feature = "sqlite")]
#[async_trait]
impl sealed::Host for sqlx::SqliteConnection {
    async fn show(
        &mut self,
        operation: &'static str,
        key: &str,
        token: u64,
        now: Timestamp,
    ) -> Result<u64> {
        const SHOW: &str = "INSERT INTO trine_fence (fence_key, token, shown_at) \
             VALUES (?, ?, ?) ON CONFLICT (fence_key) \
             DO UPDATE SET token = max(token, excluded.token), shown_at = excluded.shown_at \
             RETURNING token";
        // Fences keep their tokens in the range that every sink can store.
        let token = i64::try_from(token).unwrap_or(i64::MAX);
        let failed =
            |error| crate::backend::sqlite::host_error(at(operation), &call(operation), error);
        let show = sqlx::query_scalar(SHOW).bind(key).bind(token).bind(now.as_micros());
        let seen: i64 = show.fetch_one(self).await.map_err(failed)?;
        Ok(seen.unsigned_abs())
    }

    async fn remember(
        &mut self,
        operation: &'static str,
        consumer: &str,
        id: &str,
        expires: Timestamp,
    ) -> Result<bool> {
        const REMEMBER: &str = "INSERT INTO trine_inbox (consumer, message_id, expires_at) \
             VALUES (?, ?, ?) ON CONFLICT DO NOTHING";
        let failed =
            |error| crate::backend::sqlite::host_error(at(operation), &call(operation), error);
        let remember = sqlx::query(REMEMBER).bind(consumer).bind(id).bind(expires.as_micros());
        Ok(remember.execute(self).await.map_err(failed)?.rows_affected() == 1)
    }
}
