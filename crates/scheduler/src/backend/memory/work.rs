use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use super::micros::{Micros, time};
use super::record::Record;
use crate::{Attempt, TickState};

/// The ticks of a job.
#[derive(Debug, Default)]
pub(super) struct Work {
    pub(super) ticks: BTreeMap<Micros, Record>,
    /// Ticks that nobody has tried, by when they can be claimed and nominal
    /// time.
    fresh: BTreeSet<(Micros, Micros)>,
    /// Ticks that run, by the end of their lease, and those that were tried and
    /// wait, by when they can be claimed; and their nominal times.
    begun: BTreeSet<(Micros, Micros)>,
    pub(super) running: u32,
}

impl Work {
    pub(super) const fn none() -> Self {
        Self { ticks: BTreeMap::new(), fresh: BTreeSet::new(), begun: BTreeSet::new(), running: 0 }
    }

    pub(super) fn open(&self) -> u32 {
        u32::try_from(self.fresh.len() + self.begun.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn over(&self) -> u32 {
        u32::try_from(self.ticks.len()).unwrap_or(u32::MAX).saturating_sub(self.open())
    }

    /// The nominal time of a tick that is not over, those that were tried first.
    pub(super) fn other(&self) -> Option<SystemTime> {
        self.begun.first().or_else(|| self.fresh.first()).map(|(_, nominal)| time(*nominal))
    }

    /// When the first lease or wait of what was tried is over, and whose.
    pub(super) fn first_begun(&self) -> Option<(Micros, Micros)> {
        self.begun.first().copied()
    }

    /// When which tick that `fits` can be claimed, if `most` run at once.
    pub(super) fn next_claim(
        &self,
        most: usize,
        fits: impl Fn(&Record) -> bool,
    ) -> Option<(Micros, Micros)> {
        let fits = |nominal: &Micros| self.ticks.get(nominal).is_some_and(&fits);
        let begun = if self.begun.len() <= most {
            self.begun.iter().copied().find(|(_, nominal)| fits(nominal))
        } else {
            self.crowded(most, fits)
        };
        let has_place = self.begun.len() < most;
        let mut fresh = self.fresh.iter().copied().filter(|_| has_place);
        let fresh = fresh.find(|(_, nominal)| fits(nominal));
        begun.into_iter().chain(fresh).min()
    }

    /// As its job was that ran more at once: who was lost waits for the others.
    fn crowded(&self, most: usize, fits: impl Fn(&Micros) -> bool) -> Option<(Micros, Micros)> {
        let runs = |(_, nominal): &(Micros, Micros)| {
            self.ticks.get(nominal).is_some_and(|tick| tick.state == TickState::Running)
        };
        let mut held = self.begun.iter().filter(|begun| runs(begun)).count();
        let mut first = None;
        for begun in &self.begun {
            held -= usize::from(runs(begun));
            first = first.or(Some(begun.1).filter(&fits));
            if let Some(nominal) = first.filter(|_| held < most) {
                return Some((begun.0, nominal));
            }
        }
        None
    }

    /// Adds a tick unless its time has one.
    pub(super) fn add(&mut self, nominal: Micros, record: Record) -> bool {
        if self.ticks.contains_key(&nominal) {
            return false;
        }
        if record.state == TickState::Waiting {
            self.fresh.insert((record.moment, nominal));
        }
        self.ticks.insert(nominal, record);
        true
    }

    /// Has a tick run until a moment.
    pub(super) fn begin(&mut self, nominal: Micros, until: Micros, attempt: Attempt) {
        let Some(tick) = self.ticks.get_mut(&nominal) else { return };
        self.fresh.remove(&(tick.moment, nominal));
        self.running += u32::from(tick.state != TickState::Running);
        tick.state = TickState::Running;
        tick.attempts.push(attempt);
        self.put_off(nominal, until);
    }

    /// Has a tick wait for another attempt until a moment.
    pub(super) fn wait(&mut self, nominal: Micros, until: Micros) {
        let Some(tick) = self.ticks.get_mut(&nominal) else { return };
        self.running -= u32::from(tick.state == TickState::Running);
        tick.state = TickState::Waiting;
        self.put_off(nominal, until);
    }

    /// Moves the end of a lease on.
    pub(super) fn renew(&mut self, nominal: Micros, until: Micros) {
        let Some(tick) = self.ticks.get(&nominal) else { return };
        let until = until.max(tick.moment);
        self.put_off(nominal, until);
    }

    fn put_off(&mut self, nominal: Micros, until: Micros) {
        let Some(tick) = self.ticks.get_mut(&nominal) else { return };
        self.begun.remove(&(tick.moment, nominal));
        self.begun.insert((until, nominal));
        tick.moment = until;
    }

    pub(super) fn end(&mut self, nominal: Micros, state: TickState, now: Micros) {
        let Some(tick) = self.ticks.get_mut(&nominal) else { return };
        self.fresh.remove(&(tick.moment, nominal));
        self.begun.remove(&(tick.moment, nominal));
        self.running -= u32::from(tick.state == TickState::Running);
        (tick.state, tick.moment) = (state, now);
    }

    /// The tick that is held under a token, if its nominal time is unknown.
    pub(super) fn held_under(&self, token: u64) -> Option<Micros> {
        let nominals = self.begun.iter().map(|(_, nominal)| *nominal);
        nominals
            .into_iter()
            .find(|nominal| self.ticks.get(nominal).is_some_and(|tick| tick.is_held_under(token)))
    }

    /// Returns the nominal times of what only waits.
    pub(super) fn waiting(&self) -> Vec<Micros> {
        let open = self.fresh.iter().chain(&self.begun).map(|(_, nominal)| *nominal);
        open.filter(|nominal| {
            self.ticks.get(nominal).is_some_and(|tick| tick.state == TickState::Waiting)
        })
        .collect()
    }

    /// Returns the nominal times of the first ticks that are over.
    pub(super) fn first_over(&self, count: usize) -> Vec<Micros> {
        let over = self.ticks.iter().filter(|(_, tick)| tick.state.is_over());
        over.map(|(nominal, _)| *nominal).take(count).collect()
    }

    /// Moves what counts spans, not the time of the day, to another wall clock.
    pub(super) fn shift(&mut self, by: Micros) {
        self.begun = self.begun.iter().map(|(moment, nominal)| (moment + by, *nominal)).collect();
        for (moment, nominal) in &self.begun {
            if let Some(tick) = self.ticks.get_mut(nominal) {
                tick.moment = *moment;
            }
        }
    }
}
