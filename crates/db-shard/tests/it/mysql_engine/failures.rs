//! What the server's errors become.

use super::*;
use trine_db_shard::{BeginOptions, Conflict};

async fn fails(backend: &MysqlBackend, text: &'static str) -> Error {
    backend.run(call(), write(text, vec![])).await.unwrap_err()
}

#[tokio::test]
async fn constraints_and_bad_statements_have_their_kinds() {
    let (_database, backend) = backend(1).await;
    run(
        &backend,
        "CREATE TABLE account (id INT PRIMARY KEY, email VARCHAR(10) NOT NULL, age TINYINT, \
         UNIQUE KEY by_email (email), CONSTRAINT adult CHECK (age >= 18))",
        vec![],
    )
    .await;
    run(&backend, "CREATE TABLE note (id INT, FOREIGN KEY (id) REFERENCES account (id))", vec![])
        .await;
    run(&backend, "INSERT INTO account VALUES (1, 'a@b', 20)", vec![]).await;
    run(&backend, "INSERT INTO note VALUES (1)", vec![]).await;

    let error = fails(&backend, "INSERT INTO account VALUES (2, 'a@b', 20)").await;
    assert_eq!(error.unique_key(), Some(Some("by_email")));
    let error = fails(&backend, "INSERT INTO account VALUES (1, 'c', 20)").await;
    assert_eq!(error.unique_key(), Some(Some("PRIMARY")));

    for (text, expected) in [
        ("INSERT INTO note VALUES (9)", "foreign key"),
        ("DELETE FROM account", "foreign key"),
        ("INSERT INTO account VALUES (3, NULL, 20)", "needs a value"),
        ("INSERT INTO account (id) VALUES (3)", "needs a value"),
        ("INSERT INTO account VALUES (3, 'c', 17)", "check"),
        ("INSERT INTO account VALUES (3, 'longer than ten', 20)", "does not fit"),
        ("INSERT INTO account VALUES (3, 'c', 300)", "does not fit"),
        ("INSERT INTO account VALUES (3, 'c', 'x')", "does not fit"),
        ("SELEC 1", "cannot be run"),
        ("SELECT * FROM nowhere", "cannot be run"),
        ("SELECT nothing FROM account", "cannot be run"),
        ("SELECT 1; SELECT 2", "cannot be run"),
        ("SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'mine'", "signalled"),
    ] {
        let (kind, told) = told(&fails(&backend, text).await);
        assert_eq!(kind, ErrorKind::Invalid, "{text}: {told}");
        assert!(told.contains(expected), "{text}: {told}");
    }
    let (kind, _) = told(&fails(&backend, "SELECT * FROM mysql.global_priv").await);
    assert_eq!(kind, ErrorKind::Denied);
    assert_eq!(one(&backend, "SELECT COUNT(*) FROM account").await, Value::Int(1));
    assert_eq!(backend.stats().connects, 1, "such errors leave the connection in order");
}

#[tokio::test]
async fn a_deadlock_is_a_conflict_and_ends_its_transaction() {
    let (_database, backend) = backend(3).await;
    run(&backend, "CREATE TABLE t (id INT PRIMARY KEY, n INT)", vec![]).await;
    run(&backend, "INSERT INTO t VALUES (1, 0), (2, 0)", vec![]).await;
    let mut first = backend.begin(call(), BeginOptions::default()).await.unwrap();
    let mut second = backend.begin(call(), BeginOptions::default()).await.unwrap();
    let touch = |id: i64| write("UPDATE t SET n = n + 1 WHERE id = ?", vec![Value::Int(id)]);
    first.run(call(), touch(1)).await.unwrap();
    second.run(call(), touch(2)).await.unwrap();
    let (a, b) = tokio::join!(first.run(call(), touch(2)), second.run(call(), touch(1)));
    let (mut won, mut lost, error) = match (a, b) {
        (Ok(_), Err(error)) => (first, second, error),
        (Err(error), Ok(_)) => (second, first, error),
        other => panic!("expected one deadlock: {other:?}"),
    };
    assert!(error.is_deadlock() && error.is_retryable());
    // Now in autocommit mode: whatever ran here would stay.
    let after = lost.run(call(), touch(1)).await.unwrap_err();
    assert_eq!(after.kind(), ErrorKind::Interrupted);
    assert_eq!(lost.commit(call()).await.unwrap_err().kind(), ErrorKind::Interrupted);
    won.run(call(), touch(1)).await.unwrap();
    won.commit(call()).await.unwrap();
    assert_eq!(one(&backend, "SELECT SUM(n) FROM t").await, Value::Decimal("3".into()));
}

