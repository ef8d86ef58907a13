use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use trine_core::Deadline;

use super::{
    Call, Duration, ErrorKind, FAR, Finish, Fixture, LONG, SHORT, assert_kind, id, job, parallel,
};
use crate::{AttemptEnd, FinishOutcome, TickState};

/// What it is, and what survives.
pub async fn a_store_says_what_it_is(fixture: Fixture) {
    let peer = fixture.peer("a").await;
    let facts = peer.store.prove(Call::new("start")).await.unwrap();
    assert_eq!(peer.store.prove(Call::new("health")).await.unwrap(), facts);
    assert!(!facts.version.is_empty() && !peer.store.name().is_empty());
}

/// Other processes go on.
pub async fn a_closed_store_answers_nothing(fixture: Fixture) {
    let (closed, open) = (fixture.peer("a").await, fixture.peer("b").await);
    closed.register(&job("x", FAR)).await;
    let (store, process) = (&closed.store, &closed.process);
    store.close(Deadline::after(LONG)).await;
    store.close(Deadline::after(LONG)).await;
    let (call, x) = (Call::new("any"), id("x"));
    let gone = ErrorKind::Closed;
    let definition = Arc::new(job("y", FAR));
    assert_kind(store.prove(call).await, gone);
    assert_kind(store.register(call, process, &[definition]).await, gone);
    assert_kind(store.withdraw(call, process, None).await, gone);
    assert_kind(store.beat(call, process, LONG).await, gone);
    assert_kind(store.remove(call, &x).await, gone);
    assert_kind(store.pause(call, &x, "").await, gone);
    assert_kind(store.resume(call, &x).await, gone);
    assert_kind(store.trigger(call, &x).await, gone);
    assert_kind(store.plan(call, process, LONG, 9).await, gone);
    assert_kind(store.resign(call, process).await, gone);
    assert_kind(store.claim(call, process, LONG, 9).await, gone);
    assert_kind(store.renew(call, &[]).await, gone);
    assert_kind(store.finish(call, &[]).await, gone);
    assert_kind(store.job(call, &x).await, gone);
    assert_kind(store.jobs(call, "", None, 9).await, gone);
    assert_kind(store.ticks(call, &x, None, 9).await, gone);
    assert_kind(store.overview(call).await, gone);
    let message = assert_kind(store.sweep(call, LONG, 9, 9).await, gone);
    assert_eq!(message, "scheduler.default any: the service is shut down");
    open.trigger("x").await;
    assert_eq!(open.overview().await.jobs, 1);
}

/// Polls a future so often and drops it.
async fn drop_after<F: Future>(future: F, polls: u32) {
    let mut future = pin!(future);
    for _ in 0..polls {
        let polled = std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_ready()));
        if polled.await {
            return;
        }
        tokio::task::yield_now().await;
    }
}

/// Each job still runs once, and what was given to who went away is taken over.
pub async fn a_dropped_call_loses_nothing(fixture: Fixture) {
    let (a, b) = (fixture.peer("a").await, fixture.peer("b").await);
    let names: Vec<String> = (0..6).map(|number| format!("x{number}")).collect();
    let call = Call::new("dropped");
    for (polls, name) in (0..).zip(&names) {
        let definition = [Arc::new(job(name, "once now"))];
        drop_after(a.store.register(call, &a.process, &definition), polls).await;
        a.register(&definition[0]).await;
        b.register(&definition[0]).await;
    }
    for polls in 0..4 {
        drop_after(a.store.plan(call, &a.process, SHORT, 2), polls).await;
        drop_after(a.store.claim(call, &a.process, SHORT, 1), polls).await;
        drop_after(a.store.trigger(call, &id("none")), polls).await;
    }
    drop_after(a.store.resign(call, &a.process), 2).await;
    // Long enough for what was dropped and went on.
    fixture.pass(SHORT).await;
    fixture.pass(Duration::from_millis(20)).await;
    b.plan().await;
    let held = b.claim(20).await;
    assert_eq!(held.len(), names.len(), "{held:?}");
    for (polls, tick) in (0..).zip(&held) {
        let end = [Finish::new(tick, AttemptEnd::Succeeded, None)];
        drop_after(b.store.finish(call, &end), polls).await;
        let outcome = b.succeed(tick).await;
        let told = [FinishOutcome::Finished, FinishOutcome::Repeated];
        assert!(told.contains(&outcome), "{outcome:?}");
    }
    for name in &names {
        assert_eq!(b.tick(name).await.state, TickState::Succeeded);
    }
}

/// Whatever they do to the same jobs at the same time.
pub async fn processes_run_each_tick_once_together(fixture: Fixture) {
    let peers = [fixture.peer("a").await, fixture.peer("b").await, fixture.peer("c").await];
    for peer in &peers {
        for name in ["x", "y"] {
            peer.register(&parallel(name, 3)).await;
        }
    }
    let work = async |at: usize| {
        let peer = &peers[at];
        let mut done = 0;
        for round in 0..8 {
            let name = if (round + at).is_multiple_of(2) { "x" } else { "y" };
            peer.trigger(name).await;
            for tick in peer.claim(2).await {
                assert_eq!(peer.succeed(&tick).await, FinishOutcome::Finished);
                done += 1;
            }
        }
        done
    };
    let (a, b, c) = tokio::join!(work(0), work(1), work(2));
    let mut done = a + b + c;
    for tick in peers[0].claim(50).await {
        peers[0].succeed(&tick).await;
        done += 1;
    }
    while let Some(tick) = peers[0].claim(1).await.pop() {
        peers[0].succeed(&tick).await;
        done += 1;
    }
    assert_eq!(done, 24);
    for name in ["x", "y"] {
        let ticks = peers[0].ticks(name).await;
        assert_eq!(ticks.len(), 12);
        assert!(ticks.iter().all(|tick| tick.attempts.len() == 1));
    }
}
