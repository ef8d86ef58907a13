//! The suite on MariaDB, with a pool of its own for each process.

use std::sync::Arc;

use trine_core::Secret;
use trine_db_shard::{Database, DatabaseName, DbConfig, MysqlBackend, MysqlConfig};
use trine_scheduler::conformance::Fixture;
use trine_scheduler::{SqlBackend, migrations};
use trine_testkit::{MariaDb, TestDatabase};

/// Returns a handle as one more process has it.
pub(crate) fn handle(url: &str) -> Database {
    let config = DbConfig::mysql(Secret::new(url), []);
    let name = DatabaseName::Named("jobs".into());
    let mysql = MysqlConfig::new(Secret::new(url));
    let engine = MysqlBackend::open(&name, &mysql, config.query_timeout.get());
    Database::with_backend("jobs", engine.unwrap(), &config)
}

/// A database with the tables.
pub(crate) async fn database() -> TestDatabase {
    let database = MariaDb::shared().await.unwrap().database().await.unwrap();
    handle(&database.url()).migrate_with(&migrations()).await.unwrap();
    database
}

async fn connect() -> Fixture {
    let database = database().await;
    let url = database.url();
    let backend = move || {
        let name = Fixture::NAME.into();
        Arc::new(SqlBackend::open(&name, handle(&url))) as _
    };
    Fixture::new(backend, database)
}

trine_scheduler::conformance_tests!(suite, super::connect);
