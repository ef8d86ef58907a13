use async_trait::async_trait;
use trine_db_shard::{DbService, Timestamp};
use uuid::Uuid;

use super::SessionStore;
use crate::error::Result;
use crate::tokens::TokenDigest;

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
        let sweep = self.db.global().execute("DELETE FROM session WHERE expires_at <= ?", (now,));
        sweep.await?;
        Ok(())
    }
}
