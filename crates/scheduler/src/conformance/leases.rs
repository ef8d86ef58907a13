use std::sync::Arc;

use trine_core::{Fence, Renewal};

use super::{
    Call, Duration, ErrorKind, FAR, Finish, FinishOutcome, Fixture, LONG, Peer, SHORT, assert_kind,
    failed, job, job_with, parallel,
};
use crate::{AttemptEnd, ClaimedTick, Definition, TickState};

/// Two processes, and a tick that the first one has for a short time.
async fn held(fixture: &Fixture, definition: &Definition) -> (Peer, Peer, ClaimedTick) {
    let (a, b) = (fixture.peer("a").await, fixture.peer("b").await);
    a.register(definition).await;
    b.register(definition).await;
    a.trigger(definition.id.as_str()).await;
    let held = a.claim_one_for(SHORT).await;
    (a, b, held)
}

/// SC-13: not before, and under a higher token.
pub async fn a_lease_that_is_over_is_taken_over(fixture: Fixture) {
    for (name, definition) in [("x", job("x", FAR)), ("y", parallel("y", 3))] {
        let (a, b, lost) = held(&fixture, &definition).await;
        assert!(b.claim(9).await.is_empty());
        fixture.pass(SHORT).await;
        let taken = b.claim_one().await;
        assert_eq!((taken.nominal, taken.due), (lost.nominal, lost.due));
        assert_eq!((taken.attempt, taken.failures), (2, 0));
        assert!(taken.was_lost && !lost.was_lost);
        assert_eq!(taken.fence.key(), lost.fence.key());
        assert!(taken.fence.token() > lost.fence.token());
        assert!(a.claim(9).await.is_empty());
        let tick = a.tick(name).await;
        let tried: Vec<_> =
            tick.attempts.iter().map(|attempt| (&*attempt.process, attempt.end.clone())).collect();
        assert_eq!(tried, [("a", Some(AttemptEnd::Lost)), ("b", None)]);
        assert!(tick.attempts[0].took.unwrap() >= SHORT);
        assert_eq!(a.overview().await.running, 1);
        b.succeed(&taken).await;
    }
}

/// Also if a shorter renewal comes after a longer one.
pub async fn a_renewed_lease_is_not_taken_over(fixture: Fixture) {
    let (a, b, held) = held(&fixture, &job("x", FAR)).await;
    assert_eq!(a.renew(&held.fence, LONG).await, Renewal::Renewed);
    assert_eq!(a.renew(&held.fence, SHORT).await, Renewal::Renewed);
    fixture.pass(SHORT).await;
    let answer = b.claim_for(LONG, 9).await;
    assert!(answer.ticks.is_empty(), "{answer:?}");
    assert!(answer.next_ready.unwrap() > answer.now + LONG / 2, "{answer:?}");
    assert_eq!(a.succeed(&held).await, FinishOutcome::Finished);
}

/// Nor one that was finished, taken over, or never was.
pub async fn a_renewal_never_brings_back_what_is_over(fixture: Fixture) {
    let (a, b, lost) = held(&fixture, &job("x", FAR)).await;
    fixture.pass(SHORT).await;
    assert_eq!(a.renew(&lost.fence, LONG).await, Renewal::Gone);
    let taken = b.claim_one().await;
    assert_eq!(a.renew(&lost.fence, LONG).await, Renewal::Gone);
    let never = Fence::new(taken.fence.key(), taken.fence.token() + 1).unwrap();
    assert_eq!(b.renew(&never, LONG).await, Renewal::Gone);
    for key in ["job.default/y", "job.other/x", "lock.default/x", "job.default/x#1"] {
        let other = Fence::new(key, taken.fence.token()).unwrap();
        assert_eq!(b.renew(&other, LONG).await, Renewal::Gone, "{key}");
    }
    assert_eq!(b.renew(&taken.fence, LONG).await, Renewal::Renewed);
    b.retry(&taken, Duration::ZERO).await;
    assert_eq!(b.renew(&taken.fence, LONG).await, Renewal::Gone);
    let again = b.claim_one().await;
    assert_eq!(b.renew(&taken.fence, LONG).await, Renewal::Gone);
    b.succeed(&again).await;
    assert_eq!(b.renew(&again.fence, LONG).await, Renewal::Gone);
}

