//! What servers say of themselves.

use trine_core::{Durability, HealthStatus, Span};
use trine_redis::{DurabilitySource, Role, Route};
use trine_testkit::{Redis, RedisPersistence};

use crate::support::{TestResult, close, connect, get, set, single, until, until_works};

#[trine_testkit::test]
async fn facts_and_durability_are_the_servers_own() -> TestResult {
    for (persistence, durability) in [
        (RedisPersistence::Always, Durability::Synced),
        (RedisPersistence::EverySecond, Durability::Async { window: Span::secs(2) }),
        (RedisPersistence::None, Durability::Memory),
    ] {
        let server = Redis::builder().persistence(persistence).start().await?;
        let service = connect(&single(server.url())).await;
        let facts = service.pool().server(Route::Any).await?;
        assert_eq!(facts.durability, durability);
        assert_eq!(facts.durability_source, DurabilitySource::Server);
        assert_eq!((&*facts.version, facts.role), (server.version(), Role::Master));
        assert_eq!(Some(facts.run_id.to_string()), server.info("run_id").await?);
        assert!(!facts.evicts());
        close(&service).await;
    }
    Ok(())
}

#[trine_testkit::test]
async fn a_user_that_may_not_ask_has_what_is_declared() -> TestResult {
    let rules = "on >secret ~* +@all -config";
    let server = Redis::builder().user("bob", rules).start().await?;
    let mut config = single(server.url_of("bob", "secret"));
    let service = connect(&config).await;
    let facts = service.pool().server(Route::Any).await?;
    assert_eq!(facts.durability_source, DurabilitySource::Assumed);
    assert!(matches!(facts.durability, Durability::Async { .. }));
    close(&service).await;
    config.durability = Some(Durability::Synced);
    let service = connect(&config).await;
    let facts = service.pool().server(Route::Any).await?;
    assert_eq!(facts.durability_source, DurabilitySource::Declared);
    assert_eq!(facts.durability, Durability::Synced);
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn another_process_is_another_identity_read_again() -> TestResult {
    let server = Redis::start().await?;
    let service = connect(&single(server.url())).await;
    let before = service.pool().server(Route::Any).await?;
    server.kill().await?;
    server.restart().await?;
    until_works(service.pool(), &get("k")).await;
    let after = service.pool().server(Route::Any).await?;
    assert_ne!(before.run_id, after.run_id);
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn health_says_what_an_operator_asks() -> TestResult {
    let server = Redis::builder().max_memory("64mb", "allkeys-lru").start().await?;
    let service = connect(&single(server.url())).await;
    let health = service.health().await;
    assert_eq!(health.status, HealthStatus::Up, "{health:?}");
    let part = &health.details[&server.addr().to_string()]["details"];
    assert_eq!(part["policy"], "allkeys-lru");
    assert_eq!(part["evicts"], true);
    assert_eq!(part["version"], server.version());
    assert_eq!(part["max_memory"], 64 << 20);
    server.kill().await?;
    until("a bad health", async || service.health().await.status == HealthStatus::Down).await;
    server.restart().await?;
    until("a good health", async || service.health().await.status == HealthStatus::Up).await;
    close(&service).await;
    assert_eq!(service.state(), trine_core::State::Closed);
    Ok(())
}

#[trine_testkit::test]
async fn a_server_that_loads_its_data_is_down() -> TestResult {
    let server = Redis::builder()
        .option("key-load-delay", "50000")
        .option("rdbcompression", "no")
        .option("loading-process-events-interval-bytes", "1024")
        .start()
        .await?;
    let service = connect(&single(server.url())).await;
    // Far longer than anybody waits, if it were not told to hurry.
    for n in 0..1_000 {
        service.pool().run(&set(&format!("k{n}"), "v".repeat(2_000))).await?;
    }
    let loading = server.admin(&["DEBUG", "RELOAD"]);
    let hurry = async {
        until("a bad health", async || {
            let health = service.health().await;
            let is_told = health.error.as_ref().is_some_and(|error| error.contains("loading"));
            health.status == HealthStatus::Down && is_told
        })
        .await;
        server.admin(&["CONFIG", "SET", "key-load-delay", "0"]).await
    };
    // The kit may have given up the answer to the first by then.
    let (_loaded, hurried) = tokio::join!(loading, hurry);
    hurried?;
    until("a good health", async || service.health().await.status == HealthStatus::Up).await;
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn a_server_that_takes_no_writes_is_degraded() -> TestResult {
    let server = Redis::start().await?;
    let service = connect(&single(server.url())).await;
    server.admin(&["REPLICAOF", "127.0.0.1", "1"]).await?;
    until("a bad health", async || service.health().await.status == HealthStatus::Degraded).await;
    let error = service.health().await.error.unwrap();
    assert!(error.contains("replica"), "{error}");
    server.admin(&["REPLICAOF", "NO", "ONE"]).await?;
    until("a good health", async || service.health().await.status == HealthStatus::Up).await;
    close(&service).await;
    Ok(())
}
