use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use trine_db_shard::{Sql, Timestamp, Tx};

use super::job_row::{self, JobRow, names, save_jobs};
use super::slots::{Places, settle};
use super::tick_row::{TickRow, add_ticks, stamp};
use super::{Call, Failure, Store, between, time};
use crate::{Definition, JobId, PlanAnswer, Result, TickKind, TickState, planning};

const PLANNER: Sql =
    Sql::portable("SELECT process, expires_at FROM trine_job_planner WHERE service = ?");

const MAKE_PLANNER: Sql = Sql::per_engine()
    .sqlite(
        "INSERT INTO trine_job_planner (service, process, expires_at) VALUES (?, '', ?) \
         ON CONFLICT (service) DO NOTHING",
    )
    .mysql(
        "INSERT INTO trine_job_planner (service, process, expires_at) VALUES (?, '', ?) \
         ON DUPLICATE KEY UPDATE service = VALUES(service)",
    );

/// The last step before the commit: who has lost the lease meanwhile finds no
/// row, and nobody gets it until the commit.
const STAY: Sql = Sql::portable(
    "UPDATE trine_job_planner SET process = ?, expires_at = ? \
     WHERE service = ? AND (process = ? OR expires_at <= ?)",
);

const RESIGN: Sql = Sql::portable(
    "UPDATE trine_job_planner SET process = '', expires_at = ? WHERE service = ? AND process = ?",
);

macro_rules! due {
    ($lock:literal) => {
        concat!(
            "SELECT ",
            job_row::columns!(),
            " FROM trine_job WHERE service = ? AND paused_at IS NULL AND next_at <= ? \
             ORDER BY next_at LIMIT ?",
            $lock
        )
    };
}

/// A job that another transaction holds is planned by the next step.
const DUE: Sql = Sql::per_engine().sqlite(due!("")).mysql(due!(" FOR UPDATE SKIP LOCKED"));

const NEXT_DUE: Sql = Sql::portable(
    "SELECT MIN(next_at) FROM trine_job \
     WHERE service = ? AND paused_at IS NULL AND next_at IS NOT NULL",
);

const OPEN: Sql = Sql::portable(
    "SELECT job, COUNT(*) FROM trine_tick \
     WHERE service = ? AND job IN (?) AND ended_at IS NULL GROUP BY job",
);

/// When to look again at jobs that are due and could not be planned.
const HELD: Duration = Duration::from_millis(200);

/// The jobs of one step at most, whatever was asked for.
const MOST: u32 = 1_000;

#[derive(Debug, Deserialize)]
struct Planner {
    process: Box<str>,
    expires_at: Timestamp,
}

impl Store {
    pub(super) async fn plan(
        &self,
        call: Call,
        process: &Arc<str>,
        ttl: Duration,
        jobs: u32,
    ) -> Result<PlanAnswer> {
        if let Some(other) = self.bounded(call, self.other(process)).await? {
            return Ok(other);
        }
        let planned = self
            .step(call, |mut tx| async move {
                let planned = self.plan_in(&mut tx, process, ttl, jobs).await?;
                if planned.is_none() {
                    tx.rollback().await?;
                }
                Ok(planned)
            })
            .await?;
        if let Some(planned) = planned {
            return Ok(planned);
        }
        self.bounded(call, async {
            if let Some(other) = self.other(process).await? {
                return Ok(other);
            }
            // The other has let go already.
            let now = self.present().await?;
            let next_due = self.next_due().await?;
            Ok(PlanAnswer::Other { now: time(now), retry_in: Duration::ZERO, next_due })
        })
        .await
    }

    pub(super) async fn resign(&self, call: Call, process: &Arc<str>) -> Result<()> {
        self.bounded(call, async {
            let now = self.present().await?;
            let params = (now, self.service(), &**process);
            self.database.execute(RESIGN, params).await?;
            Ok(())
        })
        .await
    }

    /// Returns who plans, if somebody does.
    pub(super) async fn planner(&self, now: Timestamp) -> Result<Option<Arc<str>>, Failure> {
        let planner: Option<Planner> =
            self.database.query_optional(PLANNER, (self.service(),)).await?;
        Ok(planner.filter(|planner| planner.expires_at > now).map(|planner| planner.process.into()))
    }