/// SC-14: its effect is done, and nobody else does it again.
pub async fn an_end_counts_until_another_has_taken_over(fixture: Fixture) {
    let (a, b, late) = held(&fixture, &job("x", FAR)).await;
    fixture.pass(SHORT).await;
    assert_eq!(a.succeed(&late).await, FinishOutcome::Finished);
    assert!(b.claim(9).await.is_empty());
    assert_eq!(b.tick("x").await.attempts.len(), 1);
}

/// SC-13: the one that took over alone has a say.
pub async fn an_end_of_who_was_replaced_counts_for_nothing(fixture: Fixture) {
    let (a, b, lost) = held(&fixture, &job("x", FAR)).await;
    fixture.pass(SHORT).await;
    let taken = b.claim_one().await;
    assert_eq!(a.succeed(&lost).await, FinishOutcome::Replaced);
    assert_eq!(a.finish(&lost, failed()).await, FinishOutcome::Replaced);
    assert_eq!(a.retry(&lost, Duration::ZERO).await, FinishOutcome::Replaced);
    let tick = a.tick("x").await;
    assert_eq!((tick.state, tick.attempts.len()), (TickState::Running, 2));
    b.finish(&taken, failed()).await;
    assert_eq!(a.succeed(&lost).await, FinishOutcome::Replaced);
    let tick = a.tick("x").await;
    assert_eq!(tick.state, TickState::Failed);
    assert_eq!(tick.attempts[0].end, Some(AttemptEnd::Lost));
}

/// After an answer that was lost.
pub async fn an_end_may_be_told_again(fixture: Fixture) {
    let (a, _, held) = held(&fixture, &job("x", FAR)).await;
    assert_eq!(a.retry(&held, LONG).await, FinishOutcome::Waiting);
    let before = a.tick("x").await;
    assert_eq!(a.retry(&held, LONG).await, FinishOutcome::Waiting);
    assert_eq!(a.tick("x").await, before);

    a.register(&job("y", FAR)).await;
    a.trigger("y").await;
    let held = a.claim_one().await;
    assert_eq!(a.succeed(&held).await, FinishOutcome::Finished);
    let before = (a.tick("y").await, a.job("y").await);
    assert_eq!(a.succeed(&held).await, FinishOutcome::Repeated);
    assert_eq!(a.finish(&held, failed()).await, FinishOutcome::Repeated);
    assert_eq!((a.tick("y").await, a.job("y").await), before);

    let mut never = held.clone();
    never.nominal -= LONG;
    assert_eq!(a.succeed(&never).await, FinishOutcome::Replaced);
    never.job = super::id("z");
    assert_eq!(a.succeed(&never).await, FinishOutcome::Replaced);
    assert_kind(a.try_finish(Finish::new(&held, AttemptEnd::Lost, None)).await, ErrorKind::Invalid);
}

/// Each as it was told.
pub async fn ends_are_told_together(fixture: Fixture) {
    let peer = fixture.peer("a").await;
    peer.register(&parallel("x", 9)).await;
    for _ in 0..5 {
        peer.trigger("x").await;
    }
    let held = peer.claim(9).await;
    let mut replaced = held[4].clone();
    replaced.fence = Fence::new(held[4].fence.key(), held[4].fence.token() - 1).unwrap();
    let ends = [
        Finish::new(&held[0], AttemptEnd::Succeeded, None),
        Finish::new(&held[1], failed(), None),
        Finish::new(&held[2], failed(), Some(LONG)),
        Finish::new(&replaced, AttemptEnd::Succeeded, None),
        Finish::new(&held[0], AttemptEnd::Succeeded, None),
    ];
    let outcomes = peer.store.finish(Call::new("finish"), &ends).await.unwrap();
    let expected = [
        FinishOutcome::Finished,
        FinishOutcome::Finished,
        FinishOutcome::Waiting,
        FinishOutcome::Replaced,
        FinishOutcome::Repeated,
    ];
    assert_eq!(outcomes, expected);
    let states: Vec<_> = peer.ticks("x").await.iter().rev().map(|tick| tick.state).collect();
    let expected = [
        TickState::Succeeded,
        TickState::Failed,
        TickState::Waiting,
        TickState::Running,
        TickState::Running,
    ];
    assert_eq!(states, expected);
    assert_eq!(peer.job("x").await.open, 3);
    let none = peer.store.finish(Call::new("finish"), &[]).await.unwrap();
    assert!(none.is_empty());
}

