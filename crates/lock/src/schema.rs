use trine_core::{MigrationScope, MigrationSet, MigrationStep};

/// The name of the only set, which errors tell.
pub(crate) const OWNER: &str = "trine-lock";

/// Returns the tables of locks that are kept in a database: who has which key,
/// and the last token of each 256th part of the keys.
///
/// They belong into the global database; the host adds the set to those that
/// it applies. `docs/wire.md` describes each column.
#[must_use]
pub fn migrations() -> Vec<MigrationSet> {
    let tables = MigrationStep::new(1, "locks and tokens")
        .on(
            "sqlite",
            [
                "CREATE TABLE trine_lock_token (
                    service TEXT NOT NULL,
                    part INTEGER NOT NULL,
                    last INTEGER NOT NULL,
                    stamp INTEGER NOT NULL,
                    PRIMARY KEY (service, part)
                ) WITHOUT ROWID",
                "CREATE TABLE trine_lock (
                    service TEXT NOT NULL,
                    lock_key TEXT NOT NULL,
                    stamp INTEGER NOT NULL,
                    record TEXT NOT NULL,
                    expires_at INTEGER NOT NULL,
                    PRIMARY KEY (service, lock_key)
                ) WITHOUT ROWID",
                "CREATE INDEX trine_lock_expires ON trine_lock (service, expires_at)",
            ],
        )
        // Keys are bytes: MySQL's texts take `a` and `a ` for one.
        .on(
            "mysql",
            [
                "CREATE TABLE trine_lock_token (
                    service VARBINARY(64) NOT NULL,
                    part SMALLINT UNSIGNED NOT NULL,
                    last BIGINT UNSIGNED NOT NULL,
                    stamp BIGINT NOT NULL,
                    PRIMARY KEY (service, part)
                ) ENGINE=InnoDB",
                "CREATE TABLE trine_lock (
                    service VARBINARY(64) NOT NULL,
                    lock_key VARBINARY(200) NOT NULL,
                    stamp BIGINT NOT NULL,
                    record MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
                    expires_at DATETIME(6) NOT NULL,
                    PRIMARY KEY (service, lock_key),
                    KEY trine_lock_expires (service, expires_at)
                ) ENGINE=InnoDB",
            ],
        );
    vec![MigrationSet::new(OWNER, MigrationScope::Global).step(tables)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_set_is_valid_and_has_both_engines() {
        for set in migrations() {
            set.validate().unwrap();
            assert_eq!(set.engines(), ["mysql", "sqlite"], "{}", set.owner());
        }
    }
}
