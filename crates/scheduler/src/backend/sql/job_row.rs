use std::sync::Arc;

use serde::Deserialize;
use trine_core::Fence;
use trine_db_shard::{Database, FromRow, Param, Sql, Timestamp, Tx, Value, list, rows};

use super::slots::Places;
use super::{Failure, time};
use crate::{Definition, JobId, JobState, Progress, Terms};

/// A job in its table.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct JobRow {
    pub(super) job: JobId,
    pub(super) revision: u64,
    /// JSON.
    pub(super) terms: String,
    pub(super) last_at: Option<Timestamp>,
    pub(super) last_shown: Option<String>,
    pub(super) next_at: Option<Timestamp>,
    pub(super) failures: u32,
    /// The last that was given out.
    pub(super) token: u64,
    /// Ticks made since the sweep counted last: never less than there are.
    pub(super) made: u64,
    pub(super) paused_at: Option<Timestamp>,
    pub(super) paused_note: Option<String>,
}

macro_rules! columns {
    () => {
        "job, revision, terms, last_at, last_shown, next_at, failures, token, made, paused_at, \
         paused_note"
    };
}
pub(super) use columns;

const LOCK: Sql = Sql::per_engine()
    .sqlite(concat!(
        "SELECT ",
        columns!(),
        " FROM trine_job WHERE service = ? AND job IN (?) ORDER BY job"
    ))
    .mysql(concat!(
        "SELECT ",
        columns!(),
        " FROM trine_job WHERE service = ? AND job IN (?) ORDER BY job FOR UPDATE"
    ));

const LOCK_FREE: Sql = Sql::per_engine()
    .sqlite(concat!(
        "SELECT ",
        columns!(),
        " FROM trine_job WHERE service = ? AND job IN (?) ORDER BY job"
    ))
    .mysql(concat!(
        "SELECT ",
        columns!(),
        " FROM trine_job WHERE service = ? AND job IN (?) ORDER BY job FOR UPDATE SKIP LOCKED"
    ));

const FIND: Sql = Sql::portable(concat!(
    "SELECT ",
    columns!(),
    " FROM trine_job WHERE service = ? AND job IN (?) ORDER BY job"
));

const SAVE: Sql = Sql::per_engine()
    .sqlite(concat!(
        "INSERT INTO trine_job (service, ",
        columns!(),
        ") VALUES ? ON CONFLICT (service, job) DO UPDATE SET revision = excluded.revision, \
         terms = excluded.terms, last_at = excluded.last_at, last_shown = excluded.last_shown, \
         next_at = excluded.next_at, failures = excluded.failures, token = excluded.token, \
         made = excluded.made, paused_at = excluded.paused_at, \
         paused_note = excluded.paused_note"
    ))
    .mysql(concat!(
        "INSERT INTO trine_job (service, ",
        columns!(),
        ") VALUES ? ON DUPLICATE KEY UPDATE revision = VALUES(revision), terms = VALUES(terms), \
         last_at = VALUES(last_at), last_shown = VALUES(last_shown), \
         next_at = VALUES(next_at), failures = VALUES(failures), token = VALUES(token), \
         made = VALUES(made), paused_at = VALUES(paused_at), paused_note = VALUES(paused_note)"
    ));

const ADD: Sql =
    Sql::portable(concat!("INSERT INTO trine_job (service, ", columns!(), ") VALUES ?"));

/// Which rows of those that are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lock {
    /// All, once others have let go of them.
    Wait,
    /// Those that nobody has locked.
    Free,
}

impl JobRow {
    pub(super) fn new(definition: &Definition, progress: &Progress) -> Result<Self, Failure> {
        let mut row = Self {
            job: definition.id.clone(),
            revision: 0,
            terms: String::new(),
            last_at: None,
            last_shown: None,
            next_at: None,
            failures: 0,
            token: 0,
            made: 0,
            paused_at: None,
            paused_note: None,
        };
        row.set_definition(definition)?;
        row.set_progress(progress);
        Ok(row)
    }

    pub(super) fn set_definition(&mut self, definition: &Definition) -> Result<(), Failure> {
        self.revision = definition.revision;
        self.terms = serde_json::to_string(&definition.terms)
            .map_err(|error| Failure::stored(&self.job, "terms", error))?;
        Ok(())
    }

    pub(super) fn terms(&self) -> Result<Terms, Failure> {
        serde_json::from_str(&self.terms)
            .map_err(|error| Failure::stored(&self.job, "terms", error))
    }

