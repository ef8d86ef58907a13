use trine_core::{MigrationScope, MigrationSet, MigrationStep};

/// Returns the tables that this crate owns: the shard map in the global
/// database, and what every database needs for fences, inboxes, tickets and
/// errors of procedures.
///
/// Services apply them with the host's own sets; `docs/wire.md` describes each
/// column.
#[must_use]
pub fn migrations() -> Vec<MigrationSet> {
    vec![global(), shards(), everywhere()]
}

fn global() -> MigrationSet {
    MigrationSet::new("trine-db-shard-global", MigrationScope::Global).step(
        MigrationStep::new(1, "shard map")
            .on(
                "sqlite",
                [
                    "CREATE TABLE trine_shard (
                        id INTEGER NOT NULL PRIMARY KEY,
                        connection TEXT NOT NULL UNIQUE,
                        weight INTEGER NOT NULL,
                        status TEXT NOT NULL,
                        epoch INTEGER NOT NULL
                    )",
                    "CREATE TABLE trine_shard_key (
                        shard_key BLOB NOT NULL PRIMARY KEY,
                        shard_id INTEGER NOT NULL REFERENCES trine_shard (id),
                        moving_to INTEGER,
                        epoch INTEGER NOT NULL,
                        changed_at INTEGER NOT NULL
                    ) WITHOUT ROWID",
                    "CREATE INDEX trine_shard_key_shard ON trine_shard_key (shard_id)",
                ],
            )
            .on(
                "mysql",
                [
                    "CREATE TABLE trine_shard (
                        id INT UNSIGNED NOT NULL PRIMARY KEY,
                        connection VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
                        weight INT UNSIGNED NOT NULL,
                        status VARCHAR(16) CHARACTER SET ascii NOT NULL,
                        epoch BIGINT UNSIGNED NOT NULL,
                        UNIQUE KEY trine_shard_connection (connection)
                    ) ENGINE=InnoDB",
                    "CREATE TABLE trine_shard_key (
                        shard_key VARBINARY(128) NOT NULL PRIMARY KEY,
                        shard_id INT UNSIGNED NOT NULL,
                        moving_to INT UNSIGNED NULL,
                        epoch BIGINT UNSIGNED NOT NULL,
                        changed_at DATETIME(6) NOT NULL,
                        KEY trine_shard_key_shard (shard_id),
                        CONSTRAINT trine_shard_key_shard_id
                            FOREIGN KEY (shard_id) REFERENCES trine_shard (id)
                    ) ENGINE=InnoDB",
                ],
            ),
    )
}

fn shards() -> MigrationSet {
    MigrationSet::new("trine-db-shard-shards", MigrationScope::Shards).step(
        MigrationStep::new(1, "epochs of keys")
            .on(
                "sqlite",
                ["CREATE TABLE trine_key_epoch (
                    shard_key BLOB NOT NULL PRIMARY KEY,
                    epoch INTEGER NOT NULL,
                    state TEXT NOT NULL
                ) WITHOUT ROWID"],
            )
            .on(
                "mysql",
                ["CREATE TABLE trine_key_epoch (
                    shard_key VARBINARY(128) NOT NULL PRIMARY KEY,
                    epoch BIGINT UNSIGNED NOT NULL,
                    state VARCHAR(16) CHARACTER SET ascii NOT NULL
                ) ENGINE=InnoDB"],
            ),
    )
}

/// Keys are bytes on MySQL: its texts take `a` and `a ` for one.
pub(crate) fn everywhere() -> MigrationSet {
    MigrationSet::new("trine-db-shard", MigrationScope::Everywhere).step(
        MigrationStep::new(1, "fences, inboxes, tickets, errors")
            .on(
                "sqlite",
                [
                    "CREATE TABLE trine_fence (
                        fence_key TEXT NOT NULL PRIMARY KEY,
                        token INTEGER NOT NULL,
                        shown_at INTEGER NOT NULL
                    ) WITHOUT ROWID",
                    "CREATE TABLE trine_inbox (
                        consumer TEXT NOT NULL,
                        message_id TEXT NOT NULL,
                        expires_at INTEGER NOT NULL,
                        PRIMARY KEY (consumer, message_id)
                    )",
                    "CREATE INDEX trine_inbox_expires ON trine_inbox (expires_at)",
                    "CREATE TABLE trine_ticket (
                        id BLOB NOT NULL PRIMARY KEY,
                        state INTEGER NOT NULL,
                        made_at INTEGER NOT NULL
                    ) WITHOUT ROWID",
                    "CREATE INDEX trine_ticket_made ON trine_ticket (made_at)",
                    "CREATE TABLE trine_error_log (
                        id INTEGER NOT NULL PRIMARY KEY,
                        procedure_name TEXT NOT NULL,
                        error_state TEXT,
                        error_number INTEGER,
                        error_message TEXT NOT NULL,
                        params TEXT NOT NULL,
                        created_at INTEGER NOT NULL
                    )",
                    "CREATE INDEX trine_error_log_created ON trine_error_log (created_at)",
                ],
            )
            .on(
                "mysql",
                [
                    "CREATE TABLE trine_fence (
                        fence_key VARBINARY(255) NOT NULL PRIMARY KEY,
                        token BIGINT UNSIGNED NOT NULL,
                        shown_at DATETIME(6) NOT NULL
                    ) ENGINE=InnoDB",
                    "CREATE TABLE trine_inbox (
                        consumer VARBINARY(128) NOT NULL,
                        message_id VARBINARY(255) NOT NULL,
                        expires_at DATETIME(6) NOT NULL,
                        PRIMARY KEY (consumer, message_id),
                        KEY trine_inbox_expires (expires_at)
                    ) ENGINE=InnoDB",
                    "CREATE TABLE trine_ticket (
                        id BINARY(16) NOT NULL PRIMARY KEY,
                        state TINYINT NOT NULL,
                        made_at DATETIME(6) NOT NULL,
                        KEY trine_ticket_made (made_at)
                    ) ENGINE=InnoDB",
                    "CREATE TABLE trine_error_log (
                        id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
                        procedure_name VARCHAR(128) CHARACTER SET utf8mb4 NOT NULL,
                        error_state CHAR(5) CHARACTER SET ascii NULL,
                        error_number INT NULL,
                        error_message VARCHAR(1024) CHARACTER SET utf8mb4 NOT NULL,
                        params TEXT CHARACTER SET utf8mb4 NOT NULL,
                        created_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
                        KEY trine_error_log_created (created_at)
                    ) ENGINE=InnoDB",
                ],
            ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_is_valid_and_has_both_engines() {
        for set in migrations() {
            set.validate().unwrap();
            assert_eq!(set.engines(), ["mysql", "sqlite"], "{}", set.owner());
        }
    }

    #[test]
    fn every_table_is_ours_by_name() {
        for set in migrations() {
            for statement in
                set.steps().iter().filter_map(|step| step.statements("mysql")).flatten()
            {
                assert!(statement.starts_with("CREATE TABLE trine_"), "{statement}");
            }
        }
    }
}
