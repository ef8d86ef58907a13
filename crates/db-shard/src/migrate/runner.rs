use std::time::Duration;

use trine_core::{ErrorKind, MigrationSet, Report};

use super::lease::Lease;
use super::plan::{Part, Planned, PlannedStatement, plan};
use super::record::{Records, State, make_own_tables, read, save, save_in};
use super::report::{AppliedStep, Drift, PendingStep, StepState};
use super::resume;
use crate::backend::{Access, Call, Statement};
use crate::{Conflict, Database, Error, Result};

const OPERATION: &str = "migrate";

/// Applies sets to one database at a time, in the order of the sets.
///
/// Works whatever the state of the service and the status of the shard. Any
/// number of runners may work on one database at the same time: each step is
/// applied once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Runner<'a> {
    sets: &'a [MigrationSet],
    timeout: Duration,
}

/// What is to be said of one database before anything is done.
#[derive(Debug, Default)]
pub(super) struct Inspection {
    pub(super) pending: Vec<PendingStep>,
    pub(super) drift: Vec<Drift>,
}

impl<'a> Runner<'a> {
    /// Returns a runner that waits `timeout` for others, and as long for each
    /// statement.
    pub(crate) fn new(sets: &'a [MigrationSet], timeout: Duration) -> Self {
        Self { sets, timeout }
    }

    /// Returns what is left to apply. Writes nothing.
    pub(crate) async fn pending(
        &self,
        database: &Database,
        part: Part,
    ) -> Result<Vec<PendingStep>> {
        Ok(self.inspect(database, part).await?.pending)
    }

    /// Applies what is left, and returns what it applied.
    ///
    /// If the future is dropped, the step under way is resumed by the next
    /// runner.
    ///
    /// # Errors
    ///
    /// Fails with `Invalid` at the first step that the database refuses, and
    /// with `Conflict` if another process is at it for longer than the timeout.
    pub(crate) async fn apply(&self, database: &Database, part: Part) -> Result<Vec<AppliedStep>> {
        let mut applied = Vec::new();
        self.apply_to(database, part, &mut applied).await?;
        Ok(applied)
    }

    pub(super) async fn inspect(&self, database: &Database, part: Part) -> Result<Inspection> {
        let steps = plan(self.sets, part, database.engine(), database.name())?;
        let records = read(database, database.own_call(OPERATION)).await?;
        Ok(Inspection { pending: pending(&steps, &records), drift: drift(&steps, &records) })
    }

    /// As [`apply`](Self::apply), and tells what was applied before a failure.
    pub(super) async fn apply_to(
        &self,
        database: &Database,
        part: Part,
        applied: &mut Vec<AppliedStep>,
    ) -> Result<()> {
        let steps = plan(self.sets, part, database.engine(), database.name())?;
        let records = read(database, database.own_call(OPERATION)).await?;
        for drift in drift(&steps, &records) {
            tracing::warn!(database = %database.name(), "{drift}");
        }
        // Nothing to do needs no right to do it.
        if steps.iter().all(|step| records.is_applied(step)) {
            return Ok(());
        }
        make_own_tables(database, database.own_call(OPERATION)).await?;
        let mut work = Work { database, timeout: self.timeout, applied };
        if database.capabilities().transactional_schema {
            return work.as_transactions(&steps, records).await;
        }
        let lease = Lease::take(database, self.timeout).await?;
        let result = work.with_lease(&steps, &lease).await;
        lease.release().await;
        result
    }
}

/// One runner at work on one database.
struct Work<'a> {
    database: &'a Database,
    timeout: Duration,
    applied: &'a mut Vec<AppliedStep>,
}

