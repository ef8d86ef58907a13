//! Locks on one Redis server against the raw commands, the same two scripts
//! sent raw, and rslock, client and server on a core each; how fast a key is
//! handed on, and what renewals cost.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Script, Value, from_redis_value};
use rslock::LockManager;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use trine_bench::{Rounds, compare, operation};
use trine_core::{Deadline, Secret, Span};
use trine_lock::{
    AcquireOutcome, LockConfig, LockDeps, LockOptions, LockService, TryAcquireOutcome,
};
use trine_redis::{RedisConfig, RedisService};
use trine_testkit::Redis;

const KEYS: u64 = 1_000;

const COMPARE_AND_DELETE: &str =
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";

const ACQUIRE: &str = concat!(
    "#!lua\n",
    include_str!("../../lock/src/backend/redis/plain_acquire.lua"),
    include_str!("../../lock/src/backend/redis/record.lua"),
    include_str!("../../lock/src/backend/redis/acquire.lua")
);

const RELEASE: &str = concat!(
    "#!lua flags=allow-oom\n",
    include_str!("../../lock/src/backend/redis/plain_release.lua"),
    include_str!("../../lock/src/backend/redis/record.lua"),
    include_str!("../../lock/src/backend/redis/release.lua")
);

const SETTINGS: &str = "0 1000000 1";
const PROCESS: &str = "host:1:0123456789abcd";

/// Puts a process on one core, where there is `taskset`.
fn pin(pid: u32, core: u32) {
    let pinned =
        Command::new("taskset").args(["-apc", &core.to_string(), &pid.to_string()]).output();
    if !pinned.is_ok_and(|output| output.status.success()) {
        println!("process {pid} is not pinned");
    }
}

/// Processor time of this process, user and system.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("a Linux machine");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

async fn service(server: &Redis) -> LockService {
    let config = RedisConfig::single("bench", Secret::new(server.url()));
    let redis = RedisService::connect(&config).await.expect("a pool");
    let deps = LockDeps::default().with_redis("main", redis.pool());
    let config = LockConfig::redis("main").with_wait(Span::secs(120));
    let locks = LockService::open(&config, deps).expect("locks");
    locks.start().await.expect("locks");
    locks
}

// One thread, as the client has one core.
#[tokio::main(flavor = "current_thread")]
async fn main() {
    let server = Redis::start().await.expect("a Redis server");
    println!("Redis {}", server.version());
    pin(server.pid().expect("a server of this machine"), 0);
    pin(std::process::id(), 1);
    let locks = service(&server).await;
    let client = redis::Client::open(server.url()).expect("a url");
    let raw = client.get_multiplexed_async_connection().await.expect("a connection");
    // What a new server grants nothing for.
    sleep(Duration::from_millis(1_200)).await;

    pairs(&server, &locks, &raw).await;
    for processes in [1, 8] {
        hand_offs(&server, &raw, processes).await;
    }
    renewals(&locks).await;
    locks.shutdown(Deadline::after(Duration::from_secs(10))).await.expect("an end");
}

/// Acquire and release of keys of one's own.
async fn pairs(server: &Redis, locks: &LockService, raw: &MultiplexedConnection) {
    let run_id: String = redis::cmd("INFO")
        .arg("server")
        .query_async::<String>(&mut raw.clone())
        .await
        .expect("an answer")
        .lines()
        .find_map(|line| line.strip_prefix("run_id:").map(str::to_owned))
        .expect("a run_id");
    let run_id: Arc<str> = run_id.trim().into();
    let delete = Arc::new(Script::new(COMPARE_AND_DELETE));
    let (acquire, release) = (Arc::new(Script::new(ACQUIRE)), Arc::new(Script::new(RELEASE)));
    let peer = LockManager::new(vec![server.url()]);

    let competitors = [
        ("raw SET NX PX and compare-and-delete", {
            let (raw, delete) = (raw.clone(), Arc::clone(&delete));
            operation(move |index| {
                let (mut raw, delete) = (raw.clone(), Arc::clone(&delete));
                async move {
                    let (key, value) = (format!("raw:{}", own(index)), "0123456789abcdef");
                    let set: Option<String> = redis::cmd("SET")
                        .arg(&key)
                        .arg(value)
                        .arg("NX")
                        .arg("PX")
                        .arg(30_000)
                        .query_async(&mut raw)
                        .await
                        .expect("an answer");
                    assert!(set.is_some());
                    let gone: u64 = delete
                        .key(&key)
                        .arg(value)
                        .invoke_async(&mut raw)
                        .await
                        .expect("an answer");
                    assert_eq!(gone, 1);
                }
            })
        }),
        ("the same two scripts, raw", {
            let raw = raw.clone();
            operation(move |index| {
                let (mut raw, run_id) = (raw.clone(), Arc::clone(&run_id));
                let (acquire, release) = (Arc::clone(&acquire), Arc::clone(&release));
                async move {
                    let field = format!("k:same:{}", own(index));
                    let hash = format!("bench:raw:{{{}}}", index % 256);
                    let mut asked = acquire.prepare_invoke();
                    asked.key(&hash).arg(&*run_id).arg(&field);
                    asked.arg(format!(
                        "P000030000000 {SETTINGS} twn 0 0 0 0 0 1 {index} 21 {PROCESS}"
                    ));
                    let granted: Value = asked.invoke_async(&mut raw).await.expect("an answer");
                    // The first one of a hash is answered at length.
                    let token: u64 = match granted {
                        Value::Array(parts) => from_redis_value(parts[1].clone()),
                        token => from_redis_value(token),
                    }
                    .expect("a token");
                    let mut given = release.prepare_invoke();
                    given.key(&hash).arg(&field).arg(format!("{token}P")).arg(SETTINGS);
                    let released: Value = given.invoke_async(&mut raw).await.expect("an answer");
                    assert_ne!(released, Value::Int(0));
                }
            })
        }),
        ("LockService::try_acquire and release", {
            let locks = locks.clone();
            operation(move |index| {
                let locks = locks.clone();
                async move {
                    let key = format!("own:{}", own(index));
                    let options = LockOptions::default().with_ttl(Duration::from_secs(30));
                    let outcome = locks.try_acquire(key, options).await.expect("an answer");
                    let TryAcquireOutcome::Acquired(guard) = outcome else {
                        panic!("somebody else has it")
                    };
                    guard.release().await.expect("an answer");
                }
            })
        }),
        (
            "rslock, one server",
            operation(move |index| {
                let peer = peer.clone();
                async move {
                    let key = format!("peer:{}", own(index));
                    let lock = peer.lock(key.as_bytes(), Duration::from_secs(30)).await;
                    peer.unlock(&lock.expect("a lock")).await;
                }
            }),
        ),
    ];
    for tasks in [1, 16, 64] {
        compare("acquire and release", tasks, Rounds::from_args(), &competitors).await;
    }
}

