use trine_core::{MigrationScope, MigrationSet, MigrationStep};

/// Returns the tables of the starter, accounts and statistics in the global
/// database and documents in every shard, and those of its jobs and locks.
pub(crate) fn migrations() -> Vec<MigrationSet> {
    let mut sets = vec![accounts(), shards(), statistics()];
    sets.extend(trine_lock::migrations());
    sets.extend(trine_scheduler::migrations());
    sets
}

fn accounts() -> MigrationSet {
    MigrationSet::new("starter-accounts", MigrationScope::Global).step(
        MigrationStep::new(1, "accounts")
            .on(
                "sqlite",
                ["CREATE TABLE account (
                        id BLOB NOT NULL PRIMARY KEY,
                        email TEXT NOT NULL UNIQUE,
                        name TEXT NOT NULL,
                        password_hash TEXT NOT NULL,
                        created_at INTEGER NOT NULL
                    ) WITHOUT ROWID"],
            )
            .on(
                "mysql",
                ["CREATE TABLE account (
                        id BINARY(16) NOT NULL PRIMARY KEY,
                        email VARCHAR(254) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
                        name VARCHAR(100) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
                        password_hash VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
                        created_at DATETIME(6) NOT NULL,
                        UNIQUE KEY account_email (email)
                    ) ENGINE=InnoDB"],
            ),
    )
}

fn statistics() -> MigrationSet {
    MigrationSet::new("starter-statistics", MigrationScope::Global).step(
        MigrationStep::new(1, "statistics of days")
            .on(
                "sqlite",
                ["CREATE TABLE statistics (
                        day INTEGER NOT NULL PRIMARY KEY,
                        accounts INTEGER NOT NULL,
                        documents INTEGER NOT NULL,
                        bytes INTEGER NOT NULL
                    )"],
            )
            .on(
                "mysql",
                ["CREATE TABLE statistics (
                        day DATETIME(6) NOT NULL PRIMARY KEY,
                        accounts BIGINT UNSIGNED NOT NULL,
                        documents BIGINT UNSIGNED NOT NULL,
                        bytes BIGINT UNSIGNED NOT NULL
                    ) ENGINE=InnoDB"],
            ),
    )
}

/// The text has a table of its own, so that a listing reads no texts.
fn shards() -> MigrationSet {
    MigrationSet::new("starter-documents", MigrationScope::Shards).step(
        MigrationStep::new(1, "documents")
            .on(
                "sqlite",
                [
                    "CREATE TABLE document (
                        account_id BLOB NOT NULL,
                        id BLOB NOT NULL,
                        name TEXT NOT NULL,
                        bytes INTEGER NOT NULL,
                        words INTEGER NOT NULL,
                        updated_at INTEGER NOT NULL,
                        PRIMARY KEY (account_id, id)
                    ) WITHOUT ROWID",
                    "CREATE TABLE document_text (
                        account_id BLOB NOT NULL,
                        document_id BLOB NOT NULL,
                        content TEXT NOT NULL,
                        PRIMARY KEY (account_id, document_id)
                    )",
                ],
            )
            .on(
                "mysql",
                [
                    "CREATE TABLE document (
                        account_id BINARY(16) NOT NULL,
                        id BINARY(16) NOT NULL,
                        name VARCHAR(1024) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
                        bytes INT UNSIGNED NOT NULL,
                        words INT UNSIGNED NOT NULL,
                        updated_at DATETIME(6) NOT NULL,
                        PRIMARY KEY (account_id, id)
                    ) ENGINE=InnoDB",
                    "CREATE TABLE document_text (
                        account_id BINARY(16) NOT NULL,
                        document_id BINARY(16) NOT NULL,
                        content MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
                        PRIMARY KEY (account_id, document_id)
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
}
