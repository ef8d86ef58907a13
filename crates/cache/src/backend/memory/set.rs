use std::collections::BTreeSet;

use bytes::Bytes;
use indexmap::IndexSet;
use quick_cache::DefaultHashBuilder;
use trine_core::Jitter;

use super::entry::{held, kind, own};

/// Different values, with places so that one can be chosen at random.
#[derive(Clone, Debug, Default)]
pub(super) struct Set {
    members: IndexSet<Bytes, DefaultHashBuilder>,
    pub(super) bytes: u64,
}

kind!(Set, "a set");

/// Bytes of a member besides its own, unused places included.
const MEMBER: u64 = 76;

fn weight(member: &Bytes) -> u64 {
    MEMBER + held(member)
}

impl Set {
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    pub(super) fn has(&self, members: &[Bytes]) -> Vec<bool> {
        members.iter().map(|member| self.members.contains(member)).collect()
    }

    pub(super) fn members(&self) -> Vec<Bytes> {
        self.members.iter().cloned().collect()
    }

    /// Returns by how many bytes it grows if the members are added.
    pub(super) fn growth(&self, members: &[Bytes]) -> u64 {
        let new: BTreeSet<_> =
            members.iter().filter(|member| !self.members.contains(*member)).collect();
        new.into_iter().map(weight).sum()
    }

    pub(super) fn add(&mut self, members: &[Bytes]) -> u64 {
        let mut added = 0;
        for member in members {
            if !self.members.contains(member) {
                self.bytes += weight(member);
                self.members.insert(own(member));
                added += 1;
            }
        }
        added
    }

    pub(super) fn remove(&mut self, members: &[Bytes]) -> u64 {
        let mut removed = 0;
        for member in members {
            if self.members.swap_remove(member) {
                self.bytes -= weight(member);
                removed += 1;
            }
        }
        removed
    }

    /// Returns `count` different members, every choice as likely as another.
    pub(super) fn random(&self, count: u32, dice: &Jitter) -> Vec<Bytes> {
        let chosen = choice(self.len(), count, dice);
        chosen.into_iter().filter_map(|place| self.members.get_index(place).cloned()).collect()
    }

    pub(super) fn pop(&mut self, count: u32, dice: &Jitter) -> Vec<Bytes> {
        // From the end, so that the last member, which takes the place of a
        // removed one, is never one that was chosen.
        let chosen = choice(self.len(), count, dice).into_iter().rev();
        let popped: Vec<_> =
            chosen.filter_map(|place| self.members.swap_remove_index(place)).collect();
        self.bytes -= popped.iter().map(weight).sum::<u64>();
        popped
    }
}

/// Chooses `count` places below `len`, by the method of Robert Floyd.
fn choice(len: usize, count: u32, dice: &Jitter) -> BTreeSet<usize> {
    let count = usize::try_from(count).unwrap_or(usize::MAX).min(len);
    let mut chosen = BTreeSet::new();
    for newest in len - count..len {
        let sides = newest + 1;
        let thrown = ((dice.next() * sides as f64) as usize).min(newest);
        if !chosen.insert(thrown) {
            chosen.insert(newest);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(count: u32) -> Set {
        let mut set = Set::default();
        let members: Vec<Bytes> = (0..count).map(|each| each.to_string().into()).collect();
        assert_eq!(set.add(&members), u64::from(count));
        set
    }

    #[test]
    fn random_members_differ_and_every_one_has_its_turn() {
        let (set, dice) = (of(10), Jitter::seeded(7));
        let mut seen = BTreeSet::new();
        for count in [1, 3, 9, 10, 99] {
            for _ in 0..100 {
                let members = set.random(count, &dice);
                let different: BTreeSet<_> = members.iter().cloned().collect();
                assert_eq!(different.len(), count.min(10) as usize);
                assert_eq!(different.len(), members.len());
                seen.extend(members.into_iter().take(1));
            }
        }
        assert_eq!(seen.len(), 10);
    }

    #[test]
    fn popped_members_are_gone_and_weigh_nothing() {
        let (mut set, dice) = (of(100), Jitter::seeded(3));
        let mut all = BTreeSet::new();
        for _ in 0..11 {
            let popped = set.pop(9, &dice);
            assert_eq!(set.has(&popped), [false; 9]);
            all.extend(popped);
        }
        all.extend(set.pop(u32::MAX, &dice));
        assert_eq!((all.len(), set.len(), set.bytes), (100, 0, 0));
    }
}
