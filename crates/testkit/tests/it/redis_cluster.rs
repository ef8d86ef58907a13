use trine_testkit::{Door, Error, Redis, RedisBuilder, RedisCluster, RedisReply, Result};

use crate::{again, gone};

/// Returns why `node` does not answer `words` itself, as clients are told.
async fn refusal(node: &Redis, words: &[&str]) -> String {
    match node.admin(words).await.unwrap_err() {
        Error::Refused { answer, .. } => answer,
        error => panic!("{error}"),
    }
}

/// Another master than the owner of `slot`.
async fn other_master(cluster: &RedisCluster, slot: u16) -> Result<&Redis> {
    let far = (slot + 8_192) % 16_384;
    let node = cluster.master_of(far).await?;
    assert_ne!(node.port(), cluster.master_of(slot).await?.port());
    Ok(node)
}

#[trine_testkit::test]
async fn nodes_share_the_slots_and_send_clients_to_the_owner() -> Result<()> {
    let cluster = RedisCluster::start().await?;
    assert_eq!(cluster.addresses().len(), 6);
    let slot = cluster.slot_of("k").await?;
    assert_eq!(slot, cluster.slot_of("a{k}b").await?);
    let (owner, other) = (cluster.master_of(slot).await?, other_master(&cluster, slot).await?);
    owner.admin(&["SET", "k", "v"]).await?;
    assert_eq!(refusal(other, &["GET", "k"]).await, format!("MOVED {slot} {}", owner.addr()));
    let replica = cluster.replica_of(slot).await?;
    assert_eq!(replica.info("role").await?.as_deref(), Some("slave"));
    Ok(())
}

#[trine_testkit::test]
async fn the_replica_of_a_killed_master_takes_over_and_the_old_one_follows_it() -> Result<()> {
    let cluster = RedisCluster::start().await?;
    let slot = cluster.slot_of("k").await?;
    let (old, heir) = (cluster.master_of(slot).await?, cluster.replica_of(slot).await?);
    let pid = old.pid().unwrap();
    old.kill().await?;
    assert!(gone(pid).await);
    cluster.wait_until_ok().await?;
    assert_eq!(cluster.master_of(slot).await?.port(), heir.port());
    heir.admin(&["SET", "k", "v"]).await?;
    old.restart().await?;
    cluster.wait_until_ok().await?;
    assert_eq!(cluster.replica_of(slot).await?.port(), old.port());
    Ok(())
}

#[trine_testkit::test]
async fn a_paused_master_is_replaced_and_finds_out_when_it_goes_on() -> Result<()> {
    let cluster = RedisCluster::start().await?;
    let slot = cluster.slot_of("k").await?;
    let old = cluster.master_of(slot).await?;
    old.pause().await?;
    cluster.wait_until_ok().await?;
    let new = cluster.master_of(slot).await?;
    assert_ne!(new.port(), old.port());
    old.resume().await?;
    cluster.wait_until_ok().await?;
    assert_eq!(cluster.master_of(slot).await?.port(), new.port());
    assert_eq!(old.info("role").await?.as_deref(), Some("slave"));
    Ok(())
}

#[trine_testkit::test]
async fn an_orderly_fail_over_swaps_master_and_replica() -> Result<()> {
    let cluster = RedisCluster::start().await?;
    let slot = cluster.slot_of("k").await?;
    let old = cluster.master_of(slot).await?;
    old.admin(&["SET", "k", "v"]).await?;
    let new = cluster.failover(slot).await?;
    assert_ne!(new.port(), old.port());
    assert_eq!(new.admin(&["GET", "k"]).await?, RedisReply::Bytes("v".into()));
    assert_eq!(cluster.replica_of(slot).await?.port(), old.port());
    Ok(())
}

