mod bounds;
mod scans;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use trine_core::{Clock, Deadline, ErrorKind, Fence, ManualClock, Size, Span};

use super::MemoryBackend;
use crate::{
    Batch, CacheBackend, Call, Cursor, Expected, Key, Lifetime, MemoryConfig, Op, Outcome, PutMode,
    Reply, Result, StoreStats, Ttl, WhenFull,
};

const SECOND: Duration = Duration::from_secs(1);

/// A store on a clock of the test's.
struct Store {
    backend: MemoryBackend,
    clock: ManualClock,
}

impl Store {
    fn new(max_bytes: u64, when_full: WhenFull) -> Self {
        let clock = ManualClock::new();
        let config = MemoryConfig {
            max_bytes: Size::bytes(max_bytes),
            when_full,
            fence_retention: Span::secs(60),
        };
        let backend =
            MemoryBackend::open(&Arc::from("cache.test"), &config, Arc::new(clock.clone()));
        Self { backend, clock }
    }

    fn evicting() -> Self {
        Self::new(8 * 1024 * 1024, WhenFull::Evict)
    }

    fn refusing() -> Self {
        Self::new(1024 * 1024, WhenFull::Refuse)
    }

    async fn batch(&self, batch: Batch) -> Result<Outcome> {
        assert_eq!(batch.problem(), None);
        self.backend.run(Call::new("test"), batch).await
    }

    async fn run(&self, op: Op) -> Reply {
        let Outcome::Ran(mut replies) = self.batch(Batch::of("test", op)).await.unwrap() else {
            panic!("no condition was given");
        };
        replies.remove(0)
    }

    async fn get(&self, text: &str) -> Option<Bytes> {
        self.run(Op::get(key(text))).await.into_value().unwrap()
    }

    async fn exists(&self, text: &str) -> bool {
        self.run(Op::Exists { key: key(text) }).await.into_applied().unwrap()
    }

    async fn put(&self, text: &str, value: impl Into<Bytes>, ttl: Ttl) -> Reply {
        let (key, value, mode) = (key(text), value.into(), PutMode::Always);
        self.run(Op::Put { key, value, ttl, mode }).await
    }

    async fn lifetime(&self, text: &str) -> Lifetime {
        self.run(Op::Lifetime { key: key(text) }).await.into_lifetime().unwrap()
    }

    fn stats(&self) -> StoreStats {
        self.backend.stats()
    }

    /// Returns all keys of a scan, which must come without doubles here.
    async fn scan(&self, prefix: &str, count: u32) -> Vec<String> {
        let (mut keys, mut cursor) = (Vec::new(), Some(Cursor::first()));
        while let Some(from) = cursor {
            let page = self.backend.scan(Call::new("scan"), prefix, from, count).await.unwrap();
            keys.extend(page.keys.iter().map(ToString::to_string));
            cursor = page.next;
        }
        let found = keys.len();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), found);
        keys
    }

    /// Every end is in the index of its stripe, and nothing else is.
    fn assert_sound(&self) {
        for stripe in &self.backend.stripes {
            stripe.lock().unwrap().assert_sound();
        }
    }
}

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

