mod guard;
mod room;
mod whole;

use std::sync::Arc;

use bytes::Bytes;
use quick_cache::unsync::Cache;
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder};
use smallvec::SmallVec;
use trine_core::Jitter;

use super::bound::{Bound, Budget, Share};
use super::entry::{Data, Entry, Kind, Weight};
use super::expiry::Expiry;
use super::marks::Marks;
use super::moment::Turn;
use crate::{Key, Op, Reply, Result, StoreStats, Ttl};

pub(super) use room::Growth;

/// A part of the store under one lock: every key of a tag is in the same one.
#[derive(Debug)]
pub(super) struct Stripe {
    cache: Cache<Key, Entry, Weight, DefaultHashBuilder, Leaving>,
    expiry: Expiry,
    marks: Marks,
    bound: Bound,
    pub(super) dice: Jitter,
    evicted: u64,
    expired: u64,
}

/// Hands over the entries that leave the cache, so that their ends are
/// forgotten with them.
#[derive(Debug)]
struct Leaving;

impl Lifecycle<Key, Entry> for Leaving {
    type RequestState = SmallVec<[(Key, Entry); 1]>;

    fn on_evict(&self, left: &mut Self::RequestState, key: Key, entry: Entry) {
        left.push((key, entry));
    }
}

/// Bytes of a trace of an evicted entry: the slot it leaves behind.
const GHOST: u64 = 120;

/// Bytes of a stripe for each trace it may keep.
const BYTES_PER_GHOST: u64 = 2_048;

/// Ends that a write looks for, so that none is long.
const SWEPT_BY_A_WRITE: usize = 4;

impl Stripe {
    /// Returns an empty stripe of `bytes` that drops what is used least.
    pub(super) fn evicting(bytes: u64, dice: &Jitter) -> Self {
        let ghosts = bytes / BYTES_PER_GHOST;
        let capacity = bytes - ghosts * GHOST;
        // A little less than what the cache admits at all.
        let most = capacity - capacity / 16;
        Self::new(capacity, ghosts, Bound::Own { most }, dice)
    }

    /// Returns an empty stripe that refuses what `budget` has no room for.
    pub(super) fn refusing(budget: &Arc<Budget>, dice: &Jitter) -> Self {
        Self::new(u64::MAX / 2, 0, Bound::Shared(Share::new(budget)), dice)
    }

    fn new(capacity: u64, ghosts: u64, bound: Bound, dice: &Jitter) -> Self {
        let options = OptionsBuilder::new()
            .weight_capacity(capacity)
            .estimated_items_capacity(usize::try_from(ghosts).unwrap_or(usize::MAX))
            .ghost_allocation(1.0)
            .build();
        let hasher = DefaultHashBuilder::default();
        let cache = match options {
            Ok(options) => Cache::with_options(options, Weight, hasher, Leaving),
            // It fails only without the two numbers.
            Err(_) => Cache::with(0, capacity, Weight, hasher, Leaving),
        };
        Self {
            cache,
            expiry: Expiry::default(),
            marks: Marks::default(),
            bound,
            dice: dice.clone(),
            evicted: 0,
            expired: 0,
        }
    }

    /// Runs one operation.
    pub(super) fn run(&mut self, turn: &Turn<'_>, op: &Op) -> Reply {
        let reply = self.step(turn, op);
        self.settle();
        reply
    }

    /// Runs one operation, without giving back the room that it frees.
    fn step(&mut self, turn: &Turn<'_>, op: &Op) -> Reply {
        if !op.is_write() {
            return self.dispatch(turn, op).unwrap_or_else(Reply::Failed);
        }
        self.sweep(turn, SWEPT_BY_A_WRITE);
        let key = op.key();
        if self.cache.peek(key).is_some_and(|entry| turn.is_over(entry.ends)) {
            self.remove(key);
            self.expired += 1;
        }
        self.dispatch(turn, op).unwrap_or_else(Reply::Failed)
    }

    /// Returns what is under a key, as a use of it.
    pub(super) fn read(&self, turn: &Turn<'_>, key: &Key) -> Option<&Entry> {
        self.cache.get(key).filter(|entry| !turn.is_over(entry.ends))
    }

    /// Returns what is under a key, without counting it as a use.
    pub(super) fn peek(&self, turn: &Turn<'_>, key: &Key) -> Option<&Entry> {
        self.cache.peek(key).filter(|entry| !turn.is_over(entry.ends))
    }

    pub(super) fn text(&self, turn: &Turn<'_>, key: &Key) -> Result<Option<&Bytes>> {
        self.read(turn, key).map(|entry| entry.data.text(turn, key)).transpose()
    }

    /// Asks the collection under a key, the empty one if nothing is there.
    pub(super) fn view<T: Kind>(
        &self,
        turn: &Turn<'_>,
        key: &Key,
        ask: impl FnOnce(&T) -> Reply,
    ) -> Result<Reply> {
        let Some(entry) = self.read(turn, key) else { return Ok(ask(&T::default())) };
        match T::of(&entry.data) {
            Some(collection) => Ok(ask(collection)),
            None => Err(entry.data.wrong_type(turn, key, T::KIND)),
        }
    }

