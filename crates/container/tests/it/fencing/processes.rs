//! LK-09 and LK-14 with processes: one that holds a key is stopped, or killed.

use std::path::Path;
use std::time::Duration;
use std::{env, fs};

use tokio::time::Instant;
use trine_cache::{CacheConfig, CacheDeps};
use trine_core::{Fence, Secret};
use trine_db_shard::DbService;
use trine_lock::{Guard, LockConfig, LockDeps, LockOptions, LockService};
use trine_redis::{RedisConfig, RedisService};
use trine_testkit::{Child, MariaDb, Redis, TestDatabase};

use super::KEY;
use super::shared::on_redis;
use super::sinks::{CacheSink, Check, Sink, SqlSink, Taken, Write};

const CHILD: &str = "fencing::processes::child_that_holds";

/// A child that is slow is waited for.
const PATIENCE: Duration = Duration::from_secs(50);

const TTL: Duration = Duration::from_secs(1);

/// Where the locks of a test are.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Redis,
    Sql,
}

/// What one process has: locks, a database and a cache on Redis.
struct Process {
    _redis: RedisService,
    _service: DbService,
    locks: LockService,
    sinks: [Box<dyn Sink>; 2],
}

impl Process {
    /// `task` has what [`Site::task`] returns.
    async fn open(task: &str) -> Self {
        let [kind, namespace, redis, db] = task.lines().collect::<Vec<_>>().try_into().unwrap();
        let redis = RedisConfig::single(namespace, Secret::new(redis));
        let redis = RedisService::connect(&redis).await.unwrap();
        let (service, sql) = SqlSink::mariadb(db).await;
        let config = if kind == "Sql" { LockConfig::sql("default") } else { on_redis() };
        let deps = LockDeps::default()
            .with_redis("main", redis.pool())
            .with_database("default", service.global());
        let locks = LockService::open(&config, deps).unwrap();
        locks.start().await.unwrap();
        let deps = CacheDeps::default().with_redis("main", redis.pool());
        let cache = CacheSink::open(&CacheConfig::redis("main"), deps).await;
        Self { _redis: redis, _service: service, locks, sinks: [Box::new(sql), Box::new(cache)] }
    }

    async fn acquire(&self) -> Guard {
        let options = LockOptions::default().with_ttl(TTL).with_wait(PATIENCE);
        self.locks.acquire(KEY, options).await.unwrap().into_guard().unwrap()
    }

    /// What each resource said to an entry, and to the bytes that all write.
    async fn write(&self, fence: &Fence, name: &str) -> [[Taken; 2]; 2] {
        let mut taken = [[Taken::Yes; 2]; 2];
        for (sink, taken) in self.sinks.iter().zip(&mut taken) {
            for (what, taken) in [Write::Entry(name.to_owned()), Write::Same].iter().zip(taken) {
                *taken = sink.write(KEY, fence, what, Check::On).await;
            }
        }
        taken
    }
}

/// Servers, and what leads there.
struct Site {
    kind: Kind,
    namespace: String,
    redis: String,
    own: TestDatabase,
}

impl Site {
    async fn new(kind: Kind) -> Self {
        let own = MariaDb::shared().await.unwrap().database().await.unwrap();
        let server = Redis::shared().await.unwrap();
        Self { kind, namespace: server.namespace(), redis: server.url(), own }
    }

    fn task(&self) -> String {
        let Self { kind, namespace, redis, own } = self;
        format!("{kind:?}\n{namespace}\n{redis}\n{}", own.url())
    }

    /// Starts this very binary as a process, and waits until it has the key;
    /// returns the token.
    async fn holder(&self, folder: &Path) -> (Child, u64) {
        fs::write(folder.join("task"), self.task()).unwrap();
        let child = Child::builder(env::current_exe().unwrap())
            .args([CHILD, "--exact", "--ignored", "--nocapture"])
            .folder(folder)
            .spawn()
            .unwrap();
        let line = child.wait_for_log("token ", PATIENCE).await.unwrap();
        let token = line.trim().rsplit(' ').next().unwrap().parse().unwrap();
        (child, token)
    }
}

/// Takes the key and writes; writes again, whatever has become of its lock, when
/// it finds that it was woken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the child of the other tests"]
async fn child_that_holds() {
    let Ok(task) = fs::read_to_string("task") else { return };
    let process = Process::open(&task).await;
    let guard = process.acquire().await;
    let fence = guard.fence().clone();
    assert_eq!(process.write(&fence, "first").await, [[Taken::Yes; 2]; 2]);
    println!("token {}", fence.token());
    while !Path::new("wake").exists() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!("wrote {:?}", process.write(&fence, "late").await);
}

/// What the resources say to a holder that was stopped, once another has the
/// key, and has raised its fence or not.
async fn woken(kind: Kind, raises: bool) -> String {
    let (site, folder) = (Site::new(kind).await, tempfile::tempdir().unwrap());
    let second = Process::open(&site.task()).await;
    let (first, token) = site.holder(folder.path()).await;
    first.pause().await.unwrap();
    let guard = second.acquire().await;
    assert!(guard.fence().token() > token);
    if raises {
        for sink in &second.sinks {
            assert_eq!(sink.raise(KEY, guard.fence()).await, Taken::Yes);
        }
    }
    fs::write(folder.path().join("wake"), "").unwrap();
    first.resume().unwrap();
    let wrote = first.wait_for_log("wrote ", PATIENCE).await.unwrap();
    let expected: &[&str] = if raises { &["first"] } else { &["first", "late"] };
    for sink in &second.sinks {
        assert_eq!(sink.read(KEY).await, expected, "{sink:?}");
    }
    assert_eq!(second.write(guard.fence(), "second").await, [[Taken::Yes; 2]; 2]);
    wrote.split_once("wrote ").unwrap().1.to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_was_stopped_writes_nothing_once_another_has_raised() {
    for kind in [Kind::Redis, Kind::Sql] {
        let wrote = woken(kind, true).await;
        assert_eq!(wrote, format!("{:?}", [[Taken::Fenced; 2]; 2]), "{kind:?}");
    }
}

/// Nothing but the raise keeps it out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_was_stopped_writes_where_nobody_has_raised() {
    for kind in [Kind::Redis, Kind::Sql] {
        let wrote = woken(kind, false).await;
        assert_eq!(wrote, format!("{:?}", [[Taken::Yes; 2]; 2]), "{kind:?}");
    }
}

/// LK-14
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_key_of_a_killed_process_goes_to_the_next_after_its_ttl() {
    for kind in [Kind::Redis, Kind::Sql] {
        let (site, folder) = (Site::new(kind).await, tempfile::tempdir().unwrap());
        let second = Process::open(&site.task()).await;
        let (first, token) = site.holder(folder.path()).await;
        let killing = async {
            first.kill().await.unwrap();
            Instant::now()
        };
        let (guard, killed) = tokio::join!(second.acquire(), killing);
        let after = killed.elapsed();
        assert!(guard.fence().token() > token, "{kind:?}");
        assert!(after < TTL + Duration::from_secs(5), "{kind:?}: {after:?}");
        println!("{kind:?}: the next had it after {after:?}");
    }
}
