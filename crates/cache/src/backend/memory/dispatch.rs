use std::time::Duration;

use super::entry::{Data, ELEMENT, own};
use super::hash::Hash;
use super::list::List;
use super::moment::{NEVER, Turn};
use super::number;
use super::set::Set;
use super::sorted::Sorted;
use super::stripe::{Growth, Stripe};
use crate::backend::NO_CURSOR;
use crate::op::Load;
use crate::{Key, Lifetime, Op, PutMode, Reply, Result, Ttl};

/// Most bytes of a decimal number.
const NUMBER: u64 = 20;

const NOT_A_NUMBER: &str = "the sum of the scores is not a number";

impl Stripe {
    /// Does what an operation says; a failed one has changed nothing.
    pub(super) fn dispatch(&mut self, turn: &Turn<'_>, op: &Op) -> Result<Reply> {
        match op {
            Op::Get { key } => Ok(Reply::Value(self.text(turn, key)?.cloned())),
            Op::Lookup { key } => {
                let found = self.read(turn, key).and_then(|entry| entry.data.as_text());
                Ok(Reply::Value(found.cloned()))
            }
            Op::Put { key, value, ttl, mode } => {
                let present = self.peek(turn, key).map(|entry| entry.ends);
                let is_due = match mode {
                    PutMode::Always => true,
                    PutMode::IfAbsent => present.is_none(),
                    PutMode::IfPresent => present.is_some(),
                };
                if is_due {
                    self.put(turn, key, Data::Text(own(value)), turn.ends(*ttl, present))?;
                }
                Ok(Reply::Applied(is_due))
            }
            Op::Swap { key, value, ttl } => {
                let present = self.peek(turn, key).map(|entry| entry.ends);
                let old = self.text(turn, key)?.cloned();
                self.put(turn, key, Data::Text(own(value)), turn.ends(*ttl, present))?;
                Ok(Reply::Value(old))
            }
            Op::Take { key } => {
                let old = self.text(turn, key)?.cloned();
                self.remove(key);
                Ok(Reply::Value(old))
            }
            Op::Touch { key, ttl } => {
                let value = self.text(turn, key)?.cloned();
                self.give(turn, key, *ttl);
                Ok(Reply::Value(value))
            }
            Op::Add { key, by, ttl } => {
                let present = self.peek(turn, key).map(|entry| entry.ends);
                let text = self.text(turn, key)?.map(AsRef::as_ref);
                let sum = number::sum(text, *by).map_err(|no| turn.invalid(no.detail()))?;
                let text = Data::Text(sum.to_string().into());
                self.put(turn, key, text, turn.ends(*ttl, present))?;
                Ok(Reply::Int(sum))
            }
            Op::Remove { key } => Ok(Reply::Applied(self.remove(key).is_some())),
            Op::Exists { key } => Ok(Reply::Applied(self.peek(turn, key).is_some())),
            Op::Expire { key, ttl } => Ok(Reply::Applied(self.give(turn, key, *ttl))),
            Op::Lifetime { key } => Ok(Reply::Lifetime(self.lifetime(turn, key))),
            Op::Time { .. } => Ok(Reply::Time(turn.timeline.since_epoch())),

            Op::HashGet { key, fields } => {
                self.view(turn, key, |hash: &Hash| Reply::Values(hash.values(fields)))
            }
            Op::HashAll { key } => self.view(turn, key, |hash: &Hash| Reply::Pairs(hash.pairs())),
            Op::HashScan { cursor, .. } if !Hash::is_cursor(cursor) => Err(turn.invalid(NO_CURSOR)),
            Op::HashScan { key, cursor, count } => {
                self.view(turn, key, |hash: &Hash| Reply::Fields(hash.page(cursor, *count)))
            }
            Op::HashPut { key, fields, ttl } => self.alter(
                turn,
                key,
                (*ttl, growth(op, |hash: &Hash| hash.growth(fields))),
                |hash: &mut Hash| Ok(Reply::Count(hash.put(fields))),
            ),
            Op::HashPutNew { key, field, value, ttl } => {
                let mut is_new = false;
                let look = |hash: &Hash| {
                    is_new = hash.get(field).is_none();
                    Reply::Applied(false)
                };
                let refused = self.view(turn, key, look)?;
                if !is_new {
                    return Ok(refused);
                }
                self.alter(
                    turn,
                    key,
                    (
                        *ttl,
                        growth(op, |hash: &Hash| hash.growth(&[(field.clone(), value.clone())])),
                    ),
                    |hash: &mut Hash| Ok(Reply::Applied(hash.put_one(field, own(value)))),
                )
            }
            Op::HashAdd { key, field, by, ttl } => self.alter(
                turn,
                key,
                (*ttl, growth(op, |hash: &Hash| hash.growth_of_sum(field, *by))),
                |hash: &mut Hash| {
                    let sum = hash.add(field, *by).map_err(|no| turn.invalid(no.detail()))?;
                    Ok(Reply::Int(sum))
                },
            ),
            Op::HashRemove { key, fields } => {
                self.reduce(turn, key, |hash: &mut Hash| Reply::Count(hash.remove(fields)))
            }
            Op::HashLen { key } => self.view(turn, key, |hash: &Hash| count(hash.len())),

            Op::SetAdd { key, members, ttl } => self.alter(
                turn,
                key,
                (*ttl, growth(op, |set: &Set| set.growth(members))),
                |set: &mut Set| Ok(Reply::Count(set.add(members))),
            ),
            Op::SetRemove { key, members } => {
                self.reduce(turn, key, |set: &mut Set| Reply::Count(set.remove(members)))
            }
            Op::SetHas { key, members } => {
                self.view(turn, key, |set: &Set| Reply::Flags(set.has(members)))
            }
            Op::SetAll { key } => self.view(turn, key, |set: &Set| Reply::Members(set.members())),
            Op::SetLen { key } => self.view(turn, key, |set: &Set| count(set.len())),
            Op::SetRandom { key, count } => {
                self.view(turn, key, |set: &Set| Reply::Members(set.random(*count, &self.dice)))
            }
            Op::SetPop { key, count } => {
                let dice = self.dice.clone();
                self.reduce(turn, key, |set: &mut Set| Reply::Members(set.pop(*count, &dice)))
            }

            Op::ListPush { key, end, values, ttl } => self.alter(
                turn,
                key,
                (*ttl, growth(op, |_: &List| List::growth(values))),
                |list: &mut List| Ok(Reply::Count(list.push(*end, values))),
            ),
            Op::ListPop { key, end, count } => {
                self.reduce(turn, key, |list: &mut List| Reply::Members(list.pop(*end, *count)))
            }
            Op::ListRange { key, start, stop } => {
                self.view(turn, key, |list: &List| Reply::Members(list.range(*start, *stop)))
            }
            Op::ListTrim { key, start, stop } => self.reduce(turn, key, |list: &mut List| {
                list.trim(*start, *stop);
                Reply::Applied(true)
            }),
            Op::ListIndex { key, index } => {
                self.view(turn, key, |list: &List| Reply::Value(list.get(*index)))
            }
            Op::ListRemove { key, value, count } => {
                self.reduce(turn, key, |list: &mut List| Reply::Count(list.remove(value, *count)))
            }
            Op::ListLen { key } => self.view(turn, key, |list: &List| count(list.len())),

            Op::SortedPut { key, entries, mode, ttl } => self.alter(
                turn,
                key,
                (*ttl, growth(op, |sorted: &Sorted| sorted.growth(entries, *mode))),
                |sorted: &mut Sorted| Ok(Reply::Count(sorted.put(entries, *mode))),
            ),
            Op::SortedAdd { key, member, by, ttl } => self.alter(
                turn,
                key,
                (*ttl, growth(op, |sorted: &Sorted| sorted.growth_of(member))),
                |sorted: &mut Sorted| {
                    let score = sorted.add(member, *by);
                    score.map(Reply::Score).ok_or_else(|| turn.invalid(NOT_A_NUMBER))
                },
            ),
            Op::SortedRemove { key, members } => {
                self.reduce(turn, key, |sorted: &mut Sorted| Reply::Count(sorted.remove(members)))
            }
            Op::SortedRemovePlaces { key, start, stop } => {
                self.reduce(turn, key, |sorted: &mut Sorted| {
                    Reply::Count(sorted.remove_places(*start, *stop))
                })
            }
            Op::SortedRemoveScores { key, min, max } => {
                self.reduce(turn, key, |sorted: &mut Sorted| {
                    Reply::Count(sorted.remove_scores(*min, *max))
                })
            }
            Op::SortedScores { key, members } => {
                self.view(turn, key, |sorted: &Sorted| Reply::Scores(sorted.scores(members)))
            }
            Op::SortedRank { key, member, order } => {
                self.view(turn, key, |sorted: &Sorted| Reply::Ranked(sorted.rank(member, *order)))
            }
            Op::SortedByPlace { key, start, stop, order } => {
                self.view(turn, key, |sorted: &Sorted| {
                    Reply::Scored(sorted.by_place(*start, *stop, *order))
                })
            }
            Op::SortedByScore { key, min, max, order, skip, count } => {
                self.view(turn, key, |sorted: &Sorted| {
                    Reply::Scored(sorted.by_score((*min, *max), *order, *skip, *count))
                })
            }
            Op::SortedCount { key, min, max } => {
                self.view(turn, key, |sorted: &Sorted| Reply::Count(sorted.count(*min, *max)))
            }
            Op::SortedLen { key } => self.view(turn, key, |sorted: &Sorted| count(sorted.len())),
            Op::SortedPop { key, order, count } => self
                .reduce(turn, key, |sorted: &mut Sorted| Reply::Scored(sorted.pop(*order, *count))),
        }
    }

