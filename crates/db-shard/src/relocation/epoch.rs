use std::future::Future;
use std::sync::{Mutex, PoisonError};

use serde::Deserialize;

use crate::backend::Access;
use crate::routing::Route;
use crate::{Database, Error, Result, ShardKey, Sql, Tx, TxOptions, Value};

/// What a shard has to do with a key, in its `trine_key_epoch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum KeyState {
    /// The key lives here.
    Settled,
    /// It still lives here, and takes no writes.
    Moving,
    /// A move writes its rows here.
    Arriving,
    /// It lives elsewhere; its rows may be here still.
    Moved,
    /// It lives elsewhere, and its rows are gone.
    Removed,
}

impl KeyState {
    fn as_str(self) -> &'static str {
        match self {
            Self::Settled => "settled",
            Self::Moving => "moving",
            Self::Arriving => "arriving",
            Self::Moved => "moved",
            Self::Removed => "removed",
        }
    }
}

/// A key's row in one shard. Its epoch is that of whoever wrote it last: each
/// move and each abort takes a new one from the global database first, and a
/// lower one changes nothing here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct EpochRow {
    pub(crate) epoch: u64,
    pub(crate) state: KeyState,
}

/// Keeps others from changing the row until the end of the transaction. The
/// writer of SQLite is alone anyway.
const SHARE: Sql = Sql::per_engine()
    .sqlite("SELECT epoch, state FROM trine_key_epoch WHERE shard_key = ?")
    .mysql("SELECT epoch, state FROM trine_key_epoch WHERE shard_key = ? LOCK IN SHARE MODE");

const READ: Sql = Sql::portable("SELECT epoch, state FROM trine_key_epoch WHERE shard_key = ?");

const PREPARE: Sql = Sql::per_engine()
    .sqlite(
        "INSERT INTO trine_key_epoch (shard_key, epoch, state) VALUES (?, ?, 'settled') \
         ON CONFLICT (shard_key) DO NOTHING",
    )
    .mysql("INSERT IGNORE INTO trine_key_epoch (shard_key, epoch, state) VALUES (?, ?, 'settled')");

/// MySQL assigns from left to right: the state is compared with the old epoch.
const MARK: Sql = Sql::per_engine()
    .sqlite(
        "INSERT INTO trine_key_epoch (shard_key, epoch, state) VALUES (?, ?, ?) \
         ON CONFLICT (shard_key) DO UPDATE SET \
         state = CASE WHEN epoch <= excluded.epoch THEN excluded.state ELSE state END, \
         epoch = max(epoch, excluded.epoch)",
    )
    .mysql(
        "INSERT INTO trine_key_epoch (shard_key, epoch, state) VALUES (?, ?, ?) \
         ON DUPLICATE KEY UPDATE state = IF(epoch <= VALUES(epoch), VALUES(state), state), \
         epoch = GREATEST(epoch, VALUES(epoch))",
    );

/// Makes sure that there is a row to lock. Outside of the transaction that
/// locks it: an insert inside would keep out all others of the key.
pub(crate) async fn prepare(database: &Database, key: &ShardKey, epoch: u64) -> Result<()> {
    database.execute(PREPARE, (key.as_bytes(), epoch)).await?;
    Ok(())
}

/// Sets the state of a key's row, once the transactions that share it are over.
///
/// # Errors
///
/// Fails with `Conflict` if somebody with a higher epoch was here.
pub(crate) async fn mark(
    database: &Database,
    key: &ShardKey,
    epoch: u64,
    state: KeyState,
) -> Result<()> {
    let written = EpochRow { epoch, state };
    let row: Option<EpochRow> = database
        .transaction(|mut tx| async move {
            tx.execute(MARK, (key.as_bytes(), epoch, state.as_str())).await?;
            tx.query_optional(SHARE, (key.as_bytes(),)).await
        })
        .await?;
    if row == Some(written) { Ok(()) } else { Err(superseded(database)) }
}

/// Returns a key's row, without a lock.
pub(crate) async fn read(database: &Database, key: &ShardKey) -> Result<Option<EpochRow>> {
    database.query_optional(READ, (key.as_bytes(),)).await
}

pub(crate) fn superseded(database: &Database) -> Error {
    let found = "the move was taken over, finished or aborted by somebody else";
    Error::state(database.at("move_key"), found)
}

/// The first look of a transaction at its key's row, which lets it in or not.
#[derive(Debug)]
pub(crate) struct Gate {
    key: ShardKey,
    rule: Rule,
    refusal: Mutex<Option<Refusal>>,
}

#[derive(Clone, Copy, Debug)]
enum Rule {
    /// Somebody works on the key where the map says that it is.
    Serve { epoch: u64, is_moving: bool, read_only: bool },
    /// A move writes rows or removes them.
    Carry(EpochRow),
}

/// Why a transaction was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// There is no row that could be locked.
    Missing,
    /// The key is not here, not any more, or not in the hands of this move.
    Elsewhere,
}

impl Gate {
    pub(crate) fn serving(key: &ShardKey, route: Route, read_only: bool) -> Self {
        let (epoch, is_moving) = (route.row.epoch, route.is_moving());
        Self::new(key, Rule::Serve { epoch, is_moving, read_only })
    }

