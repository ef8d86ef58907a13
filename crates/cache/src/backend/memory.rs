mod bound;
mod dispatch;
mod entry;
mod expiry;
mod hash;
mod list;
mod marks;
mod moment;
mod number;
mod places;
mod set;
mod sorted;
mod stripe;

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use quick_cache::DefaultHashBuilder;
use smallvec::SmallVec;
use trine_core::{Clock, Deadline, Durability, Jitter, Size};

use self::bound::Budget;
use self::moment::{Timeline, Turn, millis};
use self::stripe::Stripe;
use super::store::Inline;
use super::{CacheBackend, Call, Capabilities, Cursor, Page, StoreFacts, StoreStats};
use crate::{At, Batch, Error, Guard, Key, MemoryConfig, Op, Outcome, Reply, Result, WhenFull};

/// A bounded map of this process, by the rules of Redis.
///
/// Keys of one tag are in one of up to 64 stripes, each under a lock that an
/// atomic batch takes once. Nothing waits for anything else, and no task runs
/// in the background: a write removes some of the entries whose end has
/// passed, and nobody ever sees one of them.
///
/// **Time** is the clock's, which counts suspend, in milliseconds; the wall
/// clock is read once, at the beginning.
///
/// **Bytes** are those of keys and values and an upper estimate of all that
/// belongs to them. A store that evicts gives each stripe its part of them and
/// drops what is used least; a value that its stripe cannot hold is refused. A
/// store that refuses bounds all stripes together. There a write to a
/// collection needs room for all it carries, even if some of it is there
/// already; whatever makes nothing larger always works.
///
/// **Fences** need a store that refuses: the other may drop what they guard.
/// A mark ends `fence_retention` after its last showing or after the end of
/// what was written under it, whichever is later; it never ends once an entry
/// without an end was written under it.
pub struct MemoryBackend {
    name: Arc<str>,
    config: MemoryConfig,
    timeline: Timeline,
    identity: Box<str>,
    is_closed: AtomicBool,
    hasher: DefaultHashBuilder,
    /// As many as a power of two.
    stripes: Box<[Mutex<Stripe>]>,
}

/// Most stripes of a store.
const MOST_STRIPES: u64 = 64;

/// Least bytes of a stripe that has its own part of them.
const LEAST_STRIPE: u64 = 1024 * 1024;

/// Values of the largest size that such a stripe holds at least.
const VALUES_PER_STRIPE: u64 = 4;

/// Size of a value unless the store is told of larger ones.
const MAX_VALUE: u64 = 1024 * 1024;

/// Bytes of the whole for each stripe that shares them.
const LEAST_SHARED_STRIPE: u64 = 64 * 1024;

/// Entries that a page of a scan looks at before it ends, so that no page is
/// long.
const SEEN_PER_PAGE: usize = 20_000;

const EVICTING: &str = "memory with when_full = evict";

impl MemoryBackend {
    /// Returns an empty store for values up to 1 MiB. Does no I/O.
    #[must_use]
    pub fn open(name: &Arc<str>, config: &MemoryConfig, clock: Arc<dyn Clock>) -> Self {
        Self {
            name: Arc::clone(name),
            config: config.clone(),
            timeline: Timeline::new(clock),
            identity: format!("{:016x}", RandomState::new().hash_one(0_u8)).into(),
            is_closed: AtomicBool::new(false),
            hasher: DefaultHashBuilder::default(),
            stripes: stripes(config, MAX_VALUE),
        }
    }

    /// Returns the store, emptied, with stripes that hold values of `max_value`
    /// well: fewer and larger ones if these are large.
    #[must_use]
    pub fn with_max_value(mut self, max_value: Size) -> Self {
        self.stripes = stripes(&self.config, max_value.get());
        self
    }

    fn place(&self, tag: &str) -> usize {
        // A power of two, so the mask is its last place.
        let mask = self.stripes.len().wrapping_sub(1);
        usize::try_from(self.hasher.hash_one(tag) & mask as u64).unwrap_or(0)
    }

