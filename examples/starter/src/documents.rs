use std::sync::Arc;
use std::time::SystemTime;

use serde::Deserialize;
use sha2::{Digest, Sha256};
use trine_core::Fence;
use trine_db_shard::{Database, DbService, ShardId, Sql, Timestamp};
use uuid::Uuid;

use crate::error::{Error, Result};

pub(crate) use cursor::Cursor;

mod cursor;

/// Keeps the documents of accounts, each in the shard of its owner.
#[derive(Clone, Debug)]
pub(crate) struct Documents {
    db: DbService,
}

/// What a document is, without its text.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Document {
    pub(crate) id: Uuid,
    pub(crate) name: String,
    pub(crate) bytes: u64,
    pub(crate) words: u64,
    pub(crate) updated_at: Timestamp,
}

/// A document to store.
#[derive(Clone, Debug)]
pub(crate) struct NewDocument {
    pub(crate) name: DocumentName,
    pub(crate) text: String,
    pub(crate) words: u64,
}

/// Longest text of a document in bytes.
pub(crate) const MAX_BYTES: usize = 8 * 1024 * 1024;

const UPSERT: Sql = Sql::per_engine()
    .sqlite(
        "INSERT INTO document (account_id, id, name, bytes, words, updated_at) \
         VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (account_id, id) DO UPDATE SET \
         bytes = excluded.bytes, words = excluded.words, updated_at = excluded.updated_at",
    )
    .mysql(
        "INSERT INTO document (account_id, id, name, bytes, words, updated_at) \
         VALUES (?, ?, ?, ?, ?, ?) ON DUPLICATE KEY UPDATE \
         bytes = VALUES(bytes), words = VALUES(words), updated_at = VALUES(updated_at)",
    );

const UPSERT_TEXT: Sql = Sql::per_engine()
    .sqlite(
        "INSERT INTO document_text (account_id, document_id, content) VALUES (?, ?, ?) \
         ON CONFLICT (account_id, document_id) DO UPDATE SET content = excluded.content",
    )
    .mysql(
        "INSERT INTO document_text (account_id, document_id, content) VALUES (?, ?, ?) \
         ON DUPLICATE KEY UPDATE content = VALUES(content)",
    );

impl Documents {
    pub(crate) fn new(db: DbService) -> Self {
        Self { db }
    }

    /// Stores documents under their names, replacing what has these names; all
    /// or none, in one transaction. Repeating it changes nothing but the time.
    ///
    /// Who shows a fence stores nothing any more once a newer one was shown to
    /// the shard.
    ///
    /// # Errors
    ///
    /// Fails with the errors of the shard; `OutcomeUnknown` may be repeated,
    /// `Fenced` is for good.
    pub(crate) async fn put(
        &self,
        account: Uuid,
        documents: Arc<[NewDocument]>,
        fence: Option<&Fence>,
    ) -> Result<()> {
        let shard = self.db.for_key(account).await?;
        let stored = shard.transaction(|mut tx| {
            let documents = Arc::clone(&documents);
            async move {
                if let Some(fence) = fence {
                    tx.guard(fence).await?;
                }
                let now = SystemTime::now();
                for NewDocument { name, text, words } in documents.iter() {
                    let id = name.document_id(account);
                    let bytes = u64::try_from(text.len()).unwrap_or(u64::MAX);
                    let values = (account, id, name.as_str(), bytes, *words, now);
                    tx.execute(UPSERT, values).await?;
                    tx.execute(UPSERT_TEXT, (account, id, text.as_str())).await?;
                }
                Ok::<_, trine_db_shard::Error>(())
            }
        });
        Ok(stored.await?)
    }

    /// Returns the shard that an account's documents are in, to show it a fence.
    ///
    /// # Errors
    ///
    /// Fails with `Unavailable` if this process cannot use the shard.
    pub(crate) fn shard(&self, id: ShardId) -> Result<Database> {
        Ok(self.db.shard(id)?)
    }

