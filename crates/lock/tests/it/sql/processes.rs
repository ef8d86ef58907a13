//! Processes that are killed, and processes that share keys.

use std::num::NonZeroU32;
use std::path::Path;
use std::{env, fs};

use trine_testkit::{Child, MariaDb, TestDatabase};

use super::*;

const CHILD: &str = "sql::processes::child_that_locks";

const TTL: Duration = Duration::from_secs(3);

const ROUNDS: u32 = 40;

/// Starts this very binary as a process with locks in the database.
fn spawn(own: &TestDatabase, task: &str, folder: &Path) -> Child {
    fs::write(folder.join("task"), format!("{task}\n{}", own.url())).unwrap();
    Child::builder(env::current_exe().unwrap())
        .args([CHILD, "--exact", "--ignored", "--nocapture"])
        .folder(folder)
        .spawn()
        .unwrap()
}

#[tokio::test]
#[ignore = "the child of the other tests"]
async fn child_that_locks() {
    let Ok(text) = fs::read_to_string("task") else { return };
    let (task, url) = text.split_once('\n').unwrap();
    let locks = start(&mariadb::open(url), TTL).await;
    match task {
        "hold" => {
            let held = acquire(&locks, "k").await;
            println!("token {}", held.fence().token());
            std::future::pending::<()>().await;
        }
        "permits" => {
            let mut permits = Vec::new();
            for _ in 0..3 {
                permits.push(locks.try_acquire_permit("k", ten(), any()).await.unwrap());
            }
            println!("ready");
            std::future::pending::<()>().await;
        }
        _ => {
            println!("ready");
            add(&locks, &env::current_dir().unwrap()).await;
            println!("done");
        }
    }
}

fn ten() -> NonZeroU32 {
    NonZeroU32::new(10).unwrap()
}

/// Adds to two files that nothing but the locks protects.
async fn add(locks: &LockService, folder: &Path) {
    for round in 0..ROUNDS {
        let name = ["a", "b"][usize::from(round % 2 == 0)];
        let held = acquire(locks, name).await;
        let file = folder.join(name);
        let seen: u32 = fs::read_to_string(&file).unwrap().parse().unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
        fs::write(&file, (seen + 1).to_string()).unwrap();
        held.release().await.unwrap();
    }
}

async fn database() -> (TestDatabase, Database) {
    let own = MariaDb::shared().await.unwrap().database().await.unwrap();
    let database = mariadb::open(&own.url());
    database.migrate_with(&trine_lock::migrations()).await.unwrap();
    (own, database)
}

/// LK-04
#[tokio::test]
async fn the_key_of_a_killed_process_is_given_on_after_its_ttl() {
    let ((own, database), folder) = (database().await, tempfile::tempdir().unwrap());
    let locks = start(&database, TTL).await;
    let child = spawn(&own, "hold", folder.path());
    let line = child.wait_for_log("token ", Duration::from_secs(30)).await.unwrap();
    let token: u64 = line.trim().rsplit(' ').next().unwrap().parse().unwrap();
    assert!(is_held(&locks, "k").await);
    child.kill().await.unwrap();
    let killed = tokio::time::Instant::now();
    let held = acquire(&locks, "k").await;
    assert!(held.fence().token() > token);
    assert!(killed.elapsed() < TTL + Duration::from_secs(5), "{:?}", killed.elapsed());
}

/// LK-21: those of a process that is killed come back, and there are never more
/// than ten.
#[tokio::test]
async fn permits_of_a_killed_process_come_back() {
    let ((own, database), folder) = (database().await, tempfile::tempdir().unwrap());
    let locks = start(&database, TTL).await;
    let child = spawn(&own, "permits", folder.path());
    child.wait_for_log("ready", Duration::from_secs(30)).await.unwrap();
    let mut held = Vec::new();
    for _ in 0..7 {
        let permit = locks.try_acquire_permit("k", ten(), any()).await.unwrap();
        held.push(permit.into_guard().unwrap());
    }
    assert!(locks.try_acquire_permit("k", ten(), any()).await.unwrap().into_guard().is_none());
    child.kill().await.unwrap();
    let waiting = (0..3).map(|_| locks.acquire_permit("k", ten(), any()));
    let watched = async {
        loop {
            let page = locks.holders("k", None, 1).await.unwrap();
            assert!(page.keys[0].holders.len() <= 10, "{page:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        came = in_time(futures_util::future::join_all(waiting)) => {
            for permit in came {
                held.push(permit.unwrap().into_guard().unwrap());
            }
        }
        () = watched => {}
    }
    assert_eq!(held.iter().filter(|permit| permit.is_held()).count(), 10);
    let slots: std::collections::BTreeSet<_> =
        held.iter().map(|permit| permit.fence().key().to_owned()).collect();
    assert_eq!(slots.len(), 10);
}

/// LK-06
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_addition_of_two_processes_is_lost() {
    let ((own, database), folder) = (database().await, tempfile::tempdir().unwrap());
    for name in ["a", "b"] {
        fs::write(folder.path().join(name), "0").unwrap();
    }
    let locks = start(&database, TTL).await;
    let child = spawn(&own, "add", folder.path());
    child.wait_for_log("ready", Duration::from_secs(30)).await.unwrap();
    futures_util::future::join_all((0..3).map(|_| add(&locks, folder.path()))).await;
    child.wait_for_log("done", Duration::from_secs(50)).await.unwrap();
    let sum: u32 = ["a", "b"]
        .iter()
        .map(|name| fs::read_to_string(folder.path().join(name)).unwrap().parse::<u32>().unwrap())
        .sum();
    assert_eq!(sum, 4 * ROUNDS);
    eventually(async || count(&database).await == 0).await;
}
