use std::sync::Arc;

use trine_core::{Lifecycle, Metrics, MigrationSet, Secret, Tasks};

use crate::backend::Observed;
use crate::backend::mysql::{MysqlBackend, MysqlTransaction};
use crate::database::Settings;
use crate::executor::Executors;
use crate::migrate::{Part, Runner};
use crate::{AppliedStep, Database, DatabaseName, DbConfig, Error, Procedures, Result, Tx, schema};

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
        let name = DatabaseName::Named(options.get_database().unwrap_or("mysql").into());
        let config = DbConfig::mysql(Secret::new(""), []);
        let settings = Settings::new(&config, pool.options().get_max_connections());
        let (tasks, metrics) = (Tasks::new(format!("db {name}")), Metrics::new("db"));
        let backend = MysqlBackend::borrow(&name, pool);
        let backend = Observed::new(backend, &name, config.slow_query.get(), &metrics);
        Self::new(
            name.clone(),
            Arc::new(backend),
            settings,
            Executors::new(&config.executors, &tasks, &metrics),
            Procedures::default(),
            Lifecycle::running(name.to_string()),
        )
    }

    /// Applies the tables of fences, inboxes, tickets and the error log, then
    /// `sets`, whatever their scope, and returns what was applied.
    ///
    /// For a database of the host's own; [`migrate`](crate::migrate()) does it
    /// for those of a service, and says how steps are applied and resumed.
    ///
    /// # Errors
    ///
    /// Fails with `Unsupported` for a database of a service, with `Invalid` for
    /// sets that break a rule and for a step that the database refuses, and
    /// with `Conflict` if another process is at it for longer than a minute.
    pub async fn migrate_with(&self, sets: &[MigrationSet]) -> Result<Vec<AppliedStep>> {
        const OPERATION: &str = "migrate_with";
        if !matches!(self.name(), DatabaseName::Named(_)) {
            return Err(Error::Unsupported {
                at: self.at(OPERATION),
                what: "migrations apart from its service",
                engine: self.engine().as_str(),
            });
        }
        let own = [schema::everywhere()];
        let sets: Vec<_> = own.into_iter().chain(sets.iter().cloned()).collect();
        for set in &sets {
            set.validate()?;
        }
        let timeout = DbConfig::mysql(Secret::new(""), []).migrate_timeout.get();
        Runner::new(&sets, timeout).apply(self, Part::Only).await
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
        match open.backend.as_any_mut().downcast_mut::<MysqlTransaction>() {
            Some(transaction) => transaction.driver(&call),
            None => Err(Error::Unsupported {
                at,
                what: "the connection of sqlx's MySQL driver",
                engine: engine.as_str(),
            }),
        }
    }
}
