//! Transactions, and what is left of them when they are dropped.

use super::*;
use trine_db_shard::{BeginOptions, Isolation, SavepointStep};

async fn with_table(max: u32) -> (TestDatabase, MysqlBackend) {
    let (database, backend) = backend(max).await;
    run(&backend, "CREATE TABLE t (n INT PRIMARY KEY)", vec![]).await;
    (database, backend)
}

fn insert(n: i64) -> Statement {
    write("INSERT INTO t VALUES (?)", vec![Value::Int(n)])
}

async fn count(backend: &MysqlBackend) -> Value {
    one(backend, "SELECT COUNT(*) FROM t").await
}

#[tokio::test]
async fn a_commit_keeps_and_a_rollback_undoes() {
    let (_database, backend) = with_table(1).await;
    let mut work = backend.begin(call(), BeginOptions::default()).await.unwrap();
    assert_eq!(work.isolation(), Isolation::ReadCommitted);
    work.run(call(), insert(1)).await.unwrap();
    work.commit(call()).await.unwrap();
    let mut work = backend.begin(call(), BeginOptions::default()).await.unwrap();
    work.run(call(), insert(2)).await.unwrap();
    work.rollback(call()).await.unwrap();
    assert_eq!(count(&backend).await, Value::Int(1));
    assert_eq!(backend.stats().connects, 1);
}

#[tokio::test]
async fn savepoints_undo_a_part() {
    let (_database, backend) = with_table(1).await;
    let mut work = backend.begin(call(), BeginOptions::default()).await.unwrap();
    work.run(call(), insert(1)).await.unwrap();
    work.savepoint(call(), SavepointStep::Set, 1).await.unwrap();
    work.run(call(), insert(2)).await.unwrap();
    work.savepoint(call(), SavepointStep::Set, 2).await.unwrap();
    work.run(call(), insert(3)).await.unwrap();
    work.savepoint(call(), SavepointStep::RollBack, 2).await.unwrap();
    work.savepoint(call(), SavepointStep::Release, 1).await.unwrap();
    let gone = work.savepoint(call(), SavepointStep::Release, 2).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::Invalid);
    work.commit(call()).await.unwrap();
    assert_eq!(count(&backend).await, Value::Int(2));
}

#[tokio::test]
async fn the_isolation_asked_for_holds_for_one_transaction() {
    let (_database, backend) = with_table(2).await;
    let mut options = BeginOptions::default();
    options.isolation = Some(Isolation::RepeatableRead);
    let mut work = backend.begin(call(), options).await.unwrap();
    assert_eq!(work.isolation(), Isolation::RepeatableRead);
    let all = || read("SELECT COUNT(*) FROM t", vec![]);
    assert_eq!(only(&work.run(call(), all()).await.unwrap()), Value::Int(0));
    backend.run(call(), insert(1)).await.unwrap();
    assert_eq!(only(&work.run(call(), all()).await.unwrap()), Value::Int(0));
    work.commit(call()).await.unwrap();

    let mut work = backend.begin(call(), BeginOptions::default()).await.unwrap();
    assert_eq!(only(&work.run(call(), all()).await.unwrap()), Value::Int(1));
    backend.run(call(), insert(2)).await.unwrap();
    assert_eq!(only(&work.run(call(), all()).await.unwrap()), Value::Int(2));
    work.rollback(call()).await.unwrap();
}

#[tokio::test]
async fn a_closed_list_happens_as_a_whole_or_not_at_all() {
    let (_database, backend) = with_table(1).await;
    let replies = backend.run_all(call(), vec![insert(1), insert(2)]).await.unwrap();
    assert_eq!(replies.iter().map(|reply| reply.done.affected).sum::<u64>(), 2);
    let error = backend.run_all(call(), vec![insert(3), insert(1)]).await.unwrap_err();
    assert_eq!(error.unique_key(), Some(Some("PRIMARY")));
    assert_eq!(count(&backend).await, Value::Int(2));
    assert_eq!(backend.stats().connects, 1);
}

#[tokio::test]
async fn a_transaction_that_is_dropped_is_rolled_back_and_gives_its_place_back() {
    let (_database, backend) = with_table(1).await;
    let mut work = backend.begin(call(), BeginOptions::default()).await.unwrap();
    work.run(call(), insert(1)).await.unwrap();
    drop(work);
    // The same row again: it would wait for the lock of a transaction left open.
    backend.run(call(), insert(1)).await.unwrap();
    assert_eq!(count(&backend).await, Value::Int(1));
    assert_eq!(backend.stats().connects, 1, "a rollback is all it takes");
    assert_eq!(backend.stats().cancelled, 0);
}

