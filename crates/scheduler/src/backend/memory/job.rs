use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::micros::{Micros, micros, span, time};
use super::work::Work;
use crate::planning::{self, Ended};
use crate::{
    AttemptEnd, Definition, JobFacts, JobId, JobState, Progress, Terms, TickKind, TickState,
};

/// What is kept of one job, also after it was removed.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) definition: Arc<Definition>,
    pub(super) progress: Progress,
    pub(super) pause: Option<Box<Pause>>,
    pub(super) failures: u32,
    /// Processes that have a handler, and those of them that are there.
    pub(super) handlers: u32,
    pub(super) live: u32,
    pub(super) is_removed: bool,
    /// Made with the first tick: most jobs of many have none.
    work: Option<Box<Work>>,
}

/// Where a job is found, and how it counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Listing {
    /// When it is to be planned.
    pub(super) due: Option<Micros>,
    /// When a tick of it can be claimed, or ended if the job was removed.
    pub(super) ready: Option<Micros>,
    /// Ticks that are over.
    pub(super) over: u32,
    pub(super) running: u32,
    pub(super) is_known: bool,
    pub(super) is_paused: bool,
    pub(super) is_orphan: bool,
}

#[derive(Debug)]
pub(super) struct Pause {
    pub(super) note: Box<str>,
    pub(super) since: SystemTime,
}

/// What a claim finds at the tick it is about to give out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It can be given out.
    Free,
    /// It was lost too often.
    Exhausted,
}

impl Job {
    pub(super) fn new(definition: Arc<Definition>, progress: Progress) -> Self {
        Self {
            definition,
            progress,
            pause: None,
            failures: 0,
            handlers: 0,
            live: 0,
            is_removed: false,
            work: None,
        }
    }

    pub(super) fn id(&self) -> &JobId {
        &self.definition.id
    }

    pub(super) fn terms(&self) -> &Terms {
        &self.definition.terms
    }

    pub(super) fn work(&self) -> &Work {
        static NONE: Work = Work::none();
        self.work.as_deref().unwrap_or(&NONE)
    }

    pub(super) fn work_mut(&mut self) -> &mut Work {
        self.work.get_or_insert_default()
    }

    /// Whether there is nothing left to remember.
    pub(super) fn is_forgotten(&self) -> bool {
        self.is_removed && self.handlers == 0 && self.work().ticks.is_empty()
    }

    fn is_done(&self) -> bool {
        planning::is_done(self.terms(), &self.progress, self.work().open())
    }

    pub(super) fn listing(&self) -> Listing {
        let is_active = !self.is_removed && self.pause.is_none();
        let ready = match self.is_removed {
            true => self.work().first_begun(),
            false => self.next_claim(u64::MAX),
        };
        Listing {
            due: self.progress.next.filter(|_| is_active).map(micros),
            ready: ready.map(|(ready, _)| ready),
            over: self.work().over(),
            running: self.work().running,
            is_known: !self.is_removed,
            is_paused: !self.is_removed && self.pause.is_some(),
            is_orphan: is_active && self.live == 0 && !self.is_done(),
        }
    }

    /// When which tick can be claimed by a handler of `revision`.
    pub(super) fn next_claim(&self, revision: u64) -> Option<(Micros, Micros)> {
        let most = usize::try_from(self.terms().overlap.concurrency()).unwrap_or(usize::MAX);
        self.work().next_claim(most, |tick| {
            let is_out = self.pause.is_none() || tick.kind == TickKind::Triggered;
            is_out && tick.revision <= revision
        })
    }

    /// Ends the attempt whose lease is over, if there is one.
    pub(super) fn lose(&mut self, nominal: Micros, now: Micros) -> Found {
        let definition = Arc::clone(&self.definition);
        let Some(tick) = self.work_mut().ticks.get_mut(&nominal) else {
            return Found::Exhausted;
        };
        if tick.state != TickState::Running {
            return Found::Free;
        }
        tick.end_attempt(now, AttemptEnd::Lost);
        let is_free = planning::is_taken_over(&definition.terms, tick.ends());
        if is_free { Found::Free } else { Found::Exhausted }
    }

    /// Ends an attempt that goes on, and says what the tick is then.
    pub(super) fn end_attempt(
        &mut self,
        nominal: Micros,
        end: AttemptEnd,
        retry_in: Option<Duration>,
        now: Micros,
    ) -> TickState {
        let state = planning::attempted(&end, retry_in, self.is_removed);
        if let Some(tick) = self.work_mut().ticks.get_mut(&nominal) {
            tick.end_attempt(now, end);
        }
        if state == TickState::Waiting {
            let ready = now + span(retry_in.unwrap_or_default());
            self.work_mut().wait(nominal, ready);
        } else {
            self.end(nominal, state, now);
        }
        state
    }

    /// Ends a tick, and has its job learn of it.
    pub(super) fn end(&mut self, nominal: Micros, state: TickState, now: Micros) {
        self.work_mut().end(nominal, state, now);
        let Some(tick) = self.work().ticks.get(&nominal) else { return };
        if self.is_removed {
            return;
        }
        let ended = Ended { kind: tick.kind, state, open: self.work().open() };
        let moment = time(now);
        let finished =
            planning::finished(self.terms(), &self.progress, self.failures, ended, moment);
        (self.progress, self.failures) = (finished.progress, finished.failures);
        if finished.is_paused && self.pause.is_none() {
            let note = planning::pause_note(self.failures).into();
            self.pause = Some(Box::new(Pause { note, since: moment }));
        }
    }

    pub(super) fn facts(&self) -> JobFacts {
        let mut facts = JobFacts::new(Arc::clone(&self.definition), self.progress);
        facts.state = match &self.pause {
            Some(pause) => JobState::Paused { note: pause.note.clone(), since: pause.since },
            None if self.is_done() => JobState::Done,
            None => JobState::Active,
        };
        let last = self.work().ticks.iter().rev().find(|(_, tick)| tick.state.is_over());
        facts.last = last.map(|(nominal, tick)| tick.tick(self.id(), *nominal));
        (facts.failures, facts.open) = (self.failures, self.work().open());
        facts.has_handler = self.live > 0;
        facts
    }
}
