use std::collections::{BTreeMap, HashMap};

use trine_core::Fence;
use trine_db_shard::{Once, Sql, Timestamp, Tx, list};

use super::job_row::{JobRow, Lock, lock_jobs, names, save_jobs};
use super::slots::{OPEN, OpenTick, Places, settle};
use super::tick_row::{TickRow, columns, lock_ticks, save_ticks, stamp};
use super::{Call, Failure, Store, time};
use crate::planning::{self, Ended};
use crate::{
    AttemptEnd, ClaimedTick, Error, Finish, FinishOutcome, JobId, Result, Terms, TickState,
};

/// Locked for what is committed, and not what a snapshot shows.
const OVER: Sql = Sql::per_engine()
    .sqlite(concat!(
        "SELECT ",
        columns!(),
        " FROM trine_tick WHERE service = ? AND job IN (?) AND nominal IN (?)"
    ))
    .mysql(concat!(
        "SELECT ",
        columns!(),
        " FROM trine_tick WHERE service = ? AND job IN (?) AND nominal IN (?) LOCK IN SHARE MODE"
    ));

impl Store {
    pub(super) async fn finish(&self, call: Call, ends: &[Finish]) -> Result<Vec<FinishOutcome>> {
        self.check_open(call)?;
        if ends.iter().any(|end| end.end == AttemptEnd::Lost) {
            let detail = "end: expected one that a process can tell, not that it was lost";
            return Err(Error::Invalid { at: self.at(call), detail: detail.into() });
        }
        if ends.is_empty() {
            return Ok(Vec::new());
        }
        let told = self.step(call, |mut tx| async move { self.finish_in(&mut tx, ends).await });
        Ok(told.await?.into_iter().map(|told| told.outcome).collect())
    }

    pub(super) async fn complete_in(&self, tx: &mut Tx, attempt: &ClaimedTick) -> Result<Once> {
        let call = Call::new("complete_in");
        self.check_open(call)?;
        let at = || self.at(call);
        if !tx.database().is_same(&self.database) {
            let (found, expected) = (tx.database().name(), self.database.name());
            let detail = format!(
                "the transaction is on database `{found}`, the ticks are on `{expected}`: \
                 begin it there, or use `once_in`"
            );
            return Err(Error::Invalid { at: at(), detail: detail.into() });
        }
        let end = [Finish::new(attempt, AttemptEnd::Succeeded, None)];
        let outcomes = self.finish_in(tx, &end).await.map_err(|failure| failure.at(at()))?;
        match outcomes.first() {
            Some(Told { outcome: FinishOutcome::Finished, .. }) => Ok(Once::First),
            Some(Told { outcome: FinishOutcome::Repeated, .. }) => Ok(Once::Repeated),
            told => {
                let seen = told.map_or(0, |told| told.token);
                refuse_commit(tx, attempt.fence.clone(), seen);
                Err(Error::Fenced { at: at(), fence: attempt.fence.clone() })
            }
        }
    }

    async fn finish_in(&self, tx: &mut Tx, ends: &[Finish]) -> Result<Vec<Told>, Failure> {
        let service = self.service();
        let jobs = lock_jobs(tx, service, unique(ends), Lock::Wait).await?;
        let mut jobs: HashMap<JobId, JobRow> =
            jobs.into_iter().map(|job| (job.job.clone(), job)).collect();
        let before = jobs.clone();
        let places: Vec<_> = ends.iter().map(|end| (end.job.clone(), stamp(end.nominal))).collect();
        let rows = lock_ticks(tx, service, &places, true).await?;
        let mut rows: BTreeMap<_, _> = keyed(rows);
        let now = self.now(tx).await?;

        let mut open = HashMap::new();
        for job in jobs.values() {
            if job.terms()?.schedule.is_delay() {
                open.insert(job.job.clone(), count_open(tx, service, &job.job).await?);
            }
        }
        let mut ending = Ending { open, freed: HashMap::new(), now };
        let mut outcomes = Vec::with_capacity(ends.len());
        let mut over = None;
        for (end, place) in ends.iter().zip(&places) {
            let Some(row) = rows.get_mut(place) else {
                if over.is_none() {
                    over = Some(self.over(tx, ends).await?);
                }
                let row = over.as_ref().and_then(|over| over.get(place));
                outcomes.push(repeated(row, &end.fence)?);
                continue;
            };
            let outcome = if row.token != end.fence.token() {
                FinishOutcome::Replaced
            } else if row.state()? == TickState::Running {
                ending.conclude(jobs.get_mut(&end.job), row, end)?
            } else if row.ended_at.is_some() {
                // Ended twice in this very call.
                FinishOutcome::Repeated
            } else {
                // It waits: this very end was said before.
                FinishOutcome::Waiting
            };
            outcomes.push(Told { outcome, token: row.token });
        }
        let rows: Vec<_> = rows.into_values().collect();
        save_ticks(tx, service, &rows).await?;
        save_changed(tx, service, &before, jobs).await?;
        settle(tx, service, &ending.freed, now).await?;
        Ok(outcomes)
    }