    /// Locks the stripe of a place for one turn.
    fn lock(&self, at: impl FnOnce() -> At, place: usize) -> Result<MutexGuard<'_, Stripe>> {
        let Some(stripe) = self.stripes.get(place) else { return Err(Error::Closed { at: at() }) };
        let stripe = stripe.lock().unwrap_or_else(PoisonError::into_inner);
        // Asked under the lock, so that nothing is written after the clearing.
        if self.is_closed.load(Ordering::Relaxed) {
            return Err(Error::Closed { at: at() });
        }
        Ok(stripe)
    }

    fn turn(&self, operation: &'static str) -> Turn<'_> {
        Turn::new(operation, &self.name, &self.timeline)
    }

    fn one(&self, operation: &'static str, op: &Op) -> Result<Reply> {
        let turn = self.turn(operation);
        let mut stripe = self.lock(|| turn.at(), self.place(op.key().tag()))?;
        Ok(stripe.run(&turn, op))
    }

    /// Runs each operation in a turn of its own, neighbours of one stripe under
    /// one lock.
    fn pipelined(&self, operation: &'static str, ops: &[Op]) -> Result<Outcome> {
        let mut replies = SmallVec::with_capacity(ops.len());
        let mut rest = ops.iter().map(|op| (self.place(op.key().tag()), op)).peekable();
        while let Some((place, op)) = rest.next() {
            let turn = self.turn(operation);
            let mut stripe = match self.lock(|| turn.at(), place) {
                Ok(stripe) => stripe,
                Err(error) if replies.is_empty() => return Err(error),
                Err(error) => {
                    replies.push(Reply::Failed(error));
                    continue;
                }
            };
            replies.push(stripe.run(&turn, op));
            while let Some((_, op)) = rest.next_if(|(next, _)| *next == place) {
                // A moment of its own: the row may be long.
                replies.push(stripe.run(&self.turn(operation), op));
            }
        }
        Ok(Outcome::Ran(replies))
    }

    /// Runs all operations in one turn: the fence first, then the conditions.
    fn atomic(&self, operation: &'static str, batch: &Batch) -> Result<Outcome> {
        let Some(tag) = batch.keys().next().map(Key::tag) else {
            return Ok(Outcome::Ran(SmallVec::new()));
        };
        let turn = self.turn(operation);
        let retention = millis(self.config.fence_retention.get());
        let mut stripe = self.lock(|| turn.at(), self.place(tag))?;
        if let Some(Guard { fence, .. }) = batch.guard() {
            if self.config.when_full == WhenFull::Evict {
                let (what, backend) = ("a fenced write", EVICTING.into());
                return Err(Error::Unsupported { at: turn.at(), what, backend });
            }
            stripe.raise(&turn, tag, fence, turn.after(self.config.fence_retention.get()))?;
        }
        let mut conditions = batch.conditions().iter();
        if let Some(condition) = conditions.position(|condition| !stripe.holds(&turn, condition)) {
            return Ok(Outcome::Refused { condition });
        }
        let replies = batch.ops().iter().map(|op| stripe.run(&turn, op)).collect();
        if let Some(Guard { fence, .. }) = batch.guard() {
            let written = batch.ops().iter().filter(|op| op.is_write()).map(Op::key);
            stripe.prolong(tag, fence, retention, written);
        }
        Ok(Outcome::Ran(replies))
    }
}

impl Inline for MemoryBackend {
    async fn run_inline(&self, call: Call, batch: &Batch) -> Result<Outcome> {
        match batch.ops() {
            _ if batch.is_atomic() => self.atomic(call.operation, batch),
            [op] => self.one(call.operation, op).map(Outcome::one),
            ops => self.pipelined(call.operation, ops),
        }
    }
}

#[async_trait]
impl CacheBackend for MemoryBackend {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { is_shared: false }
    }

    async fn prove(&self, call: Call) -> Result<StoreFacts> {
        drop(self.lock(|| At::new(call.operation, &self.name), 0)?);
        Ok(StoreFacts {
            version: "memory".into(),
            identity: self.identity.clone(),
            durability: Durability::Memory,
            evicts: self.config.when_full == WhenFull::Evict,
        })
    }

    async fn run(&self, call: Call, batch: Batch) -> Result<Outcome> {
        self.run_inline(call, &batch).await
    }

    async fn scan(&self, call: Call, prefix: &str, cursor: Cursor, count: u32) -> Result<Page> {
        let count = usize::try_from(count).unwrap_or(usize::MAX).max(1);
        let (mut place, mut after) = position(&cursor);
        let (mut keys, mut seen) = (Vec::new(), 0);
        while place < self.stripes.len() {
            let turn = self.turn(call.operation);
            let stripe = self.lock(|| turn.at(), place)?;
            seen += stripe.len();
            let (found, is_all) = stripe.keys(&turn, prefix, &after, count - keys.len());
            drop(stripe);
            keys.extend(found);
            if is_all {
                (place, after) = (place + 1, String::new());
            } else if let Some(last) = keys.last() {
                after = last.as_str().to_owned();
            }
            if keys.len() >= count || seen >= SEEN_PER_PAGE {
                break;
            }
        }
        let next = (place < self.stripes.len()).then(|| Cursor::new(format!("{place}:{after}")));
        Ok(Page::new(keys, next))
    }

    fn stats(&self) -> StoreStats {
        let mut stats = StoreStats { max_bytes: self.config.max_bytes.get(), ..Default::default() };
        for stripe in &self.stripes {
            stripe.lock().unwrap_or_else(PoisonError::into_inner).count(&mut stats);
        }
        stats
    }

    async fn close(&self, _deadline: Deadline) {
        self.is_closed.store(true, Ordering::Relaxed);
        for stripe in &self.stripes {
            stripe.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }
}

impl fmt::Debug for MemoryBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBackend")
            .field("name", &self.name)
            .field("stripes", &self.stripes.len())
            .finish_non_exhaustive()
    }
}

fn stripes(config: &MemoryConfig, max_value: u64) -> Box<[Mutex<Stripe>]> {
    let max_bytes = config.max_bytes.get();
    let dice = Jitter::random();
    match config.when_full {
        WhenFull::Evict => {
            let least = LEAST_STRIPE.max(max_value.saturating_mul(VALUES_PER_STRIPE));
            let count = power_of_two(max_bytes / least);
            (0..count).map(|_| Mutex::new(Stripe::evicting(max_bytes / count, &dice))).collect()
        }
        WhenFull::Refuse => {
            let budget = Budget::new(max_bytes);
            let count = power_of_two(max_bytes / LEAST_SHARED_STRIPE);
            (0..count).map(|_| Mutex::new(Stripe::refusing(&budget, &dice))).collect()
        }
    }
}

/// Returns the power of two at or below `count` that a store may have stripes.
fn power_of_two(count: u64) -> u64 {
    1 << count.clamp(1, MOST_STRIPES).ilog2()
}

/// Returns the stripe where a scan goes on, and after which key.
fn position(cursor: &Cursor) -> (usize, String) {
    let text = String::from_utf8_lossy(cursor.as_bytes());
    let (place, after) = text.split_once(':').unwrap_or(("0", ""));
    (place.parse().unwrap_or(0), after.to_owned())
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
