//! SC-12: what becomes of a tick beside a run.

use std::num::NonZeroU32;

use trine_core::Clock;
use trine_scheduler::{Job, Overlap, TickState};

use crate::support::{Log, SECOND, World};

/// Runs of 10 s that are due every 3 s begin at these seconds.
async fn begins(overlap: Overlap) -> (Vec<u64>, Vec<TickState>) {
    let (world, log) = (World::new(), Log::default());
    let (clock, says) = (world.clock.clone(), log.clone());
    let job = Job::new("a", "every 3s").with_overlap(overlap).run(move |_| {
        let clock = clock.clone();
        says.say(clock.now().elapsed().as_secs().to_string());
        async move {
            clock.sleep_until(clock.now() + SECOND * 10).await;
            Ok::<(), std::io::Error>(())
        }
    });
    let process = world.process(vec![job.unwrap()]).await;
    world.pass(SECOND * 31).await;
    let times: Vec<u64> = log.all().iter().map(|time| time.parse().unwrap()).collect();
    let begins = times.iter().map(|time| time - times[0]).collect();
    (begins, process.states("a").await)
}

#[tokio::test]
async fn a_tick_beside_a_run_is_skipped() {
    let (begins, states) = begins(Overlap::Skip).await;
    assert_eq!(begins, [0, 12, 24]);
    let overlapped = states.iter().filter(|state| **state == TickState::Overlapped).count();
    assert!(overlapped >= 6, "{states:?}");
}

#[tokio::test]
async fn one_tick_beside_a_run_waits_for_its_end() {
    let (begins, _) = begins(Overlap::QueueOne).await;
    assert_eq!(begins, [0, 10, 20, 30]);
}

#[tokio::test]
async fn so_many_ticks_run_beside_each_other() {
    let at_most = NonZeroU32::new(4).unwrap();
    let (begins, _) = begins(Overlap::Allow { at_most }).await;
    assert_eq!(begins, [0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30]);
    let at_most = NonZeroU32::new(2).unwrap();
    let (begins, _) = self::begins(Overlap::Allow { at_most }).await;
    assert_eq!(begins, [0, 3, 10, 13, 20, 23, 30], "further ones wait");
}
