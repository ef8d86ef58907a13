use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use trine_db_shard::{Sql, Timestamp, Tx, Value, rows};

use super::job_row::{
    JobRow, Lock, add_jobs, find_jobs, lock_job, lock_jobs, names, parts, save_jobs,
};
use super::slots::{OPEN, OpenTick, settle};
use super::tick_row::{TickRow, add_ticks, code, place};
use super::{Call, Failure, Store, time};
use crate::{
    Definition, Error, JobId, NeverDue, Registered, Result, TickKind, TickState, TriggerOutcome,
    planning,
};

/// Definitions that are stored in one transaction.
const PART: usize = 1_000;

/// Highest revision: what every engine can compare.
const MAX_REVISION: u64 = i64::MAX.unsigned_abs();

const HANDLE: Sql = Sql::per_engine()
    .sqlite(
        "INSERT INTO trine_job_handler (service, job, process, revision) VALUES ? \
         ON CONFLICT (service, job, process) DO UPDATE SET revision = excluded.revision",
    )
    .mysql(
        "INSERT INTO trine_job_handler (service, job, process, revision) VALUES ? \
         ON DUPLICATE KEY UPDATE revision = VALUES(revision)",
    );

const WITHDRAW: Sql =
    Sql::portable("DELETE FROM trine_job_handler WHERE service = ? AND process = ? AND job IN (?)");

const WITHDRAW_ALL: Sql =
    Sql::portable("DELETE FROM trine_job_handler WHERE service = ? AND process = ?");

const LEAVE: Sql = Sql::portable("DELETE FROM trine_job_process WHERE service = ? AND process = ?");

/// It is there from its first beat on.
const ARRIVE: Sql = Sql::per_engine()
    .sqlite(
        "INSERT INTO trine_job_process (service, process, expires_at) VALUES (?, ?, ?) \
         ON CONFLICT (service, process) DO NOTHING",
    )
    .mysql(
        "INSERT INTO trine_job_process (service, process, expires_at) VALUES (?, ?, ?) \
         ON DUPLICATE KEY UPDATE service = VALUES(service)",
    );

const HANDLERS: Sql =
    Sql::portable("SELECT COUNT(*) FROM trine_job_handler WHERE service = ? AND process = ?");

const BEAT: Sql = Sql::per_engine()
    .sqlite(
        "INSERT INTO trine_job_process (service, process, expires_at) VALUES (?, ?, ?) \
         ON CONFLICT (service, process) DO UPDATE SET expires_at = excluded.expires_at",
    )
    .mysql(
        "INSERT INTO trine_job_process (service, process, expires_at) VALUES (?, ?, ?) \
         ON DUPLICATE KEY UPDATE expires_at = VALUES(expires_at)",
    );

/// What a job that was removed has left: runs that go on, and its last token.
const LEFT: Sql = Sql::portable(
    "SELECT job, COUNT(*), MAX(token) FROM trine_tick \
     WHERE service = ? AND job IN (?) GROUP BY job",
);

const REMOVE: Sql = Sql::portable("DELETE FROM trine_job WHERE service = ? AND job = ?");

const END_WAITING: Sql = Sql::portable(
    "UPDATE trine_tick SET state = ?, place = 0, ready_at = NULL, ended_at = ? \
     WHERE service = ? AND job = ? AND ended_at IS NULL AND state = ?",
);

/// Runs of a job that is removed end by themselves or by the end of their lease.
const ORPHAN: Sql = Sql::portable(
    "UPDATE trine_tick SET place = ? WHERE service = ? AND job = ? AND ended_at IS NULL",
);

const THERE: Sql = Sql::portable(
    "SELECT nominal FROM trine_tick WHERE service = ? AND job = ? AND nominal >= ? \
     ORDER BY nominal LIMIT 1000",
);

#[derive(Debug, Deserialize)]
struct Left {
    job: JobId,
    ticks: u64,
    token: u64,
}

impl Store {
    pub(super) async fn register(
        &self,
        call: Call,
        process: &Arc<str>,
        definitions: &[Arc<Definition>],
    ) -> Result<Vec<Registered>> {
        self.check_open(call)?;
        for definition in definitions {
            if definition.revision > MAX_REVISION {
                let (id, revision) = (&definition.id, definition.revision);
                let detail = format!("job `{id}`: revision {revision}: expected at most 2^63 - 1");
                return Err(Error::Invalid { at: self.at(call), detail: detail.into() });
            }
        }
        let mut ids: Vec<_> = definitions.iter().map(|definition| &definition.id).collect();
        ids.sort_unstable();
        if let Some([id, _]) = ids.array_windows().find(|[id, next]| id == next) {
            let (at, job) = (self.at(call), JobId::clone(id));
            return Err(Error::Conflict {
                at,
                job,
                detail: "it is registered twice in one call".into(),
            });
        }
        if definitions.len() > PART {
            self.check_all(call, definitions).await?;
        }
        let mut registered = Vec::with_capacity(definitions.len());
        for part in definitions.chunks(PART) {
            let stored = self.step(call, |mut tx| async move {
                self.register_in(&mut tx, call, process, part).await
            });
            registered.extend(stored.await?);
        }
        Ok(registered)
    }

