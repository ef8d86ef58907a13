mod claim;
mod failure;
mod finish;
mod history;
mod job_row;
mod once;
mod plan;
mod read;
mod register;
mod slots;
mod sweep;
mod tick_row;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use trine_core::{CallContext, Claim, Clock, Deadline, Renewal, SystemClock};
use trine_db_shard::{Database, Engine, Isolation, Once, Sql, Timestamp, Tx, TxOptions};

use super::{
    Call, Capabilities, ClaimAnswer, Finish, FinishOutcome, Overview, PlanAnswer, Registered,
    SchedulerBackend, StoreFacts, TriggerOutcome,
};
use crate::schema::OWNER;
use crate::{At, ClaimedTick, Definition, Error, JobFacts, JobId, JobPage, Result, TickPage};

use failure::Failure;

pub use once::once_in;

/// How often a step is run again that met a deadlock, or a row that another
/// process made meanwhile.
const RETRIES: u32 = 8;

/// Who is stopped in the middle of a step must not keep its rows from the
/// others.
const IDLE: Duration = Duration::from_secs(5);

/// Jobs and ticks in a database: SQLite in this process, MySQL or MariaDB for
/// many.
///
/// Each operation is one transaction, [`register`](SchedulerBackend::register)
/// of more than 1,000 jobs and [`sweep`](SchedulerBackend::sweep) excepted. The
/// time is read within it, after its locks were granted: from the server, on
/// SQLite from the [`Clock`].
///
/// **Locks** are taken in one order: jobs by their names, then their ticks, then
/// the planner. What looks for work ([`plan`](SchedulerBackend::plan),
/// [`claim`](SchedulerBackend::claim), [`renew`](SchedulerBackend::renew)) passes
/// over rows that another transaction has locked; all else waits for them. A
/// deadlock with a transaction of the host's is run again within the call.
///
/// **Open ticks** of a job, up to as many as run at once, have a place: those
/// that were tried, then those that can be claimed first. The others are parked
/// and get the places of those that are over. Claims see ticks with a place
/// only, so that none is in the way of others.
///
/// **Lost replies**: every operation may be sent again. On MySQL and MariaDB a
/// claim takes a [ticket](Tx::ticket), by which a lost reply to its commit is
/// found out within 5 s; if it cannot be, or the future is dropped, what may
/// have been claimed is taken over when its lease is over.
#[derive(Clone)]
pub struct SqlBackend {
    store: Arc<Store>,
}

struct Store {
    name: Arc<str>,
    database: Database,
    clock: Arc<dyn Clock>,
    is_closed: AtomicBool,
}

impl SqlBackend {
    /// Returns the store of the scheduler called `name` in `database`, which
    /// has the tables of [`migrations`](crate::migrations). Does no I/O.
    #[must_use]
    pub fn open(name: &Arc<str>, database: Database) -> Self {
        Self::with_clock(name, database, Arc::new(SystemClock))
    }

    /// Returns the store with a clock of the caller's, by whose wall it goes on
    /// SQLite; servers go by their own.
    #[must_use]
    pub fn with_clock(name: &Arc<str>, database: Database, clock: Arc<dyn Clock>) -> Self {
        let name = Arc::clone(name);
        Self { store: Arc::new(Store { name, database, clock, is_closed: AtomicBool::new(false) }) }
    }

    /// Returns the database.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.store.database
    }

    /// Completes the tick of `attempt` within `tx`: both are committed or
    /// neither. Tells whether it was completed before under this very fence;
    /// then the effect is committed already and must not be repeated.
    ///
    /// Locks the job until the end of the transaction: it is neither planned
    /// nor claimed meanwhile, and other runs of it wait to be finished. So call
    /// it late.
    ///
    /// # Errors
    ///
    /// Fails with `Fenced` if the attempt was replaced; the transaction can
    /// only be rolled back then. Fails with `Invalid` for a transaction on
    /// another database, and with the errors of the database.
    pub async fn complete_in(&self, tx: &mut Tx, attempt: &ClaimedTick) -> Result<Once> {
        self.store.complete_in(tx, attempt).await
    }
}

impl Store {
    fn at(&self, call: Call) -> At {
        At::new(call.operation, &self.name)
    }

    fn service(&self) -> &str {
        &self.name
    }

    fn is_mysql(&self) -> bool {
        self.database.engine() == Engine::Mysql
    }

    fn check_open(&self, call: Call) -> Result<()> {
        if self.is_closed.load(Ordering::Relaxed) {
            return Err(Error::Closed { at: self.at(call) });
        }
        Ok(())
    }

    /// Returns the store's clock as a transaction has it now.
    async fn now(&self, tx: &mut Tx) -> Result<Timestamp, Failure> {
        match self.database.engine() {
            Engine::Sqlite => Ok(self.clock.wall().into()),
            _ => Ok(tx.query_one(NOW, ()).await?),
        }
    }

    /// Returns the store's clock outside of transactions.
    async fn present(&self) -> Result<Timestamp, Failure> {
        match self.database.engine() {
            Engine::Sqlite => Ok(self.clock.wall().into()),
            _ => Ok(self.database.query_one(NOW, ()).await?),
        }
    }

    /// Runs `body` in one transaction, again after a deadlock and after a row
    /// that somebody else made meanwhile.
    async fn step<T, F, Fut>(&self, call: Call, mut body: F) -> Result<T>
    where
        F: FnMut(Tx) -> Fut,
        Fut: Future<Output = Result<T, Failure>>,
    {
        self.step_with(call, false, &mut body).await
    }

