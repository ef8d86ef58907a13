use super::OPERATION;
use super::epoch::superseded;
use crate::backend::Access;
use crate::error::At;
use crate::routing::KeyRow;
use crate::{
    Database, DatabaseName, DbService, Error, Result, ShardId, ShardKey, ShardStatus, Sql,
    Timestamp, Tx, Unavailable,
};

const LOCK: Sql = Sql::per_engine()
    .sqlite("SELECT shard_id, moving_to, epoch FROM trine_shard_key WHERE shard_key = ?")
    .mysql("SELECT shard_id, moving_to, epoch FROM trine_shard_key WHERE shard_key = ? FOR UPDATE");

/// Keeps the target from changing its status until the claim is committed.
const STATUS: Sql = Sql::per_engine()
    .sqlite("SELECT status FROM trine_shard WHERE id = ?")
    .mysql("SELECT status FROM trine_shard WHERE id = ? LOCK IN SHARE MODE");

const CLAIM: Sql = Sql::portable(
    "UPDATE trine_shard_key SET moving_to = ?, epoch = epoch + 1, changed_at = ? \
     WHERE shard_key = ?",
);

const SETTLE: Sql = Sql::portable(
    "UPDATE trine_shard_key SET shard_id = ?, moving_to = NULL, epoch = epoch + 1, \
     changed_at = ? WHERE shard_key = ? AND epoch = ? AND moving_to = ?",
);

/// The right to change what the shards say of a key, until somebody takes a
/// higher epoch.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) key: ShardKey,
    pub(super) from: ShardId,
    pub(super) to: ShardId,
    pub(super) source: Database,
    pub(super) target: Database,
    pub(super) epoch: u64,
}

/// The right to end a move. Its target may be away for good.
#[derive(Debug)]
pub(super) struct Aborted {
    pub(super) from: ShardId,
    pub(super) to: ShardId,
    pub(super) source: Database,
    pub(super) epoch: u64,
}

#[derive(Debug)]
pub(super) enum Claimed {
    Move(Claim),
    AlreadyThere,
}

impl DbService {
    /// Begins a move, or takes one over that has begun.
    pub(super) async fn claim_move(&self, key: &ShardKey, to: ShardId) -> Result<Claimed> {
        // What this process does not know yet may be in the map all the same.
        if !self.shared.map.load().knows(to) {
            self.reload().await?;
        }
        let claimed = self.global().transaction(|mut tx| async move {
            let row = self.locked_row(OPERATION, &mut tx, key).await?;
            match row.moving_to {
                None if row.shard_id == to => return Ok(Claimed::AlreadyThere),
                Some(other) if other != to => {
                    let found = format!("{key:?} is being moved to shard {other}");
                    return Err(Error::state(self.global().at(OPERATION), found));
                }
                None | Some(_) => {}
            }
            check_target(&mut tx, to).await?;
            let claim = self.claim(key, row, to)?;
            for part in [&claim.source, &claim.target] {
                part.check_status(OPERATION, Access::Write)?;
            }
            self.take(&mut tx, key, Some(to)).await?;
            Ok(Claimed::Move(claim))
        });
        let claimed = claimed.await;
        self.shared.keys.forget(key);
        claimed
    }

    /// Takes over a move in order to abort it; `None` if there is none.
    pub(super) async fn claim_abort(&self, key: &ShardKey) -> Result<Option<Aborted>> {
        self.global()
            .transaction(|mut tx| async move {
                let row = self.locked_row("abort_move", &mut tx, key).await?;
                let Some(to) = row.moving_to else { return Ok(None) };
                let source = self.shard(row.shard_id)?;
                self.take(&mut tx, key, Some(to)).await?;
                Ok(Some(Aborted { from: row.shard_id, to, source, epoch: row.epoch + 1 }))
            })
            .await
    }

    /// Takes an epoch for the removal of what a key has left elsewhere.
    pub(super) async fn claim_removal(
        &self,
        key: &ShardKey,
        home: ShardId,
    ) -> Result<(Database, u64)> {
        let target = self.shard(home)?;
        let epoch = self.global().transaction(|mut tx| async move {
            let row = self.locked_row(OPERATION, &mut tx, key).await?;
            if row.shard_id != home || row.moving_to.is_some() {
                return Err(superseded(self.global()));
            }
            self.take(&mut tx, key, None).await?;
            Ok(row.epoch + 1)
        });
        Ok((target, epoch.await?))
    }

    /// Lets the map lead to the target.
    pub(super) async fn switch(&self, claim: &Claim) -> Result<()> {
        self.settle(&claim.key, claim.epoch, claim.to, claim.to).await
    }

    /// Lets the map lead to the source again.
    pub(super) async fn give_back(&self, key: &ShardKey, aborted: &Aborted) -> Result<()> {
        self.settle(key, aborted.epoch, aborted.to, aborted.from).await
    }

    async fn settle(
        &self,
        key: &ShardKey,
        epoch: u64,
        moving_to: ShardId,
        home: ShardId,
    ) -> Result<()> {
        let params = (home.get(), self.changed_at(), key.as_bytes(), epoch, moving_to.get());
        let done = self.global().execute(SETTLE, params).await;
        self.shared.keys.forget(key);
        if done?.affected == 0 {
            return Err(superseded(self.global()));
        }
        Ok(())
    }

    async fn locked_row(
        &self,
        operation: &'static str,
        tx: &mut Tx,
        key: &ShardKey,
    ) -> Result<KeyRow> {
        let row = tx.query_optional(LOCK, (key.as_bytes(),)).await?;
        row.ok_or_else(|| {
            let at = self.global().at(operation);
            Error::not_found(at, format!("shard of {key:?}"))
        })
    }

    async fn take(&self, tx: &mut Tx, key: &ShardKey, moving_to: Option<ShardId>) -> Result<()> {
        let moving_to = moving_to.map(ShardId::get);
        tx.execute(CLAIM, (moving_to, self.changed_at(), key.as_bytes())).await?;
        Ok(())
    }

    fn claim(&self, key: &ShardKey, row: KeyRow, to: ShardId) -> Result<Claim> {
        Ok(Claim {
            key: key.clone(),
            from: row.shard_id,
            to,
            source: self.shard(row.shard_id)?,
            target: self.shard(to)?,
            epoch: row.epoch + 1,
        })
    }

    fn changed_at(&self) -> Timestamp {
        self.shared.deps.clock.wall().into()
    }
}

async fn check_target(tx: &mut Tx, to: ShardId) -> Result<()> {
    let at = At::new(OPERATION, &DatabaseName::Shard(to));
    let status: Option<ShardStatus> = tx.query_optional(STATUS, (to.get(),)).await?;
    match status {
        Some(status) if status.can_assign() => Ok(()),
        Some(status) => Err(Error::unavailable(at, Unavailable::Status(status))),
        None => Err(Error::not_found(at, format!("shard {to}"))),
    }
}
