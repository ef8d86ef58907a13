//! A cluster.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;
use trine_core::{CallContext, Deadline, ErrorKind, HealthStatus, Secret};
use trine_redis::{
    Command, RedisConfig, RedisPool, RedisService, Route, Script, SubscriptionEvent, TlsConfig,
    Value,
};
use trine_testkit::{Flow, Redis, RedisCluster};

use crate::support::{
    Load, PATIENCE, TestResult, close, connect, get, incr, least_rights, scan_on, set, single,
    text, until, until_works,
};

/// A fail-over takes two to three seconds here, and ten are stated.
const FAIL_OVER: Duration = Duration::from_secs(50);

fn config(addresses: &[String]) -> RedisConfig {
    let urls = addresses.iter().map(|address| Secret::new(format!("redis://{address}")));
    RedisConfig::cluster("test:it", urls)
        .with_reconnect(Duration::from_millis(10), Duration::from_millis(200))
}

/// Starts a cluster whose healthy masters serve while another is away.
async fn partial() -> trine_testkit::Result<RedisCluster> {
    let node = Redis::builder().option("cluster-require-full-coverage", "no");
    RedisCluster::builder().node(node).start().await
}

async fn redirects(service: &RedisService) -> u64 {
    service.metrics().counter("trine_redis_redirects_total", &[]).unwrap()
}

/// Returns a key of a slot that `node` owns.
async fn key_on(cluster: &RedisCluster, node: &Redis) -> String {
    for n in 0..1_000 {
        let key = format!("{{t{n}}}");
        let slot = cluster.slot_of(&key).await.unwrap();
        if cluster.master_of(slot).await.unwrap().port() == node.port() {
            return key;
        }
    }
    panic!("no key leads to {node:?}");
}

async fn other_master<'a>(cluster: &'a RedisCluster, than: &Redis) -> &'a Redis {
    for slot in [0, 8_000, 16_000] {
        let master = cluster.master_of(slot).await.unwrap();
        if master.port() != than.port() {
            return master;
        }
    }
    panic!("one master has everything");
}

