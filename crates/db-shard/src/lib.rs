//! One global database and any number of shards, on SQLite, MySQL or MariaDB.
//!
//! A process builds one [`DbConfig`], connects one [`DbService`] from it, and
//! hands out clones; all of them share one [`DbPool`]. What runs SQL is a
//! [`Database`], which the service returns by role ([`global`](DbService::global)),
//! by number ([`shard`](DbService::shard)) or by what it stores
//! ([`for_key`](DbService::for_key)).
//!
//! # Example
//!
//! ```
//! # #[cfg(feature = "sqlite")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use trine_db_shard::{DbConfig, DbService, Result};
//!
//! # let folder = tempfile::tempdir()?;
//! let db = DbService::connect(&DbConfig::sqlite(&folder, 2)).await?;
//! db.global().execute("CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT)", ()).await?;
//!
//! let count: u64 = db
//!     .global()
//!     .transaction(|mut tx| async move {
//!         tx.execute("INSERT INTO note (text) VALUES (?)", ("hello",)).await?;
//!         tx.query_one("SELECT COUNT(*) FROM note", ()).await
//!     })
//!     .await?;
//! assert_eq!(count, 1);
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "sqlite"))]
//! # fn main() {}
//! ```
//!
//! # Guarantees
//!
//! Each names what proves it: a check of the suite, which every engine passes,
//! or a test of the engine that is named.
//!
//! * A write that was acknowledged survives what the [durability] of its
//!   database promises (SQLite: `nothing_acknowledged_is_lost_when_the_process_is_killed`;
//!   MariaDB: `commits_around_a_kill_are_as_they_were_told`).
//! * A transaction is kept or undone as a whole, also when its future is
//!   dropped, its body panics or its connection breaks
//!   (`a_transaction_is_kept_or_undone_as_a_whole`,
//!   `a_dropped_transaction_leaves_nothing`, `a_panicking_body_leaves_nothing`;
//!   MariaDB: `work_lost_before_its_commit_is_known_not_to_have_happened`).
//! * Dropping a future never costs a connection and never hands a row to
//!   another caller (`dropped_queries_cost_no_connection`,
//!   `a_dropped_call_breaks_its_transaction`; MariaDB:
//!   `dropped_calls_lose_no_place_and_leave_no_row_behind`).
//! * A key has one shard, however many processes assign it at once, and a call
//!   for an unknown key or shard goes nowhere else
//!   (`an_unknown_shard_is_never_another_one`; SQLite and MariaDB:
//!   `a_key_gets_one_shard_in_a_race`, `an_unknown_key_is_not_found_and_never_global`;
//!   MariaDB: `three_processes_assign_each_of_10_000_keys_to_one_shard`).
//! * While a key moves, nothing written for it is lost or left behind, also
//!   when the process that moves it is killed (SQLite and MariaDB:
//!   `keys_move_under_load`; MariaDB: `a_killed_mover_is_followed_by_another`).
//! * One statement for many shards is complete, fails, or names the shards that
//!   it lacks (SQLite and MariaDB: `a_missing_shard_is_an_error_or_a_mark`;
//!   MariaDB: `a_shard_that_is_away_fails_alone`).
//! * A migration that the first shard refuses reaches no other one, and one that
//!   was cut off goes on where it was (SQLite and MariaDB:
//!   `a_canary_that_fails_stops_all_others`; MariaDB: `a_killed_run_is_resumed`).
//! * A lost commit reply can be answered: committed, rolled back for good, or
//!   still running (`tickets_tell_what_became_of_a_transaction`,
//!   `a_ticket_asked_for_too_early_decides`; MariaDB:
//!   `a_primary_that_dies_in_a_commit_and_stays_away_leaves_a_ticket`).
//! * Once a newer owner has shown its fence, an older one writes nothing more
//!   (`old_fences_are_refused`, `a_newer_fence_waits_for_the_guarded_write`,
//!   `a_refused_fence_cannot_be_committed`).
//! * A message has its effect once per consumer
//!   (`an_inbox_lets_a_message_in_once`, `an_inbox_makes_the_second_one_wait`).
//! * After-commit handlers run after a commit only, and never break it
//!   (`handlers_run_after_the_commit_only`, `a_failing_handler_harms_no_other`).
//! * One tenant cannot take every connection
//!   (`a_busy_tenant_leaves_room_for_others`; MariaDB:
//!   `a_busy_tenant_starves_no_other`).
//! * A pool of the host's own gets back only connections in order (MariaDB:
//!   `a_dropped_call_costs_the_host_one_connection_and_no_place`,
//!   `an_open_transaction_never_goes_back_to_the_host`).
//! * A shard that is away stops nobody else and comes back by itself (MariaDB:
//!   `a_broken_shard_stops_nobody_else`,
//!   `a_black_holed_shard_delays_nobody_beyond_the_deadline`).
//!
//! # Not provided
//!
//! Transactions over several databases, joins across shards, translation of
//! SQL between engines, read replicas. In-memory after-commit handlers are at
//! most once and unordered. Killing a process proves process-crash durability;
//! power loss is the promise of the engine's own sync.
//!
//! # Feature flags
//!
//! * `sqlite` (default): SQLite, bundled and compiled, in this process.
//! * `mysql`: MySQL ≥ 8.0.1 and MariaDB ≥ 10.6, over TCP, TLS or a socket.
//! * `conformance`: the suite, for engines of your own.
//! * `sqlx-0_9`: access to sqlx 0.9 connections and pools.
//!
//! [durability]: trine_core::Durability

