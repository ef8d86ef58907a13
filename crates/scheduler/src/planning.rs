//! What stores of ticks decide, in one place: for backends of one's own.
//!
//! Every function is pure: it goes by the definition, what the store kept, and
//! the store's clock.

use std::time::{Duration, SystemTime};

use crate::{AttemptEnd, Misfire, NeverDue, Overlap, Progress, Terms, TickKind, TickState};

/// Most ticks of one job that one step makes; what is left over is planned by
/// the next.
pub const MAX_STEP: usize = 100;

/// Most ticks of one job that wait; further ones count as overlapping.
pub const MAX_WAITING: u32 = 1_000;

/// Just before a moment, on the grid of nominal times.
const MICRO: Duration = Duration::from_micros(1);

/// How much earlier another rule of its zone may make a time.
const MOVE: Duration = Duration::from_secs(3 * 60 * 60);

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

/// The end of a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Why there was one.
    pub kind: TickKind,
    /// [`Succeeded`](TickState::Succeeded) or [`Failed`](TickState::Failed).
    pub state: TickState,
    /// How many others of its job wait or run.
    pub open: u32,
}

/// What the end of a tick changes in its job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finished {
    /// What the store keeps of the job from now on.
    pub progress: Progress,
    /// Failed ticks in a row.
    pub failures: u32,
    /// Whether the job is paused for them, if it is not paused already; with
    /// [`pause_note`].
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
/// begins at `now`, and one with a delay after the end of the run that goes on.
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
    // The time of this very moment has its tick.
    let from = progress.last.map_or(now, |(last, _)| now.max(last + MICRO));
    let first = new.schedule.first_from(from)?;
    let waits = old.schedule.is_delay() && new.schedule.is_delay() && progress.next.is_none();
    // What the clocks of another zone showed says nothing here.
    let is_moved = old.schedule.zone() != new.schedule.zone();
    let last = progress
        .last
        .map(|(last, shown)| (last, if is_moved { new.schedule.local_time(last) } else { shown }));
    Ok(Progress::new(last, (!waits).then_some(first)))
}

/// Returns how a job goes on under the rule that its time zone has now: as it
/// is, unless it got another one under which its next time is none.
///
/// [`plan`] does so with the jobs that are due; whoever registers a job again
/// does it for those that are due earlier than they were.
#[must_use]
pub fn refreshed(terms: &Terms, progress: &Progress) -> Progress {
    let schedule = &terms.schedule;
    let Some(next) = progress.next.filter(|_| schedule.follows_clocks()) else {
        return *progress;
    };
    // A fixed time that the clocks showed before is not due again.
    let after = |after| match progress.last {
        Some((_, shown)) => schedule.next_after_run(after, shown),
        None => schedule.next_after(after),
    };
    if after(next - MICRO) == Some(next) {
        return *progress;
    }
    // Rules move times by less. What was passed over before that stays so.
    let before = next.checked_sub(MOVE).unwrap_or(SystemTime::UNIX_EPOCH);
    let moved = after(progress.last.map_or(before, |(last, _)| last.max(before)));
    Progress::new(progress.last, moved)
}

