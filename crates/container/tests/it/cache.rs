use serde_json::json;
use trine::{Builder, Cache, Error, Loader};
use trine_cache::{SessionsConfig, Ttl};
use trine_core::{Deadline, HealthStatus, Report};

use crate::fake::SECOND;

#[tokio::test(flavor = "multi_thread")]
async fn each_cache_starts_answers_and_stops_from_its_section() {
    let mut builder = Builder::new();
    let handle = builder.add(Cache::new());
    builder.add_as("catalog", Cache::new());
    let loader = Loader::new().with_defaults(
        "[cache]\nbackend = { kind = 'memory', when_full = 'refuse' }\n\
         [cache.catalog]\nbackend = { kind = 'memory', max_bytes = '1MiB' }",
    );
    let container = builder.configure(&loader).unwrap().build().unwrap();
    container.start().await.unwrap();
    let (main, catalog) =
        (container.cache().unwrap(), container.cache_instance("catalog").unwrap());
    main.put("a", &1, Ttl::secs(60)).await.unwrap();
    assert_eq!(container.get(&handle).unwrap().get("a").await.unwrap(), Some(1));
    assert_eq!(catalog.get::<i32>("a").await.unwrap(), None);
    assert_eq!((main.name(), catalog.name()), ("cache.default", "cache.catalog"));
    let health = container.health().await;
    assert_eq!(health.status, HealthStatus::Up, "{health:?}");
    let text = container.metrics().to_prometheus();
    assert!(text.contains("instance=\"catalog\""), "{text}");
    container.shutdown(Deadline::after(SECOND * 10)).await.unwrap();
}

#[test]
fn typos_and_broken_rules_of_a_cache_are_listed_at_once() {
    let mut builder = Builder::new();
    builder.add(Cache::new());
    builder.add_as("catalog", Cache::new());
    let loader = Loader::new().with_defaults(
        "[cache]\ndefault_tl = '5m'\nbackend = { kind = 'disk' }\n\
         [cache.catalog]\nttl_jitter = 2.0\n\
         backend = { kind = 'memory', max_byts = '1MiB' }",
    );
    let error = builder.configure(&loader).unwrap_err().to_string();
    for expected in [
        "cache.default_tl: unknown key; did you mean `default_ttl`?",
        "cache.backend.kind: expected one of `memory`, `redis`",
        "cache.catalog.ttl_jitter: 2 is not between 0 and 0.5",
        "cache.catalog.backend.max_byts: unknown key; did you mean `max_bytes`?",
    ] {
        assert!(error.contains(expected), "{expected} is not in {error}");
    }
}

#[test]
fn a_cache_that_was_not_added_is_named_by_its_key() {
    let container = Builder::new().configure(&Loader::new()).unwrap().build().unwrap();
    let error = container.cache_instance("catalog").unwrap_err();
    assert!(
        matches!(&error, Error::Missing { key } if key == "cache.catalog"),
        "{}",
        Report(&error)
    );
}

