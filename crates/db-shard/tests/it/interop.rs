//! Statements of the host's own driver inside Trine's transactions.

mod host;

mod mariadb {
    use trine_core::{ErrorKind, Secret};
    use trine_db_shard::{DbConfig, DbService, MigrateMode};
    use trine_testkit::MariaDb;

    #[trine_testkit::test]
    async fn a_lent_connection_belongs_to_the_transaction() {
        let server = MariaDb::shared().await.unwrap();
        let database = server.database().await.unwrap();
        let config = DbConfig::mysql(Secret::new(database.url()), []);
        let db = DbService::connect(&config.with_migrate(MigrateMode::Auto)).await.unwrap();
        let db = db.global();
        db.execute("CREATE TABLE item (id BIGINT PRIMARY KEY) ENGINE=InnoDB", ()).await.unwrap();
        for keep in [false, true] {
            let mut tx = db.begin().await.unwrap();
            let connection = tx.as_mysql().unwrap();
            sqlx::query("INSERT INTO item VALUES (?)")
                .bind(1_i64)
                .execute(connection)
                .await
                .unwrap();
            let inside: u64 = tx.query_one("SELECT COUNT(*) FROM item", ()).await.unwrap();
            assert_eq!(inside, 1);
            if keep {
                tx.commit().await.unwrap();
            } else {
                tx.rollback().await.unwrap();
            }
            let kept: bool = db.query_one("SELECT COUNT(*) FROM item", ()).await.unwrap();
            assert_eq!(kept, keep);
        }
    }

    /// The transaction is broken, or in step again: never an answer behind.
    #[trine_testkit::test]
    async fn a_dropped_future_of_the_driver_leaves_no_foreign_answer() {
        let server = MariaDb::shared().await.unwrap();
        let database = server.database().await.unwrap();
        let config = DbConfig::mysql(Secret::new(database.url()), []);
        let db = DbService::connect(&config.with_migrate(MigrateMode::Auto)).await.unwrap();
        for millis in [0, 1, 2, 5, 20, 100] {
            let mut tx = db.global().begin().await.unwrap();
            let slow = sqlx::query("SELECT SLEEP(0.3), 7").fetch_one(tx.as_mysql().unwrap());
            let limit = std::time::Duration::from_millis(millis);
            tokio::time::timeout(limit, slow).await.unwrap_err();
            match tx.query_one::<u64>("SELECT 1", ()).await {
                Ok(answer) => {
                    assert_eq!(answer, 1);
                    tx.commit().await.unwrap();
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}");
                    assert_eq!(tx.commit().await.unwrap_err().kind(), ErrorKind::Interrupted);
                }
            }
        }
    }

    #[tokio::test]
    async fn another_engine_has_no_such_connection() {
        let folder = tempfile::tempdir().unwrap();
        let db = DbService::connect(&DbConfig::sqlite(&folder, 0)).await.unwrap();
        let mut tx = db.global().begin().await.unwrap();
        assert_eq!(tx.as_mysql().unwrap_err().kind(), ErrorKind::Unsupported);
    }
}
