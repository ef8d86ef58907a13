use trine_core::BoxError;

use super::weight::choose;
use super::{KeyRow, Route};
use crate::error::At;
use crate::{
    DatabaseName, DbService, Error, InvalidShardKey, Result, ShardId, ShardKey, ShardStatus, Sql,
    Timestamp, Unavailable,
};

/// One statement, so one transaction: the primary key lets one of many win,
/// and the lock on the shard's row keeps its status until the key is committed.
const BY_WEIGHT: Sql = Sql::per_engine()
    .sqlite(
        "INSERT INTO trine_shard_key (shard_key, shard_id, moving_to, epoch, changed_at) \
         SELECT ?, id, NULL, 1, ? FROM trine_shard \
         WHERE id = ? AND status = 'active' AND weight > 0 \
         ON CONFLICT (shard_key) DO NOTHING",
    )
    .mysql(
        "INSERT IGNORE INTO trine_shard_key (shard_key, shard_id, moving_to, epoch, changed_at) \
         SELECT ?, id, NULL, 1, ? FROM trine_shard \
         WHERE id = ? AND status = 'active' AND weight > 0 LOCK IN SHARE MODE",
    );

const BY_CHOICE: Sql = Sql::per_engine()
    .sqlite(
        "INSERT INTO trine_shard_key (shard_key, shard_id, moving_to, epoch, changed_at) \
         SELECT ?, id, NULL, 1, ? FROM trine_shard WHERE id = ? AND status = 'active' \
         ON CONFLICT (shard_key) DO NOTHING",
    )
    .mysql(
        "INSERT IGNORE INTO trine_shard_key (shard_key, shard_id, moving_to, epoch, changed_at) \
         SELECT ?, id, NULL, 1, ? FROM trine_shard WHERE id = ? AND status = 'active' \
         LOCK IN SHARE MODE",
    );

/// How often a choice is made again when its shard stopped taking keys, or a
/// deadlock is met.
const ATTEMPTS: u32 = 5;

impl DbService {
    /// Gives `key` a shard, by weight among those that take new keys, and
    /// returns it; a key that has one keeps it.
    ///
    /// Idempotent, however many processes do it at once: the first committed
    /// row decides, and all get the same answer. If the future is dropped, the
    /// key may have been assigned.
    ///
    /// # Errors
    ///
    /// Fails with `Unavailable` if no shard is active with a weight above 0,
    /// the chain saying why for each; `Invalid` for a text that cannot be a
    /// key; and with the errors of the global database.
    pub async fn assign(
        &self,
        key: impl TryInto<ShardKey, Error: Into<InvalidShardKey>>,
    ) -> Result<ShardId> {
        const OPERATION: &str = "assign";
        let key = self.key(OPERATION, key)?;
        if let Some(route) = self.route(OPERATION, &key).await? {
            return Ok(route.row.shard_id);
        }
        for _ in 0..ATTEMPTS {
            let shard = self.choose(OPERATION, &key)?;
            if let Some(found) = self.insert(OPERATION, BY_WEIGHT, &key, shard).await? {
                return Ok(found);
            }
            // This process's copy of the shard table was behind.
            self.reload().await?;
        }
        Err(self.no_shard(OPERATION))
    }

    /// Gives `key` this shard, whatever the weights; a key that is there
    /// already stays there.
    ///
    /// Idempotent. If the future is dropped, the key may have been assigned.
    ///
    /// # Errors
    ///
    /// Fails with `Conflict` if the key has another shard, `NotFound` for an
    /// unknown shard, `Unavailable` for one that takes no new keys, `Invalid`
    /// for a text that cannot be a key, and with the errors of the global
    /// database.
    pub async fn assign_to(
        &self,
        key: impl TryInto<ShardKey, Error: Into<InvalidShardKey>>,
        shard: impl Into<ShardId>,
    ) -> Result<()> {
        const OPERATION: &str = "assign_to";
        let key = self.key(OPERATION, key)?;
        let shard = shard.into();
        for _ in 0..ATTEMPTS {
            match self.insert(OPERATION, BY_CHOICE, &key, shard).await? {
                Some(found) if found == shard => return Ok(()),
                Some(found) => {
                    let found = format!("{key:?} has shard {found}");
                    return Err(Error::state(self.global().at(OPERATION), found));
                }
                None => self.reload().await?,
            }
            let status = self.shared.map.load().get(shard).map(|known| known.status);
            match status {
                // It was set active in between.
                Some(status) if status.can_assign() => {}
                Some(status) => {
                    let at = At::new(OPERATION, &DatabaseName::Shard(shard));
                    return Err(Error::unavailable(at, Unavailable::Status(status)));
                }
                None => drop(self.shard(shard)?),
            }
        }
        Err(self.no_shard(OPERATION))
    }

    fn choose(&self, operation: &'static str, key: &ShardKey) -> Result<ShardId> {
        let map = self.shared.map.load();
        let takers = map.shards.values().filter(|shard| shard.status.can_assign());
        let weighted = takers.map(|shard| (shard.id, shard.weight));
        choose(key.as_bytes(), weighted).ok_or_else(|| self.no_shard(operation))
    }

    /// Returns the shard of `key` afterwards; `None` if `shard` does not take
    /// it and nobody else has it.
    async fn insert(
        &self,
        operation: &'static str,
        sql: Sql,
        key: &ShardKey,
        shard: ShardId,
    ) -> Result<Option<ShardId>> {
        let clock = &self.shared.deps.clock;
        let mut attempts = 1;
        let done = loop {
            let read_at = clock.now();
            let params = (key.as_bytes(), Timestamp::from(clock.wall()), shard.get());
            match self.global().execute(sql, params).await {
                Err(error) if error.is_deadlock() && attempts < ATTEMPTS => attempts += 1,
                Err(error) => return Err(error),
                Ok(done) => break (done.affected == 1).then_some(read_at),
            }
        };
        if let Some(read_at) = done {
            let row = KeyRow { shard_id: shard, moving_to: None, epoch: 1 };
            self.shared.keys.remember(key, Route { row, read_at });
            return Ok(Some(shard));
        }
        // Not shared: a read that was sent before the other's commit would
        // show nothing.
        Ok(self.read_route(operation, key).await?.map(|route| route.row.shard_id))
    }

    fn no_shard(&self, operation: &'static str) -> Error {
        let map = self.shared.map.load();
        let why = |shard: &crate::map::Shard| match shard.status {
            ShardStatus::Active => format!("shard {} has weight {}", shard.id, shard.weight),
            status => format!("shard {} is {status}", shard.id),
        };
        let left_out = map.left_out.iter().map(|(id, row)| format!("shard {id}: {}", row.why));
        let each: Vec<_> = map.shards.values().map(why).chain(left_out).collect();
        let each = if each.is_empty() { "there is none".to_owned() } else { each.join(", ") };
        let cause = BoxError::from(format!("no shard takes new keys: {each}"));
        Error::Unavailable {
            at: self.global().at(operation),
            reason: Unavailable::NoShard,
            cause: Some(cause),
        }
    }
}
