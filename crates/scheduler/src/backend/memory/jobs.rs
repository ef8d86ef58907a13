use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::job::{Found, Job, Listing};
use super::micros::Micros;
use super::record::Record;
use crate::{JobId, TickState};

/// All jobs, and in which order they are to be looked at: nothing is found by
/// going through all of them.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    names: BTreeMap<JobId, u32>,
    slots: Vec<Option<Box<Job>>>,
    free: Vec<u32>,
    /// Jobs to be planned.
    pub(super) due: BTreeSet<(Micros, u32)>,
    /// Jobs with a tick that can be claimed.
    pub(super) ready: BTreeSet<(Micros, u32)>,
    /// Jobs that were removed, with a run whose lease ends.
    gone: BTreeSet<(Micros, u32)>,
    /// Ticks that are over, by when they ended.
    ended: BTreeSet<(Micros, u32, Micros)>,
    /// Jobs with ticks that are over, by their number.
    long: BTreeSet<(u32, u32)>,
    pub(super) counts: Counts,
}

/// The numbers of an overview.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) jobs: u64,
    pub(super) paused: u64,
    pub(super) orphans: u64,
    pub(super) running: u64,
}

impl Jobs {
    /// The place of a job, also of one that was removed.
    pub(super) fn slot(&self, job: &str) -> Option<u32> {
        self.names.get(job).copied()
    }

    pub(super) fn get(&self, slot: u32) -> Option<&Job> {
        self.slots.get(usize::try_from(slot).ok()?)?.as_deref()
    }

    /// Works on a job, and finds it in its new places then.
    pub(super) fn with<T>(&mut self, slot: u32, work: impl FnOnce(&mut Job) -> T) -> Option<T> {
        let job = self.get_mut(slot)?;
        let old = job.listing();
        let done = work(job);
        self.list(slot, old);
        Some(done)
    }

    fn get_mut(&mut self, slot: u32) -> Option<&mut Job> {
        self.slots.get_mut(usize::try_from(slot).ok()?)?.as_deref_mut()
    }