    pub(crate) fn carrying(key: &ShardKey, epoch: u64, state: KeyState) -> Self {
        Self::new(key, Rule::Carry(EpochRow { epoch, state }))
    }

    fn new(key: &ShardKey, rule: Rule) -> Self {
        Self { key: key.clone(), rule, refusal: Mutex::new(None) }
    }

    /// Returns why the last transaction was refused.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks the key's row until the end of the transaction.
    ///
    /// # Errors
    ///
    /// Fails with the errors of the database, and if the transaction is
    /// refused.
    pub(crate) async fn pass(&self, tx: &mut Tx) -> Result<()> {
        const OPERATION: &str = "lock key";
        let has_rivals = tx.database().capabilities().concurrent_writers;
        let open = tx.open_mut(OPERATION)?;
        let call = open.call(OPERATION)?;
        let values = vec![Value::from(self.key.as_bytes())];
        let look = open.database.own_statement(SHARE, values, Access::Read);
        let result = open.expose().run(call, look).await;
        let row = open.settle(result)?.rows.pop();
        let at = open.database.at(OPERATION);
        let row = match row {
            Some(row) => Some(row.decode().map_err(|error| error.at(at))?),
            None => None,
        };
        let refusal = self.rule.check(row, has_rivals);
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = refusal;
        match refusal {
            Some(_) => Err(superseded(tx.database())),
            None => Ok(()),
        }
    }

    /// Runs `body` in transactions that pass this gate first.
    pub(crate) async fn transaction<T, E, F, Fut>(
        &self,
        database: &Database,
        options: &TxOptions,
        body: &Mutex<F>,
    ) -> Result<T, E>
    where
        E: From<Error>,
        F: FnMut(Tx) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let guarded = |mut tx: Tx| async move {
            self.pass(&mut tx).await?;
            // The mutex lets the futures of several attempts share one body;
            // it is free again before the future runs.
            let running = {
                let mut body = body.lock().unwrap_or_else(PoisonError::into_inner);
                (*body)(tx)
            };
            running.await
        };
        database.transaction_with(options, guarded).await
    }
}

impl Rule {
    fn check(self, row: Option<EpochRow>, has_rivals: bool) -> Option<Refusal> {
        let is_let_in = match (self, row) {
            (Self::Carry(expected), row) => row == Some(expected),
            (Self::Serve { read_only, .. }, None) => {
                return (has_rivals && !read_only).then_some(Refusal::Missing);
            }
            (Self::Serve { epoch, is_moving, read_only }, Some(row)) => {
                let is_here = match row.state {
                    KeyState::Settled => true,
                    KeyState::Moving => read_only && is_moving,
                    KeyState::Arriving | KeyState::Moved | KeyState::Removed => false,
                };
                // A lower epoch was looked up before the key came here last.
                is_here && row.epoch <= epoch
            }
        };
        (!is_let_in).then_some(Refusal::Elsewhere)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [KeyState; 5] = [
        KeyState::Settled,
        KeyState::Moving,
        KeyState::Arriving,
        KeyState::Moved,
        KeyState::Removed,
    ];

    fn serve(is_moving: bool, read_only: bool) -> Rule {
        Rule::Serve { epoch: 5, is_moving, read_only }
    }

    fn row(epoch: u64, state: KeyState) -> Option<EpochRow> {
        Some(EpochRow { epoch, state })
    }

    #[test]
    fn writers_pass_where_the_key_lives_and_nowhere_else() {
        for state in ALL {
            let is_refused = serve(false, false).check(row(5, state), true).is_some();
            assert_eq!(is_refused, state != KeyState::Settled, "{state:?}");
        }
    }

    #[test]
    fn an_old_look_at_the_map_is_refused_even_where_the_key_came_back() {
        let stale = serve(false, false).check(row(6, KeyState::Settled), true);
        assert_eq!(stale, Some(Refusal::Elsewhere));
        assert_eq!(serve(false, false).check(row(4, KeyState::Settled), true), None);
    }

    #[test]
    fn readers_pass_at_the_source_while_the_map_says_moving() {
        assert_eq!(serve(true, true).check(row(5, KeyState::Moving), true), None);
        assert!(serve(false, true).check(row(5, KeyState::Moving), true).is_some());
        assert!(serve(true, true).check(row(5, KeyState::Arriving), true).is_some());
    }

    #[test]
    fn a_missing_row_matters_where_writers_are_not_alone() {
        assert_eq!(serve(false, false).check(None, true), Some(Refusal::Missing));
        assert_eq!(serve(false, false).check(None, false), None);
        assert_eq!(serve(false, true).check(None, true), None);
    }

    #[test]
    fn a_replaced_move_writes_nothing() {
        let carry = Rule::Carry(EpochRow { epoch: 5, state: KeyState::Arriving });
        assert_eq!(carry.check(row(5, KeyState::Arriving), true), None);
        assert!(carry.check(row(6, KeyState::Arriving), true).is_some());
        assert!(carry.check(row(5, KeyState::Settled), true).is_some());
        assert!(carry.check(None, true).is_some());
    }
}
