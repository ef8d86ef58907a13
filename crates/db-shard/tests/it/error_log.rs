//! The error log: what procedures and their twins leave behind when they fail.

use std::time::Duration;

use trine_core::{Deadline, ErrorKind};
use trine_db_shard::{Database, DbService, ErrorRecord};

async fn close(service: DbService) {
    service.shutdown(Deadline::after(Duration::from_secs(5))).await.unwrap();
}

async fn count(db: &Database, table: &'static str) -> i64 {
    let text = match table {
        "account" => "SELECT COUNT(*) FROM account",
        _ => "SELECT COUNT(*) FROM trine_error_log",
    };
    db.query_one(text, ()).await.unwrap()
}

async fn records_come_back_newest_first_and_expire(db: &Database) {
    for number in 0..5 {
        let record = ErrorRecord::new("p", format!("failure {number}")).with_params("id=7");
        db.record_error(&record).await.unwrap();
    }
    let first = db.error_log(2, None).await.unwrap();
    let messages: Vec<_> = first.iter().map(|record| &*record.message).collect();
    assert_eq!(messages, ["failure 4", "failure 3"]);
    assert_eq!((&*first[0].procedure, &*first[0].params), ("p", "id=7"));
    let second = db.error_log(10, Some(first[1].id)).await.unwrap();
    assert_eq!(second.len(), 3);
    assert_eq!(second[0].message, "failure 2");
    assert!(first[0].created_at >= second[0].created_at);

    let mut old = ErrorRecord::new("p", "x".repeat(2_000));
    // Longer than the default of error_log_retention.
    old.created_at = old.created_at.minus(Duration::from_secs(31 * 24 * 3_600));
    db.record_error(&old).await.unwrap();
    assert_eq!(db.sweep().await.unwrap(), 1);
    assert_eq!(count(db, "trine_error_log").await, 5);
}

#[cfg(feature = "sqlite")]
mod sqlite {
    use tempfile::TempDir;
    use trine_core::{MigrationScope, MigrationSet, MigrationStep};
    use trine_db_shard::{DbConfig, DbDeps, Procedures};

    use super::*;

    async fn connect() -> (TempDir, DbService) {
        let folder = TempDir::new().unwrap();
        let set = MigrationSet::new("test", MigrationScope::Global).step(
            MigrationStep::new(1, "account").on(
                "sqlite",
                ["CREATE TABLE account (id INTEGER PRIMARY KEY, name TEXT NOT NULL)"],
            ),
        );
        let open = [
            "INSERT INTO account (id, name) VALUES (?, 'first')",
            "INSERT INTO account (id, name) VALUES (?, 'second')",
        ];
        let deps = DbDeps::default()
            .with_migrations(set)
            .with_procedures(Procedures::new().with_statements("open_twice", open));
        let service = DbService::open(&DbConfig::sqlite(folder.path(), 0), deps).unwrap();
        service.start().await.unwrap();
        (folder, service)
    }

    fn check(record: &ErrorRecord) {
        assert_eq!(record.procedure, "open_twice");
        assert_eq!(record.params, "[integer]");
        // SQLITE_CONSTRAINT_PRIMARYKEY.
        assert_eq!((record.number, &record.state), (Some(1555), &None));
        assert!(record.message.contains("UNIQUE constraint failed"), "{}", record.message);
    }

    #[trine_testkit::test]
    async fn records_come_back_newest_first_and_expire() {
        let (_folder, service) = connect().await;
        super::records_come_back_newest_first_and_expire(service.global()).await;
        close(service).await;
    }

    #[trine_testkit::test]
    async fn a_failed_twin_is_recorded_and_what_it_did_is_not_kept() {
        let (_folder, service) = connect().await;
        let db = service.global();
        let error = db.call_procedure("open_twice", (1,)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert_eq!(count(db, "account").await, 0);
        let records = db.error_log(10, None).await.unwrap();
        assert_eq!(records.len(), 1);
        check(&records[0]);
        close(service).await;
    }

    #[trine_testkit::test]
    async fn the_record_outlives_the_rollback_of_the_caller() {
        let (_folder, service) = connect().await;
        let db = service.global();
        let mut tx = db.begin().await.unwrap();
        tx.execute("INSERT INTO account (id, name) VALUES (7, 'mine')", ()).await.unwrap();
        tx.call_procedure("open_twice", (1,)).await.unwrap_err();
        tx.rollback().await.unwrap();
        assert_eq!(count(db, "account").await, 0);
        // It is written in the background.
        let records = loop {
            let records = db.error_log(10, None).await.unwrap();
            if !records.is_empty() {
                break records;
            }
            tokio::task::yield_now().await;
        };
        assert_eq!(records.len(), 1);
        check(&records[0]);
        close(service).await;
    }
}

#[cfg(feature = "mysql")]
mod mariadb {
    use sqlx::mysql::MySqlConnection;
    use sqlx::{AssertSqlSafe, Connection};
    use trine_core::{Report, Secret};
    use trine_db_shard::{DbConfig, MigrateMode};
    use trine_testkit::{MariaDb, TestDatabase};

