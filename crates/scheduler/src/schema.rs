use trine_core::{MigrationScope, MigrationSet, MigrationStep};

/// The name of the only set, which errors tell.
pub(crate) const OWNER: &str = "trine-scheduler";

/// Returns the tables of jobs and ticks that are kept in a database.
///
/// They belong into the global database; the host adds the set to those that
/// it applies. `docs/wire.md` describes each column.
#[must_use]
pub fn migrations() -> Vec<MigrationSet> {
    let tables = MigrationStep::new(1, "jobs, ticks and processes")
        .on(
            "sqlite",
            [
                "CREATE TABLE trine_job_planner (
                    service TEXT NOT NULL PRIMARY KEY,
                    process TEXT NOT NULL,
                    expires_at INTEGER NOT NULL
                ) WITHOUT ROWID",
                "CREATE TABLE trine_job_process (
                    service TEXT NOT NULL,
                    process TEXT NOT NULL,
                    expires_at INTEGER NOT NULL,
                    PRIMARY KEY (service, process)
                ) WITHOUT ROWID",
                "CREATE TABLE trine_job_handler (
                    service TEXT NOT NULL,
                    job TEXT NOT NULL,
                    process TEXT NOT NULL,
                    revision INTEGER NOT NULL,
                    PRIMARY KEY (service, job, process)
                ) WITHOUT ROWID",
                "CREATE INDEX trine_job_handler_process ON trine_job_handler (service, process)",
                "CREATE TABLE trine_job (
                    service TEXT NOT NULL,
                    job TEXT NOT NULL,
                    revision INTEGER NOT NULL,
                    terms TEXT NOT NULL,
                    last_at INTEGER,
                    last_shown TEXT,
                    next_at INTEGER,
                    failures INTEGER NOT NULL,
                    token INTEGER NOT NULL,
                    made INTEGER NOT NULL,
                    paused_at INTEGER,
                    paused_note TEXT,
                    PRIMARY KEY (service, job)
                ) WITHOUT ROWID",
                "CREATE INDEX trine_job_next ON trine_job (service, paused_at, next_at)",
                "CREATE INDEX trine_job_made ON trine_job (service, made)",
                "CREATE TABLE trine_tick (
                    service TEXT NOT NULL,
                    job TEXT NOT NULL,
                    nominal INTEGER NOT NULL,
                    kind INTEGER NOT NULL,
                    revision INTEGER NOT NULL,
                    due_at INTEGER NOT NULL,
                    state INTEGER NOT NULL,
                    place INTEGER NOT NULL,
                    ready_at INTEGER,
                    attempts INTEGER NOT NULL,
                    failures INTEGER NOT NULL,
                    losses INTEGER NOT NULL,
                    token INTEGER NOT NULL,
                    history TEXT NOT NULL,
                    ended_at INTEGER,
                    PRIMARY KEY (service, job, nominal)
                ) WITHOUT ROWID",
                "CREATE INDEX trine_tick_ready ON trine_tick (service, place, ready_at, nominal)
                    WHERE ended_at IS NULL",
                "CREATE INDEX trine_tick_open ON trine_tick (service, job, token)
                    WHERE ended_at IS NULL",
                "CREATE INDEX trine_tick_ended ON trine_tick (service, ended_at)
                    WHERE ended_at IS NOT NULL",
            ],
        )
        // Keys are bytes: MySQL's texts take `a` and `a ` for one.
        .on(
            "mysql",
            [
                "CREATE TABLE trine_job_planner (
                    service VARBINARY(64) NOT NULL PRIMARY KEY,
                    process VARBINARY(255) NOT NULL,
                    expires_at DATETIME(6) NOT NULL
                ) ENGINE=InnoDB",
                "CREATE TABLE trine_job_process (
                    service VARBINARY(64) NOT NULL,
                    process VARBINARY(255) NOT NULL,
                    expires_at DATETIME(6) NOT NULL,
                    PRIMARY KEY (service, process)
                ) ENGINE=InnoDB",
                "CREATE TABLE trine_job_handler (
                    service VARBINARY(64) NOT NULL,
                    job VARBINARY(100) NOT NULL,
                    process VARBINARY(255) NOT NULL,
                    revision BIGINT NOT NULL,
                    PRIMARY KEY (service, job, process),
                    KEY trine_job_handler_process (service, process)
                ) ENGINE=InnoDB",
                "CREATE TABLE trine_job (
                    service VARBINARY(64) NOT NULL,
                    job VARBINARY(100) NOT NULL,
                    revision BIGINT NOT NULL,
                    terms MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
                    last_at DATETIME(6) NULL,
                    last_shown VARCHAR(32) CHARACTER SET ascii NULL,
                    next_at DATETIME(6) NULL,
                    failures INT UNSIGNED NOT NULL,
                    token BIGINT NOT NULL,
                    made BIGINT NOT NULL,
                    paused_at DATETIME(6) NULL,
                    paused_note TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
                    PRIMARY KEY (service, job),
                    KEY trine_job_next (service, paused_at, next_at),
                    KEY trine_job_made (service, made)
                ) ENGINE=InnoDB",
                "CREATE TABLE trine_tick (
                    service VARBINARY(64) NOT NULL,
                    job VARBINARY(100) NOT NULL,
                    nominal DATETIME(6) NOT NULL,
                    kind SMALLINT NOT NULL,
                    revision BIGINT NOT NULL,
                    due_at DATETIME(6) NOT NULL,
                    state SMALLINT NOT NULL,
                    place SMALLINT NOT NULL,
                    ready_at DATETIME(6) NULL,
                    attempts INT UNSIGNED NOT NULL,
                    failures INT UNSIGNED NOT NULL,
                    losses INT UNSIGNED NOT NULL,
                    token BIGINT NOT NULL,
                    history MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
                    ended_at DATETIME(6) NULL,
                    PRIMARY KEY (service, job, nominal),
                    KEY trine_tick_ready (service, place, ready_at, nominal),
                    KEY trine_tick_open (service, job, ended_at, token),
                    KEY trine_tick_ended (service, ended_at)
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
