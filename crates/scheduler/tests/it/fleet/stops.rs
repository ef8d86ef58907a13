//! Processes that are stopped, told to end or killed while they have something.

use trine_scheduler::{AttemptEnd, TickState};

use super::*;

/// SC-08: between two of its steps.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planner_that_is_stopped_beyond_its_lease_makes_nothing_afterwards() {
    let mut fleet = Fleet::new(each_second(10)).await;
    for _ in 0..2 {
        fleet.join().await;
    }
    fleet.until("it makes ticks", async || !fleet.ticks(&member::job(0)).await.is_empty()).await;
    let planner = fleet.planner().await;
    let old = fleet.leave(planner);
    old.child.pause().await.unwrap();
    is_followed(&fleet, &old).await;
}

/// SC-08: in the middle of a step, with its rows locked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planner_that_is_stopped_in_its_transaction_is_followed() {
    let mut fleet = Fleet::new(each_second(10)).await;
    fleet.join().await;
    fleet.until("it makes ticks", async || !fleet.ticks(&member::job(0)).await.is_empty()).await;
    let mut lock = fleet.db().begin().await.unwrap();
    let text = "SELECT process FROM trine_job_planner FOR UPDATE";
    let _: Vec<String> = lock.query(text, ()).await.unwrap();
    let text = "SELECT COUNT(*) FROM information_schema.processlist \
                WHERE db = DATABASE() AND info LIKE 'UPDATE trine_job_planner%'";
    fleet
        .until("it is about to commit", async || {
            let steps: u64 = fleet.db().query_one(text, ()).await.unwrap();
            steps > 0
        })
        .await;
    let old = fleet.leave(0);
    old.child.pause().await.unwrap();
    // The server has it stay the planner, and it never commits that.
    lock.rollback().await.unwrap();
    fleet.join().await;
    is_followed(&fleet, &old).await;
}

/// Until another than the one that is stopped has made ticks, and that goes on.
async fn is_followed(fleet: &Fleet, old: &Member) {
    fleet.planner_but(&old.process).await;
    let text = "SELECT COUNT(*) FROM planning";
    let made = async || -> u64 { fleet.db().query_one(text, ()).await.unwrap() };
    let before = made().await;
    fleet.until("another makes ticks", async || made().await > before + 20).await;
    old.child.resume().unwrap();
    let until = fleet.now().await + secs(2);
    fleet.until("two seconds", async || fleet.now().await > until).await;

    let audit = fleet.audit().await;
    audit.assert_clean();
    assert_eq!(audit.changes, 1, "{}", audit.line());
    let is_by_old = |(by, _): &(String, audit::Name)| *by == old.process;
    let last_of_old = audit.made_by.iter().rposition(is_by_old).unwrap();
    let first_of_new = audit.made_by.iter().position(|made| !is_by_old(made)).unwrap();
    assert!(last_of_old < first_of_new, "the old planner went on");
    assert!(old.child.is_running());
}

/// The states of the first job's latest tick and its attempts.
async fn latest(fleet: &Fleet) -> (TickState, Vec<Option<AttemptEnd>>) {
    let tick = fleet.ticks(&member::job(0)).await.pop().unwrap();
    (tick.state, tick.attempts.into_iter().map(|attempt| attempt.end).collect())
}

/// Two members, and the one that runs the only tick.
async fn with_a_run(task: Task) -> (Fleet, Member) {
    let mut fleet = Fleet::new(task).await;
    for _ in 0..2 {
        fleet.join().await;
    }
    fleet.trigger().await;
    let begins = |fleet: &Fleet| {
        fleet.members.iter().position(|member| member.child.log().contains("begins"))
    };
    fleet.until("it begins", async || begins(&fleet).is_some()).await;
    let runner = begins(&fleet).unwrap();
    let runner = fleet.leave(runner);
    (fleet, runner)
}

async fn all_is_over(fleet: &Fleet) {
    fleet
        .until("it is over", async || {
            let ticks = fleet.ticks(&member::job(0)).await;
            ticks.iter().all(|tick| tick.state.is_over())
        })
        .await;
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// SC-13.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_stopped_for_less_than_its_lease_is_not_run_again() {
    let task = Task { before: secs(2), lease: secs(6), ..when_told() };
    let (fleet, runner) = with_a_run(task).await;
    runner.child.pause().await.unwrap();
    // A third of the lease may be over, and another third is left.
    let until = fleet.now().await + secs(2);
    fleet.until("two seconds", async || fleet.now().await > until).await;
    runner.child.resume().unwrap();
    all_is_over(&fleet).await;
    fleet.audit().await.assert_clean();
    let expected = (TickState::Succeeded, vec![Some(AttemptEnd::Succeeded)]);
    assert_eq!(latest(&fleet).await, expected);
}

/// SC-13: its effect is refused, and what it says of its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_stopped_for_its_lease_is_run_again_and_its_effect_is_refused() {
    let task = Task { before: secs(1), ..when_told() };
    let (fleet, runner) = with_a_run(task).await;
    runner.child.pause().await.unwrap();
    all_is_over(&fleet).await;
    runner.child.resume().unwrap();
    let refused = runner.says("refused").await;
    assert!(refused.contains("as attempt 1"), "{refused}");
    fleet.audit().await.assert_clean();
    let ends = vec![Some(AttemptEnd::Lost), Some(AttemptEnd::Succeeded)];
    assert_eq!(latest(&fleet).await, (TickState::Succeeded, ends));
}

/// SC-14: told to end as by a terminal, it ends what it has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_interrupted_ends_its_run_first() {
    let task = Task { before: secs(1), after: secs(1), ..when_told() };
    let (fleet, runner) = with_a_run(task).await;
    runner.child.interrupt().unwrap();
    runner.says("ended").await;
    assert!(runner.child.wait(BOUND).await.unwrap().success());
    fleet.audit().await.assert_clean();
    let expected = (TickState::Succeeded, vec![Some(AttemptEnd::Succeeded)]);
    assert_eq!(latest(&fleet).await, expected);
}

/// SC-14: killed before its effect it is run again, after it it is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_killed_is_run_again_unless_it_is_done() {
    let again = vec![Some(AttemptEnd::Lost), Some(AttemptEnd::Succeeded)];
    let done = vec![Some(AttemptEnd::Succeeded)];
    for (before, after, line, ends) in
        [(secs(1), secs(0), "begins", again), (secs(0), secs(60), "done", done)]
    {
        let task = Task { before, after, ..when_told() };
        let (fleet, runner) = with_a_run(task).await;
        runner.says(line).await;
        runner.child.kill().await.unwrap();
        all_is_over(&fleet).await;
        let later = fleet.now().await + fleet.task.lease + secs(1);
        fleet.until("a lease is over", async || fleet.now().await > later).await;
        fleet.audit().await.assert_clean();
        assert_eq!(latest(&fleet).await, (TickState::Succeeded, ends), "after `{line}`");
    }
}
