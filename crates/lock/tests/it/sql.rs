//! The suite on SQLite and MariaDB, and what is true of databases only.

mod cut;
pub(crate) mod mariadb;
mod processes;
mod rows;
pub(crate) mod sqlite;

use std::sync::Arc;
use std::time::Duration;

use trine_core::{Clock, Span};
use trine_db_shard::Database;
use trine_lock::conformance::Fixture;
use trine_lock::{
    AcquireOutcome, Capabilities, Guard, LockBackend, LockConfig, LockDeps, LockOptions,
    LockService, SqlBackend,
};

/// What both databases can do.
fn assert_polled(backend: &dyn LockBackend, is_shared: bool) {
    let mut expected = Capabilities::local().with_push(false, false);
    expected.is_shared = is_shared;
    assert_eq!(backend.capabilities(), expected);
}

pub(crate) fn store(database: &Database, clock: Arc<dyn Clock>) -> SqlBackend {
    SqlBackend::open(&Fixture::NAME.into(), Fixture::CLAIM_TIMEOUT, clock, database.clone())
}

/// Locks of one more process, as a host opens them.
fn open(database: &Database, ttl: Duration, deps: LockDeps) -> LockService {
    let config = LockConfig::sql("main").with_ttl(Span::from(ttl));
    LockService::open(&config, deps.with_database("main", database)).unwrap()
}

async fn start(database: &Database, ttl: Duration) -> LockService {
    let locks = open(database, ttl, LockDeps::default());
    locks.start().await.unwrap();
    locks
}

fn any() -> LockOptions {
    LockOptions::default()
}

async fn acquire(locks: &LockService, name: &str) -> Guard {
    match in_time(locks.acquire(name, any())).await.unwrap() {
        AcquireOutcome::Acquired(guard) => guard,
        AcquireOutcome::TimedOut(holder) => panic!("held by {holder}"),
    }
}

async fn is_held(locks: &LockService, name: &str) -> bool {
    in_time(locks.try_acquire(name, any())).await.unwrap().into_guard().is_none()
}

/// Fails what takes longer than anything should.
async fn in_time<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(50), future).await.unwrap()
}

/// Waits until it is so: what happens in the background has no other signal.
async fn eventually(mut is_so: impl AsyncFnMut() -> bool) {
    in_time(async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// How many keys have a row.
async fn count(database: &Database) -> u64 {
    database.query_one("SELECT COUNT(*) FROM trine_lock", ()).await.unwrap()
}
