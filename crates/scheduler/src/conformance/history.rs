use super::{AttemptEnd, Call, Duration, FAR, Fixture, LONG, SHORT, id, job, parallel};
use crate::TickState;

/// The latest first.
pub async fn ticks_come_in_pages(fixture: Fixture) {
    let peer = fixture.peer("a").await;
    peer.register(&parallel("x", 9)).await;
    peer.register(&parallel("y", 9)).await;
    let mut expected = Vec::new();
    for _ in 0..5 {
        expected.push(peer.trigger("x").await);
        peer.trigger("y").await;
    }
    expected.reverse();
    let (mut found, mut before, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = peer.store.ticks(Call::new("ticks"), &id("x"), before, 2).await.unwrap();
        assert!(page.ticks.len() <= 2);
        found.extend(page.ticks.iter().map(|tick| tick.nominal));
        (before, pages) = (page.next, pages + 1);
        if before.is_none() {
            break;
        }
    }
    assert_eq!((found, pages), (expected, 3));
}

/// In the order of their names, of which a prefix is no pattern.
pub async fn jobs_come_in_pages(fixture: Fixture) {
    let peer = fixture.peer("a").await;
    let names = ["a", "r%", "r%1", "r%2", "r%3", "r_1", "rx1", "R%1", "ü"];
    for name in names {
        peer.register(&job(name, FAR)).await;
    }
    let list = async |prefix: &str, count| {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let jobs = peer.store.jobs(Call::new("jobs"), prefix, after.as_ref(), count);
            let page = jobs.await.unwrap();
            assert!(page.jobs.len() <= count as usize);
            found.extend(page.jobs.iter().map(|job| job.definition.id.to_string()));
            after = page.next;
            if after.is_none() {
                return found;
            }
        }
    };
    let mut all = names;
    all.sort_unstable();
    assert_eq!(list("", 2).await, all);
    assert_eq!(list("", 100).await, all);
    assert_eq!(list("r%", 2).await, ["r%", "r%1", "r%2", "r%3"]);
    assert_eq!(list("r_", 1).await, ["r_1"]);
    assert!(list("none", 2).await.is_empty());
}

/// By number and by age, a bounded count at a time, and none that goes on.
pub async fn a_sweep_forgets_what_is_old_and_what_is_too_much(fixture: Fixture) {
    let peer = fixture.peer("a").await;
    peer.register(&parallel("x", 9)).await;
    peer.register(&parallel("y", 9)).await;
    let mut times = Vec::new();
    for _ in 0..7 {
        times.push(peer.trigger("x").await);
    }
    let held = peer.claim(6).await;
    // The first and the last two go on.
    for tick in &held[1..5] {
        peer.succeed(tick).await;
    }
    let left = async |name: &str| {
        let ticks = peer.ticks(name).await;
        ticks.iter().rev().map(|tick| tick.nominal).collect::<Vec<_>>()
    };
    assert_eq!(peer.sweep(LONG, 4, 9).await, 0);
    assert_eq!(peer.sweep(LONG, 2, 1).await, 1);
    assert_eq!(left("x").await, [&times[..1], &times[2..]].concat());
    assert_eq!(peer.sweep(LONG, 2, 9).await, 1);
    assert_eq!(left("x").await, [&times[..1], &times[3..]].concat());
    fixture.pass(SHORT + Duration::from_millis(1)).await;
    peer.trigger("y").await;
    let other = peer.claim(9).await;
    for tick in &other {
        peer.finish(tick, AttemptEnd::TimedOut).await;
    }
    assert_eq!(peer.sweep(SHORT, 9, 9).await, 2);
    assert_eq!(left("x").await, [times[0], times[5], times[6]]);
    assert_eq!(left("y").await.len(), 1);
    peer.remove("y").await;
    fixture.pass(Duration::from_millis(2)).await;
    assert_eq!(peer.sweep(Duration::ZERO, 9, 9).await, 2);
    assert_eq!(left("x").await, [times[0], times[5]]);
    assert!(left("y").await.is_empty());
    assert_eq!(peer.sweep(Duration::ZERO, 9, 9).await, 0);
    assert_eq!(peer.job("x").await.open, 2);
    assert_eq!(peer.succeed(&held[0]).await, crate::FinishOutcome::Finished);
}

/// And not what waits for something else.
pub async fn the_overview_says_what_waits(fixture: Fixture) {
    let peer = fixture.peer("a").await;
    let overview = peer.overview().await;
    assert_eq!((overview.jobs, overview.running, overview.planner), (0, 0, None));
    assert_eq!((overview.oldest_due, overview.oldest_ready), (None, None));
    peer.register(&job("far", FAR)).await;
    peer.register(&job("x", "once now")).await;
    let next = peer.job("x").await.progress.next;
    let overview = peer.overview().await;
    assert_eq!((overview.jobs, overview.oldest_due, overview.oldest_ready), (2, next, None));
    peer.plan().await;
    let overview = peer.overview().await;
    assert_eq!((overview.oldest_due, overview.oldest_ready), (None, next));
    assert_eq!(overview.planner.as_deref(), Some("a"));
    let held = peer.claim_one_for(SHORT).await;
    let overview = peer.overview().await;
    assert_eq!((overview.running, overview.oldest_ready), (1, None));
    fixture.pass(SHORT).await;
    let overview = peer.overview().await;
    assert_eq!(overview.running, 1);
    assert!(overview.oldest_ready.unwrap() >= next.unwrap() + SHORT);
    peer.retry(&held, LONG).await;
    let overview = peer.overview().await;
    assert_eq!((overview.running, overview.oldest_ready), (0, None));

    // Nobody could claim this one.
    let absent = fixture.absent("b");
    absent.register(&job("orphan", FAR)).await;
    peer.trigger("orphan").await;
    let overview = peer.overview().await;
    assert_eq!((overview.without_handler, overview.oldest_ready), (1, None));
    assert_eq!(peer.tick("orphan").await.state, TickState::Waiting);
}
