//! The suite that every engine passes: one check for each guarantee.
//!
//! An engine's test file names a function that makes fresh, empty databases
//! and expands [`conformance_tests!`](crate::conformance_tests) with it. A
//! database that belongs to no service passes the checks that need none.
//!
//! ```ignore
//! async fn connect() -> trine_db_shard::conformance::Fixture { /* … */ }
//! trine_db_shard::conformance_tests!(suite, super::connect);
//! ```

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::panic,
    reason = "checks fail by panicking, like any test"
)]

mod effects;
mod lifecycle;
mod refusals;
mod rows;
mod transactions;

use std::any::Any;
use std::fmt;
use std::time::Duration;

use trine_core::Deadline;

use crate::{Database, DbConfig, DbDeps, DbService, MigrateMode, Sql};

pub use effects::*;
pub use lifecycle::*;
pub use refusals::*;
pub use rows::*;
pub use transactions::*;

/// Fresh, empty databases for one check: a global one and two shards.
pub struct Fixture {
    /// How to reach them.
    pub config: DbConfig,
    database: Option<Database>,
    _keep: Box<dyn Any + Send + Sync>,
}

impl Fixture {
    /// Returns a fixture; `keep` is dropped with it and removes the databases.
    #[must_use]
    pub fn new(config: DbConfig, keep: impl Any + Send + Sync) -> Self {
        let config = config.with_migrate(MigrateMode::Auto);
        Self { config, database: None, _keep: Box::new(keep) }
    }

    /// Has the checks of one database work on this one, which no service made,
    /// instead of the global one of a service.
    #[must_use]
    pub fn with_database(mut self, database: Database) -> Self {
        self.database = Some(database);
        self
    }

    /// Returns the database that a check works on.
    pub async fn open(&self) -> Opened {
        match &self.database {
            Some(database) => Opened { database: database.clone(), _service: None },
            None => {
                let service = self.start().await;
                Opened { database: service.global().clone(), _service: Some(service) }
            }
        }
    }

    /// Changes the configuration.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut DbConfig)) -> Self {
        change(&mut self.config);
        self
    }

    /// Starts a service over the databases.
    pub async fn start(&self) -> DbService {
        self.start_with(DbDeps::default()).await
    }

    /// Starts a service with what it needs beside the configuration.
    pub async fn start_with(&self, deps: DbDeps) -> DbService {
        let service = DbService::open(&self.config, deps).unwrap();
        service.start().await.unwrap();
        service
    }
}

impl fmt::Debug for Fixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fixture").field("config", &self.config).finish_non_exhaustive()
    }
}

/// One database, and the service that it belongs to, if any.
#[derive(Debug)]
pub struct Opened {
    database: Database,
    _service: Option<DbService>,
}

impl Opened {
    /// Returns the database.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.database
    }
}

/// Creates the table that most checks write to.
async fn create_items(db: &Database) {
    const CREATE: Sql = Sql::per_engine()
        .sqlite("CREATE TABLE item (id INTEGER NOT NULL PRIMARY KEY, name TEXT NOT NULL UNIQUE)")
        .mysql(
            "CREATE TABLE item (id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, \
             name VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL, \
             UNIQUE KEY item_name (name)) ENGINE=InnoDB",
        );
    db.execute(CREATE, ()).await.unwrap();
}

async fn add(db: &Database, name: &str) -> u64 {
    let done = db.execute("INSERT INTO item (name) VALUES (?)", (name,)).await.unwrap();
    done.last_insert_id.unwrap()
}

async fn count(db: &Database) -> u64 {
    db.query_one("SELECT COUNT(*) FROM item", ()).await.unwrap()
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(10))
}

/// A query that takes longer than any check waits.
const SLOW: Sql = Sql::per_engine()
    .sqlite(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4000000000) \
         SELECT COUNT(*) FROM n",
    )
    .mysql("SELECT SLEEP(600)");

/// Expands to one named test per check, in a module of its own.
///
/// `$connect` is an `async fn` that returns a [`Fixture`], and panics
/// with instructions when its server cannot be had. `database $module, $connect` leaves out what
/// only a service has. The caller's crate needs tokio with its macros.
#[macro_export]
macro_rules! conformance_tests {
    ($module:ident, $connect:path) => {
        $crate::conformance_tests!(
            @with_database $module, $connect,
            // rows
            more_rows_than_asked_for_are_refused,
            // effects
            a_full_executor_refuses_before_the_commit,
            a_full_executor_lets_the_caller_run_it,
            a_fence_is_known_where_it_was_shown,
            procedures_have_twins,
            // life cycle
            nothing_is_answered_before_start_and_after_shutdown,
            a_shutdown_waits_for_what_is_under_way,
            a_start_may_be_repeated,
            statuses_decide_what_a_shard_takes,
            an_unknown_shard_is_never_another_one,
            health_and_metrics_show_the_work
        );
    };
    (database $module:ident, $connect:path) => {
        $crate::conformance_tests!(@with_database $module, $connect,);
    };
    (@with_database $module:ident, $connect:path, $($more:ident),*) => {
        $crate::conformance_tests!(
            @each $module, $connect,
            // rows
            every_kind_of_value_survives,
            rows_become_structs_tuples_and_single_values,
            a_stream_yields_every_row_and_may_be_dropped,
            lists_and_rows_are_written_out,
            the_last_insert_id_is_the_statements_own,
            the_common_subset_runs,
            // refusals
            statements_that_would_touch_other_callers_are_refused,
            a_query_cannot_write,
            parameters_that_do_not_fit_are_refused,
            broken_rules_have_their_kind,
            a_slow_query_ends_at_its_deadline,
            a_busy_tenant_leaves_room_for_others,
            dropped_queries_cost_no_connection,
            // transactions
            a_transaction_is_kept_or_undone_as_a_whole,
            a_dropped_transaction_leaves_nothing,
            a_panicking_body_leaves_nothing,
            a_transaction_cannot_outlive_its_body,
            a_dropped_call_breaks_its_transaction,
            savepoints_undo_a_part,
            a_closed_list_is_kept_or_undone_as_a_whole,
            a_reading_transaction_cannot_write,
            a_deadlock_runs_the_body_again,
            a_change_of_the_schema_is_undone_or_refused,
            // effects
            hooks_run_at_their_time,
            handlers_run_after_the_commit_only,
            a_failing_handler_harms_no_other,
            tickets_tell_what_became_of_a_transaction,
            a_ticket_asked_for_too_early_decides,
            old_fences_are_refused,
            a_newer_fence_waits_for_the_guarded_write,
            a_refused_fence_cannot_be_committed,
            an_inbox_lets_a_message_in_once,
            an_inbox_makes_the_second_one_wait,
            what_outlived_its_retention_is_swept
            $(, $more)*
        );
    };
    (@each $module:ident, $connect:path, $($check:ident),+) => {
        mod $module {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                $crate::conformance::$check($connect().await).await;
            })+
        }
    };
}
