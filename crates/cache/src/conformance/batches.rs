use ::bytes::Bytes;
use futures_util::future::join_all;
use trine_core::{ErrorKind, Size};

use super::{Batch, Duration, Fixture, Op, Outcome, Ttl, assert_invalid, get, key, put, run};
use crate::{Expected, PutMode, PutOutcome};

fn add(name: &str, by: i64) -> Op {
    Op::Add { key: key(name), by, ttl: Ttl::Keep }
}

/// Whatever became of the others.
pub async fn a_pipeline_answers_each_operation(fixture: Fixture) {
    let cache = fixture.start().await;
    cache.set("set").unwrap().add(["m"]).await.unwrap();
    let batch = Batch::pipelined()
        .with(Op::put(key("a"), "1"))
        .with(Op::get(key("set")))
        .with(add("a", 4))
        .with(Op::get(key("a")))
        .with(Op::Lookup { key: key("b") })
        .with(Op::Lookup { key: key("a") })
        .with(Op::SetLen { key: key("set") });
    let mut replies = run(&cache, batch).await.into_iter();
    let mut next = || replies.next().unwrap();
    assert!(next().into_applied().unwrap());
    assert_eq!(next().into_value().unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(next().into_int().unwrap(), 5);
    assert_eq!(next().into_value().unwrap().unwrap(), "5");
    assert_eq!(next().into_value().unwrap(), None);
    assert_eq!(next().into_value().unwrap().unwrap(), "5");
    assert_eq!(next().into_count().unwrap(), 1);
    assert!(replies.next().is_none());
    assert!(run(&cache, Batch::pipelined()).await.is_empty());
    assert!(run(&cache, Batch::atomic()).await.is_empty());
}

/// Isolated is not undone: what failed stays failed, the rest stays done.
pub async fn an_atomic_batch_runs_every_operation(fixture: Fixture) {
    let cache = fixture.start().await;
    cache.set("{t}set").unwrap().add(["m"]).await.unwrap();
    let batch = Batch::atomic()
        .with(Op::put(key("{t}a"), "1"))
        .with(add("{t}set", 1))
        .with(add("{t}a", 1))
        .with(Op::SetAll { key: key("{t}set") })
        .with(Op::HashPut {
            key: key("{t}h"),
            fields: vec![("f".into(), "v".into())],
            ttl: Ttl::After(Duration::from_secs(60)),
        })
        .with(Op::HashAll { key: key("{t}h") })
        .with(Op::get(key("{t}absent")))
        .with(Op::Lifetime { key: key("{t}h") });
    let mut replies = run(&cache, batch).await.into_iter();
    let mut next = || replies.next().unwrap();
    assert!(next().into_applied().unwrap());
    assert_eq!(next().into_int().unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(next().into_int().unwrap(), 2);
    assert_eq!(next().into_members().unwrap(), ["m"]);
    assert_eq!(next().into_count().unwrap(), 1);
    assert_eq!(next().into_pairs().unwrap(), [("f".into(), "v".into())]);
    assert_eq!(next().into_value().unwrap(), None);
    assert!(matches!(next().into_lifetime().unwrap(), crate::Lifetime::Left(_)));
    assert_eq!(get(&cache, "{t}a").await.as_deref(), Some("2"));
}

/// Never half: two numbers that change together are equal whenever read.
pub async fn an_atomic_batch_is_seen_as_a_whole(fixture: Fixture) {
    let cache = fixture.start().await;
    let write = || Batch::atomic().with(add("{t}a", 1)).with(add("{t}b", 1));
    let read = || Batch::atomic().with(Op::get(key("{t}a"))).with(Op::get(key("{t}b")));
    run(&cache, write()).await;
    let writers = join_all((0..4).map(|_| async {
        for _ in 0..50 {
            run(&cache, write()).await;
        }
    }));
    let readers = join_all((0..4).map(|_| async {
        for _ in 0..50 {
            let mut replies = run(&cache, read()).await.into_iter();
            let mut next = || replies.next().unwrap().into_value().unwrap().unwrap();
            assert_eq!(next(), next());
        }
    }));
    tokio::join!(writers, readers);
    assert_eq!(get(&cache, "{t}b").await.as_deref(), Some("201"));
}

/// Before anything is written, and says which one it was.
pub async fn a_condition_refuses_the_whole_batch(fixture: Fixture) {
    let cache = fixture.start().await;
    put(&cache, "{t}a", "1").await;
    let batch = |expected| {
        Batch::atomic()
            .with(add("{t}a", 1))
            .with(add("{t}b", 1))
            .when(key("{t}c"), Expected::Absent)
            .when(key("{t}a"), expected)
    };
    let refused = cache.run(batch(Expected::Value("2".into()))).await.unwrap();
    assert!(matches!(refused, Outcome::Refused { condition: 1 }), "{refused:?}");
    assert_eq!(get(&cache, "{t}a").await.as_deref(), Some("1"));
    assert_eq!(get(&cache, "{t}b").await, None);
    assert_eq!(run(&cache, batch(Expected::Value("1".into()))).await.len(), 2);
    assert_eq!(get(&cache, "{t}a").await.as_deref(), Some("2"));
    put(&cache, "{t}c", "x").await;
    let refused = cache.run(batch(Expected::Value("2".into()))).await.unwrap();
    assert!(matches!(refused, Outcome::Refused { condition: 0 }), "{refused:?}");
}

/// Presence is of any type; bytes and fields are of their own.
pub async fn conditions_see_every_type(fixture: Fixture) {
    let cache = fixture.start().await;
    put(&cache, "{t}text", "x").await;
    put(&cache, "{t}empty", "").await;
    cache.set("{t}set").unwrap().add(["m"]).await.unwrap();
    cache.hash("{t}hash").unwrap().put("f", &1).await.unwrap();
    let holds = async |name: &str, expected: Expected| {
        let batch = Batch::atomic().with(Op::Exists { key: key("{t}x") });
        let outcome = cache.run(batch.when(key(name), expected)).await.unwrap();
        matches!(outcome, Outcome::Ran(_))
    };
    let field = |value: Option<&'static str>| Expected::Field {
        field: "f".into(),
        value: value.map(Into::into),
    };
    for name in ["{t}text", "{t}empty", "{t}set", "{t}hash"] {
        assert!(holds(name, Expected::Present).await, "{name}");
        assert!(!holds(name, Expected::Absent).await, "{name}");
    }
    assert!(holds("{t}x", Expected::Absent).await);
    assert!(!holds("{t}x", Expected::Present).await);
    assert!(!holds("{t}x", Expected::Value("".into())).await);
    assert!(holds("{t}empty", Expected::Value("".into())).await);
    assert!(holds("{t}text", Expected::Value("x".into())).await);
    assert!(!holds("{t}set", Expected::Value("m".into())).await);
    assert!(holds("{t}hash", field(Some("1"))).await);
    assert!(!holds("{t}hash", field(Some("2"))).await);
    assert!(!holds("{t}hash", field(None)).await);
    assert!(holds("{t}x", field(None)).await);
    assert!(!holds("{t}x", field(Some(""))).await);
    assert!(!holds("{t}text", field(None)).await);
    assert!(!holds("{t}text", field(Some("x"))).await);
}

/// As large as it is.
pub async fn a_value_that_may_be_stored_may_be_so_in_one_step(fixture: Fixture) {
    let cache = fixture.start_with(|config| config.max_value = Size::bytes(3 << 20)).await;
    let [old, new] = ["a", "b"].map(|letter| letter.repeat((3 << 20) - 2));
    let put = cache.compare_and_put("a", None, &old, Ttl::Never).await.unwrap();
    assert_eq!(put, PutOutcome::Stored);
    let put = cache.compare_and_put("a", Some(&old), &new, Ttl::Never).await.unwrap();
    assert_eq!(put, PutOutcome::Stored);
    assert_eq!(cache.get::<String>("a").await.unwrap().as_ref(), Some(&new));
    let half = |name| Op::put(key(name), vec![b'x'; 3 << 19]);
    let two = Batch::atomic().with(half("{t}a")).with(half("{t}b"));
    run(&cache, two.clone()).await;
    assert_invalid(cache.run(two.with(half("{t}c"))).await);
}

/// On every backend alike, before anything is sent.
pub async fn batches_that_can_never_run_are_refused(fixture: Fixture) {
    let cache = fixture.start().await;
    let apart = Batch::atomic().with(add("a", 1)).with(add("b", 1));
    let text = assert_invalid(cache.run(apart).await);
    assert!(text.contains("`a`") && text.contains("`b`"), "{text}");
    assert_invalid(cache.run(Batch::atomic().with(add("{t}a", 1)).with(add("{u}b", 1))).await);
    // What is a tag in one key is a whole key in the other.
    assert_invalid(cache.run(Batch::atomic().with(add("t", 1)).with(add("{t}a", 1))).await);
    let condition = Batch::pipelined().with(add("a", 1)).when(key("a"), Expected::Absent);
    assert_invalid(cache.run(condition).await);
    let apart = Batch::atomic().with(add("a", 1)).when(key("b"), Expected::Absent);
    assert_invalid(cache.run(apart).await);
    let many = |count| (0..count).fold(Batch::atomic(), |batch, _| batch.with(add("a", 1)));
    assert_invalid(cache.run(many(Batch::MAX_ATOMIC_OPS + 1)).await);
    let members = |count: usize| (0..count).map(|number| number.to_string().into()).collect();
    let add_many = |count| {
        let (members, ttl) = (members(count), Ttl::IfNew(Duration::from_secs(60)));
        Batch::pipelined().with(Op::SetAdd { key: key("s"), members, ttl })
    };
    assert_invalid(cache.run(add_many(Batch::MAX_VALUES + 1)).await);
    let large = vec![b'x'; Batch::MAX_ATOMIC_BYTES / 2 + 1];
    let put = || Op::Put {
        key: key("a"),
        value: large.clone().into(),
        ttl: Ttl::Keep,
        mode: PutMode::Always,
    };
    assert_invalid(cache.run(Batch::atomic().with(put()).with(put())).await);
    // What is expected is bounded as what is written.
    let expecting = |count, value: &Bytes| {
        let batch = Batch::atomic().with(add("{t}a", 1));
        let when = |batch: Batch, number| {
            batch.when(key(&format!("{{t}}{number}")), Expected::Value(value.clone()))
        };
        (0..count).fold(batch, when)
    };
    let value = Bytes::from(large.clone());
    for batch in [expecting(Batch::MAX_ATOMIC_OPS + 1, &"1".into()), expecting(2, &value)] {
        assert_invalid(cache.run(batch).await);
    }
    let text = assert_invalid(cache.run(expecting(1, &vec![0; 1024 * 1024 + 1].into())).await);
    assert!(text.contains("`{t}0`") && text.contains("max_value"), "{text}");
    let outcome = cache.run(expecting(Batch::MAX_ATOMIC_OPS, &"1".into())).await.unwrap();
    assert!(matches!(outcome, Outcome::Refused { condition: 0 }));
    assert!(!cache.has("a").await.unwrap() && !cache.has("s").await.unwrap());
    assert_eq!(run(&cache, many(Batch::MAX_ATOMIC_OPS)).await.len(), Batch::MAX_ATOMIC_OPS);
    assert_eq!(run(&cache, add_many(Batch::MAX_VALUES)).await.len(), 1);
}
