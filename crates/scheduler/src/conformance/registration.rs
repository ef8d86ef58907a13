use std::num::NonZeroU32;

use super::{
    Duration, ErrorKind, FAR, Fixture, LONG, SHORT, assert_kind, failed, id, job, job_with,
    nominals, parallel,
};
use crate::{Definition, JobState, Misfire, Overlap, Registered, Retries, TickState};

/// And is given back as it was defined.
pub async fn a_new_job_begins_with_its_first_time(fixture: Fixture) {
    let peer = fixture.peer("a").await;
    let definition = job("report", "every 1h");
    let before = peer.now().await;
    assert_eq!(peer.register(&definition).await, Registered::New);
    let schedule = &definition.terms.schedule;
    let firsts = [before, peer.now().await].map(|now| schedule.first_from(now).ok());
    let facts = peer.job("report").await;
    assert!(firsts.contains(&facts.progress.next), "{facts:?}");
    assert_eq!(facts.progress.last, None);
    assert_eq!((facts.state, facts.failures, facts.open), (JobState::Active, 0, 0));
    assert_eq!((&*facts.definition, facts.last), (&definition, None));
    assert!(facts.has_handler);
    assert!(peer.ticks("report").await.is_empty());
    assert!(peer.find("other").await.is_none());
}

/// Whatever they say.
pub async fn definitions_come_back_as_they_were(fixture: Fixture) {
    let peer = fixture.peer("a").await;
    let most = NonZeroU32::MAX;
    let full = |terms: &mut crate::Terms| {
        terms.misfire = Misfire::All { within: LONG, at_most: most };
        (terms.grace, terms.timeout) = (Duration::from_micros(1), None);
        terms.overlap = Overlap::Allow { at_most: most };
        terms.retries = Retries::new(most, SHORT, LONG);
        (terms.takeovers, terms.pause_after) = (0, Some(most));
    };
    let long = "ü".repeat(50);
    let cron = "cron */15 9-17 * * MON-FRI; zone Europe/Berlin; jitter 30s; except 2026-12-24";
    let mut definitions = vec![
        job_with(&long, cron, full),
        job_with("Case", "weekly mon fri 02:30", |terms| terms.misfire = Misfire::Skip),
        job_with("case", "delay 10m", |terms| terms.overlap = Overlap::QueueOne),
        job("case ", "every 90s from 2026-01-01T00:00:00Z"),
        job("100%_'\"\\", "once now"),
    ];
    definitions.iter_mut().for_each(|definition| definition.revision = u64::from(u32::MAX) * 99);
    let registered = peer.try_register(&definitions).await.unwrap();
    assert_eq!(registered, vec![Registered::New; 5]);
    let registered = fixture.peer("b").await.try_register(&definitions).await.unwrap();
    assert_eq!(registered, vec![Registered::Same; 5]);
    for definition in &definitions {
        assert_eq!(*peer.job(definition.id.as_str()).await.definition, *definition);
    }
}

/// From whichever process, and the planning goes on.
pub async fn the_same_definition_changes_nothing(fixture: Fixture) {
    let (a, b) = (fixture.peer("a").await, fixture.peer("b").await);
    let definition = job("report", "every 1h from 2020-01-01T00:00:00.5Z");
    a.register(&definition).await;
    a.pause("report", "a note").await;
    let before = a.job("report").await;
    assert_eq!(b.register(&definition).await, Registered::Same);
    assert_eq!(a.register(&definition).await, Registered::Same);
    assert_eq!(a.job("report").await, before);
}

/// With the same schedule nothing that is due is lost, with another it begins
/// anew; a pause stays.
pub async fn a_higher_revision_replaces_a_lower_one(fixture: Fixture) {
    let (a, b) = (fixture.peer("a").await, fixture.peer("b").await);
    let first = job("report", "once now");
    a.register(&first).await;
    let progress = a.job("report").await.progress;
    fixture.pass(Duration::from_millis(5)).await;
    let mut second = job_with("report", "once now", |terms| terms.takeovers = 1);
    second.revision = 7;
    assert_eq!(b.register(&second).await, Registered::Replaced { revision: 1 });
    let facts = b.job("report").await;
    assert_eq!((&*facts.definition, facts.progress), (&second, progress));

    b.pause("report", "a note").await;
    let mut third = job("report", FAR);
    third.revision = 8;
    assert_eq!(a.register(&third).await, Registered::Replaced { revision: 7 });
    let facts = a.job("report").await;
    assert_eq!(facts.progress.next, third.terms.schedule.next_after(a.now().await));
    assert!(matches!(facts.state, JobState::Paused { .. }), "{facts:?}");
}

