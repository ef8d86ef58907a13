use std::num::NonZeroU32;

use trine_core::Renewal;

use super::{
    Call, Duration, ErrorKind, FAR, Fixture, LONG, SHORT, assert_kind, failed, id, job, job_with,
    panic_with, parallel,
};
use crate::{
    AttemptEnd, FinishOutcome, JobState, Registered, TickKind, TickState, TriggerOutcome, planning,
};

const MOMENT: Duration = Duration::from_millis(5);

/// What was triggered is.
pub async fn a_paused_job_is_neither_planned_nor_given_out(fixture: Fixture) {
    let peer = fixture.peer("a").await;
    peer.register(&job("planned", "once now")).await;
    peer.register(&job("given", "once now")).await;
    peer.pause("planned", "first").await;
    peer.plan().await;
    assert!(peer.ticks("planned").await.is_empty());
    peer.pause("given", "by hand: ü").await;
    assert_eq!(peer.tick("given").await.state, TickState::Waiting);
    let answer = peer.claim_for(LONG, 9).await;
    assert!(answer.ticks.is_empty() && answer.next_ready.is_none(), "{answer:?}");
    let overview = peer.overview().await;
    assert_eq!((overview.jobs, overview.paused), (2, 2));
    assert_eq!((overview.oldest_due, overview.oldest_ready), (None, None));
    let first = peer.job("planned").await.state;
    let JobState::Paused { note, since } = first else {
        return panic_with(&format!("{first:?}"));
    };
    assert!(&*note == "first" && since <= overview.now);
    fixture.pass(MOMENT).await;
    peer.pause("planned", "second").await;
    let second = peer.job("planned").await.state;
    assert_eq!(second, JobState::Paused { note: "second".into(), since });

    let nominal = peer.trigger("planned").await;
    let held = peer.claim_one().await;
    assert_eq!((held.nominal, held.kind), (nominal, TickKind::Triggered));
    peer.retry(&held, Duration::ZERO).await;
    let held = peer.claim_one().await;
    peer.succeed(&held).await;

    assert!(peer.resume("given").await && peer.resume("planned").await);
    assert!(!peer.resume("given").await);
    assert_eq!(peer.overview().await.paused, 0);
    assert_eq!(peer.claim_one().await.job, id("given"));
    assert_eq!(peer.plan().await.0, 1);
    assert_eq!(peer.claim_one().await.job, id("planned"));
}

/// And a run that goes on may end.
pub async fn what_passes_in_a_pause_is_passed_over(fixture: Fixture) {
    let peer = fixture.peer("a").await;
    let definition = job("x", "every 7ms");
    peer.register(&definition).await;
    fixture.pass(MOMENT * 2).await;
    peer.plan().await;
    let held = peer.claim_one().await;
    peer.pause("x", "").await;
    assert_eq!(peer.renew(&held.fence, LONG).await, Renewal::Renewed);
    assert_eq!(peer.succeed(&held).await, FinishOutcome::Finished);
    let (before, count) = (peer.job("x").await.progress, peer.ticks("x").await.len());
    fixture.pass(MOMENT * 6).await;
    let early = peer.now().await;
    assert!(peer.resume("x").await);
    let late = peer.now().await;
    let progress = peer.job("x").await.progress;
    let resumed = |now| planning::resumed(&definition.terms, &before, now).next;
    assert!(resumed(early) <= progress.next && progress.next <= resumed(late));
    assert_eq!((progress.last, peer.ticks("x").await.len()), (before.last, count));
}

/// What is retried or lost meanwhile waits until it is resumed.
pub async fn a_pause_holds_back_retries_and_takeovers(fixture: Fixture) {
    let peer = fixture.peer("a").await;
    peer.register(&job("retried", "once now")).await;
    peer.register(&job("lost", "once now")).await;
    peer.plan().await;
    let held = peer.claim_for(SHORT, 9).await.ticks;
    assert_eq!(held.len(), 2);
    for name in ["retried", "lost"] {
        peer.pause(name, "").await;
    }
    let retried = held.iter().find(|tick| tick.job == id("retried")).unwrap();
    peer.retry(retried, Duration::ZERO).await;
    fixture.pass(SHORT).await;
    let answer = peer.claim_for(LONG, 9).await;
    assert!(answer.ticks.is_empty() && answer.next_ready.is_none(), "{answer:?}");
    for name in ["retried", "lost"] {
        peer.resume(name).await;
        let held = peer.claim_one().await;
        assert_eq!((held.job.as_str(), held.attempt), (name, 2));
    }
}

