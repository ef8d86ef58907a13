use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteOperation, SqliteSynchronous,
};
use trine_core::Durability;

use super::link::Link;
use super::watch::Watch;

/// How long SQLite waits for a lock of another program. Nobody of this process
/// ever makes it wait.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_millis(500);

/// Virtual machine steps between two questions to the watch: some ten
/// microseconds.
const STEPS: i32 = 1000;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Writer(Durability),
    Reader,
}

/// Connects to the database at `path`. The writer creates it.
pub(super) async fn connect(path: &Path, role: Role) -> Result<Link, sqlx::Error> {
    let mut connection = options(path, role).connect().await?;
    let watch = Arc::new(Watch::default());
    set_hooks(&mut connection, role, &watch).await?;
    Ok(Link::new(connection, watch))
}

fn options(path: &Path, role: Role) -> SqliteConnectOptions {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(BUSY_TIMEOUT)
        .foreign_keys(true)
        .row_buffer_size(64)
        .disable_statement_logging();
    match role {
        Role::Writer(durability) => {
            let is_synced = durability == Durability::Synced;
            let synchronous =
                if is_synced { SqliteSynchronous::Full } else { SqliteSynchronous::Normal };
            let options = options
                .create_if_missing(true)
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(synchronous)
                // Where a flush of the file does not reach the disk without it.
                .pragma("fullfsync", if is_synced { "ON" } else { "OFF" })
                .thread_name(|number| format!("trine-sqlite-writer-{number}"));
            // KiB, most and only when used: five databases fit a small host.
            options.pragma("cache_size", "-2048").pragma("journal_size_limit", "16777216")
        }
        Role::Reader => options
            .read_only(true)
            .statement_cache_capacity(64)
            .pragma("query_only", "ON")
            .pragma("cache_size", "-1024")
            .thread_name(|number| format!("trine-sqlite-reader-{number}")),
    }
}

async fn set_hooks(
    connection: &mut SqliteConnection,
    role: Role,
    watch: &Arc<Watch>,
) -> Result<(), sqlx::Error> {
    let mut handle = connection.lock_handle().await?;
    let asked = Arc::clone(watch);
    handle.set_progress_handler(STEPS, move || asked.may_go_on());
    if role == Role::Reader {
        return Ok(());
    }
    let told = Arc::clone(watch);
    handle.set_rollback_hook(move || told.rolled_back());
    let told = Arc::clone(watch);
    handle.set_update_hook(move |change| {
        if change.operation == SqliteOperation::Insert {
            told.inserted(change.table, change.rowid);
        }
    });
    Ok(())
}
