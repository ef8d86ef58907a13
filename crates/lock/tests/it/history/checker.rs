//! Whether a history of concurrent calls is one of calls in some order: the
//! search of Wing and Gong (1993) with the memory of Lowe (2017).

use std::cmp::Reverse;
use std::collections::HashSet;

use super::model::{Asked, Facts, Operation, Said, State};
use super::stores::Manners;

/// What became of a search.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Linearizable,
    /// With the longest order that was found.
    Wrong(String),
    /// Given up after too many steps.
    Undecided,
}

/// Most steps of one search: far more than any sound history has needed.
const MOST: usize = 2_000_000;

/// One place of the search: which operations came before, and what the key is.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Place {
    done: Box<[u64]>,
    state: State,
}

impl Place {
    fn has(&self, index: usize) -> bool {
        self.done[index / 64] & (1 << (index % 64)) != 0
    }

    fn with(&self, index: usize, state: State) -> Self {
        let mut done = self.done.clone();
        done[index / 64] |= 1 << (index % 64);
        Self { done, state }
    }
}

/// Checks all that was asked of one key.
pub(crate) fn check(operations: &[Operation], manners: Manners) -> Verdict {
    let mut operations = sound_looks(operations);
    operations.sort_by_key(|operation| operation.called.order);
    let facts = Facts::of(&operations, manners);
    let done = vec![0; operations.len() / 64 + 1].into_boxed_slice();
    let mut stack = vec![Place { done, state: State::new() }];
    let mut met = HashSet::new();
    let (mut furthest, mut longest) = (0, stack[0].clone());
    while let Some(place) = stack.pop() {
        if met.len() > MOST {
            return Verdict::Undecided;
        }
        if !met.insert(place.clone()) {
            continue;
        }
        let open = || (0..operations.len()).filter(|index| !place.has(*index));
        // Whatever was called after that comes after it.
        let first = open().map(|index| operations[index].returned()).min().unwrap_or(u64::MAX);
        if first == u64::MAX {
            return Verdict::Linearizable;
        }
        let before = operations.len() - open().count();
        if before >= furthest {
            (furthest, longest) = (before, place.clone());
        }
        let next = open().take_while(|index| operations[*index].called.order <= first);
        let (mut answered, unheard): (Vec<_>, Vec<_>) =
            next.partition(|index| operations[*index].answer.is_some());
        // The last is tried first: without a grant that nobody was told of, in
        // the order of the answers.
        answered.sort_by_key(|index| Reverse(operations[*index].returned()));
        for index in &answered {
            let operation = &operations[*index];
            // A grant that nobody was told of is only of interest to who sees it.
            for lost in unheard.iter().rev() {
                let granted = place.state.after_unheard(&operations[*lost], operation, &facts);
                let state = granted.and_then(|state| state.after(operation, &facts));
                stack.extend(state.map(|state| place.with(*lost, state).with(*index, state)));
            }
        }
        for index in &answered {
            let state = place.state.after(&operations[*index], &facts);
            stack.extend(state.map(|state| place.with(*index, state)));
        }
    }
    Verdict::Wrong(report(&operations, &longest))
}

/// A guard in another process hears of a steal at its next renewal: until then
/// it says what was.
fn sound_looks(operations: &[Operation]) -> Vec<Operation> {
    let steals = operations.iter().filter_map(|operation| match operation.asked {
        Asked::Acquire { is_steal: true, .. } => Some((operation.called.order, operation.answer)),
        _ => None,
    });
    let steals: Vec<_> = steals.collect();
    let is_sound = |operation: &&Operation| {
        let Asked::Look { token } = operation.asked else { return true };
        let is_stolen = |(called, answer): &(u64, Option<(Said, _)>)| {
            let is_older = match answer {
                Some((Said::Granted(thief), _)) => *thief <= token,
                _ => false,
            };
            *called < operation.returned() && !is_older
        };
        !steals.iter().any(is_stolen)
    };
    operations.iter().filter(is_sound).copied().collect()
}

