//! A master that sentinels watch.

use std::time::Duration;

use tokio::time::Instant;
use trine_core::{ErrorKind, Report, Secret};
use trine_redis::{RedisConfig, RedisService, Role, Route, ServerConfig, TlsConfig};
use trine_testkit::{Flow, Proxy, Redis, RedisSentinel};

use crate::support::{Load, TestResult, close, connect, get, incr, set, until, until_works};

/// A fail-over takes one to two seconds here, and ten are stated.
const FAIL_OVER: Duration = Duration::from_secs(50);

fn config(master: &str, addresses: &[String]) -> RedisConfig {
    let urls = addresses.iter().map(|address| Secret::new(format!("redis://{address}")));
    RedisConfig::sentinel("test:it", master, urls)
        .with_reconnect(Duration::from_millis(10), Duration::from_millis(200))
}

#[trine_testkit::test]
async fn the_master_is_found_by_its_name() -> TestResult {
    let redis = RedisSentinel::shared().await?;
    let mut addresses = vec!["127.0.0.1:1".to_owned()];
    addresses.extend_from_slice(redis.addresses());
    let service = connect(&config(redis.master_name(), &addresses)).await;
    let key = format!("{}k", redis.namespace());
    assert!(service.pool().run(&set(&key, "v")).await?.is_ok());
    let facts = service.pool().server(Route::Any).await?;
    assert_eq!(facts.role, Role::Master);
    assert!(facts.replicas > 0);
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn a_name_that_no_sentinel_knows_says_so() -> TestResult {
    let redis = RedisSentinel::shared().await?;
    let config = config("nobody", redis.addresses()).with_start_timeout(Duration::from_millis(500));
    let error = RedisService::connect(&config).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(Report(&error).to_string().contains("`nobody`"), "{}", Report(&error));
    Ok(())
}

#[trine_testkit::test]
async fn a_server_that_is_no_sentinel_is_refused() -> TestResult {
    let alone = Redis::start().await?;
    let config = config("mymaster", &[alone.addr().to_string()]);
    let error = RedisService::connect(&config).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(Report(&error).to_string().contains("\"sentinel\""), "{}", Report(&error));
    Ok(())
}

#[trine_testkit::test]
async fn calls_work_again_after_the_master_died() -> TestResult {
    let redis = RedisSentinel::start().await?;
    let service = connect(&config(redis.master_name(), &redis.addresses())).await;
    let load = Load::start(service.pool(), "n");
    load.wait_for(50).await;
    let died = Instant::now();
    redis.kill_master().await?;
    load.wait_for_failure().await;
    load.wait_for(50).await;
    assert!(died.elapsed() < FAIL_OVER, "{:?}", died.elapsed());
    let load = load.end().await;
    // Nothing is sent twice; the old master may take the last writes with it.
    assert!(load.on_server(service.pool()).await <= load.ok + load.unknown, "{load:?}");
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn a_stopped_master_is_left_for_its_successor() -> TestResult {
    let redis = RedisSentinel::start().await?;
    let service = connect(&config(redis.master_name(), &redis.addresses())).await;
    until_works(service.pool(), &incr("n")).await;
    let old = redis.pause_master().await?;
    let stopped = Instant::now();
    until_works(service.pool(), &incr("n")).await;
    assert!(stopped.elapsed() < FAIL_OVER, "{:?}", stopped.elapsed());
    let port = old.port().to_string();
    let facts = service.pool().server(Route::Any).await?;
    assert!(!facts.address.ends_with(&port), "{facts:?}");
    old.resume().await?;
    until_works(service.pool(), &incr("n")).await;
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn a_sentinel_that_was_cut_off_has_no_say() -> TestResult {
    let node = Redis::builder().password("secret");
    let redis = RedisSentinel::builder().node(node).start().await?;
    let [first, second, deaf] = redis.sentinels() else { panic!("three sentinels") };
    // It hears neither the servers nor the other sentinels any more.
    deaf.admin(&["ACL", "SETUSER", "default", "-publish"]).await?;
    deaf.admin(&["SENTINEL", "SET", redis.master_name(), "auth-pass", "wrong"]).await?;
    deaf.pause().await?;
    let old = redis.master().await?;
    let new = redis.failover().await?;
    deaf.resume().await?;

    // It is the quickest to answer.
    let (first_proxy, second_proxy) =
        (Proxy::to(first.addr()).await?, Proxy::to(second.addr()).await?);
    let mut urls = vec![deaf.addr().to_string()];
    for proxy in [&first_proxy, &second_proxy] {
        proxy.set_replies(Flow::Delay(Duration::from_millis(20)));
        urls.push(proxy.addr().to_string());
    }
    let mut config = config(redis.master_name(), &urls)
        .with_credentials("default", Secret::new("secret"))
        .with_start_timeout(Duration::from_secs(10));
    config.topology_interval = Duration::from_millis(50).into();
    let service = connect(&config).await;
    service.pool().run(&incr("n")).await?;

    // Now it is the only one, and its former master calls itself one.
    for sentinel in [first, second] {
        sentinel.pause().await?;
    }
    old.admin(&["REPLICAOF", "NO", "ONE"]).await?;
    let looks =
        async || service.metrics().counter("trine_redis_topology_reads_total", &[]).unwrap();
    let before = looks().await;
    until("some looks", async || looks().await >= before + 4).await;
    service.pool().run(&incr("n")).await?;
    assert_eq!(new.admin(&["GET", "n"]).await?.text().as_deref(), Some("2"));
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn sentinels_that_were_set_up_anew_are_believed() -> TestResult {
    let redis = RedisSentinel::start().await?;
    let old = redis.master().await?;
    let new = redis.failover().await?;
    let mut config = config(redis.master_name(), &redis.addresses());
    config.topology_interval = Duration::from_millis(50).into();
    let service = connect(&config).await;
    for sentinel in redis.sentinels() {
        sentinel.admin(&["SENTINEL", "REMOVE", redis.master_name()]).await?;
    }
    // By hand, so that their epoch begins anew.
    let port = old.port().to_string();
    old.admin(&["REPLICAOF", "NO", "ONE"]).await?;
    new.admin(&["REPLICAOF", "127.0.0.1", &port]).await?;
    for sentinel in redis.sentinels() {
        let words = ["SENTINEL", "MONITOR", redis.master_name(), "127.0.0.1", &port, "2"];
        sentinel.admin(&words).await?;
    }
    let is_there = async || {
        let facts = service.pool().server(Route::Any).await;
        facts.is_ok_and(|facts| facts.address.ends_with(&port))
    };
    until("the master by hand", is_there).await;
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn the_password_of_the_sentinels_changes() -> TestResult {
    let redis = RedisSentinel::start().await?;
    let rules = "-@all +@connection +info +sentinel|master +sentinel|get-master-addr-by-name";
    let tell = async |rules: &str| -> TestResult {
        for sentinel in redis.sentinels() {
            let words = ["ACL", "SETUSER", "watcher"].into_iter().chain(rules.split(' '));
            sentinel.admin(&words.collect::<Vec<_>>()).await?;
        }
        Ok(())
    };
    tell(&format!("on >first {rules}")).await?;
    let mut config = config(redis.master_name(), &redis.addresses());
    let ServerConfig::Sentinel { sentinel_username, sentinel_password, .. } = &mut config.server
    else {
        panic!("sentinels");
    };
    *sentinel_username = Some("watcher".to_owned());
    *sentinel_password = Some(Secret::new("first"));
    let service = connect(&config).await;
    let pool = service.pool();
    let error = pool.set_sentinel_credentials("watcher", Secret::new("hunter2")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(!format!("{error:?} {}", Report(&error)).contains("hunter2"));
    tell(">second").await?;
    pool.set_sentinel_credentials("watcher", Secret::new("second")).await?;
    tell("<first").await?;
    for sentinel in redis.sentinels() {
        sentinel.kill_connections().await?;
    }
    // Who has taken over is known only to those who may ask.
    let old = redis.kill_master().await?;
    until_works(pool, &incr("n")).await;
    let facts = pool.server(Route::Any).await?;
    assert!(!facts.address.ends_with(&old.port().to_string()), "{facts:?}");
    close(&service).await;

    let alone = Redis::shared().await?;
    let service = connect(&crate::support::single(alone.url())).await;
    let refused = service.pool().set_sentinel_credentials("", Secret::new("x")).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Invalid);
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn a_master_is_followed_over_tls() -> TestResult {
    let node = Redis::builder().tls().password("secret");
    let redis = RedisSentinel::builder().node(node).start().await?;
    let urls = redis.addresses();
    let urls = urls.iter().map(|address| Secret::new(format!("rediss://{address}")));
    let mut tls = TlsConfig::default();
    tls.ca_file = Some(redis.nodes()[0].tls().unwrap().ca_file());
    let config = RedisConfig::sentinel("test:it", redis.master_name(), urls)
        .with_tls(tls)
        .with_credentials("default", Secret::new("secret"));
    let service = connect(&config).await;
    service.pool().run(&incr("n")).await?;
    let new = redis.failover().await?;
    until_works(service.pool(), &incr("n")).await;
    let port = new.port().to_string();
    let is_there =
        async || service.pool().server(Route::Any).await.unwrap().address.ends_with(&port);
    until("the new master", is_there).await;
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn a_demoted_master_loses_no_acknowledged_count() -> TestResult {
    let redis = RedisSentinel::start().await?;
    let service = connect(&config(redis.master_name(), &redis.addresses())).await;
    let load = Load::start(service.pool(), "n");
    load.wait_for(50).await;
    redis.failover().await?;
    load.wait_for(50).await;
    let load = load.end().await;
    assert!(load.on_server(service.pool()).await <= load.ok + load.unknown, "{load:?}");
    assert!(service.pool().run(&get("n")).await?.to_int().is_some());
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn a_demoted_server_refuses_a_batch_within_one_wait() -> TestResult {
    let redis = RedisSentinel::start().await?;
    let service = connect(&config(redis.master_name(), &redis.addresses())).await;
    until_works(service.pool(), &incr("n")).await;
    let old = redis.master().await?;
    // Nobody can take over while the sentinels are stopped.
    for sentinel in redis.sentinels() {
        sentinel.pause().await?;
    }
    old.admin(&["REPLICAOF", "127.0.0.1", "1"]).await?;
    let began = Instant::now();
    let results = service.pool().run_all((0..50).map(|_| incr("n")).collect()).await;
    let is_refused = |result: &trine_redis::Result<_>| {
        result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Unavailable)
    };
    assert!(results.iter().all(is_refused), "{:?}", results.first());
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    for sentinel in redis.sentinels() {
        sentinel.resume().await?;
    }
    until_works(service.pool(), &incr("n")).await;
    close(&service).await;
    Ok(())
}
