//! A cluster.

use trine_core::Secret;
use trine_redis::{RedisConfig, RedisService, Value};

use crate::support::{TestResult, close, get, incr, set, text};

#[trine_testkit::test]
async fn quick() -> TestResult {
    let config = RedisConfig::cluster("t", [Secret::new("redis://127.0.0.1:7491")]);
    let service = RedisService::connect(&config).await?;
    let redis = service.pool();
    for n in 0..100 {
        assert!(redis.run(&set(&format!("k{n}"), n.to_string())).await?.is_ok());
    }
    let all = redis.run_all((0..100).map(|n| get(&format!("k{n}"))).collect()).await;
    for (n, value) in all.into_iter().enumerate() {
        assert_eq!(text(&value?), n.to_string());
    }
    close(&service).await;
    Ok(())
}
