use std::sync::Arc;

use trine::{Builder, Configured, Container, Db, Handle, Loader, Section, TelemetryConfig};
use trine_core::Intensity;
use trine_db_shard::DbConfig;

use crate::accounts::Accounts;
use crate::api::Api;
use crate::config::StarterConfig;
use crate::documents::Documents;
use crate::failure::Failure;
use crate::passwords::Passwords;
use crate::schema;
use crate::sessions::{SessionStore, Sessions, SqlSessions, sweep_forever};

/// What the process consists of, before its configuration is read.
#[derive(Debug)]
pub(crate) struct Wiring {
    pub(crate) builder: Builder,
    db: Handle<Db>,
    starter: Section<StarterConfig>,
    telemetry: Section<TelemetryConfig>,
}

/// The same once its configuration is read and found right.
#[derive(Debug)]
pub(crate) struct Plan {
    configured: Configured,
    db: Handle<Db>,
    pub(crate) starter: Arc<StarterConfig>,
    pub(crate) telemetry: Arc<TelemetryConfig>,
}

/// The process, ready to be started.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) container: Container,
    pub(crate) accounts: Accounts,
    pub(crate) documents: Documents,
    pub(crate) api: Api,
}

impl Wiring {
    pub(crate) fn new() -> Self {
        let mut builder = Builder::new();
        let db = schema::migrations().into_iter().fold(Db::new(), Db::with_migrations);
        let db = builder.add(db);
        let starter = builder.section("starter");
        let telemetry = builder.section("telemetry");
        Self { builder, db, starter, telemetry }
    }

    /// Reads the configuration.
    ///
    /// # Errors
    ///
    /// Fails with everything that is wrong with it.
    pub(crate) fn configure(self, loader: &Loader) -> Result<Plan, Failure> {
        let configured = self.builder.configure(loader)?;
        let starter = configured.section(&self.starter)?;
        let telemetry = configured.section(&self.telemetry)?;
        Ok(Plan { configured, db: self.db, starter, telemetry })
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
        let config = self.starter;
        let container = self.configured.build()?;
        let (db, tasks) = (container.db()?, container.tasks());
        let longest_wait = config.request_timeout.get();
        let passwords = Passwords::new(config.hashes(), longest_wait, tasks)?;
        let accounts = Accounts::new(db.clone(), passwords.clone());
        let documents = Documents::new(db.clone());
        let store: Arc<dyn SessionStore> = Arc::new(SqlSessions::new(db.clone()));
        let token = tasks.token();
        let sweep = {
            let store = Arc::clone(&store);
            move || sweep_forever(Arc::clone(&store), token.clone())
        };
        tasks.supervise("sweep sessions", Intensity::default(), sweep);
        let sessions = Sessions::new(accounts.clone(), passwords, store, &config);
        let api = Api::new(accounts.clone(), sessions, documents.clone(), db, &config, tasks);
        Ok(App { container, accounts, documents, api })
    }
}
