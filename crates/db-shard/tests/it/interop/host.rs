//! A host that keeps its own pool, and its own transactions.

use std::time::Duration;

use sqlx::mysql::{MySqlConnectOptions, MySqlPool, MySqlPoolOptions};
use sqlx::{Connection as _, MySqlConnection, SqliteConnection};
use tokio::time::timeout;
use trine_core::{CallContext, Deadline, ErrorKind, Fence, MigrationScope};
use trine_core::{MigrationSet, MigrationStep};
use trine_db_shard::{Database, DbConfig, DbService, HostConnection, Inbox, Once};
use trine_testkit::{MariaDb, TestDatabase};

const SLOTS: u32 = 3;

fn tables() -> MigrationSet {
    MigrationSet::new("item", MigrationScope::Shards).step(
        MigrationStep::new(1, "item").on(
            "mysql",
            ["CREATE TABLE item (id BIGINT PRIMARY KEY, at DATETIME(6)) ENGINE=InnoDB"],
        ),
    )
}

async fn pool(database: &TestDatabase) -> MySqlPool {
    MySqlPoolOptions::new()
        .max_connections(SLOTS)
        .acquire_timeout(Duration::from_millis(300))
        .connect(&database.url())
        .await
        .unwrap()
}

#[trine_testkit::test]
async fn a_host_pool_serves_statements_transactions_and_migrations() {
    let server = MariaDb::shared().await.unwrap();
    let database = server.database().await.unwrap();
    let pool = pool(&database).await;
    let db = Database::from_mysql_pool(pool.clone());
    assert_eq!(db.migrate_with(&[tables()]).await.unwrap().len(), 2);
    assert!(db.migrate_with(&[tables()]).await.unwrap().is_empty());
    db.execute("INSERT INTO item (id) VALUES (?)", (1,)).await.unwrap();
    let other = &db;
    db.transaction::<_, trine_db_shard::Error, _, _>(|mut tx| async move {
        let level: String = tx
            .query_one("SELECT /*M! @@tx_isolation */ /*!80000 @@transaction_isolation */", ())
            .await?;
        assert_eq!(level, "REPEATABLE-READ", "the session keeps the level of its host");
        tx.execute("INSERT INTO item (id) VALUES (?)", (2,)).await?;
        // Read committed all the same: it sees what others commit meanwhile.
        let before: i64 = tx.query_one("SELECT COUNT(*) FROM item", ()).await?;
        other.execute("INSERT INTO item (id) VALUES (?)", (3,)).await?;
        let after: i64 = tx.query_one("SELECT COUNT(*) FROM item", ()).await?;
        assert_eq!((before, after), (2, 3));
        Ok(())
    })
    .await
    .unwrap();
    let inbox = Inbox::new("consumer");
    for expected in [Once::First, Once::Repeated] {
        let inbox = &inbox;
        let found = db.transaction(|mut tx| async move { inbox.once(&mut tx, "m").await });
        assert_eq!(found.await.unwrap(), expected);
    }
    assert!(!db.ping().await.unwrap().version.is_empty());
    assert_eq!(db.stats().max, SLOTS as usize);
    assert_eq!(pool.acquire().await.unwrap().ping().await.ok(), Some(()));
    assert_eq!(db.name().to_string(), database.name());
}

/// The driver's own pool would hand the connection on, an answer behind, or
/// lose its place.
#[trine_testkit::test]
async fn a_dropped_call_costs_the_host_one_connection_and_no_place() {
    let server = MariaDb::shared().await.unwrap();
    let database = server.database().await.unwrap();
    let pool = pool(&database).await;
    let db = Database::from_mysql_pool(pool.clone());
    for round in 0..20_i64 {
        let slow = db.query_one::<i64>("SELECT SLEEP(0.2) + 7", ());
        assert!(timeout(Duration::from_millis(10), slow).await.is_err());
        let mut tx = db.begin().await.unwrap();
        let slow = tx.query_one::<i64>("SELECT SLEEP(0.2) + 7", ());
        assert!(timeout(Duration::from_millis(10), slow).await.is_err());
        drop(tx);
        let found: i64 = db.query_one("SELECT ?", (round,)).await.unwrap();
        assert_eq!(found, round);
        assert!(pool.size() <= SLOTS);
    }
    assert_eq!(db.stats().abandoned, 40);
    let all = (0..SLOTS).map(|_| pool.acquire());
    assert!(futures_util::future::join_all(all).await.iter().all(Result::is_ok));
}

#[trine_testkit::test]
async fn an_open_transaction_never_goes_back_to_the_host() {
    let server = MariaDb::shared().await.unwrap();
    let database = server.database().await.unwrap();
    let db = Database::from_mysql_pool(pool(&database).await);
    db.migrate_with(&[tables()]).await.unwrap();
    for id in 0..10 {
        let mut tx = db.begin().await.unwrap();
        tx.execute("INSERT INTO item (id) VALUES (?)", (id,)).await.unwrap();
        drop(tx);
    }
    // Waits for the locks of whatever is still open.
    let done = db.execute("DELETE FROM item", ()).await.unwrap();
    assert_eq!(done.affected, 0);
}

