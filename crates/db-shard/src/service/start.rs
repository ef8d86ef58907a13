use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::stream::{self, StreamExt};
use trine_core::{Backoff, Deadline, Intensity, MigrationSet, StartError};

use super::DbService;
use super::loops::{Background, SIDE_BY_SIDE};
use crate::map::{self, Shard, ShardMap, ShardRow};
use crate::migrate::{Part, Runner, pending_error};
use crate::{Database, Error, MigrateMode, Result, ShardId, ShardStatus, Unavailable};

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
        for shard in &self.shared.config.shards {
            map::register(global, shard.id, &shard.connection, shard.weight).await?;
        }
        self.reload().await?;
        let mut shards = self.online_shards().into_iter();
        // The first one is the canary: what it refuses reaches no other.
        if let Some(canary) = shards.next() {
            self.prove_at_start(canary).await?;
        }
        let proofs = stream::iter(shards)
            .map(|shard| self.prove_at_start(shard))
            .buffer_unordered(SIDE_BY_SIDE)
            .collect::<Vec<_>>();
        proofs.await.into_iter().collect()
    }

    /// Returns the shards that should be reachable, in the order of their
    /// numbers.
    pub(super) fn online_shards(&self) -> Vec<Database> {
        let map = self.shared.map.load();
        let online = map.shards.values().filter(|shard| shard.row.status != ShardStatus::Offline);
        online.map(|shard| shard.database.clone()).collect()
    }

    /// Fails with what a later attempt cannot mend. A shard that is away is
    /// left to the background.
    async fn prove_at_start(&self, shard: Database) -> Result<()> {
        match self.prove_shard(&shard).await {
            Err(error) if error.is_retryable() => {
                let error = trine_core::Report(&error).to_string();
                tracing::warn!(shard = %shard.name(), error, "shard is not ready");
                Ok(())
            }
            other => other,
        }
    }

    pub(super) async fn prove_shard(&self, shard: &Database) -> Result<()> {
        let call = shard.own_call("prove").until(Some(Deadline::after(PROOF)));
        shard.shared().backend().prove(call).await?;
        self.bring_up(shard, Part::Shard).await?;
        shard.shared().status.set_proved(true);
        Ok(())
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

    /// Reads the shard map now, instead of at the next `map.refresh`.
    ///
    /// # Errors
    ///
    /// Fails with the errors of the global database; the map stays as it is.
    pub async fn reload(&self) -> Result<()> {
        let shared = &self.shared;
        let _turn = shared.reloading.lock().await;
        let rows = map::read(self.global()).await?;
        let former = shared.map.load_full();
        let mut shards = BTreeMap::new();
        for row in rows {
            let id = row.id;
            match self.take_over(former.get(id), row) {
                Ok(shard) => {
                    shards.insert(id, shard);
                }
                // A connection that only newer configurations have.
                Err(error) => {
                    let error = trine_core::Report(&error).to_string();
                    tracing::warn!(shard = %id, error, "shard left out");
                }
            }
        }
        for (id, gone) in former.shards.iter().filter(|(id, _)| !shards.contains_key(id)) {
            gone.database.shared().status.set(ShardStatus::Offline);
            self.release(*id, &gone.row.connection);
        }
        shared.map.store(Arc::new(ShardMap { shards }));
        Ok(())
    }

    /// Returns the shard of `row`, with the handle that callers already hold.
    fn take_over(&self, former: Option<&Shard>, row: ShardRow) -> Result<Shard> {
        let Some(former) = former else {
            let database = self.new_shard(&row)?;
            database.shared().status.set(row.status);
            database.shared().status.set_proved(false);
            return Ok(Shard { row, database });
        };
        let database = former.database.clone();
        let cell = &database.shared().status;
        let was_offline = former.row.status == ShardStatus::Offline;
        let is_elsewhere = former.row.connection != row.connection;
        if row.status == ShardStatus::Offline || is_elsewhere {
            cell.set_proved(false);
            if !was_offline {
                self.release(row.id, &former.row.connection);
            }
        }
        if row.status != ShardStatus::Offline && (was_offline || is_elsewhere) {
            let backend = self.shared.pool.acquire(&row.connection, database.name())?;
            database.shared().replace_backend(backend);
        }
        cell.set(row.status);
        Ok(Shard { row, database })
    }

    /// Closes the connections of a shard without making anybody wait.
    fn release(&self, id: ShardId, connection: &str) {
        let (pool, connection) = (self.shared.pool.clone(), connection.to_owned());
        let grace = self.shared.config.query_timeout.get();
        self.shared.tasks.spawn(format!("release shard {id}"), async move {
            pool.release(&connection, Deadline::after(grace)).await;
        });
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
