use std::time::Duration;

use trine_testkit::{Error, Redis, RedisReply, RedisSentinel, Result};

use crate::{again, gone};

const SOON: Duration = Duration::from_secs(20);

/// Asks a sentinel as a client does.
async fn master_port(sentinel: &Redis, name: &str) -> Result<String> {
    let place = sentinel.admin(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", name]).await?;
    assert_eq!(place.items()[0], RedisReply::Bytes("127.0.0.1".into()));
    Ok(place.items()[1].text().unwrap())
}

#[trine_testkit::test]
async fn sentinels_name_the_master_and_replicas_follow_it() -> Result<()> {
    let group = RedisSentinel::start().await?;
    let master = group.master().await?;
    for sentinel in group.sentinels() {
        let port = master_port(sentinel, group.master_name()).await?;
        assert_eq!(port, master.port().to_string());
    }
    assert_eq!(group.addresses().len(), 3);
    master.admin(&["SET", "k", "v"]).await?;
    assert_eq!(master.admin(&["WAIT", "2", "5000"]).await?, RedisReply::Integer(2));
    for replica in group.replicas().await? {
        assert_eq!(replica.admin(&["GET", "k"]).await?, RedisReply::Bytes("v".into()));
        let error = replica.admin(&["SET", "k", "w"]).await.unwrap_err();
        assert!(error.to_string().contains("READONLY"), "{error}");
    }
    assert_eq!(master.connections().await?, 0, "those of replicas and sentinels do not count");
    Ok(())
}

#[trine_testkit::test]
async fn a_killed_master_is_replaced_and_comes_back_as_a_replica() -> Result<()> {
    let group = RedisSentinel::builder().node(Redis::builder().password("p \"w")).start().await?;
    let old = group.master().await?;
    let pid = old.pid().unwrap();
    assert_eq!(group.kill_master().await?.port(), old.port());
    assert!(gone(pid).await);
    let new = group.wait_for_failover(old).await?;
    assert_ne!(new.port(), old.port());
    assert_eq!(group.master().await?.port(), new.port());
    new.admin(&["SET", "k", "v"]).await?;
    group.restart_as_replica(old).await?;
    group.wait_until_ok().await?;
    assert_eq!(old.admin(&["GET", "k"]).await?, RedisReply::Bytes("v".into()));
    Ok(())
}

#[trine_testkit::test]
async fn a_paused_master_is_replaced_and_is_still_one_when_it_goes_on() -> Result<()> {
    let group = RedisSentinel::start().await?;
    let old = group.pause_master().await?;
    let new = group.wait_for_failover(old).await?;
    old.resume().await?;
    assert_ne!(group.master().await?.port(), old.port());
    group.wait_until_ok().await?;
    assert_eq!(old.info("role").await?.as_deref(), Some("slave"));
    assert_eq!(new.info("role").await?.as_deref(), Some("master"));
    Ok(())
}

#[trine_testkit::test]
async fn an_orderly_fail_over_loses_nobody() -> Result<()> {
    let group = RedisSentinel::start().await?;
    let old = group.master().await?;
    let new = group.failover().await?;
    assert_ne!(new.port(), old.port());
    assert!(group.replicas().await?.iter().any(|replica| replica.port() == old.port()));
    Ok(())
}

#[trine_testkit::test]
async fn two_of_three_sentinels_are_enough_and_a_killed_one_comes_back() -> Result<()> {
    let group = RedisSentinel::start().await?;
    let lost = &group.sentinels()[0];
    lost.kill().await?;
    let old = group.kill_master().await?;
    group.wait_for_failover(old).await?;
    lost.restart().await?;
    group.wait_until_ok().await?;
    assert_ne!(group.master().await?.port(), old.port());
    Ok(())
}

#[trine_testkit::test]
async fn the_shared_sentinels_are_the_same_and_serve_other_processes() -> Result<()> {
    let shared = RedisSentinel::shared().await?;
    assert_eq!(shared.addresses(), RedisSentinel::shared().await?.addresses());
    assert_eq!(shared.master_name(), "trine");
    assert_ne!(shared.namespace(), shared.namespace());
    if shared.is_own() {
        let name = "redis_sentinel::the_shared_sentinels_are_the_same_and_serve_other_processes";
        let child =
            again(name).env("TRINE_TEST_REDIS_SENTINELS", shared.addresses().join(",")).spawn()?;
        let status = child.wait(SOON).await?;
        assert!(status.success(), "{}", child.log());
        assert!(child.log().contains("1 passed"), "{}", child.log());
    }
    Ok(())
}

#[trine_testkit::test]
async fn sentinels_that_cannot_be_had_say_how_to_get_some() -> Result<()> {
    let child = again("redis_sentinel::an_orderly_fail_over_loses_nobody")
        .env("PATH", "/nonexistent")
        .spawn()?;
    assert!(!child.wait(SOON).await?.success());
    let log = child.log();
    assert!(log.contains("apt-get install") && log.contains("TRINE_TEST_REDIS_SENTINELS"), "{log}");
    let error = RedisSentinel::builder().node(Redis::builder().option("port", "1")).start().await;
    assert!(matches!(error, Err(Error::Invalid(_))));
    Ok(())
}