#![forbid(unsafe_code)]

mod backend;
mod calendar;
mod config;
#[cfg(feature = "conformance")]
pub mod conformance;
mod database;
mod error;
mod error_log;
mod executor;
mod fan_out;
mod fence;
mod inbox;
#[cfg(all(feature = "sqlx-0_9", any(feature = "mysql", feature = "sqlite")))]
mod interop;
mod map;
mod migrate;
mod params;
mod pool;
mod procedure;
mod relocation;
mod rolling;
mod routing;
mod row;
mod schema;
mod service;
mod shard;
mod sql;
mod sweep;
mod tenant;
mod ticket;
mod transaction;
mod value;

#[cfg(feature = "mysql")]
pub use backend::MysqlBackend;
#[cfg(feature = "sqlite")]
pub use backend::SqliteBackend;
pub use backend::{
    Access, BackendTransaction, BeginOptions, Call, Capabilities, DbBackend, Isolation, Observed,
    PoolStats, Reply, RowStream, SavepointStep, ServerFacts, Statement,
};
pub use config::{
    Cancel, ConfigError, ConnectionConfig, DbConfig, ExecutorConfig, FanOutConfig, MapConfig,
    MigrateMode, MysqlConfig, MysqlPoolConfig, ShardConfig, SqliteConfig, WhenFull,
};
pub use database::{Batch, Database};
pub use error::{At, Conflict, DatabaseName, Error, Result, Unavailable};
pub use error_log::ErrorRecord;
pub use fan_out::{FanOut, FanOutCall, FanOutValue, Partial, Total};
pub use inbox::{Inbox, Once};
#[cfg(all(feature = "sqlx-0_9", any(feature = "mysql", feature = "sqlite")))]
pub use interop::HostConnection;
pub use migrate::{
    AppliedStep, DatabaseReport, Drift, MigrationOutcome, MigrationReport, PendingStep, StepState,
    migrate, pending, print_migrations,
};
pub use params::{IntoParams, Param, list, rows};
pub use pool::DbPool;
pub use procedure::{Procedures, TwinFuture};
pub use relocation::{AbortOutcome, Move, MoveKey, MoveOutcome};
pub use rolling::{InvalidRollingTable, Period, RollingTable};
pub use routing::KeyShard;
pub use row::{Columns, Done, FromRow, InvalidColumn, ResultSet, Row};
pub use schema::migrations;
pub use service::{DbDeps, DbService, ShardFacts};
pub use shard::{InvalidShardKey, Routed, ShardId, ShardKey, ShardStatus, UnknownStatus};
pub use sql::{Engine, Sql, SqlText, StatementText};
pub use ticket::{InvalidTicket, Outcome, Ticket};
pub use transaction::{Completion, HookFuture, Savepoint, Tx, TxOptions};
pub use value::{Timestamp, Value};

#[cfg(all(doctest, feature = "sqlite"))]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
