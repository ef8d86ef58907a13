//! The suite on SQLite, a file that is synced.

use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;
use trine_core::{Clock, ManualClock};
use trine_db_shard::{Database, DatabaseName, DbConfig, SqliteBackend, SqliteConfig};
use trine_scheduler::conformance::Fixture;
use trine_scheduler::{SqlBackend, migrations};

/// A database with the tables.
pub(crate) async fn database(folder: &TempDir) -> Database {
    database_in(folder.path()).await
}

pub(crate) async fn database_in(folder: &Path) -> Database {
    let name = DatabaseName::Named("jobs".into());
    let file = SqliteConfig::new(folder.join("jobs.db"));
    let engine = SqliteBackend::open(&name, &file).unwrap();
    let database = Database::with_backend("jobs", engine, &DbConfig::sqlite(folder, 0));
    database.migrate_with(&migrations()).await.unwrap();
    database
}

async fn connect() -> Fixture {
    let folder = TempDir::new().unwrap();
    let database = database(&folder).await;
    let clock = Arc::new(ManualClock::new());
    let of_store: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
    let backend = move || {
        let name = Fixture::NAME.into();
        Arc::new(SqlBackend::with_clock(&name, database.clone(), Arc::clone(&of_store))) as _
    };
    Fixture::new(backend, folder).with_clock(clock)
}

trine_scheduler::conformance_tests!(suite, super::connect);
