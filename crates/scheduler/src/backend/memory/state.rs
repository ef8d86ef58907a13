use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use trine_core::{BoxError, Fence, Moment};

use super::job::{Found, Job, Pause};
use super::jobs::Jobs;
use super::micros::{Micros, micros, span, time};
use super::processes::Process;
use super::record::Record;
use crate::backend::fence_key;
use crate::planning::{self, PlannedTick};
use crate::{
    Attempt, AttemptEnd, ClaimAnswer, ClaimedTick, Finish, FinishOutcome, Overview, PlanAnswer,
    TickKind, TickState, TriggerOutcome,
};

/// Everything that is stored.
#[derive(Debug)]
pub(super) struct State {
    pub(super) jobs: Jobs,
    pub(super) processes: HashMap<Arc<str>, Process>,
    planner: Option<(Arc<str>, Micros)>,
    /// The last token, of whatever key: so that no key leaves a record.
    last: u64,
    /// What the wall clock shows when the other one is at 0.
    wall: Micros,
}

/// From how much on a wall clock was set; less is how clocks differ.
const JUMP: Micros = 50_000;

impl State {
    pub(super) fn new(now: Moment, wall: SystemTime) -> Self {
        Self {
            jobs: Jobs::default(),
            processes: HashMap::new(),
            planner: None,
            last: 0,
            wall: micros(wall) - span(now.elapsed()),
        }
    }

    /// Returns the time. Schedules go by the wall clock, which may be set; all
    /// spans are moved with it, so that none ends early or late.
    pub(super) fn now(&mut self, now: Moment, wall: SystemTime) -> Micros {
        let wall = micros(wall);
        let jump = wall - span(now.elapsed()) - self.wall;
        if jump.abs() > JUMP {
            self.wall += jump;
            self.jobs.shift(jump);
            for until in self.planner.iter_mut().map(|(_, until)| until) {
                *until += jump;
            }
            for process in self.processes.values_mut() {
                process.until += jump;
            }
        }
        self.settle(wall);
        wall
    }

    /// The place of a job that was not removed.
    pub(super) fn known(&self, job: &str) -> Option<u32> {
        let slot = self.jobs.slot(job)?;
        self.jobs.get(slot).filter(|job| !job.is_removed).map(|_| slot)
    }

    pub(super) fn remove(&mut self, slot: u32, now: Micros) {
        let waiting = self.jobs.with(slot, |job| {
            job.is_removed = true;
            job.work().waiting()
        });
        for nominal in waiting.unwrap_or_default() {
            self.jobs.end(slot, nominal, TickState::Removed, now);
        }
    }

    pub(super) fn pause(&mut self, slot: u32, note: &str, now: Micros) {
        self.jobs.with(slot, |job| {
            let since = job.pause.as_ref().map_or_else(|| time(now), |pause| pause.since);
            job.pause = Some(Box::new(Pause { note: note.into(), since }));
        });
    }

    /// Tells whether it was paused.
    pub(super) fn resume(&mut self, slot: u32, now: Micros) -> bool {
        let was_paused = self.jobs.with(slot, |job| {
            let was_paused = job.pause.take().is_some();
            if was_paused {
                job.progress = planning::resumed(job.terms(), &job.progress, time(now));
                job.failures = 0;
            }
            was_paused
        });
        was_paused == Some(true)
    }

    pub(super) fn trigger(&mut self, slot: u32, now: Micros) -> Option<TriggerOutcome> {
        let job = self.jobs.get(slot)?;
        if !planning::has_room(job.terms(), job.work().open()) {
            return Some(TriggerOutcome::Overlaps { nominal: job.work().other()? });
        }
        let next = job.progress.next.map(micros);
        let is_free = |nominal: &Micros| {
            !job.work().ticks.contains_key(nominal) && next.is_none_or(|next| next != *nominal)
        };
        let nominal = (now..).find(is_free)?;
        let revision = job.definition.revision;
        let (kind, state) = (TickKind::Triggered, TickState::Waiting);
        let mut record = Record::new(kind, state, revision, nominal);
        record.moment = now;
        self.jobs.add_tick(slot, nominal, record);
        Some(TriggerOutcome::Triggered { nominal: time(nominal) })
    }

