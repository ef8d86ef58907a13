use std::fmt;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::available_parallelism;

static NEXT_THREAD: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static THREAD: usize = NEXT_THREAD.fetch_add(1, Ordering::Relaxed);
}

/// One `T` per processor, at most eight; each thread keeps to one of them.
pub(super) struct Sharded<T> {
    first: Padded<T>,
    others: Box<[Padded<T>]>,
}

/// Processors fetch cache lines of 64 bytes in pairs.
#[repr(align(128))]
struct Padded<T>(T);

const MAX_SHARDS: usize = 8;

impl<T> Sharded<T> {
    pub(super) fn new(make: impl Fn() -> T) -> Self {
        let shards = available_parallelism().map_or(1, NonZeroUsize::get).min(MAX_SHARDS);
        let others = (1..shards).map(|_| Padded(make())).collect();
        Self { first: Padded(make()), others }
    }

    /// Returns the shard of the calling thread.
    pub(super) fn local(&self) -> &T {
        let index = THREAD.with(|thread| *thread) % (self.others.len() + 1);
        let other = index.checked_sub(1).and_then(|index| self.others.get(index));
        &other.unwrap_or(&self.first).0
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        std::iter::once(&self.first).chain(&self.others).map(|shard| &shard.0)
    }
}

impl<T> fmt::Debug for Sharded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sharded").field("shards", &(self.others.len() + 1)).finish()
    }
}
