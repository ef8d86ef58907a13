use std::sync::Arc;
use std::time::Duration;

use trine::{
    Builder, Cache, Configured, Container, Db, Handle, Loader, Lock, Scheduler, Section,
    TelemetryConfig,
};
use trine_cache::SessionsConfig;
use trine_db_shard::{ConnectionConfig, DbConfig};
use trine_lock::LockService;
use trine_scheduler::{Job, SchedulerService};

use crate::accounts::{AccountCache, Accounts};
use crate::api::Api;
use crate::config::StarterConfig;
use crate::documents::Documents;
use crate::failure::Failure;
use crate::jobs::{JobsConfig, jobs};
use crate::passwords::Passwords;
use crate::schema;
use crate::sessions::Sessions;
use crate::statistics::Statistics;

/// What the process consists of, before its configuration is read.
#[derive(Debug)]
pub(crate) struct Wiring {
    pub(crate) builder: Builder,
    db: Handle<Db>,
    starter: Section<StarterConfig>,
    jobs: Section<JobsConfig>,
    sessions: Section<SessionsConfig>,
    telemetry: Section<TelemetryConfig>,
}

/// The same once its configuration is read and found right.
#[derive(Debug)]
pub(crate) struct Plan {
    configured: Configured,
    db: Handle<Db>,
    pub(crate) starter: Arc<StarterConfig>,
    jobs: Arc<JobsConfig>,
    sessions: Arc<SessionsConfig>,
    pub(crate) telemetry: Arc<TelemetryConfig>,
}

/// The process, ready to be started.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) container: Container,
    pub(crate) accounts: Accounts,
    pub(crate) documents: Documents,
    pub(crate) locks: LockService,
    pub(crate) api: Api,
    scheduler: SchedulerService,
    jobs: Vec<Job>,
}

impl Wiring {
    pub(crate) fn new() -> Self {
        let mut builder = Builder::new();
        let db = schema::migrations().into_iter().fold(Db::new(), Db::with_migrations);
        let db = builder.add(db);
        builder.add(Cache::new());
        builder.add(Lock::new());
        builder.add(Scheduler::new());
        // What the cache and the locks of the profile `prod` are on.
        #[cfg(feature = "redis")]
        builder.add_if_configured("main", trine::Redis::new());
        let starter = builder.section("starter");
        let jobs = builder.section("jobs");
        let sessions = builder.section("sessions");
        let telemetry = builder.section("telemetry");
        Self { builder, db, starter, jobs, sessions, telemetry }
    }

    /// Reads the configuration.
    ///
    /// # Errors
    ///
    /// Fails with everything that is wrong with it.
    pub(crate) fn configure(self, loader: &Loader) -> Result<Plan, Failure> {
        let configured = self.builder.configure(loader)?;
        let starter = configured.section(&self.starter)?;
        let jobs = configured.section(&self.jobs)?;
        let sessions = configured.section(&self.sessions)?;
        let telemetry = configured.section(&self.telemetry)?;
        Ok(Plan { configured, db: self.db, starter, jobs, sessions, telemetry })
    }
}

impl Plan {
    /// Returns the configuration of the databases.
    ///
    /// # Errors
    ///
    /// Never fails: the handle is of this plan.
    pub(crate) fn databases(&self) -> Result<&DbConfig, Failure> {
        Ok(self.configured.config(&self.db)?)
    }

    /// Builds the services and what stands on them.
    ///
    /// # Errors
    ///
    /// Fails if the services do not fit together.
    pub(crate) fn build(self) -> Result<App, Failure> {
        let settling = settling(self.databases()?);
        let config = self.starter;
        let container = self.configured.build()?;
        let (db, cache, tasks) = (container.db()?, container.cache()?, container.tasks());
        let longest_wait = config.request_timeout.get();
        let passwords = Passwords::new(config.hashes(), longest_wait, tasks)?;
        let account_ttl = config.account_ttl.get();
        let rows = AccountCache::new(cache.clone(), account_ttl, longest_wait, settling);
        let accounts = Accounts::new(db.clone(), passwords.clone(), rows);
        let documents = Documents::new(db.clone());
        let sessions =
            Sessions::new(accounts.clone(), passwords, &cache, &self.sessions, &config.login)?;
        let (locks, scheduler) = (container.lock()?, container.scheduler()?);
        let statistics = Statistics::new(db.clone());
        let jobs = jobs(&self.jobs, db.global(), &statistics)?;
        let due = (scheduler.clone(), statistics);
        let api = Api::new(accounts.clone(), sessions, documents.clone(), db, due, &config, tasks);
        Ok(App { container, accounts, documents, locks, api, scheduler, jobs })
    }
}

impl App {
    /// Has the jobs done by this process too, from its start on.
    ///
    /// # Errors
    ///
    /// Never fails before the start.
    pub(crate) async fn register_jobs(&self) -> Result<(), Failure> {
        let registered = self.scheduler.register_all(self.jobs.clone()).await;
        registered.map_err(crate::error::Error::from)?;
        Ok(())
    }
}

/// Returns how much later a statement on the global database may end that was
/// given up.
fn settling(config: &DbConfig) -> Duration {
    match config.connections.get(&config.global) {
        Some(ConnectionConfig::Mysql(mysql)) => mysql.cancel_grace.get(),
        Some(ConnectionConfig::Sqlite(sqlite)) => sqlite.hold_limit.get(),
        _ => Duration::ZERO,
    }
}