    /// Finds what would be refused before anything is stored, where that takes
    /// several transactions.
    async fn check_all(&self, call: Call, definitions: &[Arc<Definition>]) -> Result<()> {
        self.bounded(call, async {
            let now = self.present().await?;
            for part in definitions.chunks(PART) {
                let ids = part.iter().map(|definition| &definition.id);
                let found = find_jobs(&self.database, self.service(), ids).await?;
                let mut jobs = by_name(found);
                for definition in part {
                    self.enter(call, &mut jobs, definition, now)?;
                }
            }
            Ok(())
        })
        .await
    }

    async fn register_in(
        &self,
        tx: &mut Tx,
        call: Call,
        process: &Arc<str>,
        definitions: &[Arc<Definition>],
    ) -> Result<Vec<Registered>, Failure> {
        let service = self.service();
        let mut ids: Vec<_> = definitions.iter().map(|definition| &definition.id).collect();
        ids.sort_unstable();
        let before = lock_jobs(tx, service, ids.iter().copied(), Lock::Wait).await?;
        let before = by_name(before);
        let now = self.now(tx).await?;
        let mut jobs = before.clone();
        let mut registered = Vec::with_capacity(definitions.len());
        for definition in definitions {
            registered.push(self.enter(call, &mut jobs, definition, now)?);
        }

        let (mut new, mut changed, mut places) = (Vec::new(), Vec::new(), HashMap::new());
        for id in &ids {
            let Some(job) = jobs.remove(*id) else { continue };
            match before.get(*id) {
                None => new.push(job),
                Some(old) if *old == job => continue,
                Some(_) => changed.push(job),
            }
        }
        self.inherit(tx, &mut new).await?;
        add_jobs(tx, service, &new).await?;
        save_jobs(tx, service, &changed).await?;
        for job in new.iter().filter(|job| job.made > 0).chain(&changed) {
            places.insert(job.job.clone(), job.places(&job.terms()?));
        }
        settle(tx, service, &places, now).await?;

        let mut handlers: Vec<_> = definitions.iter().collect();
        handlers.sort_unstable_by_key(|definition| &definition.id);
        for part in parts(&handlers) {
            let row = |definition: &&Arc<Definition>| -> [Value; 4] {
                let (job, revision) = (definition.id.as_str(), definition.revision);
                [service.into(), job.into(), (&**process).into(), revision.into()]
            };
            tx.execute(HANDLE, (rows(part.iter().map(row)),)).await?;
        }
        tx.execute(ARRIVE, (service, &**process, now)).await?;
        Ok(registered)
    }

    /// Enters one definition into the jobs as they are stored.
    fn enter(
        &self,
        call: Call,
        jobs: &mut HashMap<JobId, JobRow>,
        definition: &Definition,
        now: Timestamp,
    ) -> Result<Registered, Failure> {
        let id = &definition.id;
        let never = |cause: NeverDue| Error::NeverDue { at: self.at(call), job: id.clone(), cause };
        let Some(job) = jobs.get_mut(id) else {
            let progress = planning::first(&definition.terms, time(now)).map_err(never)?;
            jobs.insert(id.clone(), JobRow::new(definition, &progress)?);
            return Ok(Registered::New);
        };
        let revision = job.revision;
        let terms = job.terms()?;
        let refreshed = planning::refreshed(&terms, &job.progress()?);
        if definition.revision < revision {
            job.set_progress(&refreshed);
            return Ok(Registered::Older { revision });
        }
        if definition.revision == revision {
            if definition.terms == terms {
                job.set_progress(&refreshed);
                return Ok(Registered::Same);
            }
            let detail = format!(
                "revision {revision} is stored with another definition: give this one a higher \
                 revision"
            );
            let (at, job) = (self.at(call), id.clone());
            return Err(Error::Conflict { at, job, detail: detail.into() }.into());
        }
        let progress = planning::replaced(&terms, &definition.terms, &job.progress()?, time(now));
        job.set_progress(&progress.map_err(never)?);
        job.set_definition(definition)?;
        Ok(Registered::Replaced { revision })
    }

    /// Lets new jobs go on with what those of the same names have left that were
    /// removed.
    async fn inherit(&self, tx: &mut Tx, jobs: &mut [JobRow]) -> Result<(), Failure> {
        if jobs.is_empty() {
            return Ok(());
        }
        let ids = names(jobs.iter().map(|job| &job.job));
        let left: Vec<(JobId, u64, u64)> = tx.query(LEFT, (self.service(), ids)).await?;
        let left = left.into_iter().map(|(job, ticks, token)| Left { job, ticks, token });
        let left: HashMap<_, _> = left.map(|left| (left.job.clone(), left)).collect();
        for job in jobs {
            if let Some(left) = left.get(&job.job) {
                (job.made, job.token) = (left.ticks, left.token);
            }
        }
        Ok(())
    }

