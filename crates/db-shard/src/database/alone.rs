use std::sync::Arc;

use trine_core::{Deadline, Lifecycle, Metrics, MigrationSet, Snapshot, Tasks};

use crate::backend::{DbBackend, Observed};
use crate::database::Settings;
use crate::executor::Executors;
use crate::migrate::{Part, Runner};
use crate::{AppliedStep, Database, DatabaseName, DbConfig, Error, Procedures, Result, schema};

/// A database that belongs to no service: the host's own pool, or an engine of
/// its own.
impl Database {
    /// Returns a database over an engine of the host's own choice. Does no I/O.
    ///
    /// Everything but routing works as with a service. Of `config`, the bounds
    /// of calls, the retentions and the executors count; its connections are
    /// not used. Tickets, inboxes and fences need the tables of
    /// [`migrate_with`](Self::migrate_with), and somebody who calls
    /// [`sweep`](Self::sweep) now and then.
    ///
    /// # Example
    ///
    /// ```
    /// # #[cfg(feature = "sqlite")]
    /// # async fn example() -> trine_db_shard::Result<()> {
    /// use std::sync::Arc;
    /// use trine_db_shard::{Database, DatabaseName, DbConfig, SqliteBackend, SqliteConfig};
    ///
    /// let name: Arc<str> = "notes".into();
    /// let engine = SqliteBackend::open(
    ///     &DatabaseName::Named(name.clone()),
    ///     &SqliteConfig::new("notes.db"),
    /// )?;
    /// let db = Database::with_backend(name, engine, &DbConfig::sqlite(".", 0));
    /// let one: i64 = db.query_one("SELECT 1", ()).await?;
    /// # let _ = one;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with_backend(
        name: impl Into<Arc<str>>,
        backend: impl DbBackend,
        config: &DbConfig,
    ) -> Self {
        let name = DatabaseName::Named(name.into());
        let pool = u32::try_from(backend.stats().max).unwrap_or(u32::MAX);
        let (tasks, metrics) = (Tasks::new(format!("db {name}")), Metrics::new("db"));
        let backend = Observed::new(backend, &name, config.slow_query.get(), &metrics);
        let lifecycle = Lifecycle::running(name.to_string());
        Self::new(
            name,
            Arc::new(backend),
            Settings::new(config, pool),
            Executors::new(&config.executors, &tasks, &metrics),
            Procedures::default(),
            lifecycle,
            metrics,
        )
    }

    /// Applies the tables of fences, inboxes, tickets and the error log, then
    /// `sets`, whatever their scope, and returns what was applied.
    ///
    /// [`migrate`](crate::migrate()) does it for the databases of a service,
    /// and says how steps are applied and resumed.
    ///
    /// # Errors
    ///
    /// Fails with `Unsupported` for a database of a service, with `Invalid` for
    /// sets that break a rule and for a step that the database refuses, and
    /// with `Conflict` if another process is at it for longer than
    /// `migrate_timeout`.
    pub async fn migrate_with(&self, sets: &[MigrationSet]) -> Result<Vec<AppliedStep>> {
        self.check_alone("migrate_with", "migrations apart from its service")?;
        let own = [schema::everywhere()];
        let sets: Vec<_> = own.into_iter().chain(sets.iter().cloned()).collect();
        for set in &sets {
            set.validate()?;
        }
        let timeout = self.shared().settings.migrate_timeout;
        Runner::new(&sets, timeout).apply(self, Part::Only).await
    }

    /// Returns what was counted here; for a database of a service that is what
    /// the service counted.
    #[must_use]
    pub fn metrics(&self) -> Snapshot {
        self.shared().metrics.snapshot()
    }

    /// Takes no new calls, waits until `deadline` for those under way and for
    /// after-commit handlers, and closes the engine. A pool of the host's stays
    /// open. Idempotent.
    ///
    /// # Errors
    ///
    /// Fails with `Unsupported` for a database of a service, which ends with
    /// it.
    pub async fn shutdown(&self, deadline: Deadline) -> Result<()> {
        self.check_alone("shutdown", "a shutdown apart from its service")?;
        let shared = self.shared();
        let closing = || async {
            shared.executors.end(&self.name().to_string(), deadline).await;
            shared.backend().close(deadline).await;
            Ok::<(), Error>(())
        };
        shared.lifecycle.shutdown(deadline, closing).await?;
        Ok(())
    }

    fn check_alone(&self, operation: &'static str, what: &'static str) -> Result<()> {
        if matches!(self.name(), DatabaseName::Named(_)) {
            return Ok(());
        }
        let engine = self.engine().as_str();
        Err(Error::Unsupported { at: self.at(operation), what, engine })
    }
}
