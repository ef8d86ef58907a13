use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::planning::{self, Ended};
use crate::{
    Attempt, AttemptEnd, Definition, JobFacts, JobId, JobState, Progress, Terms, Tick, TickKind,
    TickState,
};

/// Microseconds since 1970.
pub(super) type Micros = i64;

/// What is kept of one job, also after it was removed.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) definition: Arc<Definition>,
    pub(super) is_removed: bool,
    pub(super) progress: Progress,
    pub(super) pause: Option<Box<Pause>>,
    pub(super) failures: u32,
    /// Processes that have a handler, and those of them that are there.
    pub(super) handlers: u32,
    pub(super) live: u32,
    pub(super) ticks: BTreeMap<Micros, Record>,
    /// Ticks that nobody has tried, by when they can be claimed and nominal
    /// time.
    fresh: BTreeSet<(Micros, Micros)>,
    /// Ticks that run, by the end of their lease, and those that were tried and
    /// wait, by when they can be claimed; and their nominal times.
    begun: BTreeSet<(Micros, Micros)>,
    pub(super) running: u32,
    /// Where the indexes have it.
    pub(super) listed: Listing,
}

/// Where a job is found.
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

/// One tick.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) kind: TickKind,
    pub(super) state: TickState,
    pub(super) revision: u64,
    due: Micros,
    /// When it can be claimed, while it is not over; then, when it ended.
    pub(super) moment: Micros,
    attempts: Vec<Attempt>,
}

impl Record {
    pub(super) fn new(kind: TickKind, state: TickState, revision: u64, due: Micros) -> Self {
        Self { kind, state, revision, due, moment: due, attempts: Vec::new() }
    }

    /// Whether its last attempt is held under this token.
    pub(super) fn is_held_under(&self, token: u64) -> bool {
        self.state == TickState::Running && self.token() == Some(token)
    }

    /// Whether its last attempt was, and was said to be over.
    pub(super) fn was_ended_under(&self, token: u64) -> bool {
        let last = self.attempts.last();
        last.is_some_and(|last| {
            last.token == token && last.end.as_ref().is_some_and(|end| *end != AttemptEnd::Lost)
        })
    }

    fn token(&self) -> Option<u64> {
        self.attempts.last().map(|last| last.token)
    }

    fn ends(&self) -> impl Iterator<Item = &AttemptEnd> {
        self.attempts.iter().filter_map(|attempt| attempt.end.as_ref())
    }

    pub(super) fn due(&self) -> SystemTime {
        time(self.due)
    }

    pub(super) fn failures(&self) -> u32 {
        u32::try_from(self.ends().filter(|end| end.is_failure()).count()).unwrap_or(u32::MAX)
    }

    pub(super) fn attempt(&self) -> u32 {
        self.attempts.last().map_or(0, |last| last.number)
    }

    fn end_attempt(&mut self, now: Micros, end: AttemptEnd) {
        let Some(last) = self.attempts.last_mut() else { return };
        last.took = Some(time(now).duration_since(last.began).unwrap_or_default());
        last.end = Some(end);
    }

