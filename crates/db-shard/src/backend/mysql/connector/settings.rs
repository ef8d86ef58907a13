use std::time::Duration;

use sqlx::{AssertSqlSafe, SqlSafeStr as _, SqlStr};

use super::server::Product;

pub(super) const AUTOCOMMIT: &str = "SET autocommit = 1";

/// Returns the text that undoes what a procedure may have done to a session:
/// with these settings, or with those of a host, which are its own.
///
/// Without an open transaction, and with autocommit, the text fails at the
/// release of its savepoint. Autocommit comes last: to turn it on would commit
/// what is open.
pub(crate) fn restoring(settings: Option<&str>) -> SqlStr {
    let settings = settings.unwrap_or("SET completion_type = 0");
    let text = format!(
        "DO RELEASE_ALL_LOCKS(); {settings}; SAVEPOINT trine_call; RELEASE SAVEPOINT trine_call; \
         ROLLBACK; {AUTOCOMMIT}"
    );
    AssertSqlSafe(text).into_sql_str()
}

/// Returns the text that makes a session like every other.
pub(super) fn settings(query_timeout: Duration) -> String {
    let lock_wait = (query_timeout / 2).as_secs().clamp(1, 3600);
    let seconds = query_timeout.as_secs().max(1);
    let mariadb = Product::MariaDb.limit_setting(query_timeout);
    let mysql = Product::Mysql.limit_setting(query_timeout);
    format!(
        "SET NAMES utf8mb4; \
         SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; \
         SET completion_type = 0, time_zone = '+00:00', innodb_lock_wait_timeout = {lock_wait}, \
         lock_wait_timeout = {seconds}, \
         sql_mode = 'PIPES_AS_CONCAT,STRICT_ALL_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,\
         ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION' \
         /*M! , {mariadb} */ /*!80000 , {mysql} */"
    )
}