/// Of planned ones; a success in between counts anew.
pub async fn a_job_is_paused_after_failures_in_a_row(fixture: Fixture) {
    let peer = fixture.peer("a").await;
    let after = NonZeroU32::new(2);
    peer.register(&job_with("x", "delay 5ms", |terms| terms.pause_after = after)).await;
    for (end, failures) in [
        (failed(), 1),
        (AttemptEnd::Succeeded, 0),
        (AttemptEnd::TimedOut, 1),
        (AttemptEnd::Panicked { message: "no".into() }, 2),
    ] {
        peer.trigger("x").await;
        let held = peer.claim_one().await;
        let before = peer.job("x").await.failures;
        peer.finish(&held, failed()).await;
        assert_eq!(peer.job("x").await.failures, before);
        assert_eq!(peer.job("x").await.state, JobState::Active);

        fixture.pass(MOMENT).await;
        assert_eq!(peer.plan().await.0, 1);
        let held = peer.claim_one().await;
        peer.finish(&held, end).await;
        assert_eq!(peer.job("x").await.failures, failures);
    }
    let state = peer.job("x").await.state;
    let JobState::Paused { note, .. } = &state else {
        return panic_with(&format!("{state:?}"));
    };
    assert_eq!(**note, *planning::pause_note(2));
    assert_eq!(peer.overview().await.paused, 1);
    fixture.pass(MOMENT).await;
    assert_eq!(peer.plan().await.0, 0);
    assert!(peer.resume("x").await);
    let facts = peer.job("x").await;
    assert_eq!((facts.failures, facts.state), (0, JobState::Active));
    assert_eq!(peer.plan().await.0, 1);
}

/// Beside its schedule.
pub async fn a_trigger_makes_a_tick_for_this_moment(fixture: Fixture) {
    let peer = fixture.peer("a").await;
    peer.register(&job("x", FAR)).await;
    let (progress, before) = (peer.job("x").await.progress, peer.now().await);
    let nominal = peer.trigger("x").await;
    let after = peer.now().await + Duration::from_micros(1);
    assert!(before <= nominal && nominal <= after);
    let tick = peer.tick("x").await;
    assert_eq!((tick.nominal, tick.due, tick.revision), (nominal, nominal, 1));
    assert_eq!((tick.kind, tick.state), (TickKind::Triggered, TickState::Waiting));
    let held = peer.claim_one().await;
    assert_eq!((held.nominal, held.kind), (nominal, TickKind::Triggered));
    peer.succeed(&held).await;
    let facts = peer.job("x").await;
    assert_eq!((facts.progress, facts.last), (progress, Some(peer.tick("x").await)));
}

/// Nor does one take the place of a planned time.
pub async fn triggers_of_one_moment_have_ticks_of_their_own(fixture: Fixture) {
    let peer = fixture.peer("a").await;
    peer.register(&parallel("x", 9)).await;
    let mut nominals = Vec::new();
    for _ in 0..9 {
        nominals.push(peer.trigger("x").await);
    }
    assert!(nominals.is_sorted_by(|a, b| a < b), "{nominals:?}");
    assert_eq!(peer.claim(20).await.len(), 9);

    let mut soon = parallel("y", 9);
    soon.terms.schedule = "once now".parse().unwrap();
    peer.register(&soon).await;
    let planned = peer.job("y").await.progress.next.unwrap();
    assert!(peer.trigger("y").await != planned);
    assert_eq!(peer.plan().await.0, 1);
    assert_eq!(peer.ticks("y").await.len(), 2);
}

