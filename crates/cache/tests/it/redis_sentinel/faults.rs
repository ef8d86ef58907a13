//! Masters that die, stop or are replaced while many callers use them.

use std::collections::BTreeMap;

use trine_core::Secret;
use trine_redis::RedisConfig;
use trine_testkit::{RedisSentinel, SoakPlan};

use crate::support::load::Load;
use crate::support::{Opened, hasty};

const CALLERS: u64 = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Killed,
    Stopped,
    /// Replaced in an orderly way.
    Demoted,
}

impl Fault {
    const ALL: [Self; 3] = [Self::Killed, Self::Stopped, Self::Demoted];

    /// Does it, waits until everyone is served by the next master, and brings
    /// the old one back.
    async fn strike(self, servers: &RedisSentinel, load: &mut Load) {
        match self {
            Self::Killed => {
                let old = servers.kill_master().await.unwrap();
                load.failures(CALLERS).await;
                // Nothing is healed: the sentinels have to.
                load.recovers().await;
                servers.restart_as_replica(old).await.unwrap();
            }
            Self::Stopped => {
                let old = servers.pause_master().await.unwrap();
                load.failures(CALLERS).await;
                // Nothing is healed: the sentinels have to.
                load.recovers().await;
                old.resume().await.unwrap();
            }
            Self::Demoted => {
                servers.failover().await.unwrap();
                load.recovers().await;
            }
        }
        servers.wait_until_ok().await.unwrap();
        load.recovers().await;
    }
}

/// Rounds are fail-overs.
#[expect(clippy::print_stdout, reason = "the harness shows the figures")]
async fn fail_over() {
    let mut plan = SoakPlan::new("cache_failover", Fault::ALL.len() as u64).unwrap();
    let servers = RedisSentinel::start().await.unwrap();
    let addresses = servers.addresses();
    let urls = addresses.iter().map(|address| Secret::new(format!("redis://{address}")));
    let config = RedisConfig::sentinel("test:it", servers.master_name(), urls);
    let opened = Opened::new(&hasty(config)).await;
    let mut load = Load::start(&opened.cache, CALLERS, plan.seed());
    let mut struck = BTreeMap::new();
    load.answers(3).await;
    while let Some(round) = plan.next_round() {
        let at = plan.rng().below(Fault::ALL.len() as u64);
        let fault = Fault::ALL.get(round as usize).unwrap_or(&Fault::ALL[at as usize]);
        fault.strike(&servers, &mut load).await;
        *struck.entry(*fault).or_insert(0) += 1;
    }
    let ledger = load.end().await;
    // What a master takes while its successor is being made is lost with it.
    println!("{struck:?} (seed {}): {ledger}", plan.seed());
    opened.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everyone_is_served_by_the_next_master() {
    fail_over().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long form: cargo xtask soak cache_failover --count 20"]
async fn soak_cache_failover() {
    fail_over().await;
}
