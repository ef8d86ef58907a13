use serde_json::json;
use trine::{Builder, Error, Handle, Loader, Redis};
use trine_core::{Deadline, HealthStatus, Report, Secret};
use trine_redis::ServerConfig;

use crate::fake::SECOND;

/// Sets the connection `main` to the server behind `url`.
pub(crate) fn connection(loader: Loader, namespace: &str, url: &str) -> Loader {
    loader.with_override("test", "redis.main.namespace", namespace).with_override(
        "test",
        "redis.main.server",
        json!({ "kind": "single", "url": url }),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_starts_answers_and_stops_from_its_section() {
    let server = trine_testkit::Redis::shared().await.unwrap();
    let mut builder = Builder::new();
    let handle = builder.add_as("main", Redis::new());
    let loader = connection(Loader::new(), &server.namespace(), &server.url());
    let container = builder.configure(&loader).unwrap().build().unwrap();
    container.start().await.unwrap();
    let redis = container.redis_instance("main").unwrap();
    let command = trine_redis::Command::read("PING");
    assert!(redis.pool().run(&command).await.is_ok());
    assert_eq!(handle.name(), "redis.main");
    let health = container.health().await;
    assert_eq!(health.status, HealthStatus::Up, "{health:?}");
    assert!(health.details.contains_key("redis.main"), "{health:?}");
    let text = container.metrics().to_prometheus();
    assert!(text.contains("trine_redis_masters_connected{instance=\"main\"} 1"), "{text}");
    container.shutdown(Deadline::after(SECOND * 10)).await.unwrap();
    assert!(redis.pool().run(&command).await.is_err(), "it is closed");
}

#[test]
fn typos_and_broken_rules_of_a_connection_are_listed_at_once() {
    let mut builder = Builder::new();
    builder.add_as("main", Redis::new());
    let loader = Loader::new().with_defaults(
        "[redis.main]\nnamespac = 'x'\nnamespace = 'shop:prod'\nresponse_timout = '1s'\n\
         start_timeout = '0s'\nserver = { kind = 'single', url = 'redis://h', usr = 'me' }\n\
         reconnect = { frist = '1s' }\n[redis.man]\nnamespace = 'x'",
    );
    let error = builder.configure(&loader).unwrap_err().to_string();
    for expected in [
        "redis.main.namespac: unknown key; did you mean `namespace`?",
        "redis.main.response_timout: unknown key; did you mean `response_timeout`?",
        "redis.main.server.usr: unknown key",
        "redis.main.reconnect.frist: unknown key; did you mean `first`?",
        "redis.main.start_timeout: must be longer than 0",
        "redis.man: unknown key; did you mean `main`?",
    ] {
        assert!(error.contains(expected), "{expected} is not in {error}");
    }
}

#[test]
fn a_password_of_a_server_never_shows() {
    let mut builder = Builder::new();
    let redis = builder.add_as("main", Redis::new());
    let read = |url: &str| {
        Loader::new()
            .with_defaults(
                "[redis.main]\nnamespace = 'shop'\nusername = 'me'\npassword = 'hunter3'",
            )
            .with_override("test", "redis.main.server", json!({ "kind": "single", "url": url }))
            .with_environment([("PASSWORD", "hunter2")].into_iter().collect())
    };
    let loader = read("redis://:${PASSWORD}@h");
    let error = builder.configure(&loader).unwrap_err();
    assert!(error.to_string().contains("redis.main.server.url: "), "{error}");
    assert!(!format!("{error} {error:?}").contains("hunter"), "{error}");

    let mut builder = Builder::new();
    let again = builder.add_as("main", Redis::new());
    assert_eq!(redis.name(), again.name());
    let configured = builder.configure(&read("redis://h")).unwrap();
    let config = configured.config(&again).unwrap();
    assert!(!format!("{config:?}").contains("hunter"));
    let ServerConfig::Single { url } = &config.server else { panic!() };
    assert_eq!(Secret::expose(url), "redis://h");
}

#[test]
fn a_connection_that_is_not_configured_is_not_there() {
    let build = |toml: &str| {
        let mut builder = Builder::new();
        let handle: Handle<Redis> = builder.add_if_configured("main", Redis::new());
        let schema = builder.schema().unwrap();
        assert!(schema["properties"]["redis"]["properties"]["main"].is_object(), "{schema}");
        let loader = Loader::new().with_defaults(toml);
        builder.configure(&loader).map(|configured| (configured.build().unwrap(), handle))
    };
    let (container, handle) = build("").unwrap();
    assert!(container.status().services.is_empty());
    assert!(matches!(container.get(&handle), Err(Error::Missing { .. })));
    let error = container.redis_instance("main").unwrap_err();
    assert!(matches!(&error, Error::Missing { key } if key == "redis.main"), "{}", Report(&error));

    let error = build("[redis.main]").map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("redis.main.namespace: missing"), "{error}");
    let one = "[redis.main]\nnamespace = 'a'\nserver = { kind = 'single', url = 'redis://h' }";
    let (container, handle) = build(one).unwrap();
    assert!(container.get(&handle).is_ok());
}
