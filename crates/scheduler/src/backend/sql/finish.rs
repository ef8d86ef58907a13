use std::collections::{BTreeMap, HashMap};

use trine_core::Fence;
use trine_db_shard::{Once, Sql, Timestamp, Tx, list};

use super::job_row::{JobRow, Lock, lock_jobs, names, save_jobs};
use super::slots::{Places, settle};
use super::tick_row::{TickRow, columns, lock_ticks, save_ticks, stamp};
use super::{Call, Failure, Store, time};
use crate::{
    AttemptEnd, ClaimedTick, Error, Finish, FinishOutcome, JobId, Result, Terms, TickKind,
    TickState, planning,
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

        let (mut outcomes, mut freed) = (Vec::with_capacity(ends.len()), HashMap::new());
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
                conclude(jobs.get_mut(&end.job), row, end, now, &mut freed)?
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
        settle(tx, service, &freed).await?;
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

/// Ends an attempt that goes on.
fn conclude(
    job: Option<&mut JobRow>,
    row: &mut TickRow,
    end: &Finish,
    now: Timestamp,
    freed: &mut HashMap<JobId, Places>,
) -> Result<FinishOutcome, Failure> {
    row.end_attempt(&end.end, now)?;
    let Some(job) = job else {
        // Its job was removed meanwhile: it is not tried again.
        let state = match end.end {
            AttemptEnd::Succeeded => TickState::Succeeded,
            AttemptEnd::HandedOver => TickState::Removed,
            _ => TickState::Failed,
        };
        row.finish(state, now);
        return Ok(FinishOutcome::Finished);
    };
    let state = match (&end.end, end.retry_in) {
        (AttemptEnd::Succeeded, _) => TickState::Succeeded,
        (AttemptEnd::HandedOver, _) => {
            row.wait(now);
            return Ok(FinishOutcome::Waiting);
        }
        (_, Some(wait)) => {
            row.wait(now.plus(wait));
            return Ok(FinishOutcome::Waiting);
        }
        (_, None) => TickState::Failed,
    };
    row.finish(state, now);
    let terms = job.terms()?;
    learn(&terms, job, row, state, now)?;
    let places = terms.overlap.concurrency();
    freed.insert(row.job.clone(), Places::new(places, job.paused_at.is_some()));
    Ok(FinishOutcome::Finished)
}

/// Tells the job that one of its ticks is over.
pub(super) fn learn(
    terms: &Terms,
    job: &mut JobRow,
    row: &TickRow,
    state: TickState,
    now: Timestamp,
) -> Result<(), Failure> {
    if row.kind() != TickKind::Planned {
        return Ok(());
    }
    let learnt = planning::finished(terms, &job.progress()?, job.failures, state, time(now));
    job.set_progress(&learnt.progress);
    job.failures = learnt.failures;
    if learnt.is_paused && job.paused_at.is_none() {
        job.paused_at = Some(now);
        job.paused_note = Some(format!("{} failed in a row", learnt.failures));
    }
    Ok(())
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