    pub(super) fn definition(&self) -> Result<Definition, Failure> {
        Ok(Definition::new(self.job.clone(), self.revision, self.terms()?))
    }

    pub(super) fn progress(&self) -> Result<Progress, Failure> {
        let last = match (self.last_at, &self.last_shown) {
            (Some(at), Some(shown)) => Some((time(at), shown.parse()?)),
            _ => None,
        };
        Ok(Progress::new(last, self.next_at.map(time)))
    }

    pub(super) fn set_progress(&mut self, progress: &Progress) {
        self.last_at = progress.last.map(|(at, _)| at.into());
        self.last_shown = progress.last.map(|(_, shown)| shown.to_string());
        self.next_at = progress.next.map(Into::into);
    }

    pub(super) fn state(&self, is_done: bool) -> JobState {
        match self.paused_at {
            Some(since) => JobState::Paused {
                note: self.paused_note.as_deref().unwrap_or_default().into(),
                since: time(since),
            },
            None if is_done => JobState::Done,
            None => JobState::Active,
        }
    }

    /// Returns the places of its ticks.
    pub(super) fn places(&self, terms: &Terms) -> Places {
        Places::new(terms.overlap.concurrency(), self.paused_at.is_some())
    }

    /// Returns the next token, and remembers it.
    pub(super) fn next_token(&mut self, now: Timestamp) -> u64 {
        let micros = u64::try_from(now.as_micros()).unwrap_or(0);
        self.token = Fence::next_token(self.token, micros);
        self.token
    }

    fn values(&self, service: &str) -> [Value; 12] {
        [
            service.into(),
            self.job.as_str().into(),
            self.revision.into(),
            self.terms.as_str().into(),
            self.last_at.into(),
            self.last_shown.as_deref().into(),
            self.next_at.into(),
            self.failures.into(),
            self.token.into(),
            self.made.into(),
            self.paused_at.into(),
            self.paused_note.as_deref().into(),
        ]
    }
}

/// Returns the members of an `IN (?)`.
pub(super) fn names<'j>(jobs: impl IntoIterator<Item = &'j JobId>) -> Param {
    list(jobs.into_iter().map(JobId::as_str))
}

/// Returns the jobs, locked until the end of the transaction, in the order of
/// their names.
pub(super) async fn lock_jobs(
    tx: &mut Tx,
    service: &str,
    jobs: impl IntoIterator<Item = &JobId>,
    lock: Lock,
) -> Result<Vec<JobRow>, Failure> {
    let sql = if lock == Lock::Wait { LOCK } else { LOCK_FREE };
    Ok(tx.query(sql, (service, names(jobs))).await?)
}

/// Returns one job, locked until the end of the transaction.
pub(super) async fn lock_job(
    tx: &mut Tx,
    service: &str,
    job: &JobId,
) -> Result<Option<JobRow>, Failure> {
    Ok(lock_jobs(tx, service, [job], Lock::Wait).await?.pop())
}

/// Returns the jobs as they were committed last.
pub(super) async fn find_jobs<T: FromRow>(
    database: &Database,
    service: &str,
    jobs: impl IntoIterator<Item = &JobId>,
) -> Result<Vec<T>, Failure> {
    Ok(database.query(FIND, (service, names(jobs))).await?)
}

pub(super) async fn save_jobs(tx: &mut Tx, service: &str, jobs: &[JobRow]) -> Result<(), Failure> {
    write(tx, service, SAVE, jobs).await
}

/// Adds new jobs; fails if somebody else has added one meanwhile.
pub(super) async fn add_jobs(tx: &mut Tx, service: &str, jobs: &[JobRow]) -> Result<(), Failure> {
    write(tx, service, ADD, jobs).await
}

async fn write(tx: &mut Tx, service: &str, sql: Sql, jobs: &[JobRow]) -> Result<(), Failure> {
    for part in parts(jobs) {
        tx.execute(sql, (rows(part.iter().map(|job| job.values(service))),)).await?;
    }
    Ok(())
}

/// Cuts rows into parts of few lengths, so that few texts are prepared.
pub(super) fn parts<T>(rows: &[T]) -> impl Iterator<Item = &[T]> {
    let mut rest = rows;
    std::iter::from_fn(move || {
        let length = [512, 128, 32, 8, 2, 1].into_iter().find(|length| *length <= rest.len())?;
        let (part, others) = rest.split_at_checked(length)?;
        rest = others;
        Some(part)
    })
}

/// A definition that is shared.
pub(super) fn shared(row: &JobRow) -> Result<Arc<Definition>, Failure> {
    Ok(Arc::new(row.definition()?))
}