    pub(super) fn plan(
        &mut self,
        process: &Arc<str>,
        ttl: Duration,
        jobs: u32,
        now: Micros,
    ) -> PlanAnswer {
        let other =
            self.planner.as_ref().filter(|(planner, until)| planner != process && now < *until);
        if let Some((_, until)) = other {
            let retry_in = Duration::from_micros((until - now).unsigned_abs());
            return PlanAnswer::Other { now: time(now), retry_in, next_due: self.next_due() };
        }
        self.planner = Some((Arc::clone(process), now + span(ttl)));
        let jobs = usize::try_from(jobs).unwrap_or(usize::MAX);
        let due = self.jobs.due.range(..=(now, u32::MAX)).take(jobs);
        let due: Vec<u32> = due.map(|(_, slot)| *slot).collect();
        let ticks = due.into_iter().map(|slot| self.plan_job(slot, now)).sum();
        PlanAnswer::Planned { now: time(now), ticks, next_due: self.next_due() }
    }

    fn plan_job(&mut self, slot: u32, now: Micros) -> u64 {
        let Some(job) = self.jobs.get(slot) else { return 0 };
        let definition = Arc::clone(&job.definition);
        let planned =
            planning::plan(&definition.terms, &job.progress, job.work().open(), time(now));
        let mut made = 0;
        for PlannedTick { nominal, state } in planned.ticks {
            let due = micros(definition.terms.schedule.due(definition.id.as_str(), nominal));
            let mut record = Record::new(TickKind::Planned, state, definition.revision, due);
            if state.is_over() {
                record.moment = now;
            }
            made += u64::from(self.jobs.add_tick(slot, micros(nominal), record));
        }
        self.jobs.with(slot, |job| job.progress = planned.progress);
        made
    }

    fn next_due(&self) -> Option<SystemTime> {
        self.jobs.due.first().map(|(due, _)| time(*due))
    }

    pub(super) fn resign(&mut self, process: &Arc<str>) {
        self.planner = self.planner.take().filter(|(planner, _)| planner != process);
    }

    pub(super) fn claim(
        &mut self,
        service: &str,
        process: &Arc<str>,
        ttl: Duration,
        count: u32,
        now: Micros,
    ) -> Result<ClaimAnswer, BoxError> {
        self.jobs.end_gone(now);
        let none = Process::default();
        let handlers = &self.processes.get(process).unwrap_or(&none).handlers;
        let most = usize::try_from(count).unwrap_or(usize::MAX);
        let (mut ticks, mut from) = (Vec::new(), (Micros::MIN, 0));
        while ticks.len() < most {
            let next = self.jobs.ready.range(from..=(now, u32::MAX)).next().copied();
            let Some((ready, slot)) = next else { break };
            let revision = handlers.get(&slot).copied();
            let job = self.jobs.get(slot);
            let found = job.zip(revision).and_then(|(job, revision)| job.next_claim(revision));
            let Some((_, nominal)) = found.filter(|(ready, _)| *ready <= now) else {
                from = (ready, slot + 1);
                continue;
            };
            if self.jobs.lose(slot, nominal, now) == Found::Exhausted {
                self.jobs.end(slot, nominal, TickState::Failed, now);
                // Another of the job that waited for longer may have its place.
                let next = self.jobs.get(slot).and_then(|job| job.next_claim(u64::MAX));
                from = next.map_or(from, |(ready, _)| from.min((ready, slot)));
                continue;
            }
            let token = Fence::next_token(self.last, now.unsigned_abs());
            let claimed = self.jobs.with(slot, |job| {
                give(job, nominal, service, process, token, (now, now + span(ttl)))
            });
            self.last = token;
            ticks.extend(claimed.transpose()?);
        }
        Ok(ClaimAnswer::new(time(now), ticks, self.next_ready(process)))
    }

    /// When a process can claim a tick next.
    fn next_ready(&self, process: &str) -> Option<SystemTime> {
        let handlers = &self.processes.get(process)?.handlers;
        let mut first = None;
        for (ready, slot) in &self.jobs.ready {
            if handlers.is_empty() || first.is_some_and(|first| first <= *ready) {
                break;
            }
            let job = handlers.get(slot).zip(self.jobs.get(*slot));
            let next = job.and_then(|(revision, job)| job.next_claim(*revision));
            first = first.into_iter().chain(next.map(|(ready, _)| ready)).min();
        }
        first.map(time)
    }

    /// Returns the tick that is held under a fence of this service.
    fn held(&self, service: &str, fence: &Fence) -> Option<(u32, Micros)> {
        let instance = service.strip_prefix("scheduler.").unwrap_or(service);
        let rest = fence.key().strip_prefix("job.")?.strip_prefix(instance)?.strip_prefix('/')?;
        let (job, nominal) = match rest.split_once('#') {
            Some((job, nominal)) => (job, Some(nominal.parse().ok()?)),
            None => (rest, None),
        };
        let slot = self.jobs.slot(job)?;
        let job = self.jobs.get(slot)?;
        let nominal = nominal.or_else(|| job.work().held_under(fence.token()))?;
        let is_held = job.work().ticks.get(&nominal)?.is_held_under(fence.token());
        is_held.then_some((slot, nominal))
    }

