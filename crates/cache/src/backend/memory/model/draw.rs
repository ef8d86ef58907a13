use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::{Just, Strategy, any};
use proptest::{collection, prop_oneof, sample};

use crate::{End, Expected, Key, Op, Order, PutMode, Scored, SortedMode, Ttl};

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
pub(super) struct Family {
    kinds: Range<u8>,
    fills: u8,
}

pub(super) fn family() -> impl Strategy<Value = Family> {
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
pub(super) enum Step {
    One(Op),
    /// Operations on two keys of one tag, if the first holds what is expected.
    Atomic(Vec<Op>, Expected),
    Pass(Duration),
}

pub(super) fn step(family: Family) -> impl Strategy<Value = Step> {
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
