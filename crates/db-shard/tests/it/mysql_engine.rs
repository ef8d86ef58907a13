//! The MySQL engine alone, against a real MariaDB.

mod connections;
mod drops;
mod failures;
mod faults;
mod procedures;
mod transactions;
mod values;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use trine_core::{ErrorKind, Secret, Span};
use trine_db_shard::{
    Access, Call, DatabaseName, DbBackend, Error, MysqlBackend, MysqlConfig, Reply, Statement,
    StatementText, Value,
};
use trine_testkit::{MariaDb, TestDatabase};

/// Longer than anything a test waits for on purpose.
const TIMEOUT: Duration = Duration::from_secs(30);

fn name() -> DatabaseName {
    DatabaseName::Named("test".into())
}

fn call() -> Call {
    Call::new("query", TIMEOUT, 100_000)
}

fn call_of(timeout: Duration) -> Call {
    Call::new("query", timeout, 100_000)
}

/// A pool of `max` connections, with short waits.
fn config(url: &str, max: u32) -> MysqlConfig {
    let mut config = MysqlConfig::new(Secret::new(url));
    config.pool.max = NonZeroU32::new(max).unwrap();
    config.pool.connect_timeout = Span::secs(2);
    config
}

fn open(config: &MysqlConfig) -> MysqlBackend {
    MysqlBackend::open(&name(), config, TIMEOUT).unwrap()
}

async fn database() -> TestDatabase {
    MariaDb::shared().await.unwrap().database().await.unwrap()
}

/// A database on the shared server and a pool of `max` connections to it.
async fn backend(max: u32) -> (TestDatabase, MysqlBackend) {
    let database = database().await;
    let backend = open(&config(&database.url(), max));
    (database, backend)
}

fn read(text: &'static str, values: Vec<Value>) -> Statement {
    Statement::constant(text, values, Access::Read)
}

fn write(text: &'static str, values: Vec<Value>) -> Statement {
    Statement::constant(text, values, Access::Write)
}

fn dynamic(text: String, values: Vec<Value>) -> Statement {
    let mut statement = Statement::constant("", values, Access::Read);
    statement.text = StatementText::dynamic(Arc::from(text));
    statement
}

async fn run(backend: &MysqlBackend, text: &'static str, values: Vec<Value>) -> Reply {
    backend.run(call(), write(text, values)).await.unwrap()
}

/// Returns the only value of the only row.
async fn one(backend: &MysqlBackend, text: &'static str) -> Value {
    only(&backend.run(call(), read(text, vec![])).await.unwrap())
}

fn only(reply: &Reply) -> Value {
    assert_eq!(reply.rows.len(), 1);
    reply.rows[0].values()[0].clone()
}

/// Returns the kind and the whole chain.
fn told(error: &Error) -> (ErrorKind, String) {
    (error.kind(), trine_core::Report(error).to_string())
}

/// Polls `check` until it holds.
async fn eventually(within: Duration, mut check: impl AsyncFnMut() -> bool) -> bool {
    let deadline = tokio::time::Instant::now() + within;
    while !check().await {
        if tokio::time::Instant::now() > deadline {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    true
}
