use std::collections::{HashMap, HashSet};
use std::time::SystemTime;

use trine_db_shard::{Sql, Timestamp, list};

use super::job_row::{self, JobRow, find_jobs, names, shared};
use super::tick_row::{TickRow, code, columns, stamp};
use super::{Call, Failure, OWNER, Store, time};
use crate::{
    Error, JobFacts, JobId, JobPage, Overview, Result, Tick, TickPage, TickState, planning,
};

const LOOK: Sql = Sql::portable(
    "SELECT (SELECT COUNT(*) FROM trine_job WHERE service = '') \
     + (SELECT COUNT(*) FROM trine_tick WHERE service = '') \
     + (SELECT COUNT(*) FROM trine_job_handler WHERE service = '') \
     + (SELECT COUNT(*) FROM trine_job_process WHERE service = '') \
     + (SELECT COUNT(*) FROM trine_job_planner WHERE service = '')",
);

const PAGE: Sql = Sql::portable(concat!(
    "SELECT ",
    job_row::columns!(),
    " FROM trine_job WHERE service = ? AND job >= ? AND job > ? ORDER BY job LIMIT ?"
));

const OPEN: Sql = Sql::portable(
    "SELECT job, COUNT(*) FROM trine_tick \
     WHERE service = ? AND job IN (?) AND ended_at IS NULL GROUP BY job",
);

const LAST: Sql = Sql::portable(
    "SELECT j.job, (SELECT t.nominal FROM trine_tick t WHERE t.service = j.service \
     AND t.job = j.job AND t.ended_at IS NOT NULL ORDER BY t.nominal DESC LIMIT 1) \
     FROM trine_job j WHERE j.service = ? AND j.job IN (?)",
);

const TICKS_OF: Sql = Sql::portable(concat!(
    "SELECT ",
    columns!(),
    " FROM trine_tick WHERE service = ? AND job IN (?) AND nominal IN (?)"
));

const HANDLED: Sql = Sql::portable(
    "SELECT DISTINCT h.job FROM trine_job_handler h \
     JOIN trine_job_process p ON p.service = h.service AND p.process = h.process \
     WHERE h.service = ? AND h.job IN (?) AND p.expires_at > ?",
);

const TICKS: Sql = Sql::portable(concat!(
    "SELECT ",
    columns!(),
    " FROM trine_tick WHERE service = ? AND job = ? AND nominal < ? \
     ORDER BY nominal DESC LIMIT ?"
));

const COUNT_JOBS: Sql =
    Sql::portable("SELECT COUNT(*), COUNT(paused_at) FROM trine_job WHERE service = ?");

const UNHANDLED: Sql = Sql::portable(
    "SELECT COUNT(*) FROM trine_job j WHERE j.service = ? AND j.paused_at IS NULL \
     AND NOT EXISTS (SELECT 1 FROM trine_job_handler h \
     JOIN trine_job_process p ON p.service = h.service AND p.process = h.process \
     WHERE h.service = j.service AND h.job = j.job AND p.expires_at > ?) \
     AND (j.next_at IS NOT NULL OR EXISTS (SELECT 1 FROM trine_tick t \
     WHERE t.service = j.service AND t.job = j.job AND t.ended_at IS NULL))",
);

const OLDEST_DUE: Sql = Sql::portable(
    "SELECT MIN(next_at) FROM trine_job \
     WHERE service = ? AND paused_at IS NULL AND next_at <= ?",
);

const OLDEST_READY: Sql = Sql::portable(
    "SELECT t.ready_at FROM trine_tick t \
     WHERE t.service = ? AND t.place = 0 AND t.ended_at IS NULL AND t.ready_at <= ? \
     AND EXISTS (SELECT 1 FROM trine_job_handler h \
     JOIN trine_job_process p ON p.service = h.service AND p.process = h.process \
     WHERE h.service = t.service AND h.job = t.job AND p.expires_at > ?) \
     ORDER BY t.ready_at LIMIT 1",
);

const RUNNING: Sql = Sql::portable(
    "SELECT COUNT(*) FROM trine_tick WHERE service = ? AND ended_at IS NULL AND state = ?",
);

/// Latest moment that every engine can keep: the end of the year 9999.
const LATEST: Timestamp = Timestamp::from_micros(253_402_300_799_999_999);

impl Store {
    /// Makes sure that the tables are there.
    pub(super) async fn look(&self, call: Call) -> Result<(), Failure> {
        match self.database.query_one::<u64>(LOOK, ()).await {
            Ok(_) => Ok(()),
            Err(trine_db_shard::Error::Invalid { .. }) => {
                let detail = format!(
                    "database `{}` lacks the tables of migration set `{OWNER}`: apply \
                     `trine_scheduler::migrations()`",
                    self.database.name()
                );
                Err(Error::Invalid { at: self.at(call), detail: detail.into() }.into())
            }
            Err(error) => Err(error.into()),
        }
    }

    pub(super) async fn job(&self, call: Call, job: &JobId) -> Result<Option<JobFacts>> {
        self.bounded(call, async {
            let found = find_jobs(&self.database, self.service(), [job]).await?;
            Ok(self.facts(found).await?.pop())
        })
        .await
    }