    /// Adds a job and returns its place.
    pub(super) fn add(&mut self, job: Job) -> u32 {
        let id = job.id().clone();
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.slots.push(None);
                u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
            }
        };
        if let Some(place) = usize::try_from(slot).ok().and_then(|at| self.slots.get_mut(at)) {
            *place = Some(Box::new(job));
        }
        self.names.insert(id, slot);
        self.list(slot, Listing::default());
        slot
    }

    /// Adds a tick unless its time has one.
    pub(super) fn add_tick(&mut self, slot: u32, nominal: Micros, record: Record) -> bool {
        let (is_over, moment) = (record.state.is_over(), record.moment);
        let is_new = self.with(slot, |job| job.work_mut().add(nominal, record)) == Some(true);
        if is_new && is_over {
            self.ended.insert((moment, slot, nominal));
        }
        is_new
    }

    /// Ends a tick.
    pub(super) fn end(&mut self, slot: u32, nominal: Micros, state: TickState, now: Micros) {
        self.with(slot, |job| job.end(nominal, state, now));
        self.ended.insert((now, slot, nominal));
    }

    /// Notes that a tick has ended.
    pub(super) fn has_ended(&mut self, slot: u32, nominal: Micros, now: Micros) {
        self.ended.insert((now, slot, nominal));
    }

    /// Ends the attempt whose lease is over, if there is one.
    pub(super) fn lose(&mut self, slot: u32, nominal: Micros, now: Micros) -> Found {
        self.with(slot, |job| job.lose(nominal, now)).unwrap_or(Found::Exhausted)
    }

    /// Ends the runs of removed jobs that nobody will end any more.
    pub(super) fn end_gone(&mut self, now: Micros) {
        while let Some(&(moment, slot)) = self.gone.first().filter(|(moment, _)| *moment <= now) {
            let Some(nominal) = self.get(slot).and_then(|job| job.work().first_begun()) else {
                self.gone.remove(&(moment, slot));
                continue;
            };
            self.lose(slot, nominal.1, now);
            self.end(slot, nominal.1, TickState::Removed, now);
        }
    }

    /// Forgets up to `rows` ticks that ended before `before`, and those that are
    /// over beyond the last `runs` of each job; returns how many.
    pub(super) fn sweep(&mut self, before: Micros, runs: u32, rows: u32) -> u32 {
        let mut swept = 0;
        while swept < rows
            && let Some(&(_, slot, nominal)) =
                self.ended.first().filter(|(ended, _, _)| *ended < before)
        {
            self.forget(slot, nominal);
            swept += 1;
        }
        while swept < rows
            && let Some(&(over, slot)) = self.long.last().filter(|(over, _)| *over > runs)
        {
            let count = usize::try_from((over - runs).min(rows - swept)).unwrap_or(usize::MAX);
            let nominals =
                self.get(slot).map(|job| job.work().first_over(count)).unwrap_or_default();
            if nominals.is_empty() {
                break;
            }
            for nominal in nominals {
                self.forget(slot, nominal);
                swept += 1;
            }
        }
        swept
    }

    fn forget(&mut self, slot: u32, nominal: Micros) {
        let ended =
            self.with(slot, |job| job.work_mut().ticks.remove(&nominal).map(|tick| tick.moment));
        if let Some(ended) = ended.flatten() {
            self.ended.remove(&(ended, slot, nominal));
        }
    }

    /// Finds a job in its new places, or nowhere if nothing is left of it.
    fn list(&mut self, slot: u32, old: Listing) {
        let Some(job) = self.get(slot) else { return };
        let new = job.listing();
        let forgotten = job.is_forgotten().then(|| job.id().clone());
        self.unlist(slot, old, new);
        self.enlist(slot, old, new);
        if let Some(id) = forgotten {
            self.names.remove(&id);
            if let Some(place) = usize::try_from(slot).ok().and_then(|at| self.slots.get_mut(at)) {
                *place = None;
                self.free.push(slot);
            }
        }
    }

    fn unlist(&mut self, slot: u32, old: Listing, new: Listing) {
        if let Some(due) = old.due.filter(|_| old.due != new.due) {
            self.due.remove(&(due, slot));
        }
        if let Some(ready) = old.ready {
            let places = if old.is_known { &mut self.ready } else { &mut self.gone };
            if (old.ready, old.is_known) != (new.ready, new.is_known) {
                places.remove(&(ready, slot));
            }
        }
        if old.over != new.over {
            self.long.remove(&(old.over, slot));
        }
        self.counts.jobs -= u64::from(old.is_known);
        self.counts.paused -= u64::from(old.is_paused);
        self.counts.orphans -= u64::from(old.is_orphan);
        self.counts.running -= u64::from(old.running);
    }

    fn enlist(&mut self, slot: u32, old: Listing, new: Listing) {
        if let Some(due) = new.due.filter(|_| old.due != new.due) {
            self.due.insert((due, slot));
        }
        if let Some(ready) = new.ready {
            let places = if new.is_known { &mut self.ready } else { &mut self.gone };
            if (old.ready, old.is_known) != (new.ready, new.is_known) {
                places.insert((ready, slot));
            }
        }
        if old.over != new.over && new.over > 0 {
            self.long.insert((new.over, slot));
        }
        self.counts.jobs += u64::from(new.is_known);
        self.counts.paused += u64::from(new.is_paused);
        self.counts.orphans += u64::from(new.is_orphan);
        self.counts.running += u64::from(new.running);
    }

    /// The jobs whose names begin with `prefix`, from after `after` on.
    pub(super) fn from(
        &self,
        prefix: &str,
        after: Option<&JobId>,
    ) -> impl Iterator<Item = &Job> + use<'_> {
        let from = match after {
            Some(after) if after.as_str() >= prefix => Bound::Excluded(after.as_str()),
            _ => Bound::Included(prefix),
        };
        let prefix: Box<str> = prefix.into();
        let found = self.names.range::<str, _>((from, Bound::Unbounded));
        let found = found.take_while(move |(id, _)| id.as_str().starts_with(&*prefix));
        found.filter_map(|(_, slot)| self.get(*slot)).filter(|job| !job.is_removed)
    }

    /// Moves what counts spans to another wall clock.
    pub(super) fn shift(&mut self, by: Micros) {
        for slot in 0..u32::try_from(self.slots.len()).unwrap_or(u32::MAX) {
            if self.get(slot).is_some_and(|job| job.work().open() > 0) {
                self.with(slot, |job| job.work_mut().shift(by));
            }
        }
    }
}

#[cfg(test)]
impl Jobs {
    pub(super) fn is_empty(&self) -> bool {
        let free = self.free.len() == self.slots.len();
        free && self.names.is_empty() && self.ended.is_empty() && self.long.is_empty()
    }

    /// Compares the indexes with what going through all jobs finds.
    pub(super) fn check(&self) {
        let mut all = Self::default();
        for slot in 0..u32::try_from(self.slots.len()).unwrap() {
            let Some(job) = self.get(slot) else { continue };
            assert_eq!(self.slot(job.id().as_str()), Some(slot));
            assert!(!job.is_forgotten(), "{job:?}");
            all.enlist(slot, Listing::default(), job.listing());
            for (nominal, tick) in &job.work().ticks {
                if tick.state.is_over() {
                    all.ended.insert((tick.moment, slot, *nominal));
                }
            }
        }
        assert_eq!(all.due, self.due);
        assert_eq!(all.ready, self.ready);
        assert_eq!(all.gone, self.gone);
        assert_eq!(all.ended, self.ended);
        assert_eq!(all.long, self.long);
        assert_eq!(all.counts, self.counts);
        assert_eq!(self.names.len() + self.free.len(), self.slots.len());
    }
}