    pub(super) fn tick(&self, job: &JobId, nominal: Micros) -> Tick {
        let (nominal, due) = (time(nominal), time(self.due));
        Tick::new(job.clone(), nominal, self.kind, self.revision, due, self.state)
            .with_attempts(self.attempts.clone())
    }
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
            is_removed: false,
            progress,
            pause: None,
            failures: 0,
            handlers: 0,
            live: 0,
            ticks: BTreeMap::new(),
            fresh: BTreeSet::new(),
            begun: BTreeSet::new(),
            running: 0,
            listed: Listing::default(),
        }
    }

    pub(super) fn id(&self) -> &JobId {
        &self.definition.id
    }

    pub(super) fn terms(&self) -> &Terms {
        &self.definition.terms
    }

    pub(super) fn open(&self) -> u32 {
        u32::try_from(self.fresh.len() + self.begun.len()).unwrap_or(u32::MAX)
    }

    /// Whether there is nothing left to remember.
    pub(super) fn is_forgotten(&self) -> bool {
        self.is_removed && self.handlers == 0 && self.ticks.is_empty()
    }

    /// The nominal time of a tick that is not over, those that were tried first.
    pub(super) fn other(&self) -> Option<SystemTime> {
        self.begun.first().or_else(|| self.fresh.first()).map(|(_, nominal)| time(*nominal))
    }

    pub(super) fn listing(&self) -> Listing {
        let is_active = !self.is_removed && self.pause.is_none();
        let due = self.progress.next.filter(|_| is_active).map(micros);
        let is_done = planning::is_done(self.terms(), &self.progress, self.open());
        Listing {
            due,
            ready: self.next_claim(u64::MAX).map(|(ready, _)| ready),
            over: u32::try_from(self.ticks.len()).unwrap_or(u32::MAX).saturating_sub(self.open()),
            running: self.running,
            is_known: !self.is_removed,
            is_paused: !self.is_removed && self.pause.is_some(),
            is_orphan: is_active && !is_done && self.live == 0,
        }
    }

    /// When which tick can be claimed by a handler of `revision`.
    pub(super) fn next_claim(&self, revision: u64) -> Option<(Micros, Micros)> {
        if self.is_removed {
            return self.begun.first().copied();
        }
        let fits = |nominal: &Micros| {
            self.ticks.get(nominal).is_some_and(|tick| {
                let is_out = self.pause.is_none() || tick.kind == TickKind::Triggered;
                is_out && tick.revision <= revision
            })
        };
        let most = usize::try_from(self.terms().overlap.concurrency()).unwrap_or(usize::MAX);
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

    /// As a job was that ran more at once: who was lost waits for the others.
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

    /// Ends the attempt whose lease is over, if there is one.
    pub(super) fn lose(&mut self, nominal: Micros, now: Micros) -> Found {
        let terms = &self.definition.terms;
        let Some(tick) = self.ticks.get_mut(&nominal) else { return Found::Exhausted };
        if tick.state != TickState::Running {
            return Found::Free;
        }
        tick.end_attempt(now, AttemptEnd::Lost);
        let is_free = planning::is_taken_over(terms, tick.ends());
        if is_free { Found::Free } else { Found::Exhausted }
    }

    pub(super) fn begin(&mut self, nominal: Micros, until: Micros, attempt: Attempt) {
        let Some(tick) = self.ticks.get_mut(&nominal) else { return };
        self.fresh.remove(&(tick.moment, nominal));
        self.begun.remove(&(tick.moment, nominal));
        self.begun.insert((until, nominal));
        self.running += u32::from(tick.state != TickState::Running);
        (tick.state, tick.moment) = (TickState::Running, until);
        tick.attempts.push(attempt);
    }

    /// The tick that is held under a token, if its nominal time is unknown.
    pub(super) fn held_under(&self, token: u64) -> Option<Micros> {
        let nominals = self.begun.iter().map(|(_, nominal)| *nominal);
        nominals
            .into_iter()
            .find(|nominal| self.ticks.get(nominal).is_some_and(|tick| tick.is_held_under(token)))
    }

    /// Moves the end of a lease on.
    pub(super) fn renew(&mut self, nominal: Micros, until: Micros) {
        let Some(tick) = self.ticks.get_mut(&nominal) else { return };
        let until = until.max(tick.moment);
        self.begun.remove(&(tick.moment, nominal));
        self.begun.insert((until, nominal));
        tick.moment = until;
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
        if let Some(tick) = self.ticks.get_mut(&nominal) {
            tick.end_attempt(now, end);
        }
        if state != TickState::Waiting {
            self.end(nominal, state, now);
        } else if let Some(tick) = self.ticks.get_mut(&nominal) {
            let ready = now.saturating_add(span(retry_in.unwrap_or_default()));
            self.begun.remove(&(tick.moment, nominal));
            self.begun.insert((ready, nominal));
            self.running -= 1;
            (tick.state, tick.moment) = (state, ready);
        }
        state
    }

    /// Ends a tick, and has its job learn of it.
    pub(super) fn end(&mut self, nominal: Micros, state: TickState, now: Micros) {
        let Some(tick) = self.ticks.get_mut(&nominal) else { return };
        self.fresh.remove(&(tick.moment, nominal));
        self.begun.remove(&(tick.moment, nominal));
        self.running -= u32::from(tick.state == TickState::Running);
        (tick.state, tick.moment) = (state, now);
        if self.is_removed {
            return;
        }
        let ended = Ended { kind: tick.kind, state, open: self.open() };
        let moment = time(now);
        let finished =
            planning::finished(self.terms(), &self.progress, self.failures, ended, moment);
        (self.progress, self.failures) = (finished.progress, finished.failures);
        if finished.is_paused && self.pause.is_none() {
            let note = planning::pause_note(self.failures).into();
            self.pause = Some(Box::new(Pause { note, since: moment }));
        }
    }

    /// Returns its ticks that only wait.
    pub(super) fn waiting(&self) -> Vec<Micros> {
        let open = self.fresh.iter().chain(&self.begun).map(|(_, nominal)| *nominal);
        open.filter(|nominal| {
            self.ticks.get(nominal).is_some_and(|tick| tick.state == TickState::Waiting)
        })
        .collect()
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

    /// Returns the nominal times of its first ticks that are over.
    pub(super) fn first_over(&self, count: usize) -> Vec<Micros> {
        let over = self.ticks.iter().filter(|(_, tick)| tick.state.is_over());
        over.map(|(nominal, _)| *nominal).take(count).collect()
    }

    pub(super) fn facts(&self) -> JobFacts {
        let mut facts = JobFacts::new(Arc::clone(&self.definition), self.progress);
        let is_done = planning::is_done(self.terms(), &self.progress, self.open());
        facts.state = match &self.pause {
            Some(pause) => JobState::Paused { note: pause.note.clone(), since: pause.since },
            None if is_done => JobState::Done,
            None => JobState::Active,
        };
        let last = self.ticks.iter().rev().find(|(_, tick)| tick.state.is_over());
        facts.last = last.map(|(nominal, tick)| tick.tick(self.id(), *nominal));
        (facts.failures, facts.open) = (self.failures, self.open());
        facts.has_handler = self.live > 0;
        facts
    }
}

/// Cuts a time to the microsecond.
pub(super) fn micros(time: SystemTime) -> Micros {
    let far = |span: Duration| i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => far(since),
        Err(before) => -far(before.duration()),
    }
}

pub(super) fn time(micros: Micros) -> SystemTime {
    let span = Duration::from_micros(micros.unsigned_abs());
    let epoch = SystemTime::UNIX_EPOCH;
    let time = if micros < 0 { epoch.checked_sub(span) } else { epoch.checked_add(span) };
    time.unwrap_or(epoch)
}

/// A span that is longer than any time is one of a thousand years.
pub(super) fn span(span: Duration) -> Micros {
    const LONGEST: Micros = 1_000 * 366 * 86_400 * 1_000_000;
    i64::try_from(span.as_micros()).map_or(LONGEST, |span| span.min(LONGEST))
}
