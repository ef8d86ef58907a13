use std::sync::Arc;

use trine_core::Secret;

use crate::backend::mysql::{MysqlBackend, MysqlTransaction};
use crate::{Database, DatabaseName, DbConfig, Error, Result, Tx};

impl Database {
    /// Returns a database that borrows the connections of a pool of the host's
    /// own, one for each call or transaction. Does no I/O; the first call asks
    /// the server who it is, so make one and clone it.
    ///
    /// Everything but routing works as with a service, with the defaults of
    /// [`DbConfig`] for time-outs and bounds, but for one thing: the pool keeps
    /// no ids of its connections, so a statement whose caller went away is not
    /// ended on the server. Its connection is closed, and the server notices
    /// when it answers. Sessions are set up by the host; the driver's defaults
    /// are right, and another time zone, character set or way to read strings
    /// is refused by the first call. Transactions are read committed unless
    /// they ask for another isolation, whatever the sessions have.
    ///
    /// Tickets, inboxes and fences need the tables of
    /// [`migrate_with`](Self::migrate_with).
    ///
    /// # Example
    ///
    /// ```no_run
    /// use trine_db_shard::{Database, Result};
    ///
    /// # async fn example(pool: sqlx::MySqlPool) -> Result<()> {
    /// let db = Database::from_mysql_pool(pool);
    /// let names: Vec<String> = db.query("SELECT name FROM user WHERE id < ?", (10,)).await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn from_mysql_pool(pool: sqlx::MySqlPool) -> Self {
        let options = pool.connect_options();
        let name: Arc<str> = options.get_database().unwrap_or("mysql").into();
        let backend = MysqlBackend::borrow(&DatabaseName::Named(Arc::clone(&name)), pool);
        // The defaults; the connections are the host's.
        Self::with_backend(name, backend, &DbConfig::mysql(Secret::new(""), []))
    }
}

impl Tx {
    /// Lends the connection of a MySQL or MariaDB transaction to statements
    /// that the host runs by sqlx 0.9. They belong to the transaction; do not
    /// end it with them.
    ///
    /// After a future of the driver's was dropped half-way, the next call of
    /// the transaction makes sure that the next answer is its own, or finds the
    /// transaction broken. The dropped statement is not killed on the server
    /// before the transaction ends.
    ///
    /// # Errors
    ///
    /// Fails with `Unsupported` on another engine, and with what forbids the
    /// transaction to go on.
    pub fn as_mysql(&mut self) -> Result<&mut sqlx::MySqlConnection> {
        const OPERATION: &str = "as_mysql";
        let (at, engine) = (self.database().at(OPERATION), self.engine());
        let open = self.open_mut(OPERATION)?;
        let call = open.call(OPERATION)?;
        match open.lend().as_any_mut().downcast_mut::<MysqlTransaction>() {
            Some(transaction) => transaction.driver(&call),
            None => Err(Error::Unsupported {
                at,
                what: "the connection of sqlx's MySQL driver",
                engine: engine.as_str(),
            }),
        }
    }
}
