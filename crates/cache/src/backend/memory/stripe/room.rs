use bytes::Bytes;
use smallvec::SmallVec;

use super::Stripe;
use crate::backend::memory::bound::{Bound, Full};
use crate::backend::memory::entry::{Data, Entry};
use crate::backend::memory::moment::{NEVER, Turn};
use crate::{Error, Key, Result};

impl Stripe {
    /// Makes sure that there are `growth` bytes more for an entry that will
    /// have `needed`.
    pub(super) fn make_room(&mut self, turn: &Turn<'_>, growth: u64, needed: u64) -> Result<()> {
        let mut taken = self.bound.take(growth, needed);
        if taken.is_err() && matches!(self.bound, Bound::Shared(_)) {
            self.sweep(turn, usize::MAX);
            self.marks.sweep(turn);
            self.settle();
            taken = self.bound.take(growth, needed);
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
