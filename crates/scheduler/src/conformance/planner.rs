use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::time::SystemTime;

use super::{
    Duration, FAR, Fixture, LONG, Peer, SHORT, failed, job, job_with, nominals, panic_with,
    parallel,
};
use crate::planning;
use crate::{
    AttemptEnd, JobState, Misfire, Overlap, PlanAnswer, Progress, Retries, Terms, TickKind,
    TickState,
};

const STEP: Duration = Duration::from_millis(10);

/// Until its lease is over.
pub async fn one_process_plans_at_a_time(fixture: Fixture) {
    let (a, b) = (fixture.peer("a").await, fixture.peer("b").await);
    a.register(&job("x", "once now")).await;
    let next = a.job("x").await.progress.next;
    assert_eq!(a.overview().await.planner, None);
    assert!(matches!(a.plan_for(SHORT, 0).await, PlanAnswer::Planned { ticks: 0, .. }));
    let PlanAnswer::Other { now, retry_in, next_due } = b.plan_for(LONG, 9).await else {
        return panic_with("two plan");
    };
    assert!(retry_in <= SHORT && now <= b.now().await && next_due == next, "{retry_in:?}");
    assert_eq!(b.overview().await.planner.as_deref(), Some("a"));
    assert!(b.ticks("x").await.is_empty());
    fixture.pass(SHORT).await;
    assert_eq!(b.overview().await.planner, None);
    assert_eq!(b.plan().await.0, 1);
    assert!(matches!(a.plan_for(LONG, 9).await, PlanAnswer::Other { .. }));
    assert_eq!(b.overview().await.planner.as_deref(), Some("b"));
}

/// Also by who is late and was not followed.
pub async fn a_planner_stays_the_planner(fixture: Fixture) {
    let (a, b) = (fixture.peer("a").await, fixture.peer("b").await);
    a.plan_for(SHORT, 9).await;
    fixture.pass(SHORT).await;
    a.register(&job("x", "once now")).await;
    assert_eq!(a.plan().await.0, 1);
    assert!(matches!(b.plan_for(LONG, 9).await, PlanAnswer::Other { .. }));
}

/// By another, and only where it was the planner.
pub async fn who_resigns_is_followed_at_once(fixture: Fixture) {
    let (a, b) = (fixture.peer("a").await, fixture.peer("b").await);
    a.plan().await;
    b.resign().await;
    assert!(matches!(b.plan_for(LONG, 9).await, PlanAnswer::Other { .. }));
    a.resign().await;
    a.resign().await;
    b.plan().await;
    assert!(matches!(a.plan_for(LONG, 9).await, PlanAnswer::Other { .. }));
}

/// QU-21, SC-08: however long it was stopped.
pub async fn a_planner_that_was_replaced_makes_nothing(fixture: Fixture) {
    let (a, b) = (fixture.peer("a").await, fixture.peer("b").await);
    a.plan_for(SHORT, 9).await;
    fixture.pass(SHORT).await;
    b.plan().await;
    a.register(&job("x", "once now")).await;
    let before = a.job("x").await;
    for _ in 0..3 {
        assert!(matches!(a.plan_for(LONG, 9).await, PlanAnswer::Other { .. }));
    }
    assert_eq!((a.job("x").await, a.ticks("x").await.len()), (before, 0));
    assert_eq!(b.plan().await.0, 1);
}

/// SC-07: and none is left out, whoever plans.
pub async fn a_time_has_one_tick_when_several_plan(fixture: Fixture) {
    let peers = [fixture.peer("a").await, fixture.peer("b").await, fixture.peer("c").await];
    let [a, b, c] = &peers;
    let names = ["x", "y", "z"];
    for name in names {
        let terms = |terms: &mut Terms| {
            let at_most = NonZeroU32::new(4).unwrap();
            terms.overlap = Overlap::Allow { at_most };
        };
        a.register(&job_with(name, "every 8ms", terms)).await;
    }
    for round in 0..12 {
        fixture.pass(STEP).await;
        let flap = async |peer: &Peer| {
            peer.plan_for(LONG, 9).await;
            // The planner goes away at any moment.
            if round % 2 == 0 {
                peer.resign().await;
            }
        };
        tokio::join!(flap(a), flap(b), flap(c));
        for peer in &peers {
            peer.resign().await;
        }
    }
    for name in names {
        let ticks = a.ticks(name).await;
        let times: BTreeSet<SystemTime> = ticks.iter().map(|tick| tick.nominal).collect();
        assert_eq!(times.len(), ticks.len());
        let (first, last) = (*times.first().unwrap(), *times.last().unwrap());
        let period = Duration::from_millis(8);
        let passed = last.duration_since(first).unwrap();
        assert_eq!(times.len() as u128, passed.as_millis() / period.as_millis() + 1);
        assert!(times.len() >= 12, "{}", times.len());
    }
}

