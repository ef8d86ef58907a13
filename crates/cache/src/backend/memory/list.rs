use std::collections::VecDeque;

use bytes::Bytes;

use super::entry::{held, kind, own};
use super::places::{place, places};
use crate::End;

/// Values in the order of their places.
#[derive(Clone, Debug, Default)]
pub(super) struct List {
    values: VecDeque<Bytes>,
    pub(super) bytes: u64,
}

kind!(List, "a list");

/// Bytes of a value besides its own, unused places included.
const VALUE: u64 = 48;

fn weight(value: &Bytes) -> u64 {
    VALUE + held(value)
}

impl List {
    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// Returns by how many bytes one grows if the values are added.
    pub(super) fn growth(values: &[Bytes]) -> u64 {
        values.iter().map(weight).sum()
    }

    /// Adds the values one after the other, so that the last one is outermost.
    pub(super) fn push(&mut self, end: End, values: &[Bytes]) -> u64 {
        for value in values {
            self.bytes += weight(value);
            match end {
                End::Left => self.values.push_front(own(value)),
                End::Right => self.values.push_back(own(value)),
            }
        }
        self.values.len() as u64
    }

    pub(super) fn pop(&mut self, end: End, count: u32) -> Vec<Bytes> {
        let count = usize::try_from(count).unwrap_or(usize::MAX).min(self.values.len());
        let popped: Vec<_> = match end {
            End::Left => self.values.drain(..count).collect(),
            End::Right => self.values.drain(self.values.len() - count..).rev().collect(),
        };
        self.bytes -= popped.iter().map(weight).sum::<u64>();
        popped
    }

    pub(super) fn range(&self, start: i64, stop: i64) -> Vec<Bytes> {
        self.values.range(places(start, stop, self.len())).cloned().collect()
    }

    pub(super) fn trim(&mut self, start: i64, stop: i64) {
        let kept = places(start, stop, self.len());
        self.values.truncate(kept.end);
        self.values.drain(..kept.start);
        self.bytes = self.values.iter().map(weight).sum();
    }

    pub(super) fn get(&self, index: i64) -> Option<Bytes> {
        self.values.get(place(index, self.len())?).cloned()
    }

    /// Removes `count` values equal to `value` from the left, or from the right
    /// if it is negative, or all if it is 0; returns how many there were.
    pub(super) fn remove(&mut self, value: &Bytes, count: i64) -> u64 {
        let equal = self.values.iter().filter(|present| *present == value).count() as u64;
        let removed = if count == 0 { equal } else { count.unsigned_abs().min(equal) };
        // From the right, the first ones stay.
        let (mut stay, mut go) = (if count < 0 { equal - removed } else { 0 }, removed);
        self.values.retain(|present| {
            if present != value || go == 0 {
                return true;
            }
            if stay > 0 {
                stay -= 1;
                return true;
            }
            go -= 1;
            false
        });
        self.bytes -= removed * weight(value);
        removed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> List {
        let mut list = List::default();
        let values: Vec<_> = text.bytes().map(|byte| Bytes::copy_from_slice(&[byte])).collect();
        list.push(End::Right, &values);
        list
    }

    fn text(values: &[Bytes]) -> String {
        values.iter().map(|value| String::from_utf8_lossy(value).into_owned()).collect()
    }

    #[test]
    fn equal_values_go_from_the_side_that_was_asked_for() {
        for (count, removed, left) in [
            (2, 2, "bcaa"),
            (-2, 2, "abac"),
            (0, 4, "bc"),
            (9, 4, "bc"),
            (-9, 4, "bc"),
            (i64::MIN, 4, "bc"),
        ] {
            let mut list = list("abacaa");
            assert_eq!(list.remove(&"a".into(), count), removed, "{count}");
            assert_eq!(text(&list.range(0, -1)), left, "{count}");
        }
    }

    #[test]
    fn the_weight_follows_every_change() {
        let mut list = list("abcdef");
        assert_eq!(list.bytes, 6 * (VALUE + 33));
        list.trim(1, -2);
        assert_eq!(text(&list.pop(End::Right, 2)), "ed");
        assert_eq!(text(&list.pop(End::Left, 1)), "b");
        assert_eq!(list.bytes, VALUE + 33);
        list.remove(&"c".into(), 0);
        assert_eq!((list.len(), list.bytes), (0, 0));
    }
}