    use super::*;

    /// The pattern of the documentation.
    fn procedure(name: &str, begin: &str, undo: &str) -> String {
        format!(
            "CREATE PROCEDURE {name}(IN p_id BIGINT)
             BEGIN
                 DECLARE EXIT HANDLER FOR SQLEXCEPTION
                 BEGIN
                     GET DIAGNOSTICS CONDITION 1 @state = RETURNED_SQLSTATE,
                         @number = MYSQL_ERRNO, @message = MESSAGE_TEXT;
                     {undo}
                     INSERT INTO trine_error_log
                         (procedure_name, error_state, error_number, error_message, params)
                         VALUES ('{name}', @state, @number, LEFT(@message, 1024),
                         CONCAT('id=', p_id));
                     RESIGNAL;
                 END;
                 {begin}
                 INSERT INTO account (id) VALUES (p_id);
                 INSERT INTO account (id) VALUES (p_id);
             END"
        )
    }

    async fn connect() -> (TestDatabase, DbService) {
        let database = MariaDb::shared().await.unwrap().database().await.unwrap();
        let config = DbConfig::mysql(Secret::new(database.url()), []);
        let service = DbService::connect(&config.with_migrate(MigrateMode::Auto)).await.unwrap();
        let mut connection = MySqlConnection::connect(&database.url()).await.unwrap();
        for text in [
            "CREATE TABLE account (id BIGINT NOT NULL PRIMARY KEY)".to_owned(),
            procedure("plain", "", ""),
            procedure("whole", "START TRANSACTION;", "ROLLBACK;"),
        ] {
            sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut connection).await.unwrap();
        }
        connection.close().await.unwrap();
        (database, service)
    }

    fn check(record: &ErrorRecord, procedure: &str) {
        assert_eq!(record.procedure, procedure);
        assert_eq!(record.params, "id=1");
        assert_eq!((record.number, record.state.as_deref()), (Some(1062), Some("23000")));
        assert!(record.message.contains("Duplicate entry '1'"), "{}", record.message);
    }

    #[trine_testkit::test]
    async fn records_come_back_newest_first_and_expire() {
        let (_database, service) = connect().await;
        super::records_come_back_newest_first_and_expire(service.global()).await;
        close(service).await;
    }

    #[trine_testkit::test]
    async fn without_a_transaction_the_record_and_the_changes_stay() {
        let (_database, service) = connect().await;
        let db = service.global();
        let error = db.call_procedure("plain", (1,)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(Report(&error).to_string().contains("Duplicate entry"), "the error was lost");
        check(&db.error_log(10, None).await.unwrap()[0], "plain");
        assert_eq!(count(db, "account").await, 1);
        close(service).await;
    }

    #[trine_testkit::test]
    async fn with_its_own_transaction_only_the_record_stays() {
        let (_database, service) = connect().await;
        let db = service.global();
        let error = db.call_procedure("whole", (1,)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        check(&db.error_log(10, None).await.unwrap()[0], "whole");
        assert_eq!(count(db, "account").await, 0);
        // The connection came back without a transaction of the procedure's.
        db.execute("INSERT INTO account (id) VALUES (5)", ()).await.unwrap();
        assert_eq!(count(db, "account").await, 1);
        close(service).await;
    }

    #[trine_testkit::test]
    async fn in_the_callers_transaction_the_record_shares_its_fate() {
        let (_database, service) = connect().await;
        let db = service.global();
        let mut tx = db.begin().await.unwrap();
        let error = tx.call_procedure("plain", (1,)).await.unwrap_err();
        tx.rollback().await.unwrap();
        assert_eq!(count(db, "trine_error_log").await, 0);
        assert_eq!(count(db, "account").await, 0);
        // What the caller does instead.
        let record = ErrorRecord::from_error("plain", &error).with_params("id=1");
        db.record_error(&record).await.unwrap();
        let stored = &db.error_log(1, None).await.unwrap()[0];
        assert_eq!((stored.number, stored.state.as_deref()), (Some(1062), Some("23000")));

        let mut tx = db.begin().await.unwrap();
        tx.call_procedure("plain", (1,)).await.unwrap_err();
        tx.commit().await.unwrap();
        assert_eq!(count(db, "trine_error_log").await, 2);
        assert_eq!(count(db, "account").await, 1);
        close(service).await;
    }
}
