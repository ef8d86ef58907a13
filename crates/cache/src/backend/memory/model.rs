//! The store against a plain map that is right at sight.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, proptest};
use proptest::{collection, prop_oneof, sample};
use trine_core::{ManualClock, Size};

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

/// What is drawn for any operation.
#[derive(Clone, Debug)]
struct Draw {
    key: Key,
    names: Vec<Bytes>,
    values: Vec<Bytes>,
    numbers: (i64, i64),
    scores: (f64, f64),
    count: u32,
    ttl: Ttl,
    choice: usize,
}

fn draw() -> impl Strategy<Value = Draw> {
    let key =
        sample::select(vec!["a", "b", "{t}c", "{t}d"]).prop_map(|text| Key::new(text).unwrap());
    let name = sample::select(vec!["", "f", "g", "h", "i"]).prop_map(Bytes::from);
    let value = sample::select(vec!["", "1", "-5", "007", "x", "9223372036854775807", "y"]);
    let number = prop_oneof![-6..6_i64, Just(i64::MAX), Just(-3)];
    let score = sample::select(vec![-1.5, -0.0, 0.0, 1.0, 7.0, f64::INFINITY, f64::NEG_INFINITY]);
    let ttl = prop_oneof![
        (1..4_u64).prop_map(Ttl::secs),
        (1..4_u64).prop_map(|secs| Ttl::IfNew(Duration::from_secs(secs))),
        Just(Ttl::Keep),
        Just(Ttl::Never),
        Just(Ttl::Default),
    ];
    let names = collection::vec(name, 1..4);
    let values = collection::vec(value.prop_map(Bytes::from), 4);
    (
        key,
        names,
        values,
        (number.clone(), number),
        (score.clone(), score),
        0..5_u32,
        ttl,
        any::<u8>(),
    )
        .prop_map(|(key, names, values, numbers, scores, count, ttl, choice)| {
            let choice = usize::from(choice);
            Draw { key, names, values, numbers, scores, count, ttl, choice }
        })
}

/// The operations of one type, and the one that fills it.
#[derive(Clone, Debug)]
struct Family {
    kinds: Range<u8>,
    fills: u8,
}

fn family() -> impl Strategy<Value = Family> {
    let families = [(0..10, 1), (10..18, 13), (18..25, 18), (25..32, 25), (32..44, 32)];
    sample::select(families.map(|(kinds, fills)| Family { kinds, fills }).to_vec())
}

/// Mostly operations of one family: a mixture of all has little to meet.
fn op(family: Family) -> impl Strategy<Value = Op> {
    let kind = prop_oneof![6 => family.kinds, 3 => Just(family.fills), 1 => 0..44_u8];
    (kind, draw()).prop_map(|(kind, draw)| build(kind, draw))
}

fn fixed(text: &'static str) -> Key {
    Key::new(text).unwrap()
}

fn build(kind: u8, draw: Draw) -> Op {
    let Draw { key, names, values, numbers: (start, stop), scores: (min, max), count, ttl, choice } =
        draw;
    let (name, value) = (names[0].clone(), values[0].clone());
    let end = [End::Left, End::Right][choice % 2];
    let order = [Order::Ascending, Order::Descending][choice % 2];
    let put = [PutMode::Always, PutMode::IfAbsent, PutMode::IfPresent][choice % 3];
    let mode = [
        SortedMode::Always,
        SortedMode::IfAbsent,
        SortedMode::IfPresent,
        SortedMode::IfHigher,
        SortedMode::IfLower,
    ][choice % 5];
    let skip = u32::try_from(choice % 3).unwrap();
    // Mostly the key of its own type, else any: most would fail.
    let key = match kind {
        _ if choice % 8 == 0 => key,
        0..=9 => fixed("{t}text"),
        10..=17 => fixed("{t}hash"),
        18..=24 => fixed("{t}set"),
        25..=31 => fixed("{t}list"),
        _ => fixed("{t}sorted"),
    };
    match kind {
        0 if choice % 2 == 0 => Op::Get { key },
        0 => Op::Lookup { key },
        1 => Op::Put { key, value, ttl, mode: put },
        2 => Op::Swap { key, value, ttl },
        3 => Op::Take { key },
        4 => Op::Touch { key, ttl },
        5 => Op::Add { key, by: start, ttl },
        6 => Op::Remove { key },
        7 => Op::Exists { key },
        8 => Op::Expire { key, ttl },
        9 => Op::Lifetime { key },
        10 => Op::HashGet { key, fields: names },
        11 => Op::HashAll { key },
        12 => Op::HashScan { key, cursor: Bytes::new(), count: 99 },
        13 => Op::HashPut { key, fields: names.into_iter().zip(values).collect(), ttl },
        14 => Op::HashPutNew { key, field: name, value, ttl },
        15 => Op::HashAdd { key, field: name, by: start, ttl },
        16 => Op::HashRemove { key, fields: names },
        17 => Op::HashLen { key },
        18 => Op::SetAdd { key, members: names, ttl },
        19 => Op::SetRemove { key, members: names },
        20 => Op::SetHas { key, members: names },
        21 => Op::SetAll { key },
        22 => Op::SetLen { key },
        23 => Op::SetRandom { key, count },
        24 => Op::SetPop { key, count },
        25 => Op::ListPush { key, end, values: names, ttl },
        26 => Op::ListPop { key, end, count },
        27 => Op::ListRange { key, start, stop },
        28 => Op::ListTrim { key, start, stop },
        29 => Op::ListIndex { key, index: start },
        30 => Op::ListRemove { key, value: name, count: start },
        31 => Op::ListLen { key },
        32 => {
            let scores = [min, max, min + 1.0, 3.0];
            let entries = names.into_iter().zip(scores);
            let entries = entries.map(|(member, score)| Scored::new(score, member)).collect();
            Op::SortedPut { key, entries, mode, ttl }
        }
        33 => Op::SortedAdd { key, member: name, by: min, ttl },
        34 => Op::SortedRemove { key, members: names },
        35 => Op::SortedRemovePlaces { key, start, stop },
        36 => Op::SortedRemoveScores { key, min, max },
        37 => Op::SortedScores { key, members: names },
        38 => Op::SortedRank { key, member: name, order },
        39 => Op::SortedByPlace { key, start, stop, order },
        40 => Op::SortedByScore { key, min, max, order, skip, count },
        41 => Op::SortedCount { key, min, max },
        42 => Op::SortedLen { key },
        _ => Op::SortedPop { key, order, count },
    }
}

#[derive(Clone, Debug)]
enum Step {
    One(Op),
    /// Operations on two keys of one tag, if the first holds what is expected.
    Atomic(Vec<Op>, Expected),
    Pass(Duration),
}

fn step(family: Family) -> impl Strategy<Value = Step> {
    let tagged = op(family.clone()).prop_filter("of the tag", |op| op.key().tag() == Some("t"));
    let expected = sample::select(vec![
        Expected::Absent,
        Expected::Present,
        Expected::Value("1".into()),
        Expected::Field { field: "f".into(), value: None },
        Expected::Field { field: "f".into(), value: Some("1".into()) },
    ]);
    prop_oneof![
        20 => op(family).prop_map(Step::One),
        3 => (collection::vec(tagged, 1..4), expected).prop_map(|(ops, expected)| Step::Atomic(ops, expected)),
        3 => (1..1_500_u64).prop_map(|millis| Step::Pass(Duration::from_millis(millis))),
    ]
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
