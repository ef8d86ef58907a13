//! SC-15: processes whose wall clocks are minutes off.

use super::*;

/// Five minutes.
const OFF: i64 = 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wall_clocks_that_are_minutes_off_make_nothing_early_or_late() {
    let mut fleet = Fleet::new(each_second(10)).await;
    let url = fleet.database.url();
    for ahead in [OFF, -OFF, 0] {
        fleet.join_with(&url, ahead).await;
    }
    // Each of them plans in its turn, the one in the future first.
    for turn in 0..3 {
        let planner = fleet.planner().await;
        let until = fleet.now().await + Duration::from_secs(2);
        fleet.until("two seconds", async || fleet.now().await > until).await;
        if turn < 2 {
            let old = fleet.leave(planner);
            old.child.interrupt().unwrap();
            old.says("ended").await;
        }
    }
    let audit = fleet.audit().await;
    audit.assert_clean();
    assert_eq!(audit.planners.len(), 3, "{}", audit.line());
    // Early is one of what is wrong.
    assert!(audit.latest < Duration::from_secs(10), "{}", audit.line());
}