fn report(operations: &[Operation], place: &Place) -> String {
    let mut lines = vec![format!("stuck at {:?}", place.state)];
    let open = operations.iter().enumerate().filter(|(index, _)| !place.has(*index));
    for (_, operation) in open.take(12) {
        let Operation { process, asked, called, answer } = operation;
        let from = (called.order, called.at.elapsed());
        let to = answer.map(|(said, stamp)| (said, stamp.order, stamp.at.elapsed()));
        lines.push(format!("process {process}: {asked:?} from {from:?}, answer {to:?}"));
    }
    lines.join("\n  ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use trine_core::Moment;

    use super::super::model::Stamp;
    use super::*;

    const TTL: Duration = Duration::from_millis(300);

    const ACQUIRE: Asked = Asked::Acquire { ttl: TTL, is_steal: false };
    const STEAL: Asked = Asked::Acquire { ttl: TTL, is_steal: true };

    fn renew(token: u64) -> Asked {
        Asked::Renew { token, ttl: TTL }
    }

    fn release(token: u64) -> Asked {
        Asked::Release { token }
    }

    fn look(token: u64) -> (Asked, Said) {
        (Asked::Look { token }, Said::Held)
    }

    /// From and to are both order and milliseconds.
    fn operation(asked: Asked, said: Said, from: u64, to: u64) -> Operation {
        let stamp = |order| {
            let at = Moment::from_elapsed(Duration::from_millis(order));
            Stamp { order, at }
        };
        let answer = Some((said, stamp(to)));
        Operation { process: 0, asked, called: stamp(from), answer }
    }

    fn unanswered(asked: Asked, from: u64) -> Operation {
        Operation { answer: None, ..operation(asked, Said::Gone, from, from) }
    }

    #[track_caller]
    fn assert_good(operations: &[Operation]) {
        assert_eq!(check(operations, Manners::default()), Verdict::Linearizable);
    }

    #[track_caller]
    fn assert_bad(operations: &[Operation]) {
        let verdict = check(operations, Manners::default());
        assert!(matches!(verdict, Verdict::Wrong(_)), "{verdict:?}");
    }

    #[test]
    fn one_after_the_other_is_good() {
        assert_good(&[]);
        assert_good(&[
            operation(ACQUIRE, Said::Granted(5), 1, 2),
            operation(ACQUIRE, Said::HeldBy(5), 3, 4),
            operation(look(5).0, look(5).1, 5, 6),
            operation(renew(5), Said::Renewed, 7, 8),
            operation(release(5), Said::Released, 9, 10),
            operation(release(5), Said::NotHeld, 11, 12),
            operation(ACQUIRE, Said::Reserved, 13, 14),
            operation(ACQUIRE, Said::Granted(6), 15, 16),
            operation(release(5), Said::HeldByOther, 17, 18),
            operation(renew(5), Said::Gone, 19, 20),
        ]);
    }

    #[test]
    fn two_at_a_time_are_wrong() {
        let (first, second) = (Said::Granted(5), Said::Granted(6));
        assert_bad(&[operation(ACQUIRE, first, 1, 2), operation(ACQUIRE, second, 3, 4)]);
        assert_bad(&[operation(ACQUIRE, first, 1, 10), operation(ACQUIRE, second, 2, 9)]);
        // One had gone before the other came, and not the other way round.
        let released = operation(release(5), Said::Released, 3, 8);
        let come = operation(ACQUIRE, second, 4, 7);
        assert_good(&[operation(ACQUIRE, first, 1, 2), released, come]);
        let released = operation(release(5), Said::Released, 8, 9);
        assert_bad(&[operation(ACQUIRE, first, 1, 2), released, come]);
    }

    #[test]
    fn tokens_grow() {
        let history = |second| {
            [
                operation(ACQUIRE, Said::Granted(5), 1, 2),
                operation(release(5), Said::Released, 3, 4),
                operation(ACQUIRE, Said::Granted(second), 5, 6),
            ]
        };
        assert_good(&history(6));
        assert_bad(&history(5));
        assert_bad(&history(4));
    }

    #[test]
    fn a_release_frees_nobody_elses_grant() {
        assert_bad(&[
            operation(ACQUIRE, Said::Granted(5), 1, 2),
            operation(release(4), Said::Released, 3, 4),
        ]);
        assert_bad(&[
            operation(ACQUIRE, Said::Granted(5), 1, 2),
            operation(release(4), Said::NotHeld, 3, 4),
        ]);
        assert_bad(&[
            operation(ACQUIRE, Said::Granted(5), 1, 2),
            operation(release(5), Said::HeldByOther, 3, 4),
        ]);
    }

    #[test]
    fn a_lease_ends_after_its_ttl_and_not_before() {
        let second = |from, to| {
            [
                operation(ACQUIRE, Said::Granted(5), 10, 20),
                operation(ACQUIRE, Said::Granted(6), from, to),
            ]
        };
        assert_bad(&second(30, 309));
        assert_good(&second(30, 310));
        // It has ended by then.
        let held = |from| [second(0, 0)[0], operation(ACQUIRE, Said::HeldBy(5), from, from + 9)];
        assert_good(&held(319));
        assert_bad(&held(320));
        let said = |said, from| [second(0, 0)[0], operation(renew(5), said, from, from + 9)];
        assert_good(&said(Said::Renewed, 300));
        assert_bad(&said(Said::Renewed, 320));
        assert_bad(&said(Said::Gone, 290));
        assert_good(&said(Said::Gone, 301));
        let look = |from| [second(0, 0)[0], operation(look(5).0, look(5).1, from, from)];
        assert_good(&look(319));
        assert_bad(&look(320));
    }

    #[test]
    fn a_renewal_prolongs_and_never_shortens() {
        let renewed = |ttl, from, second: u64| {
            [
                operation(ACQUIRE, Said::Granted(5), 10, 10),
                operation(Asked::Renew { token: 5, ttl }, Said::Renewed, from, from),
                operation(ACQUIRE, Said::Granted(6), second, second),
            ]
        };
        assert_bad(&renewed(TTL, 200, 499));
        assert_good(&renewed(TTL, 200, 500));
        assert_bad(&renewed(TTL / 10, 20, 309));
    }

    #[test]
    fn slack_widens_every_time() {
        let early = [
            operation(ACQUIRE, Said::Granted(5), 100, 100),
            operation(ACQUIRE, Said::Granted(6), 390, 390),
        ];
        assert_bad(&early);
        let manners = Manners { slack: Duration::from_millis(5), insists: false };
        assert_eq!(check(&early, manners), Verdict::Linearizable);
    }

    #[test]
    fn what_was_not_answered_may_happen_later_or_never() {
        let (first, second) = (
            operation(ACQUIRE, Said::Granted(5), 1, 2),
            operation(ACQUIRE, Said::Granted(7), 50, 51),
        );
        let lost = unanswered(release(5), 3);
        assert_good(&[first, lost, second]);
        assert_good(&[first, lost, operation(ACQUIRE, Said::HeldBy(5), 50, 51)]);
        // Not before it was called, and not of another.
        assert_bad(&[first, unanswered(release(5), 60), second]);
        assert_bad(&[first, unanswered(release(4), 3), second]);

        let lost = unanswered(ACQUIRE, 1);
        assert_good(&[lost, operation(ACQUIRE, Said::Granted(7), 50, 51)]);
        let seen = operation(ACQUIRE, Said::HeldBy(6), 50, 51);
        assert_good(&[lost, seen]);
        assert_bad(&[seen]);
        // Once it was told, it has its token.
        assert_bad(&[lost, seen, operation(ACQUIRE, Said::HeldBy(8), 52, 53)]);
        assert_bad(&[lost, seen, operation(ACQUIRE, Said::Granted(6), 500, 501)]);
        assert_good(&[lost, seen, operation(ACQUIRE, Said::Granted(7), 500, 501)]);
        // It has taken effect once, not twice.
        let released = operation(STEAL, Said::Granted(7), 60, 61);
        let given = operation(release(7), Said::Released, 62, 63);
        assert_bad(&[lost, seen, released, given, operation(ACQUIRE, Said::HeldBy(8), 64, 65)]);

        let lost = unanswered(renew(5), 200);
        let late = |from| operation(ACQUIRE, Said::Granted(7), from, from);
        assert_good(&[first, lost, late(400)]);
        assert_good(&[first, lost, operation(ACQUIRE, Said::HeldBy(5), 400, 400)]);
        let never = operation(ACQUIRE, Said::HeldBy(5), 400, 400);
        assert_bad(&[first, never]);
    }

    #[test]
    fn a_renewal_without_an_answer_prolongs_once() {
        let first = operation(ACQUIRE, Said::Granted(5), 10, 10);
        let lost = unanswered(renew(5), 200);
        let seen = |at| operation(ACQUIRE, Said::HeldBy(5), at, at);
        // At the latest at 310, when the lease would end.
        assert_good(&[first, lost, seen(609)]);
        assert_bad(&[first, lost, seen(610)]);
        assert_good(&[first, lost, unanswered(renew(5), 400), seen(909)]);
        assert_bad(&[first, lost, unanswered(renew(5), 610), seen(620)]);
        let heard = operation(renew(5), Said::Renewed, 300, 300);
        assert_good(&[first, lost, heard, seen(899)]);
        assert_bad(&[first, lost, heard, seen(900)]);
    }

    #[test]
    fn a_store_that_insists_gives_back_what_nobody_heard_of() {
        let manners = Manners { insists: true, ..Manners::default() };
        let (lost, seen) = (unanswered(ACQUIRE, 1), operation(ACQUIRE, Said::HeldBy(6), 50, 51));
        let next = operation(ACQUIRE, Said::Granted(7), 60, 61);
        assert_bad(&[lost, seen, next]);
        assert_eq!(check(&[lost, seen, next], manners), Verdict::Linearizable);
        // And nothing else.
        let known = operation(ACQUIRE, Said::Granted(6), 40, 41);
        let verdict = check(&[lost, known, seen, next], manners);
        assert!(matches!(verdict, Verdict::Wrong(_)), "{verdict:?}");
    }

    #[test]
    fn a_steal_ends_what_is_held_and_excuses_the_guard_that_has_not_heard() {
        let first = operation(ACQUIRE, Said::Granted(5), 1, 2);
        let stolen = operation(STEAL, Said::Granted(6), 3, 4);
        let seen = |token: u64, at| operation(look(token).0, look(token).1, at, at);
        assert_good(&[first, stolen, operation(renew(5), Said::Gone, 5, 6)]);
        assert_bad(&[first, stolen, operation(renew(5), Said::Renewed, 5, 6)]);
        assert_good(&[first, stolen, seen(5, 7), seen(6, 8)]);
        let released = operation(release(6), Said::Released, 9, 10);
        assert_bad(&[first, stolen, released, seen(6, 12)]);
    }
}
