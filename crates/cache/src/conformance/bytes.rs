use serde::{Deserialize, Serialize};
use trine_core::{ErrorKind, Size};

use super::{Batch, Fixture, Op, Ttl, assert_invalid, get, key, put, run};
use crate::{Expected, Presence, PutMode, PutOutcome};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct User {
    name: String,
    age: u32,
}

fn ada() -> User {
    User { name: "Ada".to_owned(), age: 36 }
}

/// What was put is read, until it is removed.
pub async fn bytes_are_put_read_and_removed(fixture: Fixture) {
    let cache = fixture.start().await;
    assert_eq!(cache.get_bytes("a").await.unwrap(), None);
    put(&cache, "a", "one").await;
    put(&cache, "b", "two").await;
    put(&cache, "a", "three").await;
    assert_eq!(get(&cache, "a").await.as_deref(), Some("three"));
    assert_eq!(get(&cache, "b").await.as_deref(), Some("two"));
    assert!(cache.has("a").await.unwrap());
    assert_eq!(cache.remove("a").await.unwrap(), Presence::Present);
    assert_eq!(cache.remove("a").await.unwrap(), Presence::Absent);
    assert!(!cache.has("a").await.unwrap());
    assert_eq!(cache.remove_many(["a", "b", "c"]).await.unwrap(), 1);
    assert_eq!(get(&cache, "b").await, None);
}