/// Also if its job begins anew at that very moment, which a clock that is set
/// shows.
pub async fn a_time_that_has_a_tick_gets_no_other(fixture: Fixture) {
    let peer = fixture.peer("a").await;
    let definition = job("x", "every 1ms");
    fixture.pass(Duration::from_millis(2)).await;
    peer.register(&definition).await;
    peer.plan().await;
    let held = peer.claim(9).await;
    for tick in &held {
        peer.succeed(tick).await;
    }
    let before = peer.ticks("x").await;
    peer.remove("x").await;
    peer.register(&definition).await;
    peer.plan().await;
    let mut after = peer.ticks("x").await;
    after.retain(|tick| before.iter().any(|other| other.nominal == tick.nominal));
    assert_eq!(after, before);
}

/// Under all policies.
pub async fn what_is_due_is_made_as_planning_says(fixture: Fixture) {
    let peer = fixture.peer("a").await;
    let misfires = [
        Misfire::Skip,
        Misfire::Once,
        Misfire::All { within: STEP * 12, at_most: NonZeroU32::new(3).unwrap() },
    ];
    let overlaps =
        [Overlap::Skip, Overlap::QueueOne, Overlap::Allow { at_most: NonZeroU32::new(2).unwrap() }];
    let mut jobs = Vec::new();
    for (m, misfire) in misfires.into_iter().enumerate() {
        for (o, overlap) in overlaps.into_iter().enumerate() {
            for schedule in ["every 10ms", "every 37ms", "delay 20ms", "once now"] {
                let name = format!("{schedule} {m} {o}");
                let policies = |terms: &mut Terms| {
                    (terms.misfire, terms.overlap) = (misfire, overlap);
                    terms.grace = STEP * 4;
                };
                jobs.push(job_with(&name, schedule, policies));
            }
        }
    }
    peer.try_register(&jobs).await.unwrap();
    for _ in 0..2 {
        let mut before: Vec<Progress> = Vec::new();
        let mut open = Vec::new();
        for definition in &jobs {
            let facts = peer.job(definition.id.as_str()).await;
            before.push(facts.progress);
            open.push(facts.open);
        }
        fixture.pass(STEP * 20).await;
        let (ticks, now) = peer.plan().await;
        let mut made = 0;
        for ((definition, before), open) in jobs.iter().zip(before).zip(open) {
            let expected = planning::plan(&definition.terms, &before, open, now);
            let name = definition.id.as_str();
            let found: Vec<_> = peer.ticks(name).await.into_iter().rev().collect();
            let found = found.get(found.len() - expected.ticks.len()..).unwrap();
            for (planned, tick) in expected.ticks.iter().zip(found) {
                assert_eq!((planned.nominal, planned.state), (tick.nominal, tick.state), "{name}");
                assert_eq!((tick.kind, tick.revision), (TickKind::Planned, 1));
            }
            made += expected.ticks.len() as u64;
            assert_eq!(peer.job(name).await.progress, expected.progress, "{name}");
        }
        assert_eq!(ticks, made);
    }
}

/// And as many as were asked for; the others in the next step.
pub async fn jobs_that_are_due_first_are_planned_first(fixture: Fixture) {
    let peer = fixture.peer("a").await;
    for name in ["third", "first", "second"] {
        let definition = job(name, "once now");
        peer.register(&definition).await;
        fixture.pass(Duration::from_millis(2)).await;
    }
    peer.register(&job("far", FAR)).await;
    for name in ["third", "first", "second"] {
        let PlanAnswer::Planned { now, ticks, next_due } = peer.plan_for(LONG, 1).await else {
            return panic_with("nobody else plans");
        };
        assert_eq!((ticks, peer.ticks(name).await.len()), (1, 1), "{name}");
        assert_eq!(next_due.unwrap() <= now, name != "second", "{name}");
    }
    let far = peer.job("far").await.progress.next;
    let PlanAnswer::Planned { ticks, next_due, .. } = peer.plan_for(LONG, 9).await else {
        return panic_with("nobody else plans");
    };
    assert_eq!((ticks, next_due), (0, far));
}

/// SC-19: its tick is made at its nominal time and given out later.
pub async fn a_tick_is_due_by_its_jitter(fixture: Fixture) {
    let peer = fixture.peer("a").await;
    let definition = job("x", "once now; jitter 24h");
    peer.register(&definition).await;
    assert_eq!(peer.plan().await.0, 1);
    let tick = peer.tick("x").await;
    assert_eq!(tick.due, definition.terms.schedule.due("x", tick.nominal));
    let answer = peer.claim_for(LONG, 9).await;
    assert_eq!(answer.next_ready, Some(tick.due));
    // Once in 100,000 times it is due by now.
    assert!(answer.ticks.is_empty(), "{answer:?}");
}