/// A key that no other task has: each begins at a multiple of this.
fn own(index: u64) -> String {
    format!("{}:{}", index / 1_000_003, index % KEYS)
}

/// Time from the call of a release to the next guard, with 1,000 waiters.
async fn hand_offs(server: &Redis, raw: &MultiplexedConnection, processes: usize) {
    const WAITERS: usize = 1_000;
    let mut services = Vec::new();
    for _ in 0..processes {
        services.push(service(server).await);
    }
    let key = format!("hot:{processes}");
    let options = LockOptions::default().with_wait(Duration::from_secs(120));
    let held = services[0].acquire(&key, options.clone()).await.expect("an answer");
    let AcquireOutcome::Acquired(held) = held else { panic!("nobody else has it") };
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let mut waiting = Vec::new();
    for waiter in 0..WAITERS {
        let (locks, key) = (services[waiter % processes].clone(), key.clone());
        let (options, sender) = (options.clone(), sender.clone());
        waiting.push(tokio::spawn(async move {
            let outcome = locks.acquire(&key, options).await.expect("an answer");
            let AcquireOutcome::Acquired(guard) = outcome else { panic!("waited too long") };
            sender.send((Instant::now(), guard)).expect("a receiver");
        }));
    }
    sleep(Duration::from_millis(500)).await;
    let before = scripts(raw).await;
    let mut times = Vec::with_capacity(WAITERS);
    let (mut guard, mut released) = (held, Instant::now());
    for turn in 0..=WAITERS {
        let releasing = tokio::spawn(guard.release());
        if turn == WAITERS {
            releasing.await.expect("a task").expect("an answer");
            break;
        }
        let (acquired, next) = receiver.recv().await.expect("a next one");
        times.push(acquired - released);
        releasing.await.expect("a task").expect("an answer");
        (guard, released) = (next, Instant::now());
    }
    let commands = scripts(raw).await - before;
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!(
        "\nhand-off, 1,000 waiters of {processes} processes: p50 {:?}, p99 {:?}, longest {:?}, {:.3} scripts each",
        at(0.5),
        at(0.99),
        at(1.0),
        commands as f64 / WAITERS as f64
    );
    for locks in services {
        locks.shutdown(Deadline::after(Duration::from_secs(10))).await.expect("an end");
    }
}

/// Scripts that the server has run.
async fn scripts(raw: &MultiplexedConnection) -> u64 {
    let stats: String = redis::cmd("INFO")
        .arg("commandstats")
        .query_async(&mut raw.clone())
        .await
        .expect("an answer");
    let calls = |line: &str| {
        let rest = line.strip_prefix("cmdstat_evalsha")?;
        rest.split_once("calls=")?.1.split(',').next()?.parse::<u64>().ok()
    };
    stats.lines().filter_map(calls).sum()
}

/// What 10,000 locks of 30 s cost while nothing happens to them.
async fn renewals(locks: &LockService) {
    const LOCKS: usize = 10_000;
    let options = LockOptions::default().with_ttl(Duration::from_secs(30));
    let mut guards = Vec::with_capacity(LOCKS);
    for lock in 0..LOCKS {
        let outcome = locks.try_acquire(format!("kept:{lock}"), options.clone()).await;
        let TryAcquireOutcome::Acquired(guard) = outcome.expect("an answer") else {
            panic!("somebody else has it")
        };
        guards.push(guard);
    }
    // Past the first renewals, which come as the grants came.
    sleep(Duration::from_secs(15)).await;
    let (cpu, began) = (processor_time(), Instant::now());
    sleep(Duration::from_secs(60)).await;
    let share = (processor_time() - cpu).as_secs_f64() / began.elapsed().as_secs_f64();
    println!("\n10,000 locks of 30 s renewed: {:.2} % of a core in the client", share * 100.0);
    assert!(guards.iter().all(|guard| guard.is_held()), "all are held");
}