#[tokio::test]
async fn a_lock_that_is_not_given_is_a_time_out_and_leaves_the_transaction() {
    let database = database().await;
    let backend =
        MysqlBackend::open(&name(), &config(&database.url(), 2), Duration::from_secs(2)).unwrap();
    run(&backend, "CREATE TABLE t (id INT PRIMARY KEY)", vec![]).await;
    run(&backend, "INSERT INTO t VALUES (1)", vec![]).await;
    let mut holder = backend.begin(call(), BeginOptions::default()).await.unwrap();
    let lock = "SELECT id FROM t WHERE id = 1 FOR UPDATE";
    holder.run(call(), read(lock, vec![])).await.unwrap();
    let mut waiter = backend.begin(call(), BeginOptions::default()).await.unwrap();
    waiter.run(call(), write("INSERT INTO t VALUES (2)", vec![])).await.unwrap();
    for text in ["SELECT id FROM t WHERE id = 1 FOR UPDATE NOWAIT", lock] {
        let call = call_of(Duration::from_secs(2));
        let (kind, text) = told(&waiter.run(call, read(text, vec![])).await.unwrap_err());
        assert_eq!(kind, ErrorKind::Timeout, "{text}");
        assert!(text.contains("innodb_lock_wait_timeout"), "{text}");
    }
    waiter.commit(call()).await.unwrap();
    assert_eq!(one(&backend, "SELECT COUNT(*) FROM t").await, Value::Int(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_a_lock_wait_ends_the_transaction_nothing_runs_after_it() {
    let server =
        MariaDb::builder().option("innodb_rollback_on_timeout", "ON").start().await.unwrap();
    let backend = open(&config(&server.url(), 2));
    run(&backend, "CREATE TABLE t (id INT PRIMARY KEY)", vec![]).await;
    run(&backend, "INSERT INTO t VALUES (1)", vec![]).await;
    let lock = "SELECT id FROM t WHERE id = 1 FOR UPDATE";
    let mut holder = backend.begin(call(), BeginOptions::default()).await.unwrap();
    holder.run(call(), read(lock, vec![])).await.unwrap();
    let mut waiter = backend.begin(call(), BeginOptions::default()).await.unwrap();
    waiter.run(call(), write("SET innodb_lock_wait_timeout = 1", vec![])).await.unwrap();
    let error = waiter.run(call(), read(lock, vec![])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let insert = write("INSERT INTO t VALUES (2)", vec![]);
    assert_eq!(waiter.run(call(), insert).await.unwrap_err().kind(), ErrorKind::Interrupted);
    drop((waiter, holder));
    assert_eq!(one(&backend, "SELECT COUNT(*) FROM t").await, Value::Int(1));
}

#[tokio::test]
async fn the_server_ends_a_statement_that_takes_too_long() {
    let (_database, backend) = backend(1).await;
    // Evaluated row by row, so that the limit is looked at.
    let slow = "SET STATEMENT max_statement_time = 0.1 FOR \
                SELECT COUNT(*) FROM seq_1_to_100000 a, seq_1_to_100000 b WHERE a.seq * b.seq = 7";
    let (kind, text) = told(&backend.run(call(), read(slow, vec![])).await.unwrap_err());
    assert_eq!(kind, ErrorKind::Timeout, "{text}");
    let limit = "SELECT @@max_statement_time";
    assert_eq!(one(&backend, limit).await, Value::Float(30.0));
    // A call that is given more time than usual gets it there too, and only it.
    let longer = backend.run(call_of(TIMEOUT * 3), read(limit, vec![])).await.unwrap();
    assert_eq!(only(&longer), Value::Float(120.0));
    assert_eq!(one(&backend, limit).await, Value::Float(30.0));
    assert_eq!(backend.stats().connects, 1);
}

#[tokio::test]
async fn every_session_is_set_up_the_same_way() {
    let (_database, backend) = backend(1).await;
    for (text, expected) in [
        ("SELECT @@time_zone", "+00:00"),
        ("SELECT @@character_set_client", "utf8mb4"),
        ("SELECT @@tx_isolation", "READ-COMMITTED"),
        ("SELECT 'a' || 'b'", "ab"),
        ("SELECT \"text\"", "text"),
        ("SELECT 'it\\'s'", "it's"),
    ] {
        assert_eq!(one(&backend, text).await, Value::from(expected), "{text}");
    }
    assert_eq!(one(&backend, "SELECT @@autocommit").await, Value::Int(1));
    assert_eq!(one(&backend, "SELECT @@innodb_lock_wait_timeout").await, Value::Int(15));
}

#[tokio::test]
async fn a_bad_address_or_account_is_told_without_the_password() {
    for url in [
        "mysql://me:hunter2@host/db?ssl-mode=SOMETIMES",
        "mysql://me:hunter2@host/db?sslmode=REQUIRED",
        "mysql://me:hunter2@host",
        "mysql://me:hunter2@host:port/db",
        "postgres://me:hunter2@host/db",
        "hunter2",
    ] {
        let error = MysqlBackend::open(&name(), &config(url, 1), TIMEOUT).unwrap_err();
        let (kind, text) = told(&error);
        assert_eq!(kind, ErrorKind::Invalid, "{text}");
        assert!(!format!("{text} {error:?}").contains("hunter2"), "{text}");
    }
    let database = database().await;
    let url = database.url();
    let (before, after) = url.split_once('@').unwrap();
    let (account, _) = before.rsplit_once(':').unwrap();
    let backend = open(&config(&format!("{account}:hunter2@{after}"), 1));
    let error = backend.prove(call()).await.unwrap_err();
    let (kind, text) = told(&error);
    assert_eq!(kind, ErrorKind::Denied, "{text}");
    assert!(!format!("{text} {error:?} {backend:?}").contains("hunter2"), "{text}");

    let (server, _) = url.rsplit_once('/').unwrap();
    let backend = open(&config(&format!("{server}/trine_test_nowhere"), 1));
    let (kind, text) = told(&backend.prove(call()).await.unwrap_err());
    assert!(matches!(kind, ErrorKind::Invalid | ErrorKind::Denied), "{text}");
}

#[tokio::test]
async fn a_statement_larger_than_a_packet_is_invalid() {
    let (_database, backend) = backend(1).await;
    let huge = Value::from(vec![0_u8; 40 << 20]);
    let (kind, text) =
        told(&backend.run(call(), write("SELECT LENGTH(?)", vec![huge])).await.unwrap_err());
    // The server may close the connection before it has read the whole.
    assert!(
        matches!(kind, ErrorKind::Invalid | ErrorKind::Unavailable | ErrorKind::OutcomeUnknown),
        "{text}"
    );
    assert_eq!(one(&backend, "SELECT 1").await, Value::Int(1));
}

#[tokio::test]
async fn a_transaction_that_only_reads_refuses_to_write_and_goes_on() {
    let (_database, backend) = backend(1).await;
    run(&backend, "CREATE TABLE t (n INT)", vec![]).await;
    let mut options = BeginOptions::default();
    options.access = Access::Read;
    let mut reader = backend.begin(call(), options).await.unwrap();
    let error = reader.run(call(), write("INSERT INTO t VALUES (1)", vec![])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(!matches!(error, Error::Conflict { conflict: Conflict::Deadlock, .. }));
    reader.run(call(), read("SELECT * FROM t", vec![])).await.unwrap();
    reader.commit(call()).await.unwrap();
    assert_eq!(backend.stats().connects, 1);
}