#[tokio::test]
async fn nothing_is_committed_after_a_statement_was_dropped() {
    let (_database, backend) = with_table(1).await;
    let mut work = backend.begin(call(), BeginOptions::default()).await.unwrap();
    work.run(call(), insert(1)).await.unwrap();
    let slow = work.run(call(), read("SELECT SLEEP(20)", vec![]));
    assert!(tokio::time::timeout(Duration::from_millis(50), slow).await.is_err());
    let error = work.run(call(), insert(2)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    assert_eq!(work.commit(call()).await.unwrap_err().kind(), ErrorKind::Interrupted);
    assert_eq!(count(&backend).await, Value::Int(0));
    let stats = backend.stats();
    assert_eq!((stats.cancelled, stats.abandoned), (1, 0));
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_unknown() {
    let (database, direct) = with_table(1).await;
    let proxy = trine_testkit::Proxy::to(database.addr().await.unwrap()).await.unwrap();
    let backend = open(&config(&database.url_via(proxy.addr()), 1));
    for (n, flow) in [(1, trine_testkit::Flow::CutAfter(1)), (2, trine_testkit::Flow::Hang)] {
        let mut work = backend.begin(call(), BeginOptions::default()).await.unwrap();
        work.run(call(), insert(n)).await.unwrap();
        proxy.set_replies(flow);
        let error = work.commit(call_of(Duration::from_millis(300))).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{flow:?}: {error:?}");
        proxy.set_replies(trine_testkit::Flow::Pass);
        proxy.kill_all();
        assert_eq!(count(&direct).await, Value::Int(n), "{flow:?}: it did happen");
    }
}

#[tokio::test]
async fn work_lost_before_its_commit_is_known_not_to_have_happened() {
    let (database, direct) = with_table(1).await;
    let proxy = trine_testkit::Proxy::to(database.addr().await.unwrap()).await.unwrap();
    let backend = open(&config(&database.url_via(proxy.addr()), 1));
    let mut work = backend.begin(call(), BeginOptions::default()).await.unwrap();
    proxy.set_replies(trine_testkit::Flow::CutAfter(0));
    let error = work.run(call(), insert(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(work.commit(call()).await.unwrap_err().kind(), ErrorKind::Interrupted);
    assert_eq!(count(&direct).await, Value::Int(0));
}

#[cfg(feature = "sqlx-0_9")]
mod lent {
    use super::*;
    use trine_db_shard::{ConnectionConfig, Database, DbConfig, DbService};

    /// A database with one connection.
    async fn lone(database: &TestDatabase) -> (DbService, Database) {
        let mut config = DbConfig::mysql(Secret::new(database.url()), []);
        for connection in config.connections.values_mut() {
            if let ConnectionConfig::Mysql(connection) = connection {
                connection.pool.max = NonZeroU32::MIN;
            }
        }
        config.migrate = Some(trine_db_shard::MigrateMode::Auto);
        let service = DbService::connect(&config).await.unwrap();
        let global = service.global().clone();
        global.execute("CREATE TABLE t (n INT)", ()).await.unwrap();
        (service, global)
    }

    async fn leave_half_way(tx: &mut trine_db_shard::Tx) {
        tx.execute("INSERT INTO t VALUES (1)", ()).await.unwrap();
        let driver = tx.as_mysql().unwrap();
        let slow = sqlx::query("SELECT SLEEP(20), ?").bind(1).fetch_all(driver);
        assert!(tokio::time::timeout(Duration::from_millis(100), slow).await.is_err());
    }

    #[tokio::test]
    async fn a_lent_connection_that_is_left_half_way_is_never_used_again() {
        let database = database().await;
        let (_service, global) = lone(&database).await;
        let mut tx = global.begin().await.unwrap();
        leave_half_way(&mut tx).await;
        drop(tx);
        assert_eq!(global.query_one::<i64>("SELECT COUNT(*) FROM t", ()).await.unwrap(), 0);
        let stats = global.stats();
        assert_eq!((stats.cancelled, stats.abandoned), (1, 0));
    }
}