impl Work<'_> {
    /// Runs each step, its record included, as one transaction: of several
    /// runners, all but one meet the record of the first and keep nothing.
    async fn as_transactions(&mut self, steps: &[Planned], mut records: Records) -> Result<()> {
        for step in steps {
            if records.is_applied(step) {
                continue;
            }
            let texts = step.statements.iter().map(statement);
            let record = save(self.database, step, State::Applied, step.len(), None);
            // The record goes first: who comes second has run nothing then.
            let all = record.into_iter().chain(texts).collect();
            match self.database.shared().backend().run_all(self.call(), all).await {
                Ok(_) => self.note(step),
                Err(error) => {
                    records = read(self.database, self.short_call()).await?;
                    if !records.is_applied(step) {
                        return Err(self.refused_whole(step, error).await);
                    }
                }
            }
        }
        Ok(())
    }

    async fn refused_whole(&self, step: &Planned, error: Error) -> Error {
        if !is_definite(&error) {
            return error;
        }
        let text = Report(&error).to_string();
        let record = save(self.database, step, State::Failed, 0, Some(&text));
        let saved =
            self.database.shared().backend().run_all(self.short_call(), record.into()).await;
        if let Err(error) = saved {
            tracing::debug!(error = %Report(&error), "failure of a migration not recorded");
        }
        self.refused(step, "nothing of it was kept", error)
    }

    /// Runs the steps statement by statement, with a record before each.
    async fn with_lease(&mut self, steps: &[Planned], lease: &Lease<'_>) -> Result<()> {
        let records = read(self.database, self.short_call()).await?;
        for step in steps {
            if records.is_applied(step) {
                continue;
            }
            self.resume(step, &records, lease).await?;
            self.record(step, State::Applied, step.len(), None, lease).await?;
            self.note(step);
        }
        Ok(())
    }

    async fn resume(&self, step: &Planned, records: &Records, lease: &Lease<'_>) -> Result<()> {
        let (first, mut may_have_run) = self.begin_at(step, records)?;
        for (index, statement) in (0_u32..).zip(&step.statements).skip(first as usize) {
            let result = if statement.is_schema {
                self.record(step, State::Applying, index, None, lease).await?;
                self.run_schema(statement, may_have_run, lease).await
            } else {
                self.run_rows(step, statement, index, lease).await
            };
            may_have_run = false;
            if let Err(error) = result {
                return Err(self.refused_at(step, index, error, lease).await);
            }
        }
        Ok(())
    }

    /// Returns the first statement to run, and whether an interrupted runner
    /// may have run it before.
    fn begin_at(&self, step: &Planned, records: &Records) -> Result<(u32, bool)> {
        let Some(record) = records.of(step) else {
            return Ok((0, false));
        };
        let was_refused = record.state == State::Failed;
        if record.fingerprint == step.fingerprint {
            return Ok((record.next_statement, !was_refused));
        }
        if was_refused && record.next_statement == 0 {
            return Ok((0, false));
        }
        let found = format!(
            "migration {} was begun with another text, {} of its statements are done: undo them \
             and delete its row from trine_migration, or bring the former text back",
            step.applied(),
            record.next_statement,
        );
        Err(Error::state(self.database.at(OPERATION), found))
    }

    /// Runs a statement that commits by itself.
    async fn run_schema(
        &self,
        planned: &PlannedStatement,
        may_have_run: bool,
        lease: &Lease<'_>,
    ) -> Result<()> {
        let backend = self.database.shared().backend();
        match lease.keep_while(backend.run(self.call(), statement(planned))).await {
            Err(error) if may_have_run && resume::says_done(self.database.engine(), &error) => {
                tracing::info!(
                    database = %self.database.name(),
                    answer = %Report(&error),
                    "resumed migration finds its statement done"
                );
                Ok(())
            }
            result => result.map(|_reply| ()),
        }
    }

    /// Runs a statement and records that it is done, as one transaction.
    async fn run_rows(
        &self,
        step: &Planned,
        planned: &PlannedStatement,
        index: u32,
        lease: &Lease<'_>,
    ) -> Result<()> {
        let mut tx = lease.guard().await?;
        let record = save(self.database, step, State::Applying, index + 1, None);
        save_in(&mut *tx, self.short_call(), record).await?;
        tx.run(self.call(), statement(planned)).await?;
        tx.commit(self.short_call()).await
    }

    async fn record(
        &self,
        step: &Planned,
        state: State,
        next_statement: u32,
        error: Option<&str>,
        lease: &Lease<'_>,
    ) -> Result<()> {
        let mut tx = lease.guard().await?;
        let record = save(self.database, step, state, next_statement, error);
        save_in(&mut *tx, self.short_call(), record).await?;
        tx.commit(self.short_call()).await
    }

    async fn refused_at(
        &self,
        step: &Planned,
        index: u32,
        error: Error,
        lease: &Lease<'_>,
    ) -> Error {
        if !is_definite(&error) {
            return error;
        }
        let text = Report(&error).to_string();
        if let Err(error) = self.record(step, State::Failed, index, Some(&text), lease).await {
            tracing::debug!(error = %Report(&error), "failure of a migration not recorded");
        }
        self.refused(step, &format!("statement {} of {}", index + 1, step.len()), error)
    }

    fn refused(&self, step: &Planned, detail: &str, error: Error) -> Error {
        Error::Invalid {
            at: self.database.at(OPERATION),
            detail: format!("migration {} was refused ({detail})", step.applied()).into(),
            cause: Some(Box::new(error)),
        }
    }

    fn note(&mut self, step: &Planned) {
        let applied = step.applied();
        tracing::info!(database = %self.database.name(), "migration {applied} applied");
        self.applied.push(applied);
    }

    /// Returns the bounds of a statement of a step.
    fn call(&self) -> Call {
        let mut call = Call::new(OPERATION, self.timeout, u64::MAX);
        call.limit = "db.migrate_timeout";
        call
    }

    fn short_call(&self) -> Call {
        self.database.own_call(OPERATION)
    }
}

