use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use trine_db_shard::{Sql, Timestamp, Tx, Value, list, rows};

use super::history::History;
use super::job_row::{names, parts};
use super::{Failure, time};
use crate::{AttemptEnd, JobId, Tick, TickKind, TickState};

/// A tick in its table.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct TickRow {
    pub(super) job: JobId,
    pub(super) nominal: Timestamp,
    kind: u8,
    pub(super) revision: u64,
    pub(super) due_at: Timestamp,
    state: u8,
    /// Whether it is to be claimed; see [`place`].
    pub(super) place: u8,
    /// When it can be claimed if it has a place; none once over.
    pub(super) ready_at: Option<Timestamp>,
    pub(super) attempts: u32,
    /// Attempts whose handler failed.
    pub(super) failures: u32,
    /// Attempts whose process was gone.
    pub(super) losses: u32,
    /// That of the last attempt; 0 before the first.
    pub(super) token: u64,
    history: String,
    pub(super) ended_at: Option<Timestamp>,
}

macro_rules! columns {
    () => {
        "job, nominal, kind, revision, due_at, state, place, ready_at, attempts, failures, \
         losses, token, history, ended_at"
    };
}
pub(super) use columns;

macro_rules! open {
    ($lock:literal) => {
        concat!(
            "SELECT ",
            columns!(),
            " FROM trine_tick WHERE service = ? AND job IN (?) AND ended_at IS NULL \
             AND nominal IN (?)",
            $lock
        )
    };
}

const LOCK: Sql = Sql::per_engine().sqlite(open!("")).mysql(open!(" FOR UPDATE"));
const LOCK_FREE: Sql = Sql::per_engine().sqlite(open!("")).mysql(open!(" FOR UPDATE SKIP LOCKED"));

macro_rules! held {
    ($lock:literal) => {
        concat!(
            "SELECT ",
            columns!(),
            " FROM trine_tick WHERE service = ? AND job IN (?) AND ended_at IS NULL \
             AND token IN (?)",
            $lock
        )
    };
}

pub(super) const HELD: Sql = Sql::portable(held!(""));
pub(super) const LOCK_HELD: Sql =
    Sql::per_engine().sqlite(held!("")).mysql(held!(" FOR UPDATE SKIP LOCKED"));

const SAVE: Sql = Sql::per_engine()
    .sqlite(concat!(
        "INSERT INTO trine_tick (service, ",
        columns!(),
        ") VALUES ? ON CONFLICT (service, job, nominal) DO UPDATE SET state = excluded.state, \
         place = excluded.place, ready_at = excluded.ready_at, \
         attempts = excluded.attempts, failures = excluded.failures, losses = excluded.losses, \
         token = excluded.token, history = excluded.history, ended_at = excluded.ended_at"
    ))
    .mysql(concat!(
        "INSERT INTO trine_tick (service, ",
        columns!(),
        ") VALUES ? ON DUPLICATE KEY UPDATE state = VALUES(state), \
         place = VALUES(place), ready_at = VALUES(ready_at), \
         attempts = VALUES(attempts), failures = VALUES(failures), losses = VALUES(losses), \
         token = VALUES(token), history = VALUES(history), ended_at = VALUES(ended_at)"
    ));

/// Leaves a tick as it is that there is already: one was asked for at the very
/// moment of a nominal time.
const ADD: Sql = Sql::per_engine()
    .sqlite(concat!(
        "INSERT INTO trine_tick (service, ",
        columns!(),
        ") VALUES ? ON CONFLICT (service, job, nominal) DO NOTHING"
    ))
    .mysql(concat!(
        "INSERT INTO trine_tick (service, ",
        columns!(),
        ") VALUES ? ON DUPLICATE KEY UPDATE nominal = VALUES(nominal)"
    ));

/// What the column `place` says.
pub(super) mod place {
    /// It can be claimed once it is ready; and of what is over.
    pub(crate) const GIVEN: u8 = 0;
    /// It waits for the end of another, or for its job to be resumed.
    pub(crate) const PARKED: u8 = 1;
    /// It runs, and its job was removed: nobody takes it over.
    pub(crate) const ORPHAN: u8 = 2;
}

const PLANNED: u8 = 0;
const TRIGGERED: u8 = 1;

impl TickRow {
    /// Returns a tick that nobody has tried, made at `now`.
    pub(super) fn new(
        job: &JobId,
        nominal: Timestamp,
        kind: TickKind,
        revision: u64,
        due_at: Timestamp,
        state: TickState,
        now: Timestamp,
    ) -> Self {
        let mut row = Self {
            job: job.clone(),
            nominal,
            kind: if kind == TickKind::Triggered { TRIGGERED } else { PLANNED },
            revision,
            due_at,
            state: code(state),
            place: place::GIVEN,
            ready_at: Some(due_at),
            attempts: 0,
            failures: 0,
            losses: 0,
            token: 0,
            history: "[]".to_owned(),
            ended_at: None,
        };
        if state.is_over() {
            row.finish(state, now);
        }
        row
    }

    pub(super) fn kind(&self) -> TickKind {
        kind(self.kind)
    }

