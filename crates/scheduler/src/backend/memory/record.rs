use std::time::SystemTime;

use super::micros::{Micros, time};
use crate::{Attempt, AttemptEnd, JobId, Tick, TickKind, TickState};

/// One tick.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) kind: TickKind,
    pub(super) state: TickState,
    pub(super) revision: u64,
    due: Micros,
    /// When it can be claimed, while it is not over; then, when it ended.
    pub(super) moment: Micros,
    pub(super) attempts: Vec<Attempt>,
}

impl Record {
    pub(super) fn new(kind: TickKind, state: TickState, revision: u64, due: Micros) -> Self {
        Self { kind, state, revision, due, moment: due, attempts: Vec::new() }
    }

    /// Whether its last attempt is held under this token.
    pub(super) fn is_held_under(&self, token: u64) -> bool {
        let last = self.attempts.last();
        self.state == TickState::Running && last.is_some_and(|last| last.token == token)
    }

    /// Whether its last attempt was, and was said to be over.
    pub(super) fn was_ended_under(&self, token: u64) -> bool {
        let last = self.attempts.last();
        last.is_some_and(|last| {
            last.token == token && last.end.as_ref().is_some_and(|end| *end != AttemptEnd::Lost)
        })
    }

    pub(super) fn ends(&self) -> impl Iterator<Item = &AttemptEnd> {
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

    pub(super) fn end_attempt(&mut self, now: Micros, end: AttemptEnd) {
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
