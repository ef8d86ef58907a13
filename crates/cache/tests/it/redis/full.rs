//! A server without room.

use trine_cache::{Batch, CreateOutcome, Key, Op, Outcome, Sessions, SessionsConfig, Ttl};
use trine_core::{ErrorKind, Fence, FenceSink, HealthStatus, Secret};
use trine_testkit::Redis;

use crate::support::{Opened, assert_kind, single, until_works};

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

#[trine_testkit::test]
async fn a_server_that_evicts_takes_no_fence_and_no_session() {
    let server = Redis::builder().max_memory("64mb", "allkeys-lru").start().await.unwrap();
    let opened = Opened::new(&single(server.url())).await;
    let cache = &opened.cache;
    assert!(cache.facts().unwrap().evicts);
    cache.put("v", "x", Ttl::Never).await.unwrap();
    let fence = Fence::new("lock.default/full", 3).unwrap();
    let owner = cache.fenced(&fence);
    let refused = assert_kind(owner.put("v", "y", Ttl::Never).await, ErrorKind::Unsupported);
    let text = refused.to_string();
    assert!(text.starts_with("cache.default guarded_put: a fenced write"), "{text}");
    assert!(text.contains("a Redis that may evict"), "{text}");
    assert_kind(owner.remove("v").await, ErrorKind::Unsupported);
    assert_kind(owner.get::<String>("v").await, ErrorKind::Unsupported);
    let raised = cache.guarding(["v"]).unwrap().raise(&fence).await.unwrap_err();
    assert_eq!(raised.kind(), ErrorKind::Unsupported, "{raised}");
    assert_eq!(cache.get::<String>("v").await.unwrap().as_deref(), Some("x"));

    let mut config = SessionsConfig::new(Secret::new("k".repeat(32)));
    let sessions = Sessions::<()>::open(cache, &config).unwrap();
    assert_kind(sessions.create("ada", &()).await, ErrorKind::Unsupported);
    config.allow_eviction = true;
    let sessions = Sessions::<()>::open(cache, &config).unwrap();
    let made = sessions.create("ada", &()).await.unwrap();
    assert!(matches!(made, CreateOutcome::Created(_)), "{made:?}");

    // Another setting is noticed by the next look, not before.
    server.admin(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await.unwrap();
    let _look = cache.health().await;
    crate::support::until("the news", async || {
        let _look = cache.health().await;
        owner.put("v", "y", Ttl::Never).await.is_ok()
    })
    .await;
    opened.close().await;
}

#[trine_testkit::test]
async fn a_full_server_refuses_what_grows_and_nothing_else() {
    let server = Redis::start().await.unwrap();
    let opened = Opened::new(&single(server.url())).await;
    let cache = &opened.cache;
    for name in ["v", "w", "{t}a", "{t}b"] {
        cache.put_bytes(name, "1", Ttl::Never).await.unwrap();
    }
    let (hash, list) = (cache.hash("h").unwrap(), cache.list("l").unwrap());
    hash.put("f", "x").await.unwrap();
    list.push_many(trine_cache::End::Left, ["x", "y"]).await.unwrap();
    let fence = Fence::new("lock.default/full", 3).unwrap();
    let owner = cache.fenced(&fence);
    owner.put("g", "x", Ttl::Never).await.unwrap();
    let sessions = SessionsConfig::new(Secret::new("k".repeat(32)));
    let sessions = Sessions::<u32>::open(cache, &sessions).unwrap();
    let CreateOutcome::Created(session) = sessions.create("ada", &7).await.unwrap() else {
        panic!("it was not made")
    };
    let token = session.token.expose();

    // Both with the script known to the server and unknown.
    for flush in [false, true] {
        server.admin(&["CONFIG", "SET", "maxmemory", "1"]).await.unwrap();
        if flush {
            server.admin(&["SCRIPT", "FLUSH"]).await.unwrap();
        }
        let full = |error: trine_cache::Error| {
            assert!(error.to_string().contains("maxmemory of the server"), "{error}");
        };
        full(assert_kind(cache.put("v", "y", Ttl::Never).await, ErrorKind::Exhausted));
        full(assert_kind(cache.add("n", 1, Ttl::Never).await, ErrorKind::Exhausted));
        full(assert_kind(cache.add("n", 1, Ttl::secs(9)).await, ErrorKind::Exhausted));
        full(assert_kind(hash.put("g", "x").await, ErrorKind::Exhausted));
        let entries = [("v", &2), ("w", &2)];
        full(assert_kind(cache.put_many(entries, Ttl::Never).await, ErrorKind::Exhausted));
        let swap = cache.compare_and_put("v", Some(&1), &2, Ttl::Never).await;
        full(assert_kind(swap, ErrorKind::Exhausted));
        full(assert_kind(owner.put("g", "y", Ttl::Never).await, ErrorKind::Exhausted));
        full(assert_kind(sessions.create("bob", &1).await, ErrorKind::Exhausted));
        full(assert_kind(sessions.put(token, &8).await, ErrorKind::Exhausted));

        // What was refused is not there, and what was there still is.
        for name in ["v", "w"] {
            assert_eq!(cache.get_text(name).await.unwrap().as_deref(), Some("1"));
        }
        assert!(!cache.has("n").await.unwrap());
        assert_eq!(cache.get::<String>("g").await.unwrap().as_deref(), Some("x"));
        assert_eq!(hash.len().await.unwrap(), 1);
        assert_eq!(cache.get_many::<u32>(["v", "w"]).await.unwrap(), [Some(1), Some(1)]);
        assert_eq!(sessions.get(token).await.unwrap().unwrap().data, 7);
        assert_eq!(sessions.list("ada").await.unwrap().len(), 1);
        let read = Batch::atomic().with(Op::get(key("{t}a"))).with(Op::get(key("{t}b")));
        let Outcome::Ran(replies) = cache.run(read).await.unwrap() else { panic!() };
        assert!(replies.into_iter().all(|reply| reply.into_value().unwrap().is_some()));
        assert_eq!(cache.health().await.status, HealthStatus::Up);
        server.admin(&["CONFIG", "SET", "maxmemory", "0"]).await.unwrap();
    }

    // What makes room works.
    server.admin(&["CONFIG", "SET", "maxmemory", "1"]).await.unwrap();
    assert_eq!(list.pop::<String>(trine_cache::End::Left).await.unwrap().as_deref(), Some("y"));
    assert_eq!(cache.expire("v", Ttl::secs(60)).await.unwrap(), trine_cache::Presence::Present);
    assert_eq!(cache.remove_many(["v", "w"]).await.unwrap(), 2);
    assert_eq!(cache.remove_prefix("{t}").await.unwrap(), 2);
    assert_eq!(sessions.revoke_all("ada").await.unwrap(), 1);
    server.admin(&["CONFIG", "SET", "maxmemory", "0"]).await.unwrap();
    assert_eq!(cache.add("n", 1, Ttl::Never).await.unwrap(), 1);
    until_works(cache).await;
    opened.close().await;
}

/// A guarded call needs room for its mark: without it nothing is done.
#[trine_testkit::test]
async fn a_guarded_call_on_a_full_server_is_done_with_its_mark_or_not_at_all() {
    let server = Redis::start().await.unwrap();
    let opened = Opened::new(&single(server.url())).await;
    let cache = &opened.cache;
    let fence = |token| Fence::new("lock.default/full", token).unwrap();
    for name in ["a", "b"] {
        cache.fenced(&fence(3)).put(name, "x", Ttl::Never).await.unwrap();
    }
    server.admin(&["CONFIG", "SET", "maxmemory", "1"]).await.unwrap();
    let scope = cache.guarding(["a"]).unwrap();
    let raised = scope.raise(&fence(4)).await.unwrap_err();
    assert_eq!(raised.kind(), ErrorKind::Exhausted, "{raised}");
    let (newer, older) = (fence(5), fence(4));
    let removed = cache.fenced(&newer).remove("b").await;
    server.admin(&["CONFIG", "SET", "maxmemory", "0"]).await.unwrap();
    // Token 4 was not shown, so 3 still writes.
    cache.fenced(&fence(3)).put("a", "y", Ttl::Never).await.unwrap();
    if let Err(error) = removed {
        assert_eq!(error.kind(), ErrorKind::Exhausted, "{error}");
        assert!(cache.has("b").await.unwrap(), "refused and removed");
    } else {
        assert!(!cache.has("b").await.unwrap());
        assert_kind(cache.fenced(&older).put("b", "late", Ttl::Never).await, ErrorKind::Fenced);
    }
    opened.close().await;
}