#[trine_testkit::test]
async fn commands_go_to_the_masters_of_their_keys() -> TestResult {
    let cluster = RedisCluster::shared().await?;
    // One seed is enough, whichever it is.
    let service = connect(&config(&cluster.addresses()[2..3])).await;
    let redis = service.pool();
    let namespace = cluster.namespace();
    let key = |n| format!("{namespace}k{n}");
    for n in 0..50 {
        assert!(redis.run(&set(&key(n), n.to_string())).await?.is_ok());
    }
    let all = redis.run_all((0..50).map(|n| get(&key(n))).collect()).await;
    for (n, value) in all.into_iter().enumerate() {
        assert_eq!(text(&value?), n.to_string());
    }
    assert_eq!(redirects(&service).await, 0, "the map is right from the beginning");
    let two_slots = Command::read("MGET").key("a").key("b");
    assert_eq!(redis.run(&two_slots).await.unwrap_err().kind(), ErrorKind::Invalid);
    let script = Script::new("return redis.call('GET', KEYS[1])");
    assert_eq!(text(&redis.run(&script.command([key(7)])).await?), "7");
    let masters = redis.on_each_master(&Command::read("DBSIZE")).await?;
    assert_eq!(masters.len(), 3);
    assert!(masters.iter().all(|(_, size)| size.is_ok()));
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn the_rights_of_the_page_are_enough() -> TestResult {
    let node = Redis::builder().user("app", least_rights());
    let cluster = RedisCluster::builder().node(node).start().await?;
    let config = config(&cluster.addresses()).with_credentials("app", Secret::new("secret"));
    let service = connect(&config).await;
    let redis = service.pool();
    let key = "{m}k";
    redis.run(&set(key, "1")).await?;
    let from = cluster.master_of(cluster.slot_of(key).await?).await?;
    let moving =
        cluster.begin_move(cluster.slot_of(key).await?, other_master(&cluster, from).await).await?;
    moving.move_key(key).await?;
    assert_eq!(redis.run(&incr(key)).await?, Value::Int(2));
    moving.finish().await?;
    assert_eq!(redis.run(&incr(key)).await?, Value::Int(3));
    assert_eq!(service.health().await.status, HealthStatus::Up);
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn commands_without_a_key_go_to_the_masters_in_turn() -> TestResult {
    let cluster = RedisCluster::shared().await?;
    let service = connect(&config(cluster.addresses())).await;
    let redis = service.pool();
    let mut seen = std::collections::BTreeMap::<String, u32>::new();
    let who = Command::read("CLUSTER").arg("MYID");
    // Those that are not connected yet are passed over.
    redis.on_each_master(&who).await?;
    for _ in 0..30 {
        *seen.entry(text(&redis.run(&who).await?).to_owned()).or_default() += 1;
    }
    assert_eq!(seen.values().copied().collect::<Vec<_>>(), [10, 10, 10]);
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn a_cluster_is_followed_over_tls() -> TestResult {
    let node = Redis::builder().tls();
    let cluster = RedisCluster::builder().node(node).behind_proxies().start().await?;
    let addresses = cluster.addresses();
    let urls = addresses.iter().take(2).map(|address| Secret::new(format!("rediss://{address}")));
    let mut tls = TlsConfig::default();
    tls.ca_file = Some(cluster.nodes()[0].tls().unwrap().ca_file());
    let mut config = RedisConfig::cluster("test:it", urls).with_tls(tls);
    let service = connect(&config).await;
    let redis = service.pool();
    let keys: Vec<_> = (0..30).map(|n| format!("k{n}")).collect();
    for key in &keys {
        redis.run(&set(key, "1")).await?;
    }
    assert_eq!(redirects(&service).await, 0);
    for (name, facts) in redis.servers().await? {
        assert!(facts.is_ok() && addresses.contains(&name.to_string()), "{name}: {facts:?}");
    }
    let key = "{m}k";
    redis.run(&set(key, "1")).await?;
    let slot = cluster.slot_of(key).await?;
    cluster.move_slot(slot, other_master(&cluster, cluster.master_of(slot).await?).await).await?;
    assert_eq!(redis.run(&incr(key)).await?, Value::Int(2));
    cluster.failover(slot).await?;
    until_works(redis, &incr(key)).await;
    close(&service).await;

    // The name of the announced hosts is not in the certificates.
    config.tls.server_name = Some("redis.example".to_owned());
    let error = RedisService::connect(&config).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
    Ok(())
}

/// Has nobody have `slot` any more, the owner first: it would claim it.
async fn orphan(cluster: &RedisCluster, owner: &Redis, slot: &str) -> trine_testkit::Result<()> {
    let others = cluster.nodes().iter().filter(|node| node.port() != owner.port());
    for node in std::iter::once(owner).chain(others) {
        node.admin(&["CLUSTER", "DELSLOTS", slot]).await?;
    }
    Ok(())
}

#[trine_testkit::test]
async fn a_slot_without_a_master_is_looked_for_again() -> TestResult {
    let cluster = partial().await?;
    let mut config = config(&cluster.addresses());
    config.topology_interval = Duration::from_secs(3_600).into();
    let service = connect(&config).await;
    let redis = service.pool();
    let owner = cluster.master_of(0).await?;
    let key = key_on(&cluster, owner).await;
    redis.run(&incr(&key)).await?;
    let slot = cluster.slot_of(&key).await?.to_string();
    orphan(&cluster, owner, &slot).await?;
    until("a slot without a master", async || {
        let error = redis.run(&incr(&key)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        let health = service.health().await;
        health.error.is_some_and(|error| error.contains("1 slots have no master"))
    })
    .await;
    owner.admin(&["CLUSTER", "ADDSLOTS", &slot]).await?;
    until_works(redis, &incr(&key)).await;
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn a_cluster_that_takes_no_calls_is_not_well() -> TestResult {
    let cluster = RedisCluster::start().await?;
    let service = connect(&config(&cluster.addresses())).await;
    assert_eq!(service.health().await.status, HealthStatus::Up);
    let owner = cluster.master_of(0).await?;
    orphan(&cluster, owner, "0").await?;
    until("a bad health", async || service.health().await.status == HealthStatus::Down).await;
    let error = service.health().await.error.unwrap();
    assert!(error.contains("cluster"), "{error}");
    owner.admin(&["CLUSTER", "ADDSLOTS", "0"]).await?;
    until("a good health", async || service.health().await.status == HealthStatus::Up).await;
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn a_scan_walks_all_masters() -> TestResult {
    let cluster = RedisCluster::shared().await?;
    let service = connect(&config(cluster.addresses())).await;
    let redis = service.pool();
    // The prefix has what is special in a pattern.
    let namespace = cluster.namespace();
    let prefix = format!("{namespace}scan[*]");
    let other = format!("{namespace}scanx");
    let mut batch: Vec<_> = (0..300).map(|n| set(&format!("{prefix}{n}"), "v")).collect();
    batch.push(set(&other, "v"));
    assert!(redis.run_all(batch).await.iter().all(Result::is_ok));
    let mut found = BTreeSet::new();
    scan_on(redis, &prefix, None, &mut found).await;
    assert_eq!(found.len(), 300);
    assert!(found.iter().all(|key| key.starts_with(prefix.as_bytes())));
    close(&service).await;
    Ok(())
}

/// Has the master of `slot` be the greater or the smaller by name of the two
/// that have its keys.
async fn have_master(
    cluster: &RedisCluster,
    slot: u16,
    greater: bool,
) -> trine_testkit::Result<()> {
    let master = cluster.master_of(slot).await?.addr().to_string();
    let replica = cluster.replica_of(slot).await?.addr().to_string();
    if (master > replica) != greater {
        cluster.failover(slot).await?;
    }
    Ok(())
}

async fn until_masters_are_known(cluster: &RedisCluster, pool: &RedisPool) -> TestResult {
    let mut masters = Vec::new();
    for slot in [0, 8_000, 16_000] {
        masters.push(cluster.master_of(slot).await?.addr().to_string());
    }
    masters.sort();
    until("the new masters", async || {
        let known = pool.on_each_master(&Command::read("PING")).await.unwrap();
        let mut known: Vec<_> = known.iter().map(|(name, _)| name.to_string()).collect();
        known.sort();
        known == masters
    })
    .await;
    Ok(())
}

#[trine_testkit::test]
async fn a_scan_misses_no_key_while_servers_take_over() -> TestResult {
    let cluster = RedisCluster::start().await?;
    for slot in [0, 8_000, 16_000] {
        have_master(&cluster, slot, true).await?;
    }
    let mut config = config(&cluster.addresses());
    config.topology_interval = trine_core::Span::millis(100);
    let service = connect(&config).await;
    let redis = service.pool();
    until_masters_are_known(&cluster, redis).await?;
    let batch = (0..300).map(|n| set(&format!("scan{n}"), "v")).collect();
    assert!(redis.run_all(batch).await.iter().all(Result::is_ok));
    let page = redis.scan("scan", None, 10).await?;
    let mut found: BTreeSet<_> = page.keys.into_iter().collect();
    // Every successor sorts before its predecessor.
    for slot in [0, 8_000, 16_000] {
        have_master(&cluster, slot, false).await?;
    }
    until_masters_are_known(&cluster, redis).await?;
    scan_on(redis, "scan", page.next, &mut found).await;
    assert_eq!(found.len(), 300);
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn a_scan_misses_no_key_of_a_slot_that_has_moved() -> TestResult {
    let cluster = RedisCluster::start().await?;
    let mut config = config(&cluster.addresses());
    config.topology_interval = trine_core::Span::millis(100);
    let service = connect(&config).await;
    let redis = service.pool();
    // Walked first, and last.
    let (first, last) = (cluster.master_of(0).await?, cluster.master_of(16_000).await?);
    let tag = key_on(&cluster, last).await;
    let key = |n| format!("{tag}{n}");
    let batch = (0..100).map(|n| set(&key(n), "v")).collect();
    assert!(redis.run_all(batch).await.iter().all(Result::is_ok));
    let page = redis.scan(&tag, None, 1_000).await?;
    assert!(page.keys.is_empty() && page.next.is_some(), "{page:?}");
    cluster.move_slot(cluster.slot_of(&tag).await?, first).await?;
    until_works(redis, &get(&key(1))).await;
    let mut found = BTreeSet::new();
    scan_on(redis, &tag, page.next, &mut found).await;
    assert_eq!(found.len(), 100);
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn a_slot_that_moves_is_followed() -> TestResult {
    let cluster = RedisCluster::start().await?;
    let service = connect(&config(&cluster.addresses())).await;
    let redis = service.pool();
    let (here, there, new) = ("{m}here", "{m}there", "{m}new");
    let slot = cluster.slot_of(here).await?;
    for key in [here, there] {
        redis.run(&set(key, key)).await?;
    }
    let from = cluster.master_of(slot).await?;
    let to = other_master(&cluster, from).await;
    let moving = cluster.begin_move(slot, to).await?;
    moving.move_key(there).await?;

    // Half moved: ASK for what is gone, TRYAGAIN for what is on both sides.
    for key in [here, there] {
        assert_eq!(text(&redis.run(&get(key)).await?), key);
    }
    assert!(redirects(&service).await >= 1);
    assert_eq!(redis.run(&incr(new)).await?, Value::Int(1));
    let batch = vec![get(here), get(there), incr(new), Command::read("LLEN").key(there)];
    let results = redis.run_all(batch).await;
    assert_eq!(text(results[0].as_ref().unwrap()), here);
    assert_eq!(text(results[1].as_ref().unwrap()), there);
    assert_eq!(*results[2].as_ref().unwrap(), Value::Int(2));
    assert_eq!(results[3].as_ref().unwrap_err().kind(), ErrorKind::Invalid);
    let both = Command::read("MGET").key(here).key(there);
    let error = redis.run(&both).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    // Sent on five times, and not waited for after the last, nor beyond the
    // deadline of the call.
    let before = redirects(&service).await;
    let batch = || redis.run_all(vec![both.clone(), get(here)]);
    let results = batch().await;
    assert_eq!(results[0].as_ref().unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(redirects(&service).await, before + 5);
    let near = CallContext::default().with_deadline(Deadline::after(Duration::from_millis(40)));
    let results = near.scope(batch()).await;
    assert!(results[0].is_err());
    assert_eq!(redirects(&service).await, before + 5);
    let waiting = redis.run(&both);
    let (read, moved) = tokio::join!(waiting, moving.move_key(here));
    moved?;
    if let Ok(read) = read {
        assert_eq!(read.as_array().unwrap().len(), 2);
    }
    assert_eq!(redis.run(&both).await?.as_array().unwrap().len(), 2);

    // Moved for good: MOVED once, then the map knows.
    moving.finish().await?;
    assert_eq!(redis.run(&incr(new)).await?, Value::Int(3));
    let results = redis.run_all(vec![get(here), get(there)]).await;
    assert!(results.iter().all(Result::is_ok));
    let before = redirects(&service).await;
    assert_eq!(redis.run(&incr(new)).await?, Value::Int(4));
    assert_eq!(redirects(&service).await, before);
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn a_batch_keeps_its_order_where_the_first_use_of_a_script_was_refused() -> TestResult {
    let cluster = RedisCluster::start().await?;
    let mut config = config(&cluster.addresses());
    config.topology_interval = PATIENCE.into();
    let service = connect(&config).await;
    let redis = service.pool();
    let from = cluster.master_of(0).await?;
    let mut keys = Vec::new();
    for n in 0..1_000 {
        let key = format!("{{t{n}}}");
        if cluster.master_of(cluster.slot_of(&key).await?).await?.port() == from.port() {
            keys.push(key);
        }
        if keys.len() == 2 {
            break;
        }
    }
    let [moved, kept] = &*keys else { panic!("{keys:?}") };
    let to = other_master(&cluster, from).await;
    cluster.move_slot(cluster.slot_of(moved).await?, to).await?;
    let script = Script::new("return redis.call('APPEND', KEYS[1], ARGV[1])");
    let batch = vec![
        script.command([moved]).arg("a"),
        script.command([kept]).arg("a"),
        Command::write("APPEND").key(kept).arg("b"),
    ];
    assert!(redis.run_all(batch).await.iter().all(Result::is_ok));
    assert_eq!(redirects(&service).await, 1);
    assert_eq!(text(&redis.run(&get(kept)).await?), "ab");
    assert_eq!(text(&redis.run(&get(moved)).await?), "a");
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn calls_work_again_after_a_master_died() -> TestResult {
    let cluster = partial().await?;
    let service = connect(&config(&cluster.addresses())).await;
    let redis = service.pool();
    let victim = cluster.master_of(0).await?;
    let (lost, kept) = (
        key_on(&cluster, victim).await,
        key_on(&cluster, other_master(&cluster, victim).await).await,
    );
    let (lost_load, kept_load) = (Load::start(redis, &lost), Load::start(redis, &kept));
    lost_load.wait_for(50).await;
    let died = Instant::now();
    victim.kill().await?;
    lost_load.wait_for_failure().await;
    let took = until_works(redis, &incr("{other}")).await;
    assert!(took < FAIL_OVER);
    until_works(redis, &get(&lost)).await;
    assert!(died.elapsed() < FAIL_OVER, "{:?}", died.elapsed());
    lost_load.wait_for(50).await;
    let (lost_load, kept_load) = (lost_load.end().await, kept_load.end().await);
    // Nothing is sent twice; the old master may take the last writes with it.
    assert!(lost_load.on_server(redis).await <= lost_load.ok + lost_load.unknown);
    assert_eq!(kept_load.failed() + kept_load.unknown, 0, "{kept_load:?}");
    assert_eq!(kept_load.on_server(redis).await, kept_load.ok);
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn a_stopped_master_is_left_and_harms_no_other() -> TestResult {
    let cluster = partial().await?;
    let service = connect(&config(&cluster.addresses())).await;
    let redis = service.pool();
    let victim = cluster.master_of(0).await?;
    let (lost, kept) = (
        key_on(&cluster, victim).await,
        key_on(&cluster, other_master(&cluster, victim).await).await,
    );
    until_works(redis, &incr(&lost)).await;
    let kept_load = Load::start(redis, &kept);
    victim.pause().await?;
    let stopped = Instant::now();
    until_works(redis, &incr(&lost)).await;
    assert!(stopped.elapsed() < FAIL_OVER, "{:?}", stopped.elapsed());
    let kept_load = kept_load.end().await;
    assert!(kept_load.ok > 0);
    assert_eq!(kept_load.failed() + kept_load.unknown, 0, "{kept_load:?}");
    victim.resume().await?;
    cluster.wait_until_ok().await?;
    until_works(redis, &incr(&lost)).await;
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn an_orderly_fail_over_is_followed() -> TestResult {
    let cluster = RedisCluster::start().await?;
    let service = connect(&config(&cluster.addresses())).await;
    let key = key_on(&cluster, cluster.master_of(0).await?).await;
    let load = Load::start(service.pool(), &key);
    load.wait_for(50).await;
    cluster.failover(0).await?;
    load.wait_for(50).await;
    let load = load.end().await;
    let counted = load.on_server(service.pool()).await;
    assert!(load.ok <= counted && counted <= load.ok + load.unknown, "{counted} of {load:?}");
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn a_password_changes_on_all_masters_or_on_none() -> TestResult {
    let node = Redis::builder().user("bob", "on >first ~* &* +@all");
    let cluster = RedisCluster::builder().node(node).start().await?;
    let config = config(&cluster.addresses()).with_credentials("bob", Secret::new("first"));
    let service = connect(&config).await;
    let redis = service.pool();
    let missing = cluster.master_of(16_000).await?;
    let is_missing = |node: &Redis| node.port() == missing.port();
    for node in cluster.nodes().iter().filter(|node| !is_missing(node)) {
        node.admin(&["ACL", "SETUSER", "bob", ">second"]).await?;
    }
    let error = redis.set_credentials("bob", Secret::new("second")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    let shown = trine_core::Report(&error).to_string();
    assert!(shown.contains(&missing.addr().to_string()), "{shown}");
    missing.kill_connections().await?;
    let key = key_on(&cluster, missing).await;
    until_works(redis, &incr(&key)).await;

    missing.admin(&["ACL", "SETUSER", "bob", ">second"]).await?;
    redis.set_credentials("bob", Secret::new("second")).await?;
    for node in cluster.nodes() {
        node.admin(&["ACL", "SETUSER", "bob", "<first"]).await?;
        node.kill_connections().await?;
    }
    until_works(redis, &incr(&key)).await;
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn passwords_that_change_at_once_leave_one_user() -> TestResult {
    let users = ["bob", "eve"];
    let node = users
        .iter()
        .fold(Redis::builder(), |node, user| node.user(*user, "on >secret ~* &* +@all"));
    let cluster = RedisCluster::builder().node(node).start().await?;
    let config = config(&cluster.addresses()).with_credentials("bob", Secret::new("secret"));
    let service = connect(&config).await;
    let redis = service.pool();
    for _ in 0..20 {
        let [bob, eve] = users.map(|user| redis.set_credentials(user, Secret::new("secret")));
        let (bob, eve) = tokio::join!(bob, eve);
        bob.and(eve)?;
        let mut own = redis.acquire(Route::Any).await?;
        let who = Command::read("ACL").arg("WHOAMI");
        let next = own.run(&who, PATIENCE).await?;
        for (node, user) in redis.on_each_master(&who).await? {
            assert_eq!(user?, next, "{node}");
        }
    }
    close(&service).await;
    Ok(())
}

/// Has `node` know nobody but itself for a minute, as on the far side of a
/// partition.
async fn cut_off(node: &Redis) -> trine_testkit::Result<()> {
    let nodes = node.admin(&["CLUSTER", "NODES"]).await?.text().unwrap();
    for line in nodes.lines().filter(|line| !line.contains("myself")) {
        let id = line.split(' ').next().unwrap();
        node.admin(&["CLUSTER", "FORGET", id]).await?;
    }
    Ok(())
}

#[trine_testkit::test]
async fn a_master_that_was_cut_off_has_no_say() -> TestResult {
    for coverage in ["no", "yes"] {
        let node = Redis::builder().option("cluster-require-full-coverage", coverage);
        let cluster = RedisCluster::builder().node(node).behind_proxies().start().await?;
        let old = cluster.master_of(0).await?;
        let key = key_on(&cluster, old).await;
        let successor = cluster.replica_of(0).await?;
        cut_off(old).await?;
        successor.admin(&["CLUSTER", "FAILOVER", "TAKEOVER"]).await?;
        until("a successor", async || {
            cluster.master_of(0).await.unwrap().port() == successor.port()
        })
        .await;
        // The old master is the quickest to answer.
        let others = cluster.nodes().iter().filter(|node| node.port() != old.port());
        for node in others.clone() {
            let proxy = cluster.proxy_of(node).unwrap();
            proxy.set_replies(Flow::Delay(Duration::from_millis(20)));
        }
        let in_order = std::iter::once(old).chain(others.clone());
        let seeds: Vec<_> =
            in_order.map(|node| cluster.proxy_of(node).unwrap().addr().to_string()).collect();
        let mut config = config(&seeds[..3]);
        config.topology_interval = Duration::from_millis(50).into();
        let service = connect(&config).await;
        assert!(service.pool().run(&set(&key, "v")).await?.is_ok());
        let there = successor.admin(&["GET", &key]).await?;
        assert_eq!(there.text().as_deref(), Some("v"), "coverage {coverage}");

        // Now it is the only one that answers at all.
        let looks =
            async || service.metrics().counter("trine_redis_topology_reads_total", &[]).unwrap();
        for node in others.clone() {
            cluster.proxy_of(node).unwrap().set(Flow::Hang);
        }
        let before = looks().await;
        until("some looks", async || looks().await >= before + 4).await;
        for node in others {
            cluster.proxy_of(node).unwrap().set(Flow::Pass);
        }
        until_works(service.pool(), &set(&key, "w")).await;
        let there = successor.admin(&["GET", &key]).await?;
        assert_eq!(there.text().as_deref(), Some("w"), "coverage {coverage}");
        assert_eq!(service.metrics().gauge("trine_redis_masters", &[]), Some(3.0));
        close(&service).await;
    }
    Ok(())
}

/// Makes a new cluster of three masters, whose epoch is lower, of the nodes.
async fn made_anew(cluster: &RedisCluster) -> TestResult {
    for node in cluster.nodes() {
        if node.info("role").await?.as_deref() == Some("master") {
            node.admin(&["FLUSHALL"]).await?;
        }
        node.admin(&["CLUSTER", "RESET", "HARD"]).await?;
    }
    let masters = &cluster.nodes()[..3];
    let ranges = [["5462", "10923"], ["10924", "16383"], ["0", "5461"]];
    for (node, [first, last]) in masters.iter().zip(ranges) {
        node.admin(&["CLUSTER", "ADDSLOTSRANGE", first, last]).await?;
        for other in masters {
            let own = other.admin(&["CLUSTER", "NODES"]).await?.text().unwrap();
            let own = own.lines().find(|line| line.contains("myself")).unwrap();
            let bus = own.split(['@', ' ']).nth(2).unwrap();
            let port = other.port().to_string();
            node.admin(&["CLUSTER", "MEET", "127.0.0.1", &port, bus]).await?;
        }
    }
    for node in masters {
        until("a new cluster", async || {
            let info = node.admin(&["CLUSTER", "INFO"]).await.unwrap().text().unwrap();
            info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
        })
        .await;
    }
    Ok(())
}

#[trine_testkit::test]
async fn a_cluster_that_was_made_anew_is_believed() -> TestResult {
    let cluster = RedisCluster::start().await?;
    let mut config = config(&cluster.addresses());
    config.topology_interval = Duration::from_millis(50).into();
    let service = connect(&config).await;
    let redis = service.pool();
    redis.run(&set("k", "v")).await?;
    made_anew(&cluster).await?;
    // Nothing is sent, so that no refusal tells.
    until("a map of the new cluster", async || {
        let mut is_known = true;
        for key in ["a", "b", "c", "d", "e"] {
            let owner = match cluster.slot_of(key).await.unwrap() {
                0..=5_461 => 2,
                5_462..=10_923 => 0,
                _ => 1,
            };
            let owner = cluster.nodes()[owner].addr().to_string();
            let facts = redis.server(Route::Key(key.as_bytes())).await;
            is_known &= facts.is_ok_and(|facts| *facts.address == *owner);
        }
        is_known
    })
    .await;
    assert!(redis.run(&get("a")).await?.is_nil());
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn a_subscription_leaves_a_demoted_master() -> TestResult {
    let cluster = RedisCluster::start().await?;
    let service = connect(&config(&cluster.addresses())).await;
    let mut subscription = service.pool().subscribe(&["a"]).await?;
    let listeners = async |node: &Redis| {
        let counts = node.admin(&["PUBSUB", "NUMSUB", "a"]).await.unwrap();
        counts.items()[1].integer().unwrap()
    };
    let mut demoted = None;
    for slot in [0, 8_000, 16_000] {
        let master = cluster.master_of(slot).await?;
        if listeners(master).await == 1 {
            cluster.failover(slot).await?;
            demoted = Some(master);
        }
    }
    let demoted = demoted.expect("no master is listened to");
    for is_over in [false, true] {
        let event = tokio::time::timeout(PATIENCE, subscription.next()).await?;
        assert_eq!(event, Some(SubscriptionEvent::Gap { is_over }));
    }
    until("the end there", async || listeners(demoted).await == 0).await;
    service.pool().run(&Command::write("PUBLISH").arg("a").arg("x")).await?;
    let event = tokio::time::timeout(PATIENCE, subscription.next()).await?;
    assert!(matches!(event, Some(SubscriptionEvent::Message { .. })), "{event:?}");
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn a_lost_reply_is_not_sent_again() -> TestResult {
    let cluster = RedisCluster::builder().behind_proxies().start().await?;
    let service = connect(&config(&cluster.addresses())).await;
    let redis = service.pool();
    let node = cluster.master_of(0).await?;
    let key = key_on(&cluster, node).await;
    until_works(redis, &incr(&key)).await;
    let proxy = cluster.proxy_of(node).unwrap();
    proxy.set_replies(Flow::CutAfter(1));
    let error = redis.run(&incr(&key)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error:?}");
    proxy.set_replies(Flow::Pass);
    until_works(redis, &get(&key)).await;
    assert_eq!(text(&redis.run(&get(&key)).await?), "2");
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn a_slow_node_harms_no_other() -> TestResult {
    let cluster = RedisCluster::builder().behind_proxies().start().await?;
    let service = connect(&config(&cluster.addresses())).await;
    let redis = service.pool();
    let slow = cluster.master_of(0).await?;
    let (far, near) =
        (key_on(&cluster, slow).await, key_on(&cluster, other_master(&cluster, slow).await).await);
    for key in [&far, &near] {
        until_works(redis, &incr(key)).await;
    }
    cluster.proxy_of(slow).unwrap().set(Flow::Hang);
    let load = Load::start(redis, &near);
    let kind = |error: trine_redis::Error| error.kind();
    for _ in 0..3 {
        let kind = redis.run(&incr(&far)).await.map_err(kind).unwrap_err();
        assert!(matches!(kind, ErrorKind::OutcomeUnknown | ErrorKind::Unavailable), "{kind}");
    }
    let both = redis.run_all(vec![incr(&far), incr(&near)]).await;
    assert!(both[0].is_err() && both[1].is_ok(), "{both:?}");
    let load = load.end().await;
    assert_eq!(load.failed() + load.unknown, 0, "{load:?}");
    cluster.proxy_of(slow).unwrap().set(Flow::Pass);
    until_works(redis, &get(&far)).await;
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn a_half_open_connection_to_a_master_that_nobody_calls_is_noticed() -> TestResult {
    let cluster = RedisCluster::builder().behind_proxies().start().await?;
    let mut config = config(&cluster.addresses());
    config.topology_interval = trine_core::Span::millis(100);
    let service = connect(&config).await;
    let node = cluster.master_of(0).await?;
    until_works(service.pool(), &get(&key_on(&cluster, node).await)).await;
    let connects = || service.metrics().counter("trine_redis_connects_total", &[]).unwrap();
    let before = connects();
    cluster.proxy_of(node).unwrap().lose(trine_testkit::Side::Server);
    until("a new connection", async || connects() > before).await;
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn health_tells_of_masters_that_are_away() -> TestResult {
    let cluster = RedisCluster::start().await?;
    let service = connect(&config(&cluster.addresses())).await;
    let health = service.health().await;
    assert_eq!(health.status, HealthStatus::Up, "{health:?}");
    assert_eq!(health.details["masters"], 3);
    let facts = service.pool().server(Route::Key(b"k")).await?;
    assert!(!facts.run_id.is_empty());
    for node in cluster.nodes() {
        node.kill().await?;
    }
    until("a bad health", async || service.health().await.status == HealthStatus::Down).await;
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn a_server_of_another_kind_is_refused() -> TestResult {
    let alone = Redis::start().await?;
    let error = RedisService::connect(&config(&[alone.addr().to_string()])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let shown = trine_core::Report(&error).to_string();
    assert!(shown.contains("without cluster support") && shown.contains("\"cluster\""), "{shown}");
    let cluster = RedisCluster::shared().await?;
    let url = format!("redis://{}", cluster.addresses()[0]);
    let error = RedisService::connect(&single(url)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let shown = trine_core::Report(&error).to_string();
    assert!(shown.contains("node of a cluster") && shown.contains("\"single\""), "{shown}");
    Ok(())
}

#[trine_testkit::test]
async fn seeds_that_are_away_stop_nobody_while_one_answers() -> TestResult {
    let cluster = RedisCluster::shared().await?;
    let mut seeds = vec!["127.0.0.1:1".to_owned(), "127.0.0.1:2".to_owned()];
    seeds.extend(["127.0.0.1:3".to_owned(), cluster.addresses()[0].clone()]);
    let service = connect(&config(&seeds)).await;
    let pool: &RedisPool = service.pool();
    assert!(tokio::time::timeout(PATIENCE, pool.run(&get("k"))).await?.is_ok());
    close(&service).await;
    Ok(())
}