    pub(super) fn state(&self) -> Result<TickState, Failure> {
        Ok(match self.state {
            0 => TickState::Waiting,
            1 => TickState::Running,
            2 => TickState::Succeeded,
            3 => TickState::Failed,
            4 => TickState::Overlapped,
            5 => TickState::Removed,
            other => return Err(Failure::stored(&self.job, "state of a tick", other)),
        })
    }

    pub(super) fn history(&self) -> Result<History, Failure> {
        History::read(&self.job, &self.history)
    }

    /// Gives it to `process` for `ttl`.
    pub(super) fn begin(
        &mut self,
        process: &Arc<str>,
        token: u64,
        ttl: Duration,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let mut history = self.history()?;
        self.attempts = self.attempts.saturating_add(1);
        self.token = token;
        history.begin(self.attempts, process, token, now);
        self.history = history.write();
        self.state = code(TickState::Running);
        self.ready_at = Some(now.plus(ttl));
        Ok(())
    }

    /// Ends its last attempt, and nothing else.
    pub(super) fn end_attempt(&mut self, end: &AttemptEnd, now: Timestamp) -> Result<(), Failure> {
        let mut history = self.history()?;
        history.end(end, now);
        self.history = history.write();
        if *end == AttemptEnd::Lost {
            self.losses = self.losses.saturating_add(1);
        } else if end.is_failure() {
            self.failures = self.failures.saturating_add(1);
        }
        Ok(())
    }

    /// Lets it wait until `ready_at`.
    pub(super) fn wait(&mut self, ready_at: Timestamp) {
        self.state = code(TickState::Waiting);
        self.ready_at = Some(ready_at);
    }

    /// Ends it.
    pub(super) fn finish(&mut self, state: TickState, now: Timestamp) {
        self.state = code(state);
        self.place = place::GIVEN;
        self.ready_at = None;
        self.ended_at = Some(now);
    }

    pub(super) fn into_tick(self) -> Result<Tick, Failure> {
        let (kind, state) = (self.kind(), self.state()?);
        let attempts = self.history()?.attempts(&self.job)?;
        let (nominal, due) = (time(self.nominal), time(self.due_at));
        Ok(Tick::new(self.job, nominal, kind, self.revision, due, state).with_attempts(attempts))
    }

    fn values(&self, service: &str) -> [Value; 15] {
        [
            service.into(),
            self.job.as_str().into(),
            self.nominal.into(),
            self.kind.into(),
            self.revision.into(),
            self.due_at.into(),
            self.state.into(),
            self.place.into(),
            self.ready_at.into(),
            self.attempts.into(),
            self.failures.into(),
            self.losses.into(),
            self.token.into(),
            self.history.as_str().into(),
            self.ended_at.into(),
        ]
    }
}

/// Returns the kind that a number in the table stands for.
pub(super) fn kind(code: u8) -> TickKind {
    if code == TRIGGERED { TickKind::Triggered } else { TickKind::Planned }
}

/// Returns the number that stands for a state in the table.
pub(super) fn code(state: TickState) -> u8 {
    match state {
        TickState::Waiting => 0,
        TickState::Running => 1,
        TickState::Succeeded => 2,
        TickState::Failed => 3,
        TickState::Overlapped => 4,
        TickState::Removed => 5,
    }
}

/// Returns the open ones of these ticks, locked until the end of the
/// transaction: all, or those that nobody has locked.
pub(super) async fn lock_ticks(
    tx: &mut Tx,
    service: &str,
    ticks: &[(JobId, Timestamp)],
    waits: bool,
) -> Result<Vec<TickRow>, Failure> {
    let sql = if waits { LOCK } else { LOCK_FREE };
    // Pairs of lists: what they match beside these is left alone.
    let mut jobs: Vec<_> = ticks.iter().map(|(job, _)| job).collect();
    jobs.sort_unstable();
    jobs.dedup();
    let mut nominals: Vec<_> = ticks.iter().map(|(_, nominal)| *nominal).collect();
    nominals.sort_unstable();
    nominals.dedup();
    let found: Vec<TickRow> = tx.query(sql, (service, names(jobs), list(nominals))).await?;
    let wanted: HashSet<_> = ticks.iter().map(|(job, nominal)| (job, *nominal)).collect();
    Ok(found.into_iter().filter(|row| wanted.contains(&(&row.job, row.nominal))).collect())
}

pub(super) async fn save_ticks(
    tx: &mut Tx,
    service: &str,
    ticks: &[TickRow],
) -> Result<(), Failure> {
    write(tx, service, SAVE, ticks).await
}

/// Adds ticks, as far as there are none of their nominal times.
pub(super) async fn add_ticks(
    tx: &mut Tx,
    service: &str,
    ticks: &[TickRow],
) -> Result<(), Failure> {
    write(tx, service, ADD, ticks).await
}

async fn write(tx: &mut Tx, service: &str, sql: Sql, ticks: &[TickRow]) -> Result<(), Failure> {
    for part in parts(ticks) {
        tx.execute(sql, (rows(part.iter().map(|tick| tick.values(service))),)).await?;
    }
    Ok(())
}

/// Returns `time` as the store keeps it.
pub(super) fn stamp(time: SystemTime) -> Timestamp {
    time.into()
}
