use std::path::Path;

use futures_util::future::join_all;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use tempfile::TempDir;
use trine_core::{Deadline, ErrorKind, MigrationScope, MigrationSet, MigrationStep, Report};
use trine_db_shard::{
    Conflict, DatabaseName, DbConfig, DbDeps, DbService, Drift, Error, MigrateMode,
    MigrationOutcome, MigrationReport, ShardStatus, StepState, migrate, pending, print_migrations,
};

use super::{applied, orders, shard};

async fn open(file: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(file).create_if_missing(true).connect().await.unwrap()
}

/// Runs statements behind the back of the service.
async fn run(file: &Path, text: &str) {
    let mut connection = open(file).await;
    sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

async fn column(file: &Path, text: &'static str) -> Vec<String> {
    let mut connection = open(file).await;
    let rows = sqlx::query_scalar(text).fetch_all(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    rows
}

/// The version table without its times.
async fn versions(file: &Path) -> Vec<String> {
    column(
        file,
        "SELECT concat_ws(' ', owner, version, name, fingerprint, state, next_statement) \
         FROM trine_migration ORDER BY 1",
    )
    .await
}

/// The version table in short; our own sets count as one.
async fn states(file: &Path) -> Vec<String> {
    let text = "SELECT concat_ws(' ', \
                CASE WHEN owner LIKE 'trine-%' THEN 'trine' ELSE owner END, version, state) \
                FROM trine_migration ORDER BY 1";
    column(file, text).await
}

async fn schema(file: &Path) -> Vec<String> {
    column(file, "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name").await
}

const OF_A_SHARD: [&str; 4] =
    ["orders 1 applied", "orders 2 applied", "trine 1 applied", "trine 1 applied"];

/// The state that a shard is in when its `orders` table could not be made.
const OF_A_BROKEN_SHARD: [&str; 3] = ["orders 1 failed", "trine 1 applied", "trine 1 applied"];

const FOREIGN: &str = "CREATE TABLE orders (something TEXT, quite INTEGER, other BLOB)";

fn has_failed(report: &MigrationReport, id: u32) -> bool {
    report.get(&shard(id)).unwrap().error().is_some()
}

// DB-21
#[trine_testkit::test]
async fn a_canary_that_fails_stops_all_others() {
    let folder = TempDir::new().unwrap();
    let config = DbConfig::sqlite(folder.path(), 64);
    let file = |id: u32| folder.path().join(format!("shard-{id}.db"));
    for id in [0, 9, 31] {
        run(&file(id), FOREIGN).await;
    }

    let report = migrate(&config, &[orders()]).await.unwrap();
    assert!(!report.is_complete());
    assert!(matches!(report.databases[0].outcome, MigrationOutcome::Done), "{report}");
    let error = report.get(&shard(0)).unwrap().error().unwrap();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let text = Report(error).to_string();
    assert!(text.contains("orders 1 create orders") && text.contains("already exists"), "{text}");
    for id in 1..64 {
        let other = report.get(&shard(id)).unwrap();
        assert!(matches!(other.outcome, MigrationOutcome::Stopped), "{other}");
        assert_eq!(file(id).exists(), [9, 31].contains(&id), "shard {id} was touched");
    }
    assert_eq!(states(&file(0)).await, OF_A_BROKEN_SHARD);
    let left = report.get(&shard(0)).unwrap();
    assert!(matches!(&left.pending[0].state, StepState::Failed { statement: 0, error }
        if error.contains("already exists")));

    for id in [0, 9, 31] {
        run(&file(id), "DROP TABLE orders").await;
    }
    let report = migrate(&config, &[orders()]).await.unwrap();
    assert!(report.is_complete(), "{report}");
    for id in 0..64 {
        assert_eq!(states(&file(id)).await, OF_A_SHARD);
    }
    assert_eq!(report.get(&shard(0)).unwrap().applied.len(), 2, "{report}");
}

// DB-21
#[trine_testkit::test]
async fn a_later_shard_that_fails_stops_no_other() {
    let folder = TempDir::new().unwrap();
    let config = DbConfig::sqlite(folder.path(), 64);
    let file = |id: u32| folder.path().join(format!("shard-{id}.db"));
    let broken = [7, 20, 63];
    for id in broken {
        run(&file(id), FOREIGN).await;
    }

    let report = migrate(&config, &[orders()]).await.unwrap();
    for id in 0..64 {
        assert_eq!(has_failed(&report, id), broken.contains(&id), "{report}");
        if broken.contains(&id) {
            assert_eq!(states(&file(id)).await, OF_A_BROKEN_SHARD);
            let text = "SELECT name FROM sqlite_master WHERE name = 'sku'";
            assert!(column(&file(id), text).await.is_empty(), "a part of the step was kept");
        } else {
            assert_eq!(states(&file(id)).await, OF_A_SHARD);
        }
    }
    let error = report.into_result().unwrap_err();
    assert!(error.to_string().contains("shard 7"), "{error}");

    for id in broken {
        run(&file(id), "DROP TABLE orders").await;
    }
    let report = migrate(&config, &[orders()]).await.unwrap();
    assert!(report.is_complete(), "{report}");
    assert_eq!(applied(&[report], "orders"), 2 * broken.len());
    for id in broken {
        assert_eq!(states(&file(id)).await, OF_A_SHARD);
        let rows = column(&file(id), "SELECT item FROM orders").await;
        assert_eq!(rows, ["first"]);
    }
}

#[trine_testkit::test]
async fn nothing_is_left_for_a_second_run() {
    let folder = TempDir::new().unwrap();
    let config = DbConfig::sqlite(folder.path(), 3);
    let first = migrate(&config, &[orders()]).await.unwrap();
    assert!(first.is_complete(), "{first}");
    assert_eq!(applied(&[first], "orders"), 6);
    let second = migrate(&config, &[orders()]).await.unwrap();
    assert!(second.is_complete(), "{second}");
    assert!(second.databases.iter().all(|database| database.applied.is_empty()), "{second}");
}

#[trine_testkit::test]
async fn eight_runs_at_once_apply_each_step_once() {
    let folder = TempDir::new().unwrap();
    let config = DbConfig::sqlite(folder.path(), 2);
    let sets = [orders()];
    let reports = join_all((0..8).map(|_| migrate(&config, &sets))).await;
    let reports: Vec<_> = reports.into_iter().collect::<Result<_, _>>().unwrap();
    // Only one handle may have a file: the others say who has it.
    for error in reports.iter().flat_map(|report| &report.databases).filter_map(|one| one.error()) {
        let conflict = matches!(error, Error::Conflict { conflict: Conflict::HeldBy { .. }, .. });
        assert!(conflict, "{}", Report(error));
    }
    assert!(migrate(&config, &sets).await.unwrap().is_complete());
    for id in 0..2 {
        let file = folder.path().join(format!("shard-{id}.db"));
        assert_eq!(column(&file, "SELECT item FROM orders").await, ["first"]);
    }
}

#[trine_testkit::test]
async fn drift_is_reported_and_stops_nothing() {
    let folder = TempDir::new().unwrap();
    let config = DbConfig::sqlite(folder.path(), 1);
    assert!(migrate(&config, &[orders()]).await.unwrap().is_complete());

    let older = MigrationSet::new("orders", MigrationScope::Shards).step(
        MigrationStep::new(1, "create orders").on("sqlite", ["CREATE TABLE orders (id INT)"]),
    );
    let sets = [older];
    for report in [pending(&config, &sets).await.unwrap(), migrate(&config, &sets).await.unwrap()] {
        assert!(report.is_complete(), "{report}");
        let drift = &report.get(&shard(0)).unwrap().drift;
        assert!(matches!(&drift[0], Drift::Changed { version: 1, .. }), "{drift:?}");
        assert!(matches!(&drift[1], Drift::Newer { version: 2, name, .. }
            if &**name == "it's the first order"));
        assert_eq!(drift.len(), 2);
        assert!(report.get(&DatabaseName::Global).unwrap().drift.is_empty());
    }
}

#[trine_testkit::test]
async fn a_start_that_may_only_check_lists_what_is_pending() {
    let folder = TempDir::new().unwrap();
    let config = DbConfig::sqlite(folder.path(), 1).with_migrate(MigrateMode::Check);
    let deps = || DbDeps::default().with_migrations(orders());
    let start = async || {
        let service = DbService::open(&config, deps()).unwrap();
        let started = service.start().await;
        service.shutdown(Deadline::after(std::time::Duration::from_secs(5))).await.unwrap();
        started
    };
    let error = start().await.unwrap_err();
    assert!(matches!(&error, Error::Conflict { conflict: Conflict::PendingMigrations { .. }, .. }));
    let text = error.to_string();
    for part in [" 1 shard map", "trine-starter migrate", "db start global"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(schema(&folder.path().join("global.db")).await.is_empty(), "a check made tables");

    assert!(migrate(&config, &[]).await.unwrap().is_complete());
    let text = start().await.unwrap_err().to_string();
    assert!(
        text.contains("db start shard 0") && text.contains("orders 2 it's the first"),
        "{text}"
    );

    assert!(migrate(&config, &[orders()]).await.unwrap().is_complete());
    start().await.unwrap();
}

#[trine_testkit::test]
async fn a_look_lists_everything_and_writes_nothing() {
    let folder = TempDir::new().unwrap();
    let config = DbConfig::sqlite(folder.path(), 2);
    let report = pending(&config, &[orders()]).await.unwrap();
    assert!(!report.is_complete());
    assert_eq!(report.databases.len(), 3);
    let lines = report.to_string();
    assert!(lines.contains("global: 0 applied, 2 pending"), "{lines}");
    assert!(lines.contains("shard 1: 0 applied, 4 pending"), "{lines}");
    for name in ["global", "shard-0", "shard-1"] {
        assert!(schema(&folder.path().join(format!("{name}.db"))).await.is_empty());
    }
}

#[trine_testkit::test]
async fn the_script_applied_by_hand_is_the_same() {
    let (by_hand, by_run) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let config = DbConfig::sqlite(by_hand.path(), 1);
    let script = print_migrations(&config, &[orders()]).unwrap();
    let (global, shards) = script.split_once("-- each shard").unwrap();
    run(&by_hand.path().join("global.db"), global).await;
    run(&by_hand.path().join("shard-0.db"), &format!("--{shards}")).await;

    let report = migrate(&DbConfig::sqlite(by_run.path(), 1), &[orders()]).await.unwrap();
    assert!(report.is_complete(), "{report}");
    for name in ["global.db", "shard-0.db"] {
        let (hand, run) = (by_hand.path().join(name), by_run.path().join(name));
        assert_eq!(schema(&hand).await, schema(&run).await);
        assert_eq!(versions(&hand).await, versions(&run).await);
        assert!(versions(&hand).await.len() >= 2);
    }
    let left = pending(&config, &[orders()]).await.unwrap();
    assert!(left.is_complete() && left.databases.iter().all(|one| one.drift.is_empty()), "{left}");
}

#[trine_testkit::test]
async fn a_refused_step_that_was_mended_in_the_code_is_applied() {
    let folder = TempDir::new().unwrap();
    let config = DbConfig::sqlite(folder.path(), 1);
    let set = |second| {
        let step = MigrationStep::new(1, "two").on("sqlite", ["CREATE TABLE a (b INT)", second]);
        MigrationSet::new("two", MigrationScope::Global).step(step)
    };
    let report = migrate(&config, &[set("CREATE TABLE c (d INT, d INT)")]).await.unwrap();
    let text = Report(report.databases[0].error().unwrap()).to_string();
    assert!(text.contains("two 1 two") && text.contains("duplicate column"), "{text}");
    assert!(matches!(report.databases[1].outcome, MigrationOutcome::Stopped), "{report}");
    let report = migrate(&config, &[set("CREATE TABLE c (d INT)")]).await.unwrap();
    assert!(report.is_complete(), "{report}");
}

#[trine_testkit::test]
async fn a_shard_in_maintenance_is_migrated_and_an_offline_one_is_not() {
    let folder = TempDir::new().unwrap();
    let config = DbConfig::sqlite(folder.path(), 3);
    assert!(migrate(&config, &[]).await.unwrap().is_complete());
    let global = folder.path().join("global.db");
    run(&global, "UPDATE trine_shard SET status = 'maintenance' WHERE id = 0").await;
    run(&global, "UPDATE trine_shard SET status = 'offline' WHERE id = 1").await;
    let report = migrate(&config, &[orders()]).await.unwrap();
    assert_eq!(report.get(&shard(0)).unwrap().applied.len(), 2, "{report}");
    assert!(matches!(report.get(&shard(1)).unwrap().outcome, MigrationOutcome::Offline));
    assert!(report.is_complete());
    let service = DbService::open(&config, DbDeps::default().with_migrations(orders())).unwrap();
    service.start().await.unwrap();
    service.set_shard_status(1, ShardStatus::Active).await.unwrap();
    service.shutdown(Deadline::after(std::time::Duration::from_secs(5))).await.unwrap();
    assert_eq!(migrate(&config, &[orders()]).await.unwrap().get(&shard(1)).unwrap().pending, []);
}

#[trine_testkit::test]
async fn a_set_that_breaks_a_rule_touches_nothing() {
    let folder = TempDir::new().unwrap();
    let config = DbConfig::sqlite(folder.path(), 1);
    let several =
        MigrationStep::new(1, "one").on("sqlite", ["CREATE TABLE a (b INT); DROP TABLE a"]);
    let set = MigrationSet::new("bad", MigrationScope::Everywhere).step(several);
    let report = migrate(&config, &[set]).await.unwrap();
    assert_eq!(report.databases[0].error().unwrap().kind(), ErrorKind::Invalid);
    assert!(schema(&folder.path().join("global.db")).await.is_empty());
    let gap = MigrationStep::new(2, "two").on("sqlite", ["CREATE TABLE a (b INT)"]);
    let set = MigrationSet::new("bad", MigrationScope::Everywhere).step(gap);
    assert_eq!(migrate(&config, &[set]).await.unwrap_err().kind(), ErrorKind::Invalid);
}