fn statement(planned: &PlannedStatement) -> Statement {
    Statement::new(planned.text.clone(), Vec::new(), Access::Write)
}

/// Tells whether the database has refused the statement, rather than left it
/// open whether and when it runs.
fn is_definite(error: &Error) -> bool {
    let is_lost_lease = matches!(error, Error::Conflict { conflict: Conflict::HeldBy { .. }, .. });
    let is_open = matches!(
        error.kind(),
        ErrorKind::Timeout
            | ErrorKind::Unavailable
            | ErrorKind::Exhausted
            | ErrorKind::Closed
            | ErrorKind::Interrupted
            | ErrorKind::OutcomeUnknown
    );
    !(is_lost_lease || is_open || error.is_deadlock())
}

fn pending(steps: &[Planned], records: &Records) -> Vec<PendingStep> {
    let left = steps.iter().filter(|step| !records.is_applied(step));
    let state = |step| match records.of(step) {
        None => StepState::New,
        Some(record) if record.state == State::Failed => StepState::Failed {
            statement: record.next_statement,
            error: record.error.clone().unwrap_or_default(),
        },
        Some(record) => StepState::Interrupted { statement: record.next_statement },
    };
    left.map(|step| PendingStep {
        owner: step.owner.clone(),
        version: step.version,
        name: step.name.clone(),
        state: state(step),
    })
    .collect()
}

fn drift(steps: &[Planned], records: &Records) -> Vec<Drift> {
    let mut drift = Vec::new();
    for record in &records.0 {
        let known =
            steps.iter().find(|step| step.owner == record.owner && step.version == record.version);
        let (owner, version) = (record.owner.clone(), record.version);
        match known {
            Some(step)
                if record.state == State::Applied && step.fingerprint != record.fingerprint =>
            {
                drift.push(Drift::Changed { owner, version, name: step.name.clone() });
            }
            Some(_) => {}
            // An owner that this code does not know belongs to somebody else.
            None if steps.iter().any(|step| step.owner == record.owner) => {
                drift.push(Drift::Newer { owner, version, name: record.name.clone() });
            }
            None => {}
        }
    }
    drift
}

