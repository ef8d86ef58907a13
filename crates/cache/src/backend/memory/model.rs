//! The store against a plain map that is right at sight.

mod draw;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::{ProptestConfig, Strategy, proptest};
use proptest::{collection, sample};
use trine_core::{ManualClock, Size};

use self::draw::{Step, family, step};
use super::MemoryBackend;
use super::places::places;
use crate::{
    Batch, CacheBackend, Call, Cursor, End, Expected, FieldPage, Key, Lifetime, MemoryConfig, Op,
    Order, Outcome, PutMode, Ranked, Reply, Scored, SortedMode, Ttl, WhenFull,
};

#[derive(Clone, Debug)]
enum Value {
    Text(Bytes),
    Hash(BTreeMap<Bytes, Bytes>),
    Set(BTreeSet<Bytes>),
    List(Vec<Bytes>),
    Sorted(Vec<Scored>),
}

#[derive(Clone, Debug)]
struct Slot {
    value: Value,
    ends: Option<Duration>,
}

#[derive(Debug, Default)]
struct Model {
    slots: BTreeMap<Key, Slot>,
    now: Duration,
}

/// The operation fails with `Invalid`.
struct Refused;

type Answer = Result<Reply, Refused>;

/// Reads or changes a value of one type; the empty one is no value at all.
macro_rules! of {
    ($model:ident, $key:expr, $type:ident, $ttl:expr, |$it:ident| $body:expr) => {{
        let present = $model.slots.get($key).cloned();
        #[allow(unused_mut, reason = "a read changes nothing")]
        let mut $it = match present.as_ref().map(|slot| &slot.value) {
            None => Default::default(),
            Some(Value::$type(it)) => it.clone(),
            Some(_) => return Err(Refused),
        };
        let reply = $body;
        if $it.is_empty() {
            $model.slots.remove($key);
        } else {
            let ends = $model.ends($ttl, present.as_ref());
            $model.slots.insert($key.clone(), Slot { value: Value::$type($it), ends });
        }
        Ok(reply)
    }};
}

impl Model {
    fn ends(&self, ttl: Ttl, present: Option<&Slot>) -> Option<Duration> {
        match (ttl, present) {
            (Ttl::After(span), _) | (Ttl::IfNew(span), None) => Some(self.now + span),
            (Ttl::Never, _) | (_, None) => None,
            (_, Some(slot)) => slot.ends,
        }
    }

    fn advance(&mut self, span: Duration) {
        self.now += span;
        self.slots.retain(|_, slot| slot.ends.is_none_or(|ends| ends > self.now));
    }