/// Values are what serde makes of them; an absent one is not a null.
pub async fn values_are_kept_as_json(fixture: Fixture) {
    let cache = fixture.start().await;
    cache.put("user", &ada(), Ttl::Never).await.unwrap();
    assert_eq!(cache.get::<User>("user").await.unwrap(), Some(ada()));
    assert_eq!(get(&cache, "user").await.as_deref(), Some(r#"{"name":"Ada","age":36}"#));
    cache.put("none", &None::<User>, Ttl::Never).await.unwrap();
    assert_eq!(cache.get::<Option<User>>("none").await.unwrap(), Some(None));
    assert_eq!(cache.get::<Option<User>>("absent").await.unwrap(), None);
}

/// What is no `T` is an error that does not show what is stored.
pub async fn a_value_of_another_shape_is_a_codec_error(fixture: Fixture) {
    let cache = fixture.start().await;
    put(&cache, "a", r#"{"name":"secret"}"#).await;
    let error = cache.get::<User>("a").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Codec);
    let text = trine_core::Report(&error).to_string();
    assert!(text.contains("key `a`") && !text.contains("secret"), "{text}");
    cache.put_bytes("b", vec![0xff], Ttl::Never).await.unwrap();
    assert_eq!(cache.get_text("b").await.unwrap_err().kind(), ErrorKind::Codec);
    assert_eq!(cache.get::<User>("b").await.unwrap_err().kind(), ErrorKind::Codec);
}

/// A put that its mode forbids changes nothing.
pub async fn modes_of_a_put_are_kept(fixture: Fixture) {
    let cache = fixture.start().await;
    let put = async |value: u32, mode| cache.put_if("a", &value, Ttl::Never, mode).await.unwrap();
    assert_eq!(put(1, PutMode::IfPresent).await, PutOutcome::Kept);
    assert_eq!(cache.get::<u32>("a").await.unwrap(), None);
    assert_eq!(put(2, PutMode::IfAbsent).await, PutOutcome::Stored);
    assert_eq!(put(3, PutMode::IfAbsent).await, PutOutcome::Kept);
    assert_eq!(cache.get::<u32>("a").await.unwrap(), Some(2));
    assert_eq!(put(4, PutMode::IfPresent).await, PutOutcome::Stored);
    assert_eq!(cache.get::<u32>("a").await.unwrap(), Some(4));
}

/// Two steps that others cannot get in between.
pub async fn bytes_are_swapped_and_taken(fixture: Fixture) {
    let cache = fixture.start().await;
    assert_eq!(cache.swap("a", &1, Ttl::Never).await.unwrap(), None);
    assert_eq!(cache.swap("a", &2, Ttl::Never).await.unwrap(), Some(1));
    assert_eq!(cache.take::<u32>("a").await.unwrap(), Some(2));
    assert_eq!(cache.take::<u32>("a").await.unwrap(), None);
}

/// One reply for each key, the absent ones among them.
pub async fn several_values_are_read_in_their_order(fixture: Fixture) {
    let cache = fixture.start().await;
    let names: Vec<_> = (0..1_000).map(|number| format!("many:{number}")).collect();
    let values: Vec<u32> = (0..1_000).collect();
    let even = names.iter().zip(&values).filter(|(_, value)| **value % 2 == 0);
    cache.put_many(even.map(|(name, value)| (name.as_str(), value)), Ttl::Never).await.unwrap();
    let found = cache.get_many::<u32>(&names).await.unwrap();
    let expected: Vec<_> = values.iter().map(|value| (value % 2 == 0).then_some(*value)).collect();
    assert_eq!(found, expected);
    let none: [&str; 0] = [];
    assert!(cache.get_many::<u32>(none).await.unwrap().is_empty());
    let twice = cache.get_many_bytes(["many:0", "many:0"]).await.unwrap();
    assert!(twice.iter().all(Option::is_some));
}

/// Each addition counts once, also when many do it.
pub async fn numbers_are_added(fixture: Fixture) {
    let cache = fixture.start().await;
    assert_eq!(cache.add("n", 5, Ttl::Default).await.unwrap(), 5);
    assert_eq!(cache.add("n", -7, Ttl::Default).await.unwrap(), -2);
    assert_eq!(get(&cache, "n").await.as_deref(), Some("-2"));
    let adding = (0..16).map(|_| async {
        for _ in 0..25 {
            cache.add("sum", 1, Ttl::Default).await.unwrap();
        }
    });
    futures_util::future::join_all(adding).await;
    assert_eq!(cache.get::<i64>("sum").await.unwrap(), Some(400));
}

/// Text and overflow are refused, and what is there stays.
pub async fn what_is_no_number_is_not_added_to(fixture: Fixture) {
    let cache = fixture.start().await;
    for text in ["", "x", "1.5", " 1", "01", "+1", "9223372036854775808"] {
        put(&cache, "n", text).await;
        assert_invalid(cache.add("n", 1, Ttl::Default).await);
        assert_eq!(get(&cache, "n").await.as_deref(), Some(text));
    }
    put(&cache, "n", &i64::MAX.to_string()).await;
    assert_invalid(cache.add("n", 1, Ttl::Default).await);
    assert_eq!(cache.add("n", 0, Ttl::Default).await.unwrap(), i64::MAX);
    put(&cache, "n", &i64::MIN.to_string()).await;
    assert_invalid(cache.add("n", -1, Ttl::Default).await);
}

/// Of many who expect the same, one succeeds.
pub async fn a_value_is_replaced_only_if_it_is_as_expected(fixture: Fixture) {
    let cache = fixture.start().await;
    let swap = async |expected: Option<u32>, value: u32| {
        cache.compare_and_put("a", expected.as_ref(), &value, Ttl::Never).await.unwrap()
    };
    assert_eq!(swap(Some(1), 2).await, PutOutcome::Kept);
    assert_eq!(swap(None, 1).await, PutOutcome::Stored);
    assert_eq!(swap(None, 2).await, PutOutcome::Kept);
    assert_eq!(swap(Some(1), 2).await, PutOutcome::Stored);
    let racing = futures_util::future::join_all((10..26).map(|value| swap(Some(2), value))).await;
    let stored = racing.iter().filter(|outcome| **outcome == PutOutcome::Stored).count();
    assert_eq!(stored, 1);
}

/// Any bytes are a value.
pub async fn values_may_be_empty_binary_and_large(fixture: Fixture) {
    let cache = fixture.start().await;
    let all: Vec<u8> = (0..=255).collect();
    let large = all.repeat(2_000);
    for value in [Vec::new(), all, large] {
        cache.put_bytes("a", value.clone(), Ttl::Never).await.unwrap();
        assert_eq!(cache.get_bytes("a").await.unwrap().unwrap(), value);
        let expected = Expected::Value(value.clone().into());
        let batch = Batch::atomic().with(Op::get(key("a"))).when(key("a"), expected);
        let reply = run(&cache, batch).await.pop().unwrap();
        assert_eq!(reply.into_value().unwrap().unwrap(), value);
    }
}

/// The bound of the configuration holds for every value.
pub async fn oversized_values_are_refused(fixture: Fixture) {
    let cache = fixture.start_with(|config| config.max_value = Size::bytes(100)).await;
    put(&cache, "a", &"x".repeat(100)).await;
    let large = "x".repeat(101);
    let text = assert_invalid(cache.put_bytes("a", large.clone(), Ttl::Never).await);
    assert!(text.contains("key `a`") && text.contains("max_value"), "{text}");
    assert_invalid(cache.hash("h").unwrap().put("f", &large).await);
    assert_invalid(cache.set("s").unwrap().add([large.clone()]).await);
    let list = cache.list("l").unwrap();
    assert_invalid(list.push(crate::End::Left, &large).await);
    assert_eq!(get(&cache, "a").await.unwrap().len(), 100);
}