    pub(super) async fn jobs(
        &self,
        call: Call,
        prefix: &str,
        after: Option<&JobId>,
        count: u32,
    ) -> Result<JobPage> {
        self.bounded(call, async {
            let count = count.clamp(1, 1_000);
            let after = after.map_or("", JobId::as_str);
            let params = (self.service(), prefix, after, count + 1);
            let mut found: Vec<JobRow> = self.database.query(PAGE, params).await?;
            let is_beyond = |row: &JobRow| !row.job.as_str().starts_with(prefix);
            let end = found.iter().position(is_beyond).unwrap_or(found.len());
            found.truncate(end);
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            let is_more = found.len() > count;
            found.truncate(count);
            let next = found.last().filter(|_| is_more).map(|row| row.job.clone());
            Ok(JobPage::new(self.facts(found).await?, next))
        })
        .await
    }

    /// Returns the jobs as callers see them.
    async fn facts(&self, rows: Vec<JobRow>) -> Result<Vec<JobFacts>, Failure> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let (db, service) = (&self.database, self.service());
        let ids = || names(rows.iter().map(|row| &row.job));
        let now = self.present().await?;
        let open: Vec<(JobId, u32)> = db.query(OPEN, (service, ids())).await?;
        let open: HashMap<_, _> = open.into_iter().collect();
        let handled: Vec<JobId> = db.query(HANDLED, (service, ids(), now)).await?;
        let handled: HashSet<_> = handled.into_iter().collect();
        let last: Vec<(JobId, Option<Timestamp>)> = db.query(LAST, (service, ids())).await?;
        let last = last.into_iter().filter_map(|(job, nominal)| Some((job, nominal?)));
        let mut last = self.ticks_at(last.collect()).await?;
        let facts = rows.iter().map(|row| {
            let open = open.get(&row.job).copied().unwrap_or(0);
            let (definition, progress) = (shared(row)?, row.progress()?);
            let is_done = planning::is_done(&definition.terms, &progress, open);
            let mut facts = JobFacts::new(definition, progress);
            facts.state = row.state(is_done);
            facts.failures = row.failures;
            facts.open = open;
            facts.last = last.remove(&row.job);
            facts.has_handler = handled.contains(&row.job);
            Ok(facts)
        });
        facts.collect()
    }

    /// Returns one tick of each of the jobs.
    async fn ticks_at(
        &self,
        places: HashMap<JobId, Timestamp>,
    ) -> Result<HashMap<JobId, Tick>, Failure> {
        if places.is_empty() {
            return Ok(HashMap::new());
        }
        let mut ticks = HashMap::with_capacity(places.len());
        let mut places: Vec<_> = places.into_iter().collect();
        places.sort_unstable();
        // What two lists match beside the pairs is left out; short ones match
        // little of that.
        for part in places.chunks(16) {
            let jobs = names(part.iter().map(|(job, _)| job));
            let nominals = list(part.iter().map(|(_, nominal)| *nominal));
            let rows: Vec<TickRow> =
                self.database.query(TICKS_OF, (self.service(), jobs, nominals)).await?;
            for row in rows {
                if part.iter().any(|(job, nominal)| *job == row.job && *nominal == row.nominal) {
                    ticks.insert(row.job.clone(), row.into_tick()?);
                }
            }
        }
        Ok(ticks)
    }

    pub(super) async fn ticks(
        &self,
        call: Call,
        job: &JobId,
        before: Option<SystemTime>,
        count: u32,
    ) -> Result<TickPage> {
        self.bounded(call, async {
            let count = count.clamp(1, 1_000);
            let before = before.map_or(LATEST, stamp).min(LATEST);
            let params = (self.service(), job.as_str(), before, count + 1);
            let mut rows: Vec<TickRow> = self.database.query(TICKS, params).await?;
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            let is_more = rows.len() > count;
            rows.truncate(count);
            let next = rows.last().filter(|_| is_more).map(|row| time(row.nominal));
            let ticks = rows.into_iter().map(TickRow::into_tick);
            Ok(TickPage::new(ticks.collect::<Result<_, _>>()?, next))
        })
        .await
    }

    pub(super) async fn overview(&self, call: Call) -> Result<Overview> {
        self.bounded(call, async {
            let (db, service) = (&self.database, self.service());
            let now = self.present().await?;
            let mut overview = Overview::new(time(now));
            (overview.jobs, overview.paused) = db.query_one(COUNT_JOBS, (service,)).await?;
            overview.without_handler = db.query_one(UNHANDLED, (service, now)).await?;
            let oldest: Option<Timestamp> = db.query_one(OLDEST_DUE, (service, now)).await?;
            overview.oldest_due = oldest.map(time);
            let params = (service, now, now);
            let oldest: Option<Timestamp> = db.query_optional(OLDEST_READY, params).await?;
            overview.oldest_ready = oldest.map(time);
            let running = code(TickState::Running);
            overview.running = db.query_one(RUNNING, (service, running)).await?;
            overview.planner = self.planner(now).await?;
            Ok(overview)
        })
        .await
    }
}
