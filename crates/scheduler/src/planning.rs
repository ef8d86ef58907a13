//! What stores of ticks decide, in one place: for backends of one's own.
//!
//! Every function is pure: it goes by the definition, what the store kept, and
//! the store's clock.

use std::time::{Duration, SystemTime};

use crate::{AttemptEnd, Misfire, NeverDue, Overlap, Progress, Terms, TickState};

/// Most ticks of one job that one step makes; what is left over is planned by
/// the next.
pub const MAX_STEP: usize = 100;

/// Most ticks of one job that wait; further ones count as overlapping.
pub const MAX_WAITING: u32 = 1_000;

/// Just before a moment, on the grid of nominal times.
const MICRO: Duration = Duration::from_micros(1);

/// A tick to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlannedTick {
    /// The nominal time.
    pub nominal: SystemTime,
    /// [`Waiting`](TickState::Waiting) or [`Overlapped`](TickState::Overlapped).
    pub state: TickState,
}

/// What one step of planning makes of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Planned {
    /// The ticks, in the order of their times.
    pub ticks: Vec<PlannedTick>,
    /// What the store keeps of the job from now on; its `next` may be due too.
    pub progress: Progress,
}

/// What the end of a tick changes in its job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finished {
    /// What the store keeps of the job from now on.
    pub progress: Progress,
    /// Failed ticks in a row.
    pub failures: u32,
    /// Whether the job is paused for them.
    pub is_paused: bool,
}

/// Returns how a job begins that is registered at `now`.
///
/// # Errors
///
/// Fails with [`NeverDue`], which says why, if it never does.
pub fn first(terms: &Terms, now: SystemTime) -> Result<Progress, NeverDue> {
    Ok(Progress::new(None, Some(terms.schedule.first_from(now)?)))
}

/// Returns how a job goes on whose terms are replaced at `now`. With the same
/// schedule nothing changes, and what was missed is still missed; another one
/// begins at `now`.
///
/// # Errors
///
/// Fails with [`NeverDue`], which says why, if another schedule never begins.
pub fn replaced(
    old: &Terms,
    new: &Terms,
    progress: &Progress,
    now: SystemTime,
) -> Result<Progress, NeverDue> {
    if old.schedule == new.schedule {
        return Ok(*progress);
    }
    let first = new.schedule.first_from(now)?;
    // A fixed time that the old schedule had is not due again today.
    let after_last = progress.last.and_then(|(last, shown)| {
        let is_far = last + Duration::from_secs(86_400) < now;
        let next = (!is_far).then(|| new.schedule.next_after_run(last, shown))?;
        next.filter(|next| *next >= now)
    });
    let next = if new.schedule.is_delay() { first } else { after_last.unwrap_or(first) };
    Ok(Progress::new(progress.last, Some(next)))
}

/// Returns how a job goes on that is resumed at `now`: what passed while it was
/// paused is passed over, except the only time of a job that runs once.
#[must_use]
pub fn resumed(terms: &Terms, progress: &Progress, now: SystemTime) -> Progress {
    let schedule = &terms.schedule;
    let next = match progress.next {
        Some(next) if next < now && schedule.is_delay() => Some(now),
        Some(next) if next < now && !schedule.is_once() => schedule.next_after(now - MICRO),
        next => next,
    };
    Progress::new(progress.last, next)
}

/// Returns the ticks of a job at `now`, of which `open` wait or run already.
///
/// Times up to [`grace`](Terms::grace) ago are on time, earlier ones are missed.
#[must_use]
pub fn plan(terms: &Terms, progress: &Progress, open: u32, now: SystemTime) -> Planned {
    let mut steps = Steps { terms, open, planned: Planned::default() };
    steps.planned.progress = *progress;
    let Some(next) = progress.next.filter(|next| *next <= now) else { return steps.planned };
    if terms.schedule.is_delay() {
        steps.on_time(next);
        steps.planned.progress.next = None;
        return steps.planned;
    }
    let on_time = now.checked_sub(terms.grace).unwrap_or(SystemTime::UNIX_EPOCH);
    if next < on_time {
        steps.missed(next, on_time, now);
    }
    while let Some(next) = steps.planned.progress.next.filter(|next| *next <= now) {
        if steps.planned.ticks.len() >= MAX_STEP {
            break;
        }
        steps.on_time(next);
    }
    steps.planned
}

