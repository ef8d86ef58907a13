//! MariaDB, in real time.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use trine_core::{Metrics, Secret, SystemClock};
use trine_db_shard::{Database, DatabaseName, DbConfig, MysqlBackend, MysqlConfig};
use trine_lock::conformance::Fixture;
use trine_lock::{LockBackend, Observed};
use trine_testkit::MariaDb;

use super::{assert_polled, store};

/// An engine at this address, without tables.
pub(crate) fn open(url: &str) -> Database {
    let config = DbConfig::mysql(Secret::new(url), []);
    let mysql = MysqlConfig::new(Secret::new(url));
    engine(&config, &mysql, config.query_timeout.get())
}

/// One that waits for nothing long.
pub(crate) fn open_far(url: &str) -> Database {
    let config = DbConfig::mysql(Secret::new(url), []);
    let mut mysql = MysqlConfig::new(Secret::new(url));
    mysql.pool.connect_timeout = Duration::from_secs(1).into();
    mysql.pool.acquire_timeout = Duration::from_secs(2).into();
    engine(&config, &mysql, Duration::from_secs(3))
}

fn engine(config: &DbConfig, mysql: &MysqlConfig, query_timeout: Duration) -> Database {
    let name = DatabaseName::Named("locks".into());
    let engine = MysqlBackend::open(&name, mysql, query_timeout).unwrap();
    Database::with_backend("locks", engine, config)
}

/// Checks that run together: their leases are short, and a machine that is busy
/// with all of them renews some too late.
static TOGETHER: Semaphore = Semaphore::const_new(6);

async fn connect() -> Fixture {
    let turn = TOGETHER.acquire().await.unwrap();
    let server = MariaDb::shared().await.unwrap();
    let own = server.database().await.unwrap();
    let database = open(&own.url());
    database.migrate_with(&trine_lock::migrations()).await.unwrap();
    let backend = move || -> Arc<dyn LockBackend> {
        let store = store(&database, Arc::new(SystemClock));
        assert_polled(&store, true);
        Arc::new(Observed::new(store, &Metrics::new("lock")))
    };
    Fixture::new(backend, (own, turn)).with_slow_store()
}

trine_lock::conformance_tests!(suite, super::connect);
