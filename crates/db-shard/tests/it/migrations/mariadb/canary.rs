//! Shards that refuse what others take.

use trine_db_shard::{MigrationOutcome, StepState};

use super::super::shard;
use super::*;

const SHARDS: u32 = 8;

const FOREIGN: &str = "CREATE TABLE orders (quite INT)";

/// The global database is the first one.
fn index(shard: u32) -> usize {
    usize::try_from(shard + 1).unwrap()
}

async fn with_foreign_tables(broken: &[u32]) -> Databases {
    let databases = Databases::new(usize::try_from(SHARDS).unwrap()).await;
    for id in broken {
        databases.run(index(*id), FOREIGN).await;
    }
    databases
}

/// Mends the shards, and looks at the version table of each before and after.
async fn resume(databases: &Databases, broken: &[u32]) -> MigrationReport {
    for id in broken {
        databases.run(index(*id), "DROP TABLE orders").await;
    }
    let report = migrate(&databases.config(), &[orders()]).await.unwrap();
    assert!(report.is_complete(), "{report}");
    for id in 0..SHARDS {
        let states = databases.states(index(id), "orders").await;
        assert_eq!(states, ["1 applied 2", "2 applied 1"], "shard {id}");
        let rows = databases.column(index(id), "SELECT item FROM orders").await;
        assert_eq!(rows, ["first"], "shard {id}");
    }
    report
}

// DB-21
#[trine_testkit::test(timeout = "120s")]
async fn a_canary_that_fails_stops_all_others() {
    let broken = [0, 3, 6];
    let databases = with_foreign_tables(&broken).await;
    let report = migrate(&databases.config(), &[orders()]).await.unwrap();
    assert!(!report.is_complete());
    assert!(matches!(report.databases[0].outcome, MigrationOutcome::Done), "{report}");
    let canary = report.get(&shard(0)).unwrap();
    let text = Report(canary.error().unwrap()).to_string();
    assert!(text.contains("orders 1 create orders") && text.contains("already exists"), "{text}");
    assert!(matches!(&canary.pending[0].state, StepState::Failed { statement: 1, error }
        if error.contains("already exists")));
    assert_eq!(databases.states(index(0), "orders").await, ["1 failed 1"]);
    for id in 1..SHARDS {
        let other = report.get(&shard(id)).unwrap();
        assert!(matches!(other.outcome, MigrationOutcome::Stopped), "{other}");
        let own: &[&str] = if broken.contains(&id) { &["orders"] } else { &[] };
        assert_eq!(databases.tables(index(id)).await, own, "shard {id} was touched");
    }
    let report = resume(&databases, &broken).await;
    assert_eq!(applied(&[report], "orders"), 2 * usize::try_from(SHARDS).unwrap());
}

// DB-21
#[trine_testkit::test(timeout = "120s")]
async fn a_later_shard_that_fails_stops_no_other() {
    let broken = [2, 5, 7];
    let databases = with_foreign_tables(&broken).await;
    let report = migrate(&databases.config(), &[orders()]).await.unwrap();
    for id in 0..SHARDS {
        let has_failed = report.get(&shard(id)).unwrap().error().is_some();
        assert_eq!(has_failed, broken.contains(&id), "{report}");
        let states = databases.states(index(id), "orders").await;
        let has_sku = databases.tables(index(id)).await.contains(&"sku".to_owned());
        assert!(has_sku, "shard {id}: {states:?}");
        if has_failed {
            // The engine keeps the first statement, and the record says so.
            assert_eq!(states, ["1 failed 1"], "shard {id}");
        } else {
            assert_eq!(states, ["1 applied 2", "2 applied 1"], "shard {id}");
        }
    }
    let error = report.into_result().unwrap_err();
    assert!(error.to_string().contains("shard 2"), "{error}");
    let report = resume(&databases, &broken).await;
    assert_eq!(applied(&[report], "orders"), 2 * broken.len());
}
