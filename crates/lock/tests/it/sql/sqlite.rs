//! SQLite in a file, every commit synced.

use std::sync::Arc;

use tempfile::TempDir;
use trine_core::{ManualClock, Metrics};
use trine_db_shard::{Database, DatabaseName, DbConfig, SqliteBackend, SqliteConfig};
use trine_lock::Observed;
use trine_lock::conformance::Fixture;

use super::{assert_polled, store};

/// An empty database with the tables of locks.
pub(super) async fn database() -> (Database, TempDir) {
    let (database, folder) = empty().await;
    database.migrate_with(&trine_lock::migrations()).await.unwrap();
    (database, folder)
}

pub(super) async fn empty() -> (Database, TempDir) {
    let folder = TempDir::new().unwrap();
    let name = DatabaseName::Named("locks".into());
    let file = SqliteConfig::new(folder.path().join("locks.db"));
    let engine = SqliteBackend::open(&name, &file).unwrap();
    let config = DbConfig::sqlite(folder.path(), 0);
    (Database::with_backend("locks", engine, &config), folder)
}

/// Its clock goes by itself, so that what is asked again is asked in time.
pub(crate) async fn connect() -> Fixture {
    let (database, folder) = database().await;
    let clock = Arc::new(ManualClock::with_rate(1.0));
    let own = Arc::clone(&clock);
    let backend = move || -> Arc<dyn trine_lock::LockBackend> {
        let store = store(&database, own.clone());
        assert_polled(&store, false);
        Arc::new(Observed::new(store, &Metrics::new("lock")))
    };
    Fixture::new(backend, folder).with_clock(clock).with_slow_store()
}

trine_lock::conformance_tests!(suite, super::connect);