    fn text(&self, key: &Key) -> Result<Option<Bytes>, Refused> {
        match self.slots.get(key).map(|slot| &slot.value) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text.clone())),
            Some(_) => Err(Refused),
        }
    }

    fn put(&mut self, key: &Key, text: Bytes, ttl: Ttl) {
        let ends = self.ends(ttl, self.slots.get(key));
        self.slots.insert(key.clone(), Slot { value: Value::Text(text), ends });
    }

    fn holds(&self, key: &Key, expected: &Expected) -> bool {
        let value = self.slots.get(key).map(|slot| &slot.value);
        match (expected, value) {
            (Expected::Absent, value) => value.is_none(),
            (Expected::Present, value) => value.is_some(),
            (Expected::Value(bytes), Some(Value::Text(text))) => bytes == text,
            (Expected::Field { field, value }, Some(Value::Hash(hash))) => {
                hash.get(field) == value.as_ref()
            }
            (Expected::Field { value, .. }, None) => value.is_none(),
            _ => false,
        }
    }

    /// Answers as the store must; where chance decides, from the store's own
    /// answer, which it checks.
    fn run(&mut self, op: &Op, actual: &Reply) -> Answer {
        let present = self.slots.contains_key(op.key());
        let keep = Ttl::Keep;
        match op {
            Op::Get { key } => Ok(Reply::Value(self.text(key)?)),
            Op::Lookup { key } => Ok(Reply::Value(self.text(key).ok().flatten())),
            Op::Put { key, value, ttl, mode } => {
                let is_due = match mode {
                    PutMode::Always => true,
                    PutMode::IfAbsent => !present,
                    PutMode::IfPresent => present,
                };
                if is_due {
                    self.put(key, value.clone(), *ttl);
                }
                Ok(Reply::Applied(is_due))
            }
            Op::Swap { key, value, ttl } => {
                let old = self.text(key)?;
                self.put(key, value.clone(), *ttl);
                Ok(Reply::Value(old))
            }
            Op::Take { key } => {
                let old = self.text(key)?;
                self.slots.remove(key);
                Ok(Reply::Value(old))
            }
            Op::Touch { key, ttl } => {
                let text = self.text(key)?;
                if let Some(text) = text.clone() {
                    self.put(key, text, *ttl);
                }
                Ok(Reply::Value(text))
            }
            Op::Add { key, by, ttl } => {
                let sum = sum(self.text(key)?, *by)?;
                self.put(key, sum.to_string().into(), *ttl);
                Ok(Reply::Int(sum))
            }
            Op::Remove { key } => Ok(Reply::Applied(self.slots.remove(key).is_some())),
            Op::Exists { .. } => Ok(Reply::Applied(present)),
            Op::Expire { key, ttl } => {
                let ends = self.ends(*ttl, self.slots.get(key));
                if let Some(slot) = self.slots.get_mut(key) {
                    slot.ends = ends;
                }
                Ok(Reply::Applied(present))
            }
            Op::Lifetime { key } => Ok(Reply::Lifetime(match self.slots.get(key) {
                None => Lifetime::Absent,
                Some(Slot { ends: None, .. }) => Lifetime::Endless,
                Some(Slot { ends: Some(ends), .. }) => Lifetime::Left(*ends - self.now),
            })),
            Op::Time { .. } => Ok(Reply::Time(self.now)),

            Op::HashGet { key, fields } => of!(self, key, Hash, keep, |hash| Reply::Values(
                fields.iter().map(|field| hash.get(field).cloned()).collect()
            )),
            Op::HashAll { key } => {
                of!(self, key, Hash, keep, |hash| Reply::Pairs(hash.clone().into_iter().collect()))
            }
            Op::HashScan { key, .. } => of!(self, key, Hash, keep, |hash| Reply::Fields(
                FieldPage::new(hash.clone().into_iter().collect(), None)
            )),
            Op::HashPut { key, fields, ttl } => of!(self, key, Hash, *ttl, |hash| {
                let before = hash.len();
                hash.extend(fields.iter().cloned());
                Reply::Count((hash.len() - before) as u64)
            }),
            Op::HashPutNew { key, field, value, ttl } => {
                let is_new = !self.field(key)?.contains_key(field);
                let ttl = if is_new { *ttl } else { keep };
                of!(self, key, Hash, ttl, |hash| {
                    hash.entry(field.clone()).or_insert(value.clone());
                    Reply::Applied(is_new)
                })
            }
            Op::HashAdd { key, field, by, ttl } => of!(self, key, Hash, *ttl, |hash| {
                let sum = sum(hash.get(field).cloned(), *by)?;
                hash.insert(field.clone(), sum.to_string().into());
                Reply::Int(sum)
            }),
            Op::HashRemove { key, fields } => of!(self, key, Hash, keep, |hash| Reply::Count(
                fields.iter().filter(|field| hash.remove(*field).is_some()).count() as u64
            )),
            Op::HashLen { key } => {
                of!(self, key, Hash, keep, |hash| Reply::Count(hash.len() as u64))
            }

            Op::SetAdd { key, members, ttl } => of!(self, key, Set, *ttl, |set| Reply::Count(
                members.iter().filter(|member| set.insert((*member).clone())).count() as u64
            )),
            Op::SetRemove { key, members } => of!(self, key, Set, keep, |set| Reply::Count(
                members.iter().filter(|member| set.remove(*member)).count() as u64
            )),
            Op::SetHas { key, members } => of!(self, key, Set, keep, |set| Reply::Flags(
                members.iter().map(|member| set.contains(member)).collect()
            )),
            Op::SetAll { key } => {
                of!(self, key, Set, keep, |set| Reply::Members(set.iter().cloned().collect()))
            }
            Op::SetLen { key } => of!(self, key, Set, keep, |set| Reply::Count(set.len() as u64)),
            Op::SetRandom { key, count } => {
                of!(self, key, Set, keep, |set| { Reply::Members(chosen(&set, *count, actual)) })
            }
            Op::SetPop { key, count } => of!(self, key, Set, keep, |set| {
                let popped = chosen(&set, *count, actual);
                set.retain(|member| !popped.contains(member));
                Reply::Members(popped)
            }),

            Op::ListPush { key, end, values, ttl } => of!(self, key, List, *ttl, |list| {
                for value in values {
                    match end {
                        End::Left => list.insert(0, value.clone()),
                        End::Right => list.push(value.clone()),
                    }
                }
                Reply::Count(list.len() as u64)
            }),
            Op::ListPop { key, end, count } => of!(self, key, List, keep, |list| {
                let mut popped = Vec::new();
                while popped.len() < *count as usize && !list.is_empty() {
                    popped.push(list.remove(if *end == End::Left { 0 } else { list.len() - 1 }));
                }
                Reply::Members(popped)
            }),
            Op::ListRange { key, start, stop } => of!(self, key, List, keep, |list| {
                Reply::Members(list[places(*start, *stop, list.len())].to_vec())
            }),
            Op::ListTrim { key, start, stop } => of!(self, key, List, keep, |list| {
                list = list[places(*start, *stop, list.len())].to_vec();
                Reply::Applied(true)
            }),
            Op::ListIndex { key, index } => of!(self, key, List, keep, |list| {
                let place = if *index < 0 { *index + list.len() as i64 } else { *index };
                Reply::Value(usize::try_from(place).ok().and_then(|at| list.get(at).cloned()))
            }),
            Op::ListRemove { key, value, count } => of!(self, key, List, keep, |list| {
                let mut removed = 0;
                while *count == 0 || removed < count.unsigned_abs() {
                    let place = if *count < 0 {
                        list.iter().rposition(|present| present == value)
                    } else {
                        list.iter().position(|present| present == value)
                    };
                    let Some(place) = place else { break };
                    list.remove(place);
                    removed += 1;
                }
                Reply::Count(removed)
            }),
            Op::ListLen { key } => {
                of!(self, key, List, keep, |list| Reply::Count(list.len() as u64))
            }

            Op::SortedPut { key, entries, mode, ttl } => of!(self, key, Sorted, *ttl, |sorted| {
                let mut added = 0;
                for Scored { score, member } in entries {
                    let present = score_of(&sorted, member);
                    let is_due = match (mode, present) {
                        (SortedMode::Always, _) | (_, None) => {
                            *mode != SortedMode::IfPresent || present.is_some()
                        }
                        (SortedMode::IfAbsent, Some(_)) => false,
                        (SortedMode::IfPresent, Some(_)) => true,
                        (SortedMode::IfHigher, Some(old)) => *score > old,
                        (SortedMode::IfLower, Some(old)) => *score < old,
                    };
                    if is_due {
                        give(&mut sorted, member, *score);
                        added += u64::from(present.is_none());
                    }
                }
                Reply::Count(added)
            }),
            Op::SortedAdd { key, member, by, ttl } => of!(self, key, Sorted, *ttl, |sorted| {
                let score = score_of(&sorted, member).map_or(*by, |old| old + by);
                if score.is_nan() {
                    return Err(Refused);
                }
                give(&mut sorted, member, score);
                Reply::Score(score)
            }),
            Op::SortedRemove { key, members } => of!(self, key, Sorted, keep, |sorted| {
                let before = sorted.len();
                sorted.retain(|scored| !members.contains(&scored.member));
                Reply::Count((before - sorted.len()) as u64)
            }),
            Op::SortedRemovePlaces { key, start, stop } => of!(self, key, Sorted, keep, |sorted| {
                let range = places(*start, *stop, sorted.len());
                Reply::Count(sorted.drain(range).count() as u64)
            }),
            Op::SortedRemoveScores { key, min, max } => of!(self, key, Sorted, keep, |sorted| {
                let before = sorted.len();
                sorted.retain(|scored| !(*min <= scored.score && scored.score <= *max));
                Reply::Count((before - sorted.len()) as u64)
            }),
            Op::SortedScores { key, members } => of!(self, key, Sorted, keep, |sorted| {
                Reply::Scores(members.iter().map(|member| score_of(&sorted, member)).collect())
            }),
            Op::SortedRank { key, member, order } => of!(self, key, Sorted, keep, |sorted| {
                let ranked = turned(&sorted, *order);
                let place = ranked.iter().position(|scored| scored.member == *member);
                Reply::Ranked(place.map(|place| Ranked::new(place as u64, ranked[place].score)))
            }),
            Op::SortedByPlace { key, start, stop, order } => {
                of!(self, key, Sorted, keep, |sorted| {
                    Reply::Scored(
                        turned(&sorted, *order)[places(*start, *stop, sorted.len())].to_vec(),
                    )
                })
            }
            Op::SortedByScore { key, min, max, order, skip, count } => {
                of!(self, key, Sorted, keep, |sorted| {
                    let mut found = turned(&sorted, *order);
                    found.retain(|scored| *min <= scored.score && scored.score <= *max);
                    let page = found.into_iter().skip(*skip as usize).take(*count as usize);
                    Reply::Scored(page.collect())
                })
            }
            Op::SortedCount { key, min, max } => of!(self, key, Sorted, keep, |sorted| {
                let is_in = |scored: &&Scored| *min <= scored.score && scored.score <= *max;
                Reply::Count(sorted.iter().filter(is_in).count() as u64)
            }),
            Op::SortedLen { key } => {
                of!(self, key, Sorted, keep, |sorted| Reply::Count(sorted.len() as u64))
            }
            Op::SortedPop { key, order, count } => of!(self, key, Sorted, keep, |sorted| {
                let mut popped = turned(&sorted, *order);
                popped.truncate(*count as usize);
                sorted.retain(|scored| !popped.contains(scored));
                Reply::Scored(popped)
            }),
        }
    }

    fn field(&self, key: &Key) -> Result<BTreeMap<Bytes, Bytes>, Refused> {
        match self.slots.get(key).map(|slot| &slot.value) {
            None => Ok(BTreeMap::new()),
            Some(Value::Hash(hash)) => Ok(hash.clone()),
            Some(_) => Err(Refused),
        }
    }
}