    /// Puts an entry in the place of what is there.
    pub(super) fn put(&mut self, turn: &Turn<'_>, key: &Key, data: Data, ends: u64) -> Result<()> {
        let entry = Entry { data, ends };
        let present = self.cache.peek(key).map(|present| (weight(key, present), present.ends));
        let needed = weight(key, &entry);
        let growth = needed.saturating_sub(present.map_or(0, |(weight, _)| weight));
        self.make_room(turn, growth, needed)?;
        self.place(key, entry, present.map(|(_, ends)| ends));
        Ok(())
    }

    /// Changes the collection under a key, the empty one if nothing is there.
    /// One that is empty then does not stay; one that does gets the lifetime. A
    /// failed change has changed nothing.
    pub(super) fn alter<T: Kind>(
        &mut self,
        turn: &Turn<'_>,
        key: &Key,
        (ttl, growth): (Ttl, Growth<impl FnOnce(&T) -> u64>),
        change: impl FnOnce(&mut T) -> Result<Reply>,
    ) -> Result<Reply> {
        let present = match self.cache.peek(key) {
            None => None,
            Some(entry) if T::of(&entry.data).is_none() => {
                return Err(entry.data.wrong_type(turn, key, T::KIND));
            }
            Some(entry) => Some((weight(key, entry), entry.ends)),
        };
        self.grow(turn, key, present.map_or(0, |(weight, _)| weight), growth)?;
        let Some((_, ends)) = present else {
            let mut collection = T::default();
            let reply = change(&mut collection)?;
            if !collection.is_empty() {
                let entry = Entry { data: collection.into_data(), ends: turn.ends(ttl, None) };
                self.place(key, entry, None);
            }
            return Ok(reply);
        };
        let Some(mut entry) = self.cache.get_mut(key) else { return change(&mut T::default()) };
        let Some(collection) = T::of_mut(&mut entry.data) else {
            return change(&mut T::default());
        };
        let reply = change(collection)?;
        if collection.is_empty() {
            drop(entry);
            self.remove(key);
            return Ok(reply);
        }
        let renewed = turn.ends(ttl, Some(ends));
        entry.ends = renewed;
        drop(entry);
        self.reschedule(key, ends, renewed);
        self.shrink(key);
        Ok(reply)
    }

    /// Changes when the entry under a key ends, and tells whether there is one.
    pub(super) fn give(&mut self, turn: &Turn<'_>, key: &Key, ttl: Ttl) -> bool {
        let Some(mut entry) = self.cache.get_mut(key) else { return false };
        let ends = entry.ends;
        let renewed = turn.ends(ttl, Some(ends));
        entry.ends = renewed;
        drop(entry);
        self.reschedule(key, ends, renewed);
        true
    }

    pub(super) fn remove(&mut self, key: &Key) -> Option<Entry> {
        let (_, entry) = self.cache.remove(key)?;
        self.expiry.remove(entry.ends, key);
        Some(entry)
    }

    fn reschedule(&mut self, key: &Key, ends: u64, renewed: u64) {
        if ends != renewed {
            self.expiry.remove(ends, key);
            self.expiry.insert(renewed, key);
        }
    }

    /// Returns the first keys with `prefix` after `after`, in order, and whether
    /// these were all; at least `count`, and at least a sixteenth of the
    /// stripe, so that the passes over a large one are few.
    pub(super) fn keys(
        &self,
        turn: &Turn<'_>,
        prefix: &str,
        after: &str,
        count: usize,
    ) -> (Vec<Key>, bool) {
        let matching = self.cache.iter().filter(|(key, entry)| {
            key.as_str().starts_with(prefix)
                && (after.is_empty() || key.as_str() > after)
                && !turn.is_over(entry.ends)
        });
        let mut keys: Vec<&Key> = matching.map(|(key, _)| key).collect();
        let count = count.max(self.cache.len() / 16).max(1);
        let is_all = keys.len() <= count;
        if !is_all {
            keys.select_nth_unstable(count);
            keys.truncate(count);
        }
        keys.sort_unstable();
        (keys.into_iter().cloned().collect(), is_all)
    }

    pub(super) fn len(&self) -> usize {
        self.cache.len()
    }

    /// Adds the stripe's numbers.
    pub(super) fn count(&self, stats: &mut StoreStats) {
        stats.entries += self.cache.len() as u64;
        match &self.bound {
            Bound::Own { .. } => stats.bytes += self.bytes(),
            // One number at one moment: while it is counted, bytes move from
            // stripe to stripe.
            Bound::Shared(share) => stats.bytes = share.budget.used(),
        }
        stats.evicted += self.evicted;
        stats.expired += self.expired;
    }

    /// Every end is in the index, and nothing else is.
    #[cfg(test)]
    pub(super) fn assert_sound(&self) {
        let entries = self.cache.iter().filter(|(_, entry)| entry.ends != super::moment::NEVER);
        let mut ends: Vec<_> = entries.map(|(key, entry)| (entry.ends, key)).collect();
        ends.sort_unstable();
        assert_eq!(self.expiry.ends().collect::<Vec<_>>(), ends);
        let weights: u64 = self.cache.iter().map(|(key, entry)| weight(key, entry)).sum();
        assert_eq!(self.cache.weight(), weights);
        assert!(self.cache.weight() <= self.cache.capacity());
    }

    /// Removes everything.
    pub(super) fn clear(&mut self) {
        self.cache.clear();
        self.expiry = Expiry::default();
        self.marks = Marks::default();
        self.settle();
    }
}

fn weight(key: &Key, entry: &Entry) -> u64 {
    quick_cache::Weighter::weight(&Weight, key, entry)
}
