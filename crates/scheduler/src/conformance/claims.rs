use std::time::SystemTime;

use super::{
    Duration, FAR, Fixture, LONG, Peer, SHORT, failed, id, job, job_with, nominals, parallel,
};
use crate::{AttemptEnd, FinishOutcome, Overlap, TickKind, TickState, TriggerOutcome, fence_key};

const MOMENT: Duration = Duration::from_millis(2);

/// In all processes together.
pub async fn as_many_run_at_once_as_overlap_allows(fixture: Fixture) {
    let (a, b) = (fixture.peer("a").await, fixture.peer("b").await);
    let definition = parallel("x", 2);
    a.register(&definition).await;
    b.register(&definition).await;
    let mut times = Vec::new();
    for _ in 0..5 {
        times.push(a.trigger("x").await);
    }
    let (first, second) = (a.claim_one_of(1).await, b.claim_one_of(9).await);
    assert_eq!([first.nominal, second.nominal], times[..2]);
    assert!(a.claim(9).await.is_empty() && b.claim(9).await.is_empty());
    assert_eq!(a.overview().await.running, 2);
    b.succeed(&second).await;
    assert_eq!(nominals(&a.claim(9).await), times[2..3]);
    a.finish(&first, failed()).await;
    assert_eq!(nominals(&b.claim(9).await), times[3..4]);
    assert!(a.claim(9).await.is_empty());
}

impl Peer {
    async fn claim_one_of(&self, count: u32) -> crate::ClaimedTick {
        let mut ticks = self.claim(count).await;
        assert_eq!(ticks.len(), 1, "{ticks:?}");
        ticks.pop().unwrap()
    }
}

/// SC-12: what is over at once is kept too.
pub async fn a_tick_beside_a_run_is_skipped_or_waits(fixture: Fixture) {
    let peer = fixture.peer("a").await;
    let overlap = |overlap| move |terms: &mut crate::Terms| terms.overlap = overlap;
    peer.register(&job_with("skip", FAR, overlap(Overlap::Skip))).await;
    peer.register(&job_with("queue", FAR, overlap(Overlap::QueueOne))).await;
    let skip = peer.trigger("skip").await;
    assert_eq!(peer.try_trigger("skip").await, TriggerOutcome::Overlaps { nominal: skip });
    let held = peer.claim_one().await;
    assert_eq!(peer.try_trigger("skip").await, TriggerOutcome::Overlaps { nominal: skip });
    peer.succeed(&held).await;
    peer.trigger("skip").await;
    assert_eq!(peer.ticks("skip").await.len(), 2);

    let first = peer.trigger("queue").await;
    let second = peer.trigger("queue").await;
    assert!(matches!(peer.try_trigger("queue").await, TriggerOutcome::Overlaps { .. }));
    let mut held = peer.claim(9).await;
    held.retain(|tick| tick.job == id("queue"));
    assert_eq!(nominals(&held), [first]);
    let facts = peer.job("queue").await;
    assert_eq!(facts.open, 2);
    peer.succeed(&held[0]).await;
    assert_eq!(peer.claim_one().await.nominal, second);
    peer.trigger("queue").await;
}

/// Other ticks of its job wait behind it.
pub async fn a_retry_keeps_its_place(fixture: Fixture) {
    let peer = fixture.peer("a").await;
    peer.register(&job_with("x", FAR, |terms| terms.overlap = Overlap::QueueOne)).await;
    let first = peer.trigger("x").await;
    let second = peer.trigger("x").await;
    let held = peer.claim_one().await;
    let before = peer.now().await;
    assert_eq!(peer.retry(&held, SHORT).await, FinishOutcome::Waiting);
    let answer = peer.claim_for(LONG, 9).await;
    assert!(answer.ticks.is_empty(), "{answer:?}");
    let ready = answer.next_ready.unwrap();
    assert!(before + SHORT <= ready && ready <= answer.now + SHORT);
    assert_eq!(peer.overview().await.running, 0);
    fixture.pass(SHORT).await;
    let held = peer.claim_one().await;
    assert_eq!((held.nominal, held.attempt, held.failures), (first, 2, 1));
    assert!(!held.was_lost);
    peer.finish(&held, AttemptEnd::TimedOut).await;
    assert_eq!(peer.claim_one().await.nominal, second);
}

/// Nor does one whose process lacks a handler.
pub async fn a_crowded_job_stops_no_other(fixture: Fixture) {
    let peer = fixture.peer("a").await;
    peer.register(&parallel("busy", 1)).await;
    peer.register(&parallel("other", 9)).await;
    fixture.peer("b").await.register(&parallel("foreign", 9)).await;
    for _ in 0..20 {
        peer.trigger("busy").await;
        peer.trigger("foreign").await;
    }
    fixture.pass(MOMENT).await;
    let other = [peer.trigger("other").await, peer.trigger("other").await];
    let first = peer.claim_one_of(1).await;
    assert_eq!(first.job, id("busy"));
    assert_eq!(nominals(&peer.claim(1).await), other[..1]);
    assert_eq!(nominals(&peer.claim(1).await), other[1..]);
    let answer = peer.claim_for(LONG, 1).await;
    // Nothing that can be claimed is left, and so nobody asks again at once.
    assert!(answer.ticks.is_empty(), "{answer:?}");
    assert!(answer.next_ready.is_none_or(|ready| ready > answer.now), "{answer:?}");
    peer.succeed(&first).await;
    assert_eq!(peer.claim_one_of(1).await.job, id("busy"));
}

