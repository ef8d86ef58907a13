//! Rolling tables: made ahead once, dropped by exact name only.

use std::time::{Duration, UNIX_EPOCH};

use futures_util::future::join_all;
use trine_core::{Deadline, ErrorKind};
use trine_db_shard::{Database, DbService, Period, RollingTable, Sql, Timestamp};

/// The 21st of November 2026, a Saturday, and whole days after it.
fn day(days: i64) -> Timestamp {
    let first = Timestamp::from(UNIX_EPOCH).plus(Duration::from_secs(20_778 * 86_400));
    Timestamp::from_micros(first.as_micros() + days * 86_400_000_000)
}

fn logins(period: Period) -> RollingTable {
    let create = Sql::per_engine()
        .sqlite("CREATE TABLE {table} (account INTEGER, at INTEGER)")
        .mysql("CREATE TABLE {table} (account BIGINT, at DATETIME(6), KEY (at))");
    RollingTable::new("login_log", period, create)
        .unwrap()
        .with_also(Sql::per_engine().sqlite("CREATE INDEX {table}_at ON {table} (at)"))
}

async fn is_there(db: &Database, table: &str) -> bool {
    db.query::<i64>(Sql::dynamic(format!("SELECT COUNT(*) FROM {table}")), ()).await.is_ok()
}

async fn tables_are_made_ahead_once(db: &Database) {
    let daily = logins(Period::Daily).with_ahead(2);
    let runs = join_all((0..8).map(|_| daily.ensure(db, day(0)))).await;
    let mut made: Vec<_> = runs.into_iter().flat_map(Result::unwrap).collect();
    made.sort();
    assert_eq!(made, ["login_log_20261121", "login_log_20261122", "login_log_20261123"]);
    for table in daily.tables_between(day(0), day(3)) {
        assert!(is_there(db, &table).await, "{table}");
    }
    assert_eq!(daily.ensure(db, day(0)).await.unwrap(), Vec::<String>::new());
    assert_eq!(daily.ensure(db, day(1)).await.unwrap(), ["login_log_20261124"]);
    db.execute(
        Sql::dynamic(format!("INSERT INTO {} (account) VALUES (?)", daily.table_for(day(1)))),
        (1,),
    )
    .await
    .unwrap();
}

async fn only_our_own_expired_tables_are_dropped(db: &Database) {
    let monthly = logins(Period::Monthly).with_retention(2);
    for months in [0, 31, 62, 93] {
        monthly.ensure(db, day(-months)).await.unwrap();
    }
    let strangers = [
        "login_log",
        "login_log_",
        "login_log_20200101",
        "login_log_202013",
        "login_log_old_202001",
        "loginxlog_202001",
        "xlogin_log_202001",
        "login_log_202001x",
    ];
    for table in strangers {
        db.execute(Sql::dynamic(format!("CREATE TABLE {table} (a INT)")), ()).await.unwrap();
    }
    assert!(logins(Period::Monthly).drop_expired(db, day(3_000)).await.unwrap().is_empty());
    let runs = join_all((0..2).map(|_| monthly.drop_expired(db, day(0)))).await;
    let mut dropped: Vec<_> = runs.into_iter().flat_map(Result::unwrap).collect();
    dropped.dedup();
    assert_eq!(dropped, ["login_log_202608"]);
    let kept = ["login_log_202609", "login_log_202610", "login_log_202611", "login_log_202612"];
    for table in strangers.iter().chain(&kept) {
        assert!(is_there(db, table).await, "{table} was dropped");
    }
    assert!(!is_there(db, "login_log_202608").await);
}

async fn a_text_that_makes_another_table_is_refused(db: &Database) {
    let create = |text| RollingTable::new("odd", Period::Weekly, Sql::portable(text)).unwrap();
    let other = if db.engine() == trine_db_shard::Engine::Sqlite {
        Sql::per_engine().mysql("CREATE TABLE {table} (a INT)")
    } else {
        Sql::per_engine().sqlite("CREATE TABLE {table} (a INT)")
    };
    for rolling in [
        create("CREATE TABLE odd (a INT)"),
        create("DROP TABLE {table}"),
        RollingTable::new("odd", Period::Weekly, other).unwrap(),
    ] {
        let error = rolling.ensure(db, day(0)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
    let broken = create("CREATE TABLE {table} (a INT, a INT)");
    assert_eq!(broken.ensure(db, day(0)).await.unwrap_err().kind(), ErrorKind::Invalid);
}

async fn close(service: DbService) {
    service.shutdown(Deadline::after(Duration::from_secs(5))).await.unwrap();
}

#[cfg(feature = "sqlite")]
mod sqlite {
    use tempfile::TempDir;
    use trine_db_shard::DbConfig;

    use super::*;

    async fn connect() -> (TempDir, DbService) {
        let folder = TempDir::new().unwrap();
        let service = DbService::connect(&DbConfig::sqlite(folder.path(), 0)).await.unwrap();
        (folder, service)
    }

    #[trine_testkit::test]
    async fn tables_are_made_ahead_once() {
        let (_folder, service) = connect().await;
        super::tables_are_made_ahead_once(service.global()).await;
        let indexes: i64 = service
            .global()
            .query_one(
                "SELECT count(*) FROM sqlite_master WHERE name = 'login_log_20261121_at'",
                (),
            )
            .await
            .unwrap();
        assert_eq!(indexes, 1);
        close(service).await;
    }

    #[trine_testkit::test]
    async fn only_our_own_expired_tables_are_dropped() {
        let (_folder, service) = connect().await;
        super::only_our_own_expired_tables_are_dropped(service.global()).await;
        close(service).await;
    }

    #[trine_testkit::test]
    async fn a_text_that_makes_another_table_is_refused() {
        let (_folder, service) = connect().await;
        super::a_text_that_makes_another_table_is_refused(service.global()).await;
        close(service).await;
    }
}

#[cfg(feature = "mysql")]
mod mariadb {
    use trine_core::Secret;
    use trine_db_shard::{DbConfig, MigrateMode};
    use trine_testkit::{MariaDb, TestDatabase};

    use super::*;

    async fn connect() -> (TestDatabase, DbService) {
        let database = MariaDb::shared().await.unwrap().database().await.unwrap();
        let config = DbConfig::mysql(Secret::new(database.url()), []);
        let service = DbService::connect(&config.with_migrate(MigrateMode::Auto)).await.unwrap();
        (database, service)
    }

    #[trine_testkit::test]
    async fn tables_are_made_ahead_once() {
        let (_database, service) = connect().await;
        super::tables_are_made_ahead_once(service.global()).await;
        close(service).await;
    }

    #[trine_testkit::test]
    async fn only_our_own_expired_tables_are_dropped() {
        let (_database, service) = connect().await;
        super::only_our_own_expired_tables_are_dropped(service.global()).await;
        close(service).await;
    }

    #[trine_testkit::test]
    async fn a_text_that_makes_another_table_is_refused() {
        let (_database, service) = connect().await;
        super::a_text_that_makes_another_table_is_refused(service.global()).await;
        close(service).await;
    }

    #[trine_testkit::test]
    async fn a_second_statement_is_refused_where_it_could_be_lost() {
        let (_database, service) = connect().await;
        let rolling =
            RollingTable::new("r", Period::Daily, Sql::portable("CREATE TABLE {table} (a INT)"))
                .unwrap()
                .with_also(Sql::portable("CREATE INDEX {table}_a ON {table} (a)"));
        let error = rolling.ensure(service.global(), day(0)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(!is_there(service.global(), "r_20261121").await);
        close(service).await;
    }
}