/// Returns what a job learns of the end of one of its planned ticks at `now`:
/// `state` is [`Succeeded`](TickState::Succeeded) or
/// [`Failed`](TickState::Failed), and `failures` how many failed in a row before.
#[must_use]
pub fn finished(
    terms: &Terms,
    progress: &Progress,
    failures: u32,
    state: TickState,
    now: SystemTime,
) -> Finished {
    let failures = if state == TickState::Failed { failures.saturating_add(1) } else { 0 };
    let mut progress = *progress;
    if terms.schedule.is_delay() && progress.next.is_none() {
        progress.next = terms.schedule.next_after(now);
    }
    let is_paused = terms.pause_after.is_some_and(|most| failures >= most.get());
    Finished { progress, failures, is_paused }
}

/// Tells whether a tick whose lease is over is tried again, which has ended so
/// before.
#[must_use]
pub fn is_taken_over<'e>(terms: &Terms, ends: impl IntoIterator<Item = &'e AttemptEnd>) -> bool {
    let lost = ends.into_iter().filter(|end| **end == AttemptEnd::Lost).count();
    u32::try_from(lost).is_ok_and(|lost| lost <= terms.takeovers)
}

/// One step of planning under way.
struct Steps<'t> {
    terms: &'t Terms,
    open: u32,
    planned: Planned,
}

impl Steps<'_> {
    /// Makes the tick of a time that overlaps with what is open.
    fn on_time(&mut self, nominal: SystemTime) {
        let room = match self.terms.overlap {
            Overlap::Skip => 1,
            Overlap::QueueOne => 2,
            Overlap::Allow { at_most } => at_most.get().saturating_add(MAX_WAITING),
        };
        let is_free = self.open < room;
        self.make(nominal, if is_free { TickState::Waiting } else { TickState::Overlapped });
    }

    fn make(&mut self, nominal: SystemTime, state: TickState) {
        let schedule = &self.terms.schedule;
        let shown = schedule.local_time(nominal);
        self.planned.ticks.push(PlannedTick { nominal, state });
        self.open += u32::from(state == TickState::Waiting);
        let next = schedule.next_after_run(nominal, shown);
        self.planned.progress = Progress::new(Some((nominal, shown)), next);
    }

    /// Makes what the policy leaves of the times from `next` to before
    /// `on_time`.
    fn missed(&mut self, next: SystemTime, on_time: SystemTime, now: SystemTime) {
        let schedule = &self.terms.schedule;
        let first_on_time = schedule.next_after(on_time - MICRO);
        match self.terms.misfire {
            Misfire::Skip => {}
            Misfire::Once if first_on_time.is_some_and(|first| first <= now) => {}
            Misfire::Once => self.on_time(self.latest(next, on_time)),
            Misfire::All { within, at_most } => {
                let most = usize::try_from(at_most.get()).unwrap_or(usize::MAX).min(MAX_STEP);
                let from = now.checked_sub(within).unwrap_or(next).max(next);
                for nominal in self.last_of(from, on_time, most) {
                    self.make(nominal, TickState::Waiting);
                }
            }
        }
        self.planned.progress.next = first_on_time;
    }

    /// The latest nominal time before `end`; `known` is one.
    fn latest(&self, known: SystemTime, end: SystemTime) -> SystemTime {
        let (mut latest, mut end) = (known, end);
        // Halves what is between; each answer of the schedule is a time of it.
        while let Ok(between) = end.duration_since(latest) {
            if between <= MICRO {
                break;
            }
            let middle = latest + between / 2;
            match self.terms.schedule.next_after(middle) {
                Some(time) if time < end => latest = time,
                _ => end = middle + MICRO,
            }
            if between <= MICRO * 2 {
                break;
            }
        }
        latest
    }

    /// The last `most` nominal times from `from` to before `end`.
    fn last_of(&self, from: SystemTime, end: SystemTime, most: usize) -> Vec<SystemTime> {
        let times = |from: SystemTime| {
            let upcoming = self.terms.schedule.upcoming(from - MICRO);
            upcoming.take_while(move |time| *time < end)
        };
        let (mut from, mut few) = (from, end);
        // All of the last `most` begin between the two.
        while times(from).nth(most).is_some() {
            let between = few.duration_since(from).unwrap_or_default();
            if between <= MICRO {
                break;
            }
            let middle = from + between / 2;
            if times(middle).nth(most - 1).is_some() { from = middle } else { few = middle }
        }
        times(from).take(most).collect()
    }
}
