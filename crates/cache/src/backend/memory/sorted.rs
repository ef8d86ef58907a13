mod ladder;

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use bytes::Bytes;
use quick_cache::DefaultHashBuilder;

use self::ladder::Ladder;
use super::entry::{held, kind, own};
use super::places::{mirrored, places};
use crate::{Order, Ranked, Scored, SortedMode};

/// Members with scores, in the order of these.
#[derive(Clone, Debug, Default)]
pub(super) struct Sorted {
    scores: HashMap<Bytes, f64, DefaultHashBuilder>,
    ladder: Ladder,
    pub(super) bytes: u64,
}

kind!(Sorted, "a sorted set");

/// Bytes of a member besides its own, in the map and in order.
const MEMBER: u64 = 128;

fn weight(member: &Bytes) -> u64 {
    MEMBER + held(member)
}

impl Sorted {
    pub(super) fn len(&self) -> usize {
        self.ladder.len()
    }

    /// Returns by how many bytes it grows if the members are written.
    pub(super) fn growth(&self, entries: &[Scored], mode: SortedMode) -> u64 {
        if mode == SortedMode::IfPresent {
            return 0;
        }
        let new: BTreeSet<_> = entries.iter().map(|entry| &entry.member).collect();
        new.into_iter().map(|member| self.growth_of(member)).sum()
    }

    /// Returns by how many bytes it grows if the member has a score.
    pub(super) fn growth_of(&self, member: &Bytes) -> u64 {
        if self.scores.contains_key(member) { 0 } else { weight(member) }
    }

    /// Gives the members their scores and returns how many are new.
    pub(super) fn put(&mut self, entries: &[Scored], mode: SortedMode) -> u64 {
        let mut added = 0;
        for Scored { score, member } in entries {
            let present = self.scores.get(member).copied();
            let is_due = match (mode, present) {
                (SortedMode::Always, _) => true,
                (SortedMode::IfAbsent, present) => present.is_none(),
                (SortedMode::IfPresent, present) => present.is_some(),
                (SortedMode::IfHigher, present) => present.is_none_or(|present| *score > present),
                (SortedMode::IfLower, present) => present.is_none_or(|present| *score < present),
            };
            if is_due {
                self.place(member, present, *score);
                added += u64::from(present.is_none());
            }
        }
        added
    }

    /// Adds to a score and returns it, unless the sum is not a number.
    pub(super) fn add(&mut self, member: &Bytes, by: f64) -> Option<f64> {
        let present = self.scores.get(member).copied();
        let score = present.map_or(by, |present| present + by);
        if score.is_nan() {
            return None;
        }
        self.place(member, present, score);
        Some(score)
    }

    fn place(&mut self, member: &Bytes, present: Option<f64>, score: f64) {
        // An equal score changes nothing, so that 0 does not become -0.
        if present == Some(score) {
            return;
        }
        let member = match present {
            Some(present) => {
                self.ladder.remove(present, member);
                self.scores
                    .get_key_value(member)
                    .map_or_else(|| own(member), |(key, _)| key.clone())
            }
            None => {
                self.bytes += weight(member);
                own(member)
            }
        };
        self.scores.insert(member.clone(), score);
        self.ladder.insert(Scored { score, member });
    }

    pub(super) fn remove(&mut self, members: &[Bytes]) -> u64 {
        let mut removed = 0;
        for member in members {
            if let Some(score) = self.scores.remove(member) {
                self.ladder.remove(score, member);
                self.bytes -= weight(member);
                removed += 1;
            }
        }
        removed
    }

    pub(super) fn remove_places(&mut self, start: i64, stop: i64) -> u64 {
        self.cut(places(start, stop, self.len())).len() as u64
    }

    pub(super) fn remove_scores(&mut self, min: f64, max: f64) -> u64 {
        self.cut(self.between(min, max)).len() as u64
    }