/// Returns how a job goes on that is resumed at `now`: what passed while it was
/// paused is passed over, except the only time of a job that runs once. Its
/// failures in a row count from 0 again.
#[must_use]
pub fn resumed(terms: &Terms, progress: &Progress, now: SystemTime) -> Progress {
    let (schedule, now) = (&terms.schedule, on_grid(now));
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
/// Bounded work, however many were missed: at most [`MAX_STEP`] ticks.
#[must_use]
pub fn plan(terms: &Terms, progress: &Progress, open: u32, now: SystemTime) -> Planned {
    let now = on_grid(now);
    let due = |progress: &Progress| progress.next.filter(|next| *next <= now);
    let mut steps = Steps { terms, open, planned: Planned::default() };
    steps.planned.progress = *progress;
    if due(progress).is_some() {
        steps.planned.progress = refreshed(terms, progress);
    }
    let Some(next) = due(&steps.planned.progress) else { return steps.planned };
    if terms.schedule.is_delay() {
        steps.on_time(next);
        steps.planned.progress.next = None;
        return steps.planned;
    }
    let on_time = now.checked_sub(terms.grace).unwrap_or(SystemTime::UNIX_EPOCH);
    if next < on_time {
        steps.missed(next, on_time, now);
    }
    while let Some(next) = due(&steps.planned.progress) {
        if steps.planned.ticks.len() >= MAX_STEP {
            break;
        }
        steps.on_time(next);
    }
    steps.planned
}

/// Tells whether there is room for one more tick of a job, of which `open` wait
/// or run already: where there is none, what is due is
/// [`Overlapped`](TickState::Overlapped), and what is triggered is not made.
#[must_use]
pub fn has_room(terms: &Terms, open: u32) -> bool {
    let room = match terms.overlap {
        Overlap::Skip => 1,
        Overlap::QueueOne => 2,
        Overlap::Allow { at_most } => at_most.get().saturating_add(MAX_WAITING),
    };
    open < room
}

/// Returns what a tick is after an attempt that its process says ended so: it
/// waits again for `retry_in`, or is over. One of a job that was removed is over
/// in any case.
#[must_use]
pub fn attempted(end: &AttemptEnd, retry_in: Option<Duration>, is_removed: bool) -> TickState {
    match (end, retry_in) {
        (AttemptEnd::Succeeded, _) => TickState::Succeeded,
        (AttemptEnd::HandedOver | AttemptEnd::Lost, _) if is_removed => TickState::Removed,
        (AttemptEnd::HandedOver | AttemptEnd::Lost, _) => TickState::Waiting,
        (_, Some(_)) if !is_removed => TickState::Waiting,
        _ => TickState::Failed,
    }
}

/// Returns what a job learns of the end of one of its ticks at `now`, of which
/// `failures` planned ones in a row failed before.
///
/// A schedule with a delay goes on when nothing of its job waits or runs any
/// more. What was triggered counts for nothing else.
#[must_use]
pub fn finished(
    terms: &Terms,
    progress: &Progress,
    failures: u32,
    ended: Ended,
    now: SystemTime,
) -> Finished {
    let has_failed = ended.state == TickState::Failed;
    let (failures, counts) = match ended.kind {
        TickKind::Triggered => (failures, false),
        TickKind::Planned if has_failed => (failures.saturating_add(1), true),
        TickKind::Planned => (0, false),
    };
    let mut progress = *progress;
    if terms.schedule.is_delay() && progress.next.is_none() && ended.open == 0 {
        progress.next = terms.schedule.next_after(now);
    }
    let is_paused = counts && terms.pause_after.is_some_and(|most| failures >= most.get());
    Finished { progress, failures, is_paused }
}

/// Returns the note of a job that is paused because so many ticks failed.
#[must_use]
pub fn pause_note(failures: u32) -> String {
    match failures {
        1 => "it failed once".to_owned(),
        failures => format!("it failed {failures} times in a row"),
    }
}

/// Tells whether a job has no further time and nothing that waits or runs.
#[must_use]
pub fn is_done(terms: &Terms, progress: &Progress, open: u32) -> bool {
    progress.next.is_none() && open == 0 && !terms.schedule.is_delay()
}

/// Tells whether a tick whose lease is over is tried again, or failed: `ends`
/// are those of its attempts, this loss among them.
#[must_use]
pub fn is_taken_over<'e>(terms: &Terms, ends: impl IntoIterator<Item = &'e AttemptEnd>) -> bool {
    let lost = ends.into_iter().filter(|end| **end == AttemptEnd::Lost).count();
    u32::try_from(lost).is_ok_and(|lost| lost <= terms.takeovers)
}

/// Cuts a moment to the grid of nominal times.
fn on_grid(now: SystemTime) -> SystemTime {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    now - Duration::from_nanos(u64::from(since.subsec_nanos() % 1_000))
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
        let has_room = has_room(self.terms, self.open);
        self.make(nominal, if has_room { TickState::Waiting } else { TickState::Overlapped });
    }

    fn make(&mut self, nominal: SystemTime, state: TickState) {
        let schedule = &self.terms.schedule;
        let shown = schedule.local_time(nominal);
        self.planned.ticks.push(PlannedTick { nominal, state });
        self.open += u32::from(state == TickState::Waiting);
        let next = schedule.next_after(nominal);
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
                for nominal in self.last_of(next, from, on_time, most) {
                    // One after the other, beside what overlap allows.
                    let has_room = self.open < MAX_WAITING;
                    let state = if has_room { TickState::Waiting } else { TickState::Overlapped };
                    self.make(nominal, state);
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

    /// The last `most` nominal times from `from` to before `end`; `known` is
    /// the first of all, which the schedule may not say again.
    fn last_of(
        &self,
        known: SystemTime,
        from: SystemTime,
        end: SystemTime,
        most: usize,
    ) -> Vec<SystemTime> {
        let times = |from: SystemTime| {
            let upcoming = self.terms.schedule.upcoming(known.max(from - MICRO));
            let known = (from <= known).then_some(known);
            known.into_iter().chain(upcoming).take_while(move |time| *time < end)
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
