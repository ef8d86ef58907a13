//! What a procedure leaves behind, and to whom.

use super::*;
use trine_db_shard::BeginOptions;

async fn with_procedures(procedures: &[&'static str]) -> (TestDatabase, MysqlBackend) {
    let (database, backend) = backend(1).await;
    run(&backend, "CREATE TABLE t (n INT PRIMARY KEY)", vec![]).await;
    for text in procedures {
        run(&backend, text, vec![]).await;
    }
    (database, backend)
}

fn insert(n: i64) -> Statement {
    write("INSERT INTO t VALUES (?)", vec![Value::Int(n)])
}

fn call_leaves() -> Statement {
    write("CALL leaves()", vec![])
}

async fn sum(database: &TestDatabase) -> Value {
    let other = open(&config(&database.url(), 1));
    one(&other, "SELECT CAST(SUM(n) AS INT) FROM t").await
}

const FAILS_OPEN: &str = "CREATE PROCEDURE leaves () BEGIN \
                          START TRANSACTION; INSERT INTO t VALUES (1); \
                          SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'mine'; END";
const ENDS_OPEN: &str = "CREATE PROCEDURE leaves () BEGIN \
                         INSERT INTO t VALUES (4); START TRANSACTION; INSERT INTO t VALUES (1); END";
const WITHOUT_AUTOCOMMIT: &str =
    "CREATE PROCEDURE leaves () BEGIN SET autocommit = 0; INSERT INTO t VALUES (1); END";

#[tokio::test]
async fn a_transaction_that_a_procedure_leaves_open_is_rolled_back_and_told() {
    for (procedure, detail, expected) in [
        (FAILS_OPEN, "signalled", 2),
        (ENDS_OPEN, "with a transaction open", 6),
        (WITHOUT_AUTOCOMMIT, "with a transaction open", 2),
    ] {
        let (database, backend) = with_procedures(&[procedure]).await;
        let (kind, text) = told(&backend.call(call(), call_leaves()).await.unwrap_err());
        assert_eq!(kind, ErrorKind::Invalid, "{text}");
        assert!(text.contains(detail), "{text}");
        backend.run(call(), insert(2)).await.unwrap();
        assert_eq!(sum(&database).await, Value::Int(expected), "{procedure}");
        assert_eq!(backend.stats().connects, 1);
    }
}

#[tokio::test]
async fn settings_and_locks_of_a_procedure_stay_with_it() {
    let changes = "CREATE PROCEDURE leaves () BEGIN \
                   SET time_zone = '+02:00'; SET max_statement_time = 1; \
                   SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE; \
                   SELECT GET_LOCK(CONCAT(DATABASE(), '.mine'), 0); END";
    let (database, backend) = with_procedures(&[changes]).await;
    let other = open(&config(&database.url(), 1));
    for in_transaction in [false, true] {
        if in_transaction {
            let mut work = backend.begin(call(), BeginOptions::default()).await.unwrap();
            work.call(call(), call_leaves()).await.unwrap();
            work.commit(call()).await.unwrap();
        } else {
            let sets = backend.call(call(), call_leaves()).await.unwrap();
            assert_eq!(sets[0].rows[0].values(), [Value::Int(1)]);
        }
        for (text, expected) in [
            ("SELECT @@time_zone", Value::from("+00:00")),
            ("SELECT @@max_statement_time", Value::Float(30.0)),
            ("SELECT @@tx_isolation", Value::from("READ-COMMITTED")),
        ] {
            assert_eq!(one(&backend, text).await, expected, "{text}");
        }
        let free = "SELECT IS_FREE_LOCK(CONCAT(DATABASE(), '.mine'))";
        assert_eq!(one(&other, free).await, Value::Int(1));
    }
    assert_eq!(backend.stats().connects, 1);
}

#[tokio::test]
async fn a_signal_with_the_number_of_a_deadlock_rolls_back_like_one() {
    let signals = "CREATE PROCEDURE leaves () \
                   SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213, MESSAGE_TEXT = 'mine'";
    let (database, backend) = with_procedures(&[signals]).await;
    for rolls_back in [true, false] {
        let mut work = backend.begin(call(), BeginOptions::default()).await.unwrap();
        work.run(call(), insert(1)).await.unwrap();
        let error = work.call(call(), call_leaves()).await.unwrap_err();
        assert!(error.is_deadlock(), "{error}");
        let after = work.run(call(), insert(2)).await.unwrap_err();
        assert_eq!(after.kind(), ErrorKind::Interrupted);
        if rolls_back {
            work.rollback(call()).await.unwrap();
        } else {
            drop(work);
        }
        backend.run(call(), insert(if rolls_back { 4 } else { 8 })).await.unwrap();
    }
    assert_eq!(sum(&database).await, Value::Int(12));
    assert_eq!(backend.stats().connects, 1);
}

#[tokio::test]
async fn nothing_runs_after_a_procedure_that_ends_the_transaction() {
    let commits = "CREATE PROCEDURE leaves () COMMIT";
    let undoes = "CREATE PROCEDURE undoes () BEGIN ROLLBACK; \
                  SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'mine'; END";
    let (database, backend) = with_procedures(&[commits, undoes]).await;
    for (n, text, detail) in
        [(1, "CALL leaves()", "has ended the transaction"), (2, "CALL undoes()", "signalled")]
    {
        let mut work = backend.begin(call(), BeginOptions::default()).await.unwrap();
        work.run(call(), insert(n)).await.unwrap();
        let (kind, text) = told(&work.call(call(), write(text, vec![])).await.unwrap_err());
        assert_eq!(kind, ErrorKind::Invalid, "{text}");
        assert!(text.contains(detail), "{text}");
        let after = work.run(call(), insert(n + 2)).await.unwrap_err();
        assert_eq!(after.kind(), ErrorKind::Interrupted);
        assert_eq!(work.commit(call()).await.unwrap_err().kind(), ErrorKind::Interrupted);
    }
    assert_eq!(sum(&database).await, Value::Int(1));
}

#[tokio::test]
async fn a_procedure_runs_once_whatever_it_answers() {
    let prepares = "CREATE PROCEDURE leaves () BEGIN \
                    INSERT INTO t SELECT COALESCE(MAX(n), 0) + 1 FROM t; COMMIT; \
                    PREPARE inner_one FROM 'PREPARE x FROM \"SELECT 1\"'; END";
    let (database, backend) = with_procedures(&[prepares]).await;
    let (kind, text) = told(&backend.call(call(), call_leaves()).await.unwrap_err());
    assert_eq!(kind, ErrorKind::Invalid, "{text}");
    assert!(text.contains("1295"), "{text}");
    assert_eq!(sum(&database).await, Value::Int(1));
}

#[cfg(feature = "sqlx-0_9")]
#[tokio::test]
async fn a_connection_of_the_host_goes_back_as_it_came() {
    use sqlx::mysql::MySqlPoolOptions;
    use trine_db_shard::Database;

    let (database, _backend) = with_procedures(&[FAILS_OPEN]).await;
    let pool = MySqlPoolOptions::new().max_connections(1).connect(&database.url()).await.unwrap();
    let db = Database::from_mysql_pool(pool.clone());
    assert_eq!(db.call_procedure("leaves", ()).await.unwrap_err().kind(), ErrorKind::Invalid);
    sqlx::query("INSERT INTO t VALUES (2)").execute(&pool).await.unwrap();
    assert_eq!(sum(&database).await, Value::Int(2));
    assert_eq!(db.stats().abandoned, 0);
}