    /// Renews what is held under a fence; `false` if it is not, or not any more.
    pub(super) fn renew(
        &mut self,
        service: &str,
        fence: &Fence,
        ttl: Duration,
        now: Micros,
    ) -> bool {
        let Some((slot, nominal)) = self.held(service, fence) else { return false };
        let renewed = self.jobs.with(slot, |job| {
            let goes_on = job.work().ticks.get(&nominal).is_some_and(|tick| now < tick.moment);
            if goes_on {
                job.work_mut().renew(nominal, now + span(ttl));
            }
            goes_on
        });
        renewed == Some(true)
    }

    pub(super) fn finish(&mut self, finish: &Finish, now: Micros) -> FinishOutcome {
        let (nominal, token) = (micros(finish.nominal), finish.fence.token());
        let slot = self.jobs.slot(finish.job.as_str());
        let tick =
            slot.and_then(|slot| Some((slot, self.jobs.get(slot)?.work().ticks.get(&nominal)?)));
        let Some((slot, tick)) = tick else { return FinishOutcome::Replaced };
        if !tick.is_held_under(token) {
            return match tick.state {
                _ if !tick.was_ended_under(token) => FinishOutcome::Replaced,
                TickState::Waiting => FinishOutcome::Waiting,
                _ => FinishOutcome::Repeated,
            };
        }
        let (end, retry_in) = (finish.end.clone(), finish.retry_in);
        let state = self.jobs.with(slot, |job| job.end_attempt(nominal, end, retry_in, now));
        if state == Some(TickState::Waiting) {
            return FinishOutcome::Waiting;
        }
        self.jobs.has_ended(slot, nominal, now);
        FinishOutcome::Finished
    }

    pub(super) fn overview(&self, now: Micros) -> Overview {
        let counts = self.jobs.counts;
        let is_live = |slot: &u32| self.jobs.get(*slot).is_some_and(|job| job.live > 0);
        let ready = self.jobs.ready.range(..=(now, u32::MAX)).find(|(_, slot)| is_live(slot));
        let mut overview = Overview::new(time(now));
        (overview.jobs, overview.paused) = (counts.jobs, counts.paused);
        (overview.without_handler, overview.running) = (counts.orphans, counts.running);
        overview.oldest_due = self.next_due().filter(|due| micros(*due) <= now);
        overview.oldest_ready = ready.map(|(ready, _)| time(*ready));
        let planner = self.planner.as_ref().filter(|(_, until)| now < *until);
        overview.planner = planner.map(|(planner, _)| Arc::clone(planner));
        overview
    }

    pub(super) fn sweep(&mut self, age: Duration, runs: u32, rows: u32, now: Micros) -> u64 {
        self.jobs.end_gone(now);
        let mut swept = self.jobs.sweep(now - span(age), runs, rows);
        let gone = self.processes.iter().filter(|(_, process)| process.until <= now);
        let gone: Vec<_> = gone.map(|(process, _)| Arc::clone(process)).collect();
        for process in gone {
            if swept >= rows {
                break;
            }
            self.withdraw(&process, None);
            self.processes.remove(&process);
            swept += 1;
        }
        u64::from(swept)
    }
}

/// Begins an attempt at a tick.
fn give(
    job: &mut Job,
    nominal: Micros,
    service: &str,
    process: &Arc<str>,
    token: u64,
    (now, until): (Micros, Micros),
) -> Result<ClaimedTick, BoxError> {
    let key = fence_key(service, &job.definition, time(nominal));
    let fence = Fence::new(key, token)?;
    let number = job.work().ticks.get(&nominal).map_or(0, Record::attempt).saturating_add(1);
    let attempt = Attempt::new(number, Arc::clone(process), token, time(now));
    job.work_mut().begin(nominal, until, attempt);
    let tick = job.work().ticks.get(&nominal).ok_or("the tick that was just given out is gone")?;
    let mut claimed = ClaimedTick::new(job.id().clone(), time(nominal), tick.revision, fence);
    (claimed.kind, claimed.due) = (tick.kind, tick.due());
    (claimed.attempt, claimed.failures) = (number, tick.failures());
    claimed.was_lost = tick.ends().last() == Some(&AttemptEnd::Lost);
    Ok(claimed)
}
