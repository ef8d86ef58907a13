use trine_core::{Fence, FenceSink};

use super::{
    Batch, CacheConfig, Duration, Error, ErrorKind, Fixture, Op, Outcome, Ttl, assert_invalid, fmt,
    key, put, scans,
};
use crate::{BackendConfig, Expected};

fn fence(token: u64) -> Fence {
    Fence::new("lock.default/order:42", token).unwrap()
}

fn assert_fenced<T: fmt::Debug>(result: Result<T, Error>) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
}

/// A newer owner's write is the last one.
pub async fn an_old_fence_is_refused_and_changes_nothing(fixture: Fixture) {
    let cache = fixture.start().await;
    cache.fenced(&fence(33)).put("a", "33", Ttl::Never).await.unwrap();
    cache.fenced(&fence(33)).put("a", "33 again", Ttl::Never).await.unwrap();
    cache.fenced(&fence(34)).put("a", "34", Ttl::Never).await.unwrap();
    assert_fenced(cache.fenced(&fence(33)).put("a", "late", Ttl::Never).await);
    assert_fenced(cache.fenced(&fence(33)).remove("a").await);
    assert_fenced(cache.fenced(&fence(33)).get::<String>("a").await);
    let batch = Batch::atomic().with(Op::put(key("a"), "late"));
    assert_fenced(cache.fenced(&fence(1)).run(batch).await);
    assert_eq!(cache.get::<String>("a").await.unwrap().as_deref(), Some("34"));
    let other = Fence::new("lock.default/other", 1).unwrap();
    cache.fenced(&other).put("a", "other", Ttl::Never).await.unwrap();
    // Whichever was said first, the fence or what it guards.
    let late = Batch::atomic().guarded(&fence(33)).with(Op::put(key("a"), "late"));
    assert_fenced(cache.run(late).await);
    let looking = Batch::atomic().when(key("a"), Expected::Present);
    assert_fenced(cache.fenced(&fence(33)).run(looking).await);
    assert_invalid(cache.run(Batch::atomic().guarded(&fence(33))).await);
    assert_eq!(cache.get::<String>("a").await.unwrap().as_deref(), Some("other"));
    // A refused condition shows the fence all the same: the owner was here.
    let batch = Batch::atomic().with(Op::put(key("a"), "35")).when(key("a"), Expected::Absent);
    let refused = cache.fenced(&fence(35)).run(batch).await.unwrap();
    assert!(matches!(refused, Outcome::Refused { condition: 0 }));
    assert_fenced(cache.fenced(&fence(34)).put("a", "late", Ttl::Never).await);
}

/// After it was removed, and after it ended.
pub async fn a_fence_is_remembered_when_the_value_is_gone(fixture: Fixture) {
    let cache = fixture.start().await;
    let short = Duration::from_millis(60);
    cache.fenced(&fence(7)).put("a", "x", Ttl::Never).await.unwrap();
    cache.fenced(&fence(7)).remove("a").await.unwrap();
    assert_fenced(cache.fenced(&fence(6)).put("a", "late", Ttl::Never).await);
    cache.fenced(&fence(8)).put("b", "x", Ttl::After(short)).await.unwrap();
    fixture.pass(short * 2).await;
    assert!(!cache.has("b").await.unwrap());
    assert_fenced(cache.fenced(&fence(7)).put("b", "late", Ttl::Never).await);
    put(&cache, "c", "x").await;
    cache.fenced(&fence(9)).get::<u32>("d").await.unwrap();
    cache.remove("d").await.unwrap();
    assert_fenced(cache.fenced(&fence(8)).put("d", "late", Ttl::Never).await);
}

/// From the moment that `raise` returns, without any write.
pub async fn a_raised_fence_refuses_the_old_owner(fixture: Fixture) {
    let cache = fixture.start().await;
    cache.fenced(&fence(33)).put("a", "33", Ttl::Never).await.unwrap();
    let scope = cache.guarding(["a", "b"]).unwrap();
    scope.raise(&fence(34)).await.unwrap();
    scope.raise(&fence(34)).await.unwrap();
    for name in ["a", "b"] {
        assert_fenced(cache.fenced(&fence(33)).put(name, "late", Ttl::Never).await);
        cache.fenced(&fence(34)).put(name, "34", Ttl::Never).await.unwrap();
    }
    let refused = scope.raise(&fence(33)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Fenced);
    cache.fenced(&fence(1)).put("c", "elsewhere", Ttl::Never).await.unwrap();
}

