use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::backend::Access;
use crate::shard::UnknownStatus;
use crate::{Database, Error, Result, ShardConfig, ShardId, ShardStatus, Sql, Value};

const READ: Sql =
    Sql::portable("SELECT id, connection, weight, status FROM trine_shard ORDER BY id");

/// A shard as the global database has it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct ShardRow {
    pub(crate) id: ShardId,
    pub(crate) connection: Box<str>,
    pub(crate) weight: u32,
    status: Box<str>,
}

impl ShardRow {
    /// Returns the row that registering `shard` makes.
    pub(crate) fn new(shard: &ShardConfig) -> Self {
        Self {
            id: shard.id,
            connection: shard.connection.as_str().into(),
            weight: shard.weight,
            status: ShardStatus::Active.as_str().into(),
        }
    }

    /// Reads the status, which a newer release may have written.
    pub(crate) fn status(&self) -> Result<ShardStatus, UnknownStatus> {
        self.status.parse()
    }
}

/// A shard as this process has it.
#[derive(Clone, Debug)]
pub(crate) struct Shard {
    pub(crate) id: ShardId,
    pub(crate) connection: Box<str>,
    pub(crate) weight: u32,
    pub(crate) status: ShardStatus,
    pub(crate) database: Database,
}

/// This process's copy of the shard table.
#[derive(Clone, Debug, Default)]
pub(crate) struct ShardMap {
    pub(crate) shards: BTreeMap<ShardId, Shard>,
    pub(crate) left_out: BTreeMap<ShardId, LeftOut>,
}

/// A row that this process cannot use.
#[derive(Clone, Debug)]
pub(crate) struct LeftOut {
    pub(crate) why: Box<str>,
    /// What callers hold of it from better times.
    pub(crate) database: Option<Database>,
}

impl ShardMap {
    pub(crate) fn get(&self, id: ShardId) -> Option<&Shard> {
        self.shards.get(&id)
    }

    /// Tells whether the shard table has the shard.
    pub(crate) fn knows(&self, id: ShardId) -> bool {
        self.shards.contains_key(&id) || self.left_out.contains_key(&id)
    }

    /// Returns every shard of the table, those left out among them.
    pub(crate) fn ids(&self) -> BTreeSet<ShardId> {
        self.shards.keys().chain(self.left_out.keys()).copied().collect()
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

/// Registers the shards that the map does not know yet; one that it knows keeps
/// what the map says.
///
/// # Errors
///
/// Fails with `Conflict` if another shard has the connection.
pub(crate) async fn register(global: &Database, shards: &[ShardConfig]) -> Result<()> {
    const OPERATION: &str = "register shard";
    let mut rows = read(global).await?;
    // What is known already needs no right to write, and no writable server.
    let is_known = |rows: &[ShardRow], id| rows.iter().any(|row| row.id == id);
    for shard in shards.iter().filter(|shard| !is_known(&rows, shard.id)) {
        let call = global.own_call(OPERATION);
        let connection = shard.connection.as_str();
        let values = vec![Value::from(shard.id.get()), connection.into(), shard.weight.into()];
        let statement = global.own_statement(REGISTER, values, Access::Write);
        global.shared().backend().run(call, statement).await?;
    }
    if shards.iter().any(|shard| !is_known(&rows, shard.id)) {
        rows = read(global).await?;
    }
    for shard in shards {
        let holder = rows.iter().find(|row| *row.connection == *shard.connection);
        // Where the map knows the id under another connection, it decides.
        if let Some(row) = holder.filter(|row| row.id != shard.id) {
            let found = format!("connection `{}` is already shard {}", row.connection, row.id);
            return Err(Error::state(global.at(OPERATION), found));
        }
    }
    Ok(())
}
