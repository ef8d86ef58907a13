//! Connections that one caller has for itself.

use std::time::Duration;

use tokio::time::Instant;
use trine_core::{CallContext, Deadline, ErrorKind, Span};
use trine_redis::{Command, RedisService, Route, Value};
use trine_testkit::{Door, Flow, Proxy, Redis, Side, drop_at_every_await};

use crate::support::{PATIENCE, TestResult, close, connect, get, set, single, text, until};

fn pop(key: &str, seconds: &str) -> Command {
    Command::write("BLPOP").key(key).arg(seconds)
}

fn gauge(service: &RedisService, name: &str) -> f64 {
    service.metrics().gauge(&format!("trine_redis_dedicated_{name}"), &[]).unwrap()
}

/// Returns how many clients the server has that wait for something.
async fn blocked(server: &Redis) -> String {
    server.info("blocked_clients").await.unwrap().unwrap()
}

#[trine_testkit::test]
async fn a_blocking_read_stalls_nobody_and_outlasts_the_response_time_out() -> TestResult {
    let server = Redis::start().await?;
    let service = connect(&single(server.url())).await;
    let redis = service.pool();
    let mut own = redis.acquire(Route::Key(b"list")).await?;
    let command = pop("list", "30");
    let pushing = async {
        until("a blocked client", async || blocked(&server).await == "1").await;
        // Longer than the response time-out, which is not this connection's.
        tokio::time::sleep(Duration::from_millis(700)).await;
        assert!(redis.run(&set("k", "v")).await.is_ok());
        redis.run(&Command::write("RPUSH").key("list").arg("x")).await.unwrap();
    };
    let (popped, ()) = tokio::join!(own.run(&command, PATIENCE), pushing);
    assert_eq!(text(&popped?.as_array().unwrap()[1]), "x");
    assert!(own.run(&pop("list", "0.05"), PATIENCE).await?.is_nil());
    drop(own);
    assert_eq!((gauge(&service, "in_use"), gauge(&service, "idle")), (0.0, 1.0));
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn a_dropped_blocking_read_takes_nothing_with_it() -> TestResult {
    let server = Redis::start().await?;
    let mut config = single(server.url());
    config.dedicated.max = std::num::NonZeroU32::MIN;
    let service = connect(&config).await;
    let redis = service.pool();
    let make = || async {
        let mut own = redis.acquire(Route::Any).await.unwrap();
        own.run(&pop("list", "0.2"), PATIENCE).await.unwrap();
    };
    let report = drop_at_every_await(make, async |_| {
        // The only place is free, and what comes now is this caller's.
        until("an end of the read", async || blocked(&server).await == "0").await;
        redis.run(&Command::write("RPUSH").key("list").arg("x")).await.unwrap();
        let mut own = redis.acquire(Route::Any).await.unwrap();
        let popped = own.run(&pop("list", "5"), PATIENCE).await.unwrap();
        assert_eq!(text(&popped.as_array().expect("taken by another")[1]), "x");
    })
    .await?;
    assert!(report.confirmed > 0);
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn a_late_reply_closes_the_connection() -> TestResult {
    let server = Redis::start().await?;
    let service = connect(&single(server.url())).await;
    let mut own = service.pool().acquire(Route::Any).await?;
    let error = own.run(&pop("list", "30"), Duration::from_millis(50)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error:?}");
    let error = own.run(&get("k"), PATIENCE).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    until("an end of the read", async || blocked(&server).await == "0").await;
    assert_eq!(gauge(&service, "idle"), 0.0);
    drop(own);
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn a_command_whose_deadline_has_passed_is_not_sent() -> TestResult {
    let server = Redis::start().await?;
    let service = connect(&single(server.url())).await;
    let mut own = service.pool().acquire(Route::Any).await?;
    let passed = || CallContext::default().with_deadline(Deadline::after(Duration::ZERO));
    let error = passed().scope(own.run(&set("k", "v"), PATIENCE)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
    let error = own.run(&set("k", "v"), Duration::ZERO).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
    // The connection is in order, and the write never reached it.
    assert!(own.run(&get("k"), PATIENCE).await?.is_nil());
    let near = || CallContext::default().with_deadline(Deadline::after(Duration::from_millis(50)));
    let error = near().scope(own.run(&pop("list", "30"), PATIENCE)).await.unwrap_err();
    let shown = trine_core::Report(&error).to_string();
    assert!(shown.contains("deadline of the call") && !shown.contains("60s"), "{shown}");
    drop(own);
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn a_write_that_a_shutdown_cuts_is_unknown() -> TestResult {
    let server = Redis::start().await?;
    let service = connect(&single(server.url())).await;
    let mut own = service.pool().acquire(Route::Any).await?;
    let mut other = service.pool().acquire(Route::Any).await?;
    let closing = async {
        until("a blocked client", async || blocked(&server).await == "1").await;
        // The loan outlasts the deadline.
        let _late = service.shutdown(Deadline::after(Duration::from_millis(50))).await;
    };
    let command = pop("list", "30");
    let (popped, ()) = tokio::join!(own.run(&command, PATIENCE), closing);
    let error = popped.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error:?}");
    // What begins after it is not sent.
    let error = other.run(&set("k", "v"), PATIENCE).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed, "{error:?}");
    assert!(server.admin(&["GET", "k"]).await?.text().is_none());
    Ok(())
}

#[trine_testkit::test]
async fn too_many_are_exhausted() -> TestResult {
    let server = Redis::start().await?;
    let mut config = single(server.url());
    config.dedicated.max = std::num::NonZeroU32::MIN;
    config.dedicated.acquire_timeout = Span::millis(50);
    let service = connect(&config).await;
    let one = service.pool().acquire(Route::Any).await?;
    let error = service.pool().acquire(Route::Any).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    drop(one);
    assert!(service.pool().acquire(Route::Any).await.is_ok());
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn one_that_the_server_has_closed_is_not_given_out() -> TestResult {
    let server = Redis::start().await?;
    let service = connect(&single(server.url())).await;
    for _ in 0..3 {
        let mut own = service.pool().acquire(Route::Any).await?;
        own.run(&get("k"), PATIENCE).await?;
        drop(own);
        server.kill_connections().await?;
        // The end is read from the socket a moment after the server has sent it.
        until("the end of the shared one", async || service.pool().run(&get("k")).await.is_ok())
            .await;
    }
    let mut own = service.pool().acquire(Route::Any).await?;
    assert!(own.run(&get("k"), PATIENCE).await?.is_nil());
    drop(own);
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn one_that_was_idle_is_asked_first() -> TestResult {
    let server = Redis::start().await?;
    let proxy = Proxy::to(server.addr()).await?;
    let mut config = single(server.url_via(proxy.addr()));
    config.dedicated.idle = Span::millis(1);
    let service = connect(&config).await;
    let mut own = service.pool().acquire(Route::Any).await?;
    own.run(&get("k"), PATIENCE).await?;
    drop(own);
    let accepted = proxy.accepted();
    tokio::time::sleep(Duration::from_millis(20)).await;
    proxy.set(Flow::Hang);
    let acquiring = service.pool().acquire(Route::Any);
    let mending = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        proxy.kill_all();
        proxy.set(Flow::Pass);
    };
    let (acquired, ()) = tokio::join!(acquiring, mending);
    assert_eq!(
        acquired?.run(&Command::read("ECHO").arg("x"), PATIENCE).await?,
        Value::Bytes(b"x".to_vec())
    );
    assert!(proxy.accepted() > accepted);
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn many_that_are_dead_cost_one_time_out() -> TestResult {
    const MANY: u32 = 40;
    let server = Redis::start().await?;
    let proxy = Proxy::to(server.addr()).await?;
    let mut config =
        single(server.url_via(proxy.addr())).with_response_timeout(Duration::from_millis(300));
    config.dedicated.idle = Span::millis(1);
    config.dedicated.max = MANY.try_into()?;
    let service = connect(&config).await;
    let mut loans = Vec::new();
    for _ in 0..MANY {
        loans.push(service.pool().acquire(Route::Any).await?);
    }
    drop(loans);
    assert_eq!(gauge(&service, "idle"), f64::from(MANY));
    proxy.lose(Side::Server);
    let began = Instant::now();
    let mut own = service.pool().acquire(Route::Any).await?;
    // Five times the time-outs of a reply and of a new connection.
    assert!(began.elapsed() < Duration::from_millis(5 * 1_300), "{:?}", began.elapsed());
    assert!(own.run(&get("k"), PATIENCE).await?.is_nil());
    drop(own);
    assert_eq!(gauge(&service, "idle"), 1.0);
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn none_is_made_while_the_server_is_known_to_be_away() -> TestResult {
    let server = Redis::start().await?;
    let proxy = Proxy::to(server.addr()).await?;
    // The next attempt is due long after the end of the test.
    let hour = Duration::from_secs(3_600);
    let config = single(server.url_via(proxy.addr())).with_reconnect(hour, hour);
    let service = connect(&config).await;
    proxy.set_door(Door::Refuse).await?;
    proxy.kill_all();
    until("a known outage", async || {
        let error = service.pool().run(&get("k")).await.err();
        error.is_some_and(|error| std::error::Error::source(&error).is_some())
    })
    .await;
    proxy.set_door(Door::Open).await?;
    let accepted = proxy.accepted();
    let error = service.pool().acquire(Route::Any).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert_eq!(proxy.accepted(), accepted);
    close(&service).await;
    Ok(())
}