#[cfg(test)]
#[cfg(feature = "sqlite")]
mod tests {
    use futures_util::future::join_all;
    use trine_core::{Deadline, MigrationScope, MigrationStep};

    use super::*;
    use crate::{DbConfig, DbDeps, DbService};

    const TIMEOUT: Duration = Duration::from_secs(20);

    /// A table, and a row of it for each further step: nothing but the record
    /// keeps a row from being there twice.
    fn set(steps: u32) -> MigrationSet {
        let first = MigrationStep::new(1, "table").on("sqlite", ["CREATE TABLE t (n INTEGER)"]);
        let set = MigrationSet::new("test", MigrationScope::Global).step(first);
        let row = |version: u32| {
            let text = format!("INSERT INTO t VALUES ({version})");
            MigrationStep::new(version, format!("row {version}")).on("sqlite", [text])
        };
        (2..=steps).map(row).fold(set, MigrationSet::step)
    }

    /// A service that is open and not started, as migrations find it.
    fn service() -> (tempfile::TempDir, DbService) {
        let folder = tempfile::tempdir().unwrap();
        let config = DbConfig::sqlite(folder.path(), 0);
        let service = DbService::open(&config, DbDeps::default()).unwrap();
        (folder, service)
    }

    async fn close(service: DbService) {
        service.shutdown(Deadline::after(TIMEOUT)).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn two_and_eight_tasks_at_once_apply_each_step_once() {
        for tasks in [2, 8] {
            let (_folder, service) = service();
            let sets = [set(10)];
            let runner = Runner::new(&sets, TIMEOUT);
            let runs = (0..tasks).map(|_| runner.apply(service.global(), Part::Global));
            let applied: Vec<_> = join_all(runs).await.into_iter().map(Result::unwrap).collect();
            assert_eq!(applied.iter().map(Vec::len).sum::<usize>(), 10);
            assert!(runner.pending(service.global(), Part::Global).await.unwrap().is_empty());
            let text = "SELECT n FROM t ORDER BY rowid";
            let read = Statement::constant(text, Vec::new(), Access::Read);
            let call = service.global().own_call("test");
            let reply = service.global().shared().backend().run(call, read).await.unwrap();
            let rows: Vec<u32> = reply.rows.iter().map(|row| row.decode().unwrap()).collect();
            assert_eq!(rows, (2..=10).collect::<Vec<_>>());
            close(service).await;
        }
    }

    #[tokio::test]
    async fn a_newer_set_goes_on_behind_an_older_one() {
        let (_folder, service) = service();
        let (older, newer) = ([set(2)], [set(3)]);
        let applied = Runner::new(&older, TIMEOUT).apply(service.global(), Part::Global).await;
        assert_eq!(applied.unwrap().len(), 2);
        let applied = Runner::new(&newer, TIMEOUT).apply(service.global(), Part::Global).await;
        assert_eq!(applied.unwrap()[0].version, 3);
        close(service).await;
    }

    #[test]
    fn only_a_clear_refusal_marks_a_step_as_failed() {
        use crate::error::At;
        let at = || At::new("migrate", &crate::DatabaseName::Global);
        assert!(is_definite(&Error::invalid(at(), "no")));
        let taken = Conflict::UniqueKey { key: None };
        assert!(is_definite(&Error::Conflict { at: at(), conflict: taken, cause: None }));
        let held = Conflict::HeldBy { holder: "x".into() };
        assert!(!is_definite(&Error::Conflict { at: at(), conflict: held, cause: None }));
        assert!(!is_definite(&Error::OutcomeUnknown { at: at(), ticket: None, cause: None }));
        let after = Duration::from_secs(1);
        assert!(!is_definite(&Error::Timeout { at: at(), after, limit: "x" }));
    }
}
