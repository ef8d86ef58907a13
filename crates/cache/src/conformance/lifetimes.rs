use trine_core::Span;

use super::{
    Batch, CacheConfig, Duration, Fixture, Op, Ttl, assert_invalid, get, key, panic_with, run,
    scans,
};
use crate::{End, Lifetime, Presence, PutMode};

/// Longer than a store may be late, and short enough to wait for.
const SHORT: Duration = Duration::from_millis(60);
const LONG: Duration = Duration::from_secs(600);

fn left(lifetime: Lifetime) -> Duration {
    match lifetime {
        Lifetime::Left(left) => left,
        other => panic_with(&format!("{other:?}")),
    }
}

/// By any operation.
pub async fn an_ended_entry_is_never_returned(fixture: Fixture) {
    let cache = fixture.start().await;
    for name in ["a", "b", "c", "d", "n"] {
        cache.put(name, &1, Ttl::After(SHORT)).await.unwrap();
    }
    cache.hash("h").unwrap().with_ttl(Ttl::After(SHORT)).put("f", &1).await.unwrap();
    fixture.pass(SHORT * 2).await;
    assert_eq!(get(&cache, "a").await, None);
    assert_eq!(cache.get_many::<u32>(["a", "b"]).await.unwrap(), [None, None]);
    assert!(!cache.has("a").await.unwrap());
    assert_eq!(cache.lifetime("a").await.unwrap(), Lifetime::Absent);
    assert_eq!(cache.expire("b", Ttl::Never).await.unwrap(), Presence::Absent);
    assert_eq!(cache.take::<u32>("c").await.unwrap(), None);
    assert_eq!(cache.remove("d").await.unwrap(), Presence::Absent);
    assert_eq!(cache.add("n", 1, Ttl::Default).await.unwrap(), 1);
    assert_eq!(cache.hash("h").unwrap().len().await.unwrap(), 0);
    let found = cache.compare_and_put("a", None, &2, Ttl::Never).await.unwrap();
    assert_eq!(found, crate::PutOutcome::Stored);
    assert!(scans::scanned(&cache, "", 100).await.iter().eq(["a", "n"]));
}

/// Each of the ways to say how long.
pub async fn lifetimes_are_given_kept_and_removed(fixture: Fixture) {
    let cache = fixture.start().await;
    assert_eq!(cache.lifetime("a").await.unwrap(), Lifetime::Absent);
    cache.put("a", &1, Ttl::Never).await.unwrap();
    assert_eq!(cache.lifetime("a").await.unwrap(), Lifetime::Endless);
    assert_eq!(cache.expire("a", Ttl::After(LONG)).await.unwrap(), Presence::Present);
    let after = left(cache.lifetime("a").await.unwrap());
    assert!(after <= LONG && after > LONG / 2, "{after:?}");

    cache.put("a", &2, Ttl::Keep).await.unwrap();
    assert!(left(cache.lifetime("a").await.unwrap()) <= LONG);
    cache.put("a", &3, Ttl::IfNew(LONG * 5)).await.unwrap();
    assert!(left(cache.lifetime("a").await.unwrap()) <= LONG);
    assert_eq!(cache.touch::<u32>("a", Ttl::After(LONG * 2)).await.unwrap(), Some(3));
    assert!(left(cache.lifetime("a").await.unwrap()) > LONG);
    assert_eq!(cache.touch::<u32>("a", Ttl::Never).await.unwrap(), Some(3));
    assert_eq!(cache.lifetime("a").await.unwrap(), Lifetime::Endless);
    assert_eq!(cache.touch::<u32>("b", Ttl::Never).await.unwrap(), None);
    assert_eq!(cache.expire("b", Ttl::After(LONG)).await.unwrap(), Presence::Absent);

    cache.put("new", &1, Ttl::IfNew(LONG)).await.unwrap();
    assert!(left(cache.lifetime("new").await.unwrap()) <= LONG);
    cache.put("kept", &1, Ttl::Keep).await.unwrap();
    assert_eq!(cache.lifetime("kept").await.unwrap(), Lifetime::Endless);
    cache.put("new", &1, Ttl::Never).await.unwrap();
    assert_eq!(cache.lifetime("new").await.unwrap(), Lifetime::Endless);
}

