use async_trait::async_trait;
use sqlx::Row as _;
use trine_core::Fence;

use crate::backend::Call;
use crate::error::At;
use crate::fence::{SEEN, SHOW};
use crate::inbox::REMEMBER;
use crate::transaction::Doom;
use crate::{DatabaseName, Engine, Error, Inbox, Once, Result, Sql};

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
        // Fences keep their tokens in the range that every sink can store.
        let token = i64::try_from(fence.token()).unwrap_or(i64::MAX);
        self.run(OPERATION, SHOW, &[fence.key()], token).await?;
        let seen = self.read(OPERATION, SEEN, fence.key()).await?;
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
        let texts = [self.consumer(), id];
        let changed = connection.run(OPERATION, REMEMBER, &texts, self.retention_micros()).await?;
        Ok(if changed == 0 { Once::Repeated } else { Once::First })
    }
}

fn at(operation: &'static str) -> At {
    At::new(operation, &DatabaseName::Named("of the host".into()))
}

fn call(operation: &'static str) -> Call {
    Call::new(operation, std::time::Duration::MAX, 1)
}

mod sealed {
    use async_trait::async_trait;

    use crate::{Result, Sql};

    #[async_trait]
    pub trait Host: Send {
        /// Runs a write of ours and returns how many rows it changed.
        async fn run(
            &mut self,
            operation: &'static str,
            sql: Sql,
            texts: &[&str],
            number: i64,
        ) -> Result<u64>;

        /// Returns the number that a query of ours answers.
        async fn read(&mut self, operation: &'static str, sql: Sql, text: &str) -> Result<u64>;
    }
}

macro_rules! host {
    ($connection:ty, $engine:ident, $backend:ident) => {
        #[async_trait]
        impl sealed::Host for $connection {
            async fn run(
                &mut self,
                operation: &'static str,
                sql: Sql,
                texts: &[&str],
                number: i64,
            ) -> Result<u64> {
                let mut query = sqlx::query(sql.text(Engine::$engine).unwrap_or_default());
                for text in texts {
                    query = query.bind(*text);
                }
                let done = query.bind(number).execute(self).await.map_err(|error| {
                    crate::backend::$backend::host_error(at(operation), &call(operation), error)
                })?;
                Ok(done.rows_affected())
            }

            async fn read(&mut self, operation: &'static str, sql: Sql, text: &str) -> Result<u64> {
                let query = sqlx::query(sql.text(Engine::$engine).unwrap_or_default()).bind(text);
                let row = query.fetch_one(self).await;
                // Unsigned on one engine, signed on the other.
                let number = row.and_then(|row| row.try_get_unchecked::<i64, _>(0));
                number.map(i64::unsigned_abs).map_err(|error| {
                    crate::backend::$backend::host_error(at(operation), &call(operation), error)
                })
            }
        }
    };
}

#[cfg(feature = "mysql")]
host!(sqlx::MySqlConnection, Mysql, mysql);
#[cfg(feature = "sqlite")]
host!(sqlx::SqliteConnection, Sqlite, sqlite);