    /// Returns those of the ticks that are there, also when they are over.
    async fn over(
        &self,
        tx: &mut Tx,
        ends: &[Finish],
    ) -> Result<BTreeMap<(JobId, Timestamp), TickRow>, Failure> {
        let mut nominals: Vec<_> = ends.iter().map(|end| stamp(end.nominal)).collect();
        nominals.sort_unstable();
        nominals.dedup();
        let params = (self.service(), names(unique(ends)), list(nominals));
        Ok(keyed(tx.query(OVER, params).await?))
    }
}

/// What became of an end, and the last token of its tick; 0 if there is none.
#[derive(Clone, Copy, Debug)]
struct Told {
    outcome: FinishOutcome,
    token: u64,
}

/// Ends of attempts under way.
struct Ending {
    /// Open ticks, of jobs for which they matter.
    open: HashMap<JobId, u32>,
    freed: HashMap<JobId, Places>,
    now: Timestamp,
}

impl Ending {
    /// Ends an attempt that goes on.
    fn conclude(
        &mut self,
        job: Option<&mut JobRow>,
        row: &mut TickRow,
        end: &Finish,
    ) -> Result<FinishOutcome, Failure> {
        let now = self.now;
        row.end_attempt(&end.end, now)?;
        let state = planning::attempted(&end.end, end.retry_in, job.is_none());
        if state == TickState::Waiting {
            row.wait(now.plus(end.retry_in.unwrap_or_default()));
            return Ok(FinishOutcome::Waiting);
        }
        row.finish(state, now);
        if let Some(job) = job {
            let open = self.open.get_mut(&job.job).map_or(0, |open| {
                *open = open.saturating_sub(1);
                *open
            });
            let terms = job.terms()?;
            learn(&terms, job, row, open, now)?;
            self.freed.insert(job.job.clone(), job.places(&terms));
        }
        Ok(FinishOutcome::Finished)
    }
}

/// Tells the job that one of its ticks is over, beside which `open` wait or run.
pub(super) fn learn(
    terms: &Terms,
    job: &mut JobRow,
    row: &TickRow,
    open: u32,
    now: Timestamp,
) -> Result<(), Failure> {
    let ended = Ended { kind: row.kind(), state: row.state()?, open };
    let learnt = planning::finished(terms, &job.progress()?, job.failures, ended, time(now));
    job.set_progress(&learnt.progress);
    job.failures = learnt.failures;
    if learnt.is_paused && job.paused_at.is_none() {
        job.paused_at = Some(now);
        job.paused_note = Some(planning::pause_note(learnt.failures));
    }
    Ok(())
}

/// Returns how many ticks of a job wait or run. What locks them has the same
/// transaction seen in full.
pub(super) async fn count_open(tx: &mut Tx, service: &str, job: &JobId) -> Result<u32, Failure> {
    let open: Vec<OpenTick> = tx.query(OPEN, (service, job.as_str())).await?;
    Ok(open.len().try_into().unwrap_or(u32::MAX))
}

/// Saves those jobs that are others now than before.
pub(super) async fn save_changed(
    tx: &mut Tx,
    service: &str,
    before: &HashMap<JobId, JobRow>,
    jobs: HashMap<JobId, JobRow>,
) -> Result<(), Failure> {
    let changed: Vec<_> =
        jobs.into_values().filter(|job| before.get(&job.job) != Some(job)).collect();
    save_jobs(tx, service, &changed).await
}

/// What to answer for a tick that is over, or not there any more.
fn repeated(row: Option<&TickRow>, fence: &Fence) -> Result<Told, Failure> {
    let Some(row) = row else { return Ok(Told { outcome: FinishOutcome::Replaced, token: 0 }) };
    let is_last = row.token == fence.token();
    // A loss was found out by others, not said by its process.
    let is_said = is_last && row.history()?.last_end() != Some("lost");
    let outcome = if is_said { FinishOutcome::Repeated } else { FinishOutcome::Replaced };
    Ok(Told { outcome, token: row.token })
}

fn keyed<M: FromIterator<((JobId, Timestamp), TickRow)>>(rows: Vec<TickRow>) -> M {
    rows.into_iter().map(|row| ((row.job.clone(), row.nominal), row)).collect()
}

fn unique(ends: &[Finish]) -> Vec<&JobId> {
    let mut jobs: Vec<_> = ends.iter().map(|end| &end.job).collect();
    jobs.sort_unstable();
    jobs.dedup();
    jobs
}

/// Keeps a transaction from being committed whose attempt was replaced,
/// whatever its owner makes of the error.
fn refuse_commit(tx: &mut Tx, fence: Fence, seen: u64) {
    tx.before_commit(move |tx| {
        Box::pin(async move {
            let at = trine_db_shard::At::new("complete_in", tx.database().name());
            let (key, token) = (fence.key().into(), fence.token());
            Err(trine_db_shard::Error::Fenced { at, key, token, seen })
        })
    });
}
