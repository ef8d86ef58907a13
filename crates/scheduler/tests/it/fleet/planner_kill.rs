//! SC-07: whoever plans is killed, again and again.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use trine_testkit::SoakPlan;

use super::*;

const ROUND: Duration = Duration::from_secs(2);

/// Whose planners are followed within a round.
fn task(jobs: u32) -> Task {
    Task { planner_lease: Duration::from_secs(1), ..each_second(jobs) }
}

/// Kills whoever plans in each round, and has another process come for it.
async fn kill_planners(fleet: &mut Fleet, plan: &mut SoakPlan) {
    for _ in 0..3 {
        fleet.join().await;
    }
    let began = Instant::now();
    while let Some(round) = plan.next_round() {
        let round = u32::try_from(round).unwrap();
        // At any moment of a second, in which all jobs are due at once.
        let odd = Duration::from_millis(plan.rng().below(1_000));
        sleep_until(began + ROUND * round + odd).await;
        let planner = fleet.planner().await;
        fleet.leave(planner).child.kill().await.unwrap();
        fleet.join().await;
    }
}

async fn every_tick_is_completed_once(jobs: u32) {
    let mut plan = SoakPlan::new("scheduler_planner_kill", 4).unwrap();
    let mut fleet = Fleet::new(task(jobs)).await;
    kill_planners(&mut fleet, &mut plan).await;
    // A machine that cannot keep up has more to catch up the longer that was.
    fleet.patience += ROUND * u32::try_from(plan.rounds()).unwrap();
    let audit = fleet.audit().await;
    println!("{} planners killed", plan.rounds());
    audit.assert_clean();
    // All may be planned by then, so that nobody follows the last one killed.
    assert!(audit.changes as u64 + 1 >= plan.rounds(), "{}", audit.line());
    if plan.rounds() > 20 {
        assert!(audit.lost > 0, "no run was killed: {}", audit.line());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_tick_is_completed_once_while_planners_are_killed() {
    every_tick_is_completed_once(20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long form: cargo xtask soak scheduler_planner_kill"]
async fn soak_scheduler_planner_kill() {
    every_tick_is_completed_once(50).await;
}

/// What the audit is there to find: effects that are not in the transaction
/// that completes their tick.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn effects_outside_of_their_ticks_are_found_missing_and_doubled() {
    for (effect, found) in [(Effect::Before, "with effects"), (Effect::After, "without its effect")]
    {
        let mut plan = SoakPlan::new("scheduler_planner_kill_flaws", 3).unwrap();
        let mut fleet = Fleet::new(Task { effect, ..task(20) }).await;
        kill_planners(&mut fleet, &mut plan).await;
        let audit = fleet.audit().await;
        println!("{effect:?}: {}", audit.line());
        assert!(audit.count(found) > 0, "{effect:?}: {}", audit.line());
        assert_eq!(audit.count("never made") + audit.count("not completed"), 0);
    }
}

/// What the audit is there to find: a planner beside another one, and ticks that
/// are not made or made again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_planner_and_its_ticks_are_found() {
    let mut fleet = Fleet::new(each_second(1)).await;
    fleet.join().await;
    fleet.planner().await;
    let (db, job) = (fleet.db(), member::job(0));
    fleet.until("two ticks are done", async || fleet.ticks(&job).await.len() > 2).await;
    assert_eq!(fleet.audit().await.wrong.len(), 0);
    // As a planner would whose lease is not checked.
    let robs = "UPDATE trine_job_planner SET process = 'robber', \
                expires_at = UTC_TIMESTAMP(6) - INTERVAL 1 SECOND";
    let ended = "SELECT nominal FROM trine_tick WHERE ended_at IS NOT NULL \
                 ORDER BY nominal DESC LIMIT 2";
    let ended: Vec<Timestamp> = db.query(ended, ()).await.unwrap();
    for (text, nominal) in [
        (robs, None),
        ("CREATE TABLE twice AS SELECT * FROM trine_tick WHERE nominal = ?", Some(ended[0])),
        ("DELETE FROM trine_tick WHERE nominal >= ? AND ended_at IS NOT NULL", Some(ended[1])),
        ("INSERT INTO trine_tick SELECT * FROM twice", None),
        ("DELETE FROM planning WHERE nominal = ?", Some(ended[1])),
    ] {
        match nominal {
            Some(nominal) => db.execute(text, (nominal,)).await.unwrap(),
            None => db.execute(text, ()).await.unwrap(),
        };
    }
    let audit = fleet.audit().await;
    println!("{}", audit.line());
    for kind in ["two planners at once", "not made once", "never made", "effect without a tick"] {
        assert!(audit.count(kind) > 0, "{kind}: {}", audit.line());
    }
}