/// Of the same moment by their nominal times.
pub async fn what_waits_longest_is_given_first(fixture: Fixture) {
    let peer = fixture.peer("a").await;
    let mut expected = Vec::new();
    for name in ["c", "a", "b"] {
        peer.register(&parallel(name, 9)).await;
    }
    for name in ["c", "a", "b", "a", "c"] {
        fixture.pass(MOMENT).await;
        expected.push((id(name), peer.trigger(name).await));
    }
    let mut given = Vec::new();
    for _ in 0..3 {
        let ticks = peer.claim(2).await;
        given.extend(ticks.into_iter().map(|tick| (tick.job, tick.nominal)));
    }
    assert_eq!(given, expected);
}

/// By the store's clock.
pub async fn a_claim_says_when_to_ask_again(fixture: Fixture) {
    let (a, b) = (fixture.peer("a").await, fixture.peer("b").await);
    let definition = parallel("x", 9);
    a.register(&definition).await;
    b.register(&definition).await;
    assert_eq!(a.claim_for(LONG, 9).await.next_ready, None);
    for _ in 0..3 {
        a.trigger("x").await;
    }
    let before = a.now().await;
    let answer = a.claim_for(LONG, 2).await;
    assert!(before <= answer.now && answer.now <= a.now().await);
    assert!(answer.ticks.len() == 2 && answer.next_ready.unwrap() <= answer.now, "{answer:?}");
    let answer = b.claim_for(SHORT, 9).await;
    let until = answer.next_ready.unwrap();
    // Its own lease, too: a process that was stopped is woken by it.
    assert_eq!(until, answer.now + SHORT);
    assert_eq!(fixture.peer("c").await.claim_for(LONG, 9).await.next_ready, None);
}

/// Over attempts, ticks, take-overs and removals.
pub async fn tokens_rise_under_a_key(fixture: Fixture) {
    let peer = fixture.peer("a").await;
    let definition = job_with("x", FAR, |terms| terms.overlap = Overlap::QueueOne);
    peer.register(&definition).await;
    let mut tokens = Vec::new();
    let key = fence_key(Fixture::NAME, &definition, SystemTime::UNIX_EPOCH);
    assert_eq!(key, "job.default/x");
    for round in 0..3 {
        peer.trigger("x").await;
        for attempt in 1..4 {
            let held = peer.claim_one().await;
            assert_eq!((held.fence.key(), held.attempt), (&*key, attempt));
            tokens.push(held.fence.token());
            match attempt {
                1 => peer.retry(&held, Duration::ZERO).await,
                2 => peer.finish(&held, AttemptEnd::HandedOver).await,
                _ => peer.succeed(&held).await,
            };
        }
        if round == 1 {
            peer.trigger("x").await;
            tokens.push(peer.claim_one_for(SHORT).await.fence.token());
            fixture.pass(SHORT).await;
            let held = peer.claim_one().await;
            tokens.push(held.fence.token());
            peer.remove("x").await;
            peer.succeed(&held).await;
            peer.register(&definition).await;
        }
    }
    assert!(tokens.is_sorted_by(|a, b| a < b), "{tokens:?}");
}

/// So that one ends no other.
pub async fn runs_beside_each_other_have_keys_of_their_own(fixture: Fixture) {
    let peer = fixture.peer("a").await;
    let definition = parallel("x", 3);
    peer.register(&definition).await;
    for _ in 0..3 {
        peer.trigger("x").await;
    }
    let held = peer.claim(9).await;
    assert_eq!(held.len(), 3);
    for tick in &held {
        assert_eq!(tick.fence.key(), fence_key(Fixture::NAME, &definition, tick.nominal));
        assert!(tick.fence.key().starts_with("job.default/x#"), "{:?}", tick.fence);
    }
    assert!(held.windows(2).all(|pair| pair[0].fence.token() < pair[1].fence.token()));
}

/// And what was tried.
pub async fn a_claimed_tick_says_what_it_is_for(fixture: Fixture) {
    let peer = fixture.peer("a").await;
    peer.register(&job("x", "once now")).await;
    peer.plan().await;
    let answer = peer.claim_for(LONG, 9).await;
    let claimed = &answer.ticks[0];
    let tick = peer.tick("x").await;
    assert_eq!((&claimed.job, claimed.nominal, claimed.kind), (&id("x"), tick.nominal, tick.kind));
    assert_eq!((claimed.due, claimed.revision, tick.kind), (tick.due, 1, TickKind::Planned));
    assert_eq!(tick.state, TickState::Running);
    let attempt = &tick.attempts[0];
    assert_eq!((attempt.number, attempt.token), (1, claimed.fence.token()));
    assert_eq!((&*attempt.process, attempt.began), ("a", answer.now));
    assert_eq!((attempt.took, attempt.end.as_ref()), (None, None));
}