/// By an operation that creates the key, and by a whole value; not by others.
pub async fn a_default_lifetime_is_given_where_a_key_is_made(fixture: Fixture) {
    let change = |config: &mut CacheConfig| {
        config.default_ttl = Some(Span::from(LONG));
        config.ttl_jitter = 0.0;
    };
    let cache = fixture.start_with(change).await;
    let is_given = async |name: &str| matches!(cache.lifetime(name).await.unwrap(), Lifetime::Left(left) if left <= LONG);
    cache.put("value", &1, Ttl::Default).await.unwrap();
    cache.add("number", 1, Ttl::Default).await.unwrap();
    let (hash, set) = (cache.hash("hash").unwrap(), cache.set("set").unwrap());
    let (list, ranking) = (cache.list("list").unwrap(), cache.ranking("ranking").unwrap());
    hash.put("f", &1).await.unwrap();
    set.add(["m"]).await.unwrap();
    list.push(End::Right, &1).await.unwrap();
    ranking.put([("m", 1.0)]).await.unwrap();
    let names = ["value", "number", "hash", "set", "list", "ranking"];
    for name in names {
        assert!(is_given(name).await, "{name}");
        cache.expire(name, Ttl::Never).await.unwrap();
    }
    cache.add("number", 1, Ttl::Default).await.unwrap();
    hash.put("g", &1).await.unwrap();
    hash.add("h", 1).await.unwrap();
    hash.put_new("i", &1).await.unwrap();
    set.add(["n"]).await.unwrap();
    list.push(End::Right, &1).await.unwrap();
    ranking.put([("n", 1.0)]).await.unwrap();
    ranking.add("n", 1.0).await.unwrap();
    for name in ["number", "hash", "set", "list", "ranking"] {
        assert_eq!(cache.lifetime(name).await.unwrap(), Lifetime::Endless, "{name}");
    }
    cache.put("value", &2, Ttl::Default).await.unwrap();
    assert!(is_given("value").await);
    cache.expire("number", Ttl::Default).await.unwrap();
    assert!(is_given("number").await);
}

/// Whatever the key had.
pub async fn an_explicit_lifetime_always_replaces(fixture: Fixture) {
    let cache = fixture.start().await;
    let (set, list) = (cache.set("set").unwrap(), cache.list("list").unwrap());
    set.add(["m"]).await.unwrap();
    list.push(End::Left, &1).await.unwrap();
    cache.add("n", 1, Ttl::Never).await.unwrap();
    set.clone().with_ttl(Ttl::After(LONG)).add(["m"]).await.unwrap();
    list.clone().with_ttl(Ttl::After(LONG)).push(End::Left, &1).await.unwrap();
    cache.add("n", 1, Ttl::After(LONG)).await.unwrap();
    for name in ["set", "list", "n"] {
        assert!(left(cache.lifetime(name).await.unwrap()) <= LONG, "{name}");
    }
    set.with_ttl(Ttl::Never).add(["o"]).await.unwrap();
    list.with_ttl(Ttl::Never).push(End::Left, &1).await.unwrap();
    cache.add("n", 1, Ttl::Never).await.unwrap();
    for name in ["set", "list", "n"] {
        assert_eq!(cache.lifetime(name).await.unwrap(), Lifetime::Endless, "{name}");
    }
}

/// By itself and in a batch: what is there stays as it is.
pub async fn a_refused_put_changes_no_lifetime(fixture: Fixture) {
    let cache = fixture.start().await;
    cache.put("a", &1, Ttl::After(LONG)).await.unwrap();
    let hash = cache.hash("h").unwrap().with_ttl(Ttl::After(LONG));
    hash.put("f", &1).await.unwrap();
    for ttl in [Ttl::Never, Ttl::Default, Ttl::After(LONG * 9), Ttl::IfNew(LONG * 9), Ttl::Keep] {
        let (value, mode) = ("2".into(), PutMode::IfAbsent);
        let put = Op::Put { key: key("a"), value, ttl, mode };
        let batch = Batch::atomic().with(put.clone()).with(Op::get(key("a")));
        let mut replies = run(&cache, batch).await.into_iter();
        assert!(!replies.next().unwrap().into_applied().unwrap());
        assert!(!run(&cache, Batch::pipelined().with(put)).await.remove(0).into_applied().unwrap());
        let kept = hash.clone().with_ttl(ttl).put_new("f", &2).await.unwrap();
        assert_eq!(kept, crate::PutOutcome::Kept);
        for name in ["a", "h"] {
            let found = left(cache.lifetime(name).await.unwrap());
            assert!(found <= LONG, "{name} {ttl:?}: {found:?}");
        }
    }
}

/// And nothing is written.
pub async fn a_lifetime_out_of_range_is_refused(fixture: Fixture) {
    let cache = fixture.start().await;
    for span in [Duration::ZERO, Duration::from_micros(999), Duration::MAX] {
        assert_invalid(cache.put("a", &1, Ttl::After(span)).await);
        assert_invalid(cache.add("a", 1, Ttl::IfNew(span)).await);
        assert_invalid(cache.expire("a", Ttl::After(span)).await);
    }
    assert!(!cache.has("a").await.unwrap());
    cache.put("a", &1, Ttl::After(Ttl::MAX)).await.unwrap();
    assert!(left(cache.lifetime("a").await.unwrap()) > Ttl::MAX / 2);
}

/// And begin anew as if they had never been.
pub async fn collections_end_as_a_whole(fixture: Fixture) {
    let cache = fixture.start().await;
    let hash = cache.hash("h").unwrap();
    let ranking = cache.ranking("r").unwrap();
    hash.clone().with_ttl(Ttl::After(SHORT)).put("f", &1).await.unwrap();
    ranking.clone().with_ttl(Ttl::After(SHORT)).put([("m", 1.0)]).await.unwrap();
    fixture.pass(SHORT * 2).await;
    assert_eq!(hash.get::<u32>("f").await.unwrap(), None);
    assert_eq!(ranking.rank("m").await.unwrap(), None);
    hash.put("g", &2).await.unwrap();
    assert_eq!(hash.all::<u32>().await.unwrap(), [("g".to_owned(), 2)]);
    assert_eq!(cache.lifetime("h").await.unwrap(), Lifetime::Endless);
}
