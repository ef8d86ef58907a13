//! The suite on SQLite and MariaDB, and what is true of databases only.

mod mariadb;
mod sqlite;

use std::sync::Arc;

use trine_core::Clock;
use trine_db_shard::Database;
use trine_lock::conformance::Fixture;
use trine_lock::{Capabilities, LockBackend, SqlBackend};

/// What both databases can do.
fn assert_polled(backend: &dyn LockBackend, is_shared: bool) {
    let mut expected = Capabilities::local().with_push(false, false);
    expected.is_shared = is_shared;
    assert_eq!(backend.capabilities(), expected);
}

fn store(database: &Database, clock: Arc<dyn Clock>) -> SqlBackend {
    SqlBackend::open(&Fixture::NAME.into(), Fixture::CLAIM_TIMEOUT, clock, database.clone())
}
