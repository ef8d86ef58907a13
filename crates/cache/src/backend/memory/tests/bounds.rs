use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};

use trine_testkit::Rng;

use super::super::hash::Hash;
use super::super::set::Set;
use super::super::sorted::Sorted;
use super::*;
use crate::{End, Scored, SortedMode};

const MIB: u64 = 1024 * 1024;

/// Runs a batch on a thread without a runtime: nothing here ever waits.
fn now<T>(future: impl Future<Output = T>) -> T {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => panic!("the embedded store waited"),
    }
}

// CA-17
#[test]
fn bytes_never_pass_the_bound_by_more_than_an_entry() {
    const LARGEST: u64 = 20_000;
    for when_full in [WhenFull::Evict, WhenFull::Refuse] {
        let store = Store::new(2 * MIB, when_full);
        let (start, is_over) = (Barrier::new(65), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let (store, start) = (&store, &start);
            let writers: Vec<_> = (0..64)
                .map(|thread| {
                    scope.spawn(move || {
                        let mut rng = Rng::seeded(thread);
                        start.wait();
                        for _ in 0..200 {
                            let text = format!("k{}", rng.below(1_000));
                            let value = vec![0; rng.below(LARGEST) as usize];
                            let ttl = [Ttl::Never, Ttl::secs(5)][rng.below(2) as usize];
                            if rng.below(4) == 0 {
                                let (key, end) = (key(&text), End::Left);
                                let values = vec![value.into()];
                                now(store.run(Op::ListPush { key, end, values, ttl }));
                            } else {
                                now(store.put(&text, value, ttl));
                            }
                        }
                    })
                })
                .collect();
            let is_over = &is_over;
            scope.spawn(move || {
                start.wait();
                while !is_over.load(Ordering::Relaxed) {
                    let bytes = store.stats().bytes;
                    assert!(bytes <= 2 * MIB + LARGEST, "{bytes}");
                    std::thread::yield_now();
                }
            });
            for writer in writers {
                writer.join().unwrap();
            }
            is_over.store(true, Ordering::Relaxed);
        });
        let stats = store.stats();
        assert!(stats.bytes <= 2 * MIB && stats.bytes > MIB, "{stats:?}");
        assert_eq!(stats.evicted > 0, when_full == WhenFull::Evict);
        store.assert_sound();
        store.clock.advance(5 * SECOND);
        for each in 0..1_000 {
            now(store.run(Op::Remove { key: key(&format!("k{each}")) }));
        }
        assert_eq!((store.stats().entries, store.stats().bytes), (0, 0));
        store.assert_sound();
    }
}

#[tokio::test]
async fn an_evicted_entry_leaves_the_index_of_ends() {
    let store = Store::new(MIB, WhenFull::Evict);
    for each in 0..10_000_u64 {
        store.put(&format!("k{each}"), vec![0; 300], Ttl::secs(each % 7 + 1)).await;
    }
    let stats = store.stats();
    assert_eq!(stats.entries + stats.evicted, 10_000);
    assert!(stats.bytes > MIB * 8 / 10, "{stats:?}");
    store.assert_sound();
}

#[tokio::test]
async fn what_grows_in_place_makes_others_go() {
    let store = Store::new(MIB, WhenFull::Evict);
    for each in 0..2_000 {
        store.put(&format!("k{each}"), vec![0; 200], Ttl::secs(9)).await;
    }
    assert_eq!(store.stats().evicted, 0);
    let push = |ttl| {
        let values = vec![vec![0; 10_000].into()];
        Op::ListPush { key: key("list"), end: End::Right, values, ttl }
    };
    for pushed in 1..=60 {
        assert_eq!(store.run(push(Ttl::secs(pushed))).await.into_count().unwrap(), pushed);
        store.assert_sound();
    }
    assert!(store.stats().evicted > 500, "{:?}", store.stats());
    assert_eq!(store.lifetime("list").await, Lifetime::Left(60 * SECOND));
    let refused = failed_after(&store, push(Ttl::Never), 60).await;
    assert_eq!(refused, ErrorKind::Exhausted);
    store.assert_sound();
}

/// Repeats an operation that succeeds up to `most` times, and returns how it
/// failed.
async fn failed_after(store: &Store, op: Op, most: u32) -> ErrorKind {
    for _ in 0..most {
        if let Reply::Failed(error) = store.run(op.clone()).await {
            return error.kind();
        }
    }
    panic!("it did not fail");
}

#[tokio::test]
async fn a_value_that_its_stripe_cannot_hold_is_refused_and_changes_nothing() {
    let store = Store::new(4 * MIB, WhenFull::Evict);
    store.put("a", "1", Ttl::Never).await;
    let refused = store.put("a", vec![0; 5 * MIB as usize], Ttl::secs(1)).await;
    assert_eq!(failed(refused), ErrorKind::Exhausted);
    assert_eq!(store.get("a").await, Some("1".into()));
    assert_eq!(store.stats().evicted, 0);
}