/// One that kills each process must end.
pub async fn a_tick_that_is_lost_too_often_fails(fixture: Fixture) {
    let peer = fixture.peer("a").await;
    peer.register(&job_with("x", "once now", |terms| terms.takeovers = 1)).await;
    peer.plan().await;
    let mut last = None;
    for attempt in 1..=2 {
        let held = peer.claim_one_for(SHORT).await;
        assert_eq!(held.attempt, attempt);
        last = Some(held);
        fixture.pass(SHORT).await;
    }
    assert!(peer.claim(9).await.is_empty());
    let tick = peer.tick("x").await;
    assert_eq!(tick.state, TickState::Failed);
    let ends: Vec<_> = tick.attempts.iter().map(|attempt| attempt.end.clone()).collect();
    assert_eq!(ends, vec![Some(AttemptEnd::Lost); 2]);
    let facts = peer.job("x").await;
    assert_eq!((facts.failures, facts.open), (1, 0));
    assert_eq!(peer.succeed(&last.unwrap()).await, FinishOutcome::Replaced);
    assert_eq!(peer.overview().await.running, 0);
}

/// By another revision, while more than that ran.
pub async fn a_lower_limit_holds_for_what_was_lost(fixture: Fixture) {
    let peer = fixture.peer("a").await;
    peer.register(&parallel("x", 3)).await;
    for _ in 0..3 {
        peer.trigger("x").await;
    }
    let lost = peer.claim_for(SHORT, 9).await.ticks;
    assert_eq!(lost.len(), 3);
    let mut lower = job("x", FAR);
    lower.revision = 2;
    peer.register(&lower).await;
    fixture.pass(SHORT).await;
    for _ in 0..3 {
        let taken = peer.claim_one().await;
        assert_eq!(taken.attempt, 2);
        let answer = peer.claim_for(LONG, 9).await;
        assert!(answer.ticks.is_empty(), "{answer:?}");
        assert!(answer.next_ready.is_none_or(|ready| ready > answer.now), "{answer:?}");
        peer.succeed(&taken).await;
    }
}

/// Without a failure.
pub async fn what_is_handed_over_goes_on_elsewhere_at_once(fixture: Fixture) {
    let (a, b, held) = held(&fixture, &job("x", FAR)).await;
    assert_eq!(a.finish(&held, AttemptEnd::HandedOver).await, FinishOutcome::Waiting);
    assert_eq!(a.overview().await.running, 0);
    let next = b.claim_one().await;
    assert_eq!((next.nominal, next.attempt, next.failures), (held.nominal, 2, 0));
    assert!(!next.was_lost);
    assert_eq!(a.succeed(&held).await, FinishOutcome::Replaced);
    assert_eq!(b.tick("x").await.attempts[0].end, Some(AttemptEnd::HandedOver));
}

/// In order, with what was said.
pub async fn attempts_are_listed(fixture: Fixture) {
    let peer = fixture.peer("host-1:4711:00ff").await;
    peer.register(&job("x", FAR)).await;
    peer.trigger("x").await;
    let text: Arc<str> = "ü'\"\\\n%".repeat(125).into();
    let ends = [
        AttemptEnd::Failed { error: (&*text).into() },
        AttemptEnd::Panicked { message: "".into() },
        AttemptEnd::TimedOut,
        AttemptEnd::HandedOver,
        AttemptEnd::Succeeded,
    ];
    for (number, end) in (1..).zip(&ends) {
        let held = peer.claim_one().await;
        assert_eq!(held.attempt, number);
        fixture.pass(Duration::from_millis(1)).await;
        let retry = end.is_failure().then_some(Duration::ZERO);
        peer.try_finish(Finish::new(&held, end.clone(), retry)).await.unwrap();
    }
    let tick = peer.tick("x").await;
    let listed: Vec<_> = tick.attempts.iter().filter_map(|attempt| attempt.end.clone()).collect();
    assert_eq!((tick.state, listed), (TickState::Succeeded, ends.to_vec()));
    for (number, attempt) in (1..).zip(&tick.attempts) {
        assert_eq!((attempt.number, &*attempt.process), (number, "host-1:4711:00ff"));
        assert!(attempt.took.unwrap() >= Duration::from_millis(1) && attempt.began >= tick.nominal);
    }
    assert!(tick.attempts.windows(2).all(|pair| pair[0].token < pair[1].token));
}