fn sum(text: Option<Bytes>, by: i64) -> Result<i64, Refused> {
    let Some(text) = text else { return Ok(by) };
    let text = String::from_utf8_lossy(&text).into_owned();
    let number: i64 = text.parse().map_err(|_| Refused)?;
    let sum = number.checked_add(by).ok_or(Refused)?;
    if number.to_string() == text { Ok(sum) } else { Err(Refused) }
}

fn chosen(set: &BTreeSet<Bytes>, count: u32, actual: &Reply) -> Vec<Bytes> {
    let Reply::Members(members) = actual else { panic!("{actual:?}") };
    let different: BTreeSet<_> = members.iter().cloned().collect();
    assert!(different.is_subset(set), "{different:?} of {set:?}");
    assert_eq!(different.len(), members.len());
    assert_eq!(members.len(), set.len().min(count as usize));
    members.clone()
}

fn score_of(sorted: &[Scored], member: &Bytes) -> Option<f64> {
    sorted.iter().find(|scored| scored.member == *member).map(|scored| scored.score)
}

fn give(sorted: &mut Vec<Scored>, member: &Bytes, score: f64) {
    if score_of(sorted, member) != Some(score) {
        sorted.retain(|scored| scored.member != *member);
        sorted.push(Scored::new(score, member.clone()));
        sorted.sort_by(|one, other| {
            let by_score = one.score.partial_cmp(&other.score).unwrap();
            by_score.then_with(|| one.member.cmp(&other.member))
        });
    }
}

