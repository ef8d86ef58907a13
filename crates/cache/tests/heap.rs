//! What an entry in memory takes on the heap, in a process of its own: its
//! allocator counts.
#![allow(clippy::unwrap_used)]
#![allow(unsafe_code, reason = "a global allocator is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use trine_cache::{
    Batch, CacheBackend, Call, Key, MemoryBackend, MemoryConfig, Op, PutMode, Scored, SortedMode,
    Ttl, WhenFull,
};
use trine_core::{ManualClock, Size};

struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ENTRIES: usize = 100_000;

fn open(when_full: WhenFull) -> MemoryBackend {
    let mut config = MemoryConfig::default();
    config.max_bytes = Size::bytes(256 * 1024 * 1024);
    config.when_full = when_full;
    MemoryBackend::open(&Arc::from("cache.heap"), &config, Arc::new(ManualClock::new()))
}

async fn run(store: &MemoryBackend, op: Op) {
    store.run(Call::new("heap"), Batch::of("heap", op)).await.unwrap();
}

/// Returns the heap bytes and the counted bytes of what `fill` puts in.
async fn measure(when_full: WhenFull, fill: impl AsyncFn(&MemoryBackend)) -> (usize, usize) {
    let store = open(when_full);
    let before = IN_USE.load(Ordering::Relaxed);
    fill(&store).await;
    let used = IN_USE.load(Ordering::Relaxed) - before;
    (used, usize::try_from(store.stats().bytes).unwrap())
}

fn key(each: usize) -> Key {
    Key::new(format!("key:{each:012}")).unwrap()
}

// One test: others in this process would be counted with it.
#[tokio::test]
async fn the_bytes_counted_are_those_on_the_heap() {
    for when_full in [WhenFull::Evict, WhenFull::Refuse] {
        let (used, counted) = measure(when_full, async |store| {
            for each in 0..ENTRIES {
                let (key, value, mode) = (key(each), Bytes::from(vec![7; 64]), PutMode::Always);
                run(store, Op::Put { key, value, ttl: Ttl::secs(60), mode }).await;
            }
            for each in 0..ENTRIES {
                run(store, Op::get(key(each))).await;
            }
        })
        .await;
        let overhead = used / ENTRIES - 16 - 64;
        println!(
            "{when_full:?}: {overhead} bytes besides key and value, {} counted",
            counted / ENTRIES
        );
        assert!(overhead <= 200, "{overhead}");
        assert!(counted >= used && counted <= used + used / 4, "{used} {counted}");
    }

    let member = |each: usize| Bytes::from(format!("member:{each:025}"));
    let all = || (0..ENTRIES).map(member);
    let ttl = Ttl::Keep;
    let collections = [
        Op::HashPut { key: key(0), fields: all().map(|each| (each.clone(), each)).collect(), ttl },
        Op::SetAdd { key: key(0), members: all().collect(), ttl },
        Op::ListPush { key: key(0), end: trine_cache::End::Left, values: all().collect(), ttl },
        Op::SortedPut {
            key: key(0),
            entries: all().map(|each| Scored::new(0.0, each)).collect(),
            mode: SortedMode::Always,
            ttl,
        },
    ];
    let reads = [
        Op::HashAll { key: key(0) },
        Op::SetAll { key: key(0) },
        Op::ListRange { key: key(0), start: 0, stop: -1 },
        Op::SortedLen { key: key(0) },
    ];
    for (write, read) in collections.into_iter().zip(reads) {
        let name = format!("{read:?}");
        let (used, counted) = measure(WhenFull::Refuse, async |store| {
            run(store, write.clone()).await;
            run(store, read.clone()).await;
        })
        .await;
        println!("{name}: {} bytes a member, {} counted", used / ENTRIES, counted / ENTRIES);
        assert!(counted + counted / 8 >= used && counted <= 2 * used, "{name}: {used} {counted}");
    }
}
