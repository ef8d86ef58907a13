//! Servers that die, hang and lose replies.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;
use trine_core::{CallContext, Deadline, ErrorKind, Span};
use trine_redis::{Command, Value};
use trine_testkit::{Door, Flow, Proxy, Redis, RedisPersistence, Side};

use crate::support::{
    PATIENCE, TestResult, close, connect, get, incr, scan_on, set, single, text, until, until_works,
};

/// Five times what a call may take: connect and response time-out.
const BOUND: Duration = Duration::from_millis(5 * 1_500);

async fn behind_a_proxy() -> Result<(Redis, Proxy, String), Box<dyn std::error::Error>> {
    let server = Redis::start().await?;
    let proxy = Proxy::to(server.addr()).await?;
    let url = server.url_via(proxy.addr());
    Ok((server, proxy, url))
}

#[trine_testkit::test]
async fn it_comes_back_after_the_server_was_killed() -> TestResult {
    let server = Redis::start().await?;
    let service = connect(&single(server.url())).await;
    let redis = service.pool();
    redis.run(&set("k", "v")).await?;
    for _ in 0..2 {
        server.kill().await?;
        until("a refusal", async || {
            let result = redis.run(&incr("n")).await;
            let kind = result.as_ref().err().map(|error| error.kind());
            assert!(
                matches!(kind, Some(ErrorKind::Unavailable | ErrorKind::OutcomeUnknown)),
                "{result:?}"
            );
            kind == Some(ErrorKind::Unavailable)
        })
        .await;
        server.restart().await?;
        until_works(redis, &set("k", "v")).await;
    }
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn a_connection_that_the_server_ends_is_made_again() -> TestResult {
    let server = Redis::start().await?;
    let service = connect(&single(server.url())).await;
    for _ in 0..3 {
        assert!(server.kill_connections().await? >= 1);
        until_works(service.pool(), &get("k")).await;
    }
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn a_lost_reply_leaves_a_write_unknown_and_counted_once() -> TestResult {
    let (server, proxy, url) = behind_a_proxy().await?;
    let service = connect(&single(url)).await;
    let redis = service.pool();
    assert_eq!(redis.run(&incr("n")).await?, Value::Int(1));
    proxy.set_replies(Flow::CutAfter(1));
    let error = redis.run(&incr("n")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error:?}");
    assert!(std::error::Error::source(&error).is_some());
    proxy.set_replies(Flow::Pass);
    until_works(redis, &get("k")).await;
    assert_eq!(text(&redis.run(&get("n")).await?), "2", "sent more than once");
    proxy.set_replies(Flow::CutAfter(1));
    let error = redis.run(&get("n")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    proxy.set_replies(Flow::Pass);
    until_works(redis, &get("k")).await;
    assert_eq!(server.admin(&["GET", "n"]).await?.text().as_deref(), Some("2"));
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn a_black_hole_costs_a_call_its_time_out_and_then_nothing() -> TestResult {
    let (_server, proxy, url) = behind_a_proxy().await?;
    let service = connect(&single(url)).await;
    let redis = service.pool();
    proxy.set(Flow::Hang);
    let began = Instant::now();
    let (read, write) = (get("n"), incr("n"));
    let (read, write) = tokio::join!(redis.run(&read), redis.run(&write));
    assert_eq!(read.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(write.unwrap_err().kind(), ErrorKind::OutcomeUnknown);
    assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
    // The PING that the late replies started is not answered either.
    until("a known outage", async || {
        let began = Instant::now();
        let error = redis.run(&get("n")).await.unwrap_err();
        assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
        error.kind() == ErrorKind::Unavailable
    })
    .await;
    proxy.kill_all();
    proxy.set(Flow::Pass);
    until_works(redis, &get("n")).await;
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn a_half_open_connection_is_noticed_and_replaced() -> TestResult {
    let (_server, proxy, url) = behind_a_proxy().await?;
    let service = connect(&single(url)).await;
    let redis = service.pool();
    redis.run(&set("k", "v")).await?;
    proxy.lose(Side::Server);
    let error = redis.run(&get("k")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
    until_works(redis, &get("k")).await;
    assert!(proxy.accepted() >= 2);
    close(&service).await;
    Ok(())
}

/// Calls until one works; each gives up after a time that is far shorter than
/// the response time-out.
async fn until_impatient_works<F: Future<Output = bool>>(call: impl Fn() -> F) {
    let began = Instant::now();
    until("a new connection", async || call().await).await;
    assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
}

#[trine_testkit::test]
async fn a_half_open_connection_is_noticed_by_callers_with_near_deadlines() -> TestResult {
    let (_server, proxy, url) = behind_a_proxy().await?;
    let service = connect(&single(url)).await;
    let redis = service.pool();
    redis.run(&set("k", "v")).await?;
    proxy.lose(Side::Server);
    let near = || CallContext::default().with_deadline(Deadline::after(Duration::from_millis(50)));
    until_impatient_works(|| async { near().scope(redis.run(&get("k"))).await.is_ok() }).await;
    proxy.lose(Side::Server);
    until_impatient_works(|| async {
        near().scope(redis.run_all(vec![get("k"), get("k")])).await.iter().all(Result::is_ok)
    })
    .await;
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn a_half_open_connection_is_noticed_by_callers_that_drop_their_calls() -> TestResult {
    let (_server, proxy, url) = behind_a_proxy().await?;
    let service = connect(&single(url)).await;
    let redis = service.pool();
    redis.run(&set("k", "v")).await?;
    proxy.lose(Side::Server);
    until_impatient_works(|| async {
        tokio::time::timeout(Duration::from_millis(50), redis.run(&get("k"))).await.is_ok()
    })
    .await;
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn a_large_reply_that_holds_up_the_others_costs_no_connection() -> TestResult {
    let (_server, proxy, url) = behind_a_proxy().await?;
    let config = single(url).with_response_timeout(Duration::from_millis(200));
    let service = connect(&config).await;
    let redis = service.pool();
    let connects = || service.metrics().counter("trine_redis_connects_total", &[]);
    redis.run(&set("k", "x".repeat(400_000))).await?;
    let before = connects();
    // Two seconds: far more than a call and a PING are given.
    proxy.set_replies(Flow::Throttle(200_000));
    let error = redis.run(&get("k")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
    until_works(redis, &get("n")).await;
    assert_eq!(connects(), before);
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn a_slow_reply_costs_no_connection() -> TestResult {
    let server = Redis::start().await?;
    let config = single(server.url()).with_response_timeout(Duration::from_millis(400));
    let service = connect(&config).await;
    let redis = service.pool();
    let connects = || service.metrics().counter("trine_redis_connects_total", &[]);
    redis.run(&set("k", "u")).await?;
    let before = connects();
    // Late for the call, in time for the PING that it starts.
    let slow = Command::read("DEBUG").arg("SLEEP").arg("0.6");
    let error = redis.run(&slow).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    until_works(redis, &set("k", "v")).await;
    assert_eq!(text(&redis.run(&get("k")).await?), "v", "a reply of another call");
    assert_eq!(connects(), before);
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn a_refused_connection_is_unavailable_at_once() -> TestResult {
    let (_server, proxy, url) = behind_a_proxy().await?;
    let service = connect(&single(url)).await;
    proxy.set_door(Door::Refuse).await?;
    proxy.kill_all();
    until("a refusal", async || {
        let error = service.pool().run(&incr("n")).await.unwrap_err();
        error.kind() == ErrorKind::Unavailable
    })
    .await;
    let began = Instant::now();
    for _ in 0..20 {
        let error = service.pool().run(&incr("n")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    }
    assert!(began.elapsed() < BOUND);
    proxy.set_door(Door::Open).await?;
    until_works(service.pool(), &incr("n")).await;
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn the_deadline_of_a_call_is_kept_where_it_is_nearer() -> TestResult {
    let (_server, proxy, url) = behind_a_proxy().await?;
    let mut config = single(url);
    config.response_timeout = Span::from(PATIENCE);
    let service = connect(&config).await;
    proxy.set(Flow::Hang);
    let began = Instant::now();
    let context =
        || CallContext::default().with_deadline(Deadline::after(Duration::from_millis(100)));
    let error = context().scope(service.pool().run(&get("n"))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
    let error = context().scope(service.pool().run(&incr("n"))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error:?}");
    assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
    proxy.set(Flow::Pass);
    // Both were on their way, and the connection is in order.
    until_works(service.pool(), &get("n")).await;
    assert_eq!(text(&service.pool().run(&get("n")).await?), "1");
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn a_server_that_is_stopped_and_goes_on_is_used_again() -> TestResult {
    let server = Redis::start().await?;
    let service = connect(&single(server.url())).await;
    server.pause().await?;
    until("a known outage", async || {
        let error = service.pool().run(&get("n")).await.unwrap_err();
        error.kind() == ErrorKind::Unavailable
    })
    .await;
    server.resume().await?;
    until_works(service.pool(), &incr("n")).await;
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn a_shutdown_returns_under_a_server_that_hangs() -> TestResult {
    let (_server, proxy, url) = behind_a_proxy().await?;
    let service = connect(&single(url)).await;
    proxy.set(Flow::Hang);
    let hanging = get("n");
    let (_late, ()) = tokio::join!(service.pool().run(&hanging), close(&service));
    assert_eq!(service.state(), trine_core::State::Closed);
    Ok(())
}

#[trine_testkit::test]
async fn a_scan_misses_no_key_when_the_server_was_restarted() -> TestResult {
    let server = Redis::builder().persistence(RedisPersistence::Always).start().await?;
    let service = connect(&single(server.url())).await;
    let redis = service.pool();
    let batch = (0..300).map(|n| set(&format!("scan{n}"), "v")).collect();
    assert!(redis.run_all(batch).await.iter().all(Result::is_ok));
    let page = redis.scan("scan", None, 100).await?;
    let mut found: BTreeSet<_> = page.keys.into_iter().collect();
    // The hash function is another one from then on.
    server.restart().await?;
    until_works(redis, &get("scan1")).await;
    scan_on(redis, "scan", page.next, &mut found).await;
    assert_eq!(found.len(), 300);
    close(&service).await;
    Ok(())
}
