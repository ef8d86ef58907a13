//! The suite on SQLite.

use tempfile::TempDir;
use trine_db_shard::DbConfig;
use trine_db_shard::conformance::Fixture;

async fn connect() -> Fixture {
    let folder = TempDir::new().unwrap();
    Fixture::new(DbConfig::sqlite(folder.path(), 2), folder)
}

trine_db_shard::conformance_tests!(suite, super::connect);