    pub(super) async fn withdraw(
        &self,
        call: Call,
        process: &Arc<str>,
        jobs: Option<&[JobId]>,
    ) -> Result<()> {
        self.step(call, |mut tx| async move {
            let service = self.service();
            match jobs {
                Some(jobs) => {
                    for part in jobs.chunks(PART) {
                        tx.execute(WITHDRAW, (service, &**process, names(part))).await?;
                    }
                }
                None => {
                    tx.execute(WITHDRAW_ALL, (service, &**process)).await?;
                    tx.execute(LEAVE, (service, &**process)).await?;
                }
            }
            Ok(())
        })
        .await
    }

    pub(super) async fn beat(&self, call: Call, process: &Arc<str>, ttl: Duration) -> Result<u64> {
        self.step(call, |mut tx| async move {
            let until = self.now(&mut tx).await?.plus(ttl);
            tx.execute(BEAT, (self.service(), &**process, until)).await?;
            Ok(tx.query_one(HANDLERS, (self.service(), &**process)).await?)
        })
        .await
    }

    pub(super) async fn remove(&self, call: Call, job: &JobId) -> Result<bool> {
        self.step(call, |mut tx| async move {
            let service = self.service();
            if lock_job(&mut tx, service, job).await?.is_none() {
                return Ok(false);
            }
            let now = self.now(&mut tx).await?;
            let (removed, waiting) = (code(TickState::Removed), code(TickState::Waiting));
            tx.execute(END_WAITING, (removed, now, service, job.as_str(), waiting)).await?;
            tx.execute(ORPHAN, (place::ORPHAN, service, job.as_str())).await?;
            tx.execute(REMOVE, (service, job.as_str())).await?;
            Ok(true)
        })
        .await
    }

    pub(super) async fn pause(&self, call: Call, job: &JobId, note: &str) -> Result<()> {
        self.step(call, |mut tx| async move {
            let mut row = self.lock(&mut tx, call, job).await?;
            let now = self.now(&mut tx).await?;
            row.paused_at = row.paused_at.or(Some(now));
            row.paused_note = Some(note.to_owned());
            self.save_settled(&mut tx, row, now).await
        })
        .await
    }

    pub(super) async fn resume(&self, call: Call, job: &JobId) -> Result<bool> {
        self.step(call, |mut tx| async move {
            let mut row = self.lock(&mut tx, call, job).await?;
            if row.paused_at.is_none() {
                return Ok(false);
            }
            let now = self.now(&mut tx).await?;
            row.set_progress(&planning::resumed(&row.terms()?, &row.progress()?, time(now)));
            (row.paused_at, row.paused_note, row.failures) = (None, None, 0);
            self.save_settled(&mut tx, row, now).await?;
            Ok(true)
        })
        .await
    }

    pub(super) async fn trigger(&self, call: Call, job: &JobId) -> Result<TriggerOutcome> {
        self.step(call, |mut tx| async move {
            let service = self.service();
            let mut row = self.lock(&mut tx, call, job).await?;
            let open: Vec<OpenTick> = tx.query(OPEN, (service, job.as_str())).await?;
            let count = open.len().try_into().unwrap_or(u32::MAX);
            let has_room = planning::has_room(&row.terms()?, count);
            let other = open.iter().min_by_key(|tick| (!tick.is_begun(), tick.ready_at));
            if let Some(other) = other.filter(|_| !has_room) {
                return Ok(TriggerOutcome::Overlaps { nominal: time(other.nominal) });
            }
            let now = self.now(&mut tx).await?;
            let mut nominal = now;
            let there: Vec<Timestamp> = tx.query(THERE, (service, job.as_str(), now)).await?;
            while there.contains(&nominal) || row.next_at == Some(nominal) {
                nominal = nominal.plus(Duration::from_micros(1));
            }
            let (kind, state) = (TickKind::Triggered, TickState::Waiting);
            let mut tick = TickRow::new(job, nominal, kind, row.revision, nominal, state, now);
            tick.ready_at = Some(now);
            add_ticks(&mut tx, service, &[tick]).await?;
            row.made = row.made.saturating_add(1);
            self.save_settled(&mut tx, row, now).await?;
            Ok(TriggerOutcome::Triggered { nominal: time(nominal) })
        })
        .await
    }

    /// Returns the job, locked.
    async fn lock(&self, tx: &mut Tx, call: Call, job: &JobId) -> Result<JobRow, Failure> {
        let row = lock_job(tx, self.service(), job).await?;
        let missing = || Error::NotFound { at: self.at(call), job: job.clone() };
        Ok(row.ok_or_else(missing)?)
    }

    /// Saves the job, and gives its places as they are to be now.
    async fn save_settled(&self, tx: &mut Tx, row: JobRow, now: Timestamp) -> Result<(), Failure> {
        let service = self.service();
        let places = row.places(&row.terms()?);
        save_jobs(tx, service, std::slice::from_ref(&row)).await?;
        settle(tx, service, &HashMap::from([(row.job, places)]), now).await
    }
}

fn by_name(jobs: Vec<JobRow>) -> HashMap<JobId, JobRow> {
    jobs.into_iter().map(|job| (job.job.clone(), job)).collect()
}