    fn lifetime(&self, turn: &Turn<'_>, key: &Key) -> Lifetime {
        match self.peek(turn, key).map(|entry| entry.ends) {
            None => Lifetime::Absent,
            Some(NEVER) => Lifetime::Endless,
            Some(ends) => Lifetime::Left(Duration::from_millis(ends.saturating_sub(turn.now()))),
        }
    }

    /// Takes something away from the collection under a key; its lifetime
    /// stays.
    fn reduce<T: super::entry::Kind>(
        &mut self,
        turn: &Turn<'_>,
        key: &Key,
        change: impl FnOnce(&mut T) -> Reply,
    ) -> Result<Reply> {
        let growth = Growth { most: 0, exact: |_: &T| 0 };
        self.alter(turn, key, (Ttl::Keep, growth), |collection| Ok(change(collection)))
    }
}

fn count(len: usize) -> Reply {
    Reply::Count(len as u64)
}

fn growth<F>(op: &Op, exact: F) -> Growth<F> {
    Growth { most: most(op), exact }
}

/// Returns the most bytes by which an operation makes what it writes grow,
/// whatever is there already.
pub(super) fn most(op: &Op) -> u64 {
    let Load { count, bytes, .. } = op.load();
    NUMBER + bytes as u64 + ELEMENT * (count as u64 + 1)
}
