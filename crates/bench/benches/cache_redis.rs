//! Reads of a cache on one Redis server against one raw multiplexed connection
//! and a default deadpool pool of 8, client and server on a core each.

use std::process::Command;

use deadpool_redis::{Config, Runtime};
use redis::AsyncCommands as _;
use trine_bench::{Rounds, compare, operation};
use trine_cache::{CacheConfig, CacheDeps, CacheService, Ttl};
use trine_core::Secret;
use trine_redis::{RedisConfig, RedisService};
use trine_testkit::Redis;

const KEYS: u64 = 10_000;
const MANY: u64 = 1_000;

/// Puts a process on one core, where there is `taskset`.
fn pin(pid: u32, core: u32) {
    let pinned =
        Command::new("taskset").args(["-apc", &core.to_string(), &pid.to_string()]).output();
    if !pinned.is_ok_and(|output| output.status.success()) {
        println!("process {pid} is not pinned");
    }
}

// One thread, as the client has one core.
#[tokio::main(flavor = "current_thread")]
async fn main() {
    let server = Redis::start().await.expect("a Redis server");
    println!("Redis {}", server.version());
    pin(server.pid().expect("a server of this machine"), 0);
    pin(std::process::id(), 1);

    let config = RedisConfig::single("bench", Secret::new(server.url()));
    let service = RedisService::connect(&config).await.expect("a pool");
    let deps = CacheDeps::default().with_redis("main", service.pool());
    let cache = CacheService::open(&CacheConfig::redis("main"), deps).expect("a cache");
    cache.start().await.expect("a cache");
    let client = redis::Client::open(server.url()).expect("a url");
    let raw = client.get_multiplexed_async_connection().await.expect("a connection");
    let pool = Config::from_url(server.url()).builder().expect("a config").max_size(8);
    let pool = pool.runtime(Runtime::Tokio1).build().expect("a pool");

    let value = "v".repeat(100);
    for key in 0..KEYS {
        cache.put_bytes(format!("key:{key}"), value.clone(), Ttl::Never).await.expect("a put");
    }
    let full = |key: u64| format!("bench:cache.default:key:{key}");
    let get = {
        let (cache, raw, pool) = (cache.clone(), raw.clone(), pool.clone());
        [
            (
                "one raw multiplexed connection",
                operation(move |index| {
                    let mut raw = raw.clone();
                    async move {
                        let found: Option<Vec<u8>> =
                            raw.get(full(index % KEYS)).await.expect("an answer");
                        assert!(found.is_some());
                    }
                }),
            ),
            (
                "CacheService::get_bytes",
                operation(move |index| {
                    let cache = cache.clone();
                    async move {
                        let found = cache.get_bytes(format!("key:{}", index % KEYS)).await;
                        assert!(found.expect("an answer").is_some());
                    }
                }),
            ),
            (
                "deadpool-redis, pool of 8",
                operation(move |index| {
                    let pool = pool.clone();
                    async move {
                        let mut connection = pool.get().await.expect("a connection");
                        let found: Option<Vec<u8>> =
                            connection.get(full(index % KEYS)).await.expect("an answer");
                        assert!(found.is_some());
                    }
                }),
            ),
        ]
    };
    for tasks in [16, 64] {
        compare("get of 100 bytes", tasks, Rounds::from_args(), &get).await;
    }

    let names: Vec<String> = (0..MANY).map(|key| format!("key:{key}")).collect();
    let fulls: Vec<String> = (0..MANY).map(full).collect();
    let many = [
        (
            "raw MGET",
            operation(move |_| {
                let (mut raw, fulls) = (raw.clone(), fulls.clone());
                async move {
                    let found: Vec<Option<Vec<u8>>> = raw.mget(fulls).await.expect("an answer");
                    assert_eq!(found.len() as u64, MANY);
                }
            }),
        ),
        ("CacheService::get_many_bytes", {
            let (cache, names) = (cache.clone(), names.clone());
            operation(move |_| {
                let (cache, names) = (cache.clone(), names.clone());
                async move {
                    let found = cache.get_many_bytes(names).await.expect("an answer");
                    assert_eq!(found.len() as u64, MANY);
                }
            })
        }),
    ];
    for tasks in [1, 16] {
        compare("1,000 keys at once", tasks, Rounds::from_args(), &many).await;
    }

    let json = vec![1_u32, 2, 3];
    for name in &names {
        cache.put(name, &json, Ttl::Never).await.expect("a put");
    }
    let typed = [
        ("CacheService::get_many_bytes", {
            let (cache, names) = (cache.clone(), names.clone());
            operation(move |_| {
                let (cache, names) = (cache.clone(), names.clone());
                async move {
                    let found = cache.get_many_bytes(names).await.expect("an answer");
                    assert_eq!(found.len() as u64, MANY);
                }
            })
        }),
        (
            "CacheService::get_many, JSON",
            operation(move |_| {
                let (cache, names) = (cache.clone(), names.clone());
                async move {
                    let found = cache.get_many::<Vec<u32>>(names).await.expect("an answer");
                    assert_eq!(found.len() as u64, MANY);
                }
            }),
        ),
    ];
    compare("1,000 keys decoded", 16, Rounds::from_args(), &typed).await;
}
