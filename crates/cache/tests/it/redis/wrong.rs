//! What cannot be: errors name what is wrong, on which cache, in which call.

use std::time::Duration;

use trine_cache::{Batch, CacheConfig, CacheDeps, CacheService, Op, Outcome, Ttl};
use trine_core::{ErrorKind, Fence, Report};
use trine_redis::{RedisDeps, RedisService};
use trine_testkit::{Proxy, Redis, RedisCluster};

use crate::support::{Opened, assert_kind, single, until, until_works};

#[trine_testkit::test]
async fn what_others_stored_is_refused_by_its_key() {
    let server = Redis::start().await.unwrap();
    let opened = Opened::new(&single(server.url())).await;
    let cache = &opened.cache;
    for words in [
        ["SET", "test:it:cache.default:broken", "{\"secret\": hunter2"],
        ["SET", "test:it:cache.default:text", "not a number"],
        ["SADD", "test:it:cache.default:set", "member"],
    ] {
        server.admin(&words).await.unwrap();
    }
    let error = assert_kind(cache.get::<Vec<u8>>("broken").await, ErrorKind::Codec);
    let text = Report(&error).to_string();
    assert!(text.starts_with("cache.default get: key `broken`"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
    let error = assert_kind(cache.get::<u32>("set").await, ErrorKind::Invalid);
    let text = error.to_string();
    assert!(text.starts_with("cache.default get: key `set` holds"), "{text}");
    let error = assert_kind(cache.hash("text").unwrap().add("f", 1).await, ErrorKind::Invalid);
    let text = error.to_string();
    assert!(text.starts_with("cache.default hash_add: key `text` holds"), "{text}");
    let error = assert_kind(cache.add("text", 1, Ttl::Never).await, ErrorKind::Invalid);
    let text = error.to_string();
    assert!(text.starts_with("cache.default add: key `text`"), "{text}");
    let error = assert_kind(cache.add("text", 1, Ttl::secs(5)).await, ErrorKind::Invalid);
    let text = error.to_string();
    assert!(text.starts_with("cache.default add: key `text`"), "{text}");
    // What was refused is as it was.
    assert_eq!(cache.get_text("text").await.unwrap().as_deref(), Some("not a number"));
    opened.close().await;
}

#[trine_testkit::test]
async fn a_key_with_stray_braces_is_refused_before_anything_is_sent() {
    let server = Redis::start().await.unwrap();
    let proxy = Proxy::to(server.addr()).await.unwrap();
    let opened = Opened::new(&single(server.url_via(proxy.addr()))).await;
    let cache = &opened.cache;
    let sent = proxy.bytes().requests;
    for text in ["a{b", "a}b", "{}a", "{a}{b}", "{{a}}", "}a{"] {
        let error = assert_kind(cache.put(text, &1, Ttl::Never).await, ErrorKind::Invalid);
        assert!(error.to_string().contains(text), "{error}");
        assert_kind(cache.hash(text), ErrorKind::Invalid);
    }
    let far = ["{a}x", "{b}x"].map(|text| Op::get(trine_cache::Key::new(text).unwrap()));
    let batch = far.into_iter().fold(Batch::atomic(), Batch::with);
    assert_kind(cache.run(batch).await, ErrorKind::Invalid);
    assert_eq!(proxy.bytes().requests, sent, "something was sent");
    opened.close().await;
}

/// What the pool finds wrong at its start is the pool's to say; the cache tells
/// that it has no Redis, and which cache it is.
#[trine_testkit::test]
async fn a_cache_on_a_redis_that_did_not_start_says_so() {
    let locked = Redis::builder().password("right").start().await.unwrap();
    let cluster = RedisCluster::shared().await.unwrap();
    let plain = Redis::start().await.unwrap();
    let urls = [
        (locked.url().replace("right", "hunter2"), ErrorKind::Denied),
        (plain.url().replace("redis://", "rediss://"), ErrorKind::Unavailable),
        (format!("redis://{}", cluster.addresses()[0]), ErrorKind::Invalid),
        ("redis://127.0.0.1:1".to_owned(), ErrorKind::Unavailable),
    ];
    for (url, kind) in urls {
        let config = single(&*url).with_start_timeout(Duration::from_millis(500));
        let redis = RedisService::open(&config, RedisDeps::default()).unwrap();
        let why = redis.start().await.unwrap_err();
        assert_eq!(why.kind(), kind, "{url}: {}", Report(&why));
        let deps = CacheDeps::default().with_name("cache.shop").with_redis("main", redis.pool());
        let mut config = CacheConfig::redis("main");
        config.start_timeout = Duration::from_millis(200).into();
        let cache = CacheService::open(&config, deps).unwrap();
        let error = assert_kind(cache.start().await, ErrorKind::Unavailable);
        let text = Report(&error).to_string();
        assert!(text.starts_with("cache.shop start: ") && text.contains("not started"), "{text}");
        assert!(!text.contains("hunter2") && !format!("{error:?}").contains("hunter2"));
    }
}

/// What the server takes from an account while it is in use.
#[trine_testkit::test]
async fn an_account_that_is_locked_out_is_denied_by_name() {
    let rules = "on >secret ~* +@all";
    let server = Redis::builder().user("app", rules).start().await.unwrap();
    let opened = Opened::new(&single(server.url_of("app", "secret"))).await;
    let cache = &opened.cache;
    server.admin(&["ACL", "SETUSER", "app", "-info"]).await.unwrap();
    let deps = CacheDeps::default().with_name("cache.shop").with_redis("main", opened.redis.pool());
    let other = CacheService::open(&CacheConfig::redis("main"), deps).unwrap();
    let error = assert_kind(other.start().await, ErrorKind::Denied);
    assert_eq!(error.to_string(), "cache.shop start: access denied");

    server.admin(&["ACL", "SETUSER", "app", "resetpass", ">other"]).await.unwrap();
    assert!(server.kill_connections().await.unwrap() > 0);
    until("a refusal", async || {
        let error = cache.get::<u32>("a").await.unwrap_err();
        let text = format!("{error:?} {}", Report(&error));
        assert!(!text.contains("secret"), "{text}");
        error.kind() == ErrorKind::Denied
    })
    .await;
    server.admin(&["ACL", "SETUSER", "app", ">secret", "+info"]).await.unwrap();
    until_works(cache).await;
    opened.close().await;
}

/// An account that may not do a thing is told so, whatever the form of the call.
#[trine_testkit::test]
async fn a_missing_right_is_denied_in_every_form_of_a_call() {
    let rules = "on >secret ~* +@all -get -mget -set";
    let server = Redis::builder().user("few", rules).start().await.unwrap();
    let opened = Opened::new(&single(server.url_of("few", "secret"))).await;
    let cache = &opened.cache;
    let error = assert_kind(cache.get::<u32>("a").await, ErrorKind::Denied);
    assert!(error.to_string().starts_with("cache.default get: "), "{error}");
    assert_kind(cache.get_many::<u32>(["a", "b"]).await, ErrorKind::Denied);
    assert_kind(cache.get_many::<u32>(["{t}a", "{t}b", "{t}c"]).await, ErrorKind::Denied);
    assert_kind(cache.put("a", &1, Ttl::Never).await, ErrorKind::Denied);
    assert_kind(cache.put_many([("a", &1), ("b", &1)], Ttl::Never).await, ErrorKind::Denied);
    assert_kind(cache.compare_and_put("a", None, &1, Ttl::Never).await, ErrorKind::Denied);
    opened.close().await;
}

/// What was written before a right was missing may not be called undone.
#[trine_testkit::test]
async fn a_right_that_is_missing_half_way_leaves_the_outcome_unknown() {
    let rules = "on >secret ~* +@all -pexpire -persist -set";
    let server = Redis::builder().user("few", rules).start().await.unwrap();
    let opened = Opened::new(&single(server.url_of("few", "secret"))).await;
    let cache = &opened.cache;
    let (unknown, denied) = (ErrorKind::OutcomeUnknown, ErrorKind::Denied);
    // The number is there, its lifetime is not.
    let error = assert_kind(cache.add("n", 1, Ttl::secs(60)).await, unknown);
    assert!(Report(&error).to_string().contains("can't run this command"), "{}", Report(&error));
    assert_kind(cache.add("n", 1, Ttl::Never).await, unknown);
    assert_eq!(cache.add("n", 1, Ttl::Keep).await.unwrap(), 3);
    let hash = cache.hash("h").unwrap().with_ttl(Ttl::IfNew(Duration::from_secs(60)));
    assert_kind(hash.put("f", &1).await, unknown);
    // A lifetime by itself is there or not.
    assert_kind(cache.expire("n", Ttl::secs(60)).await, denied);
    let key = |text| trine_cache::Key::new(text).unwrap();
    let touch = Op::Touch { key: key("n"), ttl: Ttl::secs(60) };
    let outcome = cache.run(Batch::atomic().with(touch).with(Op::get(key("n")))).await.unwrap();
    let Outcome::Ran(replies) = outcome else { panic!("{outcome:?}") };
    let mut replies = replies.into_iter();
    assert_kind(replies.next().unwrap().into_value(), denied);
    assert_eq!(replies.next().unwrap().into_value().unwrap().unwrap(), "3");
    // So is a fence with nothing but reads.
    let fence = Fence::new("lock.default/a", 5).unwrap();
    let owner = cache.fenced(&fence);
    assert_kind(owner.get::<u32>("n").await, denied);
    assert_kind(owner.remove("absent:x").await, unknown);
    let error = assert_kind(owner.remove("n").await, unknown);
    assert!(Report(&error).to_string().contains("the fence was not kept"), "{}", Report(&error));
    assert!(!cache.has("n").await.unwrap());
    // Nor does the first of two become undone if the second is denied.
    server.admin(&["ACL", "SETUSER", "few", "+@all", "-exists"]).await.unwrap();
    let ttl = Ttl::IfNew(Duration::from_secs(60));
    let second = Op::Add { key: key("{t}b"), by: 1, ttl };
    let batch = Batch::atomic().with(Op::put(key("{t}a"), "x")).with(second);
    let outcome = cache.run(batch).await.unwrap();
    let Outcome::Ran(replies) = outcome else { panic!("{outcome:?}") };
    let mut replies = replies.into_iter();
    assert!(replies.next().unwrap().into_applied().unwrap());
    assert_kind(replies.next().unwrap().into_int(), denied);
    assert_eq!(cache.get_text("{t}b").await.unwrap(), None);
    opened.close().await;
}
