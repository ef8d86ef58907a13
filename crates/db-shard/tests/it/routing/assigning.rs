//! Many assign the same keys at once, and each of them would choose another
//! shard.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::try_join_all;
use tempfile::TempDir;
use tokio::task::JoinSet;
use trine_core::Span;
use trine_db_shard::conformance::Fixture;
use trine_db_shard::{DbConfig, DbService, Engine, ShardId};
use trine_testkit::{Child, MariaDb, Rng, SoakPlan, TestDatabase};

use super::{mysql_config, on_both_engines, stored};

on_both_engines!(a_key_gets_one_shard_in_a_race(4));

/// Has a process that starts now choose `shard` for a thousand keys before it
/// chooses another one.
async fn prefer(db: &DbService, shard: u32) {
    for (sql, weight) in [
        ("UPDATE trine_shard SET weight = ? WHERE id = ?", 1_000),
        ("UPDATE trine_shard SET weight = ? WHERE id <> ?", 1),
    ] {
        db.global().execute(sql, (weight, shard)).await.unwrap();
    }
}

/// Keeps the map that it has read at its start.
fn keep_the_map(config: &mut DbConfig) {
    config.map.refresh = Span::secs(600);
    config.map.lease = Span::secs(1_200);
}

async fn a_key_gets_one_shard_in_a_race(fixture: Fixture) {
    const KEYS: u64 = 40;
    let fixture = fixture.with(keep_the_map);
    let first = fixture.start().await;
    let mut services = vec![first.clone()];
    // A file has one process.
    if first.global().engine() != Engine::Sqlite {
        prefer(&first, 1).await;
        services.push(fixture.start().await);
        prefer(&first, 2).await;
        services.push(fixture.start().await);
    }
    for key in 0..KEYS {
        let mut tasks = JoinSet::new();
        for number in 0..18_u64 {
            // Another one begins each time.
            let chosen = usize::try_from(key + number).unwrap() % services.len();
            let db = services[chosen].clone();
            tasks.spawn(async move { db.assign(key).await.unwrap() });
        }
        let found: BTreeSet<ShardId> = tasks.join_all().await.into_iter().collect();
        assert_eq!(found.len(), 1, "{found:?}");
        for db in &services {
            assert_eq!(db.shard_of(key).await.unwrap(), found.first().copied());
        }
    }
    let rows = stored(&first).await;
    assert_eq!(rows.len(), usize::try_from(KEYS).unwrap());
    if services.len() > 1 {
        let used: BTreeSet<u32> = rows.into_iter().collect();
        assert!(used.is_superset(&BTreeSet::from([1, 2])), "they do not disagree: {used:?}");
    }
}

const URLS: &str = "TRINE_IT_ASSIGN_URLS";
const FOLDER: &str = "TRINE_IT_ASSIGN_FOLDER";
const NUMBER: &str = "TRINE_IT_ASSIGN_NUMBER";
const KEYS: u64 = 10_000;
const SHARDS: u32 = 4;

/// What the children and their parent tell each other in files.
fn answers(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("answers-{number}"))
}

fn go(folder: &Path) -> PathBuf {
    folder.join("go")
}