    pub(super) fn pop(&mut self, order: Order, count: u32) -> Vec<Scored> {
        let count = usize::try_from(count).unwrap_or(usize::MAX).min(self.len());
        let places = self.counted(0..count, order);
        turned(self.cut(places), order)
    }

    pub(super) fn scores(&self, members: &[Bytes]) -> Vec<Option<f64>> {
        members.iter().map(|member| self.scores.get(member).copied()).collect()
    }

    pub(super) fn rank(&self, member: &Bytes, order: Order) -> Option<Ranked> {
        let score = *self.scores.get(member)?;
        let place = self.ladder.place(score, member);
        let place = match order {
            Order::Ascending => place,
            Order::Descending => self.len() - 1 - place,
        };
        Some(Ranked::new(place as u64, score))
    }

    pub(super) fn by_place(&self, start: i64, stop: i64, order: Order) -> Vec<Scored> {
        let places = self.counted(places(start, stop, self.len()), order);
        turned(self.ladder.range(places), order)
    }

    pub(super) fn by_score(
        &self,
        (min, max): (f64, f64),
        order: Order,
        skip: u32,
        count: u32,
    ) -> Vec<Scored> {
        let between = self.between(min, max);
        let skip = usize::try_from(skip).unwrap_or(usize::MAX).min(between.len());
        let count = usize::try_from(count).unwrap_or(usize::MAX).min(between.len() - skip);
        let places = match order {
            Order::Ascending => between.start + skip..between.start + skip + count,
            Order::Descending => between.end - skip - count..between.end - skip,
        };
        turned(self.ladder.range(places), order)
    }

    pub(super) fn count(&self, min: f64, max: f64) -> u64 {
        self.between(min, max).len() as u64
    }

    /// Returns the places of the scores from `min` to `max`, both included.
    fn between(&self, min: f64, max: f64) -> Range<usize> {
        let start = self.ladder.count_while(|scored| scored.score < min);
        let end = self.ladder.count_while(|scored| scored.score <= max);
        start..end.max(start)
    }

    /// Returns places that were counted from a side, from the lowest score.
    fn counted(&self, places: Range<usize>, order: Order) -> Range<usize> {
        match order {
            Order::Ascending => places,
            Order::Descending => mirrored(&places, self.len()),
        }
    }

    fn cut(&mut self, places: Range<usize>) -> Vec<Scored> {
        let cut = self.ladder.cut(places);
        for Scored { member, .. } in &cut {
            self.scores.remove(member);
            self.bytes -= weight(member);
        }
        cut
    }
}

fn turned(mut scored: Vec<Scored>, order: Order) -> Vec<Scored> {
    if order == Order::Descending {
        scored.reverse();
    }
    scored
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_and_minus_zero_are_one_score_and_the_first_stays() {
        let mut sorted = Sorted::default();
        sorted.put(&[Scored::new(-0.0, "b"), Scored::new(0.0, "a")], SortedMode::Always);
        let members: Vec<_> = sorted.by_place(0, -1, Order::Ascending);
        assert_eq!(members[0].member, "a");
        sorted.put(&[Scored::new(0.0, "b")], SortedMode::Always);
        assert!(sorted.scores(&["b".into()])[0].unwrap().is_sign_negative());
        assert_eq!(sorted.count(0.0, -0.0), 2);
        assert_eq!(sorted.put(&[Scored::new(0.0, "b")], SortedMode::IfHigher), 0);
    }

    #[test]
    fn infinities_are_scores_and_their_difference_is_none() {
        let mut sorted = Sorted::default();
        sorted.put(&[Scored::new(f64::INFINITY, "a")], SortedMode::Always);
        assert_eq!(sorted.add(&"a".into(), f64::NEG_INFINITY), None);
        assert_eq!(sorted.scores(&["a".into()]), [Some(f64::INFINITY)]);
        assert_eq!(sorted.count(f64::NEG_INFINITY, f64::INFINITY), 1);
        assert_eq!(sorted.remove_scores(0.0, f64::INFINITY), 1);
        assert_eq!((sorted.len(), sorted.bytes), (0, 0));
    }
}
