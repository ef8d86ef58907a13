use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::job::Job;
use super::micros::{Micros, span, time};
use super::state::State;
use crate::planning;
use crate::{Definition, JobId, NeverDue, Progress, Registered};

/// One that has, or had, handlers.
#[derive(Debug, Default)]
pub(super) struct Process {
    pub(super) until: Micros,
    is_there: bool,
    /// The revisions of its handlers.
    pub(super) handlers: HashMap<u32, u64>,
}

/// Why a definition was not stored.
#[derive(Debug)]
pub(super) enum Refused {
    Conflict(&'static str),
    NeverDue(NeverDue),
}

/// What becomes of a definition.
#[derive(Debug)]
struct Step {
    slot: Option<u32>,
    outcome: Registered,
    progress: Progress,
}

impl State {
    pub(super) fn register(
        &mut self,
        process: &Arc<str>,
        definitions: &[Arc<Definition>],
        now: Micros,
    ) -> Result<Vec<Registered>, (Arc<Definition>, Refused)> {
        let mut names: Vec<_> = definitions.iter().map(|new| &new.id).collect();
        names.sort_unstable();
        let twice = names.windows(2).find(|pair| pair.first() == pair.last());
        if let Some(id) = twice.and_then(|pair| pair.first()) {
            let twice = definitions.iter().find(|new| new.id == **id);
            let detail = "it is registered twice in one call";
            return twice
                .map_or(Ok(Vec::new()), |new| Err((Arc::clone(new), Refused::Conflict(detail))));
        }
        let steps = definitions
            .iter()
            .map(|new| self.step(new, time(now)).map_err(|refused| (Arc::clone(new), refused)));
        let steps: Vec<Step> = steps.collect::<Result<_, _>>()?;
        let outcomes = steps.iter().map(|step| step.outcome).collect();
        for (step, new) in steps.into_iter().zip(definitions) {
            let slot = match step.slot {
                Some(slot) => slot,
                None => self.jobs.add(Job::new(Arc::clone(new), step.progress)),
            };
            self.handle(process, slot, new.revision, now);
            self.jobs.with(slot, |job| {
                job.progress = step.progress;
                match step.outcome {
                    Registered::New => {
                        job.definition = Arc::clone(new);
                        (job.is_removed, job.pause, job.failures) = (false, None, 0);
                    }
                    Registered::Replaced { .. } => job.definition = Arc::clone(new),
                    Registered::Same | Registered::Older { .. } => {}
                }
            });
        }
        Ok(outcomes)
    }

    /// What a definition would do, without doing it.
    fn step(&self, new: &Definition, now: SystemTime) -> Result<Step, Refused> {
        let slot = self.jobs.slot(new.id.as_str());
        let known = slot.and_then(|slot| self.jobs.get(slot)).filter(|job| !job.is_removed);
        let Some(job) = known else {
            let progress = planning::first(&new.terms, now).map_err(Refused::NeverDue)?;
            return Ok(Step { slot, outcome: Registered::New, progress });
        };
        let (old, revision) = (&job.definition.terms, job.definition.revision);
        let refreshed = || planning::refreshed(old, &job.progress);
        let (outcome, progress) = match new.revision.cmp(&revision) {
            Ordering::Less => (Registered::Older { revision }, refreshed()),
            Ordering::Equal if *old == new.terms => (Registered::Same, refreshed()),
            Ordering::Equal => {
                let detail = "another definition of it has the same revision";
                return Err(Refused::Conflict(detail));
            }
            Ordering::Greater => {
                let progress = planning::replaced(old, &new.terms, &job.progress, now);
                (Registered::Replaced { revision }, progress.map_err(Refused::NeverDue)?)
            }
        };
        Ok(Step { slot, outcome, progress })
    }

    fn handle(&mut self, process: &Arc<str>, slot: u32, revision: u64, now: Micros) {
        let known = self.processes.entry(Arc::clone(process));
        let known = known.or_insert_with(|| Process { until: now, ..Process::default() });
        if known.handlers.insert(slot, revision).is_none() {
            let live = u32::from(known.is_there);
            self.jobs.with(slot, |job| {
                job.handlers += 1;
                job.live += live;
            });
        }
    }

    pub(super) fn withdraw(&mut self, process: &str, jobs: Option<&[JobId]>) {
        let Some(known) = self.processes.get_mut(process) else { return };
        let slots: Vec<u32> = match jobs {
            Some(jobs) => jobs.iter().filter_map(|job| self.jobs.slot(job.as_str())).collect(),
            None => known.handlers.keys().copied().collect(),
        };
        for slot in slots {
            if known.handlers.remove(&slot).is_some() {
                let live = u32::from(known.is_there);
                self.jobs.with(slot, |job| {
                    job.handlers -= 1;
                    job.live -= live;
                });
            }
        }
    }

    pub(super) fn beat(&mut self, process: &Arc<str>, ttl: Duration, now: Micros) -> u64 {
        let known = self.processes.entry(Arc::clone(process)).or_default();
        known.until = now + span(ttl);
        if !known.is_there {
            known.is_there = true;
            for slot in known.handlers.keys() {
                self.jobs.with(*slot, |job| job.live += 1);
            }
        }
        known.handlers.len() as u64
    }

    /// Notes which processes are not there any more.
    pub(super) fn settle(&mut self, now: Micros) {
        for process in self.processes.values_mut() {
            if process.is_there && process.until <= now {
                process.is_there = false;
                for slot in process.handlers.keys() {
                    self.jobs.with(*slot, |job| job.live -= 1);
                }
            }
        }
    }
}