/// Three processes assign all keys; each of them would have them on a shard of
/// its own.
#[expect(clippy::print_stdout, reason = "the test harness shows it beside a failure")]
async fn assign_in_three_processes(rng: &mut Rng) {
    let server = MariaDb::shared().await.unwrap();
    let databases: Vec<TestDatabase> =
        try_join_all((0..=SHARDS).map(|_| server.database())).await.unwrap();
    let urls: Vec<String> = databases.iter().map(TestDatabase::url).collect();
    let fixture = Fixture::new(mysql_config(urls.clone()), databases);
    let db = fixture.start().await;
    let folder = TempDir::new().unwrap();
    // The one that nobody prefers.
    let spared = u32::try_from(rng.below(u64::from(SHARDS))).unwrap();
    let preferred: Vec<u32> = (0..SHARDS).filter(|shard| *shard != spared).collect();
    let mut children = Vec::new();
    for shard in &preferred {
        prefer(&db, *shard).await;
        let child = Child::builder(std::env::current_exe().unwrap())
            .args(["--exact", "routing::assigning::child_that_assigns"])
            .args(["--ignored", "--nocapture"])
            .env(URLS, urls.join(" "))
            .env(FOLDER, folder.path().display().to_string())
            .env(NUMBER, shard.to_string())
            .spawn()
            .unwrap();
        // It has read the map before the next one's is written.
        child.wait_for_log("ready", Duration::from_secs(60)).await.unwrap();
        children.push(child);
    }
    std::fs::write(go(folder.path()), "").unwrap();
    let mut found = Vec::new();
    for (shard, child) in preferred.iter().zip(&children) {
        let status = child.wait(Duration::from_secs(280)).await.unwrap();
        assert!(status.success(), "{}", child.log());
        found.push(std::fs::read_to_string(answers(folder.path(), *shard)).unwrap());
    }
    assert_eq!(found[0].lines().count(), usize::try_from(KEYS).unwrap());
    assert!(found.iter().all(|answer| *answer == found[0]), "two processes disagree");
    let mut expected = String::new();
    for key in 0..KEYS {
        let shard = db.shard_of(key).await.unwrap().unwrap();
        writeln!(expected, "{key} {shard}").unwrap();
    }
    assert_eq!(found[0], expected);
    let rows = stored(&db).await;
    assert_eq!(rows.len(), usize::try_from(KEYS).unwrap());
    let mut counts = BTreeMap::<u32, u32>::new();
    for shard in rows {
        *counts.entry(shard).or_default() += 1;
    }
    println!("keys of each shard: {counts:?}, preferred {preferred:?}");
    // The other two give a shard one key in a thousand each: a shard with more
    // than that was the choice of its own process.
    for shard in preferred {
        let won = counts.get(&shard).copied().unwrap_or_default();
        assert!(won > 100, "the process that prefers shard {shard} was always late: {counts:?}");
    }
}

async fn assign_again_and_again() {
    let mut plan = SoakPlan::new("assign", 1).unwrap();
    while plan.next_round().is_some() {
        assign_in_three_processes(plan.rng()).await;
    }
}

#[trine_testkit::test(timeout = "400s")]
async fn three_processes_assign_each_of_10_000_keys_to_one_shard() {
    assign_again_and_again().await;
}

#[trine_testkit::test(timeout = "3000m")]
#[ignore = "long form: cargo xtask soak assign --minutes 10"]
async fn soak_assign() {
    assign_again_and_again().await;
}

#[expect(clippy::disallowed_methods, reason = "the parent tells the child what to do by variables")]
#[trine_testkit::test(timeout = "280s")]
#[ignore = "a part of three_processes_assign_each_of_10_000_keys_to_one_shard"]
async fn child_that_assigns() {
    let (Ok(urls), Ok(folder), Ok(number)) =
        (std::env::var(URLS), std::env::var(FOLDER), std::env::var(NUMBER))
    else {
        return;
    };
    let (folder, number) = (PathBuf::from(folder), number.parse().unwrap());
    let mut config = mysql_config(urls.split(' ').map(str::to_owned));
    keep_the_map(&mut config);
    let db = DbService::connect(&config).await.unwrap();
    println!("ready");
    while !go(&folder).exists() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let assigned: Vec<(u64, ShardId)> = futures_util::stream::iter(0..KEYS)
        .map(|key| {
            let db = &db;
            async move { (key, db.assign(key).await.unwrap()) }
        })
        .buffered(32)
        .collect()
        .await;
    let mut text = String::new();
    for (key, shard) in assigned {
        writeln!(text, "{key} {shard}").unwrap();
    }
    std::fs::write(answers(&folder, number), text).unwrap();
}
