use std::num::NonZeroU32;
use std::sync::Arc;

use trine_core::BoxError;
use trine_db_shard::{Database, RollingTable, Sql};

use super::until_less;
use crate::{InvalidJob, Job, JobBuilder, JobContext};

/// Returns the job that runs `statement` until it affects fewer than `rows`
/// rows. The statement takes the number of rows as its only parameter, and goes
/// by the clock of the database.
///
/// # Errors
///
/// Fails with [`InvalidJob`] for what the job cannot be.
///
/// # Example
///
/// ```
/// use std::num::NonZeroU32;
/// use trine_db_shard::{Database, Sql};
/// use trine_scheduler::{InvalidJob, Job, maintenance};
///
/// const EXPIRED: Sql = Sql::per_engine()
///     .sqlite("DELETE FROM code WHERE id IN (SELECT id FROM code WHERE expires_at < unixepoch() LIMIT ?)")
///     .mysql("DELETE FROM code WHERE expires_at < UTC_TIMESTAMP() LIMIT ?");
///
/// fn codes(db: Database) -> Result<Job, InvalidJob> {
///     let job = Job::new("expired codes", "every 10m");
///     maintenance::expired_rows(job, db, EXPIRED, NonZeroU32::MIN.saturating_add(999))
/// }
/// ```
pub fn expired_rows(
    job: JobBuilder,
    database: Database,
    statement: Sql,
    rows: NonZeroU32,
) -> Result<Job, InvalidJob> {
    job.run(move |ctx| {
        let database = database.clone();
        async move {
            let step = || async {
                let limit = (i64::from(rows.get()),);
                let done = database.execute(statement, limit).await.map_err(BoxError::from)?;
                Ok(done.affected)
            };
            until_less(&ctx, rows, step).await
        }
    })
}

/// The jobs of rolling tables: those of days and weeks are made at 02:00, those
/// of months on the first day at 04:00, and what is beyond its retention is
/// dropped at 03:00, in UTC.
///
/// They make tables ahead. Before the first run the host makes those it needs
/// with [`RollingTable::ensure`].
///
/// # Example
///
/// ```
/// use trine_db_shard::{Database, Period, RollingTable, Sql};
/// use trine_scheduler::Job;
/// use trine_scheduler::maintenance::RollingTables;
///
/// fn jobs(db: Database) -> Result<Vec<Job>, Box<dyn std::error::Error>> {
///     const CREATE: Sql = Sql::portable("CREATE TABLE {table} (account_id BIGINT)");
///     let logins = RollingTable::new("login", Period::Daily, CREATE)?.with_retention(30);
///     let reports = RollingTable::new("report", Period::Monthly, CREATE)?;
///     let tables = RollingTables::new("tables", [db]).with_daily(logins).with_monthly(reports);
///     Ok(tables.into_jobs()?)
/// }
/// ```
#[derive(Clone, Debug)]
pub struct RollingTables {
    name: Box<str>,
    databases: Arc<[Database]>,
    daily: Vec<RollingTable>,
    monthly: Vec<RollingTable>,
}

impl RollingTables {
    /// Returns the jobs `{name}.create`, `{name}.monthly` and `{name}.retention`
    /// of the tables in these databases, of which there are none yet.
    #[must_use]
    pub fn new(name: impl Into<Box<str>>, databases: impl IntoIterator<Item = Database>) -> Self {
        let databases = databases.into_iter().collect();
        Self { name: name.into(), databases, daily: Vec::new(), monthly: Vec::new() }
    }

    /// Adds tables of days or weeks.
    #[must_use]
    pub fn with_daily(mut self, table: RollingTable) -> Self {
        self.daily.push(table);
        self
    }

    /// Adds tables of months.
    #[must_use]
    pub fn with_monthly(mut self, table: RollingTable) -> Self {
        self.monthly.push(table);
        self
    }

    /// Returns the jobs; those that have nothing to do are left out.
    ///
    /// # Errors
    ///
    /// Fails with [`InvalidJob`] for a name that makes none.
    pub fn into_jobs(self) -> Result<Vec<Job>, InvalidJob> {
        let all: Vec<_> = self.daily.iter().chain(&self.monthly).cloned().collect();
        let parts = [
            ("create", "daily 02:00", Part::Create, self.daily),
            ("retention", "daily 03:00", Part::Drop, all),
            ("monthly", "monthly 1 04:00", Part::Create, self.monthly),
        ];
        let mut jobs = Vec::new();
        for (part, schedule, kind, tables) in parts {
            if !tables.is_empty() {
                let job = Job::new(format!("{}.{part}", self.name), schedule);
                jobs.push(kind.of(job, &self.databases, tables)?);
            }
        }
        Ok(jobs)
    }
}

#[derive(Clone, Copy)]
enum Part {
    Create,
    Drop,
}

impl Part {
    fn of(
        self,
        job: JobBuilder,
        databases: &Arc<[Database]>,
        tables: Vec<RollingTable>,
    ) -> Result<Job, InvalidJob> {
        let (databases, tables) = (Arc::clone(databases), Arc::<[RollingTable]>::from(tables));
        job.run(move |ctx| {
            let (databases, tables) = (Arc::clone(&databases), Arc::clone(&tables));
            async move {
                for database in databases.iter() {
                    for table in tables.iter() {
                        self.roll(&ctx, database, table).await?;
                    }
                }
                Ok::<(), trine_db_shard::Error>(())
            }
        })
    }

    async fn roll(
        self,
        ctx: &JobContext,
        database: &Database,
        table: &RollingTable,
    ) -> trine_db_shard::Result<()> {
        // By the store's clock, which is right.
        let now = ctx.nominal();
        let names = match self {
            Self::Create => table.ensure(database, now).await?,
            Self::Drop => table.drop_expired(database, now).await?,
        };
        if !names.is_empty() {
            let (job, database) = (ctx.job(), database.name());
            tracing::info!(%job, %database, ?names, "tables rolled");
        }
        Ok(())
    }
}