/// Whatever it says.
pub async fn a_lower_revision_never_replaces_a_higher_one(fixture: Fixture) {
    let (new, old) = (fixture.peer("new").await, fixture.peer("old").await);
    let mut definition = job("report", FAR);
    definition.revision = 5;
    new.register(&definition).await;
    let before = new.job("report").await;
    assert_eq!(old.register(&job("report", "every 1s")).await, Registered::Older { revision: 5 });
    assert_eq!(new.job("report").await, before);
}

/// Whether it is in conflict, never due or there twice.
pub async fn a_refusal_leaves_nothing_half_registered(fixture: Fixture) {
    let peer = fixture.peer("a").await;
    peer.register(&job("known", FAR)).await;
    peer.register(&job("raised", FAR)).await;
    let mut raised = job("raised", "every 1h");
    raised.revision = 2;
    let other = job("known", "every 1h");
    let past = job("past", "once 2001-01-01T00:00:00Z");
    let twice = job("twice", FAR);
    let refusals = [
        (vec![other], ErrorKind::Conflict, "known"),
        (vec![past], ErrorKind::Invalid, "past"),
        (vec![twice.clone(), twice], ErrorKind::Conflict, "twice"),
    ];
    let b = fixture.peer("b").await;
    for (refused, kind, name) in refusals {
        let mut definitions = vec![job("good", FAR), raised.clone()];
        definitions.extend(refused);
        definitions.push(job("better", FAR));
        let message = assert_kind(b.try_register(&definitions).await, kind);
        assert!(message.starts_with("scheduler.default register: "), "{message}");
        assert!(message.contains(&format!("`{name}`")), "{message}");
    }
    for name in ["good", "better", "past", "twice"] {
        assert!(peer.find(name).await.is_none(), "{name}");
    }
    assert_eq!(peer.job("raised").await.definition.revision, 1);
    assert_eq!(peer.job("known").await.definition.terms.schedule.to_string(), FAR);
    assert_eq!((peer.overview().await.jobs, b.beat(LONG).await), (2, 0));
    peer.trigger("raised").await;
    assert!(b.claim(10).await.is_empty());
}

/// Of its revision or a lower one.
pub async fn a_tick_is_given_only_to_who_has_its_handler(fixture: Fixture) {
    let (old, new) = (fixture.peer("old").await, fixture.peer("new").await);
    let first = parallel("report", 9);
    let mut second = first.clone();
    second.revision = 2;
    old.register(&first).await;
    let before = [old.trigger("report").await, old.trigger("report").await];
    new.register(&second).await;
    let after = new.trigger("report").await;
    assert!(fixture.peer("neither").await.claim(10).await.is_empty());

    assert_eq!(nominals(&old.claim(1).await), [before[0]]);
    let given = new.claim(10).await;
    assert_eq!(nominals(&given), [before[1], after]);
    assert_eq!(given.iter().map(|tick| tick.revision).collect::<Vec<_>>(), [1, 2]);

    let last = new.trigger("report").await;
    let answer = old.claim_for(LONG, 10).await;
    // Only its own lease wakes it.
    assert!(answer.ticks.is_empty() && answer.next_ready > Some(answer.now), "{answer:?}");
    assert_eq!(new.claim_one().await.nominal, last);
}

/// Where a new handler was lost, an older one takes over what it may.
pub async fn a_newer_tick_hides_no_older_one(fixture: Fixture) {
    let (old, new) = (fixture.peer("old").await, fixture.peer("new").await);
    let first = parallel("report", 9);
    let mut second = first.clone();
    second.revision = 2;
    old.register(&first).await;
    let before = old.trigger("report").await;
    let held = old.claim_one().await;
    new.register(&second).await;
    fixture.pass(Duration::from_millis(2)).await;
    let after = new.trigger("report").await;
    fixture.pass(Duration::from_millis(2)).await;
    old.retry(&held, Duration::ZERO).await;
    assert_eq!(old.claim_one().await.nominal, before);
    assert_eq!(new.claim_one().await.nominal, after);
}

