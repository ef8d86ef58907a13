mod lease;
mod plan;
mod record;
mod report;
mod resume;
mod runner;
mod script;

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use futures_util::stream::{self, StreamExt};
use trine_core::{Deadline, MigrationSet};

use crate::error::At;
use crate::map::{self, ShardRow};
use crate::{
    Conflict, ConnectionConfig, Database, DatabaseName, DbConfig, DbDeps, DbService, Error, Result,
    ShardId, ShardStatus,
};

use record::has_table;

pub(crate) use plan::Part;
pub(crate) use runner::Runner;

pub use report::{
    AppliedStep, DatabaseReport, Drift, MigrationOutcome, MigrationReport, PendingStep, StepState,
};

/// Most shards that are migrated side by side, once the first one is.
const SIDE_BY_SIDE: usize = 8;

/// Applies Trine's own tables and `sets` to the global database, registers the
/// configured shards there, and applies them to every shard of the shard map.
///
/// The shard with the lowest number goes first: what fails there is tried
/// nowhere else. A shard that fails later stops no other. Running it again goes
/// on where the last run stopped; any number of processes may run it at once,
/// and each step is applied once. Opens connections of its own and closes them.
///
/// On SQLite a step is applied with its record or not at all. MySQL and MariaDB
/// commit each change of the schema by itself: there the table
/// `trine_migration` says how far a step has come, other statements are
/// committed with that record, and a process that dies while a schema statement
/// runs leaves open whether it happened. The next run sends it again and takes
/// "already exists" or "does not exist" for an answer that it did. So give each
/// step one such statement, or write them so that they may run twice
/// (`IF NOT EXISTS`).
///
/// If the future is dropped, the step under way is resumed by the next run; on
/// MySQL, after the lease of this one has expired (a quarter of
/// `migrate_timeout`, between 1 and 15 s).
///
/// # Errors
///
/// Fails with `Invalid` for a configuration or sets that break a rule, before
/// anything is sent. Failures of databases stand in the report: `Invalid` for a
/// step that the database refuses, `Conflict` if another process was at it for
/// longer than `migrate_timeout`.
///
/// # Example
///
/// ```no_run
/// use trine_core::{MigrationScope, MigrationSet, MigrationStep};
/// use trine_db_shard::{DbConfig, migrate};
///
/// # async fn example(config: &DbConfig) -> trine_db_shard::Result<()> {
/// let orders = MigrationSet::new("orders", MigrationScope::Shards).step(
///     MigrationStep::new(1, "create orders")
///         .on("sqlite", ["CREATE TABLE orders (id INTEGER PRIMARY KEY)"])
///         .on("mysql", ["CREATE TABLE orders (id BIGINT PRIMARY KEY)"]),
/// );
/// let report = migrate(config, &[orders]).await?.into_result()?;
/// println!("{report}");
/// # Ok(())
/// # }
/// ```
pub async fn migrate(config: &DbConfig, sets: &[MigrationSet]) -> Result<MigrationReport> {
    let run = Run::open(config, sets, Mode::Apply)?;
    let report = run.all().await;
    run.close().await;
    Ok(report)
}

/// Returns what [`migrate`] would apply, and where databases and code disagree.
///
/// Writes nothing to a database that exists; SQLite makes the file of one that
/// does not.
///
/// # Errors
///
/// As [`migrate`].
pub async fn pending(config: &DbConfig, sets: &[MigrationSet]) -> Result<MigrationReport> {
    let run = Run::open(config, sets, Mode::Look)?;
    let report = run.all().await;
    run.close().await;
    Ok(report)
}

/// Returns the statements by which [`migrate`] brings empty databases up to
/// date, for the hands of an administrator: one section for the global database
/// and one for each kind of shard.
///
/// Each step ends with its record in `trine_migration`, so that services find
/// it applied. Shards are not registered; services do that when they start.
///
/// # Errors
///
/// Fails with `Invalid` for a configuration or sets that break a rule.
pub fn print_migrations(config: &DbConfig, sets: &[MigrationSet]) -> Result<String> {
    config.validate()?;
    for set in sets {
        set.validate()?;
    }
    script::script(config, &with_own(sets))
}

/// Returns the answer of a start that finds migrations pending and may not
/// apply them.
pub(crate) fn pending_error(database: &Database, pending: &[PendingStep]) -> Error {
    let steps: Vec<_> = pending.iter().map(ToString::to_string).collect();
    let conflict = Conflict::PendingMigrations { listed: steps.join(", ").into() };
    Error::Conflict { at: database.at("start"), conflict, cause: None }
}

fn with_own(sets: &[MigrationSet]) -> Vec<MigrationSet> {
    crate::schema::migrations().into_iter().chain(sets.iter().cloned()).collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Apply,
    Look,
}

/// One run over all databases.
struct Run {
    config: DbConfig,
    /// Never started: only its connections are used.
    service: DbService,
    sets: Vec<MigrationSet>,
    mode: Mode,
}

