use ::bytes::Bytes;

use super::{Fixture, Ttl, assert_invalid, get, put};
use crate::{End, PutOutcome, SortedMode};

/// Written, read and removed one by one and together.
pub async fn hashes_have_fields(fixture: Fixture) {
    let cache = fixture.start().await;
    let hash = cache.hash("h").unwrap();
    assert_eq!(hash.get::<u32>("a").await.unwrap(), None);
    assert!(hash.all::<u32>().await.unwrap().is_empty());
    assert_eq!(hash.put_many([("a", &1), ("b", &2)]).await.unwrap(), 2);
    assert_eq!(hash.put_many([("b", &3), ("c", &4)]).await.unwrap(), 1);
    assert_eq!(hash.put_new("c", &9).await.unwrap(), PutOutcome::Kept);
    assert_eq!(hash.put_new("d", &5).await.unwrap(), PutOutcome::Stored);
    let found = hash.get_many::<u32>(["d", "x", "b"]).await.unwrap();
    assert_eq!(found, [Some(5), None, Some(3)]);
    let mut all = hash.all::<u32>().await.unwrap();
    all.sort();
    let expected = [("a", 1), ("b", 3), ("c", 4), ("d", 5)];
    assert_eq!(all, expected.map(|(name, value)| (name.to_owned(), value)));
    assert_eq!(hash.len().await.unwrap(), 4);
    assert_eq!(hash.remove(["a", "x", "c"]).await.unwrap(), 2);
    assert_eq!(hash.len().await.unwrap(), 2);
    let none: [&str; 0] = [];
    assert_invalid(hash.remove(none).await);
    assert_invalid(hash.get_many::<u32>(none).await);
}

/// As numbers under keys are.
pub async fn fields_are_added_to(fixture: Fixture) {
    let cache = fixture.start().await;
    let hash = cache.hash("h").unwrap();
    assert_eq!(hash.add("n", 5).await.unwrap(), 5);
    assert_eq!(hash.add("n", -6).await.unwrap(), -1);
    hash.put("text", "x").await.unwrap();
    assert_invalid(hash.add("text", 1).await);
    hash.put("n", &i64::MAX).await.unwrap();
    assert_invalid(hash.add("n", 1).await);
    assert_eq!(hash.get::<i64>("n").await.unwrap(), Some(i64::MAX));
}

/// Every field that stays is yielded, small hash or large.
pub async fn a_hash_is_read_page_by_page(fixture: Fixture) {
    let cache = fixture.start().await;
    for count in [3_u32, 2_000] {
        let hash = cache.hash(format!("h{count}")).unwrap();
        let values: Vec<u32> = (0..count).collect();
        let fields = values.iter().map(|value| (value.to_string(), value));
        hash.put_many(fields).await.unwrap();
        let (mut found, mut cursor) = (std::collections::BTreeSet::new(), Bytes::new());
        loop {
            let (page, next) = hash.scan::<u32>(cursor, 100).await.unwrap();
            found.extend(page.into_iter().map(|(_, value)| value));
            hash.put("new", &count).await.unwrap();
            match next {
                Some(next) => cursor = next,
                None => break,
            }
        }
        assert!(values.iter().all(|value| found.contains(value)));
    }
    let (one, _) = cache.hash("h3").unwrap().scan::<u32>(Bytes::new(), 0).await.unwrap();
    assert!(!one.is_empty());
    let absent = cache.hash("absent").unwrap();
    assert_eq!(absent.scan::<u32>(Bytes::new(), 10).await.unwrap(), (Vec::new(), None));
}

/// However often they are added.
pub async fn sets_have_members_once(fixture: Fixture) {
    let cache = fixture.start().await;
    let set = cache.set("s").unwrap();
    assert_eq!(set.add(["a", "b", "a"]).await.unwrap(), 2);
    assert_eq!(set.add(["b", "c"]).await.unwrap(), 1);
    assert_eq!(set.has_many(["a", "x", "c"]).await.unwrap(), [true, false, true]);
    assert!(set.has("b").await.unwrap());
    let mut all = set.all().await.unwrap();
    all.sort();
    assert_eq!(all, ["a", "b", "c"]);
    let mut random = set.random(2).await.unwrap();
    random.sort();
    random.dedup();
    assert_eq!(random.len(), 2);
    assert_eq!(set.random(9).await.unwrap().len(), 3);
    assert_eq!(set.remove(["a", "x"]).await.unwrap(), 1);
    assert_eq!(set.len().await.unwrap(), 2);
    let mut popped = set.pop(9).await.unwrap();
    popped.sort();
    assert_eq!(popped, ["b", "c"]);
    assert_eq!(set.len().await.unwrap(), 0);
    assert!(set.all().await.unwrap().is_empty() && set.random(1).await.unwrap().is_empty());
}

