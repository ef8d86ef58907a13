use serde::Deserialize;

use super::plan::Planned;
use crate::backend::{Access, BackendTransaction, Call, Statement};
use crate::{Database, Engine, Result, Sql, StatementText, Value};

/// Longest stored error in characters.
const MAX_ERROR: usize = 1024;

/// Tells whether the table of the versions is there.
const HAS_TABLE: Sql = Sql::per_engine()
    .sqlite("SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = ?")
    .mysql(
        "SELECT COUNT(*) FROM information_schema.tables \
         WHERE table_schema = DATABASE() AND table_name = ?",
    );

const READ: Sql = Sql::portable(
    "SELECT owner, version, name, fingerprint, state, next_statement, error \
     FROM trine_migration ORDER BY owner, version",
);

/// What was applied stays, so that the insert of a second one fails.
const CLEAR: Sql = Sql::portable(
    "DELETE FROM trine_migration WHERE owner = ? AND version = ? AND state <> 'applied'",
);

const INSERT: Sql = Sql::per_engine()
    .sqlite(
        "INSERT INTO trine_migration \
         (owner, version, name, fingerprint, state, next_statement, error, applied_at) \
         VALUES (?, ?, ?, ?, ?, ?, ?, \
         CASE WHEN ? = 'applied' THEN CAST(unixepoch('subsec') * 1000000 AS INTEGER) END)",
    )
    .mysql(
        "INSERT INTO trine_migration \
         (owner, version, name, fingerprint, state, next_statement, error, applied_at) \
         VALUES (?, ?, ?, ?, ?, ?, ?, CASE WHEN ? = 'applied' THEN UTC_TIMESTAMP(6) END)",
    );

/// Returns the statements that make the runner's own tables. Each may run
/// again.
pub(super) fn own_tables(engine: Engine) -> &'static [&'static str] {
    match engine {
        Engine::Sqlite => &["CREATE TABLE IF NOT EXISTS trine_migration (
                owner TEXT NOT NULL,
                version INTEGER NOT NULL,
                name TEXT NOT NULL,
                fingerprint TEXT NOT NULL,
                state TEXT NOT NULL,
                next_statement INTEGER NOT NULL,
                error TEXT,
                applied_at INTEGER,
                PRIMARY KEY (owner, version)
            ) WITHOUT ROWID"],
        Engine::Mysql => &[
            "CREATE TABLE IF NOT EXISTS trine_migration_lease (
                id INT UNSIGNED NOT NULL PRIMARY KEY,
                holder VARCHAR(255) CHARACTER SET utf8mb4 NOT NULL,
                token CHAR(32) CHARACTER SET ascii NOT NULL,
                expires_at DATETIME(6) NOT NULL
            ) ENGINE=InnoDB",
            "INSERT IGNORE INTO trine_migration_lease (id, holder, token, expires_at) \
             VALUES (1, '', '', '2000-01-01 00:00:00')",
            "CREATE TABLE IF NOT EXISTS trine_migration (
                owner VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
                version INT UNSIGNED NOT NULL,
                name VARCHAR(255) CHARACTER SET utf8mb4 NOT NULL,
                fingerprint CHAR(16) CHARACTER SET ascii NOT NULL,
                state VARCHAR(16) CHARACTER SET ascii NOT NULL,
                next_statement INT UNSIGNED NOT NULL,
                error VARCHAR(1024) CHARACTER SET utf8mb4 NULL,
                applied_at DATETIME(6) NULL,
                PRIMARY KEY (owner, version)
            ) ENGINE=InnoDB",
        ],
    }
}

/// How far a step has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    /// Statement `next_statement` may have run; the ones before it have.
    Applying,
    /// All of it is there.
    Applied,
    /// The database refused statement `next_statement`.
    Failed,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Applying => "applying",
            Self::Applied => "applied",
            Self::Failed => "failed",
        }
    }
}

/// A row of `trine_migration`.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Record {
    pub(super) owner: Box<str>,
    pub(super) version: u32,
    pub(super) name: Box<str>,
    pub(super) fingerprint: Box<str>,
    pub(super) state: State,
    pub(super) next_statement: u32,
    pub(super) error: Option<Box<str>>,
}

/// Every row of `trine_migration`.
#[derive(Clone, Debug, Default)]
pub(super) struct Records(pub(super) Vec<Record>);

impl Records {
    pub(super) fn of(&self, step: &Planned) -> Option<&Record> {
        self.0.iter().find(|row| row.owner == step.owner && row.version == step.version)
    }

    pub(super) fn is_applied(&self, step: &Planned) -> bool {
        self.of(step).is_some_and(|record| record.state == State::Applied)
    }
}

/// Reads the table, which may not be there yet.
pub(super) async fn read(database: &Database, call: Call) -> Result<Records> {
    if !has_table(database, call, "trine_migration").await? {
        return Ok(Records::default());
    }
    let statement = database.own_statement(READ, Vec::new(), Access::Read);
    let rows = database.shared().backend().run(call, statement).await?.rows;
    let at = || database.at(call.operation);
    let records = rows.iter().map(|row| row.decode().map_err(|error| error.at(at())));
    Ok(Records(records.collect::<Result<_>>()?))
}

pub(super) async fn has_table(database: &Database, call: Call, table: &str) -> Result<bool> {
    let statement = database.own_statement(HAS_TABLE, vec![table.into()], Access::Read);
    let row = database.shared().backend().run(call, statement).await?.rows.pop();
    let count = row.map(|row| row.decode::<i64>()).transpose();
    Ok(count.map_err(|error| error.at(database.at(call.operation)))?.unwrap_or(0) > 0)
}

/// Makes the runner's own tables, asking for the right to do so only where one
/// is missing.
pub(super) async fn make_own_tables(database: &Database, call: Call) -> Result<()> {
    let backend = database.shared().backend();
    let is_complete = has_table(database, call, "trine_migration").await?;
    for text in own_tables(database.engine()) {
        if !is_complete || !text.starts_with("CREATE") {
            let text = StatementText::constant(text);
            backend.run(call, Statement::new(text, Vec::new(), Access::Write)).await?;
        }
    }
    Ok(())
}

/// Returns the statements that store how far `step` has come.
pub(super) fn save(
    database: &Database,
    step: &Planned,
    state: State,
    next_statement: u32,
    error: Option<&str>,
) -> [Statement; 2] {
    let key = || vec![Value::from(&*step.owner), step.version.into()];
    let error = error.map(|text| text.chars().take(MAX_ERROR).collect::<String>());
    let mut values = key();
    values.extend([
        Value::from(&*step.name),
        Value::from(&*step.fingerprint),
        state.as_str().into(),
        next_statement.into(),
        error.into(),
        state.as_str().into(),
    ]);
    [
        database.own_statement(CLEAR, key(), Access::Write),
        database.own_statement(INSERT, values, Access::Write),
    ]
}

/// Stores how far `step` has come as part of a transaction.
pub(super) async fn save_in(
    tx: &mut dyn BackendTransaction,
    call: Call,
    statements: [Statement; 2],
) -> Result<()> {
    for statement in statements {
        tx.run(call, statement).await?;
    }
    Ok(())
}
