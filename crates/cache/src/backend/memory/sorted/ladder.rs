use std::cmp::Ordering;
use std::ops::Range;

use bytes::Bytes;

use crate::Scored;

/// Scored members in order, cut into runs, so that a change moves only the
/// members of one run: an insert into a million of them moves at most
/// [`RUN`], and a place is found by adding up the lengths of the runs before.
#[derive(Clone, Debug, Default)]
pub(super) struct Ladder {
    /// None of them empty.
    runs: Vec<Vec<Scored>>,
    len: usize,
}

/// Most members of a run.
const RUN: usize = 256;

impl Ladder {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds a member that is not there.
    pub(super) fn insert(&mut self, scored: Scored) {
        self.len += 1;
        let is_lower = |other: &Scored| order(other, scored.score, &scored.member).is_lt();
        let place = self.runs.partition_point(|run| run.last().is_some_and(is_lower));
        let place = place.min(self.runs.len().saturating_sub(1));
        let Some(run) = self.runs.get_mut(place) else {
            self.runs.push(vec![scored]);
            return;
        };
        let within = run.partition_point(is_lower);
        run.insert(within, scored);
        if run.len() > RUN {
            let upper = run.split_off(RUN / 2);
            self.runs.insert(place + 1, upper);
        }
    }

    /// Removes a member that is there with `score`.
    pub(super) fn remove(&mut self, score: f64, member: &Bytes) {
        let place = self.place(score, member);
        self.cut(place..place + 1);
    }

    /// Returns how many members are before this one.
    pub(super) fn place(&self, score: f64, member: &Bytes) -> usize {
        self.count_while(|other| order(other, score, member).is_lt())
    }

    /// Returns how many of the first members satisfy `is_before`, which no
    /// member does after one that does not.
    pub(super) fn count_while(&self, is_before: impl Fn(&Scored) -> bool) -> usize {
        let whole = self.runs.partition_point(|run| run.last().is_some_and(&is_before));
        let (before, rest) = self.runs.split_at_checked(whole).unwrap_or_default();
        let within = rest.first().map_or(0, |run| run.partition_point(is_before));
        before.iter().map(Vec::len).sum::<usize>() + within
    }

    /// Returns the members at `places`.
    pub(super) fn range(&self, places: Range<usize>) -> Vec<Scored> {
        let (run, within) = self.find(places.start);
        let rest = self.runs.iter().skip(run).flatten();
        rest.skip(within).take(places.len()).cloned().collect()
    }

    /// Removes and returns the members at `places`.
    pub(super) fn cut(&mut self, places: Range<usize>) -> Vec<Scored> {
        let (first, mut within) = self.find(places.start);
        let mut cut = Vec::with_capacity(places.len());
        for run in self.runs.iter_mut().skip(first) {
            let end = run.len().min(within + places.len() - cut.len());
            if within < end {
                cut.extend(run.drain(within..end));
            }
            within = 0;
            if cut.len() == places.len() {
                break;
            }
        }
        self.len -= cut.len();
        self.join(first);
        cut
    }

    /// Returns the run that has a place, and where in it.
    fn find(&self, place: usize) -> (usize, usize) {
        let mut within = place;
        for (index, run) in self.runs.iter().enumerate() {
            if within < run.len() {
                return (index, within);
            }
            within -= run.len();
        }
        (self.runs.len(), 0)
    }

    /// Drops empty runs from `first` on, and joins it with the next if both
    /// are short.
    fn join(&mut self, first: usize) {
        self.runs.retain(|run| !run.is_empty());
        let lengths = self.runs.iter().skip(first).take(2).map(Vec::len).sum::<usize>();
        if first + 1 < self.runs.len() && lengths <= RUN / 2 {
            let next = self.runs.remove(first + 1);
            if let Some(run) = self.runs.get_mut(first) {
                run.extend(next);
            }
        }
    }
}

/// By score, then by the bytes of the member; 0 and -0 are equal.
fn order(one: &Scored, score: f64, member: &Bytes) -> Ordering {
    let by_score = one.score.partial_cmp(&score).unwrap_or(Ordering::Equal);
    by_score.then_with(|| one.member.cmp(member))
}

#[cfg(test)]
mod tests {
    use super::*;
    use trine_testkit::Rng;

    #[test]
    fn it_stays_in_order_through_many_changes() {
        let (mut ladder, mut plain) = (Ladder::default(), Vec::<(i64, Bytes)>::new());
        let mut rng = Rng::seeded(11);
        for round in 0..20_000_u64 {
            let shrinks = (round / 4_000) % 2 == 1;
            if rng.below(10) < if shrinks { 7 } else { 3 } && !plain.is_empty() {
                let start = rng.below(plain.len() as u64) as usize;
                let end = plain.len().min(start + rng.below(4) as usize);
                let cut: Vec<_> = plain.drain(start..end).collect();
                let found = ladder.cut(start..end);
                assert!(cut.iter().zip(&found).all(|(one, other)| one.1 == other.member));
                assert_eq!(cut.len(), found.len());
            } else {
                let (score, member) = (rng.below(50) as i64, Bytes::from(round.to_string()));
                ladder.insert(Scored::new(score as f64, member.clone()));
                let place = plain.partition_point(|other| *other < (score, member.clone()));
                assert_eq!(ladder.place(score as f64, &member), place);
                plain.insert(place, (score, member));
            }
            assert_eq!(ladder.len(), plain.len());
        }
        let all = ladder.range(0..ladder.len());
        assert!(plain.iter().zip(&all).all(|(one, other)| one.1 == other.member));
        assert!(ladder.runs.len() <= 4 * ladder.len() / RUN + 2, "{}", ladder.runs.len());
        assert!(ladder.runs.iter().all(|run| !run.is_empty() && run.len() <= RUN));
    }
}
