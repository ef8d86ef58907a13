//! Ready-made jobs.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tempfile::TempDir;
use trine_core::Clock;
use trine_db_shard::{Database, Period, RollingTable, Sql};
use trine_scheduler::maintenance::{self, RollingTables};
use trine_scheduler::{AttemptEnd, Job, TickState, testing};

use crate::sqlite::database;
use crate::support::{SECOND, World};

fn rows(count: u32) -> NonZeroU32 {
    NonZeroU32::new(count).unwrap()
}

#[tokio::test]
async fn orphans_are_removed_in_steps_until_fewer_are_left() {
    let left = Arc::new(AtomicU64::new(25));
    let steps = Arc::new(AtomicU64::new(0));
    let (of_job, count) = (Arc::clone(&left), Arc::clone(&steps));
    let job = maintenance::orphans(Job::new("orphans", "once now"), rows(10), move |most| {
        count.fetch_add(1, Ordering::Relaxed);
        let taken = of_job.load(Ordering::Relaxed).min(u64::from(most));
        of_job.fetch_sub(taken, Ordering::Relaxed);
        async move { Ok::<u64, std::io::Error>(taken) }
    });
    let scheduler = testing::scheduler([job.unwrap()]).await.unwrap();
    assert_eq!(scheduler.count("orphans", TickState::Succeeded).await.unwrap(), 1);
    assert_eq!((left.load(Ordering::Relaxed), steps.load(Ordering::Relaxed)), (0, 3));
}

#[tokio::test]
async fn a_sweep_that_finds_no_end_ends_between_two_steps_when_it_is_asked_to() {
    let world = World::new();
    let builder = Job::new("endless", "once now").with_timeout(SECOND * 10);
    let job = maintenance::orphans(builder, rows(10), |most| async move {
        Ok::<u64, std::io::Error>(u64::from(most))
    });
    let process = world.process(vec![job.unwrap()]).await;
    world.pass(SECOND * 11).await;
    let tick = process.ticks("endless").await.remove(0);
    assert_eq!(tick.attempts[0].end, Some(AttemptEnd::TimedOut));
    assert!(tick.attempts[0].took.unwrap() < SECOND * 11, "it was not dropped");
}

async fn tables(db: &Database, prefix: &str) -> Vec<String> {
    const NAMES: Sql = Sql::portable(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE ? ORDER BY name",
    );
    db.query(NAMES, (format!("{prefix}%"),)).await.unwrap()
}

#[tokio::test]
async fn rolling_tables_are_made_ahead_and_dropped_after_their_retention() {
    const CREATE: Sql = Sql::portable("CREATE TABLE {table} (a INT)");
    let folder = TempDir::new().unwrap();
    let db = database(&folder).await;
    let daily = RollingTable::new("login", Period::Daily, CREATE).unwrap().with_retention(2);
    let monthly = RollingTable::new("report", Period::Monthly, CREATE).unwrap();
    let jobs = RollingTables::new("tables", [db.clone()]).with_daily(daily).with_monthly(monthly);
    let scheduler = testing::scheduler(jobs.into_jobs().unwrap()).await.unwrap();
    let began = scheduler.now();
    for _ in 0..32 {
        scheduler.advance(SECOND * 86_400).await;
    }
    assert_eq!(scheduler.clock().wall(), began + SECOND * 86_400 * 32);
    for (job, runs) in [("tables.create", 32), ("tables.retention", 32), ("tables.monthly", 1)] {
        assert_eq!(scheduler.count(job, TickState::Succeeded).await.unwrap(), runs, "{job}");
    }
    // 2024-01-02 and 32 days; the last run dropped what is older than two days.
    let logins = tables(&db, "login").await;
    let expected = ["login_20240201", "login_20240202", "login_20240203", "login_20240204"];
    assert_eq!(logins, expected);
    assert_eq!(tables(&db, "report").await, ["report_202402", "report_202403"]);
}

#[tokio::test]
async fn expired_rows_are_removed_in_steps() {
    const EXPIRED: Sql = Sql::portable(
        "DELETE FROM code WHERE id IN (SELECT id FROM code WHERE expires_at < 100 LIMIT ?)",
    );
    let folder = TempDir::new().unwrap();
    let db = database(&folder).await;
    db.execute("CREATE TABLE code (id INTEGER PRIMARY KEY, expires_at INTEGER)", ()).await.unwrap();
    for expires_at in 75..125_i64 {
        db.execute("INSERT INTO code (expires_at) VALUES (?)", (expires_at,)).await.unwrap();
    }
    let job = Job::new("codes", "once now");
    let job = maintenance::expired_rows(job, db.clone(), EXPIRED, rows(10)).unwrap();
    let scheduler = testing::scheduler([job]).await.unwrap();
    assert_eq!(scheduler.count("codes", TickState::Succeeded).await.unwrap(), 1);
    let left: i64 = db.query_one("SELECT count(*) FROM code", ()).await.unwrap();
    assert_eq!(left, 25);
}
