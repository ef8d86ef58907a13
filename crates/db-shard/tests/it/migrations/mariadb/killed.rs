//! Runs that are killed, and those that go on from there.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use trine_testkit::SoakPlan;

use super::*;

const SHARDS: usize = 4;

/// The sets of the child: the long step on the global database, and the same
/// on each shard.
fn sets() -> [MigrationSet; 2] {
    let step = MigrationStep::new(1, "one").on("mysql", long_statements());
    [long_step(), MigrationSet::new("test-shards", MigrationScope::Shards).step(step)]
}

fn owner(index: usize) -> &'static str {
    if index == 0 { "test" } else { "test-shards" }
}

#[trine_testkit::test]
#[ignore = "what the other tests run in a process of its own and kill"]
async fn child_that_is_killed() {
    let Some(urls) = urls_of_a_child() else { return };
    let report = migrate(&config(&urls), &sets()).await.unwrap();
    assert!(report.is_complete(), "{report}");
}

/// Kills a run after it has made this table of this database.
async fn kill_after(databases: &Databases, index: usize, table: &str, then: Duration) {
    let child = spawn("migrations::mariadb::killed::child_that_is_killed", &databases.urls());
    let begun = Instant::now();
    while !databases.tables(index).await.iter().any(|found| found == table) {
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", child.log());
    }
    sleep(then).await;
    child.kill().await.unwrap();
    // What it has sent is over as well.
    for database in &databases.0 {
        while database.threads_connected().await.unwrap() > 0 {
            assert!(begun.elapsed() < Duration::from_secs(120), "the server is not quiet");
            sleep(Duration::from_millis(2)).await;
        }
    }
}

/// Compares what the record of a database says with its tables and rows:
/// everything below the next statement is done and nothing above it. Returns
/// the next statement.
async fn check_record(databases: &Databases, index: usize) -> usize {
    let tables = databases.tables(index).await;
    let mut rows = BTreeMap::new();
    for table in tables.iter().filter(|table| table.starts_with('t') && !table.contains('_')) {
        let text = format!("SELECT CAST(COUNT(*) AS CHAR) FROM {table}");
        rows.insert(table.clone(), databases.column(index, &text).await[0].clone());
    }
    let states = if tables.contains(&"trine_migration".to_owned()) {
        databases.states(index, owner(index)).await
    } else {
        Vec::new()
    };
    let next: usize = match states.as_slice() {
        [] => 0,
        [state] => state.rsplit(' ').next().unwrap().parse().unwrap(),
        more => panic!("{more:?}"),
    };
    let told = format!("database {index}: {states:?}, {rows:?}");
    // A run may be killed after the last statement and before it says so.
    let is_applying = states.iter().all(|state| state.starts_with("1 applying "));
    assert!(is_applying || states == ["1 applied 40"], "{told}");
    if states.is_empty() {
        assert!(rows.is_empty(), "{told}");
    }
    for number in 0..20 {
        let found = rows.get(&format!("t{number}")).map(String::as_str);
        let (create, insert) = (2 * number, 2 * number + 1);
        match create.cmp(&next) {
            Ordering::Less => assert!(found.is_some(), "t{number} is not there; {told}"),
            // The server does not say whether this one is done.
            Ordering::Equal => {}
            Ordering::Greater => assert_eq!(found, None, "t{number}; {told}"),
        }
        // A row is committed together with the record that it is.
        if let Some(found) = found {
            assert_eq!(found, if insert < next { "1" } else { "0" }, "t{number}; {told}");
        }
    }
    next
}

/// Kills one run after the other at a random place.
#[expect(clippy::print_stdout, reason = "the test harness shows it beside a failure")]
async fn kill_runs() {
    let mut plan = SoakPlan::new("migrate_kill", 6).unwrap();
    let mut interrupted = 0;
    while plan.next_round().is_some() {
        let databases = Databases::new(SHARDS).await;
        let index = usize::try_from(plan.rng().below(SHARDS as u64 + 1)).unwrap();
        let table = format!("t{}", plan.rng().below(20));
        let then = Duration::from_micros(plan.rng().below(8_000));
        kill_after(&databases, index, &table, then).await;
        let mut is_done = true;
        for index in 0..=SHARDS {
            is_done &= check_record(&databases, index).await == 40;
        }
        interrupted += u64::from(!is_done);

        let report = migrate(&databases.config(), &sets()).await.unwrap();
        assert!(report.is_complete(), "{report}");
        for index in 0..=SHARDS {
            check_long_step_of(&databases, index, owner(index)).await;
        }
    }
    println!("{} runs killed, {interrupted} before their end; none lost a step", plan.rounds());
    assert!(interrupted > 0, "no kill came in time");
}

// DB-21
#[trine_testkit::test(timeout = "300s")]
async fn a_killed_run_is_resumed() {
    kill_runs().await;
}

// DB-21
#[trine_testkit::test(timeout = "3000m")]
#[ignore = "long form: cargo xtask soak migrate_kill --minutes 60"]
async fn soak_migrate_kill() {
    kill_runs().await;
}

/// The negative control: it is the record that a run goes on from.
#[trine_testkit::test(timeout = "120s")]
async fn without_its_record_a_killed_run_is_not_resumed() {
    let databases = Databases::new(1).await;
    kill_after(&databases, 0, "t5", Duration::ZERO).await;
    assert!(check_record(&databases, 0).await >= 10);
    databases.run(0, "DELETE FROM trine_migration WHERE owner = 'test'").await;
    let report = migrate(&databases.config(), &sets()).await.unwrap();
    let rows = databases.column(0, "SELECT CAST(COUNT(*) AS CHAR) FROM t0").await;
    assert!(!report.is_complete() || rows != ["1"], "{report}");
}