/// Keys of one tag share what was shown; other keys do not.
pub async fn fences_guard_what_lives_together(fixture: Fixture) {
    let cache = fixture.start().await;
    cache.fenced(&fence(5)).put("{order:42}a", "5", Ttl::Never).await.unwrap();
    assert_fenced(cache.fenced(&fence(4)).put("{order:42}b", "4", Ttl::Never).await);
    cache.fenced(&fence(4)).put("{order:43}a", "4", Ttl::Never).await.unwrap();
    cache.guarding(["x{order:43}"]).unwrap().raise(&fence(5)).await.unwrap();
    assert_fenced(cache.fenced(&fence(4)).put("{order:43}a", "late", Ttl::Never).await);
    // A key that is the tag of others lives with itself.
    cache.fenced(&fence(9)).put("{t}a", "9", Ttl::Never).await.unwrap();
    for other in ["u", "t"] {
        let apart = Batch::atomic().with(Op::get(key("{t}a"))).with(Op::get(key(other)));
        assert_invalid(cache.fenced(&fence(9)).run(apart).await);
        cache.fenced(&fence(8)).put(other, "8", Ttl::Never).await.unwrap();
    }
    assert_fenced(cache.fenced(&fence(8)).put("{t}", "late", Ttl::Never).await);
}

/// As long as what it guards, and `fence_retention` beyond; under a tag, others
/// that never end may have been written.
pub async fn a_fence_mark_ends_after_what_it_guards(fixture: Fixture) {
    let retention = Duration::from_secs(1);
    let short = |config: &mut CacheConfig| match &mut config.backend {
        BackendConfig::Memory(store) => store.fence_retention = retention.into(),
        BackendConfig::Redis(store) => store.fence_retention = retention.into(),
    };
    let cache = fixture.start_with(short).await;
    let (newer, late) = (fence(7), fence(6));
    let owner = cache.fenced(&newer);
    let names = ["removed", "stays", "raised", "read", "{t}removed", "{u}read", "refused"];
    for name in names {
        owner.put(name, "x", Ttl::Never).await.unwrap();
    }
    owner.remove("removed").await.unwrap();
    owner.remove("{t}removed").await.unwrap();
    cache.guarding(["raised"]).unwrap().raise(&newer).await.unwrap();
    owner.get::<String>("read").await.unwrap();
    owner.get::<String>("{u}read").await.unwrap();
    let batch = Batch::atomic().with(Op::put(key("refused"), "y"));
    let refused = owner.run(batch.when(key("refused"), Expected::Absent)).await.unwrap();
    assert!(matches!(refused, Outcome::Refused { condition: 0 }));
    cache.put("{v}endless", "x", Ttl::Never).await.unwrap();
    owner.get::<String>("{v}endless").await.unwrap();
    fixture.pass(retention * 5 / 4).await;
    for name in names {
        let written = cache.fenced(&late).put(name, "late", Ttl::Never).await;
        match name {
            "removed" => written.unwrap(),
            _ => assert_fenced(written),
        }
    }
    assert_fenced(cache.fenced(&late).put("{v}endless", "late", Ttl::Never).await);
}

/// And goes with no prefix.
pub async fn a_fence_mark_is_never_scanned(fixture: Fixture) {
    let cache = fixture.start().await;
    cache.fenced(&fence(5)).put("a", "5", Ttl::Never).await.unwrap();
    assert!(scans::scanned(&cache, "", 1_000).await.iter().eq(["a"]));
    assert_eq!(cache.remove_prefix("").await.unwrap(), 1);
    assert_fenced(cache.fenced(&fence(4)).put("a", "late", Ttl::Never).await);
}
