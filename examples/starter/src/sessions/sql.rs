use async_trait::async_trait;
use trine_db_shard::{DbService, Sql, Timestamp};
use uuid::Uuid;

use super::SessionStore;
use crate::error::Result;
use crate::tokens::TokenDigest;

/// Rows to sweep at a time: others write in between.
const STEP: u32 = 1_000;

const SWEEP: Sql = Sql::per_engine()
    .sqlite(
        "DELETE FROM session WHERE token_digest IN \
         (SELECT token_digest FROM session WHERE expires_at <= ? LIMIT ?)",
    )
    .mysql("DELETE FROM session WHERE expires_at <= ? LIMIT ?");

/// Keeps sessions in the global database.
#[derive(Clone, Debug)]
pub(crate) struct SqlSessions {
    db: DbService,
}

impl SqlSessions {
    pub(crate) fn new(db: DbService) -> Self {
        Self { db }
    }
}

#[async_trait]
impl SessionStore for SqlSessions {
    async fn insert(
        &self,
        digest: TokenDigest,
        account: Uuid,
        expires_at: Timestamp,
    ) -> Result<()> {
        let insert = self.db.global().execute(
            "INSERT INTO session (token_digest, account_id, expires_at) VALUES (?, ?, ?)",
            (digest, account, expires_at),
        );
        insert.await?;
        Ok(())
    }

    async fn trim(&self, account: Uuid, keep: u32) -> Result<()> {
        let oldest = self.db.global().query_optional(
            "SELECT expires_at FROM session WHERE account_id = ? \
             ORDER BY expires_at DESC LIMIT 1 OFFSET ?",
            (account, keep),
        );
        let oldest: Option<Timestamp> = oldest.await?;
        if let Some(oldest) = oldest {
            let trim = self.db.global().execute(
                "DELETE FROM session WHERE account_id = ? AND expires_at <= ?",
                (account, oldest),
            );
            trim.await?;
        }
        Ok(())
    }

    async fn find(&self, digest: TokenDigest, now: Timestamp) -> Result<Option<Uuid>> {
        let found = self.db.global().query_optional(
            "SELECT account_id FROM session WHERE token_digest = ? AND expires_at > ?",
            (digest, now),
        );
        Ok(found.await?)
    }

    async fn remove(&self, digest: TokenDigest) -> Result<()> {
        let remove =
            self.db.global().execute("DELETE FROM session WHERE token_digest = ?", (digest,));
        remove.await?;
        Ok(())
    }

    async fn sweep(&self, now: Timestamp) -> Result<()> {
        loop {
            let swept = self.db.global().execute(SWEEP, (now, STEP)).await?;
            if swept.affected < u64::from(STEP) {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use trine_db_shard::DbConfig;

    use super::*;
    use crate::schema;

    const ACCOUNT: Uuid = Uuid::from_u128(1);

    #[tokio::test]
    async fn a_sweep_of_many_steps_removes_what_has_expired_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let config = DbConfig::sqlite(folder.path(), 1);
        let migrated = trine_db_shard::migrate(&config, &schema::migrations()).await.unwrap();
        assert!(migrated.is_complete());
        let db = DbService::connect(&config).await.unwrap();
        let account = "INSERT INTO account (id, email, name, password_hash, created_at) \
                       VALUES (?, 'a@b.c', 'Ann', '', 0)";
        db.global().execute(account, (ACCOUNT,)).await.unwrap();
        let many = "INSERT INTO session (token_digest, account_id, expires_at) \
                    WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?) \
                    SELECT CAST(n AS BLOB), ?, n FROM n";
        db.global().execute(many, (3 * STEP + 7, ACCOUNT)).await.unwrap();
        let sessions = SqlSessions::new(db.clone());
        let now = Timestamp::from_micros(i64::from(3 * STEP));
        sessions.sweep(now).await.unwrap();
        let left = "SELECT expires_at FROM session ORDER BY expires_at";
        let left: Vec<Timestamp> = db.global().query(left, ()).await.unwrap();
        let expected: Vec<_> = (1..=7).map(|n| now.plus(Duration::from_micros(n))).collect();
        assert_eq!(left, expected);
    }
}