/// Of all that is asked of a job.
pub async fn a_job_that_is_not_there_is_not_found(fixture: Fixture) {
    let peer = fixture.peer("a").await;
    let never = id("never");
    let message =
        assert_kind(peer.store.trigger(Call::new("trigger"), &never).await, ErrorKind::NotFound);
    assert_eq!(message, "scheduler.default trigger: there is no job `never`");
    assert_kind(peer.store.pause(Call::new("pause"), &never, "").await, ErrorKind::NotFound);
    assert_kind(peer.store.resume(Call::new("resume"), &never).await, ErrorKind::NotFound);
    assert!(!peer.remove("never").await);
    assert!(peer.find("never").await.is_none() && peer.ticks("never").await.is_empty());
}

/// Its run may end, and its history is kept.
pub async fn a_removed_job_runs_no_more(fixture: Fixture) {
    let (a, b) = (fixture.peer("a").await, fixture.peer("b").await);
    let definition = parallel("x", 2);
    a.register(&definition).await;
    b.register(&definition).await;
    let mut times = Vec::new();
    for _ in 0..4 {
        times.push(a.trigger("x").await);
    }
    let held = a.claim(2).await;
    b.pause("x", "").await;
    assert!(b.remove("x").await && !b.remove("x").await);
    assert!(a.claim(9).await.is_empty() && b.find("x").await.is_none());
    let page = b.store.jobs(Call::new("jobs"), "", None, 9).await.unwrap();
    let overview = b.overview().await;
    assert!(page.jobs.is_empty());
    assert_eq!((overview.jobs, overview.paused, overview.without_handler), (0, 0, 0));
    assert_eq!(a.renew(&held[0].fence, LONG).await, Renewal::Renewed);
    assert_eq!(a.succeed(&held[0]).await, FinishOutcome::Finished);
    assert_eq!(a.retry(&held[1], Duration::ZERO).await, FinishOutcome::Finished);
    let ticks: Vec<_> =
        a.ticks("x").await.iter().rev().map(|tick| (tick.nominal, tick.state)).collect();
    let (done, gone) = (TickState::Succeeded, TickState::Removed);
    let states = [done, TickState::Failed, gone, gone];
    assert_eq!(ticks, times.into_iter().zip(states).collect::<Vec<_>>());

    // New, with its history, and handlers of who did not withdraw.
    assert_eq!(a.register(&definition).await, Registered::New);
    assert_eq!(a.job("x").await.state, JobState::Active);
    assert_eq!(a.ticks("x").await.len(), 4);
    a.trigger("x").await;
    b.claim_one().await;
}

/// Nor does it count for one that is new under its name.
pub async fn a_lost_run_of_a_removed_job_is_not_taken_over(fixture: Fixture) {
    let peer = fixture.peer("a").await;
    for name in ["lost", "handed over"] {
        peer.register(&job(name, FAR)).await;
        peer.trigger(name).await;
    }
    let held = peer.claim_for(SHORT, 9).await.ticks;
    for name in ["lost", "handed over"] {
        assert!(peer.remove(name).await);
    }
    let handed = held.iter().find(|tick| tick.job == id("handed over")).unwrap();
    assert_eq!(peer.finish(handed, AttemptEnd::HandedOver).await, FinishOutcome::Finished);
    assert_eq!(peer.tick("handed over").await.state, TickState::Removed);
    fixture.pass(SHORT).await;
    let answer = peer.claim_for(LONG, 9).await;
    assert!(answer.ticks.is_empty() && answer.next_ready.is_none(), "{answer:?}");
    peer.sweep(LONG, 9, 9).await;
    let tick = peer.tick("lost").await;
    assert_eq!(tick.state, TickState::Removed);
    assert_eq!(tick.attempts[0].end, Some(AttemptEnd::Lost));
    assert_eq!(peer.overview().await.running, 0);
}

/// As one of this name runs at a time.
pub async fn a_run_of_a_removed_job_counts_for_the_next_of_its_name(fixture: Fixture) {
    let peer = fixture.peer("a").await;
    let definition = job("x", FAR);
    peer.register(&definition).await;
    peer.trigger("x").await;
    let held = peer.claim_one().await;
    peer.remove("x").await;
    peer.register(&definition).await;
    let overlaps = TriggerOutcome::Overlaps { nominal: held.nominal };
    assert_eq!(peer.try_trigger("x").await, overlaps);
    peer.succeed(&held).await;
    peer.trigger("x").await;
    peer.claim_one().await;
}
