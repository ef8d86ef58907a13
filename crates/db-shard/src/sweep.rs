use std::time::Duration;

use crate::sql::sqlite_now;
use crate::{Database, Result, Sql};

/// Rows to remove at a time, so that no sweep holds locks for long.
const STEP: i64 = 1_000;

/// Longest retention of what has no expiry of its own: MySQL's calendar begins
/// in the year 1000.
const LONGEST: Duration = Duration::from_secs(900 * 365 * 24 * 60 * 60);

/// Returns the statement that removes rows whose time is longer ago than the
/// given microseconds, by the database's clock: that of a process may be days
/// ahead.
macro_rules! sweep {
    ($table:literal, $id:literal, $time:literal) => {
        Sql::per_engine()
            .sqlite(concat!(
                "DELETE FROM ",
                $table,
                " WHERE ",
                $id,
                " IN (SELECT ",
                $id,
                " FROM ",
                $table,
                " WHERE ",
                $time,
                " < ",
                sqlite_now!(),
                " - ? LIMIT ?)"
            ))
            .mysql(concat!(
                "DELETE FROM ",
                $table,
                " WHERE ",
                $time,
                " < UTC_TIMESTAMP(6) - INTERVAL ? MICROSECOND LIMIT ?"
            ))
    };
}

const INBOX: Sql = sweep!("trine_inbox", "rowid", "expires_at");
const TICKETS: Sql = sweep!("trine_ticket", "id", "made_at");
const ERRORS: Sql = sweep!("trine_error_log", "id", "created_at");

impl Database {
    /// Removes what has outlived its retention from the inbox, the tickets and
    /// the error log, in small steps and by the database's clock, and returns
    /// how many rows went. Services do this by themselves.
    ///
    /// # Errors
    ///
    /// Fails with the errors of the database; what was removed stays removed.
    pub async fn sweep(&self) -> Result<u64> {
        let settings = &self.shared().settings;
        // Twice the retention: a ticket answers `Expired` long before its row
        // goes, whatever the clocks of two processes say.
        let tickets = settings.ticket_retention.saturating_mul(2);
        let tables =
            [(INBOX, Duration::ZERO), (TICKETS, tickets), (ERRORS, settings.error_log_retention)];
        let mut removed = 0;
        for (sql, retention) in tables {
            removed += self.sweep_table(sql, retention.min(LONGEST)).await?;
        }
        Ok(removed)
    }

    async fn sweep_table(&self, sql: Sql, retention: Duration) -> Result<u64> {
        let micros = i64::try_from(retention.as_micros()).unwrap_or(i64::MAX);
        let mut removed = 0;
        loop {
            let done = self.execute(sql, (micros, STEP)).await?;
            removed += done.affected;
            if done.affected < STEP.unsigned_abs() {
                return Ok(removed);
            }
        }
    }
}
