//! Reads of a cache in this process against moka: bytes under texts, bounded by
//! bytes, with a lifetime on every entry.

use std::time::Duration;

use bytes::Bytes;
use moka::future::Cache;
use trine_bench::{Rounds, compare, operation};
use trine_cache::{CacheConfig, CacheService, Ttl};

const KEYS: u64 = 100_000;
const BYTES: u64 = 64 * 1024 * 1024;

#[tokio::main]
async fn main() {
    let cache = CacheService::connect(&CacheConfig::memory()).await.expect("a cache");
    let moka: Cache<String, Bytes> = Cache::builder()
        .max_capacity(BYTES)
        .weigher(|key: &String, value: &Bytes| {
            u32::try_from(key.len() + value.len()).unwrap_or(u32::MAX)
        })
        .time_to_live(Duration::from_secs(3_600))
        .build();
    let value = Bytes::from("v".repeat(100));
    for key in 0..KEYS {
        let ttl = Ttl::secs(3_600);
        cache.put_bytes(format!("key:{key}"), value.clone(), ttl).await.expect("a put");
        moka.insert(format!("key:{key}"), value.clone()).await;
    }
    let key = |index: u64| index.wrapping_mul(0x9e37_79b9_7f4a_7c15) % KEYS;
    let get = {
        let (cache, moka) = (cache.clone(), moka.clone());
        [
            (
                "moka::future::Cache::get",
                operation(move |index| {
                    let moka = moka.clone();
                    async move {
                        for step in 0..64 {
                            let name = format!("key:{}", key(index * 64 + step));
                            assert!(moka.get(&name).await.is_some());
                        }
                        tokio::task::yield_now().await;
                    }
                }),
            ),
            (
                "CacheService::get_bytes",
                operation(move |index| {
                    let cache = cache.clone();
                    async move {
                        for step in 0..64 {
                            let name = format!("key:{}", key(index * 64 + step));
                            let found = cache.get_bytes(name).await.expect("an answer");
                            assert!(found.is_some());
                        }
                        tokio::task::yield_now().await;
                    }
                }),
            ),
        ]
    };
    for tasks in [1, 2, 16] {
        compare("64 gets of 100 bytes, memory", tasks, Rounds::from_args(), &get).await;
    }
}
