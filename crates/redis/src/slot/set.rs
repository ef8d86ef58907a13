use std::fmt;

use super::SLOTS;

const WORDS: usize = SLOTS as usize / 64;

/// Some of the slots. As text their ranges, such as `0-5460,5462`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SlotSet(Box<[u64]>);

impl SlotSet {
    pub(crate) fn none() -> Self {
        Self(Box::new([0; WORDS]))
    }

    pub(crate) fn all() -> Self {
        Self(Box::new([u64::MAX; WORDS]))
    }

    pub(crate) fn insert(&mut self, slot: u16) {
        if let Some(word) = self.0.get_mut(usize::from(slot / 64)) {
            *word |= 1 << (slot % 64);
        }
    }

    fn contains(&self, slot: u16) -> bool {
        let word = self.0.get(usize::from(slot / 64)).copied().unwrap_or_default();
        word & (1 << (slot % 64)) != 0
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    pub(crate) fn is_all(&self) -> bool {
        self.0.iter().all(|word| *word == u64::MAX)
    }

    pub(crate) fn first(&self) -> Option<u16> {
        (0..SLOTS).find(|slot| self.contains(*slot))
    }

    /// Returns those that are in both.
    pub(crate) fn and(&self, other: &Self) -> Self {
        self.with(other, |one, other| one & other)
    }

    /// Returns those that are in any.
    pub(crate) fn or(&self, other: &Self) -> Self {
        self.with(other, |one, other| one | other)
    }

    /// Returns those that are not in the other.
    pub(crate) fn without(&self, other: &Self) -> Self {
        self.with(other, |one, other| one & !other)
    }

    fn with(&self, other: &Self, of: impl Fn(u64, u64) -> u64) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(one, other)| of(*one, *other)).collect())
    }

    /// Returns the set that is shown as `text`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut set = Self::none();
        for range in text.split(',').filter(|_| !text.is_empty()) {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
            if first > last || last >= SLOTS {
                return None;
            }
            (first..=last).for_each(|slot| set.insert(slot));
        }
        Some(set)
    }
}

impl fmt::Display for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut slots = (0..SLOTS).filter(|slot| self.contains(*slot)).peekable();
        let mut separator = "";
        while let Some(first) = slots.next() {
            let mut last = first;
            while let Some(next) = slots.next_if_eq(&(last + 1)) {
                last = next;
            }
            write!(f, "{separator}{first}")?;
            if last > first {
                write!(f, "-{last}")?;
            }
            separator = ",";
        }
        Ok(())
    }
}

impl fmt::Debug for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SlotSet({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_shown_as_ranges_and_read_back() {
        for text in ["", "0", "16383", "0-16383", "0-5460,5462,5464-5465,16383"] {
            assert_eq!(SlotSet::parse(text).unwrap().to_string(), text);
        }
        for text in [",", "a", "1-", "2-1", "0-16384", "1,,2"] {
            assert_eq!(SlotSet::parse(text), None, "{text}");
        }
        assert!(SlotSet::all().is_all() && SlotSet::none().is_empty());
        assert_eq!(SlotSet::all(), SlotSet::parse("0-16383").unwrap());
    }

    #[test]
    fn sets_are_joined_and_parted() {
        let (one, other) = (SlotSet::parse("0-99").unwrap(), SlotSet::parse("50-199").unwrap());
        assert_eq!(one.and(&other).to_string(), "50-99");
        assert_eq!(one.or(&other).to_string(), "0-199");
        assert_eq!(one.without(&other).to_string(), "0-49");
        assert_eq!(other.first(), Some(50));
        assert_eq!(SlotSet::none().first(), None);
    }
}