#[tokio::test]
async fn stripes_fit_the_largest_value() {
    for (max_bytes, max_value, stripes) in [
        (64 * 1024, 1024, 1),
        (MIB, 1024, 1),
        (64 * MIB, MIB, 16),
        (64 * MIB, 1024, 64),
        (100 * MIB, 10 * MIB, 2),
        (4096 * MIB, MIB, 64),
    ] {
        let mut store = Store::new(max_bytes, WhenFull::Evict);
        store.backend = store.backend.with_max_value(Size::bytes(max_value));
        assert_eq!(store.backend.stripes.len(), stripes, "{max_bytes} {max_value}");
        if max_bytes >= 4 * max_value {
            let value = vec![0; usize::try_from(max_value).unwrap()];
            store.put("a", value, Ttl::Never).await.into_applied().unwrap();
        }
    }
}

// CA-19
#[tokio::test]
async fn entries_in_use_survive_a_scan_of_strangers() {
    let store = Store::new(2 * MIB, WhenFull::Evict);
    let hot: Vec<_> = (0..500).map(|each| format!("hot{each}")).collect();
    for _ in 0..4 {
        for text in &hot {
            if store.get(text).await.is_none() {
                store.put(text, vec![0; 500], Ttl::Never).await;
            }
        }
    }
    for each in 0..100_000 {
        store.put(&format!("cold{each}"), vec![0; 500], Ttl::Never).await;
    }
    let mut hits = 0;
    for text in &hot {
        hits += usize::from(store.get(text).await.is_some());
    }
    assert!(hits >= 475, "{hits} of 500");
}

#[test]
fn nobody_sees_a_part_of_an_atomic_batch() {
    let store = Store::refusing();
    let names: Vec<_> = (0..8).map(|each| key(&format!("{{t}}{each}"))).collect();
    let write = |value: String| {
        let put = |batch: Batch, key| batch.with(Op::put(key, value.clone()));
        names.iter().fold(Batch::atomic(), put)
    };
    now(store.batch(write("0".to_owned()))).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (store, write) = (&store, &write);
            scope.spawn(move || {
                for round in 0..500 {
                    now(store.batch(write(format!("{thread}:{round}")))).unwrap();
                }
            });
        }
        for _ in 0..4 {
            let (store, names) = (&store, &names);
            scope.spawn(move || {
                // Several reads of a pipeline meet the stripe in one turn or
                // in several, of an atomic batch always in one.
                let read = names.iter().map(Op::get).fold(Batch::atomic(), Batch::with);
                for _ in 0..500 {
                    let Outcome::Ran(replies) = now(store.batch(read.clone())).unwrap() else {
                        panic!("no condition was given");
                    };
                    let values = replies.into_iter().map(|reply| reply.into_value().unwrap());
                    let values: std::collections::BTreeSet<_> = values.collect();
                    assert_eq!(values.len(), 1, "{values:?}");
                }
            });
        }
    });
}

#[tokio::test]
async fn every_operation_of_an_atomic_batch_runs_after_a_failed_one() {
    let store = Store::evicting();
    store.put("{t}a", "x", Ttl::Never).await;
    let batch = Batch::atomic()
        .with(Op::Add { key: key("{t}a"), by: 1, ttl: Ttl::Keep })
        .with(Op::put(key("{t}b"), "1"))
        .with(Op::HashLen { key: key("{t}a") });
    let Outcome::Ran(replies) = store.batch(batch).await.unwrap() else { panic!() };
    let shown: Vec<_> = replies.iter().map(|reply| format!("{reply:?}")).collect();
    assert!(shown[0].starts_with("Failed(Invalid"), "{shown:?}");
    assert_eq!(shown[1], "Applied(true)");
    assert!(shown[2].starts_with("Failed(WrongType"), "{shown:?}");
    assert_eq!(store.get("{t}b").await, Some("1".into()));
}

/// Fills what is left of a store, down to the last few bytes.
async fn fill(store: &Store) {
    let mut size = 16 * 1024;
    for each in 0.. {
        if let Reply::Failed(_) = store.put(&format!("f{each}"), vec![0; size], Ttl::Never).await {
            if size == 0 {
                return;
            }
            size /= 2;
        }
    }
}

