//! What servers say of themselves.

use trine_core::{Durability, HealthStatus, Span};
use trine_redis::{DurabilitySource, Role, Route};
use trine_testkit::{Redis, RedisPersistence};

use crate::support::{TestResult, close, connect, get, single, until, until_works};

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
