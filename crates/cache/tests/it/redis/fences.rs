//! The marks of fences on a server: who is refused, and how long it is
//! remembered.

use std::time::Duration;

use tokio::task::JoinSet;
use trine_cache::{BackendConfig, Batch, CacheConfig, CacheDeps, CacheService, Key, Op, Ttl};
use trine_core::{Fence, FenceSink, Secret};
use trine_redis::{RedisConfig, RedisService};
use trine_testkit::Redis;

use crate::support::hasty;
use crate::support::race::{Race, race};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// The configured retention of these tests.
const RETENTION: Duration = DAY;

struct Bench {
    namespace: String,
    cache: CacheService,
    _redis: RedisService,
}

impl Bench {
    async fn new() -> Self {
        let server = Redis::shared().await.unwrap();
        let namespace = server.namespace();
        let config = RedisConfig::single(namespace.clone(), Secret::new(server.url()));
        let redis = RedisService::connect(&hasty(config)).await.unwrap();
        let mut config = CacheConfig::redis("main");
        let BackendConfig::Redis(store) = &mut config.backend else { panic!() };
        store.fence_retention = RETENTION.into();
        let deps = CacheDeps::default().with_redis("main", redis.pool());
        let cache = CacheService::open(&config, deps).unwrap();
        cache.start().await.unwrap();
        Self { namespace, cache, _redis: redis }
    }

    /// Returns what is left of the mark of a key; `None` if it never ends.
    async fn mark(&self, key: &str) -> Option<Duration> {
        let server = Redis::shared().await.unwrap();
        let Self { namespace, .. } = self;
        let tag = match key.strip_prefix('{') {
            Some(tag) => tag.trim_end_matches('}').to_owned(),
            None => format!("{namespace}:cache.default:{key}"),
        };
        let key = format!("{namespace}:fence:{{{tag}}}:cache.default/lock.default/a");
        let left = server.admin(&["PTTL", &key]).await.unwrap().integer().unwrap();
        assert_ne!(left, -2, "no mark {key}");
        u64::try_from(left).ok().map(Duration::from_millis)
    }

    #[track_caller]
    fn is_near(found: Option<Duration>, expected: Duration) {
        let found = found.unwrap();
        let margin = Duration::from_secs(30);
        assert!(found <= expected && found + margin > expected, "{found:?}, not {expected:?}");
    }
}

fn fence() -> Fence {
    Fence::new("lock.default/a", 5).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mark_outlives_what_it_guards() {
    let bench = Bench::new().await;
    let (cache, fence) = (&bench.cache, fence());
    let owner = cache.fenced(&fence);
    // What is raised, read or removed: the retention.
    cache.guarding(["raised"]).unwrap().raise(&fence).await.unwrap();
    owner.get::<String>("read").await.unwrap();
    let _absent = owner.remove("removed").await.unwrap();
    for tag in ["raised", "read", "removed"] {
        Bench::is_near(bench.mark(tag).await, RETENTION);
    }
    // What ends: the retention after its end.
    owner.put("ends", "x", Ttl::After(3 * DAY)).await.unwrap();
    Bench::is_near(bench.mark("ends").await, 3 * DAY + RETENTION);
    // What never ends, then ends after all, then is removed.
    owner.put("stays", "x", Ttl::Never).await.unwrap();
    assert_eq!(bench.mark("stays").await, None);
    owner.put("stays", "x", Ttl::After(2 * DAY)).await.unwrap();
    Bench::is_near(bench.mark("stays").await, 2 * DAY + RETENTION);
    let _present = owner.remove("stays").await.unwrap();
    let left = bench.mark("stays").await.unwrap();
    assert!(left + Duration::from_secs(30) > RETENTION, "{left:?}");
    // The last of several counts.
    let op = |name, ttl| {
        let (key, mode) = (Key::new(name).unwrap(), trine_cache::PutMode::Always);
        Op::Put { key, value: "x".into(), ttl, mode }
    };
    let batch = Batch::atomic()
        .with(op("{t}a", Ttl::After(DAY)))
        .with(op("{t}b", Ttl::After(4 * DAY)))
        .with(op("{t}c", Ttl::After(2 * DAY)));
    owner.run(batch).await.unwrap();
    Bench::is_near(bench.mark("{t}").await, 4 * DAY + RETENTION);
    // What a shorter write beside it leaves alone.
    owner.put("{t}d", "x", Ttl::secs(60)).await.unwrap();
    Bench::is_near(bench.mark("{t}").await, 4 * DAY + RETENTION);
    owner.put("{t}d", "x", Ttl::Never).await.unwrap();
    assert_eq!(bench.mark("{t}").await, None);
    let _present = owner.remove("{t}d").await.unwrap();
    assert_eq!(bench.mark("{t}").await, None, "others of the tag may never end");
}

/// So many at once, so that the owners of one key are held up by others.
const LANES: u64 = 8;

async fn race_in_lanes(guarded: bool, schedules: u64) -> Race {
    let bench = Bench::new().await;
    let mut sum = Race::default();
    let mut lanes = JoinSet::new();
    for lane in 0..LANES {
        let cache = bench.cache.clone();
        lanes.spawn(async move {
            race(&cache, &lane.to_string(), lane, schedules / LANES, guarded).await
        });
    }
    while let Some(lane) = lanes.join_next().await {
        sum.add(lane.unwrap());
    }
    sum
}

// DB-20, on Redis
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_stale_write_is_accepted_however_two_owners_meet() {
    let race = race_in_lanes(true, 3_000).await;
    println!("{race}");
    assert_eq!(race.stale, 0, "{race}");
    assert!(race.early > 100 && race.refused > 100, "the owners do not meet: {race}");
}

/// The negative control.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_fence_stale_writes_are_accepted() {
    let race = race_in_lanes(false, 400).await;
    assert!(race.stale > 10, "the schedules do not bite: {race}");
}