#[tokio::test]
async fn what_makes_nothing_larger_works_in_a_full_store() {
    let store = Store::refusing();
    let (ttl, mode) = (Ttl::Keep, SortedMode::Always);
    let [long, middle] = [3_000, 2_000].map(|size| Bytes::from(vec![b'x'; size]));
    let hash = |fields: &[(&'static str, &Bytes)]| {
        let field = |(name, value): &(&'static str, &Bytes)| (Bytes::from(*name), (*value).clone());
        Op::HashPut { key: key("h"), fields: fields.iter().map(field).collect(), ttl }
    };
    let (one, short) = (Bytes::from("1"), Bytes::from("22"));
    let members = vec![long.clone(), short.clone()];
    let entries = |score| members.iter().map(|each| Scored::new(score, each.clone())).collect();
    let add = |by| Op::HashAdd { key: key("h"), field: "n".into(), by, ttl };
    for op in [
        hash(&[("a", &long), ("b", &long), ("n", &one)]),
        Op::SetAdd { key: key("s"), members: members.clone(), ttl },
        Op::SortedPut { key: key("r"), entries: entries(1.0), mode, ttl },
    ] {
        store.run(op).await.into_count().unwrap();
    }
    fill(&store).await;
    let full = store.stats().bytes;
    for op in [
        hash(&[("a", &long)]),
        hash(&[("a", &short), ("c", &middle)]),
        hash(&[("a", &long), ("a", &short), ("b", &middle), ("c", &long)]),
        Op::SetAdd { key: key("s"), members: [members.clone(), members.clone()].concat(), ttl },
        Op::SortedPut { key: key("r"), entries: entries(2.0), mode, ttl },
        Op::SortedPut { key: key("none"), entries: entries(2.0), mode: SortedMode::IfPresent, ttl },
    ] {
        store.run(op).await.into_count().unwrap();
    }
    assert_eq!(store.run(add(8)).await.into_int().unwrap(), 9);
    let by = Op::SortedAdd { key: key("r"), member: short, by: 1.0, ttl };
    assert_eq!(store.run(by).await.into_score().unwrap(), 3.0);
    assert!(store.stats().bytes <= full);
    // A new one of each, and one digit more, are too much.
    let new = Bytes::from(vec![b'y'; 6_000]);
    for op in [
        hash(&[("new", &new)]),
        Op::SetAdd { key: key("s"), members: vec![new.clone()], ttl },
        Op::SortedPut { key: key("r"), entries: vec![Scored::new(1.0, new.clone())], mode, ttl },
        Op::ListPush { key: key("l"), end: End::Left, values: vec![new], ttl },
    ] {
        assert_eq!(failed(store.run(op).await), ErrorKind::Exhausted);
    }
    store.assert_sound();
}

#[tokio::test]
async fn an_atomic_batch_without_room_is_refused_as_a_whole() {
    let store = Store::refusing();
    let put = |name, size: usize| Op::put(key(name), vec![b'x'; size]);
    store.put("{t}a", vec![0; 9_000], Ttl::secs(9)).await;
    let fields = vec![("f".into(), "1".into())];
    store.run(Op::HashPut { key: key("{t}h"), fields, ttl: Ttl::Keep }).await;
    fill(&store).await;
    let stats = store.stats();
    let batch = |size| {
        Batch::atomic()
            .with(Op::Remove { key: key("{t}a") })
            .with(Op::HashRemove { key: key("{t}h"), fields: vec!["f".into()] })
            .with(Op::Expire { key: key("{t}c"), ttl: Ttl::secs(1) })
            .with(put("{t}b", size))
    };
    let refused = store.batch(batch(10_000)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Exhausted);
    assert_eq!(store.get("{t}a").await.unwrap().len(), 9_000);
    assert_eq!(store.lifetime("{t}a").await, Lifetime::Left(9 * SECOND));
    assert!(store.exists("{t}h").await && !store.exists("{t}b").await);
    assert_eq!(store.stats(), stats);
    store.assert_sound();
    // What is removed makes room for the rest.
    assert!(matches!(store.batch(batch(9_000)).await.unwrap(), Outcome::Ran(_)));
    assert!(store.exists("{t}b").await && !store.exists("{t}h").await);
    store.assert_sound();
}

#[test]
fn a_collection_grows_by_what_was_foretold() {
    let mut rng = Rng::seeded(11);
    let (mut hash, mut set, mut sorted) = (Hash::default(), Set::default(), Sorted::default());
    for _ in 0..2_000 {
        let count = rng.below(4) + 1;
        let mut text = |most| Bytes::from("x".repeat(rng.below(most) as usize));
        let members: Vec<_> = (0..count).map(|_| text(12)).collect();
        let fields: Vec<_> = members.iter().map(|name| (name.clone(), text(40))).collect();
        let entries: Vec<_> =
            members.iter().map(|name| Scored::new(text(9).len() as f64, name.clone())).collect();
        let mode = [SortedMode::Always, SortedMode::IfAbsent, SortedMode::IfPresent][text(3).len()];
        let foretold = [hash.growth(&fields), set.growth(&members), sorted.growth(&entries, mode)];
        let before = [hash.bytes, set.bytes, sorted.bytes];
        hash.put(&fields);
        set.add(&members);
        sorted.put(&entries, mode);
        let after = [hash.bytes, set.bytes, sorted.bytes];
        let grown = [0, 1, 2].map(|each| u64::saturating_sub(after[each], before[each]));
        assert_eq!(grown, foretold);
        // Some go again, so that there is always something new.
        hash.remove(&members[..1]);
        set.remove(&members[..1]);
        sorted.remove(&members[..1]);
    }
}
