//! Masters that die or are replaced, and slots that move, while many callers use
//! them.

use std::collections::BTreeMap;

use trine_core::Secret;
use trine_redis::RedisConfig;
use trine_testkit::{Redis, RedisCluster, SoakPlan};

use crate::support::load::Load;
use crate::support::race::race;
use crate::support::{Opened, hasty};

const CALLERS: u64 = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Killed,
    /// Replaced in an orderly way.
    Demoted,
    /// The slot of a caller goes to another master.
    Moved,
}

impl Fault {
    const ALL: [Self; 3] = [Self::Killed, Self::Demoted, Self::Moved];

    /// Does it to the slot of a caller, and waits until everyone is served.
    async fn strike(self, cluster: &RedisCluster, caller: u64, load: &mut Load) {
        let slot = cluster.slot_of(&format!("{{caller:{caller}}}")).await.unwrap();
        match self {
            Self::Killed => {
                let old = cluster.master_of(slot).await.unwrap();
                old.kill().await.unwrap();
                load.failures(CALLERS / 4).await;
                // Nothing is healed: the others have to.
                load.recovers().await;
                old.restart().await.unwrap();
            }
            Self::Demoted => {
                cluster.failover(slot).await.unwrap();
                load.recovers().await;
            }
            Self::Moved => {
                let to = other_master(cluster, slot).await;
                cluster.move_slot(slot, to).await.unwrap();
                load.recovers().await;
            }
        }
        cluster.wait_until_ok().await.unwrap();
        load.recovers().await;
    }
}

async fn other_master(cluster: &RedisCluster, slot: u16) -> &Redis {
    let own = cluster.master_of(slot).await.unwrap().port();
    for slot in [0, 8_000, 16_000] {
        let master = cluster.master_of(slot).await.unwrap();
        if master.port() != own {
            return master;
        }
    }
    panic!("one master has everything");
}

fn config(addresses: &[String]) -> RedisConfig {
    let urls = addresses.iter().map(|address| Secret::new(format!("redis://{address}")));
    hasty(RedisConfig::cluster("test:it", urls))
}

/// Rounds are faults.
#[expect(clippy::print_stdout, reason = "the harness shows the figures")]
async fn strike_many() {
    let mut plan = SoakPlan::new("cache_cluster", Fault::ALL.len() as u64).unwrap();
    let node = Redis::builder().option("cluster-require-full-coverage", "no");
    let cluster = RedisCluster::builder().node(node).start().await.unwrap();
    let opened = Opened::new(&config(&cluster.addresses())).await;
    let mut load = Load::start(&opened.cache, CALLERS, plan.seed());
    let mut struck = BTreeMap::new();
    load.answers(3).await;
    while let Some(round) = plan.next_round() {
        let at = plan.rng().below(Fault::ALL.len() as u64);
        let fault = Fault::ALL.get(round as usize).unwrap_or(&Fault::ALL[at as usize]);
        let caller = plan.rng().below(CALLERS);
        fault.strike(&cluster, caller, &mut load).await;
        *struck.entry(*fault).or_insert(0) += 1;
    }
    let ledger = load.end().await;
    // What a master takes while its successor is being made is lost with it.
    println!("{struck:?} (seed {}): {ledger}", plan.seed());
    opened.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everyone_is_served_by_whoever_has_the_slot() {
    strike_many().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long form: cargo xtask soak cache_cluster --count 20"]
async fn soak_cache_cluster() {
    strike_many().await;
}

// DB-20, on a cluster
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_stale_write_is_accepted_on_any_node() {
    let cluster = RedisCluster::shared().await.unwrap();
    let mut config = config(cluster.addresses());
    config.namespace = cluster.namespace();
    let opened = Opened::new(&config).await;
    let race = race(&opened.cache, "cluster", 5, 200, true).await;
    assert_eq!(race.stale, 0, "{race}");
    assert!(race.early > 10 && race.refused > 10, "the owners do not meet: {race}");
    opened.close().await;
}
