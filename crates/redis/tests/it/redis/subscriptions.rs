//! What was published.

use std::time::Duration;

use tokio::time::{Instant, timeout};
use trine_core::{CallContext, Deadline, ErrorKind};
use trine_redis::{Command, Subscription, SubscriptionEvent};
use trine_testkit::{Door, Flow, Proxy, Redis, Side, drop_at_every_await};

use crate::support::{PATIENCE, TestResult, close, connect, single, until};

async fn next(subscription: &mut Subscription) -> Option<SubscriptionEvent> {
    timeout(PATIENCE, subscription.next()).await.expect("no event")
}

fn message(channel: &str, payload: &str) -> Option<SubscriptionEvent> {
    let (channel, payload) = (channel.to_owned(), payload.as_bytes().to_vec());
    Some(SubscriptionEvent::Message { channel, payload })
}

fn gap(is_over: bool) -> Option<SubscriptionEvent> {
    Some(SubscriptionEvent::Gap { is_over })
}

fn publish(channel: &str, payload: impl Into<String>) -> Command {
    Command::write("PUBLISH").arg(channel).arg(payload.into())
}

#[trine_testkit::test]
async fn messages_come_in_order_until_the_shutdown() -> TestResult {
    let server = Redis::builder().password("secret").start().await?;
    let service = connect(&single(server.url())).await;
    let mut subscription = service.pool().subscribe(&["a", "b"]).await?;
    for n in 0..100 {
        let channel = if n % 2 == 0 { "a" } else { "b" };
        service.pool().run(&publish(channel, n.to_string())).await?;
    }
    for n in 0..100 {
        let channel = if n % 2 == 0 { "a" } else { "b" };
        assert_eq!(next(&mut subscription).await, message(channel, &n.to_string()));
    }
    let error = service.pool().subscribe(&[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    close(&service).await;
    assert_eq!(next(&mut subscription).await, None);
    Ok(())
}

#[trine_testkit::test]
async fn a_lost_connection_is_a_gap_and_is_made_again() -> TestResult {
    let server = Redis::start().await?;
    let proxy = Proxy::to(server.addr()).await?;
    let service = connect(&single(server.url_via(proxy.addr()))).await;
    let mut subscription = service.pool().subscribe(&["a"]).await?;
    for round in 0..3 {
        server.admin(&["PUBLISH", "a", "x"]).await?;
        assert_eq!(next(&mut subscription).await, message("a", "x"), "round {round}");
        proxy.set_door(Door::Refuse).await?;
        proxy.kill_all();
        assert_eq!(next(&mut subscription).await, gap(false));
        server.admin(&["PUBLISH", "a", "missed"]).await?;
        proxy.set_door(Door::Open).await?;
        assert_eq!(next(&mut subscription).await, gap(true));
    }
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn a_reader_that_is_too_slow_has_a_gap() -> TestResult {
    let server = Redis::start().await?;
    let mut config = single(server.url());
    config.subscription_buffer = 4.try_into()?;
    let service = connect(&config).await;
    let mut subscription = service.pool().subscribe(&["a"]).await?;
    for n in 0..20 {
        service.pool().run(&publish("a", n.to_string())).await?;
    }
    let gaps = || service.metrics().counter("trine_redis_subscription_gaps_total", &[]);
    until("a gap", async || gaps() == Some(1)).await;
    for n in 0..4 {
        assert_eq!(next(&mut subscription).await, message("a", &n.to_string()));
    }
    assert_eq!(next(&mut subscription).await, gap(true));
    service.pool().run(&publish("a", "after")).await?;
    // Some of the twenty may have been on their way still; none is missed
    // without a gap before the next.
    let (mut following, mut has_gap) = (4, true);
    loop {
        let event = next(&mut subscription).await;
        if event == gap(true) {
            has_gap = true;
            continue;
        }
        let is_after = event == message("a", "after");
        let late = (following..20).find(|n| event == message("a", &n.to_string()));
        let number = if is_after { 20 } else { late.expect("a late message, or the last") };
        assert!(has_gap || number == following, "{number} after {}", following - 1);
        if is_after {
            break;
        }
        (following, has_gap) = (number + 1, false);
    }
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn a_lost_connection_behind_a_full_buffer_is_no_end_of_the_gap() -> TestResult {
    let server = Redis::start().await?;
    let proxy = Proxy::to(server.addr()).await?;
    let mut config = single(server.url_via(proxy.addr()));
    config.subscription_buffer = 1.try_into()?;
    let service = connect(&config).await;
    let mut subscription = service.pool().subscribe(&["a"]).await?;
    let gaps = || service.metrics().counter("trine_redis_subscription_gaps_total", &[]);
    server.admin(&["PUBLISH", "a", "first"]).await?;
    server.admin(&["PUBLISH", "a", "missed"]).await?;
    until("a full buffer", async || gaps() == Some(1)).await;
    proxy.set_door(Door::Refuse).await?;
    proxy.kill_all();
    until("a lost connection", async || gaps() == Some(2)).await;
    assert_eq!(next(&mut subscription).await, message("a", "first"));
    assert_eq!(next(&mut subscription).await, gap(false));
    proxy.set_door(Door::Open).await?;
    assert_eq!(next(&mut subscription).await, gap(true));
    server.admin(&["PUBLISH", "a", "x"]).await?;
    assert_eq!(next(&mut subscription).await, message("a", "x"));
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn the_deadline_of_the_call_bounds_a_subscription_in_the_making() -> TestResult {
    let server = Redis::start().await?;
    let proxy = Proxy::to(server.addr()).await?;
    let mut config = single(server.url_via(proxy.addr()));
    config.connect_timeout = PATIENCE.into();
    let service = connect(&config).await;
    proxy.set(Flow::Hang);
    let near = CallContext::default().with_deadline(Deadline::after(Duration::from_millis(50)));
    let error = near.scope(service.pool().subscribe(&["a"])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn a_dropped_subscription_leaves_no_connection() -> TestResult {
    let server = Redis::start().await?;
    let service = connect(&single(server.url())).await;
    let make = || async {
        let mut subscription = service.pool().subscribe(&["a"]).await.unwrap();
        service.pool().run(&publish("a", "x")).await.unwrap();
        assert_eq!(next(&mut subscription).await, message("a", "x"));
    };
    drop_at_every_await(make, async |_| {
        until("the end of the subscription", async || {
            let channels = server.admin(&["PUBSUB", "NUMSUB", "a"]).await.unwrap();
            channels.items()[1].integer() == Some(0)
        })
        .await;
    })
    .await?;
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn a_channel_that_the_user_may_not_read_is_denied() -> TestResult {
    let rules = "on >secret ~* +@all resetchannels &mine";
    let server = Redis::builder().user("bob", rules).start().await?;
    let service = connect(&single(server.url_of("bob", "secret"))).await;
    assert!(service.pool().subscribe(&["mine"]).await.is_ok());
    let error = service.pool().subscribe(&["other"]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn a_half_open_connection_is_a_gap() -> TestResult {
    let server = Redis::start().await?;
    let proxy = Proxy::to(server.addr()).await?;
    let service = connect(&single(server.url_via(proxy.addr()))).await;
    let mut subscription = service.pool().subscribe(&["a"]).await?;
    proxy.lose(Side::Server);
    assert_eq!(next(&mut subscription).await, gap(false));
    assert_eq!(next(&mut subscription).await, gap(true));
    server.admin(&["PUBLISH", "a", "x"]).await?;
    assert_eq!(next(&mut subscription).await, message("a", "x"));
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn a_server_that_closes_what_it_accepts_is_not_asked_without_a_pause() -> TestResult {
    let server = Redis::start().await?;
    // The next attempt is due long after the end of the test.
    let hour = Duration::from_secs(3_600);
    let service = connect(&single(server.url()).with_reconnect(hour, hour)).await;
    loop {
        let began = Instant::now();
        let mut subscription = service.pool().subscribe(&["a"]).await?;
        server.admin(&["CLIENT", "KILL", "TYPE", "pubsub"]).await?;
        assert_eq!(next(&mut subscription).await, gap(false));
        if began.elapsed() < Duration::from_secs(1) {
            let again = timeout(Duration::from_millis(500), subscription.next()).await;
            assert!(again.is_err(), "{again:?}");
            break;
        }
    }
    close(&service).await;
    Ok(())
}
