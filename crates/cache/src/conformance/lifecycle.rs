use trine_core::{Deadline, HealthStatus, Service, State};

use super::{
    Batch, CacheService, Duration, ErrorKind, Fixture, Key, Op, Ttl, assert_invalid, get, key, put,
    run,
};

/// A handle that is not running says why.
pub async fn nothing_is_answered_before_start_and_after_shutdown(fixture: Fixture) {
    let cache = CacheService::open(&fixture.config, fixture.deps.clone()).unwrap();
    assert_eq!(cache.state(), State::Created);
    assert_eq!(cache.get_bytes("a").await.unwrap_err().kind(), ErrorKind::Unavailable);
    cache.start().await.unwrap();
    cache.start().await.unwrap();
    put(&cache, "a", "x").await;
    let deadline = Deadline::after(Duration::from_secs(10));
    cache.shutdown(deadline).await.unwrap();
    cache.shutdown(deadline).await.unwrap();
    assert_eq!(cache.state(), State::Closed);
    assert_eq!(cache.get_bytes("a").await.unwrap_err().kind(), ErrorKind::Closed);
    let scan = cache.scan("", crate::Cursor::first(), 1).await;
    assert_eq!(scan.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(cache.start().await.unwrap_err().kind(), ErrorKind::Closed);
}

/// Without any key or value in it.
pub async fn health_and_metrics_show_the_work(fixture: Fixture) {
    let cache = fixture.start().await;
    let health = cache.health().await;
    assert_eq!(health.status, HealthStatus::Up, "{health:?}");
    for detail in ["backend", "shared", "version", "identity", "durability", "evicts"] {
        assert!(health.details.contains_key(detail), "{detail}: {health:?}");
    }
    assert!(!cache.facts().unwrap().evicts);
    put(&cache, "hidden", "secret").await;
    get(&cache, "hidden").await;
    get(&cache, "absent").await;
    let metrics = Service::metrics(&cache);
    let text = metrics.to_prometheus();
    for name in [
        "trine_cache_operations_total",
        "trine_cache_operation_duration_seconds",
        "trine_cache_reads_total",
        "trine_cache_evicted",
        "trine_cache_expired",
    ] {
        assert!(text.contains(name), "{name}: {text}");
    }
    assert!(!text.contains("hidden") && !text.contains("secret"), "{text}");
    // Several operations count as the first of them that failed.
    let text = Op::get(key("hidden"));
    let wrong = Op::SetLen { key: key("hidden") };
    run(&cache, Batch::pipelined().with(text.clone()).with(wrong.clone())).await;
    run(&cache, Batch::atomic().with(text).with(wrong)).await;
    let text = Service::metrics(&cache).to_prometheus();
    for operation in ["pipeline", "atomic"] {
        let labels = format!("operation=\"{operation}\",outcome=\"invalid\"}} 1\n");
        assert!(text.contains(&labels), "{operation}: {text}");
    }
}

/// And the error says why.
pub async fn keys_that_can_never_be_are_refused(fixture: Fixture) {
    let cache = fixture.start().await;
    let long = "x".repeat(Key::MAX + 1);
    for name in ["", "{", "a}", "{}", "{a}{b}", &long] {
        assert_invalid(cache.get_bytes(name).await);
        assert_invalid(cache.put(name, &1, Ttl::Never).await);
        assert_invalid(cache.get_many::<u32>(["a", name]).await);
        assert_invalid(cache.hash(name));
    }
    put(&cache, &"x".repeat(Key::MAX), "longest").await;
    put(&cache, "ключ {тег} \u{1f600}\0\n", "any text").await;
    assert_eq!(get(&cache, "ключ {тег} \u{1f600}\0\n").await.as_deref(), Some("any text"));
}