fn failed(reply: Reply) -> ErrorKind {
    match reply {
        Reply::Failed(error) => error.kind(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_lifetime_ends_on_the_clock_that_counts_suspend() {
    let store = Store::evicting();
    store.put("a", "1", Ttl::After(SECOND)).await;
    assert_eq!(store.lifetime("a").await, Lifetime::Left(SECOND));
    store.clock.set_wall(store.clock.wall() + 1_000 * SECOND);
    assert_eq!(store.get("a").await, Some("1".into()));
    store.clock.set_wall(store.clock.wall() - 5_000 * SECOND);
    store.clock.advance(SECOND - Duration::from_millis(1));
    assert_eq!(store.lifetime("a").await, Lifetime::Left(Duration::from_millis(1)));
    store.clock.advance(Duration::from_millis(1));
    assert_eq!(store.get("a").await, None);
    assert!(!store.exists("a").await);
    assert_eq!(store.lifetime("a").await, Lifetime::Absent);
    assert_eq!(store.scan("", 10).await, Vec::<String>::new());
    let outcome = store.batch(Batch::atomic().when(key("a"), Expected::Present)).await.unwrap();
    assert!(matches!(outcome, Outcome::Refused { condition: 0 }));
}

#[tokio::test]
async fn nothing_ends_earlier_than_it_was_told() {
    let store = Store::evicting();
    store.put("a", "1", Ttl::After(Duration::from_micros(1_001))).await;
    assert_eq!(store.lifetime("a").await, Lifetime::Left(Duration::from_millis(2)));
    store.clock.advance(Duration::from_millis(1));
    assert!(store.exists("a").await);
}

#[tokio::test]
async fn the_servers_time_goes_on_from_the_wall_clock_at_the_beginning() {
    let store = Store::evicting();
    let wall = store.clock.wall();
    store.clock.advance(5 * SECOND);
    store.clock.set_wall(wall + 10_000 * SECOND);
    let time = store.run(Op::Time { key: key("a") }).await.into_time().unwrap();
    assert_eq!(time, wall + 5 * SECOND);
}

#[tokio::test]
async fn each_lifetime_means_what_it_says() {
    let store = Store::evicting();
    let ttl = |secs| Lifetime::Left(Duration::from_secs(secs));
    store.put("a", "1", Ttl::IfNew(SECOND)).await;
    assert_eq!(store.lifetime("a").await, ttl(1));
    store.put("a", "1", Ttl::IfNew(9 * SECOND)).await;
    store.put("a", "1", Ttl::Keep).await;
    store.put("a", "1", Ttl::Default).await;
    assert_eq!(store.lifetime("a").await, ttl(1));
    store.put("a", "1", Ttl::secs(5)).await;
    assert_eq!(store.lifetime("a").await, ttl(5));
    store.put("a", "1", Ttl::Never).await;
    store.put("b", "1", Ttl::Keep).await;
    assert_eq!(store.lifetime("a").await, Lifetime::Endless);
    assert_eq!(store.lifetime("b").await, Lifetime::Endless);
    for (given, left) in [
        (Ttl::secs(3), ttl(3)),
        (Ttl::Keep, ttl(3)),
        (Ttl::IfNew(SECOND), ttl(3)),
        (Ttl::Never, Lifetime::Endless),
    ] {
        let expire = store.run(Op::Expire { key: key("b"), ttl: given }).await;
        assert!(expire.into_applied().unwrap());
        assert_eq!(store.lifetime("b").await, left);
    }
    let absent = store.run(Op::Expire { key: key("c"), ttl: Ttl::secs(3) }).await;
    assert!(!absent.into_applied().unwrap());
    store.assert_sound();
}

#[tokio::test]
async fn a_fence_refuses_what_is_older_and_outlives_what_it_guards() {
    let store = Store::refusing();
    let fence = |token| Fence::new("lock.test/a", token).unwrap();
    let write = |value: &'static str, token, ttl| {
        let (key, value, mode) = (key("{a}x"), value.into(), PutMode::Always);
        Batch::atomic().with(Op::Put { key, value, ttl, mode }).guarded(&fence(token))
    };
    store.batch(write("1", 5, Ttl::secs(100))).await.unwrap();
    store.batch(write("2", 5, Ttl::Keep)).await.unwrap();
    let refused = store.batch(write("3", 4, Ttl::Never)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Fenced);
    assert!(
        refused.to_string().contains("stale fence 4 for `lock.test/a`, 5 was shown"),
        "{refused}"
    );
    assert_eq!(store.get("{a}x").await, Some("2".into()));
    assert_eq!(store.lifetime("{a}x").await, Lifetime::Left(100 * SECOND));
    assert_eq!(store.scan("", 10).await, ["{a}x"]);
    // Its own retention, beyond the end of what it wrote.
    store.clock.advance(159 * SECOND);
    assert_eq!(store.get("{a}x").await, None);
    assert!(store.batch(write("4", 4, Ttl::secs(1))).await.is_err());
    store.clock.advance(SECOND);
    store.batch(write("5", 1, Ttl::secs(1))).await.unwrap();
    store.batch(Batch::raise(&fence(2), key("{a}other"))).await.unwrap();
    assert!(store.batch(write("6", 1, Ttl::secs(1))).await.is_err());
    // Other tags have marks of their own.
    store.batch(Batch::raise(&fence(1), key("b"))).await.unwrap();
}

#[tokio::test]
async fn a_mark_of_an_endless_entry_never_ends() {
    let store = Store::refusing();
    let fence = |token| Fence::new("lock.test/a", token).unwrap();
    let guarded = |token| Batch::atomic().with(Op::put(key("a"), "1")).guarded(&fence(token));
    store.batch(guarded(2)).await.unwrap();
    store.clock.advance(1_000_000 * SECOND);
    assert!(store.batch(guarded(1)).await.is_err());
}

#[tokio::test]
async fn a_fence_is_shown_before_a_condition_is_asked() {
    let store = Store::refusing();
    let fence = |token| Fence::new("lock.test/a", token).unwrap();
    let write = |token| {
        let batch = Batch::atomic().with(Op::put(key("a"), "1")).guarded(&fence(token));
        batch.when(key("a"), Expected::Present)
    };
    assert!(matches!(store.batch(write(7)).await.unwrap(), Outcome::Refused { condition: 0 }));
    assert_eq!(store.batch(write(6)).await.unwrap_err().kind(), ErrorKind::Fenced);
    assert!(!store.exists("a").await);
}

#[tokio::test]
async fn a_store_that_evicts_takes_no_fence() {
    let store = Store::evicting();
    let fence = Fence::new("lock.test/a", 1).unwrap();
    let refused = store.batch(Batch::raise(&fence, key("a"))).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "cache.test test: a fenced write is not supported by memory with when_full = evict"
    );
}

#[tokio::test]
async fn a_closed_store_answers_nothing() {
    let store = Store::refusing();
    store.put("a", "1", Ttl::secs(9)).await;
    store.backend.close(Deadline::after(SECOND)).await;
    store.backend.close(Deadline::after(SECOND)).await;
    for batch in [
        Batch::of("get", Op::get(key("a"))),
        Batch::pipelined().with(Op::get(key("a"))).with(Op::get(key("b"))),
        Batch::atomic().with(Op::get(key("a"))),
    ] {
        assert_eq!(store.batch(batch).await.unwrap_err().kind(), ErrorKind::Closed);
    }
    let call = Call::new("test");
    assert_eq!(store.backend.prove(call).await.unwrap_err().kind(), ErrorKind::Closed);
    let scan = store.backend.scan(call, "", Cursor::first(), 9).await;
    assert_eq!(scan.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(store.stats(), StoreStats { max_bytes: 1024 * 1024, ..StoreStats::default() });
}

#[tokio::test]
async fn a_write_without_room_is_refused_and_changes_nothing() {
    let store = Store::new(64 * 1024, WhenFull::Refuse);
    let text = "x".repeat(30_000);
    store.put("a", text.clone(), Ttl::secs(1)).await.into_applied().unwrap();
    store.put("b", text.clone(), Ttl::Never).await.into_applied().unwrap();
    let stats = store.stats();
    assert!(stats.bytes > 60_000 && stats.bytes <= stats.max_bytes);
    assert_eq!(
        failed(store.put("b", "x".repeat(40_000), Ttl::secs(1)).await),
        ErrorKind::Exhausted
    );
    let values = vec![Bytes::from(text.clone())];
    let push = Op::ListPush { key: key("l"), end: crate::End::Left, values, ttl: Ttl::Keep };
    assert_eq!(failed(store.run(push.clone()).await), ErrorKind::Exhausted);
    assert_eq!(store.get("b").await.unwrap().len(), 30_000);
    assert_eq!(store.lifetime("b").await, Lifetime::Endless);
    assert_eq!(store.stats(), stats);
    // One of the same size needs no room, nor does a removal.
    store.put("b", text.clone(), Ttl::Keep).await.into_applied().unwrap();
    assert!(store.run(Op::Remove { key: key("b") }).await.into_applied().unwrap());
    assert_eq!(store.run(push).await.into_count().unwrap(), 1);
    // What has expired makes room.
    store.clock.advance(SECOND);
    store.put("c", text, Ttl::Never).await.into_applied().unwrap();
    assert_eq!(store.stats().expired, 1);
    store.assert_sound();
}

#[tokio::test]
async fn expired_entries_go_a_few_with_each_write() {
    let store = Store::new(1024 * 1024, WhenFull::Evict);
    for each in 0..100 {
        store.put(&format!("k{each}"), "1", Ttl::After(SECOND)).await;
    }
    store.clock.advance(SECOND);
    assert_eq!(store.scan("", 1_000).await.len(), 0);
    assert_eq!((store.stats().entries, store.stats().expired), (100, 0));
    for _ in 0..25 {
        store.put("new", "1", Ttl::Never).await;
    }
    assert_eq!((store.stats().entries, store.stats().expired), (1, 100));
    store.assert_sound();
}
