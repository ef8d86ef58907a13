use std::collections::BTreeMap;

use crate::backend::Access;
use crate::{Database, Error, Result, ShardId, ShardStatus, Sql, Value};
use serde::Deserialize;

const READ: Sql =
    Sql::portable("SELECT id, connection, weight, status, epoch FROM trine_shard ORDER BY id");

/// A shard as the global database has it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct ShardRow {
    pub(crate) id: ShardId,
    pub(crate) connection: Box<str>,
    pub(crate) weight: u32,
    pub(crate) status: ShardStatus,
    pub(crate) epoch: u64,
}

/// A shard as this process has it.
#[derive(Clone, Debug)]
pub(crate) struct Shard {
    pub(crate) row: ShardRow,
    pub(crate) database: Database,
}

/// This process's copy of the shard table.
#[derive(Clone, Debug)]
pub(crate) struct ShardMap {
    pub(crate) shards: BTreeMap<ShardId, Shard>,
}

impl ShardMap {
    pub(crate) fn empty() -> Self {
        Self { shards: BTreeMap::new() }
    }

    pub(crate) fn get(&self, id: ShardId) -> Option<&Shard> {
        self.shards.get(&id)
    }

    pub(crate) fn ids(&self) -> Vec<ShardId> {
        self.shards.keys().copied().collect()
    }
}

/// Reads the shard table, whatever the state of the service.
pub(crate) async fn read(global: &Database) -> Result<Vec<ShardRow>> {
    const OPERATION: &str = "read shard map";
    let call = global.own_call(OPERATION);
    let statement = global.own_statement(READ, Vec::new(), Access::Read);
    let rows = global.shared().backend().run(call, statement).await?.rows;
    rows.iter().map(|row| row.decode().map_err(|error| error.at(global.at(OPERATION)))).collect()
}

const REGISTER: Sql = Sql::per_engine()
    .sqlite(
        "INSERT INTO trine_shard (id, connection, weight, status, epoch) \
         VALUES (?, ?, ?, 'active', 1) ON CONFLICT (id) DO NOTHING",
    )
    .mysql(
        "INSERT INTO trine_shard (id, connection, weight, status, epoch) \
         VALUES (?, ?, ?, 'active', 1) ON DUPLICATE KEY UPDATE id = id",
    );

/// Registers a shard that the map does not know yet; one that it knows keeps
/// what the map says.
///
/// # Errors
///
/// Fails with `Conflict` if another shard has the connection.
pub(crate) async fn register(
    global: &Database,
    id: ShardId,
    connection: &str,
    weight: u32,
) -> Result<()> {
    const OPERATION: &str = "register shard";
    let call = global.own_call(OPERATION);
    let values = vec![Value::from(id.get()), connection.into(), weight.into()];
    let statement = global.own_statement(REGISTER, values, Access::Write);
    global.shared().backend().run(call, statement).await?;
    let rows = read(global).await?;
    match rows.iter().find(|row| &*row.connection == connection) {
        Some(row) if row.id == id => Ok(()),
        Some(row) => {
            let found = format!("connection `{connection}` is already shard {}", row.id);
            Err(Error::state(global.at(OPERATION), found))
        }
        // The map knows the id under another connection, and the map decides.
        None => Ok(()),
    }
}
