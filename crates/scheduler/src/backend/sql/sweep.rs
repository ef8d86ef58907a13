use std::time::Duration;

use trine_db_shard::{Sql, Timestamp};

use super::job_row::{JobRow, lock_job, save_jobs};
use super::tick_row::{TickRow, columns, save_ticks};
use super::{Call, Failure, Store};
use crate::{AttemptEnd, JobId, Result, TickState};

/// Rows of one transaction at most.
const STEP: u64 = 1_000;

const AGED: Sql = Sql::per_engine()
    .sqlite(
        "DELETE FROM trine_tick WHERE (service, job, nominal) IN (SELECT service, job, nominal \
         FROM trine_tick WHERE service = ? AND ended_at < ? LIMIT ?)",
    )
    .mysql("DELETE FROM trine_tick WHERE service = ? AND ended_at < ? LIMIT ?");

/// Jobs that may have more ticks than are kept.
const LONG: Sql = Sql::portable(
    "SELECT job FROM trine_job WHERE service = ? AND made > ? ORDER BY made DESC LIMIT ?",
);

/// The first one that is not kept.
const CUT: Sql = Sql::portable(
    "SELECT nominal FROM trine_tick WHERE service = ? AND job = ? AND ended_at IS NOT NULL \
     ORDER BY nominal DESC LIMIT 1 OFFSET ?",
);

const BEYOND: Sql = Sql::per_engine()
    .sqlite(
        "DELETE FROM trine_tick WHERE (service, job, nominal) IN (SELECT service, job, nominal \
         FROM trine_tick WHERE service = ? AND job = ? AND nominal <= ? \
         AND ended_at IS NOT NULL LIMIT ?)",
    )
    .mysql(
        "DELETE FROM trine_tick WHERE service = ? AND job = ? AND nominal <= ? \
         AND ended_at IS NOT NULL LIMIT ?",
    );

const COUNT: Sql = Sql::portable("SELECT COUNT(*) FROM trine_tick WHERE service = ? AND job = ?");

const GONE: Sql = Sql::portable(
    "SELECT process FROM trine_job_process WHERE service = ? AND expires_at <= ? LIMIT ?",
);

const FORGET_HANDLERS: Sql = Sql::portable(
    "DELETE FROM trine_job_handler WHERE service = ? AND process = ? AND NOT EXISTS \
     (SELECT 1 FROM trine_job_process p WHERE p.service = ? AND p.process = ?)",
);

const FORGET: Sql = Sql::portable(
    "DELETE FROM trine_job_process WHERE service = ? AND process = ? AND expires_at <= ?",
);

macro_rules! orphans {
    ($columns:expr, $lock:literal) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM trine_tick WHERE service = ? AND place = 2 AND ended_at IS NULL \
             AND ready_at <= ? LIMIT ?",
            $lock
        )
    };
}

const HAS_ORPHANS: Sql = Sql::portable(
    "SELECT 1 FROM trine_tick WHERE service = ? AND place = 2 AND ended_at IS NULL LIMIT 1",
);
const ORPHANS: Sql = Sql::per_engine()
    .sqlite(orphans!(columns!(), ""))
    .mysql(orphans!(columns!(), " FOR UPDATE SKIP LOCKED"));

impl Store {
    pub(super) async fn sweep(
        &self,
        call: Call,
        age: Duration,
        runs: u32,
        rows: u32,
    ) -> Result<u64> {
        let now = self.bounded(call, self.present()).await?;
        let before = now.minus(age).max(Timestamp::default());
        let most = u64::from(rows.max(1));
        self.end_orphans(call).await?;
        let mut swept = 0;
        while swept < most {
            let step = STEP.min(most - swept);
            let aged = self.bounded(call, async {
                let done = self.database.execute(AGED, (self.service(), before, step)).await?;
                Ok(done.affected)
            });
            let aged = aged.await?;
            swept += aged;
            if aged < step {
                break;
            }
        }
        if swept < most {
            swept += self.sweep_long(call, runs, most - swept).await?;
        }
        if swept < most {
            swept += self.sweep_gone(call, now, most - swept).await?;
        }
        Ok(swept)
    }

    /// Removes what is beyond the last `runs` of each job.
    async fn sweep_long(&self, call: Call, runs: u32, most: u64) -> Result<u64> {
        let mut swept = 0;
        while swept < most {
            let params = (self.service(), runs, 100);
            let jobs =
                self.bounded(call, async { Ok(self.database.query::<JobId>(LONG, params).await?) });
            let jobs = jobs.await?;
            let is_last = jobs.len() < 100;
            let (before, mut counted) = (swept, 0);
            for job in &jobs {
                if swept >= most {
                    return Ok(swept);
                }
                let step = STEP.min(most - swept);
                let (gone, is_short) =
                    self.step(call, |mut tx| async move {
                        self.sweep_job(&mut tx, job, runs, step).await
                    })
                    .await?;
                swept += gone;
                counted += usize::from(is_short);
            }
            if is_last || (swept == before && counted == 0) {
                break;
            }
        }
        Ok(swept)
    }

    /// Removes up to `step` ticks of the job, and tells whether it has no more
    /// than are kept.
    async fn sweep_job(
        &self,
        tx: &mut trine_db_shard::Tx,
        job: &JobId,
        runs: u32,
        step: u64,
    ) -> Result<(u64, bool), Failure> {
        let service = self.service();
        let Some(mut row): Option<JobRow> = lock_job(tx, service, job).await? else {
            return Ok((0, true));
        };
        let cut: Option<Timestamp> = tx.query_optional(CUT, (service, job.as_str(), runs)).await?;
        let gone = match cut {
            Some(cut) => tx.execute(BEYOND, (service, job.as_str(), cut, step)).await?.affected,
            None => 0,
        };
        let is_short = gone < step;
        if is_short {
            let left: u64 = tx.query_one(COUNT, (service, job.as_str())).await?;
            // Open ones count once they are over.
            row.made = left.min(u64::from(runs));
            save_jobs(tx, service, &[row]).await?;
        }
        Ok((gone, is_short))
    }

    /// Removes processes that are gone at `now`, with their handlers.
    async fn sweep_gone(&self, call: Call, now: Timestamp, most: u64) -> Result<u64> {
        let params = (self.service(), now, most.min(STEP));
        let gone =
            self.bounded(call, async { Ok(self.database.query::<String>(GONE, params).await?) });
        let gone = gone.await?;
        for process in &gone {
            self.step(call, |mut tx| async move {
                let (service, process) = (self.service(), process.as_str());
                tx.execute(FORGET, (service, process, now)).await?;
                tx.execute(FORGET_HANDLERS, (service, process, service, process)).await?;
                Ok(())
            })
            .await?;
        }
        Ok(gone.len().try_into().unwrap_or(u64::MAX))
    }

    /// Ends runs whose lease is over and whose job was removed: nobody takes
    /// them over.
    pub(super) async fn end_orphans(&self, call: Call) -> Result<()> {
        let has_orphans = self.bounded(call, async {
            let found = self.database.query_optional::<u8>(HAS_ORPHANS, (self.service(),));
            Ok(found.await?.is_some())
        });
        if !has_orphans.await? {
            return Ok(());
        }
        self.step(call, |mut tx| async move {
            let service = self.service();
            let now = self.now(&mut tx).await?;
            let mut rows: Vec<TickRow> = tx.query(ORPHANS, (service, now, STEP)).await?;
            for row in &mut rows {
                row.end_attempt(&AttemptEnd::Lost, now)?;
                row.finish(TickState::Removed, now);
            }
            save_ticks(&mut tx, service, &rows).await
        })
        .await
    }
}
