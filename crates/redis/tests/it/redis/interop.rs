//! The driver's own connections and values.

use trine_core::ErrorKind;
use trine_redis::{RedisService, Route, Value};
use trine_testkit::Redis;

use crate::support::{TestResult, close, connect, get, single, text};

#[trine_testkit::test]
async fn a_host_may_use_the_driver_itself() -> TestResult {
    let server = Redis::start().await?;
    let opened = RedisService::open(&single(server.url()), Default::default())?;
    let error = opened.pool().raw(Route::Any).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let service = connect(&single(server.url())).await;
    let mut raw = service.pool().raw(Route::Key(b"k")).await?;
    let reply: redis::Value = redis::cmd("SET").arg("k").arg("v").query_async(&mut raw).await?;
    assert_eq!(Value::from(reply), Value::Ok);
    assert_eq!(text(&service.pool().run(&get("k")).await?), "v");
    close(&service).await;
    Ok(())
}