/// At both ends, with positions from both.
pub async fn lists_are_pushed_popped_and_cut(fixture: Fixture) {
    let cache = fixture.start().await;
    let list = cache.list("l").unwrap();
    assert_eq!(list.push_many(End::Right, &[3, 4, 5]).await.unwrap(), 3);
    assert_eq!(list.push_many(End::Left, &[2, 1]).await.unwrap(), 5);
    assert_eq!(list.range::<u32>(0, -1).await.unwrap(), [1, 2, 3, 4, 5]);
    assert_eq!(list.range::<u32>(-2, 99).await.unwrap(), [4, 5]);
    assert_eq!(list.range::<u32>(-99, 1).await.unwrap(), [1, 2]);
    assert!(list.range::<u32>(3, 1).await.unwrap().is_empty());
    assert!(list.range::<u32>(9, 99).await.unwrap().is_empty());
    assert_eq!(list.get::<u32>(-1).await.unwrap(), Some(5));
    assert_eq!(list.get::<u32>(5).await.unwrap(), None);
    assert_eq!(list.pop::<u32>(End::Left).await.unwrap(), Some(1));
    assert_eq!(list.pop_many::<u32>(End::Right, 2).await.unwrap(), [5, 4]);
    assert_eq!(list.pop_many::<u32>(End::Left, 9).await.unwrap(), [2, 3]);
    assert_eq!(list.pop::<u32>(End::Left).await.unwrap(), None);
    assert_eq!(list.len().await.unwrap(), 0);

    list.push_many(End::Right, &[7, 1, 7, 2, 7]).await.unwrap();
    assert_eq!(list.remove(&7, 1).await.unwrap(), 1);
    assert_eq!(list.range::<u32>(0, -1).await.unwrap(), [1, 7, 2, 7]);
    assert_eq!(list.remove(&7, -1).await.unwrap(), 1);
    assert_eq!(list.range::<u32>(0, -1).await.unwrap(), [1, 7, 2]);
    list.push(End::Left, &7).await.unwrap();
    assert_eq!(list.remove(&7, 0).await.unwrap(), 2);
    list.push_many(End::Right, &[7, 7]).await.unwrap();
    assert_eq!(list.remove(&7, i64::MIN).await.unwrap(), 2);
    list.trim(-1, -1).await.unwrap();
    assert_eq!(list.range::<u32>(0, -1).await.unwrap(), [2]);
    list.trim(1, 0).await.unwrap();
    assert!(!cache.has("l").await.unwrap());
}

/// Whichever operation took the last one.
pub async fn a_collection_without_members_does_not_exist(fixture: Fixture) {
    let cache = fixture.start().await;
    let (hash, set) = (cache.hash("h").unwrap(), cache.set("s").unwrap());
    let (list, ranking) = (cache.list("l").unwrap(), cache.ranking("r").unwrap());
    hash.put("f", &1).await.unwrap();
    set.add(["m"]).await.unwrap();
    list.push(End::Left, &1).await.unwrap();
    ranking.put([("m", 1.0)]).await.unwrap();
    hash.remove(["f"]).await.unwrap();
    set.remove(["m"]).await.unwrap();
    list.pop::<u32>(End::Left).await.unwrap();
    ranking.remove(["m"]).await.unwrap();
    for name in ["h", "s", "l", "r"] {
        assert!(!cache.has(name).await.unwrap(), "{name}");
    }
    ranking.put_if([("m", 1.0)], SortedMode::IfPresent).await.unwrap();
    assert!(!cache.has("r").await.unwrap());
}

/// And the error says which key, and what was expected.
pub async fn another_type_under_a_key_is_refused_and_stays(fixture: Fixture) {
    let cache = fixture.start().await;
    put(&cache, "text", "x").await;
    cache.set("set").unwrap().add(["m"]).await.unwrap();
    let text = assert_invalid(cache.hash("text").unwrap().put("f", &1).await);
    assert!(text.contains("key `text`") && text.contains("a hash"), "{text}");
    assert_invalid(cache.set("text").unwrap().add(["m"]).await);
    assert_invalid(cache.list("text").unwrap().push(End::Left, &1).await);
    assert_invalid(cache.ranking("text").unwrap().put([("m", 1.0)]).await);
    assert_invalid(cache.hash("set").unwrap().get::<u32>("f").await);
    assert_invalid(cache.get_bytes("set").await);
    assert_invalid(cache.add("set", 1, Ttl::Default).await);
    assert_invalid(cache.take::<u32>("set").await);
    assert_invalid(cache.swap("set", &1, Ttl::Never).await);
    assert_eq!(get(&cache, "text").await.as_deref(), Some("x"));
    assert_eq!(cache.set("set").unwrap().len().await.unwrap(), 1);
    let many = cache.get_many_bytes(["set", "text"]).await.unwrap();
    assert_eq!(many, [None, Some(Bytes::from_static(b"x"))]);
    // A whole value takes the place of anything.
    put(&cache, "set", "y").await;
    assert_eq!(get(&cache, "set").await.as_deref(), Some("y"));
}
