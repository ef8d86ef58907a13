use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::stream::{self, StreamExt};
use trine_core::{Backoff, Deadline, ErrorKind, Intensity, MigrationSet, Report, StartError};

use super::DbService;
use super::loops::{Background, SIDE_BY_SIDE};
use crate::migrate::{Part, Runner, pending_error};
use crate::{
    Conflict, Database, Error, MigrateMode, Result, ShardId, ShardStatus, Unavailable, map,
};

/// Between two attempts to start.
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LONGEST_RETRY: Duration = Duration::from_secs(1);

/// Longest wait for one shard at a time while others are ready.
const PROOF: Duration = Duration::from_secs(5);

impl DbService {
    /// Proves the global database, applies or checks migrations, reads the
    /// shard map and connects to the shards.
    ///
    /// A shard that cannot be reached stops nobody: its calls answer
    /// `Unavailable` until it comes back, which it does by itself. May be
    /// called again after a failure; running, it does nothing.
    ///
    /// # Errors
    ///
    /// Fails with `Unavailable` after `start_timeout`, with `Conflict` for
    /// pending migrations in `check` mode, and at once with what can never
    /// succeed: `Invalid`, `Denied`.
    pub async fn start(&self) -> Result<()> {
        let shared = &self.shared;
        let backoff = Backoff::new(FIRST_RETRY, LONGEST_RETRY);
        let timeout = shared.config.start_timeout.get();
        // Boxed: what a start awaits is deep, and callers' futures hold it.
        let attempt = || self.attempt().boxed();
        let started = shared.lifecycle.start(timeout, &backoff, attempt).await;
        started.map_err(|error| match error {
            StartError::Failed(error) => error,
            StartError::Closed { .. } => Error::Closed { at: self.global().at("start") },
            StartError::TimedOut { last, .. } => Error::Unavailable {
                at: self.global().at("start"),
                reason: Unavailable::Unreachable,
                cause: last.map(Into::into),
            },
            _ => Error::unavailable(self.global().at("start"), Unavailable::NotStarted),
        })?;
        if !shared.has_loops.swap(true, Ordering::AcqRel) {
            self.spawn_loops();
        }
        Ok(())
    }

    async fn attempt(&self) -> Result<()> {
        let global = self.global();
        global.shared().backend().prove(global.own_call("start")).await?;
        self.bring_up(global, Part::Global).await?;
        map::register(global, &self.shared.config.shards).await?;
        self.reload().await?;
        let mut shards = self.online_shards();
        // The first one is the canary: what it refuses reaches no other. To
        // look harms none, and an operator wants to see it all.
        if self.shared.config.migrate_mode() == MigrateMode::Auto && !shards.is_empty() {
            self.prove_at_start(shards.remove(0)).await?;
        }
        let proofs = stream::iter(shards)
            .map(|shard| self.prove_at_start(shard))
            .buffered(SIDE_BY_SIDE)
            .collect::<Vec<_>>();
        first_of_all(proofs.await)
    }

    /// Returns the shards that should be reachable, in the order of their
    /// numbers.
    pub(super) fn online_shards(&self) -> Vec<Database> {
        let map = self.shared.map.load();
        let online = map.shards.values().filter(|shard| shard.status != ShardStatus::Offline);
        online.map(|shard| shard.database.clone()).collect()
    }

    /// Fails with what a later attempt cannot mend. A shard that is away is
    /// left to the background.
    async fn prove_at_start(&self, shard: Database) -> Result<()> {
        match self.prove_shard(&shard).await {
            Err(error) if is_of_the_shard_alone(&error) => Ok(()),
            other => other,
        }
    }

    /// Lets calls to a shard in, or notes why not.
    pub(super) async fn prove_shard(&self, shard: &Database) -> Result<()> {
        let call = shard.own_call("prove").until(Some(Deadline::after(PROOF)));
        let proving = async {
            shard.shared().backend().prove(call).await?;
            self.bring_up(shard, Part::Shard).await
        };
        let result = proving.await;
        let status = &shard.shared().status;
        match &result {
            Ok(()) => status.set_proved(true),
            Err(error) => {
                let why = Report(error).to_string();
                if status.set_failure(&why) {
                    tracing::warn!(shard = %shard.name(), error = why, "shard is not ready");
                }
            }
        }
        result
    }

    /// Proves a shard at once if it should be reachable; what fails is tried
    /// again in the background.
    pub(super) async fn prove_now(&self, id: ShardId) {
        let Ok(shard) = self.shard(id) else { return };
        if !shard.shared().status.is_proved() {
            let _noted = self.prove_shard(&shard).await;
        }
    }

    /// Applies or checks what is pending on one database.
    async fn bring_up(&self, database: &Database, part: Part) -> Result<()> {
        let config = &self.shared.config;
        let sets = self.migration_sets();
        let runner = Runner::new(&sets, config.migrate_timeout.get());
        match config.migrate_mode() {
            MigrateMode::Auto => runner.apply(database, part).await.map(|_applied| ()),
            MigrateMode::Check => {
                let pending = runner.pending(database, part).await?;
                if pending.is_empty() {
                    return Ok(());
                }
                Err(pending_error(database, &pending))
            }
            MigrateMode::Off => Ok(()),
        }
    }

    fn migration_sets(&self) -> Vec<MigrationSet> {
        let own = crate::schema::migrations().into_iter();
        own.chain(self.shared.deps.migrations.iter().cloned()).collect()
    }

    fn spawn_loops(&self) {
        self.spawn_loop("shard map", Background::refresh_map);
        self.spawn_loop("shard proofs", Background::prove_missing);
        self.spawn_loop("sweep", Background::sweep);
    }

    /// Keeps `work` running until the shutdown, which ends it at its next wait.
    fn spawn_loop<Fut>(&self, name: &'static str, work: fn(Background) -> Fut)
    where
        Fut: Future<Output = ()> + Send + 'static,
    {
        let tasks = &self.shared.tasks;
        let (background, token) = (self.background(), tasks.token());
        tasks.supervise(name, Intensity::default(), move || {
            let work = token.clone().run_until_cancelled_owned(work(background.clone()));
            async move {
                work.await;
            }
        });
    }
}

/// Returns the first failure, with everything that is pending in its place
/// where that is the reason.
fn first_of_all(proofs: Vec<Result<()>>) -> Result<()> {
    let mut failures = proofs.into_iter().filter_map(Result::err);
    let Some(mut first) = failures.next() else { return Ok(()) };
    if let Error::Conflict { conflict: Conflict::PendingMigrations { listed }, .. } = &mut first {
        let others = failures.filter_map(|error| match &error {
            Error::Conflict { at, conflict: Conflict::PendingMigrations { listed }, .. } => {
                Some(format!("; {}: {listed}", at.database()))
            }
            _ => None,
        });
        *listed = std::iter::once(listed.to_string()).chain(others).collect::<String>().into();
    }
    Err(first)
}

/// Tells whether the failure of one shard leaves the others of use: it is away,
/// or does not let this account in. What this program brings along, a broken
/// migration, is no such thing.
fn is_of_the_shard_alone(error: &Error) -> bool {
    error.is_retryable() || error.kind() == ErrorKind::Denied
}