/// However often it was tried.
pub async fn a_delay_counts_from_the_end_of_the_run(fixture: Fixture) {
    let peer = fixture.peer("a").await;
    let definition = job("x", "delay 20ms");
    let delay = Duration::from_millis(20);
    peer.register(&definition).await;
    fixture.pass(delay).await;
    assert_eq!(peer.plan().await.0, 1);
    assert_eq!(peer.job("x").await.progress.next, None);
    let tick = peer.claim_one().await;
    peer.retry(&tick, Duration::ZERO).await;
    assert_eq!(peer.job("x").await.progress.next, None);
    let tick = peer.claim_one().await;
    let before = peer.now().await;
    peer.succeed(&tick).await;
    let next = peer.job("x").await.progress.next.unwrap();
    assert!(before + delay <= next && next <= peer.now().await + delay);
    assert_eq!(peer.job("x").await.state, JobState::Active);
    fixture.pass(delay).await;
    assert_eq!(peer.plan().await.0, 1);
}

/// What was triggered is a run, too.
pub async fn a_delay_waits_for_what_was_triggered(fixture: Fixture) {
    let peer = fixture.peer("a").await;
    peer.register(&job("x", "delay 300ms")).await;
    peer.trigger("x").await;
    let held = peer.claim_one().await;
    fixture.pass(SHORT).await;
    assert_eq!(peer.plan().await.0, 1);
    let states: Vec<_> = peer.ticks("x").await.iter().map(|tick| tick.state).collect();
    assert_eq!(states, [TickState::Overlapped, TickState::Running]);
    assert_eq!(peer.job("x").await.progress.next, None);
    peer.finish(&held, failed()).await;
    assert!(peer.job("x").await.progress.next.is_some());
    fixture.pass(SHORT).await;
    assert_eq!(peer.plan().await.0, 1);

    let mut beside = parallel("y", 2);
    beside.terms.schedule = "delay 5ms".parse().unwrap();
    peer.remove("x").await;
    peer.register(&beside).await;
    peer.trigger("y").await;
    fixture.pass(Duration::from_millis(5)).await;
    peer.plan().await;
    let held = peer.claim(9).await;
    assert_eq!(held.len(), 2);
    for (tick, goes_on) in held.iter().rev().zip([false, true]) {
        peer.succeed(tick).await;
        assert_eq!(peer.job("y").await.progress.next.is_some(), goes_on);
    }
}

/// Retries honoured.
pub async fn a_job_that_runs_once_is_done_when_it_is_over(fixture: Fixture) {
    let peer = fixture.peer("a").await;
    let retries = Retries::new(NonZeroU32::new(2).unwrap(), Duration::ZERO, Duration::ZERO);
    let definition = job_with("x", "once now", |terms| terms.retries = retries);
    peer.register(&definition).await;
    assert_eq!((peer.plan().await.0, peer.plan().await.0), (1, 0));
    let facts = peer.job("x").await;
    assert_eq!((facts.state, facts.open, facts.progress.next), (JobState::Active, 1, None));
    assert!(facts.progress.last.is_some());
    let tick = peer.claim_one().await;
    assert_eq!((tick.attempt, tick.failures, tick.kind), (1, 0, TickKind::Planned));
    peer.retry(&tick, Duration::ZERO).await;
    assert_eq!(peer.job("x").await.state, JobState::Active);
    let tick = peer.claim_one().await;
    assert_eq!((tick.attempt, tick.failures), (2, 1));
    peer.finish(&tick, AttemptEnd::TimedOut).await;
    let facts = peer.job("x").await;
    assert_eq!((facts.state, facts.open, facts.failures), (JobState::Done, 0, 1));
    assert_eq!(facts.last.unwrap().state, TickState::Failed);
    assert_eq!(peer.overview().await.without_handler, 0);
    peer.withdraw(None).await;
    assert_eq!(peer.overview().await.without_handler, 0);
}

/// In the order of their times.
pub async fn missed_runs_come_one_after_the_other(fixture: Fixture) {
    let peer = fixture.peer("a").await;
    let policies = |terms: &mut Terms| {
        terms.misfire = Misfire::All { within: LONG, at_most: NonZeroU32::new(5).unwrap() };
        terms.grace = Duration::ZERO;
    };
    peer.register(&job_with("x", "every 10ms", policies)).await;
    fixture.pass(STEP * 12).await;
    peer.plan().await;
    let mut waiting = peer.ticks("x").await;
    waiting.retain(|tick| tick.state == TickState::Waiting);
    assert_eq!(waiting.len(), 5);
    for expected in waiting.iter().rev() {
        let ticks = peer.claim(9).await;
        assert_eq!(nominals(&ticks), [expected.nominal]);
        peer.succeed(&ticks[0]).await;
    }
}
