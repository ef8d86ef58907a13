//! What the tests share.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use trine_core::{Deadline, Secret};
use trine_redis::{Command, RedisConfig, RedisPool, RedisService, Value};

pub(crate) type TestResult = Result<(), Box<dyn std::error::Error>>;

/// Far more than anything takes; a test that waits for so long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn single(url: impl Into<String>) -> RedisConfig {
    // Short waits between attempts, so that coming back is quick.
    RedisConfig::single("test:it", Secret::new(url))
        .with_reconnect(Duration::from_millis(10), Duration::from_millis(200))
}

pub(crate) async fn connect(config: &RedisConfig) -> RedisService {
    RedisService::connect(config).await.unwrap()
}

pub(crate) async fn close(service: &RedisService) {
    service.shutdown(Deadline::after(PATIENCE)).await.unwrap();
}

pub(crate) fn set(key: &str, value: impl Into<String>) -> Command {
    Command::write("SET").key(key).arg(value.into())
}

pub(crate) fn get(key: &str) -> Command {
    Command::read("GET").key(key)
}

pub(crate) fn incr(key: &str) -> Command {
    Command::write("INCRBY").key(key).arg(1)
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_text().unwrap_or_else(|| panic!("{value:?} is no text"))
}

/// Calls until it works, for as long as patience lasts; returns how long it
/// took.
pub(crate) async fn until_works(pool: &RedisPool, command: &Command) -> Duration {
    let began = Instant::now();
    loop {
        match pool.run(command).await {
            Ok(_) => return began.elapsed(),
            Err(error) => assert!(began.elapsed() < PATIENCE, "still {error:?}"),
        }
        sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until `is_so` holds.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < PATIENCE, "{what} never came");
        sleep(Duration::from_millis(5)).await;
    }
}
