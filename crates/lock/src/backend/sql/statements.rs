use trine_db_shard::Sql;

pub(super) const LOOK: Sql = Sql::per_engine()
    .sqlite(
        "SELECT t.last, l.stamp, l.record, NULL AS read_at FROM trine_lock_token t \
         LEFT JOIN trine_lock l ON l.service = t.service AND l.lock_key = ? \
         WHERE t.service = ? AND t.part = ?",
    )
    .mysql(
        "SELECT t.last, l.stamp, l.record, UTC_TIMESTAMP(6) AS read_at FROM trine_lock_token t \
         LEFT JOIN trine_lock l ON l.service = t.service AND l.lock_key = ? \
         WHERE t.service = ? AND t.part = ?",
    );

pub(super) const LOOK_MANY: Sql = Sql::per_engine()
    .sqlite(
        "SELECT lock_key, stamp, record, NULL AS read_at FROM trine_lock \
         WHERE service = ? AND lock_key IN (?)",
    )
    .mysql(
        "SELECT lock_key, stamp, record, UTC_TIMESTAMP(6) AS read_at FROM trine_lock \
         WHERE service = ? AND lock_key IN (?)",
    );

pub(super) const PAGE_FROM: Sql = Sql::per_engine()
    .sqlite(
        "SELECT lock_key, stamp, record, NULL AS read_at FROM trine_lock \
         WHERE service = ? AND lock_key >= ? ORDER BY lock_key LIMIT ?",
    )
    .mysql(
        "SELECT lock_key, stamp, record, UTC_TIMESTAMP(6) AS read_at FROM trine_lock \
         WHERE service = ? AND lock_key >= ? ORDER BY lock_key LIMIT ?",
    );

pub(super) const PAGE_AFTER: Sql = Sql::per_engine()
    .sqlite(
        "SELECT lock_key, stamp, record, NULL AS read_at FROM trine_lock \
         WHERE service = ? AND lock_key > ? ORDER BY lock_key LIMIT ?",
    )
    .mysql(
        "SELECT lock_key, stamp, record, UTC_TIMESTAMP(6) AS read_at FROM trine_lock \
         WHERE service = ? AND lock_key > ? ORDER BY lock_key LIMIT ?",
    );

/// The time is given to SQLite only: others have one.
pub(super) const EXPIRED: Sql = Sql::per_engine()
    .sqlite(
        "SELECT lock_key FROM trine_lock WHERE service = ? AND expires_at < ? \
         ORDER BY expires_at LIMIT ?",
    )
    .mysql(
        "SELECT lock_key FROM trine_lock WHERE service = ? \
         AND expires_at < COALESCE(?, UTC_TIMESTAMP(6)) ORDER BY expires_at LIMIT ?",
    );

/// Raises the last token, unless it is that high already. One that was raised
/// for nothing does no harm.
pub(super) const RAISE: Sql = Sql::portable(
    "UPDATE trine_lock_token SET last = ?, stamp = ? WHERE service = ? AND part = ? AND last < ?",
);

/// Makes a row; does nothing if this very transaction has not raised the token:
/// a row that was made and removed since the key was looked at had a higher one.
pub(super) const GRANT_FIRST: Sql = Sql::portable(
    "INSERT INTO trine_lock (service, lock_key, stamp, record, expires_at) \
     SELECT service, ?, ?, ?, ? FROM trine_lock_token \
     WHERE service = ? AND part = ? AND last = ? AND stamp = ?",
);

/// Both do nothing if somebody was faster.
pub(super) const SAVE: Sql = Sql::portable(
    "UPDATE trine_lock SET stamp = ?, record = ?, expires_at = ? \
     WHERE service = ? AND lock_key = ? AND stamp = ?",
);
pub(super) const REMOVE: Sql =
    Sql::portable("DELETE FROM trine_lock WHERE service = ? AND lock_key = ? AND stamp = ?");

pub(super) const COUNT: Sql =
    Sql::portable("SELECT COUNT(*) FROM trine_lock_token WHERE service = ?");
pub(super) const ANY: Sql =
    Sql::portable("SELECT COUNT(*) FROM trine_lock WHERE service = ? AND lock_key = ?");
pub(super) const PRIME: Sql = Sql::per_engine()
    .sqlite(
        "INSERT INTO trine_lock_token (service, part, last, stamp) VALUES ? \
         ON CONFLICT DO NOTHING",
    )
    .mysql("INSERT IGNORE INTO trine_lock_token (service, part, last, stamp) VALUES ?");

pub(super) const IS_THERE: Sql = Sql::per_engine()
    .sqlite("SELECT COUNT(*) FROM sqlite_schema WHERE type = 'table' AND name = ?")
    .mysql(
        "SELECT COUNT(*) FROM information_schema.tables \
         WHERE table_schema = DATABASE() AND table_name = ?",
    );
