//! LK-20: what clients of a store see is what one lock with leases would have
//! done, one call after the other, whatever goes wrong on the way to it.
//!
//! Written down is what passes between processes and the store, renewals and
//! releases in the background among it, and what guards say of themselves.

mod checker;
mod clients;
mod faults;
mod flaws;
mod model;
mod recorder;
mod stores;

use trine_testkit::SoakPlan;

use self::checker::{Verdict, check};
use self::flaws::Flaw;
use self::model::{Asked, Operation, Said};
use self::stores::{Stage, in_memory, on_mariadb, on_redis, on_sqlite};
use crate::memory;

/// What was in some histories.
#[derive(Debug, Default)]
struct Tally {
    keys: u64,
    operations: u64,
    unanswered: u64,
    granted: u64,
    stolen: u64,
    refused: u64,
    gone: u64,
    looks: u64,
    troubles: usize,
}

impl Tally {
    fn count(&mut self, operations: &[Operation]) {
        self.keys += 1;
        for Operation { asked, answer, .. } in operations {
            self.operations += 1;
            self.unanswered += u64::from(answer.is_none());
            let said = answer.map(|(said, _)| said);
            match (asked, said) {
                (Asked::Acquire { is_steal: true, .. }, Some(_)) => self.stolen += 1,
                (_, Some(Said::Granted(_))) => self.granted += 1,
                (_, Some(Said::HeldBy(_) | Said::Reserved)) => self.refused += 1,
                (_, Some(Said::Gone | Said::NotHeld | Said::HeldByOther)) => self.gone += 1,
                (Asked::Look { .. }, _) => self.looks += 1,
                _ => {}
            }
        }
    }
}

/// Checks the histories of one round; returns what is wrong with the first that
/// is.
async fn round(
    stage: Stage,
    seed: u64,
    flaw: Option<Flaw>,
    tally: &mut Tally,
) -> Result<(), (String, Verdict)> {
    let manners = stage.manners;
    let (log, troubles) = clients::run(stage, seed, flaw).await;
    tally.troubles += troubles;
    if let Some((key, token)) = log.given_twice().pop() {
        return Err((key, Verdict::Wrong(format!("grant {token} was given to two"))));
    }
    for (key, operations) in log.histories(manners.insists) {
        tally.count(&operations);
        match check(&operations, manners) {
            Verdict::Linearizable => {}
            wrong => return Err((key, wrong)),
        }
    }
    Ok(())
}

/// Checks rounds over fresh stores.
async fn every_history_is_one_of_a_lock(connect: impl AsyncFn() -> Stage, rounds: u64) {
    let mut plan = SoakPlan::new("lock_history", rounds).unwrap();
    let mut tally = Tally::default();
    let first = plan.seed();
    while let Some(round_number) = plan.next_round() {
        let seed = first.wrapping_add(round_number);
        if let Err((key, verdict)) = round(connect().await, seed, None, &mut tally).await {
            panic!("seed {seed}, round {round_number}, key {key}: {verdict:#?}");
        }
    }
    println!("{} rounds, all histories are those of a lock: {tally:?}", plan.rounds());
    let Tally { unanswered, granted, stolen, refused, gone, looks, .. } = tally;
    assert!(granted > plan.rounds() && looks > plan.rounds(), "too little happened: {tally:?}");
    if plan.rounds() < 10 {
        return;
    }
    let least = [unanswered, granted, stolen, refused, gone, looks].into_iter().min();
    assert!(least > Some(plan.rounds()), "too little happened: {tally:?}");
}

#[tokio::test]
async fn every_history_of_the_store_in_memory_is_one_of_a_lock() {
    every_history_is_one_of_a_lock(in_memory, 60).await;
}

/// Where the store tells nobody of anything.
#[tokio::test]
async fn every_history_of_a_store_that_is_asked_again_is_one_of_a_lock() {
    every_history_is_one_of_a_lock(async || Stage::near(memory::connect_deaf().await), 10).await;
}

/// On a clock that nobody sets, as that of a server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_history_in_real_time_is_one_of_a_lock() {
    every_history_is_one_of_a_lock(async || Stage::near(memory::connect_real().await), 1).await;
}

/// Whose answers are lost or late, and which is killed and comes back with its
/// data.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_history_of_a_redis_is_one_of_a_lock() {
    every_history_is_one_of_a_lock(on_redis, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_history_of_a_sqlite_is_one_of_a_lock() {
    every_history_is_one_of_a_lock(on_sqlite, 3).await;
}

/// Whose answers are lost or late.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_history_of_a_mariadb_is_one_of_a_lock() {
    every_history_is_one_of_a_lock(on_mariadb, 1).await;
}

/// The long form, once for each store.
mod soak {
    use super::*;

    mod memory {
        use super::*;

        #[tokio::test]
        #[ignore = "long form: cargo xtask soak lock_history"]
        async fn soak_lock_history() {
            every_history_is_one_of_a_lock(in_memory, 60).await;
        }
    }

    mod redis {
        use super::*;

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        #[ignore = "long form: cargo xtask soak lock_history"]
        async fn soak_lock_history() {
            every_history_is_one_of_a_lock(on_redis, 1).await;
        }
    }

    mod sqlite {
        use super::*;

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        #[ignore = "long form: cargo xtask soak lock_history"]
        async fn soak_lock_history() {
            every_history_is_one_of_a_lock(on_sqlite, 3).await;
        }
    }

    mod mariadb {
        use super::*;

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        #[ignore = "long form: cargo xtask soak lock_history"]
        async fn soak_lock_history() {
            every_history_is_one_of_a_lock(on_mariadb, 1).await;
        }
    }
}

/// Each flaw is found within a few rounds.
async fn every_flaw_is_found(connect: impl AsyncFn() -> Stage) {
    let mut plan = SoakPlan::new("lock_history_flaws", 1).unwrap();
    let first = plan.rng().next_u64();
    let find = async |flaw| {
        for number in 0..40 {
            let seed = first.wrapping_add(number);
            let mut tally = Tally::default();
            let verdict = round(connect().await, seed, Some(flaw), &mut tally).await;
            if let Err((_, Verdict::Wrong(_))) = verdict {
                println!("{flaw:?} was found in round {number}");
                return;
            }
        }
        panic!("{flaw:?} was not found from seed {first}");
    };
    let flaws = [Flaw::ReleasesOthers, Flaw::GrantsHeld, Flaw::RepeatsTokens];
    futures_util::future::join_all(flaws.map(find)).await;
}

#[tokio::test]
async fn a_history_of_a_store_with_a_flaw_is_found() {
    every_flaw_is_found(in_memory).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_history_of_a_redis_with_a_flaw_is_found() {
    every_flaw_is_found(on_redis).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_history_of_a_sqlite_with_a_flaw_is_found() {
    every_flaw_is_found(on_sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_history_of_a_mariadb_with_a_flaw_is_found() {
    every_flaw_is_found(on_mariadb).await;
}