#[trine_testkit::test]
async fn a_full_or_misfit_pool_is_a_clear_error() {
    let server = MariaDb::shared().await.unwrap();
    let database = server.database().await.unwrap();
    let pool = pool(&database).await;
    let db = Database::from_mysql_pool(pool.clone());
    let held = futures_util::future::join_all((0..SLOTS).map(|_| pool.acquire())).await;
    let error = db.query_one::<i64>("SELECT 1", ()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted, "{error}");
    assert!(error.to_string().contains("max_connections of the host's pool"), "{error}");
    let deadline = Deadline::after(Duration::from_millis(50));
    let within = CallContext::current().with_deadline(deadline);
    let error = within.scope(db.query_one::<i64>("SELECT 1", ())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    drop(held);
    for (zone, expected) in [("+02:00", false), ("+00:00", true)] {
        let options: MySqlConnectOptions = database.url().parse().unwrap();
        let other =
            MySqlPoolOptions::new().connect_lazy_with(options.timezone(Some(zone.to_owned())));
        let answer = Database::from_mysql_pool(other).query_one::<i64>("SELECT 1", ()).await;
        assert_eq!(answer.is_ok(), expected, "{zone}");
        if let Err(error) = answer {
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains("time_zone +02:00: expected +00:00"), "{error}");
        }
    }
}

#[trine_testkit::test]
async fn a_stale_fence_and_a_repeated_message_are_told_on_connections_of_the_host() {
    let server = MariaDb::shared().await.unwrap();
    let database = server.database().await.unwrap();
    Database::from_mysql_pool(pool(&database).await).migrate_with(&[]).await.unwrap();
    let mut connection = MySqlConnection::connect(&database.url()).await.unwrap();
    let mut tx = connection.begin().await.unwrap();
    takes_part(&mut *tx).await;
    tx.commit().await.unwrap();
    let mut tx = connection.begin().await.unwrap();
    remembers(&mut *tx).await;

    let folder = tempfile::tempdir().unwrap();
    let db = DbService::connect(&DbConfig::sqlite(folder.path(), 0)).await.unwrap();
    db.shutdown(Deadline::after(Duration::from_secs(5))).await.unwrap();
    let file = folder.path().join("global.db");
    let mut connection = SqliteConnection::connect(file.to_str().unwrap()).await.unwrap();
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await.unwrap();
    takes_part(&mut *tx).await;
    tx.commit().await.unwrap();
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await.unwrap();
    remembers(&mut *tx).await;
}

fn fence(token: u64) -> Fence {
    Fence::new("lock.default/order:42", token).unwrap()
}

async fn takes_part<C: HostConnection>(connection: &mut C) {
    connection.guard(&fence(7)).await.unwrap();
    connection.guard(&fence(8)).await.unwrap();
    let inbox = Inbox::new("consumer");
    assert_eq!(inbox.once_on(connection, "m").await.unwrap(), Once::First);
    let error = inbox.once_on(connection, "").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
}

async fn remembers<C: HostConnection>(connection: &mut C) {
    let error = connection.guard(&fence(7)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
    let once = Inbox::new("consumer").once_on(connection, "m").await.unwrap();
    assert_eq!(once, Once::Repeated);
}

// DB-20
/// Whoever shows a token second waits for the first transaction to end.
#[trine_testkit::test]
async fn a_fence_of_the_host_holds_until_its_transaction_ends() {
    let server = MariaDb::shared().await.unwrap();
    let database = server.database().await.unwrap();
    let db = Database::from_mysql_pool(pool(&database).await);
    db.migrate_with(&[]).await.unwrap();
    let mut connection = MySqlConnection::connect(&database.url()).await.unwrap();
    let mut tx = connection.begin().await.unwrap();
    tx.guard(&fence(7)).await.unwrap();
    let (newer, held) = (fence(8), Duration::from_millis(100));
    let raise = db.raise(&newer);
    tokio::pin!(raise);
    assert!(timeout(held, &mut raise).await.is_err(), "the row is locked");
    tx.commit().await.unwrap();
    raise.await.unwrap();
}

#[trine_testkit::test]
async fn a_shutdown_waits_for_handlers_and_leaves_the_hosts_pool_open() {
    let server = MariaDb::shared().await.unwrap();
    let database = server.database().await.unwrap();
    let pool = pool(&database).await;
    let db = Database::from_mysql_pool(pool.clone());
    let (ended, mut has_ended) = tokio::sync::watch::channel(false);
    let mut tx = db.begin().await.unwrap();
    tx.after_commit(async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        ended.send_replace(true);
        Ok::<_, std::convert::Infallible>(())
    });
    tx.commit().await.unwrap();
    db.shutdown(Deadline::after(Duration::from_secs(20))).await.unwrap();
    assert!(*has_ended.borrow_and_update());
    let error = db.query_one::<i64>("SELECT 1", ()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    let ok = [("executor", "default"), ("outcome", "ok")];
    assert_eq!(db.metrics().counter("trine_db_after_commit_handlers_total", &ok), Some(1));
    assert!(pool.acquire().await.is_ok());

    let folder = tempfile::tempdir().unwrap();
    let service = DbService::connect(&DbConfig::sqlite(folder.path(), 0)).await.unwrap();
    let error = service.global().shutdown(Deadline::after(Duration::ZERO)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
}
