use bytes::Bytes;
use smallvec::SmallVec;

use super::Stripe;
use crate::backend::memory::bound::{Bound, Full};
use crate::backend::memory::entry::{Data, ENTRY, Entry, Kind};
use crate::backend::memory::moment::{NEVER, Turn};
use crate::{Error, Key, Result};

/// By how much a change makes a collection grow.
pub(in crate::backend::memory) struct Growth<F> {
    /// The most, whatever is in it; 0 if it does not grow.
    pub(in crate::backend::memory) most: u64,
    /// The bytes themselves; asked for only if there is no room for the most.
    pub(in crate::backend::memory) exact: F,
}

impl Stripe {
    /// Makes sure that the collection under a key, which has `weight` bytes,
    /// may grow.
    pub(super) fn grow<T: Kind>(
        &mut self,
        turn: &Turn<'_>,
        key: &Key,
        weight: u64,
        growth: Growth<impl FnOnce(&T) -> u64>,
    ) -> Result<()> {
        let Growth { most, exact } = growth;
        let fresh = || ENTRY + key.as_str().len() as u64 + T::default().weight();
        let base = if weight == 0 { fresh() } else { 0 };
        if most == 0 || self.bound.reserve(self.bytes() + base + most, weight + base + most).is_ok()
        {
            return Ok(());
        }
        let present = self.cache.peek(key).and_then(|entry| T::of(&entry.data));
        let exact = match present {
            Some(present) => exact(present),
            None => exact(&T::default()),
        };
        if exact == 0 {
            return Ok(());
        }
        self.make_room(turn, base + exact, weight + base + exact)
    }

    /// Makes sure that there are `growth` bytes more for an entry that will
    /// have `needed`, and takes away what has ended if there are not.
    pub(super) fn make_room(&mut self, turn: &Turn<'_>, growth: u64, needed: u64) -> Result<()> {
        let mut taken = self.bound.reserve(self.bytes() + growth, needed);
        if taken.is_err() && matches!(self.bound, Bound::Shared(_)) {
            self.sweep(turn, usize::MAX);
            self.marks.sweep(turn);
            taken = self.bound.reserve(self.bytes() + growth, needed);
        }
        let full = |Full { used, max }| Error::Exhausted {
            at: turn.at(),
            used,
            max,
            setting: "cache.backend.max_bytes",
        };
        taken.map_err(full)
    }

    /// Puts an entry that there is room for in the place of one that ends at
    /// `present`, if there is one, and forgets those that made the room.
    pub(super) fn place(&mut self, key: &Key, entry: Entry, present: Option<u64>) {
        let ends = entry.ends;
        if present != Some(ends) {
            self.expiry.remove(present.unwrap_or(NEVER), key);
            self.expiry.insert(ends, key);
        }
        let mut left = SmallVec::new();
        self.cache.insert_with_lifecycle(key.clone(), entry, &mut left);
        let mut replaced = present.is_some();
        for (gone, entry) in left {
            // What was replaced leaves first, under the same key.
            if replaced && gone == *key {
                replaced = false;
                continue;
            }
            self.expiry.remove(entry.ends, &gone);
            self.evicted += 1;
        }
    }

    /// Makes others go if the entry under a key has grown too much: a change
    /// in place does not.
    pub(super) fn shrink(&mut self, key: &Key) {
        if self.cache.weight() <= self.cache.capacity() {
            return;
        }
        let Some(mut entry) = self.cache.peek_mut(key) else { return };
        let hole = Entry { data: Data::Text(Bytes::new()), ends: entry.ends };
        let whole = std::mem::replace(&mut *entry, hole);
        drop(entry);
        let ends = whole.ends;
        self.place(key, whole, Some(ends));
    }

    /// Removes entries whose end has passed, `most` at most.
    pub(super) fn sweep(&mut self, turn: &Turn<'_>, most: usize) {
        for _ in 0..most {
            let Some(key) = self.expiry.pop(|| turn.now()) else { return };
            self.cache.remove(&key);
            self.expired += 1;
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.cache.weight() + self.marks.bytes()
    }

    pub(super) fn settle(&mut self) {
        let used = self.bytes();
        if let Bound::Shared(share) = &mut self.bound {
            share.settle(used);
        }
    }
}