/// And what it runs goes on.
pub async fn who_withdraws_is_given_nothing(fixture: Fixture) {
    let peer = fixture.peer("a").await;
    for name in ["x", "y", "z"] {
        peer.register(&parallel(name, 9)).await;
        peer.trigger(name).await;
    }
    let held = peer.claim(1).await;
    assert_eq!(peer.beat(LONG).await, 3);
    peer.withdraw(Some(&[id("x"), id("y"), id("never")])).await;
    assert_eq!(peer.beat(LONG).await, 1);
    assert_eq!(peer.claim_one().await.job, id("z"));
    peer.withdraw(None).await;
    assert_eq!(peer.beat(LONG).await, 0);
    for name in ["x", "y", "z"] {
        peer.trigger(name).await;
        assert!(!peer.job(name).await.has_handler);
    }
    assert!(peer.claim(10).await.is_empty());
    assert_eq!(peer.succeed(&held[0]).await, crate::FinishOutcome::Finished);
}

/// Whose process was heard of.
pub async fn a_job_without_a_handler_is_noticed(fixture: Fixture) {
    let peer = fixture.absent("a");
    peer.register(&job("x", FAR)).await;
    peer.register(&job("y", FAR)).await;
    let orphans = async || peer.overview().await.without_handler;
    assert_eq!((orphans().await, peer.job("x").await.has_handler), (2, false));
    assert_eq!(peer.beat(SHORT).await, 2);
    assert_eq!((orphans().await, peer.job("x").await.has_handler), (0, true));
    peer.pause("y", "not missed").await;
    fixture.pass(SHORT).await;
    assert_eq!((orphans().await, peer.job("x").await.has_handler), (1, false));
    let other = fixture.peer("b").await;
    other.register(&job("x", FAR)).await;
    assert_eq!(orphans().await, 0);
    other.withdraw(None).await;
    assert_eq!(orphans().await, 1);
    peer.beat(LONG).await;
    assert_eq!(orphans().await, 0);
}

/// Then it registers again.
pub async fn a_process_that_was_forgotten_learns_it(fixture: Fixture) {
    let peer = fixture.absent("a");
    peer.beat(SHORT).await;
    peer.register(&job("x", FAR)).await;
    assert_eq!((peer.sweep(LONG, 9, 9).await, peer.beat(SHORT).await), (0, 1));
    fixture.pass(SHORT).await;
    assert_eq!(peer.sweep(LONG, 9, 9).await, 1);
    assert_eq!(peer.beat(LONG).await, 0);
    assert!(!peer.job("x").await.has_handler);
    assert_eq!(peer.register(&job("x", FAR)).await, Registered::Same);
    assert_eq!(peer.beat(LONG).await, 1);
    assert!(peer.job("x").await.has_handler);
}

/// Under its new terms.
pub async fn a_run_outlives_the_definition_it_began_with(fixture: Fixture) {
    let peer = fixture.peer("a").await;
    peer.register(&job("report", FAR)).await;
    peer.trigger("report").await;
    let held = peer.claim_one().await;
    let mut second: Definition = parallel("report", 2);
    second.revision = 2;
    peer.register(&second).await;
    assert_eq!(peer.renew(&held.fence, LONG).await, trine_core::Renewal::Renewed);
    peer.trigger("report").await;
    let beside = peer.claim_one().await;
    peer.trigger("report").await;
    assert!(peer.claim(10).await.is_empty());
    assert_eq!(peer.succeed(&held).await, crate::FinishOutcome::Finished);
    let last = peer.claim_one().await;
    peer.finish(&beside, failed()).await;
    peer.succeed(&last).await;
    let states: Vec<_> = peer.ticks("report").await.iter().map(|tick| tick.state).collect();
    assert_eq!(states, [TickState::Succeeded, TickState::Failed, TickState::Succeeded]);
}