    async fn step_with<T, F, Fut>(&self, call: Call, ticket: bool, mut body: F) -> Result<T>
    where
        F: FnMut(Tx) -> Fut,
        Fut: Future<Output = Result<T, Failure>>,
    {
        // Gaps between rows stay free for others.
        let options = TxOptions::default()
            .with_isolation(Isolation::ReadCommitted)
            .with_deadlock_retries(RETRIES)
            .with_idle_timeout(IDLE);
        let options = if ticket { options.with_ticket() } else { options };
        self.bounded(call, async {
            let mut retries = 0;
            loop {
                match self.database.transaction_with(&options, &mut body).await {
                    Err(failure) if failure.is_race() && retries < RETRIES => retries += 1,
                    result => return result,
                }
            }
        })
        .await
    }

    /// Runs a call within its deadline, and names its failure.
    async fn bounded<T>(
        &self,
        call: Call,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T> {
        self.check_open(call)?;
        let context = CallContext::default();
        let context = match call.deadline {
            Some(deadline) => context.with_deadline(deadline),
            None => context,
        };
        context.scope(work).await.map_err(|failure| failure.at(self.at(call)))
    }
}

const NOW: Sql = Sql::per_engine().mysql("SELECT UTC_TIMESTAMP(6)");

fn time(at: Timestamp) -> SystemTime {
    at.into()
}

/// Returns how much later `to` is than `from`.
fn between(from: Timestamp, to: Timestamp) -> Duration {
    let micros = to.as_micros().saturating_sub(from.as_micros());
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

#[async_trait]
impl SchedulerBackend for SqlBackend {
    fn name(&self) -> &'static str {
        self.store.database.engine().as_str()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::shared()
    }

    async fn prove(&self, call: Call) -> Result<StoreFacts> {
        let store = &*self.store;
        let facts = store
            .bounded(call, async {
                let facts = store.database.ping().await?;
                store.look(call).await?;
                Ok(facts)
            })
            .await?;
        Ok(StoreFacts::new(facts.version, facts.durability))
    }

    async fn register(
        &self,
        call: Call,
        process: &Arc<str>,
        definitions: &[Arc<Definition>],
    ) -> Result<Vec<Registered>> {
        self.store.register(call, process, definitions).await
    }

    async fn withdraw(&self, call: Call, process: &Arc<str>, jobs: Option<&[JobId]>) -> Result<()> {
        self.store.withdraw(call, process, jobs).await
    }

    async fn beat(&self, call: Call, process: &Arc<str>, ttl: Duration) -> Result<u64> {
        self.store.beat(call, process, ttl).await
    }

    async fn remove(&self, call: Call, job: &JobId) -> Result<bool> {
        self.store.remove(call, job).await
    }

    async fn pause(&self, call: Call, job: &JobId, note: &str) -> Result<()> {
        self.store.pause(call, job, note).await
    }

    async fn resume(&self, call: Call, job: &JobId) -> Result<bool> {
        self.store.resume(call, job).await
    }

    async fn trigger(&self, call: Call, job: &JobId) -> Result<TriggerOutcome> {
        self.store.trigger(call, job).await
    }

    async fn plan(
        &self,
        call: Call,
        process: &Arc<str>,
        ttl: Duration,
        jobs: u32,
    ) -> Result<PlanAnswer> {
        self.store.plan(call, process, ttl, jobs).await
    }

    async fn resign(&self, call: Call, process: &Arc<str>) -> Result<()> {
        self.store.resign(call, process).await
    }

    async fn claim(
        &self,
        call: Call,
        process: &Arc<str>,
        ttl: Duration,
        count: u32,
    ) -> Result<ClaimAnswer> {
        self.store.claim(call, process, ttl, count).await
    }

    async fn renew(&self, call: Call, claims: &[Claim]) -> Result<Vec<Renewal>> {
        self.store.renew(call, claims).await
    }

    async fn finish(&self, call: Call, attempts: &[Finish]) -> Result<Vec<FinishOutcome>> {
        self.store.finish(call, attempts).await
    }

    async fn job(&self, call: Call, job: &JobId) -> Result<Option<JobFacts>> {
        self.store.job(call, job).await
    }

    async fn jobs(
        &self,
        call: Call,
        prefix: &str,
        after: Option<&JobId>,
        count: u32,
    ) -> Result<JobPage> {
        self.store.jobs(call, prefix, after, count).await
    }

    async fn ticks(
        &self,
        call: Call,
        job: &JobId,
        before: Option<SystemTime>,
        count: u32,
    ) -> Result<TickPage> {
        self.store.ticks(call, job, before, count).await
    }

    async fn overview(&self, call: Call) -> Result<Overview> {
        self.store.overview(call).await
    }

    async fn sweep(&self, call: Call, age: Duration, runs: u32, rows: u32) -> Result<u64> {
        self.store.sweep(call, age, runs, rows).await
    }

    async fn close(&self, _deadline: Deadline) {
        self.store.is_closed.store(true, Ordering::Relaxed);
    }
}

impl fmt::Debug for SqlBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlBackend")
            .field("name", &self.store.name)
            .field("database", &self.store.database)
            .finish_non_exhaustive()
    }
}