impl Run {
    fn open(config: &DbConfig, sets: &[MigrationSet], mode: Mode) -> Result<Self> {
        let mut config = config.clone();
        for connection in config.connections.values_mut() {
            if let ConnectionConfig::Mysql(mysql) = connection {
                // One for the work, one to keep the lease meanwhile.
                mysql.pool.max = mysql.pool.max.max(NonZeroU32::MIN.saturating_add(1));
            }
        }
        let host = sets.iter().cloned();
        let deps = host.fold(DbDeps::default(), DbDeps::with_migrations);
        let service = DbService::open(&config, deps)?;
        Ok(Self { config, service, sets: with_own(sets), mode })
    }

    async fn close(self) {
        let deadline = Deadline::after(self.config.query_timeout.get());
        // Nothing is under way any more; what fails to close is only logged.
        let _closed = self.service.shutdown(deadline).await;
    }

    async fn all(&self) -> MigrationReport {
        let (global, rows) = self.global().await;
        let mut is_stopped = self.mode == Mode::Apply && global.error().is_some();
        let mut reports = BTreeMap::new();
        let (offline, rows): (Vec<_>, Vec<_>) =
            rows.into_iter().partition(|row| row.status() == Ok(ShardStatus::Offline));
        let untouched = |row: &ShardRow, outcome| {
            (row.id, DatabaseReport::new(DatabaseName::Shard(row.id), outcome))
        };
        reports.extend(offline.iter().map(|row| untouched(row, MigrationOutcome::Offline)));
        let mut rows = rows.into_iter();
        if !is_stopped && let Some(canary) = rows.next() {
            let (id, report) = self.shard(canary).await;
            is_stopped = self.mode == Mode::Apply && report.error().is_some();
            reports.insert(id, report);
        }
        if is_stopped {
            reports.extend(rows.map(|row| untouched(&row, MigrationOutcome::Stopped)));
        } else {
            let others = stream::iter(rows).map(|row| self.shard(row));
            let others: Vec<_> = others.buffer_unordered(SIDE_BY_SIDE).collect().await;
            reports.extend(others);
        }
        MigrationReport {
            databases: std::iter::once(global).chain(reports.into_values()).collect(),
        }
    }

    /// Returns the report of the global database and the shards, in the order
    /// of their numbers: the configured ones where the map cannot be had.
    async fn global(&self) -> (DatabaseReport, Vec<ShardRow>) {
        let mut report = self.database(self.service.global(), Part::Global).await;
        if report.error().is_some() {
            return (report, self.configured());
        }
        let rows = self.known().await.unwrap_or_else(|error| {
            report.outcome = MigrationOutcome::Failed(error);
            self.configured()
        });
        (report, rows)
    }

    /// Returns the shards of the map, and those that a start would register.
    async fn known(&self) -> Result<Vec<ShardRow>> {
        let global = self.service.global();
        if self.mode == Mode::Apply {
            map::register(global, &self.config.shards).await?;
            return map::read(global).await;
        }
        let mut rows = BTreeMap::new();
        rows.extend(self.configured().into_iter().map(|row| (row.id, row)));
        if has_table(global, global.own_call("migrate"), "trine_shard").await? {
            rows.extend(map::read(global).await?.into_iter().map(|row| (row.id, row)));
        }
        Ok(rows.into_values().collect())
    }

    fn configured(&self) -> Vec<ShardRow> {
        let mut rows: Vec<_> = self.config.shards.iter().map(ShardRow::new).collect();
        rows.sort_by_key(|row| row.id);
        rows
    }

    async fn shard(&self, row: ShardRow) -> (ShardId, DatabaseReport) {
        let opened = match row.status() {
            Ok(_) => self.service.new_shard(row.id, &row.connection),
            Err(unknown) => {
                let at = At::new("migrate", &DatabaseName::Shard(row.id));
                Err(Error::invalid(at, format!("status {unknown}")))
            }
        };
        let report = match opened {
            Ok(shard) => self.database(&shard, Part::Shard).await,
            Err(error) => {
                let outcome = MigrationOutcome::Failed(error);
                DatabaseReport::new(DatabaseName::Shard(row.id), outcome)
            }
        };
        (row.id, report)
    }

    async fn database(&self, database: &Database, part: Part) -> DatabaseReport {
        let mut report = DatabaseReport::new(database.name().clone(), MigrationOutcome::Done);
        let proof = database.shared().backend().prove(database.own_call("migrate")).await;
        if let Err(error) = proof {
            report.outcome = MigrationOutcome::Failed(error);
            return report;
        }
        let runner = Runner::new(&self.sets, self.config.migrate_timeout.get());
        if self.mode == Mode::Apply
            && let Err(error) = runner.apply_to(database, part, &mut report.applied).await
        {
            report.outcome = MigrationOutcome::Failed(error);
        }
        match runner.inspect(database, part).await {
            Ok(found) => (report.pending, report.drift) = (found.pending, found.drift),
            Err(error) if report.error().is_none() => {
                report.outcome = MigrationOutcome::Failed(error);
            }
            // The first failure says more.
            Err(_) => {}
        }
        report
    }
}