    /// Returns at most `limit` documents after `after`, in the order of their
    /// ids.
    ///
    /// # Errors
    ///
    /// Fails with the errors of the shard.
    pub(crate) async fn list(
        &self,
        account: Uuid,
        after: Option<Cursor>,
        limit: u32,
    ) -> Result<Vec<Document>> {
        let shard = self.db.for_key(account).await?;
        let after = after.map_or(Uuid::nil(), Cursor::last);
        let page = shard.query(
            "SELECT id, name, bytes, words, updated_at FROM document \
             WHERE account_id = ? AND id > ? ORDER BY id LIMIT ?",
            (account, after, limit),
        );
        Ok(page.await?)
    }

    /// Returns a document's text.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::NoDocument`] if the account has no such document,
    /// and with the errors of the shard.
    pub(crate) async fn text(&self, account: Uuid, id: Uuid) -> Result<String> {
        let shard = self.db.for_key(account).await?;
        let found = shard.query_optional(
            "SELECT content FROM document_text WHERE account_id = ? AND document_id = ?",
            (account, id),
        );
        found.await?.ok_or(Error::NoDocument)
    }

    /// Removes a document.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::NoDocument`] if the account has no such document,
    /// and with the errors of the shard.
    pub(crate) async fn remove(&self, account: Uuid, id: Uuid) -> Result<()> {
        let shard = self.db.for_key(account).await?;
        let removed: u64 = shard
            .transaction(|mut tx| async move {
                tx.execute(
                    "DELETE FROM document_text WHERE account_id = ? AND document_id = ?",
                    (account, id),
                )
                .await?;
                let removed = tx
                    .execute("DELETE FROM document WHERE account_id = ? AND id = ?", (account, id))
                    .await?;
                Ok::<_, trine_db_shard::Error>(removed.affected)
            })
            .await?;
        if removed == 0 { Err(Error::NoDocument) } else { Ok(()) }
    }
}

/// Returns how many words a text has: runs of characters without white space.
pub(crate) fn count_words(text: &str) -> u64 {
    u64::try_from(text.split_whitespace().count()).unwrap_or(u64::MAX)
}

/// What a document is called: 1 to 1,024 bytes without control characters.
/// Names that differ in one byte are different names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DocumentName(String);

impl DocumentName {
    pub(crate) const MAX: usize = 1_024;

    /// Reads a name.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::Invalid`] for the field `key`.
    pub(crate) fn parse(name: &str) -> Result<Self> {
        if !(1..=Self::MAX).contains(&name.len()) || name.contains(char::is_control) {
            let expected = "a name of 1 to 1024 bytes without control characters";
            return Err(Error::invalid("key", expected));
        }
        Ok(Self(name.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the id of `account`'s document of this name. It follows from
    /// both, so that storing a name again, also after a lost answer or a race,
    /// always meets the same row.
    pub(crate) fn document_id(&self, account: Uuid) -> Uuid {
        let digest = Sha256::new()
            .chain_update(account.as_bytes())
            .chain_update(self.0.as_bytes())
            .finalize();
        let mut bytes = [0; 16];
        for (byte, source) in bytes.iter_mut().zip(digest) {
            *byte = source;
        }
        uuid::Builder::from_custom_bytes(bytes).into_uuid()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_what_white_space_leaves() {
        let counts = [("", 0), ("  \n", 0), ("one", 1), (" a\tb\n\nc ", 3), ("a\u{2003}b", 2)];
        for (text, expected) in counts {
            assert_eq!(count_words(text), expected, "{text:?}");
        }
    }

    #[test]
    fn ids_follow_from_account_and_name() {
        let (ann, bob) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let name = |text| DocumentName::parse(text).unwrap();
        assert_eq!(name("a").document_id(ann), name("a").document_id(ann));
        let others =
            [name("a").document_id(bob), name("A").document_id(ann), name("a ").document_id(ann)];
        assert!(others.iter().all(|id| *id != name("a").document_id(ann)));
        assert_eq!(name("a").document_id(ann).get_version_num(), 8);
    }

    #[test]
    fn names_have_bounds() {
        let longest = "x".repeat(DocumentName::MAX);
        assert!(DocumentName::parse(&longest).is_ok());
        for name in ["", "a\nb", "a\0", &format!("{longest}x")] {
            assert!(DocumentName::parse(name).is_err(), "{name:?}");
        }
    }
}
