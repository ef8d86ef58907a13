//! Inboxes and fences: which keys are one, and whose clock counts.

use std::time::Duration;

use trine_core::{ErrorKind, Fence};
use trine_db_shard::{Database, HostConnection, Inbox, Once, Result};

async fn once(db: &Database, inbox: &Inbox, id: &str) -> Result<Once> {
    db.transaction(|mut tx| async move { inbox.once(&mut tx, id).await }).await
}

/// Nothing is cut off, folded or padded.
async fn keys_are_their_bytes(db: &Database) {
    for (consumer, id) in [("c", "a"), ("c", "a "), ("c ", "a"), ("c", "A"), ("c", "\u{e4}")] {
        let inbox = Inbox::new(consumer);
        assert_eq!(once(db, &inbox, id).await.unwrap(), Once::First, "{consumer:?} {id:?}");
        assert_eq!(once(db, &inbox, id).await.unwrap(), Once::Repeated, "{consumer:?} {id:?}");
    }
    let long = "\u{e4}".repeat(127);
    assert_eq!(once(db, &Inbox::new("c"), &long).await.unwrap(), Once::First);
    let fence = |key: &str, token| Fence::new(key, token).unwrap();
    db.raise(&fence("lock.default/a", 9)).await.unwrap();
    db.raise(&fence("lock.default/a ", 3)).await.unwrap();
    let error = db.raise(&fence("lock.default/a", 3)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced);
}

async fn what_is_remembered_for_ever_stays<C: HostConnection>(db: &Database, host: &mut C) {
    let inbox = Inbox::new("c").with_retention(Duration::MAX);
    assert_eq!(once(db, &inbox, "a").await.unwrap(), Once::First);
    assert_eq!(inbox.once_on(host, "b").await.unwrap(), Once::First);
    assert_eq!(db.sweep().await.unwrap(), 0);
    for id in ["a", "b"] {
        assert_eq!(once(db, &inbox, id).await.unwrap(), Once::Repeated);
    }
}

mod sqlite {
    use sqlx::{Connection as _, SqliteConnection};
    use tempfile::TempDir;
    use trine_core::Deadline;
    use trine_db_shard::{DbConfig, DbService};

    use super::*;

    async fn connect() -> (TempDir, DbService) {
        let folder = TempDir::new().unwrap();
        let service = DbService::connect(&DbConfig::sqlite(folder.path(), 0)).await.unwrap();
        (folder, service)
    }

    #[trine_testkit::test]
    async fn keys_are_their_bytes() {
        let (_folder, service) = connect().await;
        super::keys_are_their_bytes(service.global()).await;
    }

    #[trine_testkit::test]
    async fn what_is_remembered_for_ever_stays() {
        let (folder, service) = connect().await;
        let file = folder.path().join("global.db");
        let mut host = SqliteConnection::connect(file.to_str().unwrap()).await.unwrap();
        super::what_is_remembered_for_ever_stays(service.global(), &mut host).await;
        host.close().await.unwrap();
        service.shutdown(Deadline::after(Duration::from_secs(5))).await.unwrap();
    }
}

mod mariadb {
    use sqlx::mysql::{MySqlConnection, MySqlPoolOptions};
    use sqlx::{AssertSqlSafe, Connection as _, Executor as _, MySqlPool};
    use trine_testkit::{MariaDb, TestDatabase};

    use super::*;

    async fn connect(database: &TestDatabase, ahead: Duration) -> (MySqlPool, Database) {
        let ahead = ahead.as_secs();
        let pool = MySqlPoolOptions::new()
            .max_connections(5)
            .after_connect(move |connection, _| {
                let set = format!("SET timestamp = UNIX_TIMESTAMP() + {ahead}");
                Box::pin(async move {
                    connection.execute(sqlx::raw_sql(AssertSqlSafe(set))).await.map(drop)
                })
            })
            .connect(&database.url())
            .await
            .unwrap();
        let db = Database::from_mysql_pool(pool.clone());
        db.migrate_with(&[]).await.unwrap();
        (pool, db)
    }

    #[trine_testkit::test]
    async fn keys_are_their_bytes() {
        let database = MariaDb::shared().await.unwrap().database().await.unwrap();
        let (_pool, db) = connect(&database, Duration::ZERO).await;
        super::keys_are_their_bytes(&db).await;
    }

    #[trine_testkit::test]
    async fn what_is_remembered_for_ever_stays() {
        let database = MariaDb::shared().await.unwrap().database().await.unwrap();
        let (_pool, db) = connect(&database, Duration::ZERO).await;
        let mut host = MySqlConnection::connect(&database.url()).await.unwrap();
        super::what_is_remembered_for_ever_stays(&db, &mut host).await;
        let late = "SELECT COUNT(*) FROM trine_inbox WHERE YEAR(expires_at) = 9999";
        assert_eq!(db.query_one::<i64>(late, ()).await.unwrap(), 2);
    }

    /// The sessions of the server are ten days ahead of this process.
    #[trine_testkit::test]
    async fn retention_is_told_by_the_clock_of_the_database() {
        let database = MariaDb::shared().await.unwrap().database().await.unwrap();
        let (pool, db) = connect(&database, Duration::from_secs(864_000)).await;
        let inbox = Inbox::new("c");
        assert_eq!(once(&db, &inbox, "a").await.unwrap(), Once::First);
        let mut host = pool.acquire().await.unwrap();
        assert_eq!(inbox.once_on(&mut *host, "b").await.unwrap(), Once::First);
        drop(host);
        let week = "SELECT COUNT(*) FROM trine_inbox \
                    WHERE TIMESTAMPDIFF(MINUTE, UTC_TIMESTAMP(6), expires_at) BETWEEN 10070 AND 10080";
        assert_eq!(db.query_one::<i64>(week, ()).await.unwrap(), 2);
        for text in [
            "UPDATE trine_inbox SET expires_at = UTC_TIMESTAMP(6) - INTERVAL 1 SECOND \
             WHERE message_id = 'a'",
            "INSERT INTO trine_error_log (procedure_name, error_message, params, created_at) \
             VALUES ('p', 'm', '', UTC_TIMESTAMP(6) - INTERVAL 31 DAY)",
        ] {
            assert_eq!(db.execute(text, ()).await.unwrap().affected, 1);
        }
        assert_eq!(db.sweep().await.unwrap(), 2);
        assert_eq!(once(&db, &inbox, "b").await.unwrap(), Once::Repeated);
    }
}
