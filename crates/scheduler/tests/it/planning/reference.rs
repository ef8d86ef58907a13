//! Random plans against a slow reference.

use std::num::NonZeroU32;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use proptest::sample::select;
use trine_scheduler::planning::{self, MAX_STEP, MAX_WAITING, PlannedTick};
use trine_scheduler::{Misfire, Overlap, Progress, Terms, TickState};

use super::SECOND;
use crate::{schedule, time};

/// Goes through every time. A plan is what it says, cut to one step.
fn reference(
    terms: &Terms,
    progress: &Progress,
    open: u32,
    now: SystemTime,
) -> (Vec<(SystemTime, TickState)>, Option<SystemTime>) {
    let schedule = &terms.schedule;
    let (mut times, mut next) = (Vec::new(), progress.next);
    while let Some(time) = next.filter(|next| *next <= now) {
        times.push(time);
        next = match schedule.to_string().starts_with("delay") {
            true => None,
            false => schedule.next_after_run(time, schedule.local_time(time)),
        };
    }
    let is_delay = schedule.to_string().starts_with("delay");
    let is_missed = |at: &SystemTime| !is_delay && *at < now - terms.grace;
    let (mut missed, on_time): (Vec<_>, Vec<_>) = times.into_iter().partition(is_missed);
    let mut is_all = false;
    match terms.misfire {
        Misfire::Skip => missed.clear(),
        Misfire::Once if !on_time.is_empty() => missed.clear(),
        Misfire::Once => missed = missed.split_off(missed.len().saturating_sub(1)),
        Misfire::All { within, at_most } => {
            missed.retain(|at| now.duration_since(*at).unwrap() <= within);
            let most = (at_most.get() as usize).min(MAX_STEP);
            missed = missed.split_off(missed.len().saturating_sub(most));
            is_all = true;
        }
        other => panic!("{other:?}"),
    }
    let mut waiting = open;
    let mut ticks = Vec::new();
    let room = match terms.overlap {
        Overlap::Skip => 1,
        Overlap::QueueOne => 2,
        Overlap::Allow { at_most } => MAX_WAITING + at_most.get(),
        other => panic!("{other:?}"),
    };
    for (at, room) in missed
        .iter()
        .map(|at| (*at, if is_all { MAX_WAITING } else { room }))
        .chain(on_time.iter().map(|at| (*at, room)))
    {
        if ticks.len() == MAX_STEP {
            next = Some(at);
            break;
        }
        let is_free = waiting < room;
        waiting += u32::from(is_free);
        ticks.push((at, if is_free { TickState::Waiting } else { TickState::Overlapped }));
    }
    (ticks, next)
}

fn policies() -> impl Strategy<Value = (Misfire, Overlap, Duration)> {
    let within = select(vec![0, 1, 59, 60, 61, 3_600, 7_200, 90_000]);
    let misfire = prop_oneof![
        1 => Just(Misfire::Skip),
        2 => Just(Misfire::Once),
        3 => (within, 1_u32..120).prop_map(|(within, at_most)| Misfire::All {
            within: SECOND * within,
            at_most: NonZeroU32::new(at_most).unwrap(),
        }),
    ];
    let overlap = prop_oneof![
        Just(Overlap::Skip),
        Just(Overlap::QueueOne),
        (1_u32..5).prop_map(|most| Overlap::Allow { at_most: NonZeroU32::new(most).unwrap() }),
    ];
    let grace = select(vec![0, 1, 60, 1_000, 7_200]).prop_map(|secs| SECOND * secs);
    (misfire, overlap, grace)
}

/// Schedules, and days on which clocks are set in most of their zones.
fn jobs() -> impl Strategy<Value = (&'static str, &'static str, &'static str, u64)> {
    let dense = select(vec![
        "every 1s",
        "every 7s",
        "every 11500ms",
        "cron */5 * * * * *",
        "cron 0,1,59 * * * * *",
        "cron * * * * *",
    ]);
    let sparse = select(vec![
        "every 45m",
        "daily 02:30",
        "cron 30 2 * * *",
        "cron 30 * * * *",
        "cron */30 2 * * *",
        "cron 0,15,30,45 0,1,2,3 * * *",
        "weekly sun mon 02:15",
        "daily 02:30; jitter 1h",
        "cron 30 * * * *; except sun",
        "monthly last_day 02:00",
        "delay 30m",
        "once now",
        "once 2026-10-25T01:00:00Z",
        "once 2026-04-05T01:00:00Z",
    ]);
    let zone = select(vec!["UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/Havana"]);
    let day = select(vec!["2026-03-28", "2026-10-24", "2026-04-04", "2026-10-03", "2026-03-07"]);
    let length = prop_oneof![
        3 => (dense, Just(7_000_u64)),
        4 => (sparse, Just(4 * 86_400)),
    ];
    (length, zone, day).prop_map(|((text, length), zone, day)| (text, zone, day, length))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn a_plan_is_what_the_reference_says(
        (text, zone, day, length) in jobs(),
        (misfire, overlap, grace) in policies(),
        open in 0_u32..4,
        begin in 0_u64..86_400,
        stops in proptest::collection::vec((0_u64..1_000_000_000, 0_u64..2_000_000_000), 1..4),
    ) {
        let mut terms = Terms::new(schedule(text, zone));
        (terms.misfire, terms.overlap, terms.grace) = (misfire, overlap, grace);
        let start = time(&format!("{day}T00:00:00Z")) + SECOND * u32::try_from(begin).unwrap();
        let Ok(mut progress) = planning::first(&terms, start) else { return Ok(()) };
        let mut now = start;
        let mut last = None;
        for (share, nanos) in stops {
            // Not on the grid of microseconds.
            now += Duration::from_secs(length * share / 1_000_000_000)
                + Duration::from_nanos(nanos);
            for _ in 0..3 {
                let grid = now - Duration::from_nanos(
                    now.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64 % 1_000,
                );
                let (ticks, next) = reference(&terms, &progress, open, grid);
                let planned = planning::plan(&terms, &progress, open, now);
                let made: Vec<_> = planned.ticks.iter()
                    .map(|PlannedTick { nominal, state, .. }| (*nominal, *state)).collect();
                prop_assert_eq!(&made, &ticks);
                prop_assert_eq!(planned.progress.next, next);
                let local = |at| (at, terms.schedule.local_time(at));
                let expected = ticks.last().map(|(at, _)| local(*at)).or(progress.last);
                prop_assert_eq!(planned.progress.last, expected);
                // Each time once, in order.
                for (at, _) in made {
                    prop_assert!(last < Some(at));
                    last = Some(at);
                }
                progress = planned.progress;
            }
        }
    }
}