#[test]
fn the_key_of_sessions_never_shows() {
    let read = |toml: &str| {
        let mut builder = Builder::new();
        let section = builder.section::<SessionsConfig>("sessions");
        let loader = Loader::new().with_defaults(toml);
        builder.configure(&loader).map(|configured| configured.section(&section).unwrap())
    };
    let error = read("[sessions]\nkey = 'hunter2'\nidel = '1h'").unwrap_err();
    let (text, debug) = (error.to_string(), format!("{error:?}"));
    for expected in [
        "sessions.key: 7 bytes, expected at least 32",
        "sessions.idel: unknown key; did you mean `idle`?",
    ] {
        assert!(text.contains(expected), "{expected} is not in {text}");
    }
    assert!(!debug.contains("hunter2"), "{debug}");
    let long = "hunter2".repeat(5);
    let config = read(&format!("[sessions]\nkey = '{long}'")).unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[cfg(not(feature = "redis"))]
#[test]
fn a_cache_on_redis_takes_the_feature() {
    let mut builder = Builder::new();
    builder.add(Cache::new());
    let loader = Loader::new().with_override("test", "cache.backend", json!({ "kind": "redis" }));
    let error = builder.configure(&loader).unwrap_err().to_string();
    assert!(error.contains("cache.backend.kind: \"redis\" needs feature redis"), "{error}");
}

#[cfg(feature = "redis")]
mod on_redis {
    use std::time::Duration;

    use tokio::time::{Instant, sleep};
    use trine::{Container, Redis};
    use trine_core::{ErrorKind, Fault, State};

    use super::*;
    use crate::redis::connection;

    /// Five times the 10 s in which it is to be back.
    const BOUND: Duration = Duration::from_secs(50);

    fn builder() -> Builder {
        let mut builder = Builder::new();
        // Before what it needs: the order of adding decides nothing.
        builder.add(Cache::new());
        builder.add_if_configured("main", Redis::new());
        builder
    }

    fn on(namespace: &str, url: &str) -> Loader {
        let backend = json!({ "kind": "redis", "connection": "main" });
        connection(Loader::new(), namespace, url).with_override("test", "cache.backend", backend)
    }

    fn optional(loader: Loader) -> Loader {
        loader.with_override("test", "redis.main.required", false).with_override(
            "test",
            "cache.required",
            false,
        )
    }

    fn built(loader: &Loader) -> Container {
        builder().configure(loader).unwrap().build().unwrap()
    }

    async fn until(container: &Container, what: impl Fn(&Container) -> bool) -> Duration {
        let began = Instant::now();
        while !what(container) {
            assert!(began.elapsed() < BOUND, "{:#?}", container.status());
            sleep(Duration::from_millis(10)).await;
        }
        began.elapsed()
    }

    fn is_running(container: &Container, name: &str) -> bool {
        let services = container.status().services;
        services.iter().any(|service| service.name == name && service.state == State::Running)
    }

    /// Waits until the cache takes a value.
    async fn until_written(container: &Container) {
        let (cache, began) = (container.cache().unwrap(), Instant::now());
        while let Err(error) = cache.put("key", &1, Ttl::secs(60)).await {
            assert!(began.elapsed() < BOUND, "{}", Report(&error));
            sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(cache.get("key").await.unwrap(), Some(1));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_cache_starts_after_its_connection_and_stops_before_it() {
        let server = trine_testkit::Redis::shared().await.unwrap();
        let namespace = server.namespace();
        let container = built(&on(&namespace, &server.url()));
        let status = container.status();
        let cache = status.services.iter().find(|service| service.name == "cache.default");
        assert_eq!(cache.unwrap().needs, ["redis.main"]);
        container.start().await.unwrap();
        until_written(&container).await;
        let key = format!("{namespace}:cache.default:key");
        let kept = server.admin(&["EXISTS", &key]).await.unwrap();
        assert_eq!(kept.integer(), Some(1));
        let redis = container.redis_instance("main").unwrap();
        container.shutdown(Deadline::after(SECOND * 10)).await.unwrap();
        assert_eq!(redis.state(), State::Closed);
        assert_eq!(container.cache().unwrap().state(), State::Closed);
    }

    #[test]
    fn a_connection_that_nothing_defines_is_named_at_its_setting() {
        let said = |toml: &str| {
            let error = builder().configure(&Loader::new().with_defaults(toml)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            error.to_string()
        };
        let error = said("[cache]\nbackend = { kind = 'redis', connection = 'main' }");
        let expected = "cache.backend.connection: there is no table `[redis.main]` to define it";
        assert!(error.contains(expected), "{error}");
        let error = said(
            "[cache]\nbackend = { kind = 'redis', connection = 'mian' }\n\
             [redis.main]\nnamespace = 'x'\nserver = { kind = 'single', url = 'redis://h' }",
        );
        let expected = "cache.backend.connection: there is no table `[redis.mian]` to define it; \
                        did you mean `main`? (defaults of the program)";
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn a_typo_below_a_cache_on_redis_is_named() {
        let loader = on("x", "redis://h").with_override("test", "cache.backend.conection", "main");
        let error = builder().configure(&loader).unwrap_err().to_string();
        let expected = "cache.backend.conection: unknown key; did you mean `connection`?";
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn a_required_cache_on_an_optional_connection_is_refused() {
        let loader = on("x", "redis://h").with_override("test", "redis.main.required", false);
        let error = builder().configure(&loader).unwrap_err().to_string();
        let expected = "cache.required: must be false as long as `redis.main` is optional";
        assert!(error.contains(expected), "{error}");
        assert!(builder().configure(&optional(loader)).is_ok());
    }

    // CO-09, CO-11
    #[tokio::test(flavor = "multi_thread")]
    async fn an_optional_redis_that_dies_leaves_the_process_ready_and_comes_back() {
        let server = trine_testkit::Redis::start().await.unwrap();
        let container = built(&optional(on(&server.namespace(), &server.url())));
        container.start().await.unwrap();
        until(&container, |it| is_running(it, "cache.default")).await;
        until_written(&container).await;
        server.kill().await.unwrap();
        let began = Instant::now();
        while container.health().await.status != HealthStatus::Degraded {
            assert_eq!(container.ready().status, HealthStatus::Up);
            assert!(began.elapsed() < BOUND);
            sleep(Duration::from_millis(50)).await;
        }
        let lost = container.cache().unwrap().get::<i32>("key").await.unwrap_err();
        assert_eq!(lost.kind(), ErrorKind::Unavailable, "{}", Report(&lost));
        assert_eq!(container.ready().status, HealthStatus::Up);
        server.restart().await.unwrap();
        until_written(&container).await;
        let began = Instant::now();
        while container.health().await.status != HealthStatus::Up {
            assert!(began.elapsed() < BOUND);
            sleep(Duration::from_millis(50)).await;
        }
        container.shutdown(Deadline::after(SECOND * 10)).await.unwrap();
    }

    // CO-09, CO-10
    #[tokio::test(flavor = "multi_thread")]
    async fn an_optional_redis_that_is_away_at_the_start_holds_nothing_up_and_comes_later() {
        let server = trine_testkit::Redis::start().await.unwrap();
        server.kill().await.unwrap();
        // Shorter than the outage, so that the cache is tried without it too.
        let loader = optional(on(&server.namespace(), &server.url()))
            .with_override("test", "redis.main.start_timeout", "300ms")
            .with_override("test", "cache.start_timeout", "300ms");
        let container = built(&loader);
        container.start().await.unwrap();
        assert_eq!(container.ready().status, HealthStatus::Up);
        let is_tried = |it: &Container| {
            let services = it.status().services;
            services.iter().all(|service| service.error.is_some())
        };
        until(&container, is_tried).await;
        let health = container.health().await;
        assert_eq!(health.status, HealthStatus::Degraded, "{health:?}");
        assert_eq!(container.ready().status, HealthStatus::Up);
        let away = container.cache().unwrap().get::<i32>("key").await.unwrap_err();
        assert_eq!(away.kind(), ErrorKind::Unavailable, "{}", Report(&away));
        server.restart().await.unwrap();
        until(&container, |it| is_running(it, "cache.default")).await;
        until_written(&container).await;
        container.shutdown(Deadline::after(SECOND * 10)).await.unwrap();
    }

    // CO-10, CO-11
    #[tokio::test(flavor = "multi_thread")]
    async fn a_required_redis_that_comes_up_late_is_waited_for_and_missed_when_it_dies() {
        let server = trine_testkit::Redis::start().await.unwrap();
        server.kill().await.unwrap();
        let container = built(&on(&server.namespace(), &server.url()));
        let late = async {
            sleep(SECOND).await;
            assert_eq!(container.ready().status, HealthStatus::Down, "it waits");
            server.restart().await.unwrap();
        };
        let (started, ()) = tokio::join!(container.start(), late);
        started.unwrap();
        assert_eq!(container.ready().status, HealthStatus::Up);
        until_written(&container).await;
        server.kill().await.unwrap();
        until(&container, |it| it.ready().status == HealthStatus::Down).await;
        server.restart().await.unwrap();
        until(&container, |it| it.ready().status == HealthStatus::Up).await;
        until_written(&container).await;
        container.shutdown(Deadline::after(SECOND * 10)).await.unwrap();
    }
}