fn turned(sorted: &[Scored], order: Order) -> Vec<Scored> {
    let mut sorted = sorted.to_vec();
    if order == Order::Descending {
        sorted.reverse();
    }
    sorted
}

/// What is compared: kinds of failures, and sets without an order.
fn shown(reply: Answer, op: &Op) -> String {
    match reply {
        Err(Refused) => "Invalid".to_owned(),
        Ok(Reply::Failed(error)) => format!("{:?}", error.kind()),
        Ok(Reply::Members(mut members)) if matches!(op, Op::SetAll { .. }) => {
            members.sort();
            format!("{members:?}")
        }
        Ok(other) => format!("{other:?}"),
    }
}

async fn check(steps: Vec<Step>, when_full: WhenFull) {
    let clock = ManualClock::new();
    let config = MemoryConfig { when_full, max_bytes: Size::bytes(4 << 20), ..Default::default() };
    let store = MemoryBackend::open(&Arc::from("cache.model"), &config, Arc::new(clock.clone()));
    let mut model = Model::default();
    for step in steps {
        let (batch, ops) = match step {
            Step::Pass(span) => {
                clock.advance(span);
                model.advance(span);
                continue;
            }
            Step::One(op) => (Batch::of("model", op.clone()), vec![op]),
            Step::Atomic(ops, expected) => {
                let key = ops[0].key().clone();
                let holds = model.holds(&key, &expected);
                let batch = ops.iter().cloned().fold(Batch::atomic(), Batch::with);
                (batch.when(key, expected), if holds { ops } else { Vec::new() })
            }
        };
        assert_eq!(batch.problem(), None);
        match store.run(Call::new("model"), batch).await.unwrap() {
            Outcome::Refused { .. } => assert!(ops.is_empty()),
            Outcome::Ran(replies) => {
                assert_eq!(replies.len(), ops.len());
                for (op, actual) in ops.iter().zip(replies) {
                    let expected = model.run(op, &actual);
                    assert_eq!(shown(Ok(actual), op), shown(expected, op), "{op:?}");
                }
            }
        }
        for stripe in &store.stripes {
            stripe.lock().unwrap().assert_sound();
        }
    }
    let page = store.scan(Call::new("scan"), "", Cursor::first(), 99).await.unwrap();
    let mut keys = page.keys;
    keys.sort();
    assert_eq!(keys, model.slots.keys().cloned().collect::<Vec<_>>());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_store_answers_as_a_plain_map(
        steps in family().prop_flat_map(|family| collection::vec(step(family), 1..100)),
        when_full in sample::select(vec![WhenFull::Evict, WhenFull::Refuse]),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(check(steps, when_full));
    }
}
