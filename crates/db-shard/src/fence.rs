use async_trait::async_trait;
use trine_core::{BoxFault, Fence, FenceSink};

use crate::backend::Access;
use crate::sql::sqlite_now;
use crate::transaction::Doom;
use crate::{Database, Error, Result, Sql, Tx, Value};

/// Keeps the higher token and locks the row until the end of the transaction.
pub(crate) const SHOW: Sql = Sql::per_engine()
    .sqlite(concat!(
        "INSERT INTO trine_fence (fence_key, token, shown_at) VALUES (?, ?, ",
        sqlite_now!(),
        ") ON CONFLICT (fence_key) DO UPDATE SET token = max(token, excluded.token), \
         shown_at = excluded.shown_at"
    ))
    .mysql(
        "INSERT INTO trine_fence (fence_key, token, shown_at) VALUES (?, ?, UTC_TIMESTAMP(6)) \
         ON DUPLICATE KEY UPDATE token = GREATEST(token, VALUES(token)), \
         shown_at = VALUES(shown_at)",
    );

/// Reads what is committed, not what the transaction's snapshot shows.
pub(crate) const SEEN: Sql = Sql::per_engine()
    .sqlite("SELECT token FROM trine_fence WHERE fence_key = ?")
    .mysql("SELECT token FROM trine_fence WHERE fence_key = ? FOR UPDATE");

impl Tx {
    /// Shows `fence` to this database and makes the transaction depend on it:
    /// from here to the commit no newer owner can get in between, and an older
    /// one is refused for good.
    ///
    /// # Errors
    ///
    /// Fails with `Fenced` if a higher token was shown before; the transaction
    /// can only be rolled back then, whatever the caller makes of the error.
    pub async fn guard(&mut self, fence: &Fence) -> Result<()> {
        const OPERATION: &str = "guard";
        let open = self.open_mut(OPERATION)?;
        let call = open.call(OPERATION)?;
        let key = Value::from(fence.key());
        let values = vec![key.clone(), fence.token().into()];
        let show = open.database.own_statement(SHOW, values, Access::Write);
        let look = open.database.own_statement(SEEN, vec![key], Access::Read);
        let steps = open.expose();
        let result = match steps.run(call, show).await {
            Ok(_) => steps.run(call, look).await,
            Err(error) => Err(error),
        };
        let row = open.settle(result)?.rows.pop();
        let at = open.database.at(OPERATION);
        let seen: u64 = match row {
            Some(row) => row.decode().map_err(|error| error.at(at.clone()))?,
            None => return Err(Error::not_found(at, "row of the fence just written")),
        };
        if seen > fence.token() {
            let doom = Doom::Fenced { key: fence.key().into(), token: fence.token(), seen };
            let error = doom.error(at);
            self.doom(doom);
            return Err(error);
        }
        Ok(())
    }
}

impl Database {
    /// Shows `fence` to this database: from the moment this returns, guarded
    /// writes with lower tokens of the same key are refused here.
    ///
    /// Idempotent. If the future is dropped, the token may have been raised.
    ///
    /// # Errors
    ///
    /// Fails with `Fenced` if a higher token was shown before, and with the
    /// errors of the database.
    pub async fn raise(&self, fence: &Fence) -> Result<()> {
        self.transaction(|mut tx| async move { tx.guard(fence).await }).await
    }
}

#[async_trait]
impl FenceSink for Database {
    async fn raise(&self, fence: &Fence) -> Result<(), BoxFault> {
        Ok(Self::raise(self, fence).await?)
    }
}
