use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use trine_core::{Deadline, Report};

use super::DbService;
use crate::map::{self, LeftOut, Shard, ShardMap, ShardRow};
use crate::{Database, Result, ShardId, ShardStatus};

/// One reading of the shard table at a time in this process.
#[derive(Debug, Default)]
pub(super) struct Reloads {
    turn: tokio::sync::Mutex<()>,
    begun: AtomicU64,
    /// The last one that succeeded.
    succeeded: AtomicU64,
}

impl DbService {
    /// Reads the shard map now, instead of at the next `map.refresh`. Whoever
    /// waits for a turn meanwhile shares the next reading.
    ///
    /// # Errors
    ///
    /// Fails with the errors of the global database; the map stays as it is.
    pub async fn reload(&self) -> Result<()> {
        let reloads = &self.shared.reloads;
        let seen = reloads.begun.load(Ordering::Acquire);
        let _turn = reloads.turn.lock().await;
        // A reading that began after this call has found what it looks for.
        if reloads.succeeded.load(Ordering::Acquire) > seen {
            return Ok(());
        }
        let number = reloads.begun.fetch_add(1, Ordering::AcqRel) + 1;
        let rows = map::read(self.global()).await?;
        self.take_over(rows);
        reloads.succeeded.store(number, Ordering::Release);
        Ok(())
    }

    /// Replaces the map by what was read.
    fn take_over(&self, rows: Vec<ShardRow>) {
        let former = self.shared.map.load_full();
        // First, so that no shard gets connections that are about to go.
        for (id, shard) in &former.shards {
            let row = rows.iter().find(|row| row.id == *id);
            let stays = row.is_some_and(|row| {
                row.connection == shard.connection
                    && row.status().is_ok_and(|status| status != ShardStatus::Offline)
            });
            if !stays {
                let status = &shard.database.shared().status;
                status.set(ShardStatus::Offline);
                status.set_proved(false);
                self.release(*id, &shard.connection);
            }
        }
        let (mut shards, mut left_out) = (BTreeMap::new(), BTreeMap::new());
        for row in rows {
            let (id, known) = (row.id, former.get(row.id));
            let before = former.left_out.get(&id);
            let held = known.map(|shard| &shard.database);
            let held = held.or(before.and_then(|before| before.database.as_ref())).cloned();
            let is_connected = known.is_some_and(|shard| {
                shard.status != ShardStatus::Offline && shard.connection == row.connection
            });
            match self.shard_of_row(held.clone(), is_connected, row) {
                Ok(shard) => drop(shards.insert(id, shard)),
                Err(why) => {
                    if before.is_none_or(|before| *before.why != *why) {
                        tracing::warn!(shard = %id, why, "shard left out");
                    }
                    left_out.insert(id, LeftOut { why: why.into(), database: held });
                }
            }
        }
        self.shared.map.store(Arc::new(ShardMap { shards, left_out }));
    }

    /// Returns the shard of `row`, with the handle that callers may already
    /// hold, or why this process cannot use it.
    fn shard_of_row(
        &self,
        held: Option<Database>,
        is_connected: bool,
        row: ShardRow,
    ) -> Result<Shard, String> {
        let status = row.status().map_err(|error| error.to_string())?;
        // A connection that only newer configurations have, perhaps.
        self.shared.config.check_shard_connection(&row.connection)?;
        let report = |error| Report(&error).to_string();
        let database = match held {
            None => {
                let database = self.new_shard(row.id, &row.connection).map_err(report)?;
                database.shared().status.set_proved(false);
                database
            }
            Some(database) => {
                if status != ShardStatus::Offline && !is_connected {
                    let backend = self.shared.pool.acquire(&row.connection, database.name());
                    database.shared().replace_backend(backend.map_err(report)?);
                }
                database
            }
        };
        database.shared().status.set(status);
        let ShardRow { id, connection, weight, .. } = row;
        Ok(Shard { id, connection, weight, status, database })
    }

    /// Closes the connections of a shard without making anybody wait. Whoever
    /// asks for them from here on gets new ones.
    fn release(&self, id: ShardId, connection: &str) {
        let Some(backend) = self.shared.pool.take(connection) else { return };
        let grace = self.shared.config.query_timeout.get();
        self.shared.tasks.spawn(format!("release shard {id}"), async move {
            backend.close(Deadline::after(grace)).await;
        });
    }
}
