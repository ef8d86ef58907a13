use std::fmt;
use std::time::Duration;

use trine_core::{BoxFault, MigrationSet};
use trine_db_shard::{DbConfig, DbDeps, DbService, Procedures};

use crate::component::DEFAULT;
use crate::{Component, Connections, Container, Deps, Handle, Result, Settings};

/// The sharded database, section `[db]`. Its connections are the tables of
/// `[database]`, shared by name with all other instances.
///
/// # Example
///
/// ```toml
/// [database.global]
/// kind = "sqlite"
/// path = "data/global.db"
///
/// [db]                # the connection `global` is its default
/// max_rows = 1000
/// ```
#[derive(Default)]
pub struct Db {
    migrations: Vec<MigrationSet>,
    procedures: Procedures,
}

impl Db {
    /// Returns the component without tables of the host's.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds tables of the host's, after Trine's.
    #[must_use]
    pub fn with_migrations(mut self, set: MigrationSet) -> Self {
        self.migrations.push(set);
        self
    }

    /// Sets the twins of stored procedures.
    #[must_use]
    pub fn with_procedures(mut self, procedures: Procedures) -> Self {
        self.procedures = procedures;
        self
    }
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Db").field("migrations", &self.migrations.len()).finish_non_exhaustive()
    }
}

impl Settings for DbConfig {
    fn problems(&self) -> Vec<String> {
        self.validate().map_or_else(|error| error.problems().to_vec(), |()| Vec::new())
    }
}

impl Component for Db {
    const NAME: &'static str = "db";
    const CONNECTIONS: Option<Connections> =
        Some(Connections { section: "database", field: "connections" });
    type Config = DbConfig;
    type Service = DbService;

    fn start_timeout(&self, config: &DbConfig) -> Option<Duration> {
        Some(config.start_timeout.get())
    }

    fn build(self, config: DbConfig, deps: &Deps<'_>) -> Result<DbService, BoxFault> {
        let own = DbDeps::default().with_name(deps.name()).with_procedures(self.procedures);
        let own = self.migrations.into_iter().fold(own, DbDeps::with_migrations);
        Ok(DbService::open(&config, own)?)
    }
}

impl Container {
    /// Returns the default instance of the sharded database.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::Missing`](crate::Error::Missing), which names its
    /// key, if none was added.
    pub fn db(&self) -> Result<DbService> {
        self.db_instance(DEFAULT)
    }

    /// Returns a named instance of the sharded database.
    ///
    /// # Errors
    ///
    /// As [`db`](Self::db).
    pub fn db_instance(&self, instance: &str) -> Result<DbService> {
        let service = self.get(&Handle::<Db>::of(instance))?;
        Ok((*service).clone())
    }
}
