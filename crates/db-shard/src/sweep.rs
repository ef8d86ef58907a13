use std::time::SystemTime;

use crate::{Database, Result, Sql, Timestamp};

/// Rows to remove at a time, so that no sweep holds locks for long.
const STEP: i64 = 1_000;

const INBOX: Sql = Sql::per_engine()
    .sqlite(
        "DELETE FROM trine_inbox WHERE rowid IN \
         (SELECT rowid FROM trine_inbox WHERE expires_at < ? LIMIT ?)",
    )
    .mysql("DELETE FROM trine_inbox WHERE expires_at < ? LIMIT ?");

const TICKETS: Sql = Sql::per_engine()
    .sqlite(
        "DELETE FROM trine_ticket WHERE id IN \
         (SELECT id FROM trine_ticket WHERE made_at < ? LIMIT ?)",
    )
    .mysql("DELETE FROM trine_ticket WHERE made_at < ? LIMIT ?");

const ERRORS: Sql = Sql::per_engine()
    .sqlite(
        "DELETE FROM trine_error_log WHERE id IN \
         (SELECT id FROM trine_error_log WHERE created_at < ? LIMIT ?)",
    )
    .mysql("DELETE FROM trine_error_log WHERE created_at < ? LIMIT ?");

impl Database {
    /// Removes what has outlived its retention from the inbox, the tickets and
    /// the error log, in small steps, and returns how many rows went. Services
    /// do this by themselves.
    ///
    /// # Errors
    ///
    /// Fails with the errors of the database; what was removed stays removed.
    pub async fn sweep(&self) -> Result<u64> {
        let now = Timestamp::from(SystemTime::now());
        let settings = &self.shared().settings;
        // Twice the retention: a ticket answers `Expired` long before its row
        // goes, whatever the clocks of two processes say.
        let tickets = now.minus(settings.ticket_retention.saturating_mul(2));
        let errors = now.minus(settings.error_log_retention);
        let mut removed = 0;
        for (sql, before) in [(INBOX, now), (TICKETS, tickets), (ERRORS, errors)] {
            removed += self.sweep_table(sql, before).await?;
        }
        Ok(removed)
    }

    async fn sweep_table(&self, sql: Sql, before: Timestamp) -> Result<u64> {
        let mut removed = 0;
        loop {
            let done = self.execute(sql, (before, STEP)).await?;
            removed += done.affected;
            if done.affected < STEP.unsigned_abs() {
                return Ok(removed);
            }
        }
    }
}