#[trine_testkit::test]
async fn a_half_moved_slot_answers_ask_and_tryagain() -> Result<()> {
    let cluster = RedisCluster::builder().node(Redis::builder().password("secret")).start().await?;
    let slot = cluster.slot_of("{k}").await?;
    let (from, to) = (cluster.master_of(slot).await?, other_master(&cluster, slot).await?);
    from.admin(&["MSET", "{k}1", "a", "{k}2", "b"]).await?;
    let moving = cluster.begin_move(slot, to).await?;
    assert_eq!((moving.from().port(), moving.to().port()), (from.port(), to.port()));
    assert_eq!(from.admin(&["GET", "{k}1"]).await?, RedisReply::Bytes("a".into()));
    moving.move_key("{k}1").await?;
    assert_eq!(refusal(from, &["GET", "{k}1"]).await, format!("ASK {slot} {}", to.addr()));
    assert!(refusal(from, &["MGET", "{k}1", "{k}2"]).await.starts_with("TRYAGAIN"));
    assert!(refusal(to, &["GET", "{k}1"]).await.starts_with("MOVED"));
    moving.finish().await?;
    let both = to.admin(&["MGET", "{k}1", "{k}2"]).await?;
    assert_eq!(both.items(), ["a", "b"].map(|text| RedisReply::Bytes(text.into())));
    assert_eq!(refusal(from, &["GET", "{k}1"]).await, format!("MOVED {slot} {}", to.addr()));
    cluster.move_slot(slot, from).await?;
    assert_eq!(cluster.master_of(slot).await?.port(), from.port());
    Ok(())
}

#[trine_testkit::test]
async fn nodes_behind_proxies_announce_them() -> Result<()> {
    let cluster = RedisCluster::builder().behind_proxies().start().await?;
    let slot = cluster.slot_of("k").await?;
    let (owner, other) = (cluster.master_of(slot).await?, other_master(&cluster, slot).await?);
    let proxy = cluster.proxy_of(owner).unwrap();
    assert_eq!(refusal(other, &["GET", "k"]).await, format!("MOVED {slot} {}", proxy.addr()));
    assert!(cluster.addresses().contains(&proxy.addr().to_string()));
    proxy.set_door(Door::Refuse).await?;
    std::net::TcpStream::connect(proxy.addr()).unwrap_err();
    Ok(())
}

#[trine_testkit::test]
async fn the_shared_cluster_is_one_and_serves_other_processes() -> Result<()> {
    let shared = RedisCluster::shared().await?;
    assert_eq!(shared.addresses(), RedisCluster::shared().await?.addresses());
    assert_ne!(shared.namespace(), shared.namespace());
    if shared.is_own() {
        let child = again("redis_cluster::the_shared_cluster_is_one_and_serves_other_processes")
            .env("TRINE_TEST_REDIS_CLUSTER", shared.addresses().join(","))
            .spawn()?;
        let status = child.wait(std::time::Duration::from_secs(20)).await?;
        assert!(status.success(), "{}", child.log());
        assert!(child.log().contains("1 passed"), "{}", child.log());
    }
    Ok(())
}

#[trine_testkit::test]
async fn what_is_no_cluster_is_refused() -> Result<()> {
    let single = Redis::start().await?;
    let child = again("redis_cluster::the_shared_cluster_is_one_and_serves_other_processes")
        .env("TRINE_TEST_REDIS_CLUSTER", single.addr().to_string())
        .spawn()?;
    assert!(!child.wait(std::time::Duration::from_secs(20)).await?.success());
    assert!(child.log().contains("names no nodes of a cluster"), "{}", child.log());
    Ok(())
}

#[trine_testkit::test]
async fn a_cluster_that_cannot_be_had_says_how_to_get_one() -> Result<()> {
    let child = again("redis_cluster::nodes_share_the_slots_and_send_clients_to_the_owner")
        .env("PATH", "/nonexistent")
        .spawn()?;
    assert!(!child.wait(std::time::Duration::from_secs(20)).await?.success());
    let log = child.log();
    assert!(log.contains("apt-get install") && log.contains("TRINE_TEST_REDIS_CLUSTER"), "{log}");
    let error =
        RedisCluster::builder().node(RedisBuilder::default().option("port", "1")).start().await;
    assert!(matches!(error, Err(Error::Invalid(_))));
    Ok(())
}
