use std::collections::BTreeSet;

use super::moment::NEVER;
use crate::Key;

/// The keys of a stripe that end, by their ends.
#[derive(Debug, Default)]
pub(super) struct Expiry(BTreeSet<Due>);

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    ends: u64,
    key: Key,
}

impl Expiry {
    pub(super) fn insert(&mut self, ends: u64, key: &Key) {
        if ends != NEVER {
            self.0.insert(Due { ends, key: key.clone() });
        }
    }

    pub(super) fn remove(&mut self, ends: u64, key: &Key) {
        if ends != NEVER {
            self.0.remove(&Due { ends, key: key.clone() });
        }
    }

    /// Removes and returns the key that ended first, if one has by `now`,
    /// which is asked only if any key ends at all.
    pub(super) fn pop(&mut self, now: impl FnOnce() -> u64) -> Option<Key> {
        let first = self.0.first()?;
        if first.ends > now() {
            return None;
        }
        self.0.pop_first().map(|due| due.key)
    }

    #[cfg(test)]
    pub(super) fn ends(&self) -> impl Iterator<Item = (u64, &Key)> {
        self.0.iter().map(|due| (due.ends, &due.key))
    }
}
