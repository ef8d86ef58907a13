//! The suite on SQLite.

use tempfile::TempDir;
use trine_db_shard::conformance::Fixture;
use trine_db_shard::{Database, DatabaseName, DbConfig, SqliteBackend, SqliteConfig};

async fn connect() -> Fixture {
    let folder = TempDir::new().unwrap();
    Fixture::new(DbConfig::sqlite(folder.path(), 2), folder)
}

trine_db_shard::conformance_tests!(suite, super::connect);

/// The engine without a service around it.
async fn alone() -> Fixture {
    let folder = TempDir::new().unwrap();
    let config = DbConfig::sqlite(folder.path(), 0);
    let name = DatabaseName::Named("alone".into());
    let file = SqliteConfig::new(folder.path().join("alone.db"));
    let engine = SqliteBackend::open(&name, &file).unwrap();
    let database = Database::with_backend("alone", engine, &config);
    database.migrate_with(&[]).await.unwrap();
    Fixture::new(config, folder).with_database(database)
}

trine_db_shard::conformance_tests!(database alone, super::alone);