    /// Returns the answer if another process is the planner.
    async fn other(&self, process: &Arc<str>) -> Result<Option<PlanAnswer>, Failure> {
        let planner: Option<Planner> =
            self.database.query_optional(PLANNER, (self.service(),)).await?;
        let Some(planner) = planner else {
            let params = (self.service(), Timestamp::default());
            self.database.execute(MAKE_PLANNER, params).await?;
            return Ok(None);
        };
        if *planner.process == **process {
            return Ok(None);
        }
        let now = self.present().await?;
        if planner.expires_at <= now {
            return Ok(None);
        }
        let (retry_in, next_due) = (between(now, planner.expires_at), self.next_due().await?);
        Ok(Some(PlanAnswer::Other { now: time(now), retry_in, next_due }))
    }

    async fn next_due(&self) -> Result<Option<SystemTime>, Failure> {
        let next: Option<Timestamp> = self.database.query_one(NEXT_DUE, (self.service(),)).await?;
        Ok(next.map(time))
    }

    /// Plans, and stays the planner: or is none any more.
    async fn plan_in(
        &self,
        tx: &mut Tx,
        process: &Arc<str>,
        ttl: Duration,
        jobs: u32,
    ) -> Result<Option<PlanAnswer>, Failure> {
        let service = self.service();
        let now = self.now(tx).await?;
        let most = jobs.min(MOST);
        let due: Vec<JobRow> = tx.query(DUE, (service, now, most)).await?;
        let is_full = due.len() >= usize::try_from(most).unwrap_or(usize::MAX);
        let ticks = self.make(tx, due, now).await?;
        let next: Option<Timestamp> = tx.query_one(NEXT_DUE, (service,)).await?;
        // What is due and was not planned is held by another transaction.
        let is_held = !is_full && ticks == 0 && next.is_some_and(|next| next <= now);
        let next = if is_held { Some(now.plus(HELD)) } else { next };
        let since = self.now(tx).await?;
        let params = (&**process, since.plus(ttl), service, &**process, since);
        if tx.execute(STAY, params).await?.affected == 0 {
            return Ok(None);
        }
        Ok(Some(PlanAnswer::Planned { now: time(now), ticks, next_due: next.map(time) }))
    }

    /// Makes the ticks of jobs that are due and locked, and returns how many.
    async fn make(
        &self,
        tx: &mut Tx,
        mut jobs: Vec<JobRow>,
        now: Timestamp,
    ) -> Result<u64, Failure> {
        if jobs.is_empty() {
            return Ok(0);
        }
        let service = self.service();
        let open = names(jobs.iter().map(|job| &job.job));
        let open: Vec<(JobId, u32)> = tx.query(OPEN, (service, open)).await?;
        let open: HashMap<JobId, u32> = open.into_iter().collect();
        let (mut ticks, mut crowded) = (Vec::new(), HashMap::new());
        jobs.retain_mut(|job| {
            let open = open.get(&job.job).copied().unwrap_or(0);
            // A row that only a later version can read is planned by that one.
            let Ok((planned, places)) = plan_job(job, open, now) else { return false };
            ticks.extend(planned);
            crowded.extend(places.map(|places| (job.job.clone(), places)));
            true
        });
        add_ticks(tx, service, &ticks).await?;
        save_jobs(tx, service, &jobs).await?;
        settle(tx, service, &crowded, now).await?;
        Ok(ticks.len().try_into().unwrap_or(u64::MAX))
    }
}

/// Plans one job, of which `open` ticks wait or run, and returns its new ticks,
/// and its places if there are fewer than open ticks.
fn plan_job(
    job: &mut JobRow,
    open: u32,
    now: Timestamp,
) -> Result<(Vec<TickRow>, Option<Places>), Failure> {
    let definition: Definition = job.definition()?;
    let terms = &definition.terms;
    let planned = planning::plan(terms, &job.progress()?, open, time(now));
    let ticks = planned.ticks.iter().map(|tick| {
        let due = stamp(terms.schedule.due(job.job.as_str(), tick.nominal));
        let nominal = stamp(tick.nominal);
        let kind = TickKind::Planned;
        TickRow::new(&job.job, nominal, kind, job.revision, due, tick.state, now)
    });
    let ticks: Vec<_> = ticks.collect();
    let waiting = planned.ticks.iter().filter(|tick| tick.state == TickState::Waiting).count();
    let open = open.saturating_add(waiting.try_into().unwrap_or(u32::MAX));
    let is_crowded = waiting > 0 && open > terms.overlap.concurrency();
    job.made = job.made.saturating_add(ticks.len().try_into().unwrap_or(u64::MAX));
    job.set_progress(&planned.progress);
    Ok((ticks, is_crowded.then(|| job.places(terms))))
}
